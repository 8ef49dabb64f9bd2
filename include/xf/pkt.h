/*
 * pkt.h - packets: chains of segments over pooled buffers.
 *
 * A packet is a list of segments; a segment is a slice of a buffer; a buffer may be part of
 * several packets. The rule that everything here serves: memory that is not ours alone is never
 * written. A buffer is ours alone when it came from a pool and nobody shares its bytes; segments
 * over foreign memory never are. Where a function must write elsewhere it takes a new pooled
 * segment for the few bytes of a header; payload is never moved. The one function that does,
 * xf_pkt_linearize(), counts what it did, and only tests can call it (src/pkt/pkt_test.h).
 *
 * Several packets may stand side by side in one buffer (xf_pkt_split_front()): each owns its
 * bytes, and none has room around them. Once xf_pkt_slice() has shared a buffer's bytes, they are
 * nobody's alone until one reference is left.
 *
 * Threads: a pool, its buffers and its packets belong to one thread. Nothing here allocates from
 * the heap after xf_pool_new(). Lengths and offsets are bytes; offset 0 is the first byte of the
 * packet. Functions that return NULL or -ENOBUFS on an empty pool have changed nothing.
 */
#ifndef XF_PKT_H
#define XF_PKT_H

#include <xf/addr.h>
#include <xf/pool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* IPsec transforms on one packet, each way (the kernel's XFRM_MAX_DEPTH). */
#define XF_MAX_DEPTH 6

struct xf_sa;

struct xf_seg {
	uint8_t *data;
	uint32_t len;
	struct xf_buf *buf;
};

#define XF_PKT_OWN_SEGS 6

/* Super-packets: what stands for several packets (the values of <linux/virtio_net.h>). */
enum xf_gso_type {
	XF_GSO_NONE = 0,
	XF_GSO_TCP4 = 1,
	XF_GSO_TCP6 = 4,
	XF_GSO_UDP = 5, /* of either family; not what IP fragments are made of */
};

struct xf_pkt {
	struct xf_pkt *next; /* for whoever holds the packet: struct xf_pktq */
	struct xf_pool *pool;
	struct xf_seg *segs; /* own_segs, or an array in @seg_buf when there are more */
	uint16_t nsegs;
	uint16_t seg_cap;
	uint32_t len;
	struct xf_buf *seg_buf;
	struct xf_seg
		own_segs[XF_PKT_OWN_SEGS]; /* the first one shares a cache line with the above */

	/* What is known of it beside its bytes; filled by I/O and by the path. One cache line. */
	uint16_t family __attribute__((aligned(64))); /* of the outermost IP header */
	uint16_t encap_sport; /* UDP ports of an inbound ESP-in-UDP packet, else 0 */
	uint16_t encap_dport;
	bool local; /* out: sent by this host, not forwarded */
	uint8_t sp_len; /* in: SAs that this packet came through, outermost first */
	uint32_t mark;
	uint32_t if_id;
	uint32_t iif;
	uint32_t oif;
	uint32_t uid;
	uint32_t mtu; /* of a reassembled datagram: its largest fragment, else 0 */
	uint8_t gso_type; /* enum xf_gso_type */
	bool gso_ecn : 1; /* TCP: CWR stands on the first of the packets only (RFC 3168 s6.1.2) */
	bool hdr_checked : 1; /* in: the checksum of its IPv4 header need not be looked at */
	bool translated : 1; /* out: its source is what the host's NAT has made of it */
	bool ask : 1; /* out: the host's NAT is to be asked for its source before it is protected */
	bool asked : 1; /* out: it was, and has left it as it is */
	uint16_t gso_size; /* payload bytes of each of the packets, the last may have fewer */
	/* Not 0: the checksum field at csum_start + csum_offset holds the pseudo header's sum only,
	 * and the rest is still to be added. */
	uint16_t csum_start;
	uint16_t csum_offset;
	union xf_addr reply_to; /* of an ICMP message made by the path: its destination */
	/* Only fragments of one realm are put together: what they came through. In: its SAs; out:
	 * the number of the link, 0 for what was captured elsewhere. */
	uint64_t realm;

	struct xf_sa *sp[XF_MAX_DEPTH];
};

/* A queue of packets, first in, first out. All zero is an empty one. */
struct xf_pktq {
	struct xf_pkt *head;
	struct xf_pkt *tail;
	uint32_t count;
};

/*
 * A packet with one empty segment that has XF_PKT_HEADROOM in front and room for @len bytes and
 * XF_PKT_TAILROOM behind. Metadata is zero. NULL: the pool is empty, or @len > XF_PKT_MAX.
 */
struct xf_pkt *xf_pkt_new(struct xf_pool *pool, uint32_t len);

/* Give @pkt back to its pool. NULL is allowed. */
void xf_pkt_free(struct xf_pkt *pkt);

/* A packet that shares bytes [@off, @off + @len) of @pkt; metadata copied, sp[] not. */
struct xf_pkt *xf_pkt_slice(const struct xf_pkt *pkt, uint32_t off, uint32_t len);

/*
 * Take the first @len bytes of @pkt as a packet of its own, metadata copied, sp[] not: both own
 * what they have, as before. NULL: no packet or segment is free, or @len is 0 or all of it.
 */
struct xf_pkt *xf_pkt_split_front(struct xf_pkt *pkt, uint32_t len);

/* What is known of @from beside its bytes is known of @to, but for sp[]. */
void xf_pkt_copy_metadata(struct xf_pkt *to, const struct xf_pkt *from);

/* Room for @more segments: a join of so many cannot fail. 0 or -ENOBUFS. */
int xf_pkt_reserve(struct xf_pkt *pkt, uint32_t more);

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
static inline void xf_pkt_trim_front(struct xf_pkt *pkt, uint32_t len);
static inline void xf_pkt_trim_back(struct xf_pkt *pkt, uint32_t len);

/*
 * @len contiguous bytes at @off, to read: inside the packet, or copied to @scratch (of @len
 * bytes) when they straddle segments. NULL when the packet is too short.
 */
static inline const uint8_t *xf_pkt_peek(const struct xf_pkt *pkt, uint32_t off, uint32_t len,
					 void *scratch);

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

/* Cut the list of segments so that one starts at @off: its index, or -ENOBUFS. */
int xf_pkt_cut(struct xf_pkt *pkt, uint32_t off);

/* One's complement sum of [@off, @off + @len) added to @sum, not folded (RFC 1071). */
uint64_t xf_pkt_csum(const struct xf_pkt *pkt, uint32_t off, uint32_t len, uint64_t sum);

/* Add at the end; take from the front (NULL: empty), without a write to the packet. */
static inline void xf_pktq_push(struct xf_pktq *q, struct xf_pkt *pkt);
static inline struct xf_pkt *xf_pktq_pop(struct xf_pktq *q);

/* Move all of @from behind what is in @q. */
static inline void xf_pktq_append(struct xf_pktq *q, struct xf_pktq *from);

#ifdef __cplusplus
}
#endif

#include <xf/pkt_inline.h>

#endif
