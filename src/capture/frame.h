/*
 * frame.h - the chains of our nftables table that do not depend on policies, as text.
 *
 * Pure: no kernel. Control thread.
 */
#ifndef XF_CAPTURE_FRAME_H
#define XF_CAPTURE_FRAME_H

#include <stdio.h>

#include "io/io.h"

/* Statements that make the table, there or not, and leave it with empty chains for policies. */
void xf_frame_put(FILE *f, const struct xf_io_names *names);

#endif
