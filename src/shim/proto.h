/*
 * proto.h - what the shim in a client and the daemon say to each other.
 *
 * A client's netlink socket is one end of a SEQPACKET socket pair; the daemon holds the other,
 * which is bound to a name of 12 bytes whose bytes 4 to 7 are zero. So recvmsg() gives the client
 * a msg_namelen of 12 and an nl_pid of 0, as from the kernel, without a hook.
 *
 * 1. The shim connects to the daemon's path and sends a struct xf_shim_hello. With XF_SHIM_OPEN
 *    come two descriptors: the daemon's end of the pair, and a TCP socket in repair mode. Only
 *    CAP_NET_ADMIN over the user namespace that owns the network namespace can set that mode,
 *    and anyone can read it: the kernel itself vouches for the caller, without a race on a pid.
 * 2. The daemon answers with a struct xf_shim_welcome and a descriptor of its network namespace.
 *    The shim compares that with its own before any request, so before any key, is sent.
 * 3. A datagram from client to daemon that carries one descriptor (SCM_RIGHTS) starts with a
 *    struct xf_shim_msg. The descriptor is a socket: the daemon sends one struct xf_shim_result
 *    to it when it has done the work and queued the answers. The sender waits for that, because
 *    the kernel has queued the answer before send() returns and programs rely on it. A datagram
 *    without a descriptor is a netlink request by itself, for which nobody waits.
 * 4. From daemon to client go netlink datagrams. An empty one tells of lost messages: the shim
 *    turns it into ENOBUFS.
 *
 * Both sides run on one machine: integers are in host order.
 */
#ifndef XF_SHIM_PROTO_H
#define XF_SHIM_PROTO_H

#include <stdint.h>

#define XF_SHIM_MAGIC 0x5866726du /* "Xfrm" */
#define XF_SHIM_VERSION 1
/* Replaces the path that the network namespace gives. */
#define XF_SHIM_PATH_ENV "XFRMD_SOCKET"
/* Netlink bytes in one datagram from a client. */
#define XF_SHIM_REQUEST_MAX (256 * 1024)

enum xf_shim_hello_kind {
	XF_SHIM_OPEN = 1, /* a netlink socket */
	XF_SHIM_MARK = 2, /* only asks for the bypass mark; no descriptors */
};

struct xf_shim_hello {
	uint32_t magic;
	uint16_t version;
	uint16_t kind;
};

struct xf_shim_welcome {
	uint32_t magic;
	uint16_t version;
	uint16_t pad;
	int32_t status; /* 0 or -errno */
	uint32_t bypass_mark; /* packets with this bit are never captured */
};

enum xf_shim_kind {
	XF_SHIM_REQUEST = 1, /* netlink messages follow */
	XF_SHIM_BIND = 2, /* a: port id, 0 = choose; b: a good choice; c: groups */
	XF_SHIM_GROUPS = 3, /* a: groups */
	XF_SHIM_OPTIONS = 4, /* a: bit n stands for the option n of SOL_NETLINK */
	XF_SHIM_RCVBUF = 5, /* a: bytes of the client's receive queue; b: forced */
};

struct xf_shim_msg {
	uint32_t magic;
	uint32_t kind;
	uint32_t a, b, c;
	uint32_t pad;
};

struct xf_shim_result {
	int32_t status; /* 0 or -errno */
	uint32_t value; /* XF_SHIM_BIND: the port id */
};

#endif
