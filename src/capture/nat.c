/*
 * The host's NAT and captured packets: chains that capture.c adds while another nat hook is there.
 *
 *   nat_bind     before every other nat chain: a new flow that heads for the TUN keeps its source
 *   nat_guard    behind all of them: what has another source nevertheless does not go to the TUN
 *
 * A binding "to the packet's own source" is what makes the kernel ask no further nat chain; an
 * accept alone would not.
 */
#include "capture/nat.h"

#define ADD "add rule inet " XF_NFT_TABLE " "
#define CHAIN "add chain inet " XF_NFT_TABLE " "

/* The lowest that the kernel takes is -199, and conntrack confirms at 2147483647. */
static const char chains[] =
	CHAIN "nat_bind { type nat hook postrouting priority -199; }\n" CHAIN
	      "nat_guard { type filter hook postrouting priority 2147483646; }\n"
	      "flush chain inet " XF_NFT_TABLE " nat_bind\n"
	      "flush chain inet " XF_NFT_TABLE " nat_guard\n"
	      "flush chain inet " XF_NFT_TABLE " " XF_NAT_ARRIVED "\n"
	      "flush chain inet " XF_NFT_TABLE " " XF_NAT_RESTORED "\n";

/* %1$s the TUN */
static const char guard[] =
	ADD "nat_bind oifname \"%1$s\" snat ip to ip saddr\n" ADD
	    "nat_bind oifname \"%1$s\" snat ip6 to ip6 saddr\n" ADD
	    "nat_guard oifname != \"%1$s\" return\n" ADD
	    "nat_guard ct direction original ct status snat counter name nat_dropped drop\n";

void xf_nat_put(FILE *f, const struct xf_io_names *names)
{
	fputs(chains, f);
	fprintf(f, guard, names->tun);
}

const char *const xf_nat_delete[] = {
	"flush chain inet " XF_NFT_TABLE " " XF_NAT_ARRIVED,
	"flush chain inet " XF_NFT_TABLE " " XF_NAT_RESTORED,
	"flush chain inet " XF_NFT_TABLE " nat_bind",
	"delete chain inet " XF_NFT_TABLE " nat_bind",
	"flush chain inet " XF_NFT_TABLE " nat_guard",
	"delete chain inet " XF_NFT_TABLE " nat_guard",
	NULL,
};
