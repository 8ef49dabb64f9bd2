#include <xf/turn.h>

/* Few are ever parked: as many as there are batches under way. */
static void park(struct xf_turn *turn, struct xf_ticket *ticket)
{
	struct xf_ticket **at = &turn->parked;

	while (*at && (*at)->first < ticket->first)
		at = &(*at)->next;
	ticket->next = *at;
	*at = ticket;
	turn->waiting++;
}

bool xf_turn_enter(struct xf_turn *turn, struct xf_ticket *ticket)
{
	bool mine;

	/* Nobody else can take it away: without the lock. */
	if (xf_turn_has_come(turn, ticket))
		return true;
	xf_spin_lock(&turn->lock);
	mine = ticket->first == turn->now;
	if (!mine)
		park(turn, ticket);
	xf_spin_unlock(&turn->lock);
	return mine;
}

struct xf_ticket *xf_turn_leave(struct xf_turn *turn, const struct xf_ticket *ticket)
{
	struct xf_ticket *next;

	xf_spin_lock(&turn->lock);
	__atomic_store_n(&turn->now, ticket->end, __ATOMIC_RELEASE);
	next = turn->parked;
	if (next && next->first == turn->now) {
		turn->parked = next->next;
		turn->waiting--;
	} else {
		next = NULL;
	}
	xf_spin_unlock(&turn->lock);
	return next;
}
