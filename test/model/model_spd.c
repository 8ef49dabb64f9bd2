/*
 * The SPD against lists that are kept as the kernel's xfrm_policy.c keeps them (spd_model.h): the
 * same random inserts, updates, deletes, flushes, lookups and dumps, and the same answers.
 */
#include <errno.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <xf/rcu.h>

#include "spd_model.h"

/* The environment variable XF_MODEL_OPERATIONS says how many in all; else: */
#define OPERATIONS (10500000 / MODEL_DIVISOR)

/* So many steps long, the SPD grows or shrinks towards one size. */
#define PHASE 1500

/* Flows at most: a lookup goes through 32 of them together. */
#define BATCH 40

static struct xf_spd *spd;
static uint64_t now_ns;
static unsigned target;

/* Each flow that is looked up is an operation. */
static struct {
	unsigned long inserts;
	unsigned long updates;
	unsigned long refused;
	unsigned long deletes;
	unsigned long finds;
	unsigned long lookups;
	unsigned long found;
} done;

static unsigned long operations(void)
{
	return done.inserts + done.updates + done.refused + done.deletes + done.finds +
	       done.lookups;
}

/* --- the same to both --- */

static void assert_same_policy(const struct xf_policy *policy, const struct entry *e)
{
	if (!e) {
		assert_null(policy);
		return;
	}
	assert_non_null(policy);
	assert_int_equal(xf_policy_cfg(policy)->index, e->cfg.index);
	assert_memory_equal(xf_policy_cfg(policy), &e->cfg, sizeof(e->cfg));
}

static void step_insert(void)
{
	struct xf_policy_config cfg;
	struct xf_policy *out;
	bool excl = below(3) == 0;
	unsigned total;
	int err;

	random_config_again(&cfg);
	err = xf_spd_insert(spd, &cfg, excl, now_ns, &out);
	total = model.total;
	assert_int_equal(err, model_insert(&cfg, excl));
	if (err) {
		done.refused++;
		return;
	}
	assert_same_policy(out, model.all);
	if (model.total > total)
		done.inserts++;
	else
		done.updates++;
}

static void step_delete(void)
{
	struct entry *e = random_entry();
	struct xf_policy_id id;
	struct xf_policy *policy;

	if (!e)
		return;
	id_of(&e->cfg, &id);
	if (below(2))
		id.index = e->cfg.index;
	policy = xf_spd_find(spd, &id);
	assert_same_policy(policy, e);
	xf_spd_del(spd, policy);
	assert_null(xf_spd_find(spd, &id));
	model_delete(e);
	done.deletes++;
}

/* Names that are nearly right find what the model finds: mostly nothing. */
static void step_find(void)
{
	struct entry *e = random_entry();
	struct entry *want = NULL;
	struct xf_policy_id id;

	if (!e)
		return;
	id_of(&e->cfg, &id);
	id.index = below(2) ? e->cfg.index : 0;
	switch (below(5)) {
	case 0:
		id.mark.m ^= 1;
		break;
	case 1:
		id.if_id ^= 1;
		break;
	case 2:
		id.type ^= 1;
		break;
	case 3:
		id.dir = (uint8_t)((id.dir + 1) % XF_DIR_MAX);
		break;
	default:
		id.sel.proto ^= XF_IPPROTO_UDP;
		break;
	}
	for (e = model.all; e && !want; e = e->all_next) {
		struct xf_policy_config cfg = e->cfg;

		cfg.mark = id.mark;
		cfg.if_id = id.if_id;
		cfg.type = id.type;
		cfg.dir = id.dir;
		if (id.index ? e->cfg.index != id.index : memcmp(&cfg.sel, &id.sel, sizeof(id.sel)))
			continue;
		if (model_same(&cfg, &e->cfg))
			want = e;
	}
	assert_same_policy(xf_spd_find(spd, &id), want);
	done.finds++;
}

static void step_flush(void)
{
	uint8_t type = (uint8_t)below(XF_POLICY_TYPE_MAX);
	struct entry *next;
	unsigned n = 0;

	for (struct entry *e = model.all; e; e = next) {
		next = e->all_next;
		if (e->cfg.type == type) {
			model_delete(e);
			n++;
		}
	}
	assert_int_equal(xf_spd_flush(spd, type), n);
}

static void step_lookup(void)
{
	enum xf_policy_dir dir = (enum xf_policy_dir)random_dir();
	unsigned n = 1 + below(below(8) ? 12 : BATCH);
	struct xf_flow flows[BATCH];
	struct xf_policy *out[BATCH];

	for (unsigned i = 0; i < n; i++) {
		if (i > 0 && below(8) == 0)
			flows[i] = flows[i - 1];
		else
			random_aimed_flow(&flows[i]);
	}
	xf_spd_lookup_batch(spd, dir, flows, n, out);
	for (unsigned i = 0; i < n; i++) {
		assert_same_policy(out[i], model_lookup(&flows[i], (int)dir));
		done.found += out[i] != NULL;
	}
	done.lookups += n;
	assert_int_equal(xf_spd_wants_whole(spd, dir, &flows[0]),
			 model_wants_whole(&flows[0], (int)dir));
}

struct dump {
	const struct entry *next;
	unsigned left;
};

static bool visit(void *arg, struct xf_policy *policy)
{
	struct dump *dump = arg;

	assert_same_policy(policy, dump->next);
	dump->next = dump->next->all_next;
	return --dump->left > 0;
}

/* In pieces of random size, as netlink does it. */
static void step_walk(void)
{
	struct dump dump = { .next = model.all };
	struct xf_spd_info info;
	uint64_t cursor = 0;

	do
		dump.left = 1 + below(50);
	while (xf_spd_walk(spd, &cursor, visit, &dump));
	assert_null(dump.next);
	xf_spd_get_info(spd, &info);
	for (int dir = 0; dir < XF_DIR_MAX; dir++)
		assert_int_equal(info.count[dir], model.count[dir]);
}

static void step(unsigned i)
{
	static const unsigned targets[] = { 10, 45, 75, 120, 200, 600 };
	uint32_t dice = below(10000);
	bool grow;

	if (i % PHASE == 0)
		target = targets[below(below(6) + 1)];
	grow = model.total < target;
	if (dice < 7400 && below(10) < (grow ? 8 : 2))
		step_insert();
	else if (dice < 7400)
		step_delete();
	else if (dice < 8000)
		step_find();
	else if (dice < 9890)
		step_lookup();
	else if (dice < 9900)
		step_walk();
	else if (dice < 9999)
		xf_rcu_drain();
	else
		step_flush();
}

/* @end operations all in all. */
static void run(unsigned long end, unsigned seed)
{
	const struct xf_spd_config cfg = { .seed = { 11, seed } };

	srand(seed);
	spd = xf_spd_new(&cfg);
	assert_non_null(spd);
	for (unsigned i = 0; operations() < end; i++)
		step(i);
	for (uint8_t type = 0; type < XF_POLICY_TYPE_MAX; type++)
		xf_spd_flush(spd, type);
	model_clear();
	step_walk();
	xf_spd_free(spd);
}

static void agrees_with_the_kernels_lists(void **state)
{
	const char *wanted = getenv("XF_MODEL_OPERATIONS");
	unsigned long all = wanted ? strtoul(wanted, NULL, 10) : OPERATIONS;
	const unsigned rounds = 4 * WORLDS;

	(void)state;
	for (unsigned round = 0; round < rounds; round++) {
		world = round % WORLDS;
		print_message("# world %d, seed %u\n", (int)world, round + 1);
		run(all / rounds * (round + 1), round + 1);
	}
	print_message("# %lu inserts, %lu updates, %lu refused, %lu deletes, %lu found by name, "
		      "%lu looked up, %lu of them found\n",
		      done.inserts, done.updates, done.refused, done.deletes, done.finds,
		      done.lookups, done.found);
	assert_true(operations() >= all / rounds * rounds);
	assert_true(done.found > done.lookups / 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(agrees_with_the_kernels_lists) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
