/*
 * Fragments of ESP that come by the ring, put together before anything that came later is read.
 * Called by ring.c.
 *
 * Were they left to the kernel, they would come by the raw socket, and what came whole by the ring
 * would overtake them by more than a replay window has. The workers' own tables do not serve:
 * fragments of one datagram may be read by several workers. This table and the pool that its
 * packets are in go with the ring from reader to reader; what is whole is copied out.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include <xf/frag.h>

#include "port/ring_frags.h"

/* As IP input has it: 30 s; and half of the kernel's ipfrag_high_thresh. */
#define TIMEOUT_NS (30 * XF_NSEC_PER_SEC)
#define BYTES (2 << 20)
#define DATAGRAMS 256
#define PIECES 128

/* More than BYTES holds, of either kind, and a list of segments for what is put together. */
static const struct xf_pool_config pool_config = {
	.packets = BYTES / XF_POOL_SMALL + 64,
	.small_bufs = BYTES / XF_POOL_SMALL + 64,
	.large_bufs = BYTES / XF_POOL_LARGE + 8,
};

struct xf_ring_frags {
	struct xf_pool *pool;
	struct xf_frag_table *table;
};

int xf_ring_frags_new(struct xf_ring_frags **out)
{
	struct xf_frag_config cfg = { .datagrams = DATAGRAMS,
				      .fragments = PIECES,
				      .bytes = BYTES,
				      .timeout_ns = TIMEOUT_NS };
	struct xf_ring_frags *frags = calloc(1, sizeof(*frags));

	if (!frags)
		return -ENOMEM;
	if (getrandom(cfg.seed, sizeof(cfg.seed), 0) == sizeof(cfg.seed)) {
		frags->pool = xf_pool_new(&pool_config);
		frags->table = xf_frag_new(&cfg);
	}
	if (!frags->pool || !frags->table) {
		xf_ring_frags_free(frags);
		return -ENOMEM;
	}
	*out = frags;
	return 0;
}

void xf_ring_frags_free(struct xf_ring_frags *frags)
{
	if (!frags)
		return;
	if (frags->table)
		xf_frag_free(frags->table);
	if (frags->pool)
		xf_pool_free(frags->pool);
	free(frags);
}

/* @pkt's bytes and what is known of them, in @pool; @pkt is gone, also with NULL. */
static struct xf_pkt *move(struct xf_io *io, struct xf_pool *pool, struct xf_pkt *pkt)
{
	struct xf_pkt *copy = xf_pkt_new(pool, pkt->len);

	if (!copy) {
		xf_worker_drop(io->worker, pkt, XF_DROP_FRAG_LIMIT);
		return NULL;
	}
	xf_pkt_copy_out(pkt, 0, xf_pkt_append(copy, pkt->len), pkt->len);
	xf_pkt_copy_metadata(copy, pkt);
	xf_pkt_free(pkt);
	return copy;
}

static void drop_all(struct xf_io *io, struct xf_pktq *dropped, enum xf_drop reason)
{
	struct xf_pkt *pkt;

	while ((pkt = xf_pktq_pop(dropped)))
		xf_worker_drop(io->worker, pkt, reason);
}

struct xf_pkt *xf_ring_frags_take(struct xf_io *io, struct xf_ring_frags *frags, struct xf_pkt *pkt)
{
	struct xf_pktq dropped = { 0 };
	struct xf_pkt *whole = NULL;
	struct xf_ip_info ip;
	enum xf_drop err;

	xf_frag_expire(frags->table, io->now_ns, &dropped);
	drop_all(io, &dropped, XF_DROP_FRAG_TIMEOUT);
	pkt = move(io, frags->pool, pkt);
	if (!pkt)
		return NULL;
	err = xf_ip_parse(pkt, false, &ip) < 0 || !ip.is_frag
		      ? XF_DROP_FRAG_HDR
		      : xf_frag_in(frags->table, pkt, &ip, io->now_ns, &whole, &dropped);
	drop_all(io, &dropped, err == XF_PASS ? XF_DROP_FRAG_LIMIT : err);
	if (err != XF_PASS)
		xf_worker_drop(io->worker, pkt, err);
	if (!whole)
		return NULL;
	whole->mtu = 0; /* a raw socket does not say it either */
	return move(io, io->pool, whole);
}
