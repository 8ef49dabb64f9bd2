/*
 * The SAD's inside: buckets that overflow, chains, tables that grow and shrink, seats, and the
 * permutation behind SPIs of our own.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <sad/db.h>

#include "sas.h"

/* As many as the smallest table takes before it grows. */
#define FULL_TABLE 16

/* SPIs whose SAs all want the same of the first four buckets. */
static void find_crowd(const struct xf_sad *sad, uint32_t *spis, unsigned n)
{
	for (uint32_t spi = 1; n > 0; spi++) {
		const struct xf_sa_config cfg = sas_config(1, 2, spi);

		if (xf_sad_hash_spi(&sad->secrets, &cfg.id) % 4 == 0)
			spis[--n] = spi;
	}
}

static void look_for_all(const struct xf_sad *sad, const uint32_t *spis, unsigned n, uint32_t there)
{
	struct xf_sa_id ids[FULL_TABLE];
	const uint32_t marks[FULL_TABLE] = { 0 };
	struct xf_sa *sas[FULL_TABLE];

	for (unsigned i = 0; i < n; i++)
		ids[i] = sas_config(1, 2, spis[i]).id;
	xf_sad_find_in_batch(sad, ids, marks, n, sas);
	for (unsigned i = 0; i < n; i++) {
		assert_ptr_equal(sas[i], xf_sad_find_in(sad, &ids[i], 0));
		assert_int_equal(sas[i] != NULL, there >> i & 1);
		if (sas[i])
			assert_int_equal(xf_sa_cfg(sas[i])->id.spi, spis[i]);
	}
}

/* Sixteen in one bucket stand in three. Each leaves alone, and another one takes its place. */
static void crowded_buckets(void **state)
{
	struct xf_sad *sad = sas_sad(0);
	uint32_t spis[FULL_TABLE], there = 0;
	uint64_t rng = sas_seed(5);

	(void)state;
	find_crowd(sad, spis, FULL_TABLE);
	for (unsigned round = 0; round < 1000; round++) {
		unsigned i = (unsigned)(sas_random(&rng) % FULL_TABLE);
		struct xf_sa_config cfg = sas_config(1, 2, spis[i]);

		if (round < FULL_TABLE)
			cfg.id.spi = spis[i = round];
		if (there >> i & 1)
			assert_int_equal(xf_sad_del(sad, xf_sad_find_in(sad, &cfg.id, 0)), 0);
		else
			sas_add(sad, &cfg);
		there ^= 1u << i;
		look_for_all(sad, spis, FULL_TABLE, there);
		if (round % 16 == 0)
			xf_rcu_drain();
	}
	xf_sad_free(sad);
}

static uint32_t buckets_of(const struct xf_sad *sad, enum xf_sa_table table)
{
	return atomic_load(&sad->tables[table].buckets)->mask + 1;
}

/* What many SAs needed goes when they go. */
static void memory_returns(void **state)
{
	struct xf_sad *sad = sas_sad(0);
	const unsigned n = 20000;
	struct xf_sa **sas = malloc(n * sizeof(*sas));

	(void)state;
	for (unsigned i = 0; i < n; i++) {
		struct xf_sa_config cfg = sas_config(1, 2, 1 + i);

		cfg.reqid = i;
		if (i % 2)
			assert_int_equal(sas_alloc(sad, &cfg, 0xc0000000, 0xcfffffff, &sas[i]), 0);
		else
			sas[i] = sas_add(sad, &cfg);
	}
	assert_int_equal(buckets_of(sad, XF_SA_BY_ENDS), 8192);
	assert_int_equal(buckets_of(sad, XF_SA_BY_SPI), 4096);
	assert_int_equal(atomic_load(&sad->gates.array)->count, 16384);
	assert_non_null(atomic_load(&sad->seats.chunks[8]));
	for (unsigned i = 0; i < n - 10; i++)
		assert_int_equal(xf_sad_del(sad, sas[(i * 7919ull) % n]), 0);
	xf_rcu_drain();
	xf_sad_trim(sad);
	assert_true(buckets_of(sad, XF_SA_BY_ENDS) <= 16);
	assert_true(sad->slots_max <= 16384);
	for (unsigned i = n - 10; i < n; i++)
		assert_int_equal(xf_sad_del(sad, sas[(i * 7919ull) % n]), 0);
	xf_rcu_drain();
	assert_int_equal(buckets_of(sad, XF_SA_BY_ENDS), 4);
	/* Gates rest before they are given out again: few of them stay. */
	assert_int_equal(atomic_load(&sad->gates.array)->count, 16384);
	assert_non_null(atomic_load(&sad->seats.chunks[0]));
	for (unsigned i = 1; i < XF_SEAT_CHUNKS; i++)
		assert_null(atomic_load(&sad->seats.chunks[i]));
	free(sas);
	xf_sad_free(sad);
}

/* Ten thousand between the same ends, told apart by interface, mark or nothing but their SPIs. */
static void keys_are_hashed_whole(void **state)
{
	struct xf_sad *sad = sas_sad(0);

	(void)state;
	for (uint32_t i = 0; i < 3000; i++) {
		struct xf_sa_config cfg = sas_config(1, 2, 1 + i);

		if (i % 3 == 0)
			cfg.if_id = i;
		else if (i % 3 == 1)
			cfg.terms.mark = (struct xf_mark){ .v = i, .m = UINT32_MAX };
		sas_add(sad, &cfg);
	}
	/* One key for each of the first two thousand and one for all others, and for if_id 0. */
	assert_int_equal(sad->tables[XF_SA_BY_ENDS].entries, 1000 + 1000);
	assert_int_equal(sad->tables[XF_SA_BY_SPI].entries, 3000);
	assert_int_equal(sad->tables[XF_SA_BY_ADDR].entries, 0);
	assert_int_equal(atomic_load(&sad->nmasks), 1);
	xf_sad_free(sad);
}

/* Every SPI leads to its gate, and no two gates have one in common. */
static void spis_lead_to_their_gates(void **state)
{
	const uint32_t numbers[] = { 0, 1, 2, 3, 1000, 65535, 65536, (1u << XF_GATE_BITS) - 1 };
	struct xf_sad *sad = sas_sad(0);
	struct xf_gates other;

	(void)state;
	xf_gates_init(&other, (const uint64_t[]){ 11, 23 });
	for (unsigned i = 0; i < XF_ARRAY_SIZE(numbers); i++) {
		unsigned low = 0, same = 0;

		for (uint32_t choice = 0; choice < XF_GATE_CHOICES; choice++) {
			uint32_t spi = xf_gate_spi(&sad->gates, numbers[i], choice);

			assert_int_equal(xf_gate_of(&sad->gates, spi), numbers[i]);
			low += spi < 1u << 31;
			same += spi == xf_gate_spi(&other, numbers[i], choice);
		}
		/* Of 1,024 throws of a coin: eight standard deviations. */
		assert_in_range(low, 512 - 128, 512 + 128);
		assert_in_range(same, 0, 1);
	}
	xf_sad_free(sad);
}

/* What an outsider could try: neighbours of an SPI are no likelier to be taken than others. */
static void spis_have_no_neighbours(void **state)
{
	struct xf_sa_config cfg = sas_config(1, 2, 0);
	struct xf_sad *sad = sas_sad(0);
	unsigned near = 0, upper = 0;
	uint32_t spis[2000];

	(void)state;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(spis); i++) {
		struct xf_sa *sa;

		cfg.reqid = i;
		assert_int_equal(sas_alloc(sad, &cfg, 0xc0000000, 0xcfffffff, &sa), 0);
		spis[i] = xf_sa_cfg(sa)->id.spi;
		assert_in_range(spis[i], 0xc0000000, 0xcfffffff);
		assert_int_not_equal(sa->links.gate, 0);
		upper += spis[i] >= 0xc8000000;
	}
	for (unsigned i = 0; i < XF_ARRAY_SIZE(spis); i++) {
		for (unsigned j = 0; j < i; j++)
			near += spis[i] - spis[j] + 64 <= 128;
	}
	/* Two million pairs, of which 2^-21 each would be as near: one is expected. */
	assert_in_range(near, 0, 8);
	assert_in_range(upper, 1000 - 200, 1000 + 200);
	xf_sad_free(sad);
}

/* A number is given once, whichever way it is chosen, and whoever chose it. */
static void spis_are_given_once(void **state)
{
	struct xf_sa_config cfg = sas_config(1, 2, 0);
	struct xf_sad *sad = sas_sad(0);
	uint32_t left = 0;
	struct xf_sa *sa;

	(void)state;
	/* By hand, and for another peer: all numbers of the first gate but one. */
	for (uint32_t choice = 0; choice < XF_GATE_CHOICES; choice++) {
		uint32_t spi = xf_gate_spi(&sad->gates, 0, choice);
		const struct xf_sa_config other = sas_config(1, 3, spi);

		if (spi < 0xc0000000 || spi > 0xcfffffff)
			continue;
		if (left)
			sas_add(sad, &other);
		else
			left = spi;
	}
	assert_int_equal(sas_alloc(sad, &cfg, 0xc0000000, 0xcfffffff, &sa), 0);
	assert_int_equal(xf_sa_cfg(sa)->id.spi, left);
	assert_int_equal(sa->links.gate, 1);
	cfg.reqid = 1;
	assert_int_equal(sas_alloc(sad, &cfg, left, left, &sa), -ENOENT);
	cfg.id.proto = XF_IPPROTO_AH;
	assert_int_equal(sas_alloc(sad, &cfg, left, left, &sa), 0);
	xf_sad_free(sad);
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/*
 * What is still under way to an SA does not meet the next one: of a million SAs that came and went,
 * one after the other, no SPI came back within a hundred thousand.
 */
static void spis_come_back_late(void **state)
{
	struct xf_sa_config cfg = sas_config(1, 2, 0);
	struct xf_sad *sad = sas_sad(0);
	const uint32_t n = 1000000;
	uint64_t *seen = malloc(n * sizeof(*seen));

	(void)state;
	for (uint32_t i = 0; i < n; i++) {
		struct xf_sa *sa;

		assert_int_equal(sas_alloc(sad, &cfg, 0xc0000000, 0xcfffffff, &sa), 0);
		seen[i] = (uint64_t)xf_sa_cfg(sa)->id.spi << 32 | i;
		assert_int_not_equal(sa->links.gate, 0);
		assert_int_equal(xf_sad_del(sad, sa), 0);
		if (i % 64 == 0)
			xf_rcu_drain();
	}
	assert_true(atomic_load(&sad->gates.array)->count <= XF_GATES_KEPT);
	qsort(seen, n, sizeof(*seen), by_value);
	for (uint32_t i = 1; i < n; i++) {
		if (seen[i] >> 32 == seen[i - 1] >> 32)
			assert_true(seen[i] - seen[i - 1] > XF_GATE_RESTING);
	}
	free(seen);
	xf_sad_free(sad);
}

/* Until so many others were given back or taken, and when there were more than are kept, too. */
static void gates_rest(void **state)
{
	enum { TIDES = 6, MOST = XF_GATES_KEPT + 60000 };
	uint32_t *taken = malloc(MOST * sizeof(*taken));
	struct {
		uint64_t gives, takes; /* when it was given back */
	} now = { 0 }, *given = calloc(2 * MOST, sizeof(*given));
	uint64_t seed = sas_seed(15);
	struct xf_gates gates;

	(void)state;
	xf_gates_init(&gates, (const uint64_t[]){ 1, 2 });
	for (unsigned tide = 0; tide < TIDES; tide++) {
		uint32_t high = tide % 2 ? 1 + (uint32_t)(sas_random(&seed) % 1000) : MOST, n = 0;

		while (n < high) {
			uint32_t gate = xf_gate_take(&gates);

			assert_true(gate < 2 * MOST);
			if (given[gate].gives)
				assert_true(now.gives - given[gate].gives >= XF_GATE_RESTING ||
					    now.takes - given[gate].takes >= XF_GATE_RESTING);
			taken[n++] = gate;
			now.takes++;
		}
		for (; n; n--) {
			uint32_t i = (uint32_t)(sas_random(&seed) % n), gate = taken[i];

			taken[i] = taken[n - 1];
			xf_gate_give(&gates, gate);
			now.gives++;
			given[gate].gives = now.gives;
			given[gate].takes = now.takes;
		}
		assert_true(atomic_load(&gates.array)->count <= XF_GATES_KEPT);
	}
	xf_rcu_drain();
	xf_gates_fini(&gates);
	free(given);
	free(taken);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(crowded_buckets),
		cmocka_unit_test(memory_returns),
		cmocka_unit_test(keys_are_hashed_whole),
		cmocka_unit_test(spis_lead_to_their_gates),
		cmocka_unit_test(spis_have_no_neighbours),
		cmocka_unit_test(spis_are_given_once),
		cmocka_unit_test(spis_come_back_late),
		cmocka_unit_test(gates_rest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
