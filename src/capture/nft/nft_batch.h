/*
 * nft_batch.h - messages to nf_tables behind each other, as one transaction, over a socket of the
 * caller's choice: a table with an owner takes changes from one socket alone.
 *
 * Control thread. Functions return 0 or -errno.
 */
#ifndef XF_CAPTURE_NFT_BATCH_H
#define XF_CAPTURE_NFT_BATCH_H

#include <stdbool.h>
#include <stdint.h>

struct nlmsghdr;
struct xf_nft_batch;

/* The batch owns @fd, a socket of NETLINK_NETFILTER, also on an error; -1: one of its own. */
int xf_nft_batch_new(int fd, struct xf_nft_batch **out);
void xf_nft_batch_free(struct xf_nft_batch *batch); /* NULL is allowed */

/* Begin the next message, NFT_MSG_@kind with @flags; the caller adds its attributes, at most
 * XF_NFT_BATCH_MESSAGE bytes with this, or to the last one, until the batch is full. It stays the
 * batch's. */
#define XF_NFT_BATCH_MESSAGE 256
struct nlmsghdr *xf_nft_batch_add(struct xf_nft_batch *batch, uint8_t kind, uint8_t family,
				  uint16_t flags);

/* The last one that was begun, or NULL: the batch is empty. */
struct nlmsghdr *xf_nft_batch_last(const struct xf_nft_batch *batch);

/* Is there no room for one more? */
bool xf_nft_batch_is_full(const struct xf_nft_batch *batch);

/* Send what was added, and wait for the kernel's answer; the batch is empty then. */
int xf_nft_batch_commit(struct xf_nft_batch *batch);

#endif
