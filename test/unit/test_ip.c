/*
 * IP headers: tables of what a parse must find and what it must refuse, the same answer however
 * the bytes lie in memory, checksums against a naive sum.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <errno.h>
#include <cmocka.h>

#include "packets.h"

static struct xf_pool *pool;

static int setup(void **state)
{
	(void)state;
	pool = packets_pool();
	srand(20171108);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	packets_pool_done(pool);
	return 0;
}

static int parse(const uint8_t *data, uint32_t len, bool check_csum, struct xf_ip_info *info)
{
	struct xf_pkt *pkt = packets_new(pool, SHAPE_CHAIN, data, len);
	int err = xf_ip_parse(pkt, check_csum, info);

	xf_pkt_free(pkt);
	return err;
}

static void flow_of(const uint8_t *data, uint32_t len, bool reverse, struct xf_flow *flow)
{
	struct xf_pkt *pkt = packets_new(pool, SHAPE_CHAIN, data, len);
	struct xf_ip_info info;

	pkt->mark = 7;
	pkt->if_id = 8;
	pkt->oif = 9;
	pkt->uid = 10;
	assert_int_equal(xf_ip_parse(pkt, true, &info), 0);
	xf_ip_flow(pkt, &info, reverse, flow);
	xf_pkt_free(pkt);
}

static void ipv4_fields(void **state)
{
	uint8_t data[64] = { 0x46, 0xb9, 0, 0, 0x12, 0x34, 0x40, 0x00, 63, 17, 0, 0,
			     192,  0,	 2, 1, 198,  51,   100,	 7,    1,  1,  1, 0 };
	struct xf_ip_info info;

	(void)state;
	xf_put_be16(data + 2, 60);
	xf_ipv4_set_csum(data, 24);
	assert_int_equal(parse(data, 64, true, &info), 0);
	assert_int_equal(info.family, XF_AF_INET);
	assert_int_equal(info.proto, XF_IPPROTO_UDP);
	assert_int_equal(info.ttl, 63);
	assert_int_equal(info.tos, 0xb9);
	assert_true(info.df);
	assert_false(info.is_frag);
	assert_int_equal(info.frag_id, 0x1234);
	assert_int_equal(info.hdr_len, 24);
	assert_int_equal(info.l4_off, 24);
	assert_int_equal(info.ah_esp_off, 24);
	assert_int_equal(info.nexthdr_field, 9);
	assert_int_equal(info.l4_nexthdr_field, 9);
	assert_int_equal(info.total_len, 60);
	assert_int_equal(xf_get_be32(info.saddr.bytes), 0xc0000201);
	assert_int_equal(xf_get_be32(info.daddr.bytes), 0xc6336407);
}

static void ipv4_fragments(void **state)
{
	static const struct {
		uint16_t field;
		bool is_frag, more, df;
		uint32_t off;
	} rows[] = {
		{ 0x0000, false, false, false, 0 },   { 0x4000, false, false, true, 0 },
		{ 0x8000, false, false, false, 0 }, /* the reserved bit says nothing */
		{ 0x2000, true, true, false, 0 },     { 0x0001, true, false, false, 8 },
		{ 0x3fff, true, true, false, 65528 }, { 0x6010, true, true, true, 128 },
	};

	(void)state;
	for (size_t i = 0; i < XF_ARRAY_SIZE(rows); i++) {
		struct test_ip ip = { .family = XF_AF_INET, .proto = 17 };
		uint8_t data[28] = { 0 };
		struct xf_ip_info info;

		packets_ip(data, &ip, 8);
		xf_put_be16(data + 6, rows[i].field);
		xf_ipv4_set_csum(data, 20);
		assert_int_equal(parse(data, 28, true, &info), 0);
		assert_int_equal(info.is_frag, rows[i].is_frag);
		assert_int_equal(info.more_frags, rows[i].more);
		assert_int_equal(info.df, rows[i].df);
		assert_int_equal(info.frag_off, rows[i].off);
	}
}

/* One byte of a good header is changed; the parse must refuse, or accept, as the row says. */
static void ipv4_refused(void **state)
{
	static const struct {
		uint8_t at, value;
		uint32_t len;
		bool fix_csum;
		int err;
	} rows[] = {
		{ 0, 0x45, 40, true, 0 },
		{ 0, 0x45, 39, true, -EINVAL }, /* shorter than it says */
		{ 0, 0x45, 19, true, -EINVAL },
		{ 0, 0x45, 0, true, -EINVAL },
		{ 0, 0x44, 40, true, -EINVAL }, /* header of 16 bytes */
		{ 0, 0x4b, 40, true, -EINVAL }, /* header longer than the packet */
		{ 0, 0x55, 40, true, -EINVAL },
		{ 0, 0x05, 40, true, -EINVAL },
		{ 3, 19, 40, true, -EINVAL }, /* total length below the header's */
		{ 3, 20, 40, true, 0 },
		{ 3, 41, 40, true, -EINVAL },
		{ 8, 1, 40, false, -EINVAL }, /* checksum */
	};

	(void)state;
	for (size_t i = 0; i < XF_ARRAY_SIZE(rows); i++) {
		struct test_ip ip = { .family = XF_AF_INET, .proto = 6, .ttl = 64 };
		uint8_t data[40] = { 0 };
		struct xf_ip_info info;

		packets_ip(data, &ip, 20);
		data[rows[i].at] = rows[i].value;
		if (rows[i].fix_csum)
			xf_ipv4_set_csum(data, 20);
		print_message("# row %zu\n", i);
		assert_int_equal(parse(data, rows[i].len, true, &info), rows[i].err);
		if (!rows[i].fix_csum)
			assert_int_equal(parse(data, rows[i].len, false, &info), 0);
	}
}

/*
 * Extension headers: h hop-by-hop, r routing, d destination options (8 bytes), D the same of 24
 * bytes, f first fragment, F a later one, a an atomic one; u UDP, e ESP, n nothing.
 */
static uint8_t ext_type(char c)
{
	switch (c) {
	case 'h':
		return XF_IPPROTO_HOPOPTS;
	case 'r':
		return XF_IPPROTO_ROUTING;
	case 'd':
	case 'D':
		return XF_IPPROTO_DSTOPTS;
	case 'f':
	case 'F':
	case 'a':
		return XF_IPPROTO_FRAGMENT;
	case 'u':
		return XF_IPPROTO_UDP;
	case 'e':
		return XF_IPPROTO_ESP;
	default:
		return XF_IPPROTO_NONE;
	}
}

static uint32_t build6(uint8_t *data, const char *chain)
{
	struct test_ip ip = { .family = XF_AF_INET6, .tos = 0xb9, .ttl = 3, .flow_label = 0xabcde };
	uint32_t off = XF_IPV6_HDR_LEN;

	ip.proto = ext_type(chain[0]);
	memset(data + off, 0, 200);
	for (; chain[1]; chain++) {
		uint32_t len = chain[0] == 'D' ? 24 : 8;

		data[off] = ext_type(chain[1]);
		data[off + 1] = chain[0] == 'D' ? 2 : 0;
		if (chain[0] == 'f')
			data[off + 3] = 1;
		if (chain[0] == 'F')
			data[off + 3] = 8;
		off += len;
	}
	packets_ip(data, &ip, off + 16 - XF_IPV6_HDR_LEN);
	return off + 16;
}

static const struct {
	const char *chain;
	uint32_t proto, l4_off, l4_field, esp_off, esp_field, frag_hdr_off;
	bool is_frag;
} chains[] = {
	{ "u", 17, 40, 6, 40, 6, 0, false },
	{ "e", 50, 40, 6, 40, 6, 0, false },
	{ "n", 59, 40, 6, 40, 6, 0, false },
	{ "hu", 17, 48, 40, 48, 40, 0, false },
	{ "Du", 17, 64, 40, 64, 40, 0, false },
	{ "hru", 17, 56, 48, 56, 48, 0, false },
	{ "hrDu", 17, 80, 56, 56, 48, 0, false }, /* options for the last hop are protected */
	{ "hdrdu", 17, 72, 64, 64, 56, 0, false },
	{ "fu", 17, 48, 40, 40, 6, 40, true },
	{ "hau", 17, 56, 48, 48, 40, 48, false },
	{ "hrfDu", 17, 88, 64, 56, 48, 56, true },
	{ "Fu", 17, 48, 40, 40, 6, 40, true },
	/* what follows a later fragment's header is payload, whatever it is named */
	{ "Fdu", 60, 48, 40, 40, 6, 40, true },
	{ "hdrde", 50, 72, 64, 64, 56, 0, false },
};

static void ipv6_chains(void **state)
{
	(void)state;
	for (size_t i = 0; i < XF_ARRAY_SIZE(chains); i++) {
		uint8_t data[256];
		uint32_t len = build6(data, chains[i].chain);
		struct xf_ip_info info;

		print_message("# %s\n", chains[i].chain);
		assert_int_equal(parse(data, len, true, &info), 0);
		assert_int_equal(info.family, XF_AF_INET6);
		assert_int_equal(info.total_len, len);
		assert_int_equal(info.proto, chains[i].proto);
		assert_int_equal(info.l4_off, chains[i].l4_off);
		assert_int_equal(info.l4_nexthdr_field, chains[i].l4_field);
		assert_int_equal(info.ah_esp_off, chains[i].esp_off);
		assert_int_equal(info.nexthdr_field, chains[i].esp_field);
		assert_int_equal(info.frag_hdr_off, chains[i].frag_hdr_off);
		assert_int_equal(info.is_frag, chains[i].is_frag);
		assert_int_equal(info.tos, 0xb9);
		assert_int_equal(info.ttl, 3);
		assert_int_equal(info.flow_label, 0xabcde);
		assert_true(info.df);
	}
}

/* A header that runs over the packet's end is refused, even when bytes follow that end. */
static void ipv6_cut_short(void **state)
{
	(void)state;
	for (size_t i = 0; i < XF_ARRAY_SIZE(chains); i++) {
		uint8_t data[256];
		uint32_t len = build6(data, chains[i].chain);

		for (uint32_t end = XF_IPV6_HDR_LEN; end < len; end++) {
			struct xf_ip_info info;
			int want = end < chains[i].l4_off ? -EINVAL : 0;

			xf_put_be16(data + 4, (uint16_t)(end - XF_IPV6_HDR_LEN));
			assert_int_equal(parse(data, len, true, &info), want);
			assert_int_equal(parse(data, end, true, &info), want);
			if (end > 0)
				assert_int_equal(parse(data, end - 1, true, &info), -EINVAL);
		}
	}
}

/* Ports of each protocol at both ends, as the kernel's flow has them. */
static void flow_ports(void **state)
{
	static const struct {
		uint8_t proto;
		uint16_t sport, dport; /* of a packet that starts 12 34 56 78 */
		uint16_t rsport, rdport; /* reversed */
	} rows[] = {
		{ XF_IPPROTO_TCP, 0x1234, 0x5678, 0x5678, 0x1234 },
		{ XF_IPPROTO_UDP, 0x1234, 0x5678, 0x5678, 0x1234 },
		{ XF_IPPROTO_UDPLITE, 0x1234, 0x5678, 0x5678, 0x1234 },
		{ XF_IPPROTO_SCTP, 0x1234, 0x5678, 0x5678, 0x1234 },
		{ XF_IPPROTO_DCCP, 0x1234, 0x5678, 0x5678, 0x1234 },
		{ XF_IPPROTO_ICMP, 0x12, 0x34, 0x12, 0x34 },
		{ XF_IPPROTO_ICMPV6, 0x12, 0x34, 0x12, 0x34 },
		{ XF_IPPROTO_MH, 0x56, 0, 0x56, 0 },
		{ XF_IPPROTO_ESP, 0, 0, 0, 0 },
		{ XF_IPPROTO_IPIP, 0, 0, 0, 0 },
	};

	(void)state;
	for (size_t i = 0; i < XF_ARRAY_SIZE(rows); i++) {
		struct test_ip ip = { .family = XF_AF_INET, .proto = rows[i].proto, .tos = 4 };
		uint8_t data[28] = { 0 };
		struct xf_flow flow;

		packets_ip(data, &ip, 8);
		xf_put_be32(data + 20, 0x12345678);
		flow_of(data, 28, false, &flow);
		assert_int_equal(flow.sport, rows[i].sport);
		assert_int_equal(flow.dport, rows[i].dport);
		assert_int_equal(flow.proto, rows[i].proto);
		assert_int_equal(xf_get_be32(flow.saddr.bytes), 0xc0000201);
		assert_int_equal(xf_get_be32(flow.daddr.bytes), 0xc0000202);
		assert_int_equal(flow.tos, 4);
		assert_int_equal(flow.mark, 7);
		assert_int_equal(flow.if_id, 8);
		assert_int_equal(flow.oif, 9);
		assert_int_equal(flow.uid, 10);
		flow_of(data, 28, true, &flow);
		assert_int_equal(flow.sport, rows[i].rsport);
		assert_int_equal(flow.dport, rows[i].rdport);
		assert_int_equal(xf_get_be32(flow.saddr.bytes), 0xc0000202);
		/* Three bytes are no ports; a fragment has none either. */
		packets_ip(data, &ip, 3);
		flow_of(data, 28, false, &flow);
		assert_int_equal(flow.sport | flow.dport, 0);
		packets_ip(data, &ip, 8);
		xf_put_be16(data + 6, XF_IPV4_MF);
		xf_ipv4_set_csum(data, 20);
		flow_of(data, 28, false, &flow);
		assert_int_equal(flow.sport | flow.dport, 0);
	}
}

static void flow_gre_key(void **state)
{
	static const struct {
		uint16_t flags;
		uint32_t payload_len;
		uint32_t key;
	} rows[] = {
		{ 0x0000, 16, 0 },
		{ 0x2000, 16, 0x11223344 },
		{ 0x2000, 8, 0x11223344 },
		{ 0x2000, 7, 0 },
		{ 0x3000, 16, 0x11223344 },
		{ 0xa000, 16, 0x55667788 }, /* checksum in front of the key */
		{ 0xa000, 11, 0 },
		{ 0x2001, 16, 0 }, /* version 1 is PPTP's */
	};

	(void)state;
	for (size_t i = 0; i < XF_ARRAY_SIZE(rows); i++) {
		struct test_ip ip = { .family = XF_AF_INET, .proto = XF_IPPROTO_GRE };
		uint8_t data[36] = { 0 };
		struct xf_flow flow;

		packets_ip(data, &ip, rows[i].payload_len);
		xf_put_be16(data + 20, rows[i].flags);
		xf_put_be32(data + 24, 0x11223344);
		xf_put_be32(data + 28, 0x55667788);
		flow_of(data, 36, true, &flow);
		assert_int_equal((uint32_t)flow.sport << 16 | flow.dport, rows[i].key);
	}
}

static uint16_t naive_csum(const uint8_t *data, uint32_t len)
{
	uint32_t sum = 0;

	for (uint32_t i = 0; i < len; i++) {
		sum += i & 1 ? data[i] : (uint32_t)data[i] << 8;
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return (uint16_t)~sum;
}

static void checksums_match_a_naive_sum(void **state)
{
	static uint8_t data[4000];

	(void)state;
	for (int round = 0; round < 2000; round++) {
		uint32_t len = packets_below(sizeof(data)) + 1;
		uint32_t off = packets_below(len);
		uint32_t n = packets_below(len - off + 1);
		struct xf_pkt *pkt;

		packets_fill(data, len);
		if (round % 10 == 0)
			memset(data, round % 20 ? 0xff : 0, len);
		pkt = packets_new(pool, SHAPE_CHAIN, data, len);
		assert_int_equal(xf_csum_fold(xf_csum_add(0, data + off, n)),
				 naive_csum(data + off, n));
		assert_int_equal(xf_csum_fold(xf_pkt_csum(pkt, off, n, 0)),
				 naive_csum(data + off, n));
		xf_pkt_free(pkt);
	}
}

static void checksum_known_answers(void **state)
{
	uint8_t hdr[20] = { 0x45, 0, 0,	   0x73, 0, 0, 0x40, 0,	   0x40, 0x11,
			    0,	  0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0,	 0xc7 };
	static const uint8_t udp[] = { 0x04, 0xd2, 0x16, 0x2e, 0x00, 0x0a, 0, 0, 'h', 'i' };
	union xf_addr a, b;
	uint64_t sum;

	(void)state;
	xf_ipv4_set_csum(hdr, 20);
	assert_int_equal(xf_get_be16(hdr + 10), 0xb861);
	/* The pseudo header, laid out as RFC 768 draws it and as RFC 8200 s8.1 does. */
	xf_addr_parse("192.0.2.1", &a);
	xf_addr_parse("192.0.2.200", &b);
	sum = xf_csum_pseudo(&a, &b, XF_AF_INET, XF_IPPROTO_UDP, sizeof(udp));
	{
		uint8_t flat[12 + sizeof(udp)] = { 192, 0, 2, 1, 192, 0, 2, 200, 0, 17, 0, 10 };

		memcpy(flat + 12, udp, sizeof(udp));
		assert_int_equal(xf_csum_fold(xf_csum_add(sum, udp, sizeof(udp))),
				 naive_csum(flat, sizeof(flat)));
	}
	xf_addr_parse("2001:db8::1", &a);
	xf_addr_parse("2001:db8:ffff::2", &b);
	sum = xf_csum_pseudo(&a, &b, XF_AF_INET6, XF_IPPROTO_UDP, 0x12345);
	{
		uint8_t flat[40] = { 0 };

		memcpy(flat, a.bytes, 16);
		memcpy(flat + 16, b.bytes, 16);
		xf_put_be32(flat + 32, 0x12345);
		flat[39] = XF_IPPROTO_UDP;
		assert_int_equal(xf_csum_fold(sum), naive_csum(flat, 40));
	}
}

/* Random damage: whatever a parse accepts keeps the promises that its callers rely on. */
static void accepted_packets_keep_promises(void **state)
{
	unsigned accepted = 0;

	(void)state;
	for (int round = 0; round < 30000; round++) {
		uint8_t data[256];
		uint32_t len = build6(data, chains[packets_below(XF_ARRAY_SIZE(chains))].chain);
		struct xf_ip_info info;

		if (packets_below(4) == 0) {
			struct test_ip ip = { .family = XF_AF_INET, .proto = 50 };

			packets_ip(data, &ip, len - 20);
		}
		for (uint32_t i = packets_below(4); i > 0; i--)
			data[packets_below(len)] =
				(uint8_t)packets_below(packets_below(2) ? 256 : 8);
		len = packets_below(3) ? len : packets_below(len);
		if (parse(data, len, false, &info) < 0)
			continue;
		accepted++;
		assert_true(info.total_len <= len);
		assert_true(info.hdr_len <= info.total_len);
		assert_true(info.l4_off <= info.total_len && info.l4_off >= info.hdr_len);
		assert_true(info.ah_esp_off <= info.l4_off && info.ah_esp_off >= info.hdr_len);
		assert_true(info.nexthdr_field < info.ah_esp_off);
		assert_true(info.l4_nexthdr_field < info.l4_off);
		assert_int_equal(info.proto, data[info.l4_nexthdr_field]);
	}
	assert_true(accepted > 5000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(ipv4_fields, setup, teardown),
		cmocka_unit_test_setup_teardown(ipv4_fragments, setup, teardown),
		cmocka_unit_test_setup_teardown(ipv4_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(ipv6_chains, setup, teardown),
		cmocka_unit_test_setup_teardown(ipv6_cut_short, setup, teardown),
		cmocka_unit_test_setup_teardown(flow_ports, setup, teardown),
		cmocka_unit_test_setup_teardown(flow_gre_key, setup, teardown),
		cmocka_unit_test_setup_teardown(checksums_match_a_naive_sum, setup, teardown),
		cmocka_unit_test_setup_teardown(checksum_known_answers, setup, teardown),
		cmocka_unit_test_setup_teardown(accepted_packets_keep_promises, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
