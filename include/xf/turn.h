/*
 * turn.h - let things that were begun in order, on several threads, end in that order.
 *
 * Whoever begins takes a ticket: a range of numbers that follows the one before it without a gap.
 * When its work is done it enters. It may go on when everything before it has left; else its
 * ticket is parked, and whoever leaves before it gets it along and does what is left to do for it.
 * Nobody waits for anybody.
 *
 * Threads: any; a turn has a lock of its own, held for a few instructions. Tickets belong to the
 * caller; a parked one must stay where it is until somebody has left with it.
 */
#ifndef XF_TURN_H
#define XF_TURN_H

#include <xf/spin.h>

#ifdef __cplusplus
extern "C" {
#endif

struct xf_ticket {
	struct xf_ticket *next; /* while parked */
	uint64_t first; /* numbers [first, end) */
	uint64_t end;
};

/* All zero: the first ticket begins at 0. */
struct xf_turn {
	struct xf_spin lock;
	uint32_t waiting; /* parked tickets */
	uint64_t now; /* the number whose turn it is */
	struct xf_ticket *parked; /* lowest first */
};

/* Is it @ticket's turn? Then it stays so until somebody has left with it. */
static inline bool xf_turn_has_come(const struct xf_turn *turn, const struct xf_ticket *ticket)
{
	return __atomic_load_n(&turn->now, __ATOMIC_ACQUIRE) == ticket->first;
}

/* True: it is @ticket's turn. False: it is parked. */
bool xf_turn_enter(struct xf_turn *turn, struct xf_ticket *ticket);

/* @ticket, whose turn it was, is done. The parked one whose turn it is now, or NULL. */
struct xf_ticket *xf_turn_leave(struct xf_turn *turn, const struct xf_ticket *ticket);

#ifdef __cplusplus
}
#endif

#endif
