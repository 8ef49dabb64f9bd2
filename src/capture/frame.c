/*
 * Chains that do not depend on the policies, and what goes from them to those that do:
 *
 *   prerouting, output  -> outbound:  set the capture bit on what a policy out could want
 *   input -> inbound, forward -> forwarded:  drop plaintext that a policy in / fwd wants protected
 *   postrouting:  what has the bit leaves by the TUN or not at all
 *
 * Capture stands behind destination NAT (-100) and behind the user's own marks (-150), so it sees
 * the destination that counts, and before source NAT, so it sees the source that counts.
 *
 * Multicast and broadcast are routed by interface, whatever a mark says, so they cannot reach the
 * TUN: where a policy wants them, the postrouting chain drops them. (The kernel would protect
 * them.) The same holds for sockets bound to a device.
 */
#include "capture/frame.h"
#include "capture/nat.h"

#include "policy_maps.h"

#define CAPTURE_PRIORITY "-90"
#define FILTER_PRIORITY "-10"
#define GUARD_PRIORITY "-400"

/* %1$s table, %2$s TUN, %3$x capture, %4$x bypass, %5$x and %6$x the sign for the twin, %7$x and
 * %8$x what is sent on. */
static const char frame[] =
	"add table inet %1$s\n"
	"add counter inet %1$s captured\n"
	"add counter inet %1$s plaintext\n"
	"add counter inet %1$s blocked\n"
	"add counter inet %1$s misrouted\n"
	"add counter inet %1$s nat_dropped\n"
	"add chain inet %1$s outbound\n"
	"add chain inet %1$s inbound\n"
	"add chain inet %1$s forwarded\n"
	"add chain inet %1$s " XF_NAT_ARRIVED "\n"
	"add chain inet %1$s " XF_NAT_RESTORED "\n"
	"add chain inet %1$s prerouting { type filter hook prerouting priority " CAPTURE_PRIORITY
	"; }\n"
	"add chain inet %1$s output { type route hook output priority " CAPTURE_PRIORITY "; }\n"
	"add chain inet %1$s input { type filter hook input priority " FILTER_PRIORITY "; }\n"
	"add chain inet %1$s forward { type filter hook forward priority " FILTER_PRIORITY "; }\n"
	"add chain inet %1$s postrouting { type filter hook postrouting priority " GUARD_PRIORITY
	"; }\n"
	"flush table inet %1$s\n"
	"add rule inet %1$s prerouting meta mark & 0x%4$x != 0 return\n"
	"add rule inet %1$s prerouting fib daddr type { local, broadcast, anycast, multicast } "
	"return\n"
	"add rule inet %1$s prerouting goto outbound\n"
	"add rule inet %1$s output meta mark & 0x%4$x != 0 meta priority { 0x%7$x, 0x%8$x } "
	"meta priority set 0\n"
	"add rule inet %1$s output meta mark & 0x%4$x != 0 return\n"
	"add rule inet %1$s output oifname \"lo\" return\n"
	"add rule inet %1$s output goto outbound\n"
	/* ESP is not plaintext; IKE sockets carry the bypass mark. */
	"add rule inet %1$s input iifname { \"lo\", \"%2$s\" } return\n"
	"add rule inet %1$s input meta l4proto { 50, 51, 108 } return\n"
	"add rule inet %1$s input socket mark & 0x%4$x != 0 meta priority set "
	"%5$x:%6$x return\n"
	"add rule inet %1$s input jump " XF_NAT_ARRIVED "\n"
	"add rule inet %1$s input jump inbound\n"
	"add rule inet %1$s input jump " XF_NAT_RESTORED "\n"
	"add rule inet %1$s forward iifname \"%2$s\" return\n"
	"add rule inet %1$s forward jump " XF_NAT_ARRIVED "\n"
	"add rule inet %1$s forward jump forwarded\n"
	"add rule inet %1$s forward jump " XF_NAT_RESTORED "\n"
	"add rule inet %1$s postrouting meta mark & 0x%3$x != 0 oifname != \"%2$s\" counter name "
	"misrouted drop\n"
	/* What the kernel itself says on the TUN (MLD) is for nobody. */
	"add rule inet %1$s postrouting oifname \"%2$s\" meta mark & 0x%3$x == 0 drop\n";

void xf_frame_put(FILE *f, const struct xf_io_names *names)
{
	fprintf(f, frame, XF_NFT_TABLE, names->tun, names->mark_capture, names->mark_bypass,
		XF_BPF_PRIORITY_BYPASS >> 16, XF_BPF_PRIORITY_BYPASS & 0xffff, XF_PRIORITY_SENT_ON,
		XF_PRIORITY_TRANSLATED);
}
