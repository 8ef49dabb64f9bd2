/*
 * policy_maps.h - what the programs know of policies, and what the daemon tells them.
 *
 * Policies are entries of one hash map. An entry's key has those bits of addresses, mark, ports and
 * protocol that the policy asks for, and the number of its kind: which bits that are. A packet is
 * looked up once for each kind in use; of the policies that are found the one decides that the SPD
 * would find (docs/decisions/0006): the first of each class, and of these by priority and position.
 * Where a key does not tell what a policy asks for, that policy has an entry of a kind apart
 * (docs/decisions/0036).
 *
 * Integers are in host byte order but for addresses, which are as on the wire.
 */
#ifndef XF_BPF_POLICY_MAPS_H
#define XF_BPF_POLICY_MAPS_H

#include <linux/types.h>

/* Policies of one direction and type are a part: 2 * direction + type. */
#define XF_BPF_PARTS 6
/* Kinds of a part. */
#define XF_BPF_KINDS_MAX 1024
/* Entries of all parts. */
#define XF_BPF_ENTRIES_MAX 524288
/* Room for two covers (src/capture/nft/cover.h), while one takes the place of another. */
#define XF_BPF_PREFIXES_MAX 131072
/* Classes of policies: enum rule_class of src/spd/. */
#define XF_BPF_CLASSES 5

/* What a key of a kind says of a packet that has its bits. */
enum xf_bpf_match {
	XF_BPF_MATCHES, /* the policy matches it */
	XF_BPF_MAY_LET_PASS, /* a policy may match it, and lets it pass then */
	XF_BPF_MAY_REFUSE, /* a policy may match it, and is strict */
};

/* Which bits of a packet the keys of a kind have; the others are 0 in them. */
struct xf_bpf_kind {
	__u32 smask_be[4];
	__u32 dmask_be[4];
	__u32 mark_mask;
	__u16 sport_mask;
	__u16 dport_mask;
	__u8 family; /* 4, 6; 0: there is no such kind */
	__u8 proto; /* is it asked for? */
	__u8 no_ports; /* policies with ports, for packets whose ports are not known */
	__u8 match; /* enum xf_bpf_match */
	/* One of its policies lets pass and was updated: it may hide another of its class that
	 * would win among classes, and itself not win. */
	__u8 tied;
	__u8 spare[2];
};

struct xf_bpf_key {
	__u32 saddr_be[4];
	__u32 daddr_be[4];
	__u32 mark;
	__u16 sport;
	__u16 dport;
	__u16 kind; /* XF_BPF_KINDS_MAX * part + number */
	__u8 proto;
	__u8 zero;
};

/* The policy that stands first among those of one key. */
struct xf_bpf_entry {
	__u64 rank;
	__u64 pos; /* of those that may match, the rank: none of them has a lower one */
	__u32 priority;
	__u8 class_of;
	__u8 strict; /* what it selects must not pass in clear */
	__u8 protects; /* strict, and not by optional templates alone */
	__u8 spare;
};

/* Destinations of strict policies out: what is not in here needs no further look. */
struct xf_bpf_prefix {
	__u32 bits; /* 32 for the family in front, and those of the prefix */
	__u32 family_be;
	__u32 addr_be[4];
};

/* Where the kernel keeps what NAT did to a packet, in bytes; nfct 0: it is not known. */
struct xf_bpf_nat {
	__u16 nfct; /* in struct sk_buff */
	__u16 status; /* in struct nf_conn, ... */
	__u16 tuple[2]; /* ... of each direction */
	/* In a tuple. */
	__u16 src;
	__u16 sport;
	__u16 dst;
	__u16 dport;
	__u16 proto;
	__u16 spare;
};

/* Where the kernel keeps the network namespace of a packet's device, in bytes. */
struct xf_bpf_netns {
	__u64 cookie; /* of that whose policies these are; 0: it is not asked for */
	__u16 dev; /* in struct sk_buff */
	__u16 net; /* in struct net_device */
	__u16 net_cookie; /* in struct net */
	__u16 spare;
};

struct xf_bpf_config {
	__u32 mark_bypass;
	__u32 mark_capture;
	__u32 kinds[XF_BPF_PARTS]; /* how many numbers are in use */
	__u32 by_destination; /* of policies out, the prefixes decide alone */
	__u32 tun_ifindex; /* 0: it is not there, or down */
	struct xf_bpf_netns netns;
	struct xf_bpf_nat nat;
};

/* What was dropped, or sent to the TUN, by whom. */
enum xf_bpf_count {
	XF_BPF_EGRESS_DROPPED,
	XF_BPF_EGRESS_CAPTURED,
	XF_BPF_IN_DROPPED, /* for this host, by the twin in netfilter */
	XF_BPF_FWD_DROPPED,
	XF_BPF_INGRESS_DROPPED, /* by the twin at devices */
	XF_BPF_COUNTS,
};

/*
 * Rules of nftables leave this in a packet's priority when they have found that its socket has the
 * bypass mark: programs of type netfilter cannot look sockets up.
 */
#define XF_BPF_PRIORITY_BYPASS 0x78667264u

#endif
