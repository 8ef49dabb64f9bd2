/*
 * The SPD against the model while two readers look up: what they find must be what the model says
 * for a moment between the beginning and the end of their lookup.
 *
 * Each change of the SPD has a number, its generation. After each, the writer notes what the model
 * answers to a set of flows. A lookup overlaps those changes whose numbers are from the generation
 * before it to one more than that after it. When there is one at most, or all answers are the
 * same, what was found must be among them; when there are more, it must match.
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

#include "spd/spd_test.h"
#include "spd_model.h"

#define READERS 2
#define ROUNDS (8 * WORLDS)
#define CHANGES (10000 / MODEL_DIVISOR)
#define FLOWS 24
#define HOT 3 /* flows whose policies are updated all the time, and that are looked up most */
#define BATCH 33

/* An answer is the serial number of a policy, in a field that decides nothing; 0 = none. */
#define SERIAL_BITS 31
#define WHOLE (1u << SERIAL_BITS)

static struct {
	struct xf_spd *spd;
	int dir;
	struct xf_flow flows[FLOWS];
	_Atomic uint32_t answers[CHANGES + 1][FLOWS]; /* and WHOLE */
	_Atomic uint64_t noted; /* generations */
	atomic_bool stop;
	uint64_t first; /* the generation of answers[0] */
	uint32_t serial;
} shared;

struct reader {
	pthread_t thread;
	unsigned seed;
	uint64_t exact; /* lookups that had to be among the answers */
	uint64_t overlapped; /* of those: during a change that made a difference */
	uint64_t loose;
	uint64_t wrong;
};

struct look {
	unsigned n;
	uint32_t which[BATCH];
	uint32_t serial[BATCH];
	bool match[BATCH];
	bool whole;
	uint64_t from;
	uint64_t to;
};

static uint32_t serial_of(const struct xf_policy *policy)
{
	return policy ? xf_policy_cfg(policy)->tmpl[0].reqid : 0;
}

static void look(struct reader *r, struct look *l)
{
	struct xf_flow flows[BATCH];
	struct xf_policy *out[BATCH];

	l->n = rand_r(&r->seed) % 4 ? 1 : BATCH;
	for (unsigned i = 0; i < l->n; i++) {
		l->which[i] = (uint32_t)rand_r(&r->seed) % (rand_r(&r->seed) % 4 ? HOT : FLOWS);
		flows[i] = shared.flows[l->which[i]];
	}
	xf_read_begin();
	l->from = xf_spd_generation(shared.spd);
	xf_spd_lookup_batch(shared.spd, (enum xf_policy_dir)shared.dir, flows, l->n, out);
	l->whole = xf_spd_wants_whole(shared.spd, (enum xf_policy_dir)shared.dir, &flows[0]);
	l->to = xf_spd_generation(shared.spd);
	for (unsigned i = 0; i < l->n; i++) {
		l->serial[i] = serial_of(out[i]);
		l->match[i] = !out[i] || xf_selector_match(&xf_policy_cfg(out[i])->sel, &flows[i]);
	}
	xf_read_end();
	xf_read_quiescent();
}

static uint32_t answer(uint64_t generation, uint32_t flow, uint32_t mask)
{
	return mask & atomic_load_explicit(&shared.answers[generation - shared.first][flow],
					   memory_order_relaxed);
}

/* Is @got among the answers from @from to @to? */
static bool is_among(uint32_t flow, uint64_t from, uint64_t to, uint32_t mask, uint32_t got,
		     bool *differ)
{
	bool among = false;

	*differ = false;
	for (uint64_t g = from; g <= to; g++) {
		among = among || answer(g, flow, mask) == got;
		*differ = *differ || answer(g, flow, mask) != answer(from, flow, mask);
	}
	return among;
}

static void judge(struct reader *r, const struct look *l)
{
	uint64_t end = l->to + 1;
	bool differ, among;

	/*
	 * A change that could be seen may be about to be noted. The next one comes right after,
	 * and so does our next lookup, if we are awake.
	 */
	for (unsigned i = 0; atomic_load(&shared.noted) < end; i++) {
		if (atomic_load(&shared.stop) && atomic_load(&shared.noted) < end)
			end = l->to;
		if (i % 1024 == 1023)
			sched_yield();
	}
	for (unsigned i = 0; i < l->n; i++) {
		among = is_among(l->which[i], l->from, end, WHOLE - 1, l->serial[i], &differ);
		if (differ && end - l->from > 1) {
			r->loose++;
			r->wrong += !l->match[i];
			continue;
		}
		r->exact++;
		r->overlapped += differ;
		r->wrong += !among || !l->match[i];
	}
	among = is_among(l->which[0], l->from, end, WHOLE, l->whole ? WHOLE : 0, &differ);
	r->wrong += !among && (!differ || end - l->from <= 1);
}

static void *read_on(void *arg)
{
	struct reader *r = arg;
	struct look l;

	xf_read_register();
	while (!atomic_load(&shared.stop)) {
		look(r, &l);
		xf_read_offline();
		judge(r, &l);
		xf_read_online();
	}
	xf_read_unregister();
	return NULL;
}

/* --- the writer --- */

static void note(void)
{
	uint64_t generation = xf_spd_generation(shared.spd);

	for (unsigned i = 0; i < FLOWS; i++) {
		const struct entry *e = model_lookup(&shared.flows[i], shared.dir);
		uint32_t whole = model_wants_whole(&shared.flows[i], shared.dir) ? WHOLE : 0;

		atomic_store_explicit(&shared.answers[generation - shared.first][i],
				      (e ? e->cfg.tmpl[0].reqid : 0) | whole, memory_order_relaxed);
	}
	atomic_store(&shared.noted, generation);
}

static void insert_both(struct xf_policy_config *cfg)
{
	struct xf_policy *policy;

	cfg->tmpl[0].reqid = ++shared.serial;
	assert_int_equal(xf_spd_insert(shared.spd, cfg, false, 0, &policy), 0);
	assert_int_equal(model_insert(cfg, false), 0);
}

/* In a world of all directions the readers' own has most of the policies. */
static void insert(void)
{
	struct xf_policy_config cfg;

	random_config_again(&cfg);
	if (below(4) && cfg.dir != shared.dir) {
		cfg.dir = (uint8_t)shared.dir;
		cfg.index = 0;
	}
	insert_both(&cfg);
}

static void delete (void)
{
	struct entry *e = random_entry();
	struct xf_policy_id id;

	id_of(&e->cfg, &id);
	xf_spd_del(shared.spd, xf_spd_find(shared.spd, &id));
	model_delete(e);
}

/* The policy of a hot flow, with another priority sometimes; false when it has none. */
static bool update_hot(void)
{
	const struct entry *e = model_lookup(&shared.flows[below(HOT)], shared.dir);
	struct xf_policy_config cfg;

	if (!e)
		return false;
	cfg = e->cfg;
	cfg.priority = below(4) ? cfg.priority : below(3);
	insert_both(&cfg);
	return true;
}

static void change(unsigned target)
{
	if (below(4) && update_hot())
		return;
	if (!model.total || below(10) < (model.total < target ? 7 : 3))
		insert();
	else
		delete ();
}

static void prepare(unsigned target, unsigned seed)
{
	const struct xf_spd_config cfg = { .seed = { 12, seed } };

	srand(seed);
	shared.spd = xf_spd_new(&cfg);
	assert_non_null(shared.spd);
	shared.dir = random_dir();
	while (model.total < target)
		insert();
	for (unsigned i = 0; i < FLOWS; i++)
		random_aimed_flow(&shared.flows[i]);
	shared.first = xf_spd_generation(shared.spd);
	note();
	atomic_store(&shared.stop, false);
}

static void run(unsigned target, unsigned seed, struct reader *readers)
{
	prepare(target, seed);
	for (int i = 0; i < READERS; i++)
		assert_int_equal(pthread_create(&readers[i].thread, NULL, read_on, &readers[i]), 0);
	for (unsigned i = 0; i < CHANGES; i++) {
		change(target);
		note();
		if (below(8) == 0)
			xf_rcu_drain();
	}
	atomic_store(&shared.stop, true);
	for (int i = 0; i < READERS; i++) {
		pthread_join(readers[i].thread, NULL);
		assert_int_equal(readers[i].wrong, 0);
	}
	xf_spd_free(shared.spd);
	model_clear();
}

/* How often they look beside a change is the scheduler's matter: more rounds, where few were. */
static bool seen_enough(const struct reader *readers)
{
	for (int i = 0; i < READERS; i++) {
		if (readers[i].exact <= 1000 || readers[i].overlapped <= 10)
			return false;
	}
	return true;
}

static void readers_agree_with_the_model(void **state)
{
	static const unsigned targets[] = { 12, 60, 120, 250 };
	struct reader readers[READERS] = { { .seed = 1 }, { .seed = 2 } };

	(void)state;
	for (unsigned round = 0; round < ROUNDS || !seen_enough(readers); round++) {
		world = round % WORLDS;
		print_message("# world %d, seed %u\n", (int)world, round + 1);
		run(targets[round / WORLDS % XF_ARRAY_SIZE(targets)], round + 1, readers);
	}
	for (int i = 0; i < READERS; i++) {
		print_message("# %lu answers exact, %lu of them beside a change of theirs; "
			      "%lu beside more changes\n",
			      (unsigned long)readers[i].exact, (unsigned long)readers[i].overlapped,
			      (unsigned long)readers[i].loose);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(readers_agree_with_the_model) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
