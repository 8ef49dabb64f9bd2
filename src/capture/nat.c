/*
 * The host's NAT and captured packets: chains that capture.c adds while another nat hook is there.
 *
 *   nat_bind     before every other nat chain: a new flow that heads for the TUN keeps its source
 *   nat_guard    behind all of them: what has another source nevertheless does not go to the TUN
 *   nat_arrived, nat_restored  around the in and fwd policies: they see the addresses with which
 *                the packet arrived, as Linux judges it (nf_nat_decode_session())
 *
 * A binding "to the packet's own source" is what makes the kernel ask no further nat chain; an
 * accept alone would not.
 */
#include "capture/nat.h"

/*
 * The lowest priority that the kernel takes is -199, and conntrack confirms at 2147483647.
 * %1$s table, %2$s TUN.
 */
static const char chains[] =
	"add chain inet %1$s nat_bind { type nat hook postrouting priority -199; }\n"
	"add chain inet %1$s nat_guard { type filter hook postrouting priority 2147483646; }\n"
	"flush chain inet %1$s nat_bind\n"
	"flush chain inet %1$s nat_guard\n"
	"flush chain inet %1$s nat_arrived\n"
	"flush chain inet %1$s nat_restored\n"
	"add rule inet %1$s nat_bind oifname \"%2$s\" snat ip to ip saddr\n"
	"add rule inet %1$s nat_bind oifname \"%2$s\" snat ip6 to ip6 saddr\n"
	"add rule inet %1$s nat_guard oifname != \"%2$s\" return\n"
	"add rule inet %1$s nat_guard ct direction original ct status snat "
	"counter name nat_dropped drop\n";

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
	fprintf(f, chains, XF_NFT_TABLE, names->tun);
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
	NULL,
};
