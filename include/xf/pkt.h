/*
 * pkt.h - packets: chains of segments over pooled buffers.
 *
 * A packet is a list of segments; a segment is a slice of a buffer; a buffer may be part of
 * several packets. The rule that everything here serves: memory that is not ours alone is never
 * written. A buffer is ours alone when it came from a pool and has one reference; segments over
 * foreign memory (xf_pkt_attach) never are. Where a function must write elsewhere it takes a new
 * pooled segment for the few bytes of a header; payload is never moved. The one function that
 * does, xf_pkt_linearize(), counts what it did, and no packet path calls it.
 *
 * Threads: a pool, its buffers and its packets belong to one thread. Nothing here allocates from
 * the heap after xf_pool_new(). Lengths and offsets are bytes; offset 0 is the first byte of the
 * packet. Functions that return NULL or -ENOBUFS on an empty pool have changed nothing.
 */
#ifndef XF_PKT_H
#define XF_PKT_H

#include <xf/addr.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Room in front of a fresh packet: two outer IPv6 + UDP + ESP + IV, rounded up. */
#define XF_PKT_HEADROOM 192
/* Room kept behind: TFC-free trailer, padding to 16, next header, the longest ICV. */
#define XF_PKT_TAILROOM 64
/* Largest packet: an IPv4 datagram, or an IPv6 one without jumbo payload. */
#define XF_PKT_MAX 65575
/* IPsec transforms on one packet, each way (the kernel's XFRM_MAX_DEPTH). */
#define XF_MAX_DEPTH 6

struct xf_sa;
struct xf_pool;

struct xf_buf {
	uint8_t *mem;
	uint32_t size;
	uint32_t refs;
	struct xf_pool *home; /* NULL: foreign memory, read-only for us */
	struct xf_buf *next;
};

struct xf_seg {
	uint8_t *data;
	uint32_t len;
	struct xf_buf *buf;
};

#define XF_PKT_OWN_SEGS 6

struct xf_pkt {
	struct xf_pkt *next; /* for whoever holds the packet: struct xf_pktq */
	struct xf_pool *pool;
	struct xf_seg *segs; /* own_segs, or an array in @seg_buf when there are more */
	uint16_t nsegs;
	uint16_t seg_cap;
	uint32_t len;
	struct xf_buf *seg_buf;

	/* What is known of it beside its bytes; filled by I/O and by the path. */
	uint16_t family; /* of the outermost IP header */
	uint16_t encap_sport; /* UDP ports of an inbound ESP-in-UDP packet, else 0 */
	uint16_t encap_dport;
	bool local; /* out: sent by this host, not forwarded */
	uint32_t mark;
	uint32_t if_id;
	uint32_t iif;
	uint32_t oif;
	uint32_t uid;
	uint32_t mtu; /* of a reassembled datagram: its largest fragment, else 0 */
	uint64_t realm; /* only fragments of one realm are put together: what they came through */
	union xf_addr reply_to; /* of an ICMP message made by the path: its destination */
	uint8_t sp_len; /* in: SAs that this packet came through, outermost first */
	struct xf_sa *sp[XF_MAX_DEPTH];

	struct xf_seg own_segs[XF_PKT_OWN_SEGS];
};

/* A queue of packets, first in, first out. All zero is an empty one. */
struct xf_pktq {
	struct xf_pkt *head;
	struct xf_pkt *tail;
	uint32_t count;
};

struct xf_pool_config {
	uint32_t packets;
	uint32_t small_bufs; /* of XF_POOL_SMALL bytes, room for headers included */
	uint32_t large_bufs; /* of XF_POOL_LARGE bytes: a whole datagram and its room */
};

#define XF_POOL_SMALL 2560
#define XF_POOL_LARGE (65792 + XF_PKT_HEADROOM + XF_PKT_TAILROOM)

struct xf_pool_stats {
	uint64_t lin_copies; /* packets that were made contiguous: 0 on every path */
	uint64_t payload_bytes_copied;
	uint32_t packets_free;
	uint32_t small_free;
	uint32_t large_free;
};

/* A pool of its own memory: NULL when there is not enough. */
struct xf_pool *xf_pool_new(const struct xf_pool_config *cfg);

/* Free @pool. Every packet must have come back. */
void xf_pool_free(struct xf_pool *pool);

void xf_pool_get_stats(const struct xf_pool *pool, struct xf_pool_stats *out);

/*
 * A packet with one empty segment that has XF_PKT_HEADROOM in front and room for @len bytes and
 * XF_PKT_TAILROOM behind. Metadata is zero. NULL: the pool is empty, or @len > XF_PKT_MAX.
 */
struct xf_pkt *xf_pkt_new(struct xf_pool *pool, uint32_t len);

/* A packet over @len bytes of foreign memory, which must outlive it and is never written. */
struct xf_pkt *xf_pkt_attach(struct xf_pool *pool, const void *data, uint32_t len,
			     struct xf_buf *foreign);

/* Give @pkt back to its pool. NULL is allowed. */
void xf_pkt_free(struct xf_pkt *pkt);

/* A packet that shares bytes [@off, @off + @len) of @pkt; metadata copied, sp[] not. */
struct xf_pkt *xf_pkt_slice(const struct xf_pkt *pkt, uint32_t off, uint32_t len);

/* Move all segments of @tail behind those of @pkt and free @tail. */
int xf_pkt_join(struct xf_pkt *pkt, struct xf_pkt *tail);

/* Open @len bytes in front; they are contiguous, writable and not initialised. */
uint8_t *xf_pkt_prepend(struct xf_pkt *pkt, uint32_t len);

/* The same at the end. */
uint8_t *xf_pkt_append(struct xf_pkt *pkt, uint32_t len);

/*
 * Open @gap bytes at @off (@off is within the headers, at most 512): what stands before is moved
 * forward into the head room when that is ours, else copied to a new segment. Returns the gap.
 */
uint8_t *xf_pkt_insert(struct xf_pkt *pkt, uint32_t off, uint32_t gap);

/* Close the @gap bytes at @off: the reverse of xf_pkt_insert(). 0 or -ENOBUFS. */
int xf_pkt_remove(struct xf_pkt *pkt, uint32_t off, uint32_t gap);

/* Cut bytes off; @len is at most the packet's length. */
void xf_pkt_trim_front(struct xf_pkt *pkt, uint32_t len);
void xf_pkt_trim_back(struct xf_pkt *pkt, uint32_t len);

/*
 * @len contiguous bytes at @off, to read: inside the packet, or copied to @scratch (of @len
 * bytes) when they straddle segments. NULL when the packet is too short.
 */
const uint8_t *xf_pkt_peek(const struct xf_pkt *pkt, uint32_t off, uint32_t len, void *scratch);

/*
 * @len (at most 512) contiguous bytes at @off, to write: in place when the memory is ours alone,
 * else those bytes are replaced by a new segment with a copy. NULL: too short, or no buffer.
 */
uint8_t *xf_pkt_writable(struct xf_pkt *pkt, uint32_t off, uint32_t len);

/* Are all bytes of [@off, @off + @len) in memory that is ours alone? */
bool xf_pkt_is_own(const struct xf_pkt *pkt, uint32_t off, uint32_t len);

/* Copy [@off, @off + @len) to @out: 0, or -EINVAL when the packet is too short. */
int xf_pkt_copy_out(const struct xf_pkt *pkt, uint32_t off, void *out, uint32_t len);

/*
 * The segments that make up [@off, @off + @len), at most @max, into @out (borrowed: no
 * references are taken). Returns their number, or -EMSGSIZE.
 */
int xf_pkt_segs(const struct xf_pkt *pkt, uint32_t off, uint32_t len, struct xf_seg *out, int max);

/* One's complement sum of [@off, @off + @len) added to @sum, not folded (RFC 1071). */
uint64_t xf_pkt_csum(const struct xf_pkt *pkt, uint32_t off, uint32_t len, uint64_t sum);

/* Make the packet one segment; counted in lin_copies. 0 or -ENOBUFS. */
int xf_pkt_linearize(struct xf_pkt *pkt);

/* Add at the end; take from the front (NULL: empty). */
void xf_pktq_push(struct xf_pktq *q, struct xf_pkt *pkt);
struct xf_pkt *xf_pktq_pop(struct xf_pktq *q);

#ifdef __cplusplus
}
#endif

#endif
