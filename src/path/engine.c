#include <stdlib.h>

#include "path/worker.h"
#include "sad/use.h"

/* RFC 8200 s4.5 says 60 s; the kernel's ipfrag_time is 30 s, for IPv6 too by default 60. */
#define FRAG_TIMEOUT_NS (30 * XF_NSEC_PER_SEC)
/* Of one datagram: 65,535 bytes at an MTU of 576 are 120. */
#define FRAG_MAX_PIECES 128
#define FRAG_MAX_DATAGRAMS 256

struct xf_engine *xf_engine_new(const struct xf_engine_config *cfg)
{
	struct xf_engine *engine = calloc(1, sizeof(*engine));

	if (!engine)
		return NULL;
	engine->env = cfg->env;
	engine->clamp_mss = cfg->clamp_mss;
	engine->one_worker = cfg->sad.one_worker;
	engine->sad = xf_sad_new(&cfg->sad);
	engine->spd = xf_spd_new(&cfg->spd);
	if (!engine->sad || !engine->spd) {
		xf_engine_free(engine);
		return NULL;
	}
	return engine;
}

void xf_engine_free(struct xf_engine *engine)
{
	if (!engine)
		return;
	if (engine->spd)
		xf_spd_free(engine->spd);
	if (engine->sad)
		xf_sad_free(engine->sad);
	free(engine);
}

struct xf_sad *xf_engine_sad(struct xf_engine *engine)
{
	return engine->sad;
}

struct xf_spd *xf_engine_spd(struct xf_engine *engine)
{
	return engine->spd;
}

static bool open_crypto(struct xf_worker *worker, const struct xf_crypto_wake *wake)
{
	const struct xf_crypto_provider *const *p = xf_crypto_providers();

	for (unsigned i = 0; p[i] && i < XF_CRYPTO_PROVIDERS_MAX; i++) {
		if (!p[i]->usable())
			continue;
		worker->crypto[i] = p[i]->ctx_new(p[i], wake);
		if (!worker->crypto[i])
			return false;
	}
	return true;
}

/* Of three tables none may hold more than a sixth of the packets, whatever comes: half are left. */
static bool open_frags(struct xf_worker *worker, const struct xf_worker_config *cfg)
{
	const struct xf_frag_config frag = {
		.datagrams = xf_min_u32(FRAG_MAX_DATAGRAMS, cfg->pool.packets / 4),
		.fragments = FRAG_MAX_PIECES,
		.bytes = (uint64_t)cfg->pool.packets / 6 * XF_POOL_SMALL,
		.timeout_ns = FRAG_TIMEOUT_NS,
		.seed = { cfg->seed[0], cfg->seed[1] },
	};

	worker->frags_out = xf_frag_new(&frag);
	worker->frags_in = xf_frag_new(&frag);
	worker->frags_inner = xf_frag_new(&frag);
	return worker->frags_out && worker->frags_in && worker->frags_inner;
}

static void init_flight(struct xf_flight *f, struct xf_worker *worker)
{
	f->worker = worker;
	for (unsigned i = 0; i < XF_BATCH; i++)
		f->ops[i].events = worker->events;
	xf_flight_put(f);
}

/* Behind xf_path_open_events(): operations name the ring. */
static bool open_flights(struct xf_worker *worker)
{
	worker->flights = aligned_alloc(
		XF_CACHE_LINE, xf_align_up(XF_FLIGHTS * sizeof(*worker->flights), XF_CACHE_LINE));
	if (!worker->flights)
		return false;
	memset(worker->flights, 0, XF_FLIGHTS * sizeof(*worker->flights));
	for (unsigned i = 0; i < XF_FLIGHTS; i++)
		init_flight(&worker->flights[i], worker);
	return true;
}

static struct xf_worker *alloc_worker(struct xf_engine *engine)
{
	const size_t size = xf_align_up(sizeof(struct xf_worker), XF_CACHE_LINE);
	struct xf_worker *worker;

	if (engine->one_worker && engine->workers)
		return NULL;
	worker = aligned_alloc(XF_CACHE_LINE, size);
	if (!worker)
		return NULL;
	memset(worker, 0, size);
	worker->engine = engine;
	worker->alone = engine->one_worker;
	worker->next = engine->workers;
	engine->workers = worker;
	return worker;
}

struct xf_worker *xf_worker_new(struct xf_engine *engine, const struct xf_worker_config *cfg)
{
	struct xf_worker *worker = alloc_worker(engine);
	struct xf_pool_config pool = cfg->pool;

	if (!worker)
		return NULL;
	worker->ident = (uint32_t)cfg->seed[0];
	worker->ordered = cfg->ordered;
	worker->wake = cfg->wake;
	pool.shared = cfg->ordered;
	worker->pool = xf_pool_new(&pool);
	if (cfg->gro)
		worker->gro = xf_gro_new(cfg->gro);
	if (!worker->pool || (cfg->gro && !worker->gro) ||
	    !xf_path_open_events(worker, cfg->events) || !open_flights(worker) ||
	    !xf_shape_open(worker) || (cfg->ordered && !xf_order_open(worker)) ||
	    !open_crypto(worker, &cfg->wake) || !open_frags(worker, cfg)) {
		xf_worker_free(worker);
		return NULL;
	}
	return worker;
}

static void unlink_worker(struct xf_worker *worker)
{
	struct xf_worker **p = &worker->engine->workers;

	while (*p != worker)
		p = &(*p)->next;
	*p = worker->next;
}

void xf_worker_free(struct xf_worker *worker)
{
	const struct xf_crypto_provider *const *p = xf_crypto_providers();

	if (!worker)
		return;
	if (worker->holds.all)
		xf_shape_close(worker);
	unlink_worker(worker);
	xf_path_add_counters(&worker->count, &worker->engine->gone);
	if (worker->frags_out)
		xf_frag_free(worker->frags_out);
	if (worker->frags_in)
		xf_frag_free(worker->frags_in);
	if (worker->frags_inner)
		xf_frag_free(worker->frags_inner);
	/* Providers wait for what they have; then nobody else touches the packets. */
	for (unsigned i = 0; p[i] && i < XF_CRYPTO_PROVIDERS_MAX; i++)
		if (worker->crypto[i])
			p[i]->ctx_free(worker->crypto[i]);
	xf_way_abandon(&worker->out);
	xf_way_abandon(&worker->in);
	xf_order_close(worker);
	if (worker->gro)
		xf_gro_free(worker->gro);
	free(worker->flights);
	xf_path_close_events(worker);
	xf_pool_free(worker->pool);
	free(worker);
}

struct xf_pool *xf_worker_pool(struct xf_worker *worker)
{
	return worker->pool;
}

void xf_engine_get_stats(struct xf_engine *engine, struct xf_engine_stats *out)
{
	*out = engine->gone;
	for (struct xf_worker *w = engine->workers; w; w = w->next)
		xf_path_add_counters(&w->count, out);
}

void xf_path_drop(struct xf_worker *worker, struct xf_pkt *pkt, enum xf_drop reason,
		  struct xf_sa *sa)
{
	xf_count(&worker->count.drops[reason], 1);
	if (sa)
		xf_sa_count_drop(sa, reason);
	xf_pkt_free(pkt);
}

void xf_worker_drop(struct xf_worker *worker, struct xf_pkt *pkt, enum xf_drop reason)
{
	xf_path_drop(worker, pkt, reason, NULL);
}

void xf_path_end(struct xf_worker *worker)
{
	struct xf_pool_stats stats;

	xf_pool_get_stats(worker->pool, &stats);
	atomic_store_explicit(&worker->count.lin_copies, stats.lin_copies, memory_order_relaxed);
	atomic_store_explicit(&worker->count.payload_bytes_copied, stats.payload_bytes_copied,
			      memory_order_relaxed);
	atomic_store_explicit(&worker->count.csum_copies, stats.csum_copies, memory_order_relaxed);
}

void xf_slot_drop(struct xf_worker *worker, struct xf_slot *s, enum xf_drop reason,
		  struct xf_sa *sa)
{
	xf_path_drop(worker, s->pkt, reason, sa);
	s->pkt = NULL;
}

void xf_path_reassemble(struct xf_worker *worker, struct xf_frag_table *table, struct xf_slot *s,
			uint64_t now_ns)
{
	struct xf_pktq dropped = { .count = 0 };
	struct xf_pkt *whole = NULL;
	struct xf_pkt *lost;
	enum xf_drop err = xf_frag_in(table, s->pkt, &s->ip, now_ns, &whole, &dropped);

	while ((lost = xf_pktq_pop(&dropped)))
		xf_path_drop(worker, lost, err == XF_PASS ? XF_DROP_FRAG_LIMIT : err, NULL);
	if (err != XF_PASS) {
		xf_slot_drop(worker, s, err, NULL);
		return;
	}
	s->pkt = whole;
	if (whole && xf_ip_parse(whole, false, &s->ip) < 0)
		xf_slot_drop(worker, s, XF_DROP_FRAG_HDR, NULL);
}

static uint64_t expire_frags(struct xf_worker *worker, struct xf_frag_table *table, uint64_t now_ns)
{
	struct xf_pktq dropped = { .count = 0 };
	struct xf_pkt *lost;
	uint64_t next = xf_frag_expire(table, now_ns, &dropped);

	while ((lost = xf_pktq_pop(&dropped)))
		xf_path_drop(worker, lost, XF_DROP_FRAG_TIMEOUT, NULL);
	return next;
}

void xf_path_poll(struct xf_worker *worker, uint64_t now_ns, struct xf_path_result *res)
{
	xf_order_take_back(worker);
	if (!worker->out.first && !worker->in.first)
		return;
	xf_read_begin();
	xf_crypto_collect(worker);
	xf_path_out_resume(worker, now_ns, res);
	xf_path_in_resume(worker, now_ns, res);
	xf_read_end();
	xf_path_end(worker);
}

static bool has_room(const struct xf_worker *worker)
{
	return worker->nfree >= XF_FLIGHTS / 2 && worker->batches < XF_PATH_BATCHES &&
	       (!worker->ordered || worker->ngroups >= XF_GROUPS / 2);
}

bool xf_path_busy(struct xf_worker *worker)
{
	xf_order_take_back(worker);
	if (has_room(worker))
		return false;
	atomic_store(&worker->starving, true);
	/* What came back before that was seen wakes nobody. */
	xf_order_take_back(worker);
	return !has_room(worker);
}

bool xf_path_waiting(const struct xf_worker *worker)
{
	return worker->out.first || worker->in.first;
}

/* What transforms have held until now, and packets of SAs that have gone. */
static uint64_t let_go(struct xf_worker *worker, uint64_t now_ns, struct xf_path_result *res)
{
	uint64_t out, in;

	xf_order_take_back(worker);
	xf_read_begin();
	out = xf_path_out_tick(worker, now_ns, res);
	in = xf_path_in_tick(worker, now_ns, res);
	xf_read_end();
	xf_path_end(worker);
	return out < in ? out : in;
}

uint64_t xf_path_tick(struct xf_worker *worker, uint64_t now_ns, struct xf_path_result *res)
{
	struct xf_frag_table *tables[] = { worker->frags_out, worker->frags_in,
					   worker->frags_inner };
	uint64_t next = UINT64_MAX;

	for (unsigned i = 0; i < XF_ARRAY_SIZE(tables); i++) {
		uint64_t deadline = expire_frags(worker, tables[i], now_ns);

		if (deadline < next)
			next = deadline;
	}
	if (worker->holds.kept) {
		uint64_t deadline = let_go(worker, now_ns, res);

		if (deadline < next)
			next = deadline;
	}
	return next;
}
