/*
 * pool.h - the inside of a pool, for pool.c and pkt.c alone.
 */
#ifndef XF_PKT_POOL_H
#define XF_PKT_POOL_H

#include <stdatomic.h>

#include <xf/pkt.h>

/* Packets of another pool that this thread has freed, linked in the order in which it did. */
struct xf_pool_chain {
	struct xf_pool *home; /* NULL: none */
	struct xf_pkt *first;
	struct xf_pkt *last;
};

struct xf_pool {
	bool shared; /* packets may be freed on other threads */
	struct xf_pool_chain away;
	struct xf_pkt *free_pkts;
	struct xf_buf *free_small;
	struct xf_buf *free_large;
	struct xf_pool_stats stats;
	uint8_t *memory; /* of all buffers */
	size_t bytes;
	struct xf_buf *bufs;
	struct xf_pkt *pkts;

	/* Own ones that others have freed: any thread pushes, the owner takes all. A line of its
	 * own: what stands above is the owner's alone. */
	_Alignas(XF_CACHE_LINE) _Atomic(struct xf_pkt *) returned;
};

/* The pool of this thread: its packets are freed at once. */
extern __thread struct xf_pool *xf_pool_here;

/*
 * @pkt is not of this thread's pool: it goes home with the next xf_pool_enter() here. False: its
 * pool is not shared, it can be freed here.
 */
bool xf_pool_return(struct xf_pkt *pkt);

/* Free what other threads have returned. */
void xf_pool_take_back(struct xf_pool *pool);

/* A buffer of at least @size bytes with one reference, or NULL. */
struct xf_buf *xf_pool_get_buf(struct xf_pool *pool, uint32_t size);

/* Drop one reference; the last one brings the buffer home. Foreign ones only count. */
void xf_pool_put_buf(struct xf_buf *buf);

/* A packet without segments, metadata zero, or NULL. */
struct xf_pkt *xf_pool_get_pkt(struct xf_pool *pool);
void xf_pool_put_pkt(struct xf_pkt *pkt);

#endif
