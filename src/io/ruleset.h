/*
 * ruleset.h - the nftables rules that follow from an SPD, as text.
 *
 * Pure: text in memory out, no kernel. Rules may catch too much, never too little: the engine
 * sends on unchanged what no policy wants. So a policy that protects or blocks may be matched by
 * less than its whole selector; one that allows must be matched exactly, or is left out.
 */
#ifndef XF_IO_RULESET_H
#define XF_IO_RULESET_H

#include "io/io.h"

#define XF_NFT_TABLE "xfrmd"

/* Above this many policies of one direction, out rules become one set of destinations for each
 * family: a linear list would cost every packet too much. */
#define XF_RULESET_EXACT_MAX 512

/*
 * The whole table as a script for one transaction: chains are emptied and filled again, counters
 * keep their values. *@out is the caller's (free()). -ENOMEM.
 */
int xf_ruleset_build(const struct xf_io_names *names, const struct xf_spd *spd, char **out);

/* A script that takes the table away, there or not. */
extern const char xf_ruleset_delete[];

#endif
