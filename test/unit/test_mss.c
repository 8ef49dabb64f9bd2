/*
 * What becomes of the MSS of a SYN: tables of options, the checksum computed anew.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "packets.h"
#include "proto/mss.h"

#define SYN 0x02
#define ACK 0x10

static struct xf_pool *pool;

struct tcp_case {
	const char *name;
	uint8_t flags;
	uint8_t options_len;
	uint8_t options[16];
	uint32_t mtu;
	uint16_t want4; /* 0: stays as it is */
	uint16_t want6;
	uint8_t at; /* of the value, in the options */
};

static const struct tcp_case cases[] = {
	{ "larger", SYN, 4, { 2, 4, 5, 180 }, 1400, 1360, 1340, 2 },
	{ "of a SYN-ACK", SYN | ACK, 4, { 2, 4, 5, 180 }, 1400, 1360, 1340, 2 },
	{ "behind NOPs", SYN, 8, { 1, 1, 2, 4, 5, 180, 1, 1 }, 1400, 1360, 1340, 4 },
	{ "at an odd place", SYN, 8, { 1, 2, 4, 5, 180, 1, 1, 1 }, 1400, 1360, 1340, 3 },
	{ "odd, behind another", SYN, 8, { 3, 3, 7, 2, 4, 255, 255, 0 }, 1400, 1360, 1340, 5 },
	{ "behind SACK, stamps",
	  SYN,
	  16,
	  { 4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 2, 4, 5, 180 },
	  1431,
	  1391,
	  1371,
	  14 },
	{ "by one", SYN, 4, { 2, 4, 5, 180 }, 1499, 1459, 1439, 2 },
	{ "fits IPv4 alone", SYN, 4, { 2, 4, 5, 180 }, 1500, 0, 1440, 2 },
	{ "fits", SYN, 4, { 2, 4, 5, 160 }, 1500, 0, 0, 2 },
	{ "smaller is not raised", SYN, 4, { 2, 4, 2, 0 }, 1400, 0, 0, 2 },
	{ "no SYN", ACK, 4, { 2, 4, 5, 180 }, 1400, 0, 0, 2 },
	{ "no option", SYN, 4, { 1, 1, 1, 1 }, 1400, 0, 0, 2 },
	{ "no options", SYN, 0, { 0 }, 1400, 0, 0, 0 },
	{ "behind the end", SYN, 8, { 0, 4, 1, 1, 2, 4, 5, 180 }, 1400, 0, 0, 6 },
	{ "of another length", SYN, 8, { 2, 6, 5, 180, 5, 180, 1, 1 }, 1400, 0, 0, 2 },
	{ "cut off", SYN, 4, { 1, 1, 2, 4 }, 1400, 0, 0, 2 },
	{ "length 0", SYN, 8, { 9, 0, 1, 1, 2, 4, 5, 180 }, 1400, 0, 0, 6 },
	{ "length 1", SYN, 8, { 9, 1, 2, 4, 5, 180, 1, 1 }, 1400, 0, 0, 4 },
	{ "too long an option", SYN, 8, { 9, 9, 1, 1, 2, 4, 5, 180 }, 1400, 0, 0, 6 },
	{ "a kind at the end", SYN, 4, { 1, 1, 1, 2 }, 1400, 0, 0, 2 },
	{ "no room at all", SYN, 4, { 2, 4, 5, 180 }, 40, 0, 0, 2 },
};

static uint16_t csum_of(const struct xf_pkt *pkt, const struct xf_ip_info *ip)
{
	uint32_t len = ip->total_len - ip->l4_off;

	return xf_csum_fold(
		xf_pkt_csum(pkt, ip->l4_off, len,
			    xf_csum_pseudo(&ip->saddr, &ip->daddr, ip->family, ip->proto, len)));
}

/* A TCP packet with these options and @more bytes of data, its checksum right. */
static struct xf_pkt *make(const struct tcp_case *c, const struct test_ip *ip, enum shape shape,
			   struct xf_ip_info *info)
{
	uint32_t tcp_len = 20u + c->options_len + 5;
	static uint8_t bytes[256]; /* outlives what is made of it */
	uint32_t off = packets_ip(bytes, ip, tcp_len);
	struct xf_pkt *pkt;

	packets_fill(bytes + off, tcp_len);
	bytes[off + 12] = (uint8_t)((20 + c->options_len) / 4 << 4);
	bytes[off + 13] = c->flags;
	memcpy(bytes + off + 20, c->options, c->options_len);
	memset(bytes + off + 16, 0, 2);
	pkt = packets_new(pool, SHAPE_OWN, bytes, off + tcp_len);
	assert_int_equal(xf_ip_parse(pkt, false, info), 0);
	off = info->l4_off;
	xf_put_be16(bytes + off + 16, csum_of(pkt, info));
	xf_pkt_free(pkt);
	return packets_new(pool, shape, bytes, info->total_len);
}

static void check(const struct tcp_case *c, uint16_t family, enum shape shape)
{
	const struct test_ip ip = { .family = family, .proto = XF_IPPROTO_TCP };
	uint16_t want = family == XF_AF_INET ? c->want4 : c->want6;
	struct xf_ip_info info;
	struct xf_pkt *pkt = make(c, &ip, shape, &info);
	uint8_t before[256], after[256];
	uint32_t at = info.l4_off + 20 + c->at;

	xf_pkt_copy_out(pkt, 0, before, pkt->len);
	if (xf_mss_clamp(pkt, &info, c->mtu) != (want != 0))
		fail_msg("%s, family %u, shape %u", c->name, family, shape);
	xf_pkt_copy_out(pkt, 0, after, pkt->len);
	if (want) {
		assert_true(xf_mss_is_syn(pkt, &info));
		assert_int_equal(xf_get_be16(after + at), want);
		assert_int_equal(csum_of(pkt, &info), 0);
		memcpy(before + at, after + at, 2);
		memcpy(before + info.l4_off + 16, after + info.l4_off + 16, 2);
	}
	assert_memory_equal(before, after, pkt->len);
	xf_pkt_free(pkt);
	packets_unshare();
}

static void options(void **state)
{
	(void)state;
	pool = packets_pool();
	for (size_t i = 0; i < XF_ARRAY_SIZE(cases); i++) {
		for (unsigned shape = 0; shape < SHAPE_MAX; shape++) {
			check(&cases[i], XF_AF_INET, shape);
			check(&cases[i], XF_AF_INET6, shape);
		}
	}
	packets_pool_done(pool);
}

/* A data offset beyond the packet, or below the header, and what is no TCP. */
static void what_is_no_whole_header(void **state)
{
	static const uint8_t offsets[] = { 0x00, 0x40, 0xf0 };
	const struct test_ip ip = { .family = XF_AF_INET, .proto = XF_IPPROTO_TCP };
	struct xf_ip_info info;
	struct xf_pkt *pkt;

	(void)state;
	pool = packets_pool();
	for (size_t i = 0; i < XF_ARRAY_SIZE(offsets); i++) {
		pkt = make(&cases[0], &ip, SHAPE_OWN, &info);
		*xf_pkt_writable(pkt, info.l4_off + 12, 1) = offsets[i];
		assert_false(xf_mss_clamp(pkt, &info, 1400));
		xf_pkt_free(pkt);
	}
	pkt = make(&cases[0], &ip, SHAPE_OWN, &info);
	info.is_frag = true;
	assert_false(xf_mss_is_syn(pkt, &info));
	assert_false(xf_mss_clamp(pkt, &info, 1400));
	info.is_frag = false;
	info.proto = XF_IPPROTO_UDP;
	assert_false(xf_mss_is_syn(pkt, &info));
	assert_false(xf_mss_clamp(pkt, &info, 1400));
	info.proto = XF_IPPROTO_TCP;
	info.total_len = info.l4_off + 19;
	assert_false(xf_mss_clamp(pkt, &info, 1400));
	xf_pkt_free(pkt);
	packets_pool_done(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options),
		cmocka_unit_test(what_is_no_whole_header),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
