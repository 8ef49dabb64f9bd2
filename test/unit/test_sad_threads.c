/*
 * Two readers use whatever SAs they find while the writer adds, updates, takes out and grows the
 * tables. The sanitizers tell of races and of memory that went too early.
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <sad/use.h>

#include "sas.h"

#define READERS 2
#define OPS 3000
#define SPIS 48
#define OURS 32 /* SPIs that the SAD chooses */
#define STAYING 8 /* SAs that are there all the time, of a protocol of their own */

static _Atomic bool stop;
static _Atomic uint64_t now_ns;
static _Atomic uint32_t ours[OURS]; /* 0 = none at present */
static uint32_t staying[STAYING]; /* SPIs; half of them chosen by the SAD */

struct reader {
	pthread_t thread;
	const struct xf_sad *sad;
	uint64_t rng;
	struct xf_sa *held; /* by a reference, over many sections */
	unsigned found, sent, received, wrong, behind_gates;
	_Atomic unsigned rounds;
};

/* Every SPI has ends of its own, so that what is found can be told to be right. */
static struct xf_sa_config config_of(uint32_t spi)
{
	struct xf_sa_config cfg = sas_config((uint8_t)(1 + spi % 3), (uint8_t)(4 + spi % 5), spi);

	cfg.terms.replay_esn_attr = true;
	cfg.terms.replay_window = 64;
	cfg.flags = XF_SA_ESN;
	return cfg;
}

/* All between the same ends, where others come and go. */
static struct xf_sa_config staying_config(unsigned i)
{
	struct xf_sa_config cfg = sas_config(20, 21, staying[i]);

	cfg.id.proto = XF_IPPROTO_AH;
	return cfg;
}

static void use(struct reader *r, struct xf_sa *sa)
{
	uint64_t now = atomic_load_explicit(&now_ns, memory_order_relaxed), seq;

	if (xf_sa_check(sa, xf_sa_form(sa)->what, true, now, NULL) == XF_PASS &&
	    sas_take_seq(sa, &seq) == XF_PASS) {
		xf_sa_count(&sa->out, 0, 1, 100, now);
		r->sent++;
	}
	seq = xf_sa_infer_seq(sa, (uint32_t)sas_random(&r->rng) % 5000 + 1);
	if (xf_sa_replay_check(sa, seq) == XF_PASS)
		r->received += sas_commit(sa, seq) == XF_PASS;
	xf_sa_path_mtu(sa, now);
}

static void hold_or_let_go(struct reader *r, struct xf_sa *sa)
{
	if (r->held) {
		use(r, r->held);
		xf_sa_put(r->held);
		r->held = NULL;
	} else if (sa) {
		r->held = xf_sa_get(sa);
	}
}

static void read_once(struct reader *r)
{
	const struct xf_sa_config cfg = config_of(1 + (uint32_t)sas_random(&r->rng) % SPIS);
	const struct xf_tmpl tmpl = { .id = { .family = XF_AF_INET, .proto = XF_IPPROTO_ESP },
				      .mode = XF_MODE_TUNNEL };
	const struct xf_flow flow = { .family = XF_AF_INET };
	const struct xf_sad_query query = {
		.tmpl = &tmpl, .saddr = &cfg.saddr, .daddr = &cfg.id.daddr, .flow = &flow
	};
	struct xf_sa *sa = xf_sad_find_in(r->sad, &cfg.id, 0), *out;
	bool larval;

	if (sa) {
		r->found++;
		r->wrong += xf_sa_cfg(sa)->id.spi != cfg.id.spi;
		use(r, sa);
	}
	out = xf_sad_find_out(r->sad, &query, &larval);
	if (out)
		r->wrong += !xf_addr_equal(&xf_sa_cfg(out)->saddr, &cfg.saddr, XF_AF_INET);
	if (sas_random(&r->rng) % 8 == 0)
		hold_or_let_go(r, out);
}

/* In batches, so that gates, buckets and seats are read at different times. */
static void read_batch(struct reader *r)
{
	struct xf_sa_id ids[OURS + STAYING];
	const uint32_t marks[OURS + STAYING] = { 0 };
	struct xf_sa *sas[OURS + STAYING];

	for (unsigned i = 0; i < OURS; i++) {
		ids[i] = config_of(1 + i).id;
		ids[i].spi = atomic_load_explicit(&ours[i], memory_order_relaxed);
	}
	for (unsigned i = 0; i < STAYING; i++)
		ids[OURS + i] = staying_config(i).id;
	xf_sad_find_in_batch(r->sad, ids, marks, OURS + STAYING, sas);
	for (unsigned i = 0; i < OURS + STAYING; i++) {
		r->behind_gates += i < OURS && sas[i];
		r->wrong += sas[i] ? xf_sa_cfg(sas[i])->id.spi != ids[i].spi : i >= OURS;
	}
}

static void read_out(struct reader *r)
{
	const struct xf_sa_config cfg = staying_config(0);
	const struct xf_tmpl tmpl = { .id = { .family = XF_AF_INET, .proto = XF_IPPROTO_AH },
				      .mode = XF_MODE_TUNNEL };
	const struct xf_flow flow = { .family = XF_AF_INET };
	struct xf_sad_query query = {
		.tmpl = &tmpl, .saddr = &cfg.saddr, .daddr = &cfg.id.daddr, .flow = &flow
	};
	struct xf_sad_query *queries[2] = { &query, &query };
	struct xf_sa *sas[2];

	xf_sad_find_out_batch(r->sad, queries, 2, sas, NULL);
	for (unsigned i = 0; i < 2; i++)
		r->wrong += !sas[i] || xf_sa_cfg(sas[i])->id.proto != XF_IPPROTO_AH;
}

static void *read_all(void *arg)
{
	struct reader *r = arg;

	xf_read_register();
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		for (unsigned i = 0; i < 16; i++) {
			xf_read_begin();
			read_once(r);
			read_batch(r);
			read_out(r);
			xf_read_end();
		}
		xf_read_quiescent();
		atomic_fetch_add_explicit(&r->rounds, 1, memory_order_relaxed);
	}
	if (r->held)
		xf_sa_put(r->held);
	xf_read_unregister();
	return NULL;
}

static void on_event(void *arg, struct xf_sa *sa, enum xf_sa_event event)
{
	unsigned *events = arg;

	(void)sa;
	events[event]++;
}

/* Short lives, so that readers run into limits all the time. */
static void write_add(struct xf_sad *sad, uint64_t *rng)
{
	struct xf_sa_config cfg = config_of(1 + (uint32_t)sas_random(rng) % SPIS);
	struct xf_sa *sa, *now;
	int err;

	cfg.terms.life.soft_packets = sas_random(rng) % 50;
	cfg.terms.life.hard_packets = sas_random(rng) % 200;
	cfg.terms.life.hard_add_s = sas_random(rng) % 3;
	sa = sas_new(sad, &cfg, atomic_load(&now_ns));
	err = sas_random(rng) % 2 ? xf_sad_add(sad, sa, NULL) : xf_sad_update(sad, sa, &now);
	if (err)
		xf_sa_put(sa);
}

/* An SPI of our own, and half the time its keys at once; the one before it goes. */
static void write_ours(struct xf_sad *sad, uint64_t *rng)
{
	unsigned i = (unsigned)(sas_random(rng) % OURS);
	struct xf_sa_config cfg = config_of(1 + i);
	struct xf_sa *sa;

	cfg.id.spi = atomic_load(&ours[i]);
	sa = cfg.id.spi ? xf_sad_find_in(sad, &cfg.id, 0) : NULL;
	if (sa)
		xf_sad_del(sad, sa);
	if (sas_alloc(sad, &cfg, 0xc0000000, 0xcfffffff, &sa))
		return;
	cfg.id.spi = xf_sa_cfg(sa)->id.spi;
	atomic_store(&ours[i], cfg.id.spi);
	if (sas_random(rng) % 2)
		sas_update(sad, &cfg, &sa);
}

/* One that stays changes its interface, and with it its seat: often, as it takes no time. */
static void write_staying(struct xf_sad *sad, uint64_t *rng)
{
	struct xf_sa_config cfg = staying_config(1 + (unsigned)(sas_random(rng) % (STAYING - 1)));
	struct xf_sa *sa;

	for (uint32_t i = 0; i < 30; i++) {
		cfg.if_id = 1 + i % 3;
		assert_int_equal(sas_update(sad, &cfg, &sa), 0);
	}
}

static void add_staying(struct xf_sad *sad)
{
	for (unsigned i = 0; i < STAYING; i++) {
		struct xf_sa_config cfg = staying_config(i);
		struct xf_sa *sa;

		cfg.id.spi = 900 + i;
		if (i % 2) {
			assert_int_equal(sas_alloc(sad, &cfg, 0xc0000000, 0xcfffffff, &sa), 0);
			cfg.id.spi = xf_sa_cfg(sa)->id.spi;
			assert_int_equal(sas_update(sad, &cfg, &sa), 0);
		} else {
			sas_add(sad, &cfg);
		}
		staying[i] = cfg.id.spi;
	}
}

static void write_once(struct xf_sad *sad, uint64_t *rng, unsigned *events)
{
	struct xf_sa_config cfg = config_of(1 + (uint32_t)sas_random(rng) % SPIS);
	struct xf_sa *sa;

	switch (sas_random(rng) % 10) {
	case 0:
		sa = xf_sad_find_in(sad, &cfg.id, 0);
		if (sa)
			xf_sad_del(sad, sa);
		break;
	case 1:
		sas_alloc(sad, &cfg, cfg.id.spi, SPIS, &sa);
		break;
	case 2:
		atomic_fetch_add(&now_ns, XF_NSEC_PER_SEC / 50);
		xf_sad_expire(sad, atomic_load(&now_ns), on_event, events);
		break;
	case 3:
		if (sas_random(rng) % 100 == 0)
			xf_sad_flush(sad, XF_IPPROTO_ESP);
		xf_rcu_drain();
		break;
	case 4:
		write_ours(sad, rng);
		break;
	case 5:
		write_staying(sad, rng);
		break;
	default:
		write_add(sad, rng);
	}
}

static void grow(struct xf_sad *sad, unsigned i)
{
	struct xf_sa_config cfg = sas_config(9, 9, 1000 + i);

	/* The half of them between the ends of those that stay. */
	if (i % 16 == 0)
		cfg = sas_config(20, 21, 1000 + i);
	sas_add(sad, &cfg);
}

/* On a busy machine a reader may not have run at all when the writer is through. */
static bool seen_enough(struct reader *readers, const unsigned *events)
{
	for (unsigned i = 0; i < READERS; i++) {
		if (atomic_load(&readers[i].rounds) < 100)
			return false;
	}
	return events[XF_SA_EVENT_SOFT_EXPIRE] && events[XF_SA_EVENT_HARD_EXPIRE];
}

static void readers_and_a_writer(void **state)
{
	struct xf_sad *sad = sas_sad(0);
	struct reader readers[READERS] = { { 0 } };
	unsigned events[3] = { 0 };
	uint64_t rng = sas_seed(3);

	(void)state;
	atomic_store(&now_ns, 10 * XF_NSEC_PER_SEC);
	add_staying(sad);
	for (unsigned i = 0; i < READERS; i++) {
		readers[i].sad = sad;
		readers[i].rng = rng + 1 + i;
		assert_int_equal(pthread_create(&readers[i].thread, NULL, read_all, &readers[i]),
				 0);
	}
	for (unsigned i = 0; i < OPS || !seen_enough(readers, events); i++) {
		write_once(sad, &rng, events);
		if (i % 8 == 0 && i < OPS)
			grow(sad, i);
		if (i >= OPS)
			sched_yield();
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < READERS; i++) {
		pthread_join(readers[i].thread, NULL);
		assert_int_equal(readers[i].wrong, 0);
		print_message("# reader %u: %u found, %u behind gates, %u sent, %u received\n", i,
			      readers[i].found, readers[i].behind_gates, readers[i].sent,
			      readers[i].received);
		assert_true(readers[i].found > 0 && readers[i].behind_gates > 0);
	}
	print_message("# events: %u soft, %u hard, %u larval\n", events[0], events[1], events[2]);
	xf_sad_free(sad);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(readers_and_a_writer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
