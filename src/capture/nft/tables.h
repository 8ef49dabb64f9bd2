/*
 * tables.h - our nftables tables as capture.c has them: there, and empty when they are made anew.
 *
 * Control thread. Functions return 0 or -errno with a sentence in @error.
 */
#ifndef XF_CAPTURE_TABLES_H
#define XF_CAPTURE_TABLES_H

#include "capture/state.h"

/* The table of family inet is there, and it is known whether others may change it. */
int xf_tables_make(struct xf_capture *capture, struct xf_io_error *error);

/*
 * @script, which fills the table of family inet, behind what takes out of it whatever is there, so
 * that in one transaction nothing is left of what somebody else has put in. The table @stays, with
 * sets and counters, where it cannot be made anew or is not to be; else its counters go with it,
 * and are kept here. Frees @script; NULL: no memory, or the kernel does not answer.
 */
char *xf_tables_in_place_of_old(struct xf_capture *capture, bool stays, char *script);

/*
 * The table of family bridge. Without it frames that a bridge forwards may be lost, and counted:
 * never anything in clear. Not every kernel has it: where it was once, it can be again, and fails;
 * else that is tried again then (UINT64_MAX: it is there, or cannot be).
 */
int xf_tables_sign_bridged(struct xf_capture *capture, struct xf_io_error *error);
uint64_t xf_tables_bridge_due(const struct xf_capture *capture);

#endif
