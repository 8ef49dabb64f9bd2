/*
 * egress.h - what the backstop and the daemon that loads it agree on.
 *
 * Integers are in host byte order but for addresses, which are as on the wire.
 */
#ifndef XF_BPF_EGRESS_H
#define XF_BPF_EGRESS_H

#include <linux/types.h>

#define XF_EGRESS_RULES_MAX 512
/* Room for two covers (src/io/cover.h), while one takes the place of another. */
#define XF_EGRESS_PREFIXES_MAX 131072

/* A selector of a policy out, in the order in which policies are asked. */
struct xf_egress_rule {
	__u32 saddr_be[4];
	__u32 daddr_be[4];
	__u32 smask_be[4];
	__u32 dmask_be[4];
	__u32 mark;
	__u32 mark_mask;
	__u16 sport;
	__u16 sport_mask;
	__u16 dport;
	__u16 dport_mask;
	__u8 family; /* 4, 6; 0: both */
	__u8 proto; /* 0: any */
	__u8 drop; /* else let pass */
	__u8 spare;
};

/* Destinations that any rule that drops could match: what is not in here needs no further look. */
struct xf_egress_prefix {
	__u32 bits; /* 32 for the family in front, and those of the prefix */
	__u32 family_be;
	__u32 addr_be[4];
};

/* Two tables of rules: one in force, one being filled. */
struct xf_egress_config {
	__u32 mark_bypass;
	__u32 active; /* 0 or 1 */
	__u32 count[2]; /* rules */
};

#endif
