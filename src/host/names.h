/*
 * names.h - the names and numbers by which kernel and daemon know each other, and how what could
 * not be done is told. Every file that opens or sets something has it.
 *
 * Threads: any.
 */
#ifndef XF_HOST_NAMES_H
#define XF_HOST_NAMES_H

#include <xf/base.h>

/* A sentence for the user: what could not be done, and why. */
struct xf_io_error {
	char text[240];
};

/* Fill @error (NULL is allowed), with what the errno @err means behind it. Returns @err. */
int xf_io_fail(struct xf_io_error *error, int err, const char *fmt, ...) XF_PRINTF(3, 4);

/* The names and numbers by which kernel and daemon know each other; see capture.h. */
struct xf_io_names {
	const char *tun; /* interface name, default XF_TUN_NAME */
	uint32_t mark_capture; /* one bit: "route this into the TUN" */
	uint32_t mark_bypass; /* another: "the daemon sent this, leave it alone" */
	uint32_t table; /* routing table whose default route is the TUN */
	uint32_t rule_priority; /* of the ip rule: behind local (0), before main (32766) */
	const char *bpffs; /* the file system where BPF links may be pinned (pins.h) */
};

#define XF_TUN_NAME "xfrmd0"
#define XF_TUN_MTU 65535
#define XF_MARK_CAPTURE 0x40000000u
#define XF_MARK_BYPASS 0x20000000u
#define XF_ROUTE_TABLE 0x7866u /* "xf" */
#define XF_RULE_PRIORITY 50
#define XF_BPFFS "/sys/fs/bpf"

/*
 * The priority (SO_PRIORITY) of what is sent on unchanged tells our nftables rules what the host's
 * NAT is to do with it; they take it off again. Without them it means what 0 means: the low four
 * bits are 0.
 */
#define XF_PRIORITY_SENT_ON 0x78660000u /* what it would have done without us */
#define XF_PRIORITY_TRANSLATED 0x78660010u /* nothing: it has done it already */
/* Two of what is to be protected (ask.c): which source it gets, and that it gets none. */
#define XF_PRIORITY_ASK 0x78660040u
#define XF_PRIORITY_REFUSED 0x78660050u
/*
 * What has the bypass mark leaves with this one, but for the last four bits, which queueing goes
 * by. A device that puts another header in front (VXLAN, GRE) keeps it, and the socket: by it the
 * packet that results, which is not ours, is known.
 */
#define XF_PRIORITY_LEFT 0x78660060u

#define XF_NFT_TABLE "xfrmd" /* of families inet and bridge; ours alone */

/* The defaults. */
extern const struct xf_io_names xf_io_names_default;

#endif
