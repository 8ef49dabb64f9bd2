/*
 * fuzz_packet.h - what fuzz targets over packets share: a pool that must fill up again, packets
 * cut where the input says, and the promises of a parse.
 */
#ifndef XF_FUZZ_PACKET_H
#define XF_FUZZ_PACKET_H

#include <stdio.h>
#include <stdlib.h>

#include <xf/ip.h>

#include "pkt/pkt_test.h"

#define FUZZ_PACKETS 64
#define FUZZ_LEN_MAX 4096

/* Say which promise was broken, and stop where a debugger and libFuzzer see it. */
#define FUZZ_CHECK(cond)                                                           \
	do {                                                                       \
		if (!(cond)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond); \
			abort();                                                   \
		}                                                                  \
	} while (0)

static inline struct xf_pool *fuzz_pool(void)
{
	static const struct xf_pool_config cfg = { .packets = FUZZ_PACKETS,
						   .small_bufs = FUZZ_PACKETS,
						   .large_bufs = 8 };
	static struct xf_pool *pool;

	if (!pool)
		pool = xf_pool_new(&cfg);
	FUZZ_CHECK(pool);
	return pool;
}

static inline void fuzz_pool_check(void)
{
	struct xf_pool_stats stats;

	xf_pool_get_stats(fuzz_pool(), &stats);
	FUZZ_CHECK(stats.packets_free == FUZZ_PACKETS);
	FUZZ_CHECK(stats.small_free == FUZZ_PACKETS);
	FUZZ_CHECK(stats.large_free == 8);
	FUZZ_CHECK(stats.lin_copies == 0);
}

/*
 * A packet of @len bytes in pieces: bits of @cuts say where one ends, every (low five bits) bytes.
 * Every other piece is memory that is not ours when @mixed.
 */
static inline struct xf_pkt *fuzz_packet(const uint8_t *data, uint32_t len, uint8_t cuts,
					 bool mixed)
{
	static struct xf_buf foreign = { .refs = 1 };
	uint32_t step = (cuts & 31) ? (uint32_t)(cuts & 31) * 5 : len;
	struct xf_pkt *pkt = NULL;

	for (uint32_t off = 0, i = 0; off < len || !pkt; i++) {
		uint32_t n = i < 20 ? xf_min_u32(step, len - off) : len - off;
		struct xf_pkt *piece;

		if (mixed && (i & 1)) {
			piece = xf_pkt_attach(fuzz_pool(), data + off, n, &foreign);
		} else {
			piece = xf_pkt_new(fuzz_pool(), n);
			memcpy(xf_pkt_append(piece, n), data + off, n);
		}
		off += n;
		if (!pkt)
			pkt = piece;
		else
			FUZZ_CHECK(xf_pkt_join(pkt, piece) == 0);
	}
	return pkt;
}

/* What callers of xf_ip_parse() rely on. */
static inline void fuzz_check_info(const struct xf_pkt *pkt, const struct xf_ip_info *info)
{
	uint8_t scratch;

	FUZZ_CHECK(info->total_len <= pkt->len);
	FUZZ_CHECK(info->hdr_len <= info->total_len);
	FUZZ_CHECK(info->l4_off >= info->hdr_len && info->l4_off <= info->total_len);
	FUZZ_CHECK(info->ah_esp_off >= info->hdr_len && info->ah_esp_off <= info->l4_off);
	FUZZ_CHECK(info->nexthdr_field < info->ah_esp_off);
	FUZZ_CHECK(info->l4_nexthdr_field < info->l4_off);
	FUZZ_CHECK(*xf_pkt_peek(pkt, info->l4_nexthdr_field, 1, &scratch) == info->proto);
	FUZZ_CHECK(info->family == XF_AF_INET || info->family == XF_AF_INET6);
}

#endif
