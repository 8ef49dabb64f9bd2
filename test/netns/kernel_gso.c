/*
 * Our cutter and joiner against the kernel's own: random super-packets leave by a veth device
 * without offloads, so that the kernel cuts them in software, and are caught at its other end.
 *
 * Makes a network namespace of its own, which goes with it. TAP; exits 77 where it may not.
 */
#include <arpa/inet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netpacket/packet.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <xf/gro.h>
#include <xf/gso.h>

#include "port/tun/vnet.h"
#include "supers.h"

#define ROUNDS 2500
#define PACKETS_MAX 64
#define FRAME_MAX 2048
#define WAIT_MS 2000

static const char make_device[] =
	"ip link add v0 mtu 2000 type veth peer name v1 mtu 2000 &&"
	" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.v0.disable_ipv6=1"
	" net.ipv6.conf.v1.disable_ipv6=1 &&"
	" ethtool -K v0 tx off sg off tso off gso off tx-udp-segmentation off >/dev/null &&"
	" ethtool -K v1 gro off >/dev/null && ip link set v0 up && ip link set v1 up";

struct packets {
	unsigned n;
	uint32_t len[PACKETS_MAX];
	uint8_t bytes[PACKETS_MAX][FRAME_MAX];
};

static struct xf_pool *pool;
static int out_fd;
static int in_fd;

static int open_device(const char *name)
{
	const int one = 1;
	struct sockaddr_ll addr = { .sll_family = AF_PACKET,
				    .sll_protocol = htons(ETH_P_ALL),
				    .sll_ifindex = (int)if_nametoindex(name) };
	int fd = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));

	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)) < 0)
		return -1;
	return fd;
}

static bool send_super(const struct xf_pkt *pkt)
{
	struct ether_header eth = { .ether_type = htons(pkt->family == XF_AF_INET ? ETH_P_IP
										  : ETH_P_IPV6) };
	struct virtio_net_hdr vnet;
	struct iovec iov[130] = { { &vnet, sizeof(vnet) }, { &eth, sizeof(eth) } };
	int n = 2;

	xf_vnet_write(pkt, &vnet);
	vnet.csum_start = (uint16_t)(vnet.csum_start + sizeof(eth));
	vnet.hdr_len = (uint16_t)(vnet.hdr_len + sizeof(eth));
	memset(eth.ether_dhost, 0xff, sizeof(eth.ether_dhost));
	for (unsigned i = 0; i < pkt->nsegs; i++)
		iov[n++] = (struct iovec){ pkt->segs[i].data, pkt->segs[i].len };
	return writev(out_fd, iov, n) > 0;
}

/* The next frame without its Ethernet header; false: none came. */
static bool catch_one(struct packets *got)
{
	struct pollfd ready = { .fd = in_fd, .events = POLLIN };
	struct virtio_net_hdr vnet;
	struct ether_header eth;
	struct iovec iov[] = { { &vnet, sizeof(vnet) },
			       { &eth, sizeof(eth) },
			       { got->bytes[got->n], FRAME_MAX } };
	ssize_t n;

	if (got->n == PACKETS_MAX || poll(&ready, 1, WAIT_MS) <= 0)
		return false;
	n = readv(in_fd, iov, 3);
	if (n <= (ssize_t)(sizeof(vnet) + sizeof(eth)) || vnet.gso_type || vnet.flags)
		return false;
	got->len[got->n++] = (uint32_t)n - (uint32_t)(sizeof(vnet) + sizeof(eth));
	return true;
}

static bool same(const struct packets *a, const struct packets *b)
{
	if (a->n != b->n)
		return false;
	for (unsigned i = 0; i < a->n; i++)
		if (a->len[i] != b->len[i] || memcmp(a->bytes[i], b->bytes[i], a->len[i]) != 0)
			return false;
	return true;
}

/* By the kernel; @want packets are to come. */
static bool cut_by_kernel(const struct xf_pkt *pkt, unsigned want, struct packets *out)
{
	out->n = 0;
	if (!send_super(pkt))
		return false;
	while (out->n < want)
		if (!catch_one(out))
			return false;
	return true;
}

static void keep(struct packets *out, struct xf_pkt *pkt)
{
	out->len[out->n] = pkt->len;
	xf_pkt_copy_out(pkt, 0, out->bytes[out->n++], pkt->len);
	xf_pkt_free(pkt);
}

static void cut_by_us(const struct xf_pkt *pkt, struct packets *out)
{
	struct xf_ip_info ip;
	struct xf_gso_cut cut;
	struct xf_pkt *piece;

	out->n = 0;
	if (xf_ip_parse(pkt, true, &ip) < 0 || xf_gso_begin(&cut, pkt, &ip) < 0)
		return;
	while ((piece = xf_gso_next(&cut)))
		keep(out, piece);
}

/* IPv4 options: seven times nothing, and their end (RFC 791 s3.1). */
static uint32_t add_options(uint8_t *p, uint32_t len)
{
	memmove(p + 28, p + 20, len - 20);
	memset(p + 20, 1, 7);
	p[27] = 0;
	p[0] = 0x47;
	xf_put_be16(p + 2, (uint16_t)(len + 8));
	xf_ipv4_set_csum(p, 28);
	return len + 8;
}

static struct xf_pkt *make_super(struct super *s)
{
	static uint8_t bytes[SUPER_LEN_MAX];
	struct xf_pkt *pkt;
	uint32_t plain;
	uint32_t len;

	do {
		supers_random(s, packets_below(4) ? 20000 : 60000);
	} while (supers_count(s) < 2 || supers_count(s) > PACKETS_MAX);
	plain = len = supers_write(s, bytes);
	if (packets_below(4) == 0)
		len = s->family == XF_AF_INET ? add_options(bytes, len) : supers_route(bytes, len);
	pkt = packets_new(pool, SHAPE_OWN, bytes, len);
	supers_mark(s, pkt);
	pkt->csum_start = (uint16_t)(pkt->csum_start + len - plain);
	pkt->family = s->family;
	return pkt;
}

/* @packets joined: the super-packets in which they come out, and what is left alone. */
static void join(struct xf_gro *gro, const struct packets *packets, struct xf_pktq *out)
{
	for (unsigned i = 0; i < packets->n; i++) {
		struct xf_pkt *pkt =
			packets_new(pool, SHAPE_OWN, packets->bytes[i], packets->len[i]);
		struct xf_ip_info ip;

		xf_ip_parse(pkt, true, &ip);
		pkt->family = ip.family;
		xf_gro_push(gro, pkt, &ip, out);
	}
	xf_gro_flush(gro, out);
}

/* What we join, and the kernel cuts again, must be what it was. */
static bool joins_to(struct xf_gro *gro, const struct packets *packets, unsigned *joined)
{
	static struct packets part;
	struct packets *again = calloc(1, sizeof(*again));
	struct xf_pktq out = { .count = 0 };
	struct xf_pkt *pkt;
	bool ok = true;

	join(gro, packets, &out);
	while ((pkt = xf_pktq_pop(&out))) {
		unsigned left = packets->n - again->n;

		if (!pkt->gso_type) {
			keep(again, pkt);
			continue;
		}
		/* All that came are in it, but for those before it and those still in @out. */
		ok = cut_by_kernel(pkt, left - out.count, &part) && ok;
		for (unsigned i = 0; i < part.n && again->n < PACKETS_MAX; i++, again->n++) {
			again->len[again->n] = part.len[i];
			memcpy(again->bytes[again->n], part.bytes[i], part.len[i]);
		}
		*joined += part.n;
		xf_pkt_free(pkt);
	}
	ok = ok && same(again, packets);
	free(again);
	return ok;
}

static int skip(const char *why)
{
	printf("skip: %s\n", why);
	return 77;
}

static void report(int number, bool ok, const char *what, unsigned n)
{
	printf("%sok %d - %s (%u)\n", ok ? "" : "not ", number, what, n);
}

int main(void)
{
	static struct packets ours, kernels;
	struct xf_gro *gro = xf_gro_new(XF_GRO_TCP | XF_GRO_UDP);
	unsigned cut = 0, joined = 0, cut_wrong = 0, joined_wrong = 0;

	if (geteuid() != 0 || unshare(CLONE_NEWNET) < 0)
		return skip("network namespaces need root");
	if (system(make_device) != 0)
		return skip("cannot make a veth device without offloads");
	out_fd = open_device("v0");
	in_fd = open_device("v1");
	if (out_fd < 0 || in_fd < 0)
		return skip("cannot open packet sockets");
	srand(20261124);
	pool = packets_pool();
	for (unsigned i = 0; i < ROUNDS; i++) {
		struct super s;
		struct xf_pkt *pkt = make_super(&s);

		cut_by_us(pkt, &ours);
		if (!cut_by_kernel(pkt, supers_count(&s), &kernels) || !same(&ours, &kernels))
			cut_wrong++;
		else if (!joins_to(gro, &ours, &joined))
			joined_wrong++;
		cut += ours.n;
		xf_pkt_free(pkt);
	}
	report(1, cut_wrong == 0 && cut > ROUNDS, "the kernel cuts as we do: packets", cut);
	report(2, joined_wrong == 0 && joined > cut / 2,
	       "what we join, the kernel cuts to what it was: packets", joined);
	if (cut_wrong || joined_wrong)
		printf("# %u cut wrong, %u joined wrong\n", cut_wrong, joined_wrong);
	xf_gro_free(gro);
	packets_pool_done(pool);
	puts("1..2");
	return cut_wrong || joined_wrong;
}
