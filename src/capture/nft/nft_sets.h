/*
 * nft_sets.h - elements of the sets of destinations that the capture rules look at, changed one by
 * one: libnftables reads what there is before each change, which costs more than the change.
 *
 * Control thread. Functions return 0 or -errno.
 */
#ifndef XF_CAPTURE_NFT_SETS_H
#define XF_CAPTURE_NFT_SETS_H

#include "capture/nft/cover.h"
#include "capture/ops.h"
#include "capture/nft/sieve.h"

#define XF_NFT_SET_NAME 64

/* A set: its elements are addresses of a packet, cut to so many bits, then its mark under a mask,
 * its protocol, and ports under masks; what is there of it. */
struct xf_nft_set {
	char name[XF_NFT_SET_NAME];
	bool six;
	bool pieces; /* of fragmented packets alone */
	bool proto;
	unsigned n; /* addresses */
	const char *side[2]; /* "saddr", "daddr" */
	uint8_t bits[2];
	uint8_t from[2]; /* which of a cell's */
	uint32_t mark_mask; /* 0: not asked for */
	uint16_t port_mask[2]; /* of source, destination; 0: not asked for */
};

/* The set of a cover's cells of one length, with its round: "dst4_24_1f". */
void xf_nft_set_of_cover(struct xf_nft_set *out, const struct xf_cover *cover, bool six,
			 unsigned rung);
/* A set of a sieve: "in4_16_24_0_", or with a mark "in4_16_24_mff_0_", with protocol and ports
 * "in4_16_24_p_0_ffff_0_", with "b_" of policies that block, and the sieve's round. */
void xf_nft_set_of_sieve(struct xf_nft_set *out, const struct xf_sieve *sieve, unsigned kind);

/*
 * Bring pending cells into the sets (@there), or those that go out of them, set by set, and note it
 * in their `at`. On an error some may be in the kernel and not noted: make all sets anew.
 */
int xf_nft_sets_cover(const struct xf_capture_ops *ops, void *arg, struct xf_cover *cover,
		      bool there);
int xf_nft_sets_sift(const struct xf_capture_ops *ops, void *arg, struct xf_sieve *sieve,
		     bool there);

/* The sum of what ops->nft_element_digest() says of each element that stands in the sets. */
uint64_t xf_nft_sets_cover_digest(const struct xf_capture_ops *ops, const struct xf_cover *cover);
uint64_t xf_nft_sets_sieve_digest(const struct xf_capture_ops *ops, const struct xf_sieve *sieve);

/* The kernel's way: elements as netlink messages, so many a transaction as fit the batch. */
struct xf_nft_batch;
int xf_nft_elements_put(struct xf_nft_batch *batch, const struct xf_nft_set *set,
			const struct xf_cell_key *key, bool there);

/* FNV-1a of @len bytes at @bytes, behind what @digest has seen (XF_NFT_DIGEST: nothing). */
#define XF_NFT_DIGEST 0xcbf29ce484222325ull
uint64_t xf_nft_digest(uint64_t digest, const void *bytes, size_t len);

/* Of an element by the name of its set and its value, as the kernel has them. */
uint64_t xf_nft_elements_digest_value(const char *set, const void *value, size_t len);
uint64_t xf_nft_elements_digest(const struct xf_nft_set *set, const struct xf_cell_key *key);

#endif
