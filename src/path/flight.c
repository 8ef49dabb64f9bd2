/*
 * Flights and the cipher.
 *
 * The rule that keeps everything in order, with any provider: a flight goes on, be it to the next
 * SA or out of the engine, only while no flight is before it in its way. All flights of a way may
 * have operations with a provider at once; what comes back early waits in its flight.
 *
 * While a flight waits, the read section that found its SAs ends, so it holds references to them;
 * it puts them when it goes on, inside of another read section, so they outlast its next step.
 */
#include "path/worker.h"

struct xf_flight *xf_flight_get(struct xf_worker *worker)
{
	struct xf_flight *f = worker->free_flights;

	if (!f)
		return NULL;
	worker->free_flights = f->next;
	worker->nfree--;
	f->next = NULL;
	f->n = 0;
	f->round = 0;
	f->shaped = false;
	f->ahead = 0;
	f->aside = 0;
	f->nops = 0;
	f->reasons = 1;
	f->batch = NULL;
	return f;
}

void xf_flight_put(struct xf_flight *f)
{
	struct xf_worker *worker = f->worker;

	f->next = worker->free_flights;
	worker->free_flights = f;
	worker->nfree++;
}

void xf_flight_release(struct xf_flight *f)
{
	if (--f->reasons == 0)
		xf_flight_put(f);
}

struct xf_slot *xf_flight_add(struct xf_flight *f, struct xf_pkt *pkt)
{
	struct xf_slot *s = &f->slots[f->n++];

	__builtin_prefetch(&pkt->family);
	__builtin_prefetch(pkt->own_segs[0].data);
	__builtin_prefetch(pkt->own_segs[0].buf);
	s->pkt = pkt;
	s->bundle[0] = NULL;
	s->depth = 0;
	s->has_spi = false;
	s->first = 0;
	s->cut = 0;
	return s;
}

/* --- The cipher --- */

static struct xf_flight *flight_of(const struct xf_crypto_op *op)
{
	return ((struct xf_transform_op *)op->user)->user;
}

/* Operations come back to their flights, which may be of either way. Returns how many did. */
static unsigned complete(struct xf_worker *worker, unsigned index)
{
	const struct xf_crypto_provider *provider = xf_crypto_providers()[index];
	struct xf_crypto_op *done[XF_BATCH];
	unsigned n = provider->complete(worker->crypto[index], done, XF_BATCH);

	for (unsigned i = 0; i < n; i++)
		flight_of(done[i])->in_crypto--;
	worker->in_flight[index] -= n;
	return n;
}

/*
 * Give @ops, all of one provider, to it: how many it took. One that works at once is through with
 * them on return. One that takes nothing while it has nothing refuses them: they have failed.
 */
static unsigned submit(struct xf_worker *worker, unsigned index, struct xf_crypto_op **ops,
		       unsigned n)
{
	const struct xf_crypto_provider *provider = xf_crypto_providers()[index];
	unsigned taken = 0;
	unsigned moved;

	for (;;) {
		moved = provider->submit(worker->crypto[index], ops + taken, n - taken);
		taken += moved;
		worker->in_flight[index] += moved;
		if (provider->asynchronous)
			break;
		moved += complete(worker, index);
		if (moved == 0 || (taken == n && worker->in_flight[index] == 0))
			break;
	}
	if (worker->in_flight[index] > 0)
		return taken;
	for (unsigned i = taken; i < n; i++) {
		ops[i]->status = XF_CRYPTO_ERROR;
		flight_of(ops[i])->in_crypto--;
	}
	return n;
}

/*
 * The operations of this round, when they are of one provider that works at once and has nothing
 * else: through it, and that is all. As nearly always.
 */
static bool do_at_once(struct xf_flight *f)
{
	unsigned index = f->round_ops[0]->provider;
	const struct xf_crypto_provider *provider = xf_crypto_providers()[index];
	struct xf_crypto_op *ops[XF_BATCH];

	if (XF_UNLIKELY(index == XF_CRYPTO_NONE) || provider->asynchronous)
		return false;
	for (unsigned i = 0; i < f->nops; i++) {
		ops[i] = &f->round_ops[i]->crypto;
		if (XF_UNLIKELY(f->round_ops[i]->provider != index))
			return false;
	}
	/* What it refuses keeps a status that says error. */
	xf_crypto_run(provider, f->worker->crypto[index], ops, f->nops);
	return true;
}

/* Give what @f has waiting to the providers; what they have no room for goes on waiting. */
static void feed(struct xf_flight *f)
{
	struct xf_crypto_op *mine[XF_BATCH];
	unsigned kept = 0;
	unsigned left = f->nwaiting;

	while (left > kept) {
		unsigned index = f->waiting[kept]->provider;
		struct xf_transform_op *others[XF_BATCH];
		unsigned nothers = 0;
		unsigned n = 0;
		unsigned taken;

		for (unsigned i = kept; i < left; i++) {
			if (f->waiting[i]->provider == index)
				mine[n++] = &f->waiting[i]->crypto;
			else
				others[nothers++] = f->waiting[i];
		}
		taken = submit(f->worker, index, mine, n);
		for (unsigned i = taken; i < n; i++)
			f->waiting[kept++] = mine[i]->user;
		memcpy(&f->waiting[kept], others, nothers * sizeof(*others));
		left = kept + nothers;
	}
	f->nwaiting = kept;
}

static void feed_way(const struct xf_way *way)
{
	for (struct xf_flight *f = way->first; f; f = f->next)
		if (f->nwaiting)
			feed(f);
}

void xf_crypto_collect(struct xf_worker *worker)
{
	for (unsigned i = 0; i < XF_CRYPTO_PROVIDERS_MAX; i++)
		while (worker->in_flight[i] > 0 && complete(worker, i) > 0)
			;
	feed_way(&worker->out);
	feed_way(&worker->in);
}

/* Begin the next round and have its work done, or under way. False: there is none. */
static bool begin_round(struct xf_flight *f, const struct xf_way_ops *ops, void *arg)
{
	f->nops = 0;
	f->nwaiting = 0;
	f->in_crypto = 0;
	ops->begin(arg, f);
	f->round++;
	if (f->nops == 0)
		return false;
	if (do_at_once(f))
		return true;
	for (unsigned i = 0; i < f->nops; i++) {
		f->round_ops[i]->user = f;
		if (f->round_ops[i]->provider != XF_CRYPTO_NONE)
			f->waiting[f->nwaiting++] = f->round_ops[i];
	}
	f->in_crypto = f->nwaiting;
	feed(f);
	return true;
}

/* --- Waiting --- */

/* The packet of slot @i, be it set aside. */
static struct xf_pkt *pkt_at(const struct xf_flight *f, unsigned i)
{
	return f->aside >> i & 1 ? f->ops[i].pkt : f->slots[i].pkt;
}

/* SAs are held once for each run of slots that have the same, as mostly all have. */
static bool holds_for(const struct xf_flight *f, unsigned i)
{
	const struct xf_slot *s = &f->slots[i];
	const struct xf_slot *before = i > 0 ? &f->slots[i - 1] : NULL;
	const struct xf_pkt *pkt = pkt_at(f, i);
	const struct xf_pkt *pkt_before = before ? pkt_at(f, i - 1) : NULL;

	if (!pkt)
		return false;
	return !pkt_before || pkt->sp_len > 0 || pkt_before->sp_len > 0 ||
	       s->depth != before->depth ||
	       memcmp(s->bundle, before->bundle, s->depth * sizeof(s->bundle[0])) != 0;
}

static void for_all_sas(struct xf_flight *f, void (*func)(struct xf_sa *sa))
{
	for (unsigned i = 0; i < f->n; i++) {
		const struct xf_slot *s = &f->slots[i];
		const struct xf_pkt *pkt = pkt_at(f, i);

		if (!holds_for(f, i))
			continue;
		for (unsigned k = 0; k < s->depth; k++)
			func(s->bundle[k]);
		for (unsigned k = 0; k < pkt->sp_len; k++)
			func(pkt->sp[k]);
	}
}

static void hold(struct xf_sa *sa)
{
	xf_sa_get(sa);
}

static void park(struct xf_flight *f)
{
	if (f->parked)
		return;
	f->parked = true;
	for_all_sas(f, hold);
	xf_order_hold(f);
}

static void unpark(struct xf_flight *f)
{
	if (!f->parked)
		return;
	f->parked = false;
	for_all_sas(f, xf_sa_put);
}

static void append(struct xf_way *way, struct xf_flight *f)
{
	f->next = NULL;
	if (way->last)
		way->last->next = f;
	else
		way->first = f;
	way->last = f;
}

/* Round after round, until the cipher keeps some (false) or none is left. */
static bool advance(struct xf_flight *f, const struct xf_way_ops *ops, void *arg)
{
	while (f->nops > 0) {
		if (f->in_crypto > 0)
			return false;
		ops->finish(arg, f);
		begin_round(f, ops, arg);
	}
	return true;
}

/* Behind @f, which is in no queue any more: what it leads to may wait in its way. */
static void end(struct xf_flight *f, const struct xf_way_ops *ops, void *arg)
{
	ops->emit(arg, f);
	xf_flight_release(f);
}

void xf_flight_go(struct xf_way *way, struct xf_flight *f, const struct xf_way_ops *ops, void *arg)
{
	begin_round(f, ops, arg);
	if (!way->first && advance(f, ops, arg)) {
		end(f, ops, arg);
		return;
	}
	append(way, f);
	park(f);
}

void xf_way_resume(struct xf_way *way, const struct xf_way_ops *ops, void *arg)
{
	struct xf_flight *f;

	while ((f = way->first) && f->in_crypto == 0) {
		unpark(f);
		if (!advance(f, ops, arg)) {
			park(f);
			return;
		}
		way->first = f->next;
		if (!way->first)
			way->last = NULL;
		end(f, ops, arg);
	}
}

void xf_way_abandon(struct xf_way *way)
{
	struct xf_flight *f;

	while ((f = way->first)) {
		way->first = f->next;
		unpark(f);
		for (unsigned i = 0; i < f->nops; i++)
			xf_pkt_free(f->round_ops[i]->dst_pkt);
		for (unsigned i = 0; i < f->n; i++)
			xf_pkt_free(pkt_at(f, i));
	}
	way->last = NULL;
}
