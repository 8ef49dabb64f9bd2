#include "crypto/walk.h"

/* The bytes at the cursor that are in one piece; empty segments are stepped over. */
static uint32_t cursor_run(struct xf_cursor *cur)
{
	while (cur->nsegs && cur->off == cur->seg->len) {
		cur->seg++;
		cur->nsegs--;
		cur->off = 0;
	}
	return cur->nsegs ? cur->seg->len - cur->off : 0;
}

void xf_walk_init(struct xf_walk *walk, const struct xf_crypto_op *op)
{
	*walk = (struct xf_walk){
		.src = { .seg = op->src, .nsegs = op->nsrc },
		.dst = { .seg = op->dst, .nsegs = op->ndst },
		.left = op->len,
	};
}

uint32_t xf_walk_run(struct xf_walk *walk, const uint8_t **in, uint8_t **out)
{
	uint32_t run = xf_min_u32(cursor_run(&walk->src), cursor_run(&walk->dst));

	run = xf_min_u32(run, walk->left);
	if (run) {
		*in = walk->src.seg->data + walk->src.off;
		*out = walk->dst.seg->data + walk->dst.off;
	}
	return run;
}

void xf_walk_skip(struct xf_walk *walk, uint32_t len)
{
	walk->src.off += len;
	walk->dst.off += len;
	walk->left -= len;
}

/* By a cursor of its own: the walk moves on in xf_walk_scatter(), for both chains at once. */
bool xf_walk_gather(const struct xf_walk *walk, uint8_t *block, uint32_t len)
{
	struct xf_cursor cur = walk->src;

	while (len) {
		uint32_t n = xf_min_u32(cursor_run(&cur), len);

		if (!n)
			return false;
		memcpy(block, cur.seg->data + cur.off, n);
		cur.off += n;
		block += n;
		len -= n;
	}
	return true;
}

bool xf_walk_scatter(struct xf_walk *walk, const uint8_t *block, uint32_t len)
{
	while (len) {
		const uint8_t *in;
		uint8_t *out;
		uint32_t n = xf_min_u32(xf_walk_run(walk, &in, &out), len);

		if (!n)
			return false;
		memcpy(out, block, n);
		xf_walk_skip(walk, n);
		block += n;
		len -= n;
	}
	return true;
}

/* In place there is nothing to copy, and source memory may then not be written at all. */
bool xf_walk_copy(const struct xf_crypto_op *op)
{
	struct xf_walk walk;
	const uint8_t *in;
	uint8_t *out;
	uint32_t n;

	xf_walk_init(&walk, op);
	while ((n = xf_walk_run(&walk, &in, &out))) {
		if (in != out)
			memcpy(out, in, n);
		xf_walk_skip(&walk, n);
	}
	return !walk.left;
}
