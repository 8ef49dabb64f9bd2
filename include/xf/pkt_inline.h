/*
 * pkt_inline.h - what of pkt.h is not worth a call: nearly every packet is in one segment.
 *
 * Included by pkt.h, where the contracts stand. Threads and units: as there.
 */
#ifndef XF_PKT_INLINE_H
#define XF_PKT_INLINE_H

#include <xf/pkt.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The same for packets of several segments. */
const uint8_t *xf_pkt_peek_on(const struct xf_pkt *pkt, uint32_t off, uint32_t len, void *scratch);
void xf_pkt_trim_front_on(struct xf_pkt *pkt, uint32_t len);
void xf_pkt_trim_back_on(struct xf_pkt *pkt, uint32_t len);

static inline const uint8_t *xf_pkt_peek(const struct xf_pkt *pkt, uint32_t off, uint32_t len,
					 void *scratch)
{
	if (XF_LIKELY(pkt->nsegs > 0 && (uint64_t)off + len <= pkt->segs[0].len))
		return pkt->segs[0].data + off;
	return xf_pkt_peek_on(pkt, off, len, scratch);
}

static inline void xf_pkt_trim_front(struct xf_pkt *pkt, uint32_t len)
{
	if (XF_UNLIKELY(pkt->nsegs != 1)) {
		xf_pkt_trim_front_on(pkt, len);
		return;
	}
	pkt->segs[0].data += len;
	pkt->segs[0].len -= len;
	pkt->len -= len;
}

static inline void xf_pkt_trim_back(struct xf_pkt *pkt, uint32_t len)
{
	if (XF_UNLIKELY(pkt->nsegs != 1)) {
		xf_pkt_trim_back_on(pkt, len);
		return;
	}
	pkt->segs[0].len -= len;
	pkt->len -= len;
}

static inline void xf_pktq_push(struct xf_pktq *q, struct xf_pkt *pkt)
{
	pkt->next = NULL;
	if (q->tail)
		q->tail->next = pkt;
	else
		q->head = pkt;
	q->tail = pkt;
	q->count++;
}

static inline struct xf_pkt *xf_pktq_pop(struct xf_pktq *q)
{
	struct xf_pkt *pkt = q->head;

	if (!pkt)
		return NULL;
	q->head = pkt->next;
	if (!q->head)
		q->tail = NULL;
	q->count--;
	return pkt;
}

static inline void xf_pktq_append(struct xf_pktq *q, struct xf_pktq *from)
{
	if (!from->head)
		return;
	if (q->tail)
		q->tail->next = from->head;
	else
		q->head = from->head;
	q->tail = from->tail;
	q->count += from->count;
	from->head = NULL;
	from->tail = NULL;
	from->count = 0;
}

#ifdef __cplusplus
}
#endif

#endif
