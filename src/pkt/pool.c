#include <stdlib.h>

#include <xf/huge.h>

#include "pkt/pool.h"

_Static_assert(offsetof(struct xf_pkt, family) % XF_CACHE_LINE == 0 &&
		       offsetof(struct xf_pkt, sp) - offsetof(struct xf_pkt, family) ==
			       XF_CACHE_LINE,
	       "the metadata of a packet is one cache line");

static uint8_t *carve(struct xf_pool *pool, struct xf_buf **list, struct xf_buf *bufs,
		      uint32_t count, uint32_t size, uint8_t *mem)
{
	for (uint32_t i = 0; i < count; i++) {
		struct xf_buf *buf = &bufs[i];

		buf->mem = mem;
		buf->size = size;
		buf->home = pool;
		buf->next = *list;
		*list = buf;
		mem += size;
	}
	return mem;
}

__thread struct xf_pool *xf_pool_here;

struct xf_pool *xf_pool_new(const struct xf_pool_config *cfg)
{
	struct xf_pool *pool = aligned_alloc(XF_CACHE_LINE, sizeof(*pool));
	uint64_t bytes = (uint64_t)cfg->small_bufs * XF_POOL_SMALL +
			 (uint64_t)cfg->large_bufs * XF_POOL_LARGE;
	uint8_t *mem;

	if (!pool)
		return NULL;
	memset(pool, 0, sizeof(*pool));
	pool->shared = cfg->shared;
	pool->bytes = bytes;
	pool->memory = xf_huge_alloc(bytes);
	pool->bufs = calloc((size_t)cfg->small_bufs + cfg->large_bufs + 1, sizeof(*pool->bufs));
	pool->pkts = aligned_alloc(XF_CACHE_LINE, ((size_t)cfg->packets + 1) * sizeof(*pool->pkts));
	if (!pool->memory || !pool->bufs || !pool->pkts) {
		xf_pool_free(pool);
		return NULL;
	}
	mem = carve(pool, &pool->free_small, pool->bufs, cfg->small_bufs, XF_POOL_SMALL,
		    pool->memory);
	carve(pool, &pool->free_large, pool->bufs + cfg->small_bufs, cfg->large_bufs, XF_POOL_LARGE,
	      mem);
	for (uint32_t i = 0; i < cfg->packets; i++) {
		pool->pkts[i].pool = pool;
		pool->pkts[i].next = pool->free_pkts;
		pool->free_pkts = &pool->pkts[i];
	}
	pool->stats.packets_free = cfg->packets;
	pool->stats.small_free = cfg->small_bufs;
	pool->stats.large_free = cfg->large_bufs;
	return pool;
}

void xf_pool_free(struct xf_pool *pool)
{
	if (!pool)
		return;
	if (xf_pool_here == pool)
		xf_pool_here = NULL;
	xf_huge_free(pool->memory, pool->bytes);
	free(pool->bufs);
	free(pool->pkts);
	free(pool);
}

/* Nobody but the owner takes anything off, and it takes all: no pointer comes again meanwhile. */
static void send_home(const struct xf_pool_chain *chain)
{
	struct xf_pool *home = chain->home;
	struct xf_pkt *top = atomic_load_explicit(&home->returned, memory_order_relaxed);

	do {
		chain->last->next = top;
	} while (!atomic_compare_exchange_weak_explicit(
		&home->returned, &top, chain->first, memory_order_release, memory_order_relaxed));
}

void xf_pool_enter(struct xf_pool *pool)
{
	struct xf_pool_chain *away = &pool->away;

	if (away->home)
		send_home(away);
	away->home = NULL;
	xf_pool_here = pool;
	xf_pool_take_back(pool);
}

/* Packets mostly come as their owner has queued them: then not one of them is written here, and
 * their lines are still in the owner's cache when they come home. */
static void append(struct xf_pool_chain *chain, struct xf_pkt *pkt)
{
	if (chain->last->next != pkt)
		chain->last->next = pkt;
	chain->last = pkt;
}

bool xf_pool_return(struct xf_pkt *pkt)
{
	const struct xf_pool_chain alone = { .home = pkt->pool, .first = pkt, .last = pkt };
	struct xf_pool *here = xf_pool_here;

	/* Of another thread's pool not a line is read: that thread writes them all the time. */
	if (here && here->away.home == pkt->pool) {
		append(&here->away, pkt);
		return true;
	}
	if (!pkt->pool->shared)
		return false;
	if (!here) {
		send_home(&alone);
		return true;
	}
	if (here->away.home)
		send_home(&here->away);
	here->away = alone;
	return true;
}

void xf_pool_get_stats(const struct xf_pool *pool, struct xf_pool_stats *out)
{
	*out = pool->stats;
}

void xf_pool_count_csum_copy(struct xf_pool *pool)
{
	pool->stats.csum_copies++;
}

struct xf_buf *xf_pool_get_buf(struct xf_pool *pool, uint32_t size)
{
	bool small = size <= XF_POOL_SMALL && pool->free_small;
	struct xf_buf **list = small ? &pool->free_small : &pool->free_large;
	struct xf_buf *buf = *list;

	if (!buf || size > buf->size)
		return NULL;
	*list = buf->next;
	if (small)
		pool->stats.small_free--;
	else
		pool->stats.large_free--;
	buf->next = NULL;
	buf->refs = 1;
	buf->shared = false;
	return buf;
}

void xf_pool_put_buf(struct xf_buf *buf)
{
	struct xf_pool *pool = buf->home;

	if (--buf->refs > 0 || !pool)
		return;
	if (buf->size == XF_POOL_SMALL) {
		buf->next = pool->free_small;
		pool->free_small = buf;
		pool->stats.small_free++;
	} else {
		buf->next = pool->free_large;
		pool->free_large = buf;
		pool->stats.large_free++;
	}
}

struct xf_pkt *xf_pool_get_pkt(struct xf_pool *pool)
{
	struct xf_pkt *pkt = pool->free_pkts;

	if (!pkt)
		return NULL;
	pool->free_pkts = pkt->next;
	pool->stats.packets_free--;
	pkt->next = NULL;
	pkt->segs = pkt->own_segs;
	pkt->nsegs = 0;
	pkt->seg_cap = XF_PKT_OWN_SEGS;
	pkt->len = 0;
	pkt->seg_buf = NULL;
	memset(&pkt->family, 0, offsetof(struct xf_pkt, sp) - offsetof(struct xf_pkt, family));
	return pkt;
}

void xf_pool_put_pkt(struct xf_pkt *pkt)
{
	struct xf_pool *pool = pkt->pool;

	pkt->next = pool->free_pkts;
	pool->free_pkts = pkt;
	pool->stats.packets_free++;
}
