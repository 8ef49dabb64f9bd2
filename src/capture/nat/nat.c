/*
 * The host's NAT and captured packets: chains that capture.c adds while another nat hook is there.
 *
 *   nat_bind     before every other nat chain: a new flow that heads for the TUN keeps its source;
 *                before that, what rules know of a flow that conntrack does not know is forgotten
 *   nat_guard    behind all of them: what has another source nevertheless does not go to the TUN
 *   nat_sent_on, nat_ours, nat_last  what is sent on gets the NAT that it would have had uncaptured
 *   nat_arrived, nat_restored  around the in and fwd policies: they see the addresses with which
 *                the packet arrived, as Linux judges it (nf_nat_decode_session())
 *
 * A binding "to the packet's own source" is what makes the kernel ask no further nat chain; an
 * accept alone would not.
 *
 * The flow of what is sent on has an entry already, made on its way to the TUN and bound to its
 * own source. So it gets another one, whose original direction is in a zone of ours, while replies
 * are found in the common zone. Where no NAT wants the flow, its reply would look like that of the
 * first entry, and the kernel would choose another port: such pairs are remembered and use the
 * first entry, as they would without NAT. The first packet of a pair is lost by that.
 *
 * A reply has had all NAT that it is to have when it heads for the TUN, and what destination NAT
 * has sent elsewhere is known by the destination that it had. Another entry would clash with that
 * of the connection, or get the NAT of new flows: both are sent on without one.
 *
 * Source NAT whose result a policy still selects is applied. What that result would be the daemon
 * asks (port/ask.c) for each new flow that heads for the TUN, with an entry in a zone of its own:
 *
 *   nat_guard    signs what is to be asked for, unless it was refused before (nat_refused)
 *   nat_learn    behind the program that refuses (bpf/twin.bpf.c): what comes here is within
 *   nat_within   before conntrack: a flow of which that is known goes by the entry of that zone,
 *                on its way to the TUN as well, and gets its NAT there
 *   nat_later    before capture: where the kernel would end the connection for that, because the
 *                source is that of the device by which it leaves (masquerade), it goes there
 *                uncaptured, and the backstop captures it behind NAT
 *
 * It is forgotten before conntrack forgets the entry, or with it: then it is asked for again. So it
 * is each time for ICMP and what else has no ports.
 */
#include <linux/types.h>

#include "capture/nat/nat.h"
#include "tun_meta.h"

#define ZONE 0x7866u /* "xf" */

_Static_assert(XF_META_PRIORITY_SENT_ON == XF_PRIORITY_SENT_ON, "programs know it by that");

#define PAIR4 "ip saddr . ip daddr . meta l4proto "
#define PAIR6 "ip6 saddr . ip6 daddr . meta l4proto "
#define FLOW4 PAIR4 ". th sport . th dport "
#define FLOW6 PAIR6 ". th sport . th dport "
#define ORIGINAL ". meta l4proto . ct original proto-src . ct original proto-dst "
#define HAS_PORTS "meta l4proto { tcp, udp } "
#define SET4                                                                        \
	"{ type ipv4_addr . ipv4_addr . inet_proto . inet_service . inet_service; " \
	"flags dynamic,timeout; "
#define SET6                                                                        \
	"{ type ipv6_addr . ipv6_addr . inet_proto . inet_service . inet_service; " \
	"flags dynamic,timeout; "

/* What stands where the others cannot. %1$s table. */
static const char guard_chains[] =
	"add chain inet %1$s nat_guard { type filter hook postrouting priority 2147483646; }\n"
	"flush chain inet %1$s nat_guard\n"
	"flush chain inet %1$s nat_arrived\n"
	"flush chain inet %1$s nat_restored\n";

/*
 * The lowest priority that the kernel takes is -199, and conntrack confirms at 2147483647.
 * nat_learn stands directly behind bpf/twin.bpf.c's program, nat_within's callers before conntrack.
 * %1$s table.
 */
static const char chains[] =
	"add chain inet %1$s nat_bind { type nat hook postrouting priority -199; }\n"
	"add chain inet %1$s nat_last { type nat hook postrouting priority 2147483645; }\n"
	"add chain inet %1$s nat_learn { type filter hook postrouting priority 2147483644; }\n"
	"add chain inet %1$s nat_before { type filter hook prerouting priority -300; }\n"
	"add chain inet %1$s nat_sent_on { type filter hook output priority -300; }\n"
	"add chain inet %1$s nat_ours\n"
	"add chain inet %1$s nat_within\n"
	"add chain inet %1$s nat_live\n"
	"add set inet %1$s nat_kept4 { type ipv4_addr . ipv4_addr . inet_proto; "
	"flags dynamic,timeout; timeout 10m; size 65535; }\n"
	"add set inet %1$s nat_kept6 { type ipv6_addr . ipv6_addr . inet_proto; "
	"flags dynamic,timeout; timeout 10m; size 65535; }\n"
	"add set inet %1$s nat_refused4 " SET4 "timeout 10m; size 65535; }\n"
	"add set inet %1$s nat_refused6 " SET6 "timeout 10m; size 65535; }\n"
	"add set inet %1$s nat_within4 " SET4 "timeout 20s; size 65535; }\n"
	"add set inet %1$s nat_within6 " SET6 "timeout 20s; size 65535; }\n"
	"add set inet %1$s nat_local4 { type ipv4_addr; flags dynamic; size 65535; }\n"
	"add set inet %1$s nat_local6 { type ipv6_addr; flags dynamic; size 65535; }\n"
	"flush chain inet %1$s nat_last\n"
	"flush chain inet %1$s nat_learn\n"
	"flush chain inet %1$s nat_before\n"
	"flush chain inet %1$s nat_within\n"
	"flush chain inet %1$s nat_live\n"
	"flush chain inet %1$s nat_sent_on\n"
	"flush chain inet %1$s nat_ours\n"
	"flush chain inet %1$s nat_bind\n"
	"flush chain inet %1$s nat_later\n";

/*
 * A flow within that is new on its way to the TUN: conntrack has lost its entry before our rules
 * did. Bound to its own source, it would get another port, since the flow's first entry may be
 * there yet, and the program behind all NAT would drop all its packets.
 * %1$s table, %2$s TUN, %3$u zone.
 */
static const char forgetting[] =
	"add rule inet %1$s nat_bind oifname \"%2$s\" ct original zone %3$u "
	"delete @nat_within4 { " FLOW4 "} drop\n"
	"add rule inet %1$s nat_bind oifname \"%2$s\" ct original zone %3$u "
	"delete @nat_within6 { " FLOW6 "} drop\n";

/* %1$s table, %2$s TUN. */
static const char binding[] =
	"add rule inet %1$s nat_bind oifname \"%2$s\" snat ip to ip saddr\n"
	"add rule inet %1$s nat_bind oifname \"%2$s\" snat ip6 to ip6 saddr\n";

/*
 * The outer packet of a tunnel needs its priority to get to us (src/capture/nft/frame.c).
 * %1$s table, %2$s TUN, %3$u zone of what is within, %4$x priority of such packets.
 */
static const char towards_tun[] =
	"add rule inet %1$s nat_guard oifname != \"%2$s\" return\n"
	"add rule inet %1$s nat_guard ct direction original ct status snat "
	"ct original zone != %3$u counter name nat_dropped drop\n"
	"add rule inet %1$s nat_guard meta priority & 0xfffffff0 == 0x%4$x return\n";

/* %1$s table, %2$x priority of what has had its NAT on its way to the TUN. */
static const char translated[] =
	"add rule inet %1$s nat_guard ct direction reply meta priority set 0x%2$x\n"
	"add rule inet %1$s nat_guard ct direction original ct status dnat "
	"meta priority set 0x%2$x\n";

/*
 * Rules of others before these may have overwritten the mark of a packet, that of its socket not.
 * %1$s table, %2$x bypass.
 */
static const char before[] =
	"add rule inet %1$s nat_before jump nat_within\n"
	"add rule inet %1$s nat_sent_on socket mark & 0x%2$x != 0 goto nat_ours\n"
	"add rule inet %1$s nat_sent_on goto nat_within\n";

/* %1$s table, %2$x and %3$x priorities of what is sent on, %4$u zone. */
static const char sent_on[] =
	"add rule inet %1$s nat_ours meta priority 0x%3$x notrack\n"
	"add rule inet %1$s nat_ours meta priority != 0x%2$x return\n"
	"add rule inet %1$s nat_ours " PAIR4 "@nat_kept4 update @nat_kept4 { " PAIR4 "} return\n"
	"add rule inet %1$s nat_ours " PAIR6 "@nat_kept6 update @nat_kept6 { " PAIR6 "} return\n"
	"add rule inet %1$s nat_ours ct original zone set %4$u\n"
	"add rule inet %1$s nat_last ct original zone %4$u add @nat_kept4 { " PAIR4 "} drop\n"
	"add rule inet %1$s nat_last ct original zone %4$u add @nat_kept6 { " PAIR6 "} drop\n";

/*
 * The rest of what connections do is settled: replies, what belongs to others, what nobody tracks,
 * and what has another destination, whose replies only the first entry could give theirs.
 * %1$s table, %2$u zone, %3$x priority on the way to the TUN, %4$x and %5$x of questions and of
 * what was refused.
 */
static const char within[] =
	"add rule inet %1$s nat_guard ct state established,related,untracked return\n"
	"add rule inet %1$s nat_guard ct original zone %2$u ct status snat return\n"
	"add rule inet %1$s nat_guard ct status dnat return\n"
	"add rule inet %1$s nat_guard " FLOW4 "@nat_refused4 return\n"
	"add rule inet %1$s nat_guard " FLOW6 "@nat_refused6 return\n"
	"add rule inet %1$s nat_guard meta priority set 0x%3$x\n"
	"add rule inet %1$s nat_ours meta priority 0x%4$x ct original zone set %2$u return\n"
	"add rule inet %1$s nat_ours meta priority 0x%5$x " HAS_PORTS "add @nat_refused4 { " FLOW4
	"} drop\n"
	"add rule inet %1$s nat_ours meta priority 0x%5$x " HAS_PORTS "add @nat_refused6 { " FLOW6
	"} drop\n"
	"add rule inet %1$s nat_ours meta priority 0x%5$x drop\n"
	"add rule inet %1$s nat_learn ct original zone != %2$u return\n"
	"add rule inet %1$s nat_learn fib saddr type local add @nat_local4 { ip saddr }\n"
	"add rule inet %1$s nat_learn fib saddr type local add @nat_local6 { ip6 saddr }\n"
	"add rule inet %1$s nat_learn ct direction original ct status snat " HAS_PORTS
	"add @nat_within4 { ct original ip saddr . ct original ip daddr " ORIGINAL "}\n"
	"add rule inet %1$s nat_learn ct direction original ct status snat " HAS_PORTS
	"add @nat_within6 { ct original ip6 saddr . ct original ip6 daddr " ORIGINAL "}\n"
	"add rule inet %1$s nat_later ct original zone %2$u ct direction original ct status snat "
	"ct reply ip daddr @nat_local4 accept\n"
	"add rule inet %1$s nat_later ct original zone %2$u ct direction original ct status snat "
	"ct reply ip6 daddr @nat_local6 accept\n"
	"add rule inet %1$s nat_within tcp flags & (syn | ack) == syn return\n"
	"add rule inet %1$s nat_within " FLOW4 "@nat_within4 goto nat_live\n"
	"add rule inet %1$s nat_within " FLOW6 "@nat_within6 goto nat_live\n"
	"add rule inet %1$s nat_live ct original zone set %2$u\n"
	"add rule inet %1$s nat_live tcp flags & (fin | rst) == 0 "
	"update @nat_within4 { " FLOW4 "timeout 2h } return\n"
	"add rule inet %1$s nat_live tcp flags & (fin | rst) == 0 "
	"update @nat_within6 { " FLOW6 "timeout 2h } return\n"
	"add rule inet %1$s nat_live update @nat_within4 { " FLOW4 "}\n"
	"add rule inet %1$s nat_live update @nat_within6 { " FLOW6 "}\n";

/*
 * The view of one direction of connections that were translated: where packets went to when they
 * arrived, and where they go to now.
 * %1$s table, %2$s direction, %3$s what was done to the connection, %4$s the other direction.
 */
static const char view[] = "add rule inet %1$s nat_arrived ct direction %2$s ct status %3$s "
			   "ip daddr set ct %2$s ip daddr\n"
			   "add rule inet %1$s nat_arrived ct direction %2$s ct status %3$s "
			   "ip6 daddr set ct %2$s ip6 daddr\n"
			   "add rule inet %1$s nat_arrived ct direction %2$s ct status %3$s "
			   "tcp dport set ct %2$s proto-dst\n"
			   "add rule inet %1$s nat_arrived ct direction %2$s ct status %3$s "
			   "udp dport set ct %2$s proto-dst\n"
			   "add rule inet %1$s nat_restored ct direction %2$s ct status %3$s "
			   "ip daddr set ct %4$s ip saddr\n"
			   "add rule inet %1$s nat_restored ct direction %2$s ct status %3$s "
			   "ip6 daddr set ct %4$s ip6 saddr\n"
			   "add rule inet %1$s nat_restored ct direction %2$s ct status %3$s "
			   "tcp dport set ct %4$s proto-src\n"
			   "add rule inet %1$s nat_restored ct direction %2$s ct status %3$s "
			   "udp dport set ct %4$s proto-src\n";

static void put_guard(FILE *f, const struct xf_io_names *names)
{
	fprintf(f, guard_chains, XF_NFT_TABLE);
	fprintf(f, towards_tun, XF_NFT_TABLE, names->tun, XF_NAT_ZONE_WITHIN,
		XF_META_PRIORITY_ENCAPSULATED);
	fprintf(f, view, XF_NFT_TABLE, "original", "dnat", "reply");
	fprintf(f, view, XF_NFT_TABLE, "reply", "snat", "original");
}

void xf_nat_put(FILE *f, const struct xf_io_names *names, enum xf_nat_chains which, bool asks)
{
	if (which == XF_NAT_NONE)
		return;
	put_guard(f, names);
	if (which == XF_NAT_GUARD)
		return;
	fprintf(f, chains, XF_NFT_TABLE);
	if (asks)
		fprintf(f, forgetting, XF_NFT_TABLE, names->tun, XF_NAT_ZONE_WITHIN);
	fprintf(f, binding, XF_NFT_TABLE, names->tun);
	fprintf(f, translated, XF_NFT_TABLE, XF_META_PRIORITY_TRANSLATED);
	fprintf(f, before, XF_NFT_TABLE, names->mark_bypass);
	if (asks)
		fprintf(f, within, XF_NFT_TABLE, XF_NAT_ZONE_WITHIN, XF_META_PRIORITY_ASK,
			XF_PRIORITY_ASK, XF_PRIORITY_REFUSED);
	fprintf(f, sent_on, XF_NFT_TABLE, XF_PRIORITY_SENT_ON, XF_PRIORITY_TRANSLATED, ZONE);
}

/*
 * One transaction: a nat chain that stays goes on translating what is known to conntrack, and the
 * view that sees through it would be gone. What is added can be deleted.
 */
void xf_nat_put_deletion(FILE *f)
{
	static const char *const emptied[] = { XF_NAT_ARRIVED, XF_NAT_RESTORED, XF_NAT_LATER };
	static const char *const deleted[] = {
		"nat_bind",    "nat_guard", "nat_last",	  "nat_learn", "nat_before",
		"nat_sent_on", "nat_ours",  "nat_within", "nat_live",
	};

	for (unsigned i = 0; i < XF_ARRAY_SIZE(emptied); i++)
		fprintf(f, "flush chain inet " XF_NFT_TABLE " %s\n", emptied[i]);
	for (unsigned i = 0; i < XF_ARRAY_SIZE(deleted); i++)
		fprintf(f,
			"add chain inet " XF_NFT_TABLE " %s\n"
			"flush chain inet " XF_NFT_TABLE " %s\n",
			deleted[i], deleted[i]);
	for (unsigned i = 0; i < XF_ARRAY_SIZE(deleted); i++)
		fprintf(f, "delete chain inet " XF_NFT_TABLE " %s\n", deleted[i]);
}

const char *const xf_nat_delete_sets[] = {
	"delete set inet " XF_NFT_TABLE " nat_kept4",
	"delete set inet " XF_NFT_TABLE " nat_kept6",
	"delete set inet " XF_NFT_TABLE " nat_refused4",
	"delete set inet " XF_NFT_TABLE " nat_refused6",
	"delete set inet " XF_NFT_TABLE " nat_within4",
	"delete set inet " XF_NFT_TABLE " nat_within6",
	"delete set inet " XF_NFT_TABLE " nat_local4",
	"delete set inet " XF_NFT_TABLE " nat_local6",
	NULL,
};
