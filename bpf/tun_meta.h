/*
 * tun_meta.h - what the kernel knows of a captured packet beside its bytes; bpf/meta.bpf.c puts it
 * in front of the packet on the TUN device, src/port/tun/tun.c takes it off.
 */
#ifndef XF_BPF_TUN_META_H
#define XF_BPF_TUN_META_H

/*
 * First byte 0xf0 to 0xf7: no IP version, so a packet with it cannot be taken for one without.
 * Three bits of it are flags.
 */
#define XF_META_MAGIC 0x766d7ff0u /* little endian: f0 7f 6d 76 */
/* The host's NAT has given it another source on its way here, as it should (src/capture/nat/nat.c):
 * the packet's priority says so. */
#define XF_META_TRANSLATED 1u
#define XF_META_PRIORITY_TRANSLATED 0x78660020u
/* That of a socket by which the daemon sends on what no policy wanted (src/host/names.h). */
#define XF_META_PRIORITY_SENT_ON 0x78660000u
/* It has come back, or is on a way that leads to us again: we have sent it. */
#define XF_META_OURS 2u
/* The host's NAT may want to change its source (src/port/ask.c). */
#define XF_META_ASK 4u
#define XF_META_PRIORITY_ASK 0x78660030u
#define XF_META_FLAGS (XF_META_TRANSLATED | XF_META_OURS | XF_META_ASK)
/* A tunnel of the host's has made it of what a socket with the bypass mark has sent
 * (src/capture/nft/frame.c): it is not that socket's. The last four bits are the packet's own. */
#define XF_META_PRIORITY_ENCAPSULATED 0x78660070u
#define XF_META_PRIORITY_MASK 0xfffffff0u

/*
 * Not larger: the kernel leaves 16 bytes in front of a packet that it sends by a TUN, and moves the
 * packet to make room for more.
 */
struct xf_meta {
	__u32 magic; /* and flags */
	__u32 mark; /* as the packet had it, the capture bit included */
	__u32 iif; /* where it was received; 0: sent by this host */
	__u32 uid; /* of the sending socket, (__u32)-1: not known */
};

_Static_assert(sizeof(struct xf_meta) <= 16, "the kernel would move each packet");

#endif
