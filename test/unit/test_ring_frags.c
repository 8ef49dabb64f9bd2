/* Fragments of the ring: several readers, one table, bounded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <xf/frag.h>
#include <xf/path.h>

#include "io_rig.h"
#include "port/ring_frags.h"

#define READERS 2
#define SEED 20261130

struct rig {
	struct xf_engine *engine;
	struct xf_io *io[READERS];
	struct xf_ring_frags *frags;
	struct xf_pool *wire;
};

static void setup(struct rig *rig)
{
	const struct xf_worker_config worker = {
		.pool = { .packets = 256, .small_bufs = 256, .large_bufs = 16 },
	};
	const struct xf_pool_config wire = { .packets = 256, .small_bufs = 512, .large_bufs = 4 };

	rig->engine = rig_engine();
	for (unsigned i = 0; i < READERS; i++) {
		rig->io[i] = calloc(1, sizeof(*rig->io[i]));
		assert_non_null(rig->io[i]);
		rig->io[i]->worker = xf_worker_new(rig->engine, &worker);
		assert_non_null(rig->io[i]->worker);
		rig->io[i]->pool = xf_worker_pool(rig->io[i]->worker);
		rig->io[i]->now_ns = 1;
	}
	assert_int_equal(xf_ring_frags_new(&rig->frags), 0);
	rig->wire = xf_pool_new(&wire);
	assert_non_null(rig->wire);
}

static void teardown(struct rig *rig)
{
	xf_ring_frags_free(rig->frags);
	for (unsigned i = 0; i < READERS; i++) {
		xf_worker_free(rig->io[i]->worker);
		free(rig->io[i]);
	}
	xf_engine_free(rig->engine);
	xf_pool_free(rig->wire);
}

/* The fragments of an ESP datagram with @len bytes behind its header, and its own bytes. */
static void cut(struct rig *rig, uint16_t id, uint32_t len, uint8_t *bytes, struct xf_pktq *out)
{
	struct xf_pkt *pkt = xf_pkt_new(rig->wire, len + XF_IPV4_HDR_LEN);
	uint8_t *hdr = xf_pkt_append(pkt, len + XF_IPV4_HDR_LEN);
	struct xf_ip_info ip;

	memset(hdr, 0, XF_IPV4_HDR_LEN);
	hdr[0] = 0x45;
	xf_put_be16(hdr + 2, (uint16_t)(len + XF_IPV4_HDR_LEN));
	xf_put_be16(hdr + 4, id);
	hdr[8] = 64;
	hdr[9] = XF_IPPROTO_ESP;
	memcpy(hdr + 12, "\xc0\x00\x02\x01\xc0\x00\x02\x02", 8);
	xf_ipv4_set_csum(hdr, XF_IPV4_HDR_LEN);
	for (uint32_t i = 0; i < len; i++)
		hdr[XF_IPV4_HDR_LEN + i] = (uint8_t)rand();
	memcpy(bytes, hdr, len + XF_IPV4_HDR_LEN);
	assert_int_equal(xf_ip_parse(pkt, true, &ip), 0);
	assert_int_equal(xf_frag_cut(pkt, &ip, 1500, 0, out), XF_PASS);
}

/* As ring.c does: a copy of the reader's own. */
static struct xf_pkt *take(struct rig *rig, unsigned reader, struct xf_pkt *pkt)
{
	struct xf_io *io = rig->io[reader];
	struct xf_pkt *copy = xf_pkt_new(io->pool, pkt->len);

	assert_non_null(copy);
	xf_pkt_copy_out(pkt, 0, xf_pkt_append(copy, pkt->len), pkt->len);
	xf_pkt_free(pkt);
	return xf_ring_frags_take(io, rig->frags, copy);
}

static uint64_t drops(struct rig *rig, enum xf_drop reason)
{
	struct xf_engine_stats stats;

	xf_engine_get_stats(rig->engine, &stats);
	return stats.drops[reason];
}

/* Whoever reads which fragment: the last one makes it whole, for its reader. */
static void datagrams_of_many_readers(void **state)
{
	static uint8_t want[XF_PKT_MAX], got[XF_PKT_MAX];
	struct rig rig;

	(void)state;
	print_message("seed %u\n", SEED);
	srand(SEED);
	setup(&rig);
	for (unsigned turn = 0; turn < 2000; turn++) {
		uint32_t len = 1481 + (uint32_t)rand() % (turn % 50 ? 3000 : 60000);
		struct xf_pktq pieces = { 0 };
		unsigned reader = 0;
		struct xf_pkt *whole = NULL;

		cut(&rig, (uint16_t)turn, len, want, &pieces);
		while (pieces.count) {
			assert_null(whole);
			reader = (unsigned)rand() % READERS;
			whole = take(&rig, reader, xf_pktq_pop(&pieces));
		}
		assert_non_null(whole);
		assert_ptr_equal(whole->pool, rig.io[reader]->pool);
		assert_int_equal(whole->len, len + XF_IPV4_HDR_LEN);
		xf_pkt_copy_out(whole, 0, got, whole->len);
		assert_memory_equal(got, want, whole->len);
		xf_pkt_free(whole);
	}
	teardown(&rig);
}

/* What never becomes whole takes its bounded room, and goes when its time is over. */
static void floods_are_bounded(void **state)
{
	static uint8_t bytes[XF_PKT_MAX];
	struct xf_pktq pieces = { 0 };
	struct xf_pkt *whole = NULL;
	struct rig rig;

	(void)state;
	setup(&rig);
	for (unsigned i = 0; i < 20000; i++) {
		struct xf_pkt *pkt;

		cut(&rig, (uint16_t)i, 1490, bytes, &pieces);
		assert_null(take(&rig, i % READERS, xf_pktq_pop(&pieces)));
		while ((pkt = xf_pktq_pop(&pieces)))
			xf_pkt_free(pkt);
	}
	assert_true(drops(&rig, XF_DROP_FRAG_LIMIT) >= 20000 - 256);
	rig.io[0]->now_ns += 31 * XF_NSEC_PER_SEC;
	cut(&rig, 20001, 1490, bytes, &pieces);
	while (pieces.count)
		whole = take(&rig, 0, xf_pktq_pop(&pieces));
	assert_non_null(whole);
	xf_pkt_free(whole);
	assert_int_equal(drops(&rig, XF_DROP_FRAG_LIMIT) + drops(&rig, XF_DROP_FRAG_TIMEOUT),
			 20000);
	teardown(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(datagrams_of_many_readers),
		cmocka_unit_test(floods_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
