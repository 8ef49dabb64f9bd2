/*
 * check.h - what xfrmctl check looks for on this host, and what it has found.
 *
 * One thread. What looks at JSON alone (xf_check_ruleset(), xf_check_status()) reads nothing from
 * the host; the others do. What cannot be read is no finding.
 */
#ifndef XF_CTL_CHECK_H
#define XF_CTL_CHECK_H

#include "ctl.h"

/* Kinds of findings; their names, and what to do, are in check.c and in xfrmctl(8). */
enum xf_check_kind {
	XF_CHECK_DAEMON,
	XF_CHECK_CONFIG,
	XF_CHECK_PART,
	XF_CHECK_MISSING,
	XF_CHECK_TWIN,
	XF_CHECK_DEVICE,
	XF_CHECK_PROGRAM,
	XF_CHECK_RP_FILTER,
	XF_CHECK_FIB,
	XF_CHECK_INPUT,
	XF_CHECK_FORWARD,
	XF_CHECK_FORWARDING,
	XF_CHECK_IP_RULE,
	XF_CHECK_RULE_ORDER,
	XF_CHECK_MARK,
	XF_CHECK_FLOWTABLE,
	XF_CHECK_NAT,
	XF_CHECK_PORT,
	XF_CHECK_VRF,
	XF_CHECK_KERNEL,
	XF_CHECK_SAVED,
	XF_CHECK_KINDS
};

#define XF_CHECK_CHAIN_MAX 256

struct xf_check {
	const struct xf_ctl_options *opt;
	json_t *findings; /* objects with id, what, why, do; true "note": nothing is wrong */
	json_t *status; /* the daemon's; NULL: none answers */
	char tun[16];
	uint32_t mark_capture;
	uint32_t mark_bypass;
	json_int_t in; /* policies */
	json_int_t fwd;
	json_int_t out;
	char source_nat[2][XF_CHECK_CHAIN_MAX]; /* IPv4, IPv6: the first chain with it; or "" */
};

/* Add a finding: what, in one sentence without its full stop. */
void xf_check_add(struct xf_check *check, enum xf_check_kind kind, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* check_daemon.c: what @check->status says; SAs and policies are asked for. */
void xf_check_status(struct xf_check *check);
void xf_check_tables(struct xf_check *check);

/*
 * The same file, behind check_nft.c: policies out of any source where source NAT was seen. @policy
 * is one as the daemon shows it, @arg a struct xf_check; false: no other one matters.
 */
void xf_check_nat(struct xf_check *check);
bool xf_check_nat_policy(void *arg, const json_t *policy);

/*
 * check_nft.c: @ruleset is the answer of "nft -j list ruleset"; our own table is passed over. Who
 * does source NAT is noted in check->source_nat.
 */
void xf_check_ruleset(struct xf_check *check, const json_t *ruleset);
void xf_check_nft(struct xf_check *check);

/* check_saved.c: does @line of a file for nft -f make or change a table of ours? */
bool xf_check_saved_line(const char *line);
/* @path and what it includes. */
void xf_check_saved(struct xf_check *check, const char *path);

/* check_host.c: settings, devices and what hangs there, ip rules, the kernel's own XFRM. */
void xf_check_host(struct xf_check *check);

#endif
