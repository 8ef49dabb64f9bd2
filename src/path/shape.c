/*
 * Transforms that make other packets of those that they are given, and hold some (xf/shaping.h):
 * for out_flight.c and in_flight.c, which set such packets aside while their flight goes on.
 *
 * What is held is one of the worker's holds. A flight is not: it is one of few, and a hold may
 * last. Nested calls are of SAs further on in the same packets' bundles, so they meet other holds.
 */
#include <stdlib.h>

#include <xf/hash.h>

#include "path/worker.h"
#include "sad/transform.h"

struct xf_hold {
	_Alignas(XF_CACHE_LINE) uint8_t state[XF_SHAPING_STATE];
	struct xf_origin origin; /* its SAs are held by references once it is kept */
	uint64_t due_ns;
	bool out;
	bool kept;
	uint16_t next; /* in its bucket, or of the free ones: a number; 0 = none */
};

/* A call, around what the transform sees of it. */
struct call {
	struct xf_shaping shaping;
	struct xf_worker *worker;
	const struct xf_shape_way *way;
	void *arg;
	struct xf_hold *hold;
	bool lost; /* what is given back has nowhere to go */
};

bool xf_shape_open(struct xf_worker *worker)
{
	struct xf_holds *holds = &worker->holds;

	holds->all = aligned_alloc(XF_CACHE_LINE, XF_HOLDS * sizeof(*holds->all));
	if (!holds->all)
		return false;
	memset(holds->all, 0, XF_HOLDS * sizeof(*holds->all));
	for (uint16_t i = 0; i < XF_HOLDS; i++)
		holds->all[i].next = i;
	holds->free = XF_HOLDS;
	for (unsigned i = 0; i < XF_TRANSFORMS_MAX && xf_transform_table[i]; i++) {
		worker->shape_out |= (xf_transform_table[i]->out_shape ? 1u : 0u) << i;
		worker->shape_in |= (xf_transform_table[i]->in_shape ? 1u : 0u) << i;
	}
	return true;
}

/* --- Holds, by number from 1 --- */

static struct xf_hold *hold_at(const struct xf_worker *worker, uint16_t number)
{
	return &worker->holds.all[number - 1];
}

static uint16_t number_of(const struct xf_worker *worker, const struct xf_hold *hold)
{
	return (uint16_t)(hold - worker->holds.all + 1);
}

static bool same_origin(const struct xf_origin *a, const struct xf_origin *b)
{
	return a->sa == b->sa && a->n == b->n && a->round == b->round &&
	       memcmp(a->sas, b->sas, a->n * sizeof(a->sas[0])) == 0;
}

static uint16_t *bucket_of(struct xf_worker *worker, const struct xf_sa *sa)
{
	uint64_t mixed = (uint64_t)(uintptr_t)sa * 0x9e3779b97f4a7c15ull;

	return &worker->holds.buckets[mixed >> 56];
}

static struct xf_hold *find_hold(struct xf_worker *worker, const struct xf_origin *origin, bool out)
{
	uint16_t number = *bucket_of(worker, origin->sa);

	while (number) {
		struct xf_hold *hold = hold_at(worker, number);

		if (hold->out == out && same_origin(&hold->origin, origin))
			return hold;
		number = hold->next;
	}
	return NULL;
}

/* A hold that nobody has, or NULL: all are kept. */
static struct xf_hold *take_hold(struct xf_worker *worker)
{
	uint16_t number = worker->holds.free;

	if (number == 0)
		return NULL;
	worker->holds.free = hold_at(worker, number)->next;
	return hold_at(worker, number);
}

static void init_hold(struct xf_hold *hold, const struct xf_origin *origin, bool out)
{
	memset(hold->state, 0, sizeof(hold->state));
	hold->origin = *origin;
	hold->out = out;
	hold->kept = false;
}

static void keep(struct xf_worker *worker, struct xf_hold *hold)
{
	uint16_t *bucket = bucket_of(worker, hold->origin.sa);

	if (hold->kept)
		return;
	for (unsigned i = 0; i < hold->origin.n; i++)
		xf_sa_get(hold->origin.sas[i]);
	hold->kept = true;
	hold->next = *bucket;
	*bucket = number_of(worker, hold);
	worker->holds.kept++;
}

static void give_up(struct xf_worker *worker, struct xf_hold *hold)
{
	uint16_t *link = bucket_of(worker, hold->origin.sa);
	uint16_t number = number_of(worker, hold);

	if (hold->kept) {
		while (*link != number)
			link = &hold_at(worker, *link)->next;
		*link = hold->next;
		worker->holds.kept--;
		for (unsigned i = 0; i < hold->origin.n; i++)
			xf_sa_put(hold->origin.sas[i]);
		hold->kept = false;
	}
	hold->next = worker->holds.free;
	worker->holds.free = number;
}

/* --- Calls --- */

static void drop(struct xf_shaping *s, struct xf_pkt *pkt, enum xf_drop reason)
{
	struct call *call = XF_CONTAINER_OF(s, struct call, shaping);

	xf_path_drop(call->worker, pkt, reason, s->sa);
}

static void give(struct xf_shaping *s, struct xf_pkt *pkt, const struct xf_ip_info *ip)
{
	struct call *call = XF_CONTAINER_OF(s, struct call, shaping);

	if (call->lost)
		drop(s, pkt, call->way->out ? XF_DROP_OUT_STATE_INVALID : XF_DROP_IN_STATE_INVALID);
	else
		call->way->add(call->arg, &call->hold->origin, pkt, ip);
}

static void in_a_row(struct xf_shaping *s, unsigned n)
{
	struct call *call = XF_CONTAINER_OF(s, struct call, shaping);

	if (!call->lost && call->way->out)
		call->way->reserve(call->arg, n);
}

/* True: there will be another call. */
static bool shape(struct call *call, struct xf_transform_op *const *ops, unsigned n,
		  uint64_t now_ns)
{
	const struct xf_transform *transform = xf_transform_of(call->hold->origin.sa);
	struct xf_shaping *s = &call->shaping;

	s->sa = call->hold->origin.sa;
	s->ops = ops;
	s->n = n;
	s->now_ns = now_ns;
	s->state = call->hold->state;
	s->due_ns = UINT64_MAX;
	s->give = give;
	s->in_a_row = in_a_row;
	s->drop = drop;
	if (call->way->out)
		transform->out_shape(s);
	else
		transform->in_shape(s);
	call->hold->due_ns = s->due_ns;
	return s->due_ns != UINT64_MAX && !s->must_end;
}

/* With all holds kept, one on the stack, for this call alone. */
static void shape_packets(struct call *call, const struct xf_origin *origin,
			  struct xf_transform_op *const *ops, unsigned n, uint64_t now_ns)
{
	struct xf_hold *hold = find_hold(call->worker, origin, call->way->out);
	struct xf_hold here;

	if (!hold) {
		hold = take_hold(call->worker);
		init_hold(hold ? hold : &here, origin, call->way->out);
	}
	call->hold = hold ? hold : &here;
	call->shaping.must_end = !hold;
	if (shape(call, ops, n, now_ns))
		keep(call->worker, hold);
	else if (hold)
		give_up(call->worker, hold);
}

/* The packets of the first slot in @aside and of all that have the same way behind and before
 * them. Returns their number; they are no longer in @aside. */
static unsigned gather(struct xf_flight *f, const struct xf_shape_way *way, uint64_t *aside,
		       struct xf_origin *origin, struct xf_transform_op **ops)
{
	uint64_t left = *aside;
	unsigned n = 0;

	way->origin(f, (unsigned)__builtin_ctzll(left), origin);
	for (; left; left &= left - 1) {
		unsigned i = (unsigned)__builtin_ctzll(left);
		struct xf_origin other;

		way->origin(f, i, &other);
		if (!same_origin(&other, origin))
			continue;
		ops[n++] = &f->ops[i];
		*aside &= ~(1ull << i);
	}
	return n;
}

void xf_shape_flight(struct xf_flight *f, const struct xf_shape_way *way, void *arg,
		     uint64_t now_ns)
{
	uint64_t aside = f->aside;

	f->aside = 0;
	while (aside) {
		struct call call = { .worker = f->worker, .way = way, .arg = arg };
		struct xf_transform_op *ops[XF_BATCH];
		struct xf_origin origin;
		unsigned n = gather(f, way, &aside, &origin, ops);

		shape_packets(&call, &origin, ops, n, now_ns);
	}
	way->go(arg);
}

/* @hold is due, or its SA has gone. */
static void shape_held(struct call *call, struct xf_hold *hold, uint64_t now_ns)
{
	call->lost = call->lost || xf_sa_get_state(hold->origin.sa) != XF_SA_VALID;
	if (!call->lost && now_ns < hold->due_ns)
		return;
	call->hold = hold;
	call->shaping.must_end = call->lost;
	if (!shape(call, NULL, 0, now_ns))
		give_up(call->worker, hold);
}

uint64_t xf_shape_tick(struct xf_worker *worker, const struct xf_shape_way *way, void *arg,
		       uint64_t now_ns)
{
	uint64_t next = UINT64_MAX;

	for (unsigned i = 0; worker->holds.kept && i < XF_HOLDS; i++) {
		struct call call = { .worker = worker, .way = way, .arg = arg };
		struct xf_hold *hold = &worker->holds.all[i];

		if (!hold->kept || hold->out != way->out)
			continue;
		shape_held(&call, hold, now_ns);
		if (hold->kept && hold->due_ns < next)
			next = hold->due_ns;
	}
	way->go(arg);
	return next;
}

/* No packet goes anywhere any more. */
void xf_shape_close(struct xf_worker *worker)
{
	for (unsigned i = 0; worker->holds.kept && i < XF_HOLDS; i++) {
		struct xf_hold *hold = &worker->holds.all[i];
		const struct xf_shape_way way = { .out = hold->out };
		struct call call = { .worker = worker, .way = &way, .lost = true };

		if (hold->kept)
			shape_held(&call, hold, UINT64_MAX);
	}
	free(worker->holds.all);
}
