/*
 * Lifetimes. Time limits sit in a heap by when they should be looked at next, which is when the
 * first one could run out. Limits of bytes and packets are found by the workers, who set attention
 * bits: an SA whose event comes is due at once, and so is each that a sweep finds with such bits.
 */
#include "db.h"

#define NEVER UINT64_MAX
#define FAR_S 4000000000ull

/* Looked at in one call, when events were lost: about a millisecond, then others have a turn. */
#define SWEEP_SLOTS 16384

struct expiry {
	struct xf_sad *sad;
	uint64_t now_ns;
	void (*event)(void *arg, struct xf_sa *sa, enum xf_sa_event event);
	void *arg;
};

/* When @limit_s seconds after @since_ns are over; 0 = no limit. */
static uint64_t due_ns(int64_t since_ns, uint64_t limit_s)
{
	int64_t due;

	if (limit_s == 0 || limit_s >= FAR_S)
		return NEVER;
	due = since_ns + (int64_t)(limit_s * XF_NSEC_PER_SEC);
	return due < 0 ? 0 : (uint64_t)due;
}

static uint64_t sooner(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* The end of one pair of limits. Unused so far, the use limit counts from now: look again then. */
static uint64_t end_ns(const struct expiry *x, const struct xf_sa *sa, uint64_t add_limit_s,
		       uint64_t use_limit_s)
{
	int64_t since_ns;

	if (!xf_sa_used_ns(sa, &since_ns))
		since_ns = (int64_t)x->now_ns;
	return sooner(due_ns(xf_sa_added_ns(sa), add_limit_s), due_ns(since_ns, use_limit_s));
}

static void end_life(const struct expiry *x, struct xf_sa *sa)
{
	bool larval = xf_sa_get_state(sa) == XF_SA_ACQ;

	xf_sa_get(sa);
	xf_sad_del(x->sad, sa);
	x->event(x->arg, sa, larval ? XF_SA_EVENT_LARVAL_EXPIRE : XF_SA_EVENT_HARD_EXPIRE);
	xf_sa_put(sa);
}

/*
 * What a worker found: see want_attention() in use.c. A soft limit that UPDSA has raised since is
 * not told any more. False: the SA has gone.
 */
static bool attend(const struct expiry *x, struct xf_sa *sa)
{
	uint8_t why = atomic_exchange(&sa->attention, 0);

	if (why & XF_SA_HARD_HIT && xf_sa_get_state(sa) == XF_SA_EXPIRED) {
		end_life(x, sa);
		return false;
	}
	if (why & XF_SA_SOFT_HIT && atomic_load(&sa->dying))
		x->event(x->arg, sa, XF_SA_EVENT_SOFT_EXPIRE);
	return true;
}

/* The kernel's xfrm_timer_handler(). */
static void look_at_time(const struct expiry *x, struct xf_sa *sa)
{
	const struct xf_lifetime *life = &xf_sa_cfg(sa)->terms->life;
	uint64_t hard = end_ns(x, sa, life->hard_add_s, life->hard_use_s);
	uint64_t soft = end_ns(x, sa, life->soft_add_s, life->soft_use_s);

	if (hard <= x->now_ns) {
		end_life(x, sa);
		return;
	}
	if (soft <= x->now_ns && !atomic_exchange(&sa->dying, true))
		x->event(x->arg, sa, XF_SA_EVENT_SOFT_EXPIRE);
	if (atomic_load(&sa->dying))
		soft = NEVER;
	if (sooner(hard, soft) == NEVER)
		xf_heap_del(&x->sad->due, &sa->links.due);
	else
		xf_heap_set(&x->sad->due, &sa->links.due, sooner(hard, soft));
}

/* One that is out of use waits: whoever goes on with it looks at its limits. */
static void look_at(const struct expiry *x, struct xf_sa *sa)
{
	if (xf_sa_get_state(sa) == XF_SA_FROZEN)
		xf_heap_del(&x->sad->due, &sa->links.due);
	else if (attend(x, sa))
		look_at_time(x, sa);
}

void xf_sad_attend(struct xf_sad *sad, uint64_t id)
{
	size_t slot = xf_sad_slots_before(sad, id);

	if (slot < sad->nslots && sad->slots[slot].id == id && sad->slots[slot].sa)
		xf_heap_set(&sad->due, &sad->slots[slot].sa->links.due, 0);
}

static void sweep_one(struct xf_sad *sad, struct xf_sa *sa)
{
	if (sa && atomic_load_explicit(&sa->attention, memory_order_relaxed))
		xf_heap_set(&sad->due, &sa->links.due, 0);
}

/* Each SA may have attention bits of which nobody has told. What is lost while a sweep is under way
 * may be about one that it has passed. True: there is more to do. */
static bool sweep_some(struct xf_sad *sad)
{
	sad->sweep_again |= xf_event_lost_take(&sad->lost);
	if (sad->sweep_again && !sad->sweeping) {
		sad->sweep_again = false;
		sad->sweeping = true;
		sad->sweep_at = 0;
	}
	for (unsigned i = 0; sad->sweeping && i < SWEEP_SLOTS; i++) {
		if (sad->sweep_at < sad->nslots)
			sweep_one(sad, sad->slots[sad->sweep_at++].sa);
		else
			sad->sweeping = false;
	}
	return sad->sweeping || sad->sweep_again;
}

uint64_t xf_sad_expire(struct xf_sad *sad, uint64_t now_ns,
		       void (*event)(void *arg, struct xf_sa *sa, enum xf_sa_event event),
		       void *arg)
{
	const struct expiry x = { .sad = sad, .now_ns = now_ns, .event = event, .arg = arg };
	struct xf_heap_node *first;
	bool more = sweep_some(sad);

	xf_sad_trim(sad);
	while ((first = xf_heap_first(&sad->due)) && first->due_ns <= now_ns)
		look_at(&x, XF_CONTAINER_OF(first, struct xf_sa, links.due));
	if (more)
		return now_ns;
	return first ? first->due_ns : NEVER;
}
