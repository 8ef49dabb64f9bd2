#include <errno.h>

#include "pkt/pool.h"
#include "pkt/pkt_test.h"

/* The longest run of header bytes that one call opens, copies or makes writable. */
#define HDR_MAX 512

static bool is_own(const struct xf_seg *seg)
{
	return seg->buf->home && (seg->buf->refs == 1 || !seg->buf->shared);
}

/* Is all of the buffer the segment's, the bytes around it too? */
static bool has_room(const struct xf_seg *seg)
{
	return seg->buf->home && seg->buf->refs == 1;
}

static uint32_t room_front(const struct xf_seg *seg)
{
	return has_room(seg) ? (uint32_t)(seg->data - seg->buf->mem) : 0;
}

static uint32_t room_back(const struct xf_seg *seg)
{
	if (!has_room(seg))
		return 0;
	return (uint32_t)(seg->buf->mem + seg->buf->size - (seg->data + seg->len));
}

int xf_pkt_reserve(struct xf_pkt *pkt, uint32_t more)
{
	uint32_t want = pkt->nsegs + more;
	struct xf_buf *buf;

	if (want <= pkt->seg_cap)
		return 0;
	buf = xf_pool_get_buf(pkt->pool, want * 2 * (uint32_t)sizeof(struct xf_seg));
	if (!buf)
		return -ENOBUFS;
	memcpy(buf->mem, pkt->segs, pkt->nsegs * sizeof(struct xf_seg));
	pkt->segs = (struct xf_seg *)(void *)buf->mem;
	pkt->seg_cap = (uint16_t)(buf->size / sizeof(struct xf_seg));
	if (pkt->seg_buf)
		xf_pool_put_buf(pkt->seg_buf);
	pkt->seg_buf = buf;
	return 0;
}

/* Shift segments from @at up by @n; the caller has reserved and fills the hole. */
static void open_segs(struct xf_pkt *pkt, uint32_t at, uint32_t n)
{
	memmove(&pkt->segs[at + n], &pkt->segs[at], (pkt->nsegs - at) * sizeof(struct xf_seg));
	pkt->nsegs = (uint16_t)(pkt->nsegs + n);
}

static void close_segs(struct xf_pkt *pkt, uint32_t at, uint32_t n)
{
	for (uint32_t i = at; i < at + n; i++)
		xf_pool_put_buf(pkt->segs[i].buf);
	memmove(&pkt->segs[at], &pkt->segs[at + n], (pkt->nsegs - at - n) * sizeof(struct xf_seg));
	pkt->nsegs = (uint16_t)(pkt->nsegs - n);
}

/* The segment that holds byte @off and the offset in it; off == len gives the end of the last. */
static uint32_t find_seg(const struct xf_pkt *pkt, uint32_t off, uint32_t *in_seg)
{
	uint32_t i = 0;

	while (i + 1 < pkt->nsegs && off >= pkt->segs[i].len)
		off -= pkt->segs[i++].len;
	*in_seg = off;
	return i;
}

int xf_pkt_cut(struct xf_pkt *pkt, uint32_t off)
{
	uint32_t in_seg;
	uint32_t i;
	struct xf_seg *seg;
	int err;

	if (off == pkt->len)
		return pkt->nsegs;
	i = find_seg(pkt, off, &in_seg);
	if (in_seg == 0)
		return (int)i;
	err = xf_pkt_reserve(pkt, 1);
	if (err)
		return err;
	open_segs(pkt, i + 1, 1);
	seg = &pkt->segs[i];
	seg[1].data = seg->data + in_seg;
	seg[1].len = seg->len - in_seg;
	seg[1].buf = seg->buf;
	seg->buf->refs++;
	seg->len = in_seg;
	return (int)i + 1;
}

/* Put a fresh segment of @len bytes at index @at, with head room when it becomes the first. */
static uint8_t *new_seg(struct xf_pkt *pkt, uint32_t at, uint32_t len)
{
	struct xf_buf *buf;
	struct xf_seg *seg;

	if (xf_pkt_reserve(pkt, 1) < 0)
		return NULL;
	buf = xf_pool_get_buf(pkt->pool, XF_PKT_HEADROOM + len + XF_PKT_TAILROOM);
	if (!buf)
		return NULL;
	open_segs(pkt, at, 1);
	seg = &pkt->segs[at];
	seg->buf = buf;
	seg->data = buf->mem + XF_PKT_HEADROOM;
	seg->len = len;
	pkt->len += len;
	return seg->data;
}

struct xf_pkt *xf_pkt_new(struct xf_pool *pool, uint32_t len)
{
	struct xf_pkt *pkt;

	if (len > XF_PKT_MAX)
		return NULL;
	pkt = xf_pool_get_pkt(pool);
	if (!pkt)
		return NULL;
	if (!new_seg(pkt, 0, len)) {
		xf_pool_put_pkt(pkt);
		return NULL;
	}
	pkt->segs[0].len = 0;
	pkt->len = 0;
	return pkt;
}

struct xf_pkt *xf_pkt_attach(struct xf_pool *pool, const void *data, uint32_t len,
			     struct xf_buf *foreign)
{
	struct xf_pkt *pkt = xf_pool_get_pkt(pool);

	if (!pkt)
		return NULL;
	foreign->refs++;
	pkt->segs[0].buf = foreign;
	pkt->segs[0].data = (uint8_t *)(uintptr_t)data;
	pkt->segs[0].len = len;
	pkt->nsegs = 1;
	pkt->len = len;
	return pkt;
}

/* What a packet has goes back to where it came from; its pool's thread only. */
static void free_here(struct xf_pkt *pkt)
{
	for (uint32_t i = 0; i < pkt->nsegs; i++)
		xf_pool_put_buf(pkt->segs[i].buf);
	if (pkt->seg_buf)
		xf_pool_put_buf(pkt->seg_buf);
	xf_pool_put_pkt(pkt);
}

void xf_pkt_free(struct xf_pkt *pkt)
{
	if (!pkt)
		return;
	if (pkt->pool == xf_pool_here || (!xf_pool_here && !pkt->pool->shared) ||
	    !xf_pool_return(pkt))
		free_here(pkt);
}

void xf_pool_take_back(struct xf_pool *pool)
{
	struct xf_pkt *pkt;

	if (atomic_load_explicit(&pool->returned, memory_order_relaxed) == NULL)
		return;
	pkt = atomic_exchange_explicit(&pool->returned, NULL, memory_order_acquire);
	while (pkt) {
		struct xf_pkt *next = pkt->next;

		free_here(pkt);
		pkt = next;
	}
}

void xf_pkt_copy_metadata(struct xf_pkt *to, const struct xf_pkt *from)
{
	memcpy(&to->family, &from->family,
	       offsetof(struct xf_pkt, sp) - offsetof(struct xf_pkt, family));
	to->sp_len = 0;
}

struct xf_pkt *xf_pkt_slice(const struct xf_pkt *pkt, uint32_t off, uint32_t len)
{
	struct xf_pkt *slice = xf_pool_get_pkt(pkt->pool);
	int n;

	if (!slice)
		return NULL;
	xf_pkt_copy_metadata(slice, pkt);
	n = xf_pkt_reserve(slice, pkt->nsegs) < 0
		    ? -ENOBUFS
		    : xf_pkt_segs(pkt, off, len, slice->segs, slice->seg_cap);
	if (n < 0) {
		xf_pkt_free(slice);
		return NULL;
	}
	slice->nsegs = (uint16_t)n;
	slice->len = len;
	for (int i = 0; i < n; i++) {
		slice->segs[i].buf->refs++;
		slice->segs[i].buf->shared = true;
	}
	return slice;
}

struct xf_pkt *xf_pkt_split_front(struct xf_pkt *pkt, uint32_t len)
{
	struct xf_pkt *front;
	int n;

	if (len == 0 || len >= pkt->len)
		return NULL;
	n = xf_pkt_cut(pkt, len);
	front = n < 0 ? NULL : xf_pool_get_pkt(pkt->pool);
	if (!front)
		return NULL;
	if (xf_pkt_reserve(front, (uint32_t)n) < 0) {
		xf_pool_put_pkt(front);
		return NULL;
	}
	xf_pkt_copy_metadata(front, pkt);
	memcpy(front->segs, pkt->segs, (uint32_t)n * sizeof(struct xf_seg));
	front->nsegs = (uint16_t)n;
	front->len = len;
	pkt->nsegs = (uint16_t)(pkt->nsegs - n);
	memmove(pkt->segs, pkt->segs + n, pkt->nsegs * sizeof(struct xf_seg));
	pkt->len -= len;
	return front;
}

int xf_pkt_join(struct xf_pkt *pkt, struct xf_pkt *tail)
{
	int err = xf_pkt_reserve(pkt, tail->nsegs);

	if (err)
		return err;
	for (unsigned i = 0; i < tail->nsegs; i++) {
		if (tail->segs[i].len > 0)
			pkt->segs[pkt->nsegs++] = tail->segs[i];
		else
			xf_pool_put_buf(tail->segs[i].buf);
	}
	pkt->len += tail->len;
	tail->nsegs = 0;
	xf_pkt_free(tail);
	return 0;
}

uint8_t *xf_pkt_prepend(struct xf_pkt *pkt, uint32_t len)
{
	struct xf_seg *seg = pkt->segs;

	if (pkt->nsegs > 0 && len <= room_front(seg)) {
		seg->data -= len;
		seg->len += len;
		pkt->len += len;
		return seg->data;
	}
	return new_seg(pkt, 0, len);
}

uint8_t *xf_pkt_append(struct xf_pkt *pkt, uint32_t len)
{
	if (pkt->nsegs > 0) {
		struct xf_seg *seg = &pkt->segs[pkt->nsegs - 1];

		if (len <= room_back(seg)) {
			seg->len += len;
			pkt->len += len;
			return seg->data + seg->len - len;
		}
	}
	return new_seg(pkt, pkt->nsegs, len);
}

uint8_t *xf_pkt_insert(struct xf_pkt *pkt, uint32_t off, uint32_t gap)
{
	uint8_t hdr[HDR_MAX];
	struct xf_seg *first = &pkt->segs[0];
	uint8_t *front;

	if (off > HDR_MAX || off > pkt->len)
		return NULL;
	if (XF_LIKELY(off <= first->len && gap <= room_front(first))) {
		if (off > 0)
			memmove(first->data - gap, first->data, off);
		first->data -= gap;
		first->len += gap;
		pkt->len += gap;
		return first->data + off;
	}
	/* A new first segment: copy of the headers, gap; the old headers are cut off. */
	if (xf_pkt_copy_out(pkt, 0, hdr, off) < 0)
		return NULL;
	front = new_seg(pkt, 0, off + gap);
	if (!front)
		return NULL;
	memcpy(front, hdr, off);
	pkt->segs[0].len = 0;
	pkt->len -= off + gap;
	xf_pkt_trim_front(pkt, off);
	pkt->segs[0].len = off + gap;
	pkt->len += off + gap;
	return front + off;
}

int xf_pkt_remove(struct xf_pkt *pkt, uint32_t off, uint32_t gap)
{
	uint8_t hdr[HDR_MAX];
	uint8_t *front;

	if (off > HDR_MAX || off + gap > pkt->len)
		return -EINVAL;
	if (off + gap <= pkt->segs[0].len && is_own(&pkt->segs[0])) {
		memmove(pkt->segs[0].data + gap, pkt->segs[0].data, off);
		xf_pkt_trim_front(pkt, gap);
		return 0;
	}
	/* Take what stands in front of the gap along: cut both, put the copy back. */
	xf_pkt_copy_out(pkt, 0, hdr, off);
	if (!new_seg(pkt, 0, off))
		return -ENOBUFS;
	front = pkt->segs[0].data;
	memcpy(front, hdr, off);
	pkt->segs[0].len = 0;
	pkt->len -= off;
	xf_pkt_trim_front(pkt, off + gap);
	pkt->segs[0].len = off;
	pkt->len += off;
	return 0;
}

/* Segments without bytes are dropped, but for a first one that is our own head room. */
void xf_pkt_trim_front_on(struct xf_pkt *pkt, uint32_t len)
{
	uint32_t i = 0;

	pkt->len -= len;
	while (len > 0) {
		struct xf_seg *seg = &pkt->segs[i];
		uint32_t n = xf_min_u32(len, seg->len);

		seg->data += n;
		seg->len -= n;
		len -= n;
		if (seg->len == 0)
			i++;
	}
	for (uint32_t k = pkt->nsegs; k-- > 1;)
		if (pkt->segs[k].len == 0)
			close_segs(pkt, k, 1);
	if (pkt->nsegs > 1 && pkt->segs[0].len == 0 && !is_own(&pkt->segs[0]))
		close_segs(pkt, 0, 1);
}

void xf_pkt_trim_back_on(struct xf_pkt *pkt, uint32_t len)
{
	pkt->len -= len;
	while (len > 0) {
		struct xf_seg *seg = &pkt->segs[pkt->nsegs - 1];
		uint32_t n = xf_min_u32(len, seg->len);

		seg->len -= n;
		len -= n;
		if (seg->len == 0 && pkt->nsegs > 1)
			close_segs(pkt, pkt->nsegs - 1u, 1);
	}
}

const uint8_t *xf_pkt_peek_on(const struct xf_pkt *pkt, uint32_t off, uint32_t len, void *scratch)
{
	uint32_t in_seg;
	uint32_t i;

	if (len > pkt->len || off > pkt->len - len)
		return NULL;
	i = find_seg(pkt, off, &in_seg);
	if (XF_LIKELY(in_seg + len <= pkt->segs[i].len))
		return pkt->segs[i].data + in_seg;
	xf_pkt_copy_out(pkt, off, scratch, len);
	return scratch;
}

uint8_t *xf_pkt_writable(struct xf_pkt *pkt, uint32_t off, uint32_t len)
{
	uint8_t copy[HDR_MAX];
	uint32_t in_seg;
	uint32_t i;
	int first;
	int last;
	uint8_t *data;

	if (len > HDR_MAX || len > pkt->len || off > pkt->len - len)
		return NULL;
	i = find_seg(pkt, off, &in_seg);
	if (XF_LIKELY(in_seg + len <= pkt->segs[i].len && is_own(&pkt->segs[i])))
		return pkt->segs[i].data + in_seg;
	xf_pkt_copy_out(pkt, off, copy, len);
	first = xf_pkt_cut(pkt, off);
	last = first < 0 ? first : xf_pkt_cut(pkt, off + len);
	if (last < 0)
		return NULL;
	data = new_seg(pkt, (uint32_t)first, len);
	if (!data)
		return NULL;
	memcpy(data, copy, len);
	close_segs(pkt, (uint32_t)first + 1, (uint32_t)(last - first));
	pkt->len -= len;
	return data;
}

bool xf_pkt_is_own(const struct xf_pkt *pkt, uint32_t off, uint32_t len)
{
	uint32_t pos = 0;

	if (XF_LIKELY(pkt->nsegs == 1))
		return is_own(&pkt->segs[0]);
	for (uint32_t i = 0; i < pkt->nsegs; i++) {
		const struct xf_seg *seg = &pkt->segs[i];

		if (pos < off + len && pos + seg->len > off && !is_own(seg))
			return false;
		pos += seg->len;
	}
	return true;
}

int xf_pkt_copy_out(const struct xf_pkt *pkt, uint32_t off, void *out, uint32_t len)
{
	uint8_t *p = out;
	uint32_t in_seg;

	if (len > pkt->len || off > pkt->len - len)
		return -EINVAL;
	for (uint32_t i = find_seg(pkt, off, &in_seg); len > 0; i++, in_seg = 0) {
		uint32_t n = xf_min_u32(len, pkt->segs[i].len - in_seg);

		memcpy(p, pkt->segs[i].data + in_seg, n);
		p += n;
		len -= n;
	}
	return 0;
}

int xf_pkt_segs(const struct xf_pkt *pkt, uint32_t off, uint32_t len, struct xf_seg *out, int max)
{
	uint32_t in_seg;
	int n = 0;

	if (XF_LIKELY(pkt->nsegs == 1 && len > 0 && max > 0 && (uint64_t)off + len <= pkt->len)) {
		out->data = pkt->segs[0].data + off;
		out->len = len;
		out->buf = pkt->segs[0].buf;
		return 1;
	}
	if (len > pkt->len || off > pkt->len - len)
		return -EMSGSIZE;
	for (uint32_t i = find_seg(pkt, off, &in_seg); len > 0; i++, in_seg = 0) {
		const struct xf_seg *seg = &pkt->segs[i];
		uint32_t take = xf_min_u32(len, seg->len - in_seg);

		if (take == 0)
			continue;
		if (n == max)
			return -EMSGSIZE;
		out[n].data = seg->data + in_seg;
		out[n].len = take;
		out[n].buf = seg->buf;
		len -= take;
		n++;
	}
	return n;
}

int xf_pkt_linearize(struct xf_pkt *pkt)
{
	struct xf_buf *buf;
	struct xf_seg seg;

	if (pkt->nsegs <= 1)
		return 0;
	buf = xf_pool_get_buf(pkt->pool, XF_PKT_HEADROOM + pkt->len + XF_PKT_TAILROOM);
	if (!buf)
		return -ENOBUFS;
	seg = (struct xf_seg){ .data = buf->mem + XF_PKT_HEADROOM, .len = pkt->len, .buf = buf };
	xf_pkt_copy_out(pkt, 0, seg.data, seg.len);
	close_segs(pkt, 0, pkt->nsegs);
	pkt->segs[0] = seg;
	pkt->nsegs = 1;
	pkt->pool->stats.lin_copies++;
	pkt->pool->stats.payload_bytes_copied += seg.len;
	return 0;
}
