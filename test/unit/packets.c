#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "pkt/pkt_test.h"
#include "packets.h"

static struct xf_buf foreign = { .refs = 1 };
static const uint8_t *foreign_data;
static uint32_t foreign_len;
static uint8_t foreign_copy[XF_PKT_MAX];
static struct xf_pkt *sharer;

struct xf_pool *packets_pool(void)
{
	const struct xf_pool_config cfg = { .packets = TEST_PACKETS,
					    .small_bufs = TEST_SMALL,
					    .large_bufs = TEST_LARGE };
	struct xf_pool *pool = xf_pool_new(&cfg);

	assert_non_null(pool);
	return pool;
}

void packets_pool_check(struct xf_pool *pool)
{
	struct xf_pool_stats stats;

	xf_pool_get_stats(pool, &stats);
	assert_int_equal(stats.packets_free, TEST_PACKETS);
	assert_int_equal(stats.small_free, TEST_SMALL);
	assert_int_equal(stats.large_free, TEST_LARGE);
	assert_int_equal(stats.lin_copies, 0);
	assert_int_equal(foreign.refs, 1);
}

void packets_pool_done(struct xf_pool *pool)
{
	packets_pool_check(pool);
	xf_pool_free(pool);
}

uint32_t packets_below(uint32_t n)
{
	return n ? (uint32_t)rand() % n : 0;
}

void packets_fill(uint8_t *p, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++)
		p[i] = (uint8_t)rand();
}

static struct xf_pkt *own(struct xf_pool *pool, const uint8_t *data, uint32_t len)
{
	struct xf_pkt *pkt = xf_pkt_new(pool, len);

	assert_non_null(pkt);
	memcpy(xf_pkt_append(pkt, len), data, len);
	return pkt;
}

static struct xf_pkt *attach(struct xf_pool *pool, const uint8_t *data, uint32_t len)
{
	struct xf_pkt *pkt = xf_pkt_attach(pool, data, len, &foreign);

	assert_non_null(pkt);
	return pkt;
}

static struct xf_pkt *lend(struct xf_pool *pool, const uint8_t *data, uint32_t len)
{
	uint32_t head = xf_min_u32(len, 40);
	struct xf_pkt *pkt = xf_pkt_new(pool, len);

	assert_non_null(pkt);
	memcpy(xf_pkt_append(pkt, head), data, head);
	if (len > head) {
		assert_int_equal(xf_pkt_join(pkt, attach(pool, data + head, len - head)), 0);
	}
	return pkt;
}

/* At most 40 pieces, small ones first: borders fall into headers too. */
static struct xf_pkt *cut(struct xf_pool *pool, bool mixed, const uint8_t *data, uint32_t len)
{
	struct xf_pkt *pkt = NULL;

	for (uint32_t off = 0, i = 0; off < len || !pkt; i++) {
		uint32_t n = i < 20 ? 1 + packets_below(30) : 1 + packets_below(len);
		struct xf_pkt *piece;

		n = xf_min_u32(n, len - off);
		piece = mixed && packets_below(2) ? attach(pool, data + off, n)
						  : own(pool, data + off, n);
		off += n;
		if (pkt)
			assert_int_equal(xf_pkt_join(pkt, piece), 0);
		else
			pkt = piece;
	}
	return pkt;
}

struct xf_pkt *packets_new(struct xf_pool *pool, enum shape shape, const uint8_t *data,
			   uint32_t len)
{
	struct xf_pkt *pkt;

	foreign_data = data;
	foreign_len = len;
	memcpy(foreign_copy, data, len);
	switch (shape) {
	case SHAPE_CHAIN:
	case SHAPE_MIXED:
		return cut(pool, shape == SHAPE_MIXED, data, len);
	case SHAPE_FOREIGN:
		return attach(pool, data, len);
	case SHAPE_LENT:
		return lend(pool, data, len);
	case SHAPE_SHARED:
		sharer = own(pool, data, len);
		pkt = xf_pkt_slice(sharer, 0, len);
		assert_non_null(pkt);
		return pkt;
	default:
		return own(pool, data, len);
	}
}

void packets_unshare(void)
{
	assert_memory_equal(foreign_data, foreign_copy, foreign_len);
	if (sharer)
		packets_check(sharer, foreign_copy, foreign_len);
	xf_pkt_free(sharer);
	sharer = NULL;
}

void packets_check(const struct xf_pkt *pkt, const uint8_t *data, uint32_t len)
{
	static uint8_t copy[XF_PKT_MAX];

	assert_int_equal(pkt->len, len);
	assert_int_equal(xf_pkt_copy_out(pkt, 0, copy, len), 0);
	assert_memory_equal(copy, data, len);
}

static void put_addr(uint8_t *out, const char *text, const char *fallback, uint16_t family)
{
	union xf_addr addr;

	assert_int_equal(xf_addr_parse(text ? text : fallback, &addr), family);
	memcpy(out, addr.bytes, family == XF_AF_INET ? 4 : 16);
}

uint32_t packets_ip(uint8_t *out, const struct test_ip *ip, uint32_t payload_len)
{
	uint32_t hdr_len = ip->family == XF_AF_INET ? XF_IPV4_HDR_LEN : XF_IPV6_HDR_LEN;

	memset(out, 0, hdr_len);
	if (ip->family == XF_AF_INET6) {
		xf_put_be32(out, 6u << 28 | (uint32_t)ip->tos << 20 | ip->flow_label);
		xf_put_be16(out + 4, (uint16_t)payload_len);
		out[6] = ip->proto;
		out[7] = ip->ttl;
		put_addr(out + 8, ip->saddr, "2001:db8::1", XF_AF_INET6);
		put_addr(out + 24, ip->daddr, "2001:db8::2", XF_AF_INET6);
		return hdr_len;
	}
	out[0] = 0x45;
	out[1] = ip->tos;
	xf_put_be16(out + 2, (uint16_t)(hdr_len + payload_len));
	xf_put_be16(out + 4, ip->id);
	xf_put_be16(out + 6, ip->df ? XF_IPV4_DF : 0);
	out[8] = ip->ttl;
	out[9] = ip->proto;
	put_addr(out + 12, ip->saddr, "192.0.2.1", XF_AF_INET);
	put_addr(out + 16, ip->daddr, "192.0.2.2", XF_AF_INET);
	xf_ipv4_set_csum(out, hdr_len);
	return hdr_len;
}
