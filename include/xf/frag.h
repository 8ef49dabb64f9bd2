/*
 * frag.h - IP fragments: put together within bounds, cut.
 *
 * A table belongs to one worker. Nothing is copied: a datagram is the chain of its fragments'
 * segments, and fragments are slices of the datagram's. Times are the engine's monotonic clock.
 */
#ifndef XF_FRAG_H
#define XF_FRAG_H

#include <xf/ip.h>

#ifdef __cplusplus
extern "C" {
#endif

struct xf_frag_table;

struct xf_frag_config {
	uint32_t datagrams; /* at most this many incomplete ones; the oldest goes first */
	uint32_t fragments; /* of one datagram: an IPv4 one of 65,535 bytes at MTU 576 has 120 */
	uint64_t bytes; /* of the buffers that are held in all */
	uint64_t timeout_ns; /* RFC 8200 s4.5: 60 s; the kernel's IPv4: 30 s */
	uint64_t seed[2];
};

/* NULL: no memory, or a bound of 0. */
struct xf_frag_table *xf_frag_new(const struct xf_frag_config *cfg);
void xf_frag_free(struct xf_frag_table *table);

/*
 * Take fragment @pkt (@ip->is_frag). When it completes a datagram *@out is the whole one, its
 * header as if it had never been cut: the first fragment's, with CE if any had it (RFC 3168 s5.3)
 * and DF if the largest had it; pkt->mtu is the largest one's size, to be cut no larger on the way
 * out. Else *@out is NULL and the table has @pkt. On an error the caller still has @pkt:
 *   XF_DROP_FRAG_HDR      a length or offset that cannot be
 *   XF_DROP_FRAG_OVERLAP  a duplicate, which is ignored, or an overlap, which ends the datagram
 *                         (RFC 5722 s3 and erratum 3089, for both families as the kernel)
 *   XF_DROP_FRAG_LIMIT    over a bound
 * Packets that the table drops itself go to @dropped: those of a datagram that an error ended, of
 * the oldest when there was no room, and all of one that could not be put together (no buffers,
 * ECN that cannot be), @pkt included, with XF_PASS.
 */
enum xf_drop xf_frag_in(struct xf_frag_table *table, struct xf_pkt *pkt,
			const struct xf_ip_info *ip, uint64_t now_ns, struct xf_pkt **out,
			struct xf_pktq *dropped);

/* Give up what is older than the timeout: to @dropped. Returns the next deadline. */
uint64_t xf_frag_expire(struct xf_frag_table *table, uint64_t now_ns, struct xf_pktq *dropped);

/*
 * Cut @pkt into fragments of at most @mtu bytes, in order, to @out (RFC 791 s2.3, RFC 8200 s4.5;
 * options copied where their copy bit says so, extension headers before the fragment header
 * repeated). @id is the identification for IPv6; IPv4, and what is a fragment already, keep their
 * own. DF stays on what xf_frag_in() put together. What fits is passed on as it is. @pkt is
 * consumed on XF_PASS.
 *   XF_DROP_OUT_TOO_BIG    @mtu leaves no room for payload    XF_DROP_OUT_NO_BUFFER
 */
enum xf_drop xf_frag_cut(struct xf_pkt *pkt, const struct xf_ip_info *ip, uint32_t mtu, uint32_t id,
			 struct xf_pktq *out);

#ifdef __cplusplus
}
#endif

#endif
