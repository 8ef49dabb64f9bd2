/*
 * Deletes entries of connection tracking that contradict the policies; capture.c calls it when
 * policies out have changed while the host has NAT.
 */
#include <errno.h>
#include <stdlib.h>
#include <netinet/in.h> /* before Linux's headers */
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>

#include "capture/nat/conntrack.h"
#include "capture/nat/nat.h"
#include "capture/policy_order.h"
#include "host/rtnl.h"

#define QUIET_NS (50 * XF_NSEC_PER_SEC / 1000)
#define LATEST_NS XF_NSEC_PER_SEC

/* --- what has changed --- */

static bool bit(const union xf_addr *addr, unsigned i)
{
	return addr->bytes[i / 8] >> (7 - i % 8) & 1;
}

static uint8_t common_prefix(const union xf_addr *a, uint8_t a_len, const union xf_addr *b,
			     uint8_t b_len)
{
	uint8_t len = a_len < b_len ? a_len : b_len;
	uint8_t i = 0;

	while (i < len && bit(a, i) == bit(b, i))
		i++;
	return i;
}

static void widen(struct xf_conntrack_changes *changes, const struct xf_selector *sel, unsigned six)
{
	struct xf_selector *rest = &changes->rest[six];

	if (!changes->has_rest[six]) {
		*rest = (struct xf_selector){ .family = six ? XF_AF_INET6 : XF_AF_INET };
		rest->saddr = sel->saddr;
		rest->daddr = sel->daddr;
		rest->prefixlen_s = sel->prefixlen_s;
		rest->prefixlen_d = sel->prefixlen_d;
	}
	changes->has_rest[six] = true;
	rest->prefixlen_s =
		common_prefix(&rest->saddr, rest->prefixlen_s, &sel->saddr, sel->prefixlen_s);
	rest->prefixlen_d =
		common_prefix(&rest->daddr, rest->prefixlen_d, &sel->daddr, sel->prefixlen_d);
}

/* What an entry does not tell is not asked for. */
static struct xf_selector bare(const struct xf_selector *sel)
{
	struct xf_selector out = *sel;

	out.ifindex = 0;
	out.user = 0;
	return out;
}

void xf_conntrack_note(struct xf_conntrack_changes *changes, const struct xf_policy_config *cfg,
		       bool there)
{
	struct xf_selector sel = bare(&cfg->sel);
	bool opens = there != xf_policy_is_strict(cfg);

	changes->any = true;
	/* What protects more than before is found by the SPD, but for this. */
	if (!opens && (!there || (!cfg->mark.m && !cfg->sel.user)))
		return;
	if (changes->n < XF_CONNTRACK_CHANGES_MAX) {
		changes->list[changes->n].sel = sel;
		changes->list[changes->n++].opens = opens;
		return;
	}
	if (opens && sel.family != XF_AF_INET6)
		widen(changes, &sel, 0);
	if (opens && sel.family != XF_AF_INET)
		widen(changes, &sel, 1);
}

void xf_conntrack_noted(struct xf_conntrack_changes *changes, uint64_t now_ns)
{
	if (!changes->any)
		return;
	if (!changes->timed)
		changes->first_ns = now_ns;
	changes->timed = true;
	changes->last_ns = now_ns;
}

uint64_t xf_conntrack_due(const struct xf_conntrack_changes *changes)
{
	uint64_t quiet = changes->last_ns + QUIET_NS;
	uint64_t latest = changes->first_ns + LATEST_NS;

	if (!changes->timed)
		return UINT64_MAX;
	return quiet < latest ? quiet : latest;
}

/* --- an entry --- */

struct tuple {
	union xf_addr saddr;
	union xf_addr daddr;
	uint16_t sport;
	uint16_t dport;
	uint16_t zone; /* of this direction alone */
	uint8_t proto;
	uint8_t addrs; /* how many of them are there */
};

static void take_addr(const struct nlattr *attr, size_t len, union xf_addr *to, uint8_t *count)
{
	if (mnl_attr_get_payload_len(attr) != len)
		return;
	memcpy(to->bytes, mnl_attr_get_payload(attr), len);
	*count = (uint8_t)(*count + 1);
}

static int ip_attr(const struct nlattr *attr, void *arg)
{
	struct tuple *tuple = arg;

	switch (mnl_attr_get_type(attr)) {
	case CTA_IP_V4_SRC:
		take_addr(attr, 4, &tuple->saddr, &tuple->addrs);
		break;
	case CTA_IP_V4_DST:
		take_addr(attr, 4, &tuple->daddr, &tuple->addrs);
		break;
	case CTA_IP_V6_SRC:
		take_addr(attr, 16, &tuple->saddr, &tuple->addrs);
		break;
	case CTA_IP_V6_DST:
		take_addr(attr, 16, &tuple->daddr, &tuple->addrs);
		break;
	default:
		break;
	}
	return MNL_CB_OK;
}

/* Type and code of ICMP stand where ports would (xf/addr.h). */
static int proto_attr(const struct nlattr *attr, void *arg)
{
	struct tuple *tuple = arg;
	bool two = mnl_attr_get_payload_len(attr) == 2;
	bool one = mnl_attr_get_payload_len(attr) == 1;

	switch (mnl_attr_get_type(attr)) {
	case CTA_PROTO_NUM:
		tuple->proto = one ? mnl_attr_get_u8(attr) : 0;
		break;
	case CTA_PROTO_SRC_PORT:
		tuple->sport = two ? ntohs(mnl_attr_get_u16(attr)) : 0;
		break;
	case CTA_PROTO_DST_PORT:
		tuple->dport = two ? ntohs(mnl_attr_get_u16(attr)) : 0;
		break;
	case CTA_PROTO_ICMP_TYPE:
	case CTA_PROTO_ICMPV6_TYPE:
		tuple->sport = one ? mnl_attr_get_u8(attr) : 0;
		break;
	case CTA_PROTO_ICMP_CODE:
	case CTA_PROTO_ICMPV6_CODE:
		tuple->dport = one ? mnl_attr_get_u8(attr) : 0;
		break;
	default:
		break;
	}
	return MNL_CB_OK;
}

static int tuple_attr(const struct nlattr *attr, void *arg)
{
	struct tuple *tuple = arg;

	if (mnl_attr_get_type(attr) == CTA_TUPLE_IP)
		return mnl_attr_parse_nested(attr, ip_attr, arg);
	if (mnl_attr_get_type(attr) == CTA_TUPLE_PROTO)
		return mnl_attr_parse_nested(attr, proto_attr, arg);
	if (mnl_attr_get_type(attr) == CTA_TUPLE_ZONE && mnl_attr_get_payload_len(attr) == 2)
		tuple->zone = ntohs(mnl_attr_get_u16(attr));
	return MNL_CB_OK;
}

struct parsed {
	struct tuple way[2];
	uint32_t status;
	struct xf_conntrack_entry *entry;
};

static void take_tuple(struct xf_conntrack_entry *entry, const struct nlattr *attr)
{
	uint16_t len = mnl_attr_get_payload_len(attr);

	if (len > sizeof(entry->tuple))
		return;
	memcpy(entry->tuple, mnl_attr_get_payload(attr), len);
	entry->tuple_len = len;
}

static int entry_attr(const struct nlattr *attr, void *arg)
{
	struct parsed *parsed = arg;
	struct xf_conntrack_entry *entry = parsed->entry;
	uint16_t len = mnl_attr_get_payload_len(attr);

	switch (mnl_attr_get_type(attr)) {
	case CTA_TUPLE_ORIG:
		take_tuple(entry, attr);
		return mnl_attr_parse_nested(attr, tuple_attr, &parsed->way[0]);
	case CTA_TUPLE_REPLY:
		return mnl_attr_parse_nested(attr, tuple_attr, &parsed->way[1]);
	case CTA_STATUS:
		parsed->status = len == 4 ? ntohl(mnl_attr_get_u32(attr)) : 0;
		break;
	case CTA_ID:
		entry->id_be = len == 4 ? mnl_attr_get_u32(attr) : 0;
		break;
	case CTA_ZONE:
		entry->zone_be = len == 2 ? mnl_attr_get_u16(attr) : 0;
		break;
	default:
		break;
	}
	return MNL_CB_OK;
}

int xf_conntrack_parse(const struct nlmsghdr *msg, struct xf_conntrack_entry *out)
{
	const struct nfgenmsg *gen = mnl_nlmsg_get_payload(msg);
	struct parsed parsed = { .entry = out };
	const struct tuple *original = &parsed.way[0];
	const struct tuple *reply = &parsed.way[1];

	*out = (struct xf_conntrack_entry){ .tuple_len = 0 };
	if (mnl_nlmsg_get_payload_len(msg) < sizeof(*gen) ||
	    (gen->nfgen_family != AF_INET && gen->nfgen_family != AF_INET6))
		return -EINVAL;
	mnl_attr_parse(msg, sizeof(*gen), entry_attr, &parsed);
	if (!out->tuple_len || original->addrs != 2 || reply->addrs != 2)
		return -EINVAL;
	out->source_changed = parsed.status & IPS_SRC_NAT;
	out->within = original->zone == XF_NAT_ZONE_WITHIN;
	/* Capture sees it behind destination NAT, so it goes to where replies come from. */
	out->flow = (struct xf_flow){
		.saddr = original->saddr,
		.daddr = reply->saddr,
		.family = gen->nfgen_family == AF_INET ? XF_AF_INET : XF_AF_INET6,
		.proto = original->proto,
		.sport = original->sport,
		.dport = xf_policy_has_ports(original->proto) ? reply->sport : original->dport,
		.uid = UINT32_MAX,
	};
	out->changed = out->flow;
	out->changed.saddr = reply->daddr;
	if (xf_policy_has_ports(original->proto))
		out->changed.sport = reply->dport;
	return 0;
}

static bool is_protected(const struct xf_spd *spd, const struct xf_flow *flow)
{
	const struct xf_policy *policy = xf_spd_lookup(spd, XF_DIR_OUT, flow);

	return policy && xf_policy_is_strict(xf_policy_cfg(policy));
}

/* Is there a change of this kind whose selector has @flow? */
static bool is_changed(const struct xf_conntrack_changes *changes, const struct xf_flow *flow,
		       bool opens)
{
	for (unsigned i = 0; i < changes->n; i++) {
		if (changes->list[i].opens == opens &&
		    xf_selector_match(&changes->list[i].sel, flow))
			return true;
	}
	for (unsigned six = 0; six < 2 && opens; six++) {
		if (changes->has_rest[six] && xf_selector_match(&changes->rest[six], flow))
			return true;
	}
	return false;
}

/* Policies select the flow and what NAT makes of it: has the one or the other come to an end? */
static bool leaves_policies(const struct xf_conntrack_entry *entry,
			    const struct xf_conntrack_changes *changes, const struct xf_spd *spd)
{
	return (is_changed(changes, &entry->flow, true) && !is_protected(spd, &entry->flow)) ||
	       (is_changed(changes, &entry->changed, true) && !is_protected(spd, &entry->changed));
}

bool xf_conntrack_contradicts(const struct xf_conntrack_entry *entry,
			      const struct xf_conntrack_changes *changes, const struct xf_spd *spd)
{
	if (entry->source_changed && entry->within)
		return leaves_policies(entry, changes, spd);
	if (entry->source_changed)
		return is_protected(spd, &entry->flow) || is_changed(changes, &entry->flow, false);
	return is_changed(changes, &entry->flow, true) && !is_protected(spd, &entry->flow);
}

/* --- the kernel's table --- */

struct search {
	const struct xf_conntrack_changes *changes;
	const struct xf_spd *spd;
	struct xf_conntrack_entry *found;
	size_t n;
	size_t room;
	bool failed;
};

static int see_entry(const struct nlmsghdr *msg, void *arg)
{
	struct search *search = arg;
	struct xf_conntrack_entry entry;

	if (xf_conntrack_parse(msg, &entry) < 0 ||
	    !xf_conntrack_contradicts(&entry, search->changes, search->spd))
		return MNL_CB_OK;
	if (search->n == search->room) {
		size_t room = search->room ? 2 * search->room : 64;
		void *bigger = realloc(search->found, room * sizeof(search->found[0]));

		search->failed = search->failed || !bigger;
		if (!bigger)
			return MNL_CB_OK;
		search->found = bigger;
		search->room = room;
	}
	search->found[search->n++] = entry;
	return MNL_CB_OK;
}

static struct nlmsghdr *start_message(struct xf_rtnl *ask, unsigned type, uint8_t family,
				      uint16_t flags)
{
	struct nlmsghdr *msg =
		xf_rtnl_start(ask, (uint16_t)(NFNL_SUBSYS_CTNETLINK << 8 | type), flags);
	struct nfgenmsg *gen = mnl_nlmsg_put_extra_header(msg, sizeof(*gen));

	gen->nfgen_family = family;
	gen->version = NFNETLINK_V0;
	return msg;
}

/* The id says that it is this entry and not a younger one. Gone meanwhile: all the better. */
static int delete_entry(struct xf_rtnl *ask, const struct xf_conntrack_entry *entry)
{
	uint8_t family = entry->flow.family == XF_AF_INET ? AF_INET : AF_INET6;
	struct nlmsghdr *msg = start_message(ask, IPCTNL_MSG_CT_DELETE, family, NLM_F_ACK);
	int err;

	mnl_attr_put(msg, CTA_TUPLE_ORIG | NLA_F_NESTED, entry->tuple_len, entry->tuple);
	if (entry->zone_be)
		mnl_attr_put_u16(msg, CTA_ZONE, entry->zone_be);
	mnl_attr_put_u32(msg, CTA_ID, entry->id_be);
	err = xf_rtnl_talk(ask, msg, NULL, NULL);
	return err == -ENOENT ? 0 : err;
}

int xf_conntrack_clean(struct xf_conntrack_changes *changes, const struct xf_spd *spd,
		       uint64_t *deleted, struct xf_io_error *error)
{
	struct search search = { .changes = changes, .spd = spd };
	struct xf_rtnl ask;
	int err = xf_rtnl_open_bus(&ask, NETLINK_NETFILTER, error);

	*deleted = 0;
	if (err)
		return err;
	err = xf_rtnl_talk(&ask, start_message(&ask, IPCTNL_MSG_CT_GET, AF_UNSPEC, NLM_F_DUMP),
			   see_entry, &search);
	if (!err && search.failed)
		err = -ENOMEM;
	for (size_t i = 0; i < search.n; i++) {
		int one = delete_entry(&ask, &search.found[i]);

		*deleted += !one;
		err = err ? err : one;
	}
	free(search.found);
	xf_rtnl_close(&ask);
	*changes = (struct xf_conntrack_changes){ .any = false };
	return err ? xf_io_fail(error, err, "connections keep the NAT that they have") : 0;
}
