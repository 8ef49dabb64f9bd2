#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <xf/frag.h>

#include "packets.h"

static struct xf_pool *pool;
static struct xf_frag_table *table;
static struct xf_pktq dropped;
static uint64_t now_ns;

static int setup(void **state)
{
	(void)state;
	pool = packets_pool();
	now_ns = 0;
	return 0;
}

static void open_table(uint32_t datagrams, uint32_t fragments, uint64_t bytes)
{
	const struct xf_frag_config cfg = { .datagrams = datagrams,
					    .fragments = fragments,
					    .bytes = bytes,
					    .timeout_ns = 30,
					    .seed = { 5, 6 } };

	table = xf_frag_new(&cfg);
	assert_non_null(table);
}

static unsigned free_dropped(void)
{
	unsigned n = dropped.count;
	struct xf_pkt *pkt;

	while ((pkt = xf_pktq_pop(&dropped)))
		xf_pkt_free(pkt);
	return n;
}

/* What the table holds, it frees itself. */
static int teardown(void **state)
{
	(void)state;
	free_dropped();
	xf_frag_free(table);
	table = NULL;
	packets_pool_done(pool);
	return 0;
}

struct piece {
	uint16_t family;
	uint16_t id;
	uint32_t off;
	uint32_t len;
	bool more;
	bool df;
	uint8_t tos;
};

/* A fragment whose payload is its offset's low byte. */
static struct xf_pkt *piece(const struct piece *p)
{
	static uint8_t bytes[65600];
	bool v4 = p->family == XF_AF_INET;
	struct test_ip ip = { .family = p->family,
			      .proto = v4 ? XF_IPPROTO_UDP : XF_IPPROTO_FRAGMENT,
			      .df = p->df,
			      .tos = p->tos,
			      .id = p->id };
	uint32_t frag_len = v4 ? 0 : 8;
	uint32_t hdr_len = packets_ip(bytes, &ip, frag_len + p->len);
	uint8_t *frag = bytes + hdr_len;

	if (v4) {
		xf_put_be16(bytes + 6, (uint16_t)((p->df ? XF_IPV4_DF : 0) |
						  (p->more ? XF_IPV4_MF : 0) | p->off / 8));
		xf_ipv4_set_csum(bytes, hdr_len);
	} else {
		frag[0] = XF_IPPROTO_UDP;
		frag[1] = 0;
		xf_put_be16(frag + 2, (uint16_t)(p->off | p->more));
		xf_put_be32(frag + 4, p->id);
	}
	memset(frag + frag_len, (int)(p->off / 8), p->len);
	return packets_new(pool, SHAPE_OWN, bytes, hdr_len + frag_len + p->len);
}

/* Give one fragment to the table; the caller's packet is freed on an error. */
static enum xf_drop give(const struct piece *p, struct xf_pkt **out)
{
	struct xf_pkt *pkt = piece(p);
	struct xf_ip_info ip;
	enum xf_drop err;

	assert_int_equal(xf_ip_parse(pkt, true, &ip), 0);
	err = xf_frag_in(table, pkt, &ip, now_ns, out, &dropped);
	if (err != XF_PASS)
		xf_pkt_free(pkt);
	return err;
}

static enum xf_drop give_v4(uint16_t id, uint32_t off, uint32_t len, bool more, struct xf_pkt **out)
{
	return give(&(struct piece){ XF_AF_INET, id, off, len, more, false, 0 }, out);
}

/* A row of fragments of one datagram, what each gives, and what comes out at the end. */
struct row {
	struct piece pieces[4];
	enum xf_drop err[4];
	unsigned dropped;
	uint32_t whole; /* length of what comes out, 0 = nothing */
};

static void edges(void **state)
{
	static const uint16_t v4 = XF_AF_INET, v6 = XF_AF_INET6;
	const struct row rows[] = {
		/* In order, and the other way round. */
		{ { { v4, 1, 0, 8, true, 0, 0 }, { v4, 1, 8, 5, false, 0, 0 } }, { 0 }, 0, 33 },
		{ { { v4, 2, 8, 5, false, 0, 0 }, { v4, 2, 0, 8, true, 0, 0 } }, { 0 }, 0, 33 },
		{ { { v6, 3, 0, 8, true, 0, 0 }, { v6, 3, 8, 5, false, 0, 0 } }, { 0 }, 0, 53 },
		/* No multiple of 8: IPv4 is cut down, IPv6 refused. */
		{ { { v4, 4, 0, 15, true, 0, 0 }, { v4, 4, 8, 5, false, 0, 0 } }, { 0 }, 0, 33 },
		{ { { v6, 5, 0, 15, true, 0, 0 } }, { XF_DROP_FRAG_HDR }, 0, 0 },
		/* Empty ones. */
		{ { { v4, 6, 0, 0, true, 0, 0 } }, { XF_DROP_FRAG_HDR }, 0, 0 },
		{ { { v6, 7, 8, 0, false, 0, 0 } }, { XF_DROP_FRAG_HDR }, 0, 0 },
		/* Repeated, and part of what is there: ignored. */
		{ { { v4, 8, 0, 16, true, 0, 0 },
		    { v4, 8, 0, 16, true, 0, 0 },
		    { v4, 8, 8, 8, true, 0, 0 },
		    { v4, 8, 16, 8, false, 0, 0 } },
		  { 0, XF_DROP_FRAG_OVERLAP, XF_DROP_FRAG_OVERLAP, 0 },
		  0,
		  44 },
		/* Overlaps at either end, and around: the datagram is gone. */
		{ { { v4, 9, 8, 16, true, 0, 0 }, { v4, 9, 0, 16, true, 0, 0 } },
		  { 0, XF_DROP_FRAG_OVERLAP },
		  1,
		  0 },
		{ { { v6, 10, 8, 16, true, 0, 0 }, { v6, 10, 16, 16, true, 0, 0 } },
		  { 0, XF_DROP_FRAG_OVERLAP },
		  1,
		  0 },
		{ { { v4, 11, 8, 8, true, 0, 0 }, { v4, 11, 0, 24, true, 0, 0 } },
		  { 0, XF_DROP_FRAG_OVERLAP },
		  1,
		  0 },
		{ { { v4, 12, 0, 8, true, 0, 0 },
		    { v4, 12, 16, 8, true, 0, 0 },
		    { v4, 12, 0, 24, true, 0, 0 } },
		  { 0, 0, XF_DROP_FRAG_OVERLAP },
		  2,
		  0 },
		/* Two ends, an end before what is there, something behind the end. */
		{ { { v4, 13, 16, 8, false, 0, 0 }, { v4, 13, 24, 8, false, 0, 0 } },
		  { 0, XF_DROP_FRAG_HDR },
		  1,
		  0 },
		{ { { v4, 14, 16, 8, true, 0, 0 }, { v4, 14, 8, 8, false, 0, 0 } },
		  { 0, XF_DROP_FRAG_HDR },
		  1,
		  0 },
		{ { { v4, 15, 8, 8, false, 0, 0 }, { v4, 15, 16, 8, true, 0, 0 } },
		  { 0, XF_DROP_FRAG_HDR },
		  1,
		  0 },
		/* Longer than IP can say: by the header, exactly, and by one. */
		{ { { v4, 16, 65504, 12, false, 0, 0 } }, { XF_DROP_FRAG_HDR }, 0, 0 },
		{ { { v4, 17, 65504, 11, false, 0, 0 } }, { 0 }, 0, 0 },
		{ { { v6, 18, 65528, 8, false, 0, 0 } }, { XF_DROP_FRAG_HDR }, 0, 0 },
		{ { { v6, 19, 65528, 7, false, 0, 0 } }, { 0 }, 0, 0 },
		/* CE wins over ECT; Not-ECT mixes with nothing. */
		{ { { v4, 20, 0, 8, true, 0, 3 }, { v4, 20, 8, 5, false, 0, 3 } }, { 0 }, 0, 33 },
		{ { { v4, 21, 0, 8, true, 0, 0 }, { v4, 21, 8, 5, false, 0, 3 } }, { 0 }, 2, 0 },
		{ { { v6, 22, 0, 8, true, 0, 1 }, { v6, 22, 8, 5, false, 0, 0 } }, { 0 }, 2, 0 },
	};

	(void)state;
	open_table(64, 8, 1 << 20);
	for (size_t i = 0; i < XF_ARRAY_SIZE(rows); i++) {
		const struct row *row = &rows[i];
		struct xf_pkt *out = NULL;

		for (int k = 0; k < 4 && row->pieces[k].family; k++) {
			assert_null(out);
			assert_int_equal(give(&row->pieces[k], &out), row->err[k]);
		}
		assert_int_equal(out ? out->len : 0, row->whole);
		assert_int_equal(free_dropped(), row->dropped);
		xf_pkt_free(out);
	}
}

static void header_of_the_whole(void **state)
{
	static const struct {
		uint16_t family;
		uint8_t tos1, tos2, want_tos;
		bool df1, df2, want_df;
	} cases[] = {
		{ XF_AF_INET, 0xb9, 0xbb, 0xbb, 0, 0, 0 },
		{ XF_AF_INET, 0xba, 0xba, 0xba, 1, 1, 1 },
		/* The first is the larger one: only its DF counts. */
		{ XF_AF_INET, 0, 0, 0, 1, 0, 1 },
		{ XF_AF_INET, 0, 0, 0, 0, 1, 0 },
		{ XF_AF_INET6, 0xb9, 0xbb, 0xbb, 0, 0, 1 },
		{ XF_AF_INET6, 0xbb, 0xba, 0xbb, 0, 0, 1 },
	};

	(void)state;
	open_table(64, 8, 1 << 20);
	for (size_t i = 0; i < XF_ARRAY_SIZE(cases); i++) {
		uint16_t id = (uint16_t)i;
		struct piece first = {
			cases[i].family, id, 0, 16, true, cases[i].df1, cases[i].tos1
		};
		struct piece last = {
			cases[i].family, id, 16, 8, false, cases[i].df2, cases[i].tos2
		};
		uint32_t hdr_len = cases[i].family == XF_AF_INET ? 20 : 40;
		struct xf_ip_info ip;
		struct xf_pkt *out;

		assert_int_equal(give(&first, &out), XF_PASS);
		assert_int_equal(give(&last, &out), XF_PASS);
		assert_int_equal(xf_ip_parse(out, true, &ip), 0);
		assert_false(ip.is_frag);
		assert_int_equal(ip.total_len, hdr_len + 24);
		assert_int_equal(ip.total_len, out->len);
		assert_int_equal(ip.proto, XF_IPPROTO_UDP);
		assert_int_equal(ip.tos, cases[i].want_tos);
		assert_int_equal(ip.df, cases[i].want_df);
		assert_int_equal(ip.frag_hdr_off, 0);
		assert_int_equal(out->mtu, hdr_len + (cases[i].family == XF_AF_INET ? 16 : 24));
		xf_pkt_free(out);
	}
}

static void bounds(void **state)
{
	struct xf_pkt *out;

	(void)state;
	/* Two datagrams: the third pushes the oldest out. */
	open_table(2, 3, 1 << 20);
	assert_int_equal(give_v4(1, 0, 8, true, &out), XF_PASS);
	assert_int_equal(give_v4(2, 0, 8, true, &out), XF_PASS);
	assert_int_equal(give_v4(3, 0, 8, true, &out), XF_PASS);
	assert_int_equal(free_dropped(), 1);
	assert_int_equal(give_v4(2, 8, 8, false, &out), XF_PASS);
	assert_non_null(out);
	xf_pkt_free(out);
	/* Three fragments: the fourth ends the datagram. */
	assert_int_equal(give_v4(3, 16, 8, true, &out), XF_PASS);
	assert_int_equal(give_v4(3, 32, 8, true, &out), XF_PASS);
	assert_int_equal(give_v4(3, 48, 8, true, &out), XF_DROP_FRAG_LIMIT);
	assert_int_equal(free_dropped(), 3);
	xf_frag_free(table);

	/* Bytes: two small buffers. */
	open_table(8, 8, 2 * XF_POOL_SMALL);
	assert_int_equal(give_v4(1, 0, 8, true, &out), XF_PASS);
	assert_int_equal(give_v4(2, 0, 8, true, &out), XF_PASS);
	assert_int_equal(free_dropped(), 0);
	assert_int_equal(give_v4(3, 0, 8, true, &out), XF_PASS);
	assert_int_equal(free_dropped(), 1);
	assert_int_equal(give_v4(3, 8, 6000, false, &out), XF_DROP_FRAG_LIMIT);
	assert_int_equal(free_dropped(), 0);
	assert_int_equal(give_v4(3, 8, 8, false, &out), XF_PASS);
	assert_non_null(out);
	assert_int_equal(free_dropped(), 1);
	xf_pkt_free(out);
}

static void timeouts(void **state)
{
	struct xf_pkt *out;

	(void)state;
	open_table(8, 8, 1 << 20);
	assert_true(xf_frag_expire(table, 0, &dropped) == UINT64_MAX);
	assert_int_equal(give_v4(1, 0, 8, true, &out), XF_PASS);
	now_ns = 10;
	assert_int_equal(give_v4(2, 0, 8, true, &out), XF_PASS);
	/* A later fragment does not prolong it. */
	assert_int_equal(give_v4(1, 16, 8, true, &out), XF_PASS);
	assert_true(xf_frag_expire(table, 29, &dropped) == 30);
	assert_int_equal(free_dropped(), 0);
	assert_true(xf_frag_expire(table, 30, &dropped) == 40);
	assert_int_equal(free_dropped(), 2);
	/* Too late, even when nobody has looked at the clock in between. */
	now_ns = 40;
	assert_int_equal(give_v4(2, 8, 8, false, &out), XF_PASS);
	assert_null(out);
	assert_int_equal(free_dropped(), 1);
}

/* What keeps datagrams apart: addresses, id, family, and for IPv4 the protocol. */
static void keys(void **state)
{
	struct piece p = { XF_AF_INET, 7, 0, 8, true, false, 0 };
	struct xf_ip_info ip;
	struct xf_pkt *pkt;
	struct xf_pkt *out;

	(void)state;
	open_table(8, 8, 1 << 20);
	assert_int_equal(give(&p, &out), XF_PASS);
	p.off = 8;
	p.more = false;
	for (int i = 0; i < 4; i++) {
		pkt = piece(&p);
		assert_int_equal(xf_ip_parse(pkt, true, &ip), 0);
		ip.proto = i == 0 ? XF_IPPROTO_TCP : ip.proto;
		ip.saddr.bytes[3] ^= i == 1;
		ip.daddr.bytes[3] ^= i == 2;
		ip.frag_id ^= i == 3;
		assert_int_equal(xf_frag_in(table, pkt, &ip, 0, &out, &dropped), XF_PASS);
		assert_null(out);
	}
	assert_int_equal(give(&p, &out), XF_PASS);
	assert_non_null(out);
	xf_pkt_free(out);
}

static void cut(uint32_t mtu, uint32_t len, bool df, uint32_t pkt_mtu, struct xf_pktq *out,
		enum xf_drop want)
{
	uint8_t bytes[3000];
	struct test_ip ip = { .family = XF_AF_INET, .proto = XF_IPPROTO_UDP, .df = df, .id = 77 };
	uint32_t hdr_len = packets_ip(bytes, &ip, len);
	struct xf_ip_info info;
	struct xf_pkt *pkt;

	packets_fill(bytes + hdr_len, len);
	pkt = packets_new(pool, SHAPE_OWN, bytes, hdr_len + len);
	pkt->mtu = pkt_mtu;
	assert_int_equal(xf_ip_parse(pkt, true, &info), 0);
	assert_int_equal(xf_frag_cut(pkt, &info, mtu, 5, out), want);
	if (want != XF_PASS)
		xf_pkt_free(pkt);
}

static void cutting(void **state)
{
	struct xf_pktq out = { .count = 0 };
	struct xf_ip_info info;
	struct xf_pkt *pkt;

	(void)state;
	cut(27, 100, false, 0, &out, XF_DROP_OUT_TOO_BIG);
	assert_int_equal(out.count, 0);
	cut(28, 16, false, 0, &out, XF_PASS);
	assert_int_equal(out.count, 2);
	xf_pkt_free(xf_pktq_pop(&out));
	/* A fragment that is cut again stays where it was, and more follows the last one. */
	pkt = piece(&(struct piece){ XF_AF_INET, 9, 80, 64, true, false, 0 });
	xf_pkt_free(xf_pktq_pop(&out));
	assert_int_equal(xf_ip_parse(pkt, true, &info), 0);
	assert_int_equal(xf_frag_cut(pkt, &info, 60, 5, &out), XF_PASS);
	for (uint32_t off = 80; off < 144; off += 40) {
		pkt = xf_pktq_pop(&out);
		assert_int_equal(xf_ip_parse(pkt, true, &info), 0);
		assert_true(info.frag_off == off && info.more_frags && info.frag_id == 9);
		xf_pkt_free(pkt);
	}
	pkt = piece(&(struct piece){ XF_AF_INET6, 9, 80, 64, true, false, 0 });
	assert_int_equal(xf_ip_parse(pkt, true, &info), 0);
	assert_int_equal(xf_frag_cut(pkt, &info, 88, 5, &out), XF_PASS);
	assert_int_equal(out.count, 2);
	for (uint32_t off = 80; off < 144; off += 40) {
		pkt = xf_pktq_pop(&out);
		assert_int_equal(xf_ip_parse(pkt, true, &info), 0);
		assert_true(info.frag_off == off && info.more_frags && info.frag_id == 9);
		xf_pkt_free(pkt);
	}
	/* DF stays only on what came in fragments with DF. */
	for (uint32_t mtu = 0; mtu < 2; mtu++) {
		cut(100, 100, true, mtu, &out, XF_PASS);
		while ((pkt = xf_pktq_pop(&out))) {
			assert_int_equal(xf_ip_parse(pkt, true, &info), 0);
			assert_int_equal(info.df, mtu);
			xf_pkt_free(pkt);
		}
	}
}

/* Options with the copied bit are in all fragments, the others in the first (RFC 791 s3.1). */
static void options(void **state)
{
	static const uint8_t given[12] = { 7, 3, 4, 0x83, 3, 4, 1, 0x94, 4, 0, 0, 0 };
	static const uint8_t later[12] = { 1, 1, 1, 0x83, 3, 4, 1, 0x94, 4, 0, 0, 0 };
	uint8_t bytes[100] = { 0 };
	struct test_ip ip = { .family = XF_AF_INET, .proto = XF_IPPROTO_UDP };
	struct xf_pktq out = { .count = 0 };
	struct xf_ip_info info;
	struct xf_pkt *pkt;

	(void)state;
	packets_ip(bytes, &ip, 80);
	memcpy(bytes + 20, given, 12);
	bytes[0] = 0x48;
	xf_ipv4_set_csum(bytes, 32);
	pkt = packets_new(pool, SHAPE_OWN, bytes, 100);
	assert_int_equal(xf_ip_parse(pkt, true, &info), 0);
	assert_int_equal(xf_frag_cut(pkt, &info, 64, 5, &out), XF_PASS);
	assert_int_equal(out.count, 3);
	for (int i = 0; i < 3; i++) {
		uint8_t hdr[32];

		pkt = xf_pktq_pop(&out);
		assert_int_equal(xf_ip_parse(pkt, true, &info), 0);
		xf_pkt_copy_out(pkt, 0, hdr, 32);
		assert_memory_equal(hdr + 20, i ? later : given, 12);
		xf_pkt_free(pkt);
	}
}

/* Without buffers nothing has happened: the packet is the caller's, no piece is out. */
static void cut_without_buffers(void **state)
{
	const struct xf_pool_config cfg = { .packets = 8, .small_bufs = 4 };
	struct xf_pool *small = xf_pool_new(&cfg);
	struct xf_pkt *pkt = xf_pkt_new(small, 1000);
	struct test_ip ip = { .family = XF_AF_INET, .proto = XF_IPPROTO_UDP };
	uint8_t *bytes = xf_pkt_append(pkt, 1000);
	struct xf_pktq out = { .count = 0 };
	struct xf_pool_stats stats;
	struct xf_ip_info info;

	(void)state;
	memset(bytes, 0, 1000);
	packets_ip(bytes, &ip, 980);
	assert_int_equal(xf_ip_parse(pkt, true, &info), 0);
	assert_int_equal(xf_frag_cut(pkt, &info, 200, 5, &out), XF_DROP_OUT_NO_BUFFER);
	assert_int_equal(out.count, 0);
	assert_int_equal(pkt->len, 1000);
	xf_pkt_free(pkt);
	xf_pool_get_stats(small, &stats);
	assert_int_equal(stats.packets_free, 8);
	assert_int_equal(stats.small_free, 4);
	xf_pool_free(small);
}

/* All is there, but no buffer for the header, which another packet shares: all of it is dropped. */
static void whole_without_buffers(void **state)
{
	const struct xf_pool_config cfg = { .packets = 4, .small_bufs = 2 };
	struct xf_pool *small = xf_pool_new(&cfg);
	struct test_ip ip = { .family = XF_AF_INET, .proto = XF_IPPROTO_UDP };
	struct xf_pkt *sharer = NULL;
	struct xf_pool_stats stats;

	(void)state;
	open_table(2, 3, 1 << 20);
	for (uint16_t i = 0; i < 2; i++) {
		struct xf_pkt *pkt = xf_pkt_new(small, 28);
		uint8_t *bytes = xf_pkt_append(pkt, 28);
		struct xf_ip_info info;
		struct xf_pkt *out;

		memset(bytes, 0, 28);
		packets_ip(bytes, &ip, 8);
		xf_put_be16(bytes + 6, i ? 1 : XF_IPV4_MF);
		xf_ipv4_set_csum(bytes, 20);
		if (i == 0)
			sharer = xf_pkt_slice(pkt, 0, 28);
		assert_int_equal(xf_ip_parse(pkt, true, &info), 0);
		assert_int_equal(xf_frag_in(table, pkt, &info, 0, &out, &dropped), XF_PASS);
		assert_null(out);
		assert_int_equal(dropped.count, i ? 2 : 0);
	}
	free_dropped();
	xf_pkt_free(sharer);
	xf_pool_get_stats(small, &stats);
	assert_int_equal(stats.packets_free, 4);
	assert_int_equal(stats.small_free, 2);
	xf_pool_free(small);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(edges),
		TEST(header_of_the_whole),
		TEST(bounds),
		TEST(timeouts),
		TEST(keys),
		TEST(cutting),
		TEST(options),
		TEST(cut_without_buffers),
		TEST(whole_without_buffers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
