/*
 * Two readers look policies up while the writer changes the table. What a reader finds must match,
 * be alive, and never be missing while it is only replaced.
 */
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <xf/rcu.h>
#include <xf/spd.h>

#define WRITES 20000
#define NETS 150

static struct xf_spd *spd;
static atomic_bool stop;

static struct xf_flow flow_to(uint32_t net)
{
	struct xf_flow flow = { .family = XF_AF_INET, .proto = XF_IPPROTO_UDP };

	flow.saddr.bytes[0] = 10;
	flow.daddr.bytes[0] = 10;
	flow.daddr.bytes[1] = (uint8_t)net;
	return flow;
}

/* Net 0 is always there; the others come and go. */
static struct xf_policy_config config(uint32_t net, uint32_t priority)
{
	struct xf_policy_config cfg = { .dir = XF_DIR_OUT, .priority = priority };

	cfg.sel.family = XF_AF_INET;
	cfg.sel.saddr.bytes[0] = 10;
	cfg.sel.daddr.bytes[0] = 10;
	cfg.sel.daddr.bytes[1] = (uint8_t)net;
	cfg.sel.prefixlen_s = 16;
	cfg.sel.prefixlen_d = 16;
	return cfg;
}

struct reader {
	pthread_t thread;
	unsigned seed;
	uint64_t found;
	_Atomic unsigned batches;
	uint64_t wrong;
};

static void read_batch(struct reader *r, struct xf_policy **held)
{
	struct xf_flow flows[8];
	struct xf_policy *out[8];

	for (uint32_t i = 0; i < 8; i++)
		flows[i] = flow_to(i ? (uint32_t)rand_r(&r->seed) % NETS : 0);
	xf_read_begin();
	xf_spd_lookup_batch(spd, XF_DIR_OUT, flows, 8, out);
	r->wrong += !out[0];
	for (int i = 0; i < 8; i++) {
		if (!out[i])
			continue;
		r->found++;
		r->wrong += !xf_selector_match(&xf_policy_cfg(out[i])->sel, &flows[i]);
		xf_policy_count(out[i], false, 1, 100, r->found);
	}
	for (int i = 0; i < 16; i++)
		r->wrong += !xf_spd_wants_whole(spd, XF_DIR_OUT, &flows[0]);
	/* A reference holds what it is of beyond the section. */
	if (*held) {
		r->wrong += xf_policy_cfg(*held)->dir != XF_DIR_OUT;
		xf_policy_put(*held);
	}
	*held = out[1] ? xf_policy_get(out[1]) : NULL;
	xf_read_end();
	xf_read_quiescent();
	atomic_fetch_add_explicit(&r->batches, 1, memory_order_relaxed);
}

static void *read_on(void *arg)
{
	struct reader *r = arg;
	struct xf_policy *held = NULL;

	xf_read_register();
	while (!atomic_load(&stop))
		read_batch(r, &held);
	if (held)
		xf_policy_put(held);
	xf_read_unregister();
	return NULL;
}

static void write_one(unsigned *seed)
{
	uint32_t net = rand_r(seed) % 4 ? (uint32_t)rand_r(seed) % NETS : 0;
	struct xf_policy_config cfg = config(net, (uint32_t)rand_r(seed) % 3);
	const struct xf_policy_id id = { .sel = cfg.sel, .dir = XF_DIR_OUT };
	struct xf_policy *policy = xf_spd_find(spd, &id);

	cfg.ntmpl = net == 0 || rand_r(seed) % 2; /* mode 0: transport */
	if (policy && net != 0 && rand_r(seed) % 2)
		xf_spd_del(spd, policy);
	else
		assert_int_equal(xf_spd_insert(spd, &cfg, false, 0, &policy), 0);
}

/* On a busy machine a reader may not have run at all when the writer is through. */
static bool seen_enough(const struct reader *readers)
{
	return atomic_load(&readers[0].batches) >= 100 && atomic_load(&readers[1].batches) >= 100;
}

static void readers_and_writer(void **state)
{
	const struct xf_spd_config spd_cfg = { .seed = { 1, 2 } };
	struct reader readers[2] = { { .seed = 11 }, { .seed = 12 } };
	struct xf_policy_config cfg = config(0, 1);
	struct xf_policy *policy;
	unsigned seed = 13;

	(void)state;
	print_message("# seeds 11 12 13\n");
	spd = xf_spd_new(&spd_cfg);
	assert_non_null(spd);
	cfg.ntmpl = 1;
	assert_int_equal(xf_spd_insert(spd, &cfg, false, 0, &policy), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&readers[i].thread, NULL, read_on, &readers[i]), 0);
	for (int i = 0; i < WRITES || !seen_enough(readers); i++) {
		write_one(&seed);
		if (i >= WRITES)
			sched_yield();
	}
	atomic_store(&stop, true);
	for (int i = 0; i < 2; i++) {
		pthread_join(readers[i].thread, NULL);
		assert_true(readers[i].found > 0);
		assert_int_equal(readers[i].wrong, 0);
	}
	xf_spd_free(spd);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(readers_and_writer) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
