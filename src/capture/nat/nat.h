/*
 * nat.h - chains of our nftables table for a namespace in which somebody else translates
 * addresses, as text.
 *
 * They are there only while another program has a nat hook: rules that ask conntrack switch it on
 * for the namespace, and each packet would pay for it. Pure: no kernel. Control thread.
 */
#ifndef XF_CAPTURE_NAT_H
#define XF_CAPTURE_NAT_H

#include <stdio.h>

#include "port/io.h"

/* Names of its sets begin so. Packets fill them, so what they hold is nobody's business. */
#define XF_NAT_SETS "nat_"

/* Chains of xf_frame_put() that stay empty without NAT, called around the in and fwd policies. */
#define XF_NAT_ARRIVED "nat_arrived"
#define XF_NAT_RESTORED "nat_restored"
/* Likewise, before the policies out: what is not to be captured yet. */
#define XF_NAT_LATER "nat_later"

/* Conntrack's zone of the original direction of flows whose source NAT stays within policies. */
#define XF_NAT_ZONE_WITHIN 0x7867u

/* How many of the chains: not every kernel has those that translate. */
enum xf_nat_chains {
	XF_NAT_NONE,
	XF_NAT_GUARD, /* what gets another source on its way to the TUN is dropped */
	XF_NAT_ALL,
};

/*
 * Statements that make the chains, there or not, and fill them; xf_frame_put() came before.
 * @asks, of all: NAT is asked for the source of what is to be protected, which takes the twin in
 * netfilter (twin.h).
 */
void xf_nat_put(FILE *f, const struct xf_io_names *names, enum xf_nat_chains which, bool asks);

/* Statements that take the chains away, there or not. */
void xf_nat_put_deletion(FILE *f);

/* Commands for their sets, one by one: what is not there fails alone. NULL ends them. */
extern const char *const xf_nat_delete_sets[];

#endif
