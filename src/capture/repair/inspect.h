/*
 * inspect.h - what stands in the kernel of what capture has put there.
 *
 * Control thread. Functions return 0 or -errno.
 */
#ifndef XF_CAPTURE_INSPECT_H
#define XF_CAPTURE_INSPECT_H

#include "capture/capture.h"
#include "capture/ops.h"

/* The nftables table; with @elements, these too. */
int xf_inspect_table(bool elements, struct xf_nft_seen *out);

/* The table's counters; libnftables would read all elements of its sets first. -ENOENT: none. */
int xf_inspect_counters(struct xf_capture_counts *out);

#endif
