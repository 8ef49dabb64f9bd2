/*
 * tun_meta.h - what the kernel knows of a captured packet beside its bytes; bpf/meta.bpf.c puts it
 * in front of the packet on the TUN device, src/io/tun.c takes it off.
 */
#ifndef XF_BPF_TUN_META_H
#define XF_BPF_TUN_META_H

/* First byte 0xf0: no IP version, so a packet with it cannot be taken for one without. */
#define XF_META_MAGIC 0x756d7ff0u /* little endian: f0 7f 6d 75 */
/* The same of a packet that the host's NAT has given another source on its way here, as it should
 * (src/capture/nat.c): its priority says so. */
#define XF_META_MAGIC_TRANSLATED 0x756d7ff1u
#define XF_META_PRIORITY_TRANSLATED 0x78660020u

struct xf_meta {
	__u32 magic;
	__u32 mark; /* as the packet had it, the capture bit included */
	__u32 iif; /* where it was received; 0: sent by this host */
	__u32 uid; /* of the sending socket, (__u32)-1: not known */
	__u32 socket_mark; /* likewise, 0: not known */
};

#endif
