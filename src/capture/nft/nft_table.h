/*
 * nft_table.h - our nftables tables themselves, and whose they are; what is in them is made by
 * scripts (ruleset.h).
 *
 * A table with NFT_TABLE_F_OWNER takes changes only from the netlink socket that made or adopted
 * it: no flush, no deletion, no rule of anybody else. With NFT_TABLE_F_PERSIST (Linux 6.9) it stays
 * when that socket is closed; it is an orphan then, which anybody may change, and the next owner
 * adopts it as it is. Owner without persist would take the rules away with the daemon, so there are
 * both flags or none (decision 0019).
 *
 * Control thread. Functions return 0 or -errno.
 */
#ifndef XF_CAPTURE_NFT_TABLE_H
#define XF_CAPTURE_NFT_TABLE_H

#include "capture/ops.h"

struct nft_ctx;
struct xf_nft_batch;

/*
 * A context of libnftables, and a batch over its socket: what one of them owns, the other may
 * change. *@shared: it is over another socket, because libnftables' was not found.
 */
int xf_nft_open(struct nft_ctx **nft, struct xf_nft_batch **batch, bool *shared);

/* Does this kernel have owners and persistence, and can both change what @batch owns? */
bool xf_nft_can_own(struct nft_ctx *nft, struct xf_nft_batch *batch);

/*
 * The table is there from then on, with what is in it, and not dormant. With @own it is ours alone:
 * -EOPNOTSUPP for one that was made without an owner, which it cannot get. -EPERM: it is somebody
 * else's.
 */
int xf_nft_table_make(struct xf_nft_batch *batch, enum xf_nft_family family, bool own);

/* It is not there from then on. -EPERM: it is somebody else's. */
int xf_nft_table_delete(struct xf_nft_batch *batch, enum xf_nft_family family);

/* Wait until no other process owns our table of family inet, for 10 s: a daemon that is killed
 * gives up its lock a little before its sockets. */
void xf_nft_table_await(struct xf_nft_batch *batch);

#endif
