/*
 * Where packet sockets may send: what the kernel says of a next hop, and which chains of nftables
 * stand in the way.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <net/if.h>
#include <linux/if_arp.h>
#include <linux/neighbour.h>
#include <linux/netfilter.h>
#include <linux/rtnetlink.h>

#include "host/firewall.h"
#include "host/hop.h"
#include "port/io.h"
#include "port/packet.h"

/* What differs between hops, and a part of why it is refused; NULL: it is not. */
static const struct {
	const char *why;
	struct {
		uint8_t route_type;
		uint16_t link_type;
		uint32_t link_flags;
		uint16_t neigh_state;
		uint8_t lladdr_len;
	} is;
} hop_cases[] = {
	{ NULL, { RTN_UNICAST, ARPHRD_ETHER, IFF_UP, NUD_REACHABLE, 6 } },
	{ NULL,
	  { RTN_UNICAST, ARPHRD_ETHER, IFF_UP | IFF_BROADCAST | IFF_RUNNING, NUD_REACHABLE, 6 } },
	{ NULL, { RTN_UNICAST, ARPHRD_ETHER, IFF_UP, NUD_STALE, 6 } },
	{ NULL, { RTN_UNICAST, ARPHRD_ETHER, IFF_UP, NUD_DELAY, 6 } },
	{ NULL, { RTN_UNICAST, ARPHRD_ETHER, IFF_UP, NUD_PROBE, 6 } },
	{ NULL, { RTN_UNICAST, ARPHRD_ETHER, IFF_UP, NUD_PERMANENT, 6 } },
	{ "no route", { RTN_UNSPEC, ARPHRD_ETHER, IFF_UP, NUD_REACHABLE, 6 } },
	{ "single other host", { RTN_LOCAL, ARPHRD_ETHER, IFF_UP, NUD_REACHABLE, 6 } },
	{ "single other host", { RTN_BROADCAST, ARPHRD_ETHER, IFF_UP, NUD_REACHABLE, 6 } },
	{ "single other host", { RTN_MULTICAST, ARPHRD_ETHER, IFF_UP, NUD_REACHABLE, 6 } },
	{ "single other host", { RTN_BLACKHOLE, ARPHRD_ETHER, IFF_UP, NUD_REACHABLE, 6 } },
	{ "is down", { RTN_UNICAST, ARPHRD_ETHER, 0, NUD_REACHABLE, 6 } },
	{ "is down", { RTN_UNICAST, ARPHRD_ETHER, IFF_RUNNING, NUD_REACHABLE, 6 } },
	{ "resolve", { RTN_UNICAST, ARPHRD_NONE, IFF_UP, NUD_REACHABLE, 6 } },
	{ "resolve", { RTN_UNICAST, ARPHRD_INFINIBAND, IFF_UP, NUD_REACHABLE, 6 } },
	{ "resolve", { RTN_UNICAST, ARPHRD_ETHER, IFF_UP | IFF_LOOPBACK, NUD_REACHABLE, 6 } },
	{ "resolve", { RTN_UNICAST, ARPHRD_ETHER, IFF_UP | IFF_NOARP, NUD_REACHABLE, 6 } },
	{ "not known", { RTN_UNICAST, ARPHRD_ETHER, IFF_UP, NUD_NONE, 6 } },
	{ "not known", { RTN_UNICAST, ARPHRD_ETHER, IFF_UP, NUD_INCOMPLETE, 6 } },
	{ "not known", { RTN_UNICAST, ARPHRD_ETHER, IFF_UP, NUD_FAILED, 6 } },
	{ "not known", { RTN_UNICAST, ARPHRD_ETHER, IFF_UP, NUD_NOARP, 6 } },
	{ "no Ethernet", { RTN_UNICAST, ARPHRD_ETHER, IFF_UP, NUD_REACHABLE, 0 } },
	{ "no Ethernet", { RTN_UNICAST, ARPHRD_ETHER, IFF_UP, NUD_REACHABLE, 8 } },
};

static void hops(void **state)
{
	(void)state;
	for (size_t i = 0; i < XF_ARRAY_SIZE(hop_cases); i++) {
		const struct xf_hop_facts facts = {
			.route_type = hop_cases[i].is.route_type,
			.link_type = hop_cases[i].is.link_type,
			.link_flags = hop_cases[i].is.link_flags,
			.neigh_state = hop_cases[i].is.neigh_state,
			.lladdr_len = hop_cases[i].is.lladdr_len,
		};
		const char *why = xf_hop_refusal(&facts);
		const char *want = hop_cases[i].why;

		if (!want != !why || (why && !strstr(why, want)))
			fail_msg("case %zu: %s, not %s", i, why, want);
	}
}

#define CHAIN(fam, at, count, policy_drop, in)                                           \
	{                                                                                \
		.family = (fam), .hook = (at), .rules = (count), .drops = (policy_drop), \
		.table = (in), .name = "c"                                               \
	}

static void chains(void **state)
{
	static const struct {
		enum xf_firewall_way way;
		struct xf_firewall_chain chain;
	} cases[] = {
		{ XF_FIREWALL_OUTPUT, CHAIN(NFPROTO_IPV4, NF_INET_LOCAL_OUT, 1, false, "filter") },
		{ XF_FIREWALL_OUTPUT, CHAIN(NFPROTO_IPV6, NF_INET_LOCAL_OUT, 1, false, "filter") },
		{ XF_FIREWALL_OUTPUT, CHAIN(NFPROTO_INET, NF_INET_LOCAL_OUT, 1, false, "filter") },
		{ XF_FIREWALL_OUTPUT, CHAIN(NFPROTO_IPV4, NF_INET_POST_ROUTING, 3, false, "nat") },
		{ XF_FIREWALL_OUTPUT, CHAIN(NFPROTO_INET, NF_INET_LOCAL_OUT, 0, true, "filter") },
		{ XF_FIREWALL_NEITHER, CHAIN(NFPROTO_INET, NF_INET_LOCAL_OUT, 0, false, "filter") },
		{ XF_FIREWALL_INPUT, CHAIN(NFPROTO_INET, NF_INET_LOCAL_IN, 9, true, "filter") },
		{ XF_FIREWALL_NEITHER, CHAIN(NFPROTO_INET, NF_INET_FORWARD, 9, true, "filter") },
		{ XF_FIREWALL_INPUT, CHAIN(NFPROTO_INET, NF_INET_PRE_ROUTING, 9, true, "filter") },
		/* Not a base chain. */
		{ XF_FIREWALL_NEITHER, CHAIN(NFPROTO_INET, UINT32_MAX, 9, false, "filter") },
		/* Behind packet sockets, or not about IP. */
		{ XF_FIREWALL_NEITHER,
		  CHAIN(NFPROTO_NETDEV, NF_INET_LOCAL_OUT, 9, true, "filter") },
		{ XF_FIREWALL_NEITHER,
		  CHAIN(NFPROTO_BRIDGE, NF_INET_LOCAL_OUT, 9, true, "filter") },
		{ XF_FIREWALL_NEITHER, CHAIN(NFPROTO_ARP, NF_INET_LOCAL_OUT, 9, true, "filter") },
		{ XF_FIREWALL_INPUT, CHAIN(NFPROTO_NETDEV, NF_NETDEV_INGRESS, 1, false, "fw") },
		{ XF_FIREWALL_NEITHER, CHAIN(NFPROTO_NETDEV, 1, 1, false, "fw") },
		{ XF_FIREWALL_INPUT, CHAIN(NFPROTO_INET, NF_INET_INGRESS, 1, false, "fw") },
		{ XF_FIREWALL_INPUT, CHAIN(NFPROTO_IPV4, NF_INET_PRE_ROUTING, 1, false, "nat") },
		{ XF_FIREWALL_NEITHER, CHAIN(NFPROTO_IPV4, NF_INET_LOCAL_IN, 0, false, "fw") },
		{ XF_FIREWALL_NEITHER, CHAIN(NFPROTO_INET, NF_INET_PRE_ROUTING, 1, true, "xfrmd") },
		/* Ours; a namesake of another family is not. */
		{ XF_FIREWALL_NEITHER, CHAIN(NFPROTO_INET, NF_INET_LOCAL_OUT, 9, true, "xfrmd") },
		{ XF_FIREWALL_OUTPUT, CHAIN(NFPROTO_IPV4, NF_INET_LOCAL_OUT, 9, true, "xfrmd") },
		{ XF_FIREWALL_OUTPUT, CHAIN(NFPROTO_INET, NF_INET_LOCAL_OUT, 9, true, "xfrmd2") },
	};

	(void)state;
	for (size_t i = 0; i < XF_ARRAY_SIZE(cases); i++)
		if (xf_firewall_matters(&cases[i].chain) != cases[i].way)
			fail_msg("case %zu", i);
}

/* NAT of others, rules or not: connection tracking is on with the hook already. */
static void translations(void **state)
{
	static const struct {
		bool nat;
		struct xf_firewall_chain chain;
	} cases[] = {
		{ true, { .family = NFPROTO_IPV4, .table = "nat", .type = "nat", .rules = 1 } },
		{ true, { .family = NFPROTO_IPV6, .table = "nat", .type = "nat" } },
		{ true, { .family = NFPROTO_INET, .table = "fw", .type = "nat" } },
		{ true, { .family = NFPROTO_IPV4, .table = "xfrmd", .type = "nat" } },
		{ false, { .family = NFPROTO_INET, .table = "xfrmd", .type = "nat" } },
		{ false, { .family = NFPROTO_IPV4, .table = "nat", .type = "filter" } },
		{ false, { .family = NFPROTO_IPV4, .table = "nat", .type = "" } },
		{ false, { .family = NFPROTO_NETDEV, .table = "fw", .type = "nat" } },
	};

	(void)state;
	for (size_t i = 0; i < XF_ARRAY_SIZE(cases); i++)
		if (xf_firewall_translates(&cases[i].chain) != cases[i].nat)
			fail_msg("case %zu", i);
}

static void copy(void *arg, const struct xf_event *event)
{
	*(struct xf_event *)arg = *event;
}

/* A question that found the ring full is asked again by the next packet, and once only. */
static void a_lost_question(void **state)
{
	const struct xf_hop_key key = { .family = XF_AF_INET, .daddr.bytes = { 192, 0, 2, 1 } };
	struct xf_event_ring *ring = xf_event_ring_new(1, &(struct xf_event_wake){ 0 });
	struct xf_event_lost other = { 0 };
	struct xf_event event = { .kind = XF_EVENT_SA };
	struct xf_io_error error;
	struct xf_packet *packet;

	(void)state;
	if (xf_packet_new(&xf_io_names_default, XF_NATIVE_PACKET, &packet, &error)) {
		print_message("# %s\n", error.text);
		xf_event_ring_free(ring);
		skip();
	}
	xf_event_tell(ring, &event, &other);
	assert_null(xf_packet_find(packet, &key, 1, ring));
	assert_int_equal(xf_event_take(ring, copy, &event), 1);
	assert_int_equal(event.kind, XF_EVENT_SA);
	assert_null(xf_packet_find(packet, &key, 1, ring));
	assert_int_equal(xf_event_take(ring, copy, &event), 0);
	assert_true(xf_packet_has_lost(packet));
	assert_false(xf_packet_has_lost(packet));
	for (unsigned i = 0; i < 3; i++)
		assert_null(xf_packet_find(packet, &key, 1, ring));
	assert_false(xf_packet_has_lost(packet));
	assert_int_equal(xf_event_take(ring, copy, &event), 1);
	assert_int_equal(event.kind, XF_EVENT_NEXT_HOP);
	assert_memory_equal(event.data, &key, sizeof(key));
	/* Answered: there is no hop that way, and nobody asks any more. */
	xf_packet_take(packet, &event, 1);
	xf_packet_dispatch(packet, 1);
	xf_packet_find(packet, &key, 1, ring);
	assert_int_equal(xf_event_take(ring, copy, &event), 0);
	xf_packet_free(packet);
	xf_event_ring_free(ring);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hops),
		cmocka_unit_test(chains),
		cmocka_unit_test(translations),
		cmocka_unit_test(a_lost_question),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
