/*
 * Single cases on the host of model_host.c: flows that the host's NAT keeps within policies
 * (decision 0022).
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "model_host.h"

/* Behind lan, behind wan, and what the host's NAT makes of the first: of this host, or not. */
static const char *const ends[] = { "10.0.1.1", "10.1.1.1" };
static const char *const ends6[] = { "fd00:0:0:1::", "fd00:100:0:1::" };
static const char *const given[] = { "10.1.0.1", "10.1.2.0" };
static const char *const given6[] = { "fd00:100:0:1::1", "fd00:100::" };

/* A flow, and NAT for it. */
struct kind {
	bool six;
	uint8_t proto;
	bool fixed;
	bool routed;
};

static const struct kind kinds[] = {
	{ false, XF_IPPROTO_TCP, true, true },	 { true, XF_IPPROTO_TCP, true, true },
	{ false, XF_IPPROTO_UDP, true, true },	 { true, XF_IPPROTO_UDP, true, true },
	{ false, XF_IPPROTO_TCP, false, false }, { true, XF_IPPROTO_UDP, true, false },
};

static const struct world_config config = {
	.mode = XF_CAPTURE_AUTO, .nat = true, .netfilter = true, .tcx = true, .seed = 1
};

static uint16_t family_of(const struct kind *kind)
{
	return kind->six ? XF_AF_INET6 : XF_AF_INET;
}

static union xf_addr given_to(const struct kind *kind)
{
	union xf_addr addr;

	memset(&addr, 0, sizeof(addr));
	xf_addr_parse((kind->six ? given6 : given)[kind->routed], &addr);
	return addr;
}

/* From @from to the end behind wan. */
static struct xf_policy *add_policy(struct world *w, const struct kind *kind,
				    const union xf_addr *from)
{
	struct xf_policy_config cfg = {
		.dir = XF_DIR_OUT,
		.life = { XF_INF, XF_INF, XF_INF, XF_INF, 0, 0, 0, 0 },
		.sel = { .family = family_of(kind), .saddr = *from },
		.priority = 1,
		.ntmpl = 1,
	};
	struct xf_policy *policy;

	cfg.sel.prefixlen_s = cfg.sel.prefixlen_d = kind->six ? 128 : 32;
	xf_addr_parse((kind->six ? ends6 : ends)[1], &cfg.sel.daddr);
	assert_int_equal(xf_spd_insert(w->spd, &cfg, false, w->now_ns, &policy), 0);
	return policy;
}

static struct xf_policy *add_policy_for(struct world *w, const struct kind *kind, bool behind_nat)
{
	union xf_addr from = given_to(kind);

	memset(&from, 0, behind_nat ? 0 : sizeof(from));
	if (!behind_nat)
		xf_addr_parse((kind->six ? ends6 : ends)[0], &from);
	return add_policy(w, kind, &from);
}

static void settle(struct world *w)
{
	world_sync(w);
	world_run(w, w->now_ns + XF_NSEC_PER_SEC);
}

static struct world *make_world(const struct kind *kind)
{
	struct world *w = world_new(&config);

	/* Only these packets are on their way. */
	w->host.pause = NULL;
	w->host.nat = (struct fake_nat){
		.there = true, .priority = 100, .fixed = kind->fixed, .routed = kind->routed
	};
	w->host.nat_event = true;
	world_hear(w);
	return w;
}

/* The next packet of the flow. */
static struct fake_journey send_one(struct world *w, const struct kind *kind, uint8_t flags)
{
	struct fake_journey j = { .p = { .family = family_of(kind),
					 .proto = kind->proto,
					 .l4 = { 0x10, 0, 0x10, 1 } },
				  .iif = 2 };

	j.p.tcp_flags = kind->proto == XF_IPPROTO_TCP ? flags : 0;
	for (unsigned i = 0; i < 2; i++)
		xf_addr_parse((kind->six ? ends6 : ends)[i], &j.p.addr[i]);
	fake_host_send(&w->host, &j);
	return j;
}

static bool is_protected_as(const struct fake_journey *j, const union xf_addr *source)
{
	return j->fate == FAKE_PROTECTED && xf_addr_equal(&j->heard.saddr, source, j->p.family);
}

static void assert_within(const struct kind *kind, const struct fake_journey *j, bool asked)
{
	const union xf_addr source = given_to(kind);

	if (!is_protected_as(j, &source) || j->asked != asked)
		fail_msg("IPv%d proto %u: it was %s %s, asked %d", kind->six ? 6 : 4, kind->proto,
			 is_protected_as(j, &source) ? "protected by" : "elsewhere than with",
			 j->by, j->asked);
}

static void assert_own(const struct kind *kind, const struct fake_journey *j)
{
	const struct xf_flow *routed = &j->routed;

	if (!is_protected_as(j, &routed->saddr))
		fail_msg("IPv%d proto %u: it ended at %s, asked %d", kind->six ? 6 : 4, kind->proto,
			 j->by, j->asked);
}

/* Its packets, also its end, are not asked for; another one of the same ports is. */
void flows_within_begin_and_end(void **unused)
{
	(void)unused;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(kinds); i++) {
		const struct kind *kind = &kinds[i];
		bool again = kind->proto == XF_IPPROTO_TCP;
		struct world *w = make_world(kind);
		struct fake_journey j;

		add_policy_for(w, kind, false);
		add_policy_for(w, kind, true);
		settle(w);
		for (unsigned n = 0; n < 3; n++) {
			j = send_one(w, kind, FAKE_SYN);
			assert_within(kind, &j, again || n == 0);
			j = send_one(w, kind, FAKE_ACK);
			assert_within(kind, &j, false);
			j = send_one(w, kind, FAKE_ACK | FAKE_FIN);
			assert_within(kind, &j, false);
		}
		world_free(w);
	}
}

/* Conntrack loses a flow before our rules do: one packet is lost, none has its own source. */
void flows_within_outlive_conntrack(void **unused)
{
	(void)unused;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(kinds); i++) {
		const struct kind *kind = &kinds[i];
		struct world *w = make_world(kind);
		struct fake_journey j;

		add_policy_for(w, kind, false);
		add_policy_for(w, kind, true);
		settle(w);
		for (unsigned n = 0; n < 3; n++) {
			j = send_one(w, kind, FAKE_ACK);
			assert_within(kind, &j, true);
			fake_conntrack_flush(&w->host.ct);
			j = send_one(w, kind, FAKE_ACK);
			assert_int_equal(j.fate, FAKE_LOST);
		}
		world_free(w);
	}
}

/* Either policy goes, and comes back. */
void flows_within_follow_policies(void **unused)
{
	(void)unused;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(kinds); i++) {
		const struct kind *kind = &kinds[i];
		struct world *w = make_world(kind);
		struct xf_policy *of_source = add_policy_for(w, kind, false);
		struct xf_policy *of_given = add_policy_for(w, kind, true);
		struct fake_journey j;

		settle(w);
		j = send_one(w, kind, FAKE_ACK);
		assert_within(kind, &j, true);
		xf_spd_del(w->spd, of_given);
		settle(w);
		/* What rules have learnt is true no more, which costs a packet. */
		j = send_one(w, kind, FAKE_ACK);
		j = send_one(w, kind, FAKE_ACK);
		assert_own(kind, &j);
		fake_host_forget_flows(&w->host);
		add_policy_for(w, kind, true);
		settle(w);
		j = send_one(w, kind, FAKE_ACK);
		assert_within(kind, &j, true);
		/* NAT brings it into the other policy then. */
		xf_spd_del(w->spd, of_source);
		settle(w);
		j = send_one(w, kind, FAKE_ACK);
		j = send_one(w, kind, FAKE_ACK);
		assert_within(kind, &j, false);
		world_free(w);
	}
}
