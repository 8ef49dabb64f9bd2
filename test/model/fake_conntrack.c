/*
 * Connection tracking for the model's host (fake_path.c), after nf_conntrack_core.c and
 * nf_nat_core.c.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <netinet/in.h> /* before Linux's headers */
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>

#include "fake_conntrack.h"

static struct fake_tuple tuple_of(const struct fake_packet *p)
{
	struct fake_tuple t = { .family = p->family, .proto = p->proto };

	t.addr[0] = p->addr[0];
	t.addr[1] = p->addr[1];
	t.port[0] = xf_get_be16(p->l4);
	t.port[1] = xf_get_be16(p->l4 + 2);
	return t;
}

static struct fake_tuple invert(const struct fake_tuple *t)
{
	struct fake_tuple out = *t;

	out.addr[0] = t->addr[1];
	out.addr[1] = t->addr[0];
	out.port[0] = t->port[1];
	out.port[1] = t->port[0];
	return out;
}

static bool is_equal(const struct fake_tuple *a, const struct fake_tuple *b)
{
	return a->family == b->family && a->proto == b->proto && a->port[0] == b->port[0] &&
	       a->port[1] == b->port[1] && xf_addr_equal(&a->addr[0], &b->addr[0], a->family) &&
	       xf_addr_equal(&a->addr[1], &b->addr[1], a->family);
}

static void unlink_entry(struct fake_conntrack *ct, struct fake_entry *entry)
{
	struct fake_entry **link = &ct->entries;

	while (*link != entry)
		link = &(*link)->next;
	*link = entry->next;
	ct->n--;
	free(entry);
}

void fake_conntrack_flush(struct fake_conntrack *ct)
{
	while (ct->entries)
		unlink_entry(ct, ct->entries);
}

/* Replies are in zone 0, whatever the zone of the original direction is. */
static struct fake_entry *find(const struct fake_conntrack *ct, const struct fake_tuple *t,
			       uint16_t zone, bool *reply)
{
	for (struct fake_entry *e = ct->entries; e; e = e->next) {
		if (e->zone == zone && is_equal(&e->way[0], t)) {
			*reply = false;
			return e;
		}
		if (is_equal(&e->way[1], t)) {
			*reply = true;
			return e;
		}
	}
	return NULL;
}

/* Is it the first of another connection between the same ports? */
static bool begins_anew(const struct fake_packet *p, const struct fake_track *track)
{
	return p->proto == XF_IPPROTO_TCP && p->tcp_flags == FAKE_SYN && !track->reply &&
	       track->entry->closed;
}

void fake_conntrack_in(struct fake_conntrack *ct, struct fake_packet *p)
{
	struct fake_track *track = p->track;
	const struct fake_tuple t = tuple_of(p);

	if (track->untracked || (p->proto != XF_IPPROTO_TCP && p->proto != XF_IPPROTO_UDP))
		return;
	track->entry = find(ct, &t, track->zone, &track->reply);
	if (track->entry && begins_anew(p, track)) {
		unlink_entry(ct, track->entry);
		track->entry = NULL;
	}
	if (track->entry) {
		track->entry->replied = track->entry->replied || track->reply;
		track->entry->closed = track->entry->closed || (p->tcp_flags & FAKE_FIN);
		return;
	}
	track->entry = calloc(1, sizeof(*track->entry));
	assert_non_null(track->entry);
	track->entry->way[0] = t;
	track->entry->way[1] = invert(&t);
	track->entry->zone = track->zone;
	track->reply = false;
}

void fake_conntrack_confirm(struct fake_conntrack *ct, struct fake_track *track)
{
	struct fake_entry *entry = track->entry;

	if (!entry || entry->confirmed)
		return;
	entry->confirmed = true;
	entry->next = ct->entries;
	ct->entries = entry;
	ct->n++;
}

void fake_conntrack_end(struct fake_track *track)
{
	if (track->entry && !track->entry->confirmed)
		free(track->entry);
	*track = (struct fake_track){ .entry = NULL };
}

void fake_conntrack_kill(struct fake_conntrack *ct, struct fake_track *track)
{
	if (track->entry && track->entry->confirmed)
		unlink_entry(ct, track->entry);
	else
		free(track->entry);
	track->entry = NULL;
}

/* --- NAT --- */

/* Would replies to @t be taken for those of another connection, or for another's packets? */
static bool is_taken(const struct fake_conntrack *ct, const struct fake_entry *entry,
		     const struct fake_tuple *t)
{
	const struct fake_tuple reply = invert(t);

	for (const struct fake_entry *e = ct->entries; e; e = e->next) {
		if (e != entry && (is_equal(&e->way[1], &reply) ||
				   (e->zone == entry->zone && is_equal(&e->way[0], &reply))))
			return true;
	}
	return false;
}

void fake_conntrack_bind(const struct fake_conntrack *ct, struct fake_entry *entry,
			 enum fake_manip manip, const union xf_addr *to, uint16_t port)
{
	struct fake_tuple now = invert(&entry->way[1]);
	struct fake_tuple then = now;

	if (to)
		then.addr[manip] = *to;
	if (port)
		then.port[manip] = port;
	/* Where it goes to cannot be another port. */
	for (uint16_t other = 0x2000; manip == FAKE_SRC && is_taken(ct, entry, &then); other++) {
		then.port[manip] = other;
		entry->clashed = true;
	}
	entry->decided[manip] = true;
	if (is_equal(&now, &then))
		return;
	entry->changed[manip] = true;
	entry->way[1] = invert(&then);
}

void fake_conntrack_translate(enum fake_manip manip, struct fake_packet *p)
{
	const struct fake_track *track = p->track;
	struct fake_tuple t;

	/* A reply's source is what was done to the destination. */
	if (!track->entry || !track->entry->changed[track->reply ? !manip : manip])
		return;
	t = invert(&track->entry->way[!track->reply]);
	p->addr[manip] = t.addr[manip];
	xf_put_be16(p->l4 + 2 * manip, t.port[manip]);
}

/* --- as netlink tells of it --- */

static void put_tuple(struct nlmsghdr *msg, uint16_t type, const struct fake_tuple *t,
		      uint16_t zone)
{
	bool four = t->family == XF_AF_INET;
	struct nlattr *tuple = mnl_attr_nest_start(msg, type);
	struct nlattr *part = mnl_attr_nest_start(msg, CTA_TUPLE_IP);

	mnl_attr_put(msg, four ? CTA_IP_V4_SRC : CTA_IP_V6_SRC, four ? 4 : 16, &t->addr[0]);
	mnl_attr_put(msg, four ? CTA_IP_V4_DST : CTA_IP_V6_DST, four ? 4 : 16, &t->addr[1]);
	mnl_attr_nest_end(msg, part);
	part = mnl_attr_nest_start(msg, CTA_TUPLE_PROTO);
	mnl_attr_put_u8(msg, CTA_PROTO_NUM, t->proto);
	mnl_attr_put_u16(msg, CTA_PROTO_SRC_PORT, htons(t->port[0]));
	mnl_attr_put_u16(msg, CTA_PROTO_DST_PORT, htons(t->port[1]));
	mnl_attr_nest_end(msg, part);
	if (zone)
		mnl_attr_put_u16(msg, CTA_TUPLE_ZONE, htons(zone));
	mnl_attr_nest_end(msg, tuple);
}

static void tell(const struct fake_entry *entry, struct xf_conntrack_entry *out)
{
	uint8_t buf[1024] __attribute__((aligned(8)));
	struct nlmsghdr *msg = mnl_nlmsg_put_header(buf);
	struct nfgenmsg *gen = mnl_nlmsg_put_extra_header(msg, sizeof(*gen));
	uint32_t status = (entry->changed[FAKE_SRC] ? IPS_SRC_NAT : 0) |
			  (entry->changed[FAKE_DST] ? IPS_DST_NAT : 0);

	gen->nfgen_family = entry->way[0].family == XF_AF_INET ? AF_INET : AF_INET6;
	put_tuple(msg, CTA_TUPLE_ORIG, &entry->way[0], entry->zone);
	put_tuple(msg, CTA_TUPLE_REPLY, &entry->way[1], 0);
	mnl_attr_put_u32(msg, CTA_STATUS, htonl(status));
	assert_int_equal(xf_conntrack_parse(msg, out), 0);
}

uint64_t fake_conntrack_clean(struct fake_conntrack *ct, const struct xf_conntrack_changes *changes,
			      const struct xf_spd *spd)
{
	struct fake_entry *next;
	uint64_t deleted = 0;

	for (struct fake_entry *e = ct->entries; e; e = next) {
		struct xf_conntrack_entry entry;

		next = e->next;
		tell(e, &entry);
		if (!xf_conntrack_contradicts(&entry, changes, spd))
			continue;
		unlink_entry(ct, e);
		deleted++;
	}
	return deleted;
}
