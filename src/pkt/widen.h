/*
 * widen.h - packets in one piece: room around them, and whose they are, without a call.
 */
#ifndef XF_PKT_WIDEN_H
#define XF_PKT_WIDEN_H

#include <xf/pkt.h>

/* Is @pkt one segment of bytes that are ours alone? */
static inline bool xf_pkt_is_own_piece(const struct xf_pkt *pkt)
{
	const struct xf_buf *buf = pkt->segs[0].buf;

	return pkt->nsegs == 1 && buf->home && (buf->refs == 1 || !buf->shared);
}

/* Do @gap bytes fit in front of the only segment of @pkt and @tail bytes behind it, in a buffer
 * that it has for itself? */
static inline bool xf_pkt_has_room(const struct xf_pkt *pkt, uint32_t gap, uint32_t tail)
{
	const struct xf_seg *seg = &pkt->segs[0];
	const struct xf_buf *buf = seg->buf;

	return buf->home && buf->refs == 1 && (size_t)(seg->data - buf->mem) >= gap &&
	       (size_t)(buf->mem + buf->size - seg->data) >= (size_t)seg->len + tail;
}

/*
 * Open @gap bytes in front and @tail bytes behind, where they fit around the only segment of @pkt
 * in a buffer that it has for itself; they are at *@front and *@back. False: nothing has changed.
 */
static inline bool xf_pkt_widen(struct xf_pkt *pkt, uint32_t gap, uint32_t tail, uint8_t **front,
				uint8_t **back)
{
	struct xf_seg *seg = pkt->segs;

	if (pkt->nsegs != 1 || !xf_pkt_has_room(pkt, gap, tail))
		return false;
	*back = seg->data + seg->len;
	seg->data -= gap;
	seg->len += gap + tail;
	pkt->len += gap + tail;
	*front = seg->data;
	return true;
}

#endif
