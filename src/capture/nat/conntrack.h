/*
 * conntrack.h - entries of connection tracking that contradict the policies.
 *
 * The host's NAT decides once for a connection, when its entry is made. So an entry that got
 * another source before a policy wanted the flow keeps it (and what heads for the TUN with it is
 * dropped, nat.h); and one that kept its own, because a policy wanted it, goes on without NAT when
 * the policy has gone. Such entries are deleted: the next packet makes a new one, and is right.
 *
 * Changes are collected and the table is read once for many: until then the rules protect.
 * Control thread. Functions return 0 or -errno.
 */
#ifndef XF_CAPTURE_CONNTRACK_H
#define XF_CAPTURE_CONNTRACK_H

#include <libmnl/libmnl.h>
#include <xf/spd.h>

#include "port/io.h"

/* So many changes are told apart; more become one that covers them all. */
#define XF_CONNTRACK_CHANGES_MAX 256

struct xf_conntrack_changes {
	bool any; /* also policies that have come, which the SPD itself tells */
	unsigned n;
	struct {
		struct xf_selector sel;
		bool opens; /* strict and gone, or come and allowing; else it is one that
			     * protects and asks for what an entry does not tell: mark, user */
	} list[XF_CONNTRACK_CHANGES_MAX];
	struct xf_selector rest[2]; /* IPv4, IPv6: what covers the others that open */
	bool has_rest[2];
	bool timed;
	uint64_t first_ns;
	uint64_t last_ns;
};

/* A policy out has come or gone; xf_conntrack_noted() after some of them. */
void xf_conntrack_note(struct xf_conntrack_changes *changes, const struct xf_policy_config *cfg,
		       bool there);
void xf_conntrack_noted(struct xf_conntrack_changes *changes, uint64_t now_ns);

/* When they are to be acted on: soon after the last, not long after the first; or UINT64_MAX. */
uint64_t xf_conntrack_due(const struct xf_conntrack_changes *changes);

#define XF_CONNTRACK_TUPLE_MAX 160

struct xf_conntrack_entry {
	struct xf_flow flow; /* of its original direction, as capture sees it */
	bool source_changed;
	bool within; /* into another source that a policy selects (nat.h): ... */
	struct xf_flow changed; /* ... what source NAT makes of @flow */
	uint8_t tuple[XF_CONNTRACK_TUPLE_MAX]; /* CTA_TUPLE_ORIG, as it names the entry */
	uint16_t tuple_len;
	uint32_t id_be;
	uint16_t zone_be;
};

/* -EINVAL: not an entry of IP, or one that is not whole. */
int xf_conntrack_parse(const struct nlmsghdr *msg, struct xf_conntrack_entry *out);

/* Must @entry go? */
bool xf_conntrack_contradicts(const struct xf_conntrack_entry *entry,
			      const struct xf_conntrack_changes *changes, const struct xf_spd *spd);

/* Read the table, delete what contradicts, forget @changes. *@deleted: how many. */
int xf_conntrack_clean(struct xf_conntrack_changes *changes, const struct xf_spd *spd,
		       uint64_t *deleted, struct xf_io_error *error);

#endif
