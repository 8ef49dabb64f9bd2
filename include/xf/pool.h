/*
 * pool.h - where packets and their buffers come from and go back to.
 *
 * A pool has its own memory, taken once: nothing is allocated from the heap after xf_pool_new().
 *
 * Threads: a pool and what comes from it belong to one thread. Packets of a shared pool may be
 * handed to other threads, which can do no more than read, queue and free them: they go back to
 * their pool's thread. Sizes are bytes.
 */
#ifndef XF_POOL_H
#define XF_POOL_H

#include <xf/base.h>

#ifdef __cplusplus
extern "C" {
#endif

struct xf_pool;

/* Room in front of a fresh packet: two outer IPv6 + UDP + ESP + IV, rounded up. */
#define XF_PKT_HEADROOM 192
/* Room kept behind: TFC-free trailer, padding to 16, next header, the longest ICV. */
#define XF_PKT_TAILROOM 64
/* Largest packet: an IPv4 datagram, or an IPv6 one without jumbo payload. */
#define XF_PKT_MAX 65575
struct xf_buf {
	uint8_t *mem;
	uint32_t size;
	uint32_t refs;
	bool shared; /* two segments may name the same bytes: sticks until the buffer is free */
	struct xf_pool *home; /* NULL: foreign memory, read-only for us */
	struct xf_buf *next;
};

struct xf_pool_config {
	uint32_t packets;
	uint32_t small_bufs; /* of XF_POOL_SMALL bytes, room for headers included */
	uint32_t large_bufs; /* of XF_POOL_LARGE bytes: a whole datagram and its room */
	bool shared;
};

#define XF_POOL_SMALL 2560
#define XF_POOL_LARGE (65792 + XF_PKT_HEADROOM + XF_PKT_TAILROOM)

struct xf_pool_stats {
	uint64_t lin_copies; /* packets that were made contiguous: 0 on every path */
	uint64_t payload_bytes_copied;
	uint64_t csum_copies; /* packets cut from a larger one, their payload copied and summed */
	uint32_t packets_free;
	uint32_t small_free;
	uint32_t large_free;
};

/* A pool of its own memory: NULL when there is not enough. */
struct xf_pool *xf_pool_new(const struct xf_pool_config *cfg);

/* Free @pool. Every packet must have come back. */
void xf_pool_free(struct xf_pool *pool);

/*
 * From now on this thread's packets are those of @pool. What others have freed comes back, and what
 * was freed here of others goes home. Shared pools: once in each turn of their thread's loop, and
 * after the last packet was freed.
 */
void xf_pool_enter(struct xf_pool *pool);

/* A packet was cut from a larger one (csum_copies). */
void xf_pool_count_csum_copy(struct xf_pool *pool);

void xf_pool_get_stats(const struct xf_pool *pool, struct xf_pool_stats *out);

#ifdef __cplusplus
}
#endif

#endif
