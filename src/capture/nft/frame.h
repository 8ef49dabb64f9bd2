/*
 * frame.h - the chains of our nftables table that do not depend on policies, as text.
 *
 * Pure: no kernel. Control thread.
 */
#ifndef XF_CAPTURE_FRAME_H
#define XF_CAPTURE_FRAME_H

#include <stdio.h>

#include "capture/exempt.h"
#include "port/io.h"

/*
 * Statements that make the chains, there or not, and leave those for policies empty. The policies
 * are not asked about what is @exempt (NULL: nothing).
 */
void xf_frame_put(FILE *f, const struct xf_io_names *names, const struct xf_exempt *exempt);

/* The table is there, and something else is exempt now: those chains are emptied and filled again,
 * in one transaction; nothing happens to those for policies. */
void xf_frame_put_again(FILE *f, const struct xf_io_names *names, const struct xf_exempt *exempt);

/*
 * With br_netfilter, frames between ports of a bridge pass the chains of family inet, though nobody
 * routes them. Statements that make chains in our empty table of family bridge, which sign such
 * frames, so that those of inet leave them alone. Not every kernel has the family: for a
 * transaction of its own.
 */
void xf_frame_bridge_put(FILE *f, const struct xf_io_names *names);

#endif
