/*
 * Packets against a flat array: random operations, the same bytes expected from both.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <xf/ip.h>
#include <xf/pkt.h>

#include "pkt/pkt_test.h"

static struct xf_pool *make_pool(bool shared)
{
	const struct xf_pool_config cfg = {
		.packets = 64,
		.small_bufs = 64,
		.large_bufs = 8,
		.shared = shared,
	};
	struct xf_pool *pool = xf_pool_new(&cfg);

	assert_non_null(pool);
	return pool;
}

static struct xf_pool *new_pool(void)
{
	return make_pool(false);
}

static void assert_pool_full(struct xf_pool *pool)
{
	struct xf_pool_stats stats;

	xf_pool_get_stats(pool, &stats);
	assert_int_equal(stats.packets_free, 64);
	assert_int_equal(stats.small_free, 64);
	assert_int_equal(stats.large_free, 8);
}

struct flat {
	uint8_t bytes[8192];
	uint32_t len;
};

static void flat_insert(struct flat *flat, uint32_t off, const uint8_t *data, uint32_t len)
{
	memmove(flat->bytes + off + len, flat->bytes + off, flat->len - off);
	memcpy(flat->bytes + off, data, len);
	flat->len += len;
}

static void flat_remove(struct flat *flat, uint32_t off, uint32_t len)
{
	memmove(flat->bytes + off, flat->bytes + off + len, flat->len - off - len);
	flat->len -= len;
}

static void assert_same(const struct xf_pkt *pkt, const struct flat *flat)
{
	uint8_t copy[8192];

	assert_int_equal(pkt->len, flat->len);
	assert_int_equal(xf_pkt_copy_out(pkt, 0, copy, pkt->len), 0);
	assert_memory_equal(copy, flat->bytes, flat->len);
	assert_int_equal(xf_csum_fold(xf_pkt_csum(pkt, 0, pkt->len, 0)),
			 xf_csum_fold(xf_csum_add(0, flat->bytes, flat->len)));
}

static uint32_t below(uint32_t n)
{
	return n ? (uint32_t)rand() % n : 0;
}

static void fill(uint8_t *p, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++)
		p[i] = (uint8_t)rand();
}

/* One random operation on both; the shared slices of @held must never change. */
static void step(struct xf_pkt *pkt, struct flat *flat)
{
	uint8_t data[600];
	uint32_t len = 1 + below(60);
	uint32_t off = below(xf_min_u32(flat->len, 200) + 1);
	uint8_t *p;

	fill(data, len);
	switch (below(7)) {
	case 0:
		if ((p = xf_pkt_prepend(pkt, len))) {
			memcpy(p, data, len);
			flat_insert(flat, 0, data, len);
		}
		break;
	case 1:
		if ((p = xf_pkt_append(pkt, len))) {
			memcpy(p, data, len);
			flat_insert(flat, flat->len, data, len);
		}
		break;
	case 2:
		if ((p = xf_pkt_insert(pkt, off, len))) {
			memcpy(p, data, len);
			flat_insert(flat, off, data, len);
		}
		break;
	case 3:
		if (off + len <= flat->len && xf_pkt_remove(pkt, off, len) == 0)
			flat_remove(flat, off, len);
		break;
	case 4:
		len = xf_min_u32(len, flat->len);
		xf_pkt_trim_front(pkt, len);
		flat_remove(flat, 0, len);
		break;
	case 5:
		len = xf_min_u32(len, flat->len);
		xf_pkt_trim_back(pkt, len);
		flat_remove(flat, flat->len - len, len);
		break;
	case 6:
		if (off + len <= flat->len && (p = xf_pkt_writable(pkt, off, len))) {
			memcpy(p, data, len);
			memcpy(flat->bytes + off, data, len);
		}
		break;
	}
}

static void random_operations(void **state)
{
	struct xf_pool *pool = new_pool();
	unsigned seed = 20171108;

	(void)state;
	print_message("# seed %u\n", seed);
	srand(seed);
	for (int round = 0; round < 3000; round++) {
		struct xf_pkt *pkt = xf_pkt_new(pool, 1500);
		struct xf_pkt *held = NULL;
		struct flat flat = { .len = 1 + below(1500) };
		struct flat frozen;

		fill(flat.bytes, flat.len);
		memcpy(xf_pkt_append(pkt, flat.len), flat.bytes, flat.len);
		for (int i = 0; i < 30 && flat.len < 6000; i++) {
			if (i == 10) {
				held = xf_pkt_slice(pkt, 0, pkt->len);
				frozen = flat;
			}
			step(pkt, &flat);
			assert_same(pkt, &flat);
		}
		if (held)
			assert_same(held, &frozen);
		xf_pkt_free(held);
		xf_pkt_free(pkt);
		assert_pool_full(pool);
	}
	xf_pool_free(pool);
}

static void foreign_memory_is_not_written(void **state)
{
	struct xf_pool *pool = new_pool();
	static const uint8_t page[256] = { 1, 2, 3 };
	struct xf_buf foreign = { .mem = NULL, .size = sizeof(page), .refs = 1 };
	struct xf_pkt *pkt = xf_pkt_attach(pool, page, sizeof(page), &foreign);
	uint8_t *p;

	(void)state;
	assert_false(xf_pkt_is_own(pkt, 0, 1));
	p = xf_pkt_writable(pkt, 1, 2);
	assert_true(p < page || p >= page + sizeof(page));
	p[0] = 99;
	assert_int_equal(page[1], 2);
	assert_true(xf_pkt_is_own(pkt, 1, 2));
	assert_non_null(xf_pkt_prepend(pkt, 40));
	assert_non_null(xf_pkt_append(pkt, 40));
	assert_int_equal(pkt->len, 336);
	xf_pkt_free(pkt);
	assert_int_equal(foreign.refs, 1);
	assert_pool_full(pool);
	xf_pool_free(pool);
}

/* Side by side in one buffer: each writes its own bytes and has no room around them. */
static void split_packets_own_their_bytes(void **state)
{
	struct xf_pool *pool = new_pool();
	struct xf_pkt *pkt = xf_pkt_new(pool, 300);
	uint8_t *base = xf_pkt_append(pkt, 300);
	struct xf_pkt *front;
	struct xf_pkt *slice;

	(void)state;
	memset(base, 7, 300);
	pkt->mark = 5;
	assert_null(xf_pkt_split_front(pkt, 0));
	assert_null(xf_pkt_split_front(pkt, 300));
	front = xf_pkt_split_front(pkt, 100);
	assert_non_null(front);
	assert_int_equal(front->len, 100);
	assert_int_equal(front->mark, 5);
	assert_int_equal(pkt->len, 200);
	assert_ptr_equal(xf_pkt_writable(front, 99, 1), base + 99);
	assert_ptr_equal(xf_pkt_writable(pkt, 0, 1), base + 100);
	*xf_pkt_append(front, 1) = 1; /* not over the first byte of the other */
	assert_int_equal(base[100], 7);
	*xf_pkt_prepend(pkt, 1) = 1;
	assert_int_equal(base[99], 7);
	slice = xf_pkt_slice(pkt, 1, 10);
	assert_false(xf_pkt_is_own(pkt, 1, 200));
	assert_false(xf_pkt_is_own(slice, 0, 10));
	xf_pkt_free(slice);
	assert_false(xf_pkt_is_own(pkt, 1, 200)); /* two references: who knows whose */
	xf_pkt_free(front);
	assert_true(xf_pkt_is_own(pkt, 1, 200));
	xf_pkt_free(pkt);
	assert_pool_full(pool);
	xf_pool_free(pool);
}

static void empty_pool_changes_nothing(void **state)
{
	const struct xf_pool_config cfg = { .packets = 2, .small_bufs = 1 };
	struct xf_pool *pool = xf_pool_new(&cfg);
	struct xf_pkt *pkt = xf_pkt_new(pool, 100);

	(void)state;
	assert_non_null(pkt);
	assert_null(xf_pkt_new(pool, 100));
	assert_non_null(xf_pkt_append(pkt, 100));
	assert_null(xf_pkt_prepend(pkt, XF_PKT_HEADROOM + 1));
	assert_int_equal(pkt->len, 100);
	assert_int_equal(pkt->nsegs, 1);
	xf_pkt_free(pkt);
	xf_pool_free(pool);
}

static void join_and_linearize(void **state)
{
	struct xf_pool *pool = new_pool();
	struct xf_pkt *pkt = xf_pkt_new(pool, 100);
	struct flat flat = { .len = 0 };
	struct xf_pool_stats stats;

	(void)state;
	for (int i = 0; i < 40; i++) {
		struct xf_pkt *tail = xf_pkt_new(pool, 101);
		uint8_t *p = xf_pkt_append(tail, 101);

		fill(p, 101);
		flat_insert(&flat, flat.len, p, 101);
		assert_int_equal(xf_pkt_join(pkt, tail), 0);
	}
	assert_same(pkt, &flat);
	xf_pool_get_stats(pool, &stats);
	assert_int_equal(stats.lin_copies, 0);
	assert_int_equal(xf_pkt_linearize(pkt), 0);
	assert_int_equal(pkt->nsegs, 1);
	assert_same(pkt, &flat);
	xf_pool_get_stats(pool, &stats);
	assert_int_equal(stats.lin_copies, 1);
	xf_pkt_free(pkt);
	assert_pool_full(pool);
	xf_pool_free(pool);
}

static void queue_some(struct xf_pool *pool, struct xf_pktq *q, unsigned n)
{
	while (n-- > 0) {
		struct xf_pkt *pkt = xf_pkt_new(pool, 100);

		assert_non_null(pkt);
		assert_non_null(xf_pkt_append(pkt, 100));
		xf_pktq_push(q, pkt);
	}
}

static uint32_t packets_free(const struct xf_pool *pool)
{
	struct xf_pool_stats stats;

	xf_pool_get_stats(pool, &stats);
	return stats.packets_free;
}

/* Of two other pools, in the order of their queues and in any other; some are kept back. */
static void packets_of_other_pools_go_home(void **state)
{
	struct xf_pool *here = make_pool(true);
	struct xf_pool *there[] = { make_pool(true), make_pool(true) };
	struct xf_pktq q = { .count = 0 };
	struct xf_pkt *kept[2], *pkt;

	(void)state;
	for (unsigned i = 0; i < 7; i++)
		queue_some(there[i % 2], &q, i + 1);
	queue_some(here, &q, 3);
	xf_pool_enter(here);
	for (unsigned i = 0; i < 2; i++)
		kept[i] = xf_pktq_pop(&q);
	while ((pkt = xf_pktq_pop(&q))) {
		xf_pkt_free(pkt);
		if (q.count == 20)
			xf_pkt_free(kept[1]);
	}
	xf_pkt_free(kept[0]);
	assert_pool_full(here);
	xf_pool_enter(here);
	for (unsigned i = 0; i < 2; i++) {
		/* There they are not seen before their own thread looks. */
		assert_int_equal(packets_free(there[i]), 64 - (i ? 12 : 16));
		xf_pool_enter(there[i]);
		assert_pool_full(there[i]);
	}
	/* Without a pool of one's own each goes home at once. */
	xf_pool_free(here);
	queue_some(there[0], &q, 2);
	xf_pool_free(there[1]);
	while ((pkt = xf_pktq_pop(&q)))
		xf_pkt_free(pkt);
	assert_int_equal(packets_free(there[0]), 62);
	xf_pool_enter(there[0]);
	assert_pool_full(there[0]);
	xf_pool_free(there[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_operations),
		cmocka_unit_test(foreign_memory_is_not_written),
		cmocka_unit_test(split_packets_own_their_bytes),
		cmocka_unit_test(empty_pool_changes_nothing),
		cmocka_unit_test(join_and_linearize),
		cmocka_unit_test(packets_of_other_pools_go_home),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
