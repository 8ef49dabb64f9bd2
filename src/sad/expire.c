/*
 * Lifetimes. Time limits sit in a heap by when they should be looked at next, which is when the
 * first one could run out; limits of bytes and packets are found by the workers.
 */
#include "db.h"

#define NEVER UINT64_MAX
#define FAR_S 4000000000ull

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

/* The kernel's xfrm_timer_handler(). */
static void look_at(const struct expiry *x, struct xf_sa *sa)
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

/*
 * What a worker found: see want_attention() in use.c. A soft limit that UPDSA has raised since is
 * not told any more. That of an SA that is out of use is told by whoever goes on with it.
 */
static void attend(const struct expiry *x, struct xf_sa *sa)
{
	uint8_t why = atomic_exchange(&sa->attention, 0);

	if (!sa->links.in_tables)
		return;
	if (why & XF_SA_HARD_HIT && xf_sa_get_state(sa) == XF_SA_EXPIRED)
		end_life(x, sa);
	else if (xf_sa_get_state(sa) == XF_SA_FROZEN)
		atomic_store(&sa->dying, false);
	else if (why & XF_SA_SOFT_HIT && atomic_load(&sa->dying))
		x->event(x->arg, sa, XF_SA_EVENT_SOFT_EXPIRE);
}

static void attend_all(const struct expiry *x)
{
	struct xf_sa *sa, *next;

	sa = atomic_exchange_explicit(&x->sad->stack.top, NULL, memory_order_acquire);
	for (; sa; sa = next) {
		/* Once its attention is taken, a worker may push the SA anew. */
		next = sa->stack_next;
		attend(x, sa);
		xf_sa_put(sa);
	}
}

uint64_t xf_sad_expire(struct xf_sad *sad, uint64_t now_ns,
		       void (*event)(void *arg, struct xf_sa *sa, enum xf_sa_event event),
		       void *arg)
{
	const struct expiry x = { .sad = sad, .now_ns = now_ns, .event = event, .arg = arg };
	struct xf_heap_node *first;

	attend_all(&x);
	xf_sad_trim(sad);
	while ((first = xf_heap_first(&sad->due)) && first->due_ns <= now_ns)
		look_at(&x, XF_CONTAINER_OF(first, struct xf_sa, links.due));
	return first ? first->due_ns : NEVER;
}

bool xf_sad_pending(const struct xf_sad *sad)
{
	return atomic_load_explicit(&sad->stack.top, memory_order_relaxed) != NULL;
}
