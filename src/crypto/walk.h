/*
 * walk.h - go through the source and the destination of an operation together.
 *
 * The two chains may be cut at different places. Stream ciphers take run after run; block ciphers
 * take the whole blocks of a run, and a block that straddles a border through 16 bytes of their
 * own (gather, then scatter): nothing longer is ever copied to be contiguous.
 *
 * Threads: values of one thread. Lengths are bytes.
 */
#ifndef XF_CRYPTO_WALK_H
#define XF_CRYPTO_WALK_H

#include <xf/crypto.h>

#ifdef __cplusplus
extern "C" {
#endif

struct xf_cursor {
	const struct xf_seg *seg;
	uint32_t nsegs; /* @seg included */
	uint32_t off; /* in @seg */
};

struct xf_walk {
	struct xf_cursor src;
	struct xf_cursor dst;
	uint32_t left; /* of the text */
};

void xf_walk_init(struct xf_walk *walk, const struct xf_crypto_op *op);

/*
 * The longest piece from here on that is contiguous on both sides: its length, 0 at the end. When
 * a chain is shorter than the text, walk->left is not 0 then.
 */
uint32_t xf_walk_run(struct xf_walk *walk, const uint8_t **in, uint8_t **out);

/* Go on by @len bytes, at most the last run. */
void xf_walk_skip(struct xf_walk *walk, uint32_t len);

/* Copy the next @len source bytes to @block without moving. False: there are fewer. */
bool xf_walk_gather(const struct xf_walk *walk, uint8_t *block, uint32_t len);

/* Write @block to the next @len destination bytes and move on. False: there are fewer. */
bool xf_walk_scatter(struct xf_walk *walk, const uint8_t *block, uint32_t len);

/* Copy the text from source to destination where they are not the same memory. */
bool xf_walk_copy(const struct xf_crypto_op *op);

#ifdef __cplusplus
}
#endif

#endif
