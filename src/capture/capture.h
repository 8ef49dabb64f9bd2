/*
 * capture.h - what the kernel must do so that protected traffic meets the daemon.
 *
 * Three things, all derived from the SPD, all of which outlive the process:
 *   - nftables table "inet xfrmd", which nobody else may change while we run (nft_table.h): sets
 *     the capture bit on packets that an outbound policy could want (forwarded and local ones),
 *     drops plaintext that a policy in or fwd wants protected;
 *   - an ip rule that routes packets with the capture bit into the TUN;
 *   - a tc-BPF program on every other device, which drops what a policy wants protected and
 *     nevertheless is about to leave in clear.
 * So a daemon that is stopped, killed or upgraded fails closed. Only xf_capture_release() takes
 * them away.
 *
 * Control thread only, but for xf_capture_is_exempt(). Functions return 0 or -errno with a sentence
 * in @error; a call that fails leaves rules in force that catch what they caught.
 */
#ifndef XF_CAPTURE_CAPTURE_H
#define XF_CAPTURE_CAPTURE_H

#include "capture/programs/backstop.h"
#include "capture/counters.h"
#include "capture/repair/heal.h"
#include "port/io.h"

struct xf_capture;
struct xf_capture_ops;

enum xf_capture_mode {
	XF_CAPTURE_AUTO, /* nftables where it works, with the tc-BPF backstop where that works */
	XF_CAPTURE_NFT, /* nftables alone */
	XF_CAPTURE_TC, /* tc-BPF alone: drops what it cannot protect */
};

struct xf_capture_config {
	struct xf_io_names names;
	const struct xf_spd *spd;
	uint64_t now_ns;
	enum xf_capture_mode mode;
	enum xf_twin_form twin;
	bool owner; /* nobody else may change the tables, where the kernel has that */
	bool tcx; /* the backstop is put onto devices by links, where the kernel has them */
	const struct xf_capture_ops *ops; /* NULL: the kernel's; else with @arg, the caller's */
	void *arg;
	/*
	 * The workers read from a new TUN (xf_io_remake_tun()). NULL: nobody's changes are followed
	 * by the kernel's table of operations.
	 */
	int (*remake_tun)(void *arg, struct xf_io_error *error);
	void *remake_arg;
	/* A line for the log: what was lost and repaired, or (@bad) could not be; NULL: none. */
	void (*say)(void *arg, bool bad, const char *line);
	void *say_arg;
};

/*
 * Install rule, route and an nftables table for the SPD as it is now; the TUN must be there
 * (xf_io_new()). What an earlier daemon left is replaced without a gap.
 */
int xf_capture_new(const struct xf_capture_config *cfg, struct xf_capture **out,
		   struct xf_io_error *error);

/* A policy has come or gone; from struct xf_spd_config.watch. */
void xf_capture_policy(struct xf_capture *capture, const struct xf_policy *policy, bool there);

/*
 * Make the kernel's rules follow what xf_capture_policy() told: when this returns 0, protection is
 * in force. While many policies come, destinations alone decide what is captured, and the engine
 * sends on what no policy wants; xf_capture_settle(), at xf_capture_due() or later, makes exact
 * rules of it.
 */
int xf_capture_sync(struct xf_capture *capture, uint64_t now_ns, struct xf_io_error *error);
uint64_t xf_capture_due(const struct xf_capture *capture);
int xf_capture_settle(struct xf_capture *capture, uint64_t now_ns, struct xf_io_error *error);

/* A device came or changed (xf_route_dispatch() said so): the backstop goes onto it, now or, where
 * that fails, at xf_capture_due(). */
void xf_capture_links_changed(struct xf_capture *capture, uint64_t now_ns);

/*
 * The host's NAT (decision 0022). A descriptor that is readable when it may have changed, or -1;
 * NAT of iptables does not tell: xf_capture_follow_nat() is to be called now and then, before
 * xf_capture_clean_conntrack().
 */
int xf_capture_nat_fd(const struct xf_capture *capture);
/* It is readable: may somebody else's NAT have changed? Else it was our own table that did. */
bool xf_capture_nat_has_changed(const struct xf_capture *capture);
void xf_capture_follow_nat(struct xf_capture *capture, uint64_t now_ns);

/* Delete entries of connection tracking that the changes of policies contradict, when they are
 * due (conntrack.h): returns when that is the next time, or UINT64_MAX. *@err: -errno. */
uint64_t xf_capture_clean_conntrack(struct xf_capture *capture, uint64_t now_ns, int *err,
				    struct xf_io_error *error);

/*
 * What somebody else does to table, rules, routes and TUN is healed at once, within the limits of
 * heal.h: call xf_capture_dispatch() when xf_capture_fd() is readable (-1: nothing is followed),
 * and xf_capture_settle() at xf_capture_due(), which looks by itself every 10 s too.
 */
int xf_capture_fd(const struct xf_capture *capture);
void xf_capture_dispatch(struct xf_capture *capture, uint64_t now_ns);

/*
 * No policy is asked about what comes to @daddr in a packet that the device @iif (0: not known) has
 * received, plaintext or not: the host's sysctls say so (decision 0029). For any thread registered
 * for RCU, inside a read section.
 */
bool xf_capture_is_exempt(const struct xf_capture *capture, const union xf_addr *daddr,
			  uint16_t family, uint32_t iif);

/* Forget @capture, whom no worker asks any more; everything in the kernel stays. */
void xf_capture_free(struct xf_capture *capture);

/* Take all of it away, TUN included: traffic flows in clear from then on. */
int xf_capture_release(const struct xf_io_names *names, struct xf_io_error *error);

/* A part of the host's state, as heal.h knows them. */
struct xf_capture_part {
	const char *name; /* "table", "rule", …; NULL: not in this mode */
	bool in_force;
	uint64_t losses;
	uint64_t repairs;
	const char *what; /* of the last loss; "": none. Until @capture changes. */
};

struct xf_capture_stats {
	struct xf_capture_part parts[XF_HEAL_PARTS];
	struct xf_capture_counts count;
	bool nft; /* in force? */
	const char *shared; /* why others may change the table; NULL: they may not, or nft is not */
	bool exact; /* what is captured is no more than what rules cannot help */
	bool nat; /* chains for the host's NAT are */
	bool backstop;
	struct xf_backstop_stats programs; /* with the backstop */
};
int xf_capture_get_stats(struct xf_capture *capture, struct xf_capture_stats *out);

#endif
