/*
 * nat_layout.h - where this kernel keeps what NAT did to a packet, and the namespace of its device,
 * for programs that read it there (bpf/nat.h, egress.bpf.c).
 *
 * Types of nf_conntrack may be those of a module, whose BTF libbpf finds only with CAP_SYS_ADMIN;
 * files of /sys tell it to everybody. Control thread; functions return 0 or -errno.
 */
#ifndef XF_CAPTURE_NAT_LAYOUT_H
#define XF_CAPTURE_NAT_LAYOUT_H

#include "policy_maps.h"

struct btf;

/*
 * -ENOENT: there is no connection tracking in this kernel yet, so nothing has NAT; ask again.
 * -EOPNOTSUPP: this kernel does not tell.
 */
int xf_nat_layout_find(struct xf_bpf_nat *out);

/* The same from @types, which has those of the kernel and of nf_conntrack. */
int xf_nat_layout_read(const struct btf *types, struct xf_bpf_nat *out);

/* The namespace of a packet's device; @out keeps its cookie. -EOPNOTSUPP: likewise. */
int xf_netns_layout_find(struct xf_bpf_netns *out);

/* The same from @types. */
int xf_netns_layout_read(const struct btf *types, struct xf_bpf_netns *out);

#endif
