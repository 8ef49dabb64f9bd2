/*
 * packets.h - what tests over IP packets share: pools that must fill up again, packets in one
 * piece, cut at random, or over memory that is not ours; headers.
 */
#ifndef XF_TEST_PACKETS_H
#define XF_TEST_PACKETS_H

#include <xf/ip.h>

#define TEST_PACKETS 512
#define TEST_SMALL 512
#define TEST_LARGE 24

struct xf_pool *packets_pool(void);

/* Every packet and buffer is back, nothing was linearised; then free @pool. */
void packets_pool_done(struct xf_pool *pool);
void packets_pool_check(struct xf_pool *pool);

/* How the bytes of a packet lie in memory. */
enum shape {
	SHAPE_OWN, /* one buffer of ours */
	SHAPE_CHAIN, /* buffers of ours, cut at random */
	SHAPE_FOREIGN, /* memory that is not ours, in one piece */
	SHAPE_MIXED, /* both, cut at random */
	SHAPE_SHARED, /* ours, but another packet holds it too: free that with packets_unshare() */
	SHAPE_LENT, /* up to 40 bytes of ours, room for all behind them, the rest not ours */
	SHAPE_MAX,
};

/* A packet with a copy of the bytes, or over them: @data must outlive it. */
struct xf_pkt *packets_new(struct xf_pool *pool, enum shape shape, const uint8_t *data,
			   uint32_t len);
/* Check that what SHAPE_SHARED shares and SHAPE_FOREIGN shows is unchanged, and let it go. */
void packets_unshare(void);

/* @pkt holds exactly these bytes. */
void packets_check(const struct xf_pkt *pkt, const uint8_t *data, uint32_t len);

uint32_t packets_below(uint32_t n); /* random, rand() */
void packets_fill(uint8_t *p, uint32_t len);

/* Headers for tests; checksum and lengths right. They return the header's length. */
struct test_ip {
	uint16_t family;
	uint8_t proto;
	uint8_t tos;
	uint8_t ttl;
	bool df;
	uint16_t id;
	uint32_t flow_label;
	const char *saddr; /* NULL: 192.0.2.1 or 2001:db8::1 */
	const char *daddr; /* NULL: 192.0.2.2 or 2001:db8::2 */
};
uint32_t packets_ip(uint8_t *out, const struct test_ip *ip, uint32_t payload_len);

#endif
