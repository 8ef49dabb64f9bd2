/*
 * Chains that do not depend on the policies, and what goes from them to those that do; ruleset.c
 * puts them in front of its own:
 *
 *   prerouting, output  -> outbound:  set the capture bit on what a policy out could want
 *   input -> inbound, forward -> forwarded:  drop plaintext that a policy in / fwd wants protected
 *   postrouting:  what has the bit leaves by the TUN or not at all
 *
 * Marks are everybody's: rules of others save and restore them, or overwrite them whole. So a bit
 * that is found set decides nothing. Capture is the last chain of its hook, behind destination NAT
 * and the user's own marks: it clears both bits and sets them by itself. From there to the check
 * that the packet goes where the bit says no chain of others stands, for prerouting's decision is
 * checked by the first chain of forward, output's by the first of postrouting. What the chains of
 * others do in between to packets that are on their way is undone before the next check.
 *
 * What the daemon and IKE send is known by the mark of its socket, which no rule can write. Where
 * it leaves by a tunnel of the host's, the outer packet still has that socket and is the host's:
 * the priority tells that it has been here before.
 *
 * Multicast and broadcast are routed by interface, whatever a mark says, so they cannot reach the
 * TUN: where a policy wants them, they are dropped. (The kernel would protect them.) The same holds
 * for sockets bound to a device.
 *
 * Every packet of the host pays for these chains, so what most of them are is asked first, by what
 * costs least: a mark or a type of device is one word, a device's name a copy of 16 bytes. TUN is
 * the type of TUN devices, WireGuard's and others beside ours; the name decides (0051).
 */
#include "capture/counters.h"
#include "capture/nft/frame.h"
#include "capture/nat/nat.h"

#include "policy_maps.h"
#include "tun_meta.h"

/* Nobody comes before FIRST or behind LAST; conntrack confirms in postrouting's LAST. */
#define FIRST "-2147483648"
#define LAST "2147483647"
#define BEFORE_LAST "2147483646"
#define FILTER_PRIORITY "-10"
/* Before raw; and before the filters of firewalld, which stand behind the marks of most people. */
#define ARRIVAL_PRIORITY "-301"
#define ARRIVAL_FILTER_PRIORITY "9"
/* ARPHRD_NONE, and the loopback device of any namespace. */
#define IN_BY_TUN "iiftype 65534 iifname"
#define OUT_BY_TUN "oiftype 65534 oifname"
#define LOOPBACK "1"

/* %1$s table. */
static const char chains[] =
	"add chain inet %1$s selected\n"
	"add chain inet %1$s own\n"
	"add chain inet %1$s encapsulated\n"
	"add chain inet %1$s outbound\n"
	"add chain inet %1$s inbound\n"
	"add chain inet %1$s forwarded\n"
	"add chain inet %1$s " XF_NAT_ARRIVED "\n"
	"add chain inet %1$s " XF_NAT_RESTORED "\n"
	"add chain inet %1$s " XF_NAT_LATER "\n"
	"add chain inet %1$s arrival { type filter hook prerouting priority " ARRIVAL_PRIORITY
	"; }\n"
	"add chain inet %1$s arrival_filter { type filter hook prerouting "
	"priority " ARRIVAL_FILTER_PRIORITY "; }\n"
	"add chain inet %1$s prerouting { type filter hook prerouting priority " LAST "; }\n"
	"add chain inet %1$s unmark { type route hook output priority " BEFORE_LAST "; }\n"
	"add chain inet %1$s output { type route hook output priority " LAST "; }\n"
	"add chain inet %1$s input { type filter hook input priority " FILTER_PRIORITY "; }\n"
	"add chain inet %1$s forward { type filter hook forward priority " FIRST "; }\n"
	"add chain inet %1$s forward_end { type filter hook forward priority " LAST "; }\n"
	"add chain inet %1$s postrouting { type filter hook postrouting priority " FIRST "; }\n"
	"flush table inet %1$s\n";

/*
 * What the TUN delivers has the bit on its way through the filters of others: a look for the route
 * back with the packet's mark ("fib saddr . mark . iif oif missing drop") finds the TUN by it.
 * %1$s table, %2$s TUN, %3$x capture, %4$x all but capture and bypass, %5$x both.
 */
static const char prerouting[] =
	"add rule inet %1$s arrival meta mark & 0x%5$x != 0 meta mark set meta mark & 0x%4$x\n"
	"add rule inet %1$s arrival " IN_BY_TUN " \"%2$s\" meta mark set meta mark | 0x%3$x\n"
	"add rule inet %1$s arrival_filter " IN_BY_TUN
	" \"%2$s\" meta mark set meta mark | 0x%3$x\n"
	"add rule inet %1$s prerouting meta mark & 0x%5$x != 0 meta mark set meta mark & 0x%4$x\n"
	"add rule inet %1$s prerouting fib daddr type { local, broadcast, anycast, multicast } "
	"return\n";

/*
 * Of two chains, so that what has the bit already and gets it here is routed again: each of them
 * compares the mark that it found with the one that it leaves. A listener's answer to SYN has no
 * socket yet, only its mark, and no payload.
 * %1$s table, %2$x bypass, %3$x all but capture, %4$x all but both, %5$x both, %6$x what has left
 * once, %7$x what became of it in a tunnel.
 */
_Static_assert((XF_PRIORITY_LEFT & 0xffffffe0) == (XF_META_PRIORITY_ENCAPSULATED & 0xffffffe0),
	       "one rule asks for both");

static const char output[] =
	"add rule inet %1$s unmark socket mark & 0x%2$x != 0 goto own\n"
	"add rule inet %1$s unmark meta mark & 0x%5$x == 0 return\n"
	"add rule inet %1$s unmark meta priority & 0xffffffe0 == 0x%6$x goto encapsulated\n"
	"add rule inet %1$s unmark meta mark & 0x%2$x != 0 tcp flags & (syn | ack) == syn | ack "
	"meta mark set meta mark & 0x%3$x return\n"
	"add rule inet %1$s unmark meta mark set meta mark & 0x%4$x\n"
	"add rule inet %1$s own meta priority & 0xffffffe0 == 0x%6$x goto encapsulated\n"
	"add rule inet %1$s own meta mark set meta mark & 0x%3$x | 0x%2$x\n"
	"add rule inet %1$s encapsulated meta mark set meta mark & 0x%4$x "
	"meta priority set meta priority & 0xf | 0x%7$x\n"
	"add rule inet %1$s output meta mark & 0x%2$x != 0 "
	"meta priority set meta priority & 0xf | 0x%6$x return\n"
	"add rule inet %1$s output oif " LOOPBACK " return\n";

/*
 * ESP is not plaintext; IKE's sockets carry the bypass mark.
 * %1$s table, %2$s TUN, %3$x bypass, %4$x and %5$x the sign for the twin.
 */
static const char input[] = "add rule inet %1$s input iif " LOOPBACK " return\n"
			    "add rule inet %1$s input " IN_BY_TUN " \"%2$s\" return\n"
			    "add rule inet %1$s input meta l4proto { 50, 51, 108 } return\n"
			    "add rule inet %1$s input socket mark & 0x%3$x != 0 meta priority set "
			    "%4$x:%5$x return\n";

/*
 * Both bits are the sign of a frame between ports of a bridge (xf_frame_bridge_put()).
 * %1$s table, %2$s TUN, %3$x capture, %4$x all but both, %5$x both.
 */
static const char forward[] =
	"add rule inet %1$s forward meta mark & 0x%5$x == 0x%5$x return\n"
	"add rule inet %1$s forward meta mark & 0x%3$x != 0 oifname != \"%2$s\" counter name "
	"misrouted drop\n"
	"add rule inet %1$s forward " IN_BY_TUN " \"%2$s\" return\n"
	"add rule inet %1$s forward_end " OUT_BY_TUN
	" \"%2$s\" meta mark set meta mark | 0x%3$x return\n"
	"add rule inet %1$s forward_end meta mark & 0x%5$x != 0 meta mark set meta mark & 0x%4$x\n";

/*
 * Whom the policies are asked about, behind all that is exempt from them.
 * %1$s table.
 */
static const char policies[] = "add rule inet %1$s prerouting jump " XF_NAT_LATER "\n"
			       "add rule inet %1$s prerouting goto outbound\n"
			       "add rule inet %1$s output jump " XF_NAT_LATER "\n"
			       "add rule inet %1$s output goto outbound\n"
			       "add rule inet %1$s input jump " XF_NAT_ARRIVED "\n"
			       "add rule inet %1$s input jump inbound\n"
			       "add rule inet %1$s input jump " XF_NAT_RESTORED "\n"
			       "add rule inet %1$s forward jump " XF_NAT_ARRIVED "\n"
			       "add rule inet %1$s forward jump forwarded\n"
			       "add rule inet %1$s forward jump " XF_NAT_RESTORED "\n";

/*
 * What the kernel itself says on the TUN (MLD) is for nobody. A socket that is bound to the TUN, as
 * anybody's may be, gets there what no policy wants: sent on, it would be the daemon's, past rules
 * for users and ways out. Anything else that heads there was captured, whatever becomes of its mark
 * (src/port/tun/tun.c).
 * %1$s table, %2$s TUN, %3$x capture, %4$x both.
 */
static const char postrouting[] =
	"add rule inet %1$s postrouting meta mark & 0x%3$x == 0 oiftype != 65534 return\n"
	"add rule inet %1$s postrouting meta mark & 0x%3$x != 0 oifname \"%2$s\" return\n"
	"add rule inet %1$s postrouting meta mark & 0x%3$x != 0 counter name misrouted drop\n"
	"add rule inet %1$s postrouting oifname != \"%2$s\" return\n"
	"add rule inet %1$s postrouting fib daddr type multicast drop\n"
	"add rule inet %1$s postrouting meta mark & 0x%4$x == 0 counter name misrouted drop\n";

/*
 * Directly before br_netfilter (-1 and 0) hands frames to the chains of inet, and behind them.
 * %1$s table, %2$x both, %3$x all but both.
 */
static const char bridge[] =
	"add chain bridge %1$s forward { type filter hook forward priority -2; }\n"
	"add chain bridge %1$s postrouting { type filter hook postrouting priority 0; }\n"
	"add rule bridge %1$s forward meta mark set meta mark | 0x%2$x\n"
	"add rule bridge %1$s postrouting meta mark & 0x%2$x == 0x%2$x "
	"meta mark set meta mark & 0x%3$x\n";

void xf_frame_bridge_put(FILE *f, const struct xf_io_names *names)
{
	const uint32_t both = names->mark_capture | names->mark_bypass;

	fprintf(f, bridge, XF_NFT_TABLE, both, ~both);
}

/* "iif { 2, 7 } ", or nothing where it is every device. */
static void put_devices(FILE *f, const struct xf_exempt *exempt, uint32_t from, const char *what)
{
	const char *before = "{ ";

	if (exempt->all & from)
		return;
	fprintf(f, "%s ", what);
	for (uint32_t i = 0; i < exempt->ndevices; i++) {
		if (!(exempt->devices[i].from & from))
			continue;
		fprintf(f, "%s%u", before, exempt->devices[i].ifindex);
		before = ", ";
	}
	fprintf(f, " } ");
}

static bool has_devices(const struct xf_exempt *exempt, uint32_t from)
{
	bool has = exempt->all & from;

	for (uint32_t i = 0; i < exempt->ndevices; i++)
		has |= (exempt->devices[i].from & from) != 0;
	return has;
}

static void put_addresses(FILE *f, const struct xf_exempt *exempt, const char *verdict)
{
	if (!exempt->naddrs)
		return;
	fprintf(f, "add rule inet " XF_NFT_TABLE " input ip6 daddr ");
	for (uint32_t i = 0; i < exempt->naddrs; i++) {
		char text[XF_ADDR_STRLEN];

		fprintf(f, "%s%s", i ? ", " : "{ ",
			xf_addr_format(&exempt->addrs[i], XF_AF_INET6, text));
	}
	fprintf(f, " } %s\n", verdict);
}

/*
 * Where a packet will leave is not known in prerouting: the route is looked up, as the kernel does
 * it next. For this host the twin sees the same sign as of sockets with the bypass mark.
 */
static void put_exempt(FILE *f, const struct xf_exempt *exempt)
{
	static const struct {
		uint32_t from;
		const char *chain;
		const char *what;
		bool sign;
	} places[] = {
		{ XF_EXEMPT_XFRM4, "prerouting", "fib daddr . mark oif", false },
		{ XF_EXEMPT_XFRM4, "output", "oif", false },
		{ XF_EXEMPT_POLICY4, "input", "iif", true },
		{ XF_EXEMPT_POLICY4, "forward", "iif", false },
	};
	char sign[64];

	snprintf(sign, sizeof(sign), "meta priority set %x:%x return", XF_BPF_PRIORITY_BYPASS >> 16,
		 XF_BPF_PRIORITY_BYPASS & 0xffff);
	for (unsigned i = 0; i < XF_ARRAY_SIZE(places); i++) {
		if (!has_devices(exempt, places[i].from))
			continue;
		fprintf(f, "add rule inet " XF_NFT_TABLE " %s meta nfproto ipv4 ", places[i].chain);
		put_devices(f, exempt, places[i].from, places[i].what);
		fprintf(f, "%s\n", places[i].sign ? sign : "return");
	}
	put_addresses(f, exempt, sign);
}

static void put_rules(FILE *f, const struct xf_io_names *names, const struct xf_exempt *exempt)
{
	const uint32_t capture = names->mark_capture;
	const uint32_t bypass = names->mark_bypass;
	const uint32_t both = capture | bypass;

	fprintf(f, prerouting, XF_NFT_TABLE, names->tun, capture, ~both, both);
	fprintf(f, output, XF_NFT_TABLE, bypass, ~capture, ~both, both, XF_PRIORITY_LEFT,
		XF_META_PRIORITY_ENCAPSULATED);
	fprintf(f, input, XF_NFT_TABLE, names->tun, bypass, XF_BPF_PRIORITY_BYPASS >> 16,
		XF_BPF_PRIORITY_BYPASS & 0xffff);
	fprintf(f, forward, XF_NFT_TABLE, names->tun, capture, ~both, both);
	fprintf(f, postrouting, XF_NFT_TABLE, names->tun, capture, both);
	if (exempt)
		put_exempt(f, exempt);
	fprintf(f, policies, XF_NFT_TABLE);
}

static void put_counters(FILE *f)
{
	for (size_t i = 0; i < xf_capture_counters.n; i++) {
		const char *source = xf_capture_counters.descs[i].source;

		if (source)
			fprintf(f, "add counter inet " XF_NFT_TABLE " %s\n", source);
	}
}

void xf_frame_put(FILE *f, const struct xf_io_names *names, const struct xf_exempt *exempt)
{
	put_counters(f);
	fprintf(f, chains, XF_NFT_TABLE);
	put_rules(f, names, exempt);
}

void xf_frame_put_again(FILE *f, const struct xf_io_names *names, const struct xf_exempt *exempt)
{
	static const char *const filled[] = {
		"arrival", "arrival_filter", "prerouting",  "unmark",
		"own",	   "encapsulated",   "output",	    "input",
		"forward", "forward_end",    "postrouting",
	};

	for (unsigned i = 0; i < XF_ARRAY_SIZE(filled); i++)
		fprintf(f, "flush chain inet " XF_NFT_TABLE " %s\n", filled[i]);
	put_rules(f, names, exempt);
}
