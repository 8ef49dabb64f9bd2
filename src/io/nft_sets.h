/*
 * nft_sets.h - elements of the sets of destinations that the capture rules look at, changed one by
 * one: libnftables reads what there is before each change, which costs more than the change.
 *
 * Control thread. Functions return 0 or -errno.
 */
#ifndef XF_IO_NFT_SETS_H
#define XF_IO_NFT_SETS_H

#include "io/cover.h"
#include "io/rtnl.h"

struct xf_nft_sets;

int xf_nft_sets_new(struct xf_nft_sets **out, struct xf_io_error *error);
void xf_nft_sets_free(struct xf_nft_sets *sets); /* NULL is allowed */

#define XF_NFT_SET_NAME 16

/* "dst4_24", for cells of IPv4 of 24 bits. */
void xf_nft_set_name(char name[XF_NFT_SET_NAME], bool six, unsigned rung);

/*
 * Bring the pending cells of @cover into the sets, or out of them, and note it in their `at`. On an
 * error some may be in the kernel and not noted: make all sets anew.
 */
int xf_nft_sets_follow(struct xf_nft_sets *sets, const struct xf_cover *cover);

#endif
