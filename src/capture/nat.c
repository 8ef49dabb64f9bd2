/*
 * The host's NAT and captured packets: chains that capture.c adds while another nat hook is there.
 *
 *   nat_bind     before every other nat chain: a new flow that heads for the TUN keeps its source
 *   nat_guard    behind all of them: what has another source nevertheless does not go to the TUN
 *   nat_sent_on, nat_last  what is sent on gets the NAT that it would have had uncaptured
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
 * What NAT has rewritten in the reply direction is as it is to leave, and another entry would clash
 * with its own: it is sent on without one.
 */
#include <linux/types.h>

#include "capture/nat.h"
#include "tun_meta.h"

#define ZONE 0x7866u /* "xf" */

/*
 * The lowest priority that the kernel takes is -199, and conntrack confirms at 2147483647.
 * %1$s table, %2$s TUN, %3$x bypass, %4$x and %5$x priorities of what is sent on, %6$x of what
 * is translated on its way to the TUN, %7$u zone.
 */
static const char chains[] =
	"add chain inet %1$s nat_bind { type nat hook postrouting priority -199; }\n"
	"add chain inet %1$s nat_guard { type filter hook postrouting priority 2147483646; }\n"
	"add chain inet %1$s nat_last { type nat hook postrouting priority 2147483645; }\n"
	"add chain inet %1$s nat_sent_on { type filter hook output priority -300; }\n"
	"add set inet %1$s nat_kept4 { type ipv4_addr . ipv4_addr; flags dynamic,timeout; "
	"timeout 10m; size 65535; }\n"
	"add set inet %1$s nat_kept6 { type ipv6_addr . ipv6_addr; flags dynamic,timeout; "
	"timeout 10m; size 65535; }\n"
	"flush chain inet %1$s nat_last\n"
	"flush chain inet %1$s nat_sent_on\n"
	"flush chain inet %1$s nat_bind\n"
	"flush chain inet %1$s nat_guard\n"
	"flush chain inet %1$s nat_arrived\n"
	"flush chain inet %1$s nat_restored\n"
	"add rule inet %1$s nat_bind oifname \"%2$s\" snat ip to ip saddr\n"
	"add rule inet %1$s nat_bind oifname \"%2$s\" snat ip6 to ip6 saddr\n"
	"add rule inet %1$s nat_guard oifname != \"%2$s\" return\n"
	"add rule inet %1$s nat_guard ct direction original ct status snat "
	"counter name nat_dropped drop\n"
	"add rule inet %1$s nat_guard ct direction reply ct status dnat meta priority set 0x%6$x\n"
	"add rule inet %1$s nat_sent_on meta mark & 0x%3$x == 0 return\n"
	"add rule inet %1$s nat_sent_on meta priority 0x%5$x notrack\n"
	"add rule inet %1$s nat_sent_on meta priority != 0x%4$x return\n"
	"add rule inet %1$s nat_sent_on ip saddr . ip daddr @nat_kept4 "
	"update @nat_kept4 { ip saddr . ip daddr } return\n"
	"add rule inet %1$s nat_sent_on ip6 saddr . ip6 daddr @nat_kept6 "
	"update @nat_kept6 { ip6 saddr . ip6 daddr } return\n"
	"add rule inet %1$s nat_sent_on ct original zone set %7$u\n"
	"add rule inet %1$s nat_last ct original zone %7$u "
	"add @nat_kept4 { ip saddr . ip daddr } drop\n"
	"add rule inet %1$s nat_last ct original zone %7$u "
	"add @nat_kept6 { ip6 saddr . ip6 daddr } drop\n";

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

void xf_nat_put(FILE *f, const struct xf_io_names *names)
{
	fprintf(f, chains, XF_NFT_TABLE, names->tun, names->mark_bypass, XF_PRIORITY_SENT_ON,
		XF_PRIORITY_TRANSLATED, XF_META_PRIORITY_TRANSLATED, ZONE);
	fprintf(f, view, XF_NFT_TABLE, "original", "dnat", "reply");
	fprintf(f, view, XF_NFT_TABLE, "reply", "snat", "original");
}

const char *const xf_nat_delete[] = {
	"flush chain inet " XF_NFT_TABLE " nat_arrived",
	"flush chain inet " XF_NFT_TABLE " nat_restored",
	"flush chain inet " XF_NFT_TABLE " nat_bind",
	"delete chain inet " XF_NFT_TABLE " nat_bind",
	"flush chain inet " XF_NFT_TABLE " nat_guard",
	"delete chain inet " XF_NFT_TABLE " nat_guard",
	"flush chain inet " XF_NFT_TABLE " nat_last",
	"delete chain inet " XF_NFT_TABLE " nat_last",
	"flush chain inet " XF_NFT_TABLE " nat_sent_on",
	"delete chain inet " XF_NFT_TABLE " nat_sent_on",
	"delete set inet " XF_NFT_TABLE " nat_kept4",
	"delete set inet " XF_NFT_TABLE " nat_kept6",
	NULL,
};
