/*
 * What other programs do to the model's host: to our part of it, and to theirs.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "fake_host.h"

static void tell(struct fake_host *host, enum xf_heal_part part, bool sure, const char *what)
{
	struct xf_capture_event *event = &host->events[host->nevents];

	if (host->dead)
		return;
	assert_in_range(host->nevents++, 0, FAKE_EVENTS - 1);
	*event = (struct xf_capture_event){ .part = part, .sure = sure };
	snprintf(event->what, sizeof(event->what), "%s", what);
}

/*
 * A transaction of nftables is told of, or its event got lost among too many, or nothing was heard
 * at all: that is found by a look each ten seconds, where it was known before how the table was.
 */
static void tell_table(struct fake_host *host, enum xf_heal_part part, const char *what)
{
	unsigned how = below(6);

	if (how == 0 && host->snapshot && !host->dead)
		host->unheard = true;
	else
		tell(host, part, how > 1, what);
}

/* --- nftables --- */

/* One of the two tables. */
struct table {
	struct fake_nft *nft;
	const char *family;
	bool *touched;
};

static struct table random_table(struct fake_host *host)
{
	if (below(8))
		return (struct table){ host->kernel.nft, "inet", &host->touched.table };
	return (struct table){ host->bridge, "bridge", &host->touched.bridge };
}

/* A script about one of its objects, if there is one; some the kernel refuses. */
static const char *change_object(struct fake_host *host, const struct table *t,
				 enum xf_heal_part part, const char *verb, const char *object)
{
	static char script[192];

	if (!object)
		return "nothing";
	snprintf(script, sizeof(script), verb, t->family, object);
	if (fake_nft_is_alone(t->nft) || fake_nft_run(t->nft, script))
		return "what the kernel refuses";
	*t->touched = true;
	tell_table(host, part, script);
	return script;
}

bool fake_others_run(struct fake_host *host, const char *script)
{
	if (fake_nft_is_alone(host->kernel.nft) || fake_nft_run(host->kernel.nft, script))
		return false;
	host->touched.table = true;
	tell(host, XF_HEAL_TABLE, true, script);
	return true;
}

static const char *delete_table(struct fake_host *host)
{
	const struct table t = { host->kernel.nft, "inet", &host->touched.table };

	return change_object(host, &t, XF_HEAL_TABLE, "delete table %s xfrmd\n", "");
}

static const char *flush_table(struct fake_host *host)
{
	const struct table t = { host->kernel.nft, "inet", &host->touched.table };

	return change_object(host, &t, XF_HEAL_TABLE, "flush table %s xfrmd\n", "");
}

static const char *flush_chain(struct fake_host *host)
{
	struct table t = random_table(host);

	return change_object(host, &t, XF_HEAL_TABLE, "flush chain %s xfrmd %s\n",
			     fake_nft_chain(t.nft, (unsigned)rand()));
}

/* One that a rule leads into cannot go. */
static const char *delete_chain(struct fake_host *host)
{
	struct table t = random_table(host);

	return change_object(host, &t, XF_HEAL_TABLE, "delete chain %s xfrmd %s\n",
			     fake_nft_chain(t.nft, (unsigned)rand()));
}

/* Nothing of it stays when the table is whole again. */
static const char *add_chain(struct fake_host *host)
{
	static const char *const hooks[] = { "prerouting", "forward", "input", "output" };
	const struct table t = { host->kernel.nft, "inet", &host->touched.table };

	return change_object(host, &t, XF_HEAL_TABLE,
			     "add chain %s xfrmd others { type filter hook %s priority 5; policy "
			     "drop; }\n",
			     hooks[below(4)]);
}

static const char *add_rule(struct fake_host *host)
{
	static const char *const verbs[] = { "insert rule %s xfrmd %s return\n",
					     "insert rule %s xfrmd %s accept\n",
					     "insert rule %s xfrmd %s drop\n" };
	struct table t = random_table(host);

	return change_object(host, &t, XF_HEAL_TABLE, verbs[below(3)],
			     fake_nft_chain(t.nft, (unsigned)rand()));
}

static const char *delete_rule(struct fake_host *host)
{
	static char what[128];
	struct table t = random_table(host);
	const char *chain = fake_nft_chain(t.nft, (unsigned)rand());

	if (!chain || fake_nft_is_alone(t.nft) ||
	    !fake_nft_delete_rule(t.nft, chain, (unsigned)rand()))
		return "nothing";
	snprintf(what, sizeof(what), "delete a rule of %s", chain);
	*t.touched = true;
	tell_table(host, XF_HEAL_TABLE, what);
	return what;
}

/* One that a rule looks into cannot go. */
static const char *change_set(struct fake_host *host)
{
	const struct table t = { host->kernel.nft, "inet", &host->touched.table };
	const char *set = fake_nft_set(t.nft, (unsigned)rand());

	return below(2) ? change_object(host, &t, XF_HEAL_ELEMENTS, "flush set %s xfrmd %s\n", set)
			: change_object(host, &t, XF_HEAL_TABLE, "delete set %s xfrmd %s\n", set);
}

static const char *delete_element(struct fake_host *host)
{
	const char *set = fake_nft_set(host->kernel.nft, (unsigned)rand());

	if (!set || fake_nft_is_alone(host->kernel.nft) ||
	    !fake_nft_delete_element(host->kernel.nft, set, (unsigned)rand()))
		return "nothing";
	host->touched.table = true;
	tell_table(host, XF_HEAL_ELEMENTS, "an element deleted");
	return "delete element";
}

static const char *delete_bridge(struct fake_host *host)
{
	const struct table t = { host->bridge, "bridge", &host->touched.bridge };

	return change_object(host, &t, XF_HEAL_TABLE, "delete table %s xfrmd\n", "");
}

/* As Debian's nftables.conf begins. */
static const char *flush_ruleset(struct fake_host *host)
{
	delete_table(host);
	delete_bridge(host);
	host->nat_event = host->nat_event || host->nat.there;
	host->nat_changes += host->nat.there;
	host->nat.there = false;
	return "flush ruleset";
}

/* --- rule, routes, TUN --- */

static const char *delete_rules(struct fake_host *host)
{
	unsigned which = 1 + below(3);

	for (unsigned six = 0; six < 2; six++)
		host->rule[six] = host->rule[six] && !(which >> six & 1);
	host->touched.path = true;
	tell(host, XF_HEAL_RULE, false, "");
	return "ip rule del";
}

static const char *flush_routes(struct fake_host *host)
{
	unsigned which = 1 + below(15);

	for (unsigned six = 0; six < 2; six++) {
		host->into_tun[six] = host->into_tun[six] && !(which >> six & 1);
		host->black_hole[six] = host->black_hole[six] && !(which >> (2 + six) & 1);
	}
	host->touched.path = true;
	tell(host, XF_HEAL_ROUTE, false, "");
	return "ip route flush";
}

static void take_routes_along(struct fake_host *host)
{
	host->into_tun[0] = host->into_tun[1] = false;
	host->touched.path = true;
	host->link_event = true;
	tell(host, XF_HEAL_TUN, false, "");
	tell(host, XF_HEAL_ROUTE, false, "");
}

static const char *down_tun(struct fake_host *host)
{
	host->tun.up = false;
	take_routes_along(host);
	return "TUN down";
}

/* Also: into another namespace. */
static const char *delete_tun(struct fake_host *host)
{
	host->tun.there = host->tun.up = false;
	host->touched.filters = host->touched.filters || host->tun.program;
	take_routes_along(host);
	return "TUN deleted";
}

static const char *rename_tun(struct fake_host *host)
{
	host->tun.named = false;
	host->touched.path = true;
	host->link_event = true;
	tell(host, XF_HEAL_TUN, false, "");
	return "TUN renamed";
}

/* No event tells of them. */
static const char *change_settings(struct fake_host *host)
{
	if (below(2))
		host->tun.settings = false;
	else
		host->tun.marks = false;
	host->touched.path = true;
	return host->tun.marks ? "sysctls of the TUN" : "filters of the TUN";
}

/* --- programs --- */

static const char *delete_filters(struct fake_host *host)
{
	unsigned which = 1 + below(3);

	for (unsigned i = 0; i < FAKE_DEVICES; i++) {
		if (!(which >> i & 1) || !host->device[i].egress || host->device[i].linked)
			continue;
		host->device[i].egress = host->device[i].ingress = false;
		host->touched.filters = true;
		tell(host, XF_HEAL_BACKSTOP, true, "filter deleted");
	}
	return "tc qdisc del";
}

/* By force, or its pin: no event tells of it, and the discipline of tc has no part in it. */
static const char *detach_link(struct fake_host *host)
{
	unsigned i = below(FAKE_DEVICES);

	if (!host->device[i].linked || !host->device[i].egress)
		return "nothing";
	if (below(2) && host->device[i].ingress)
		host->device[i].ingress = false;
	else
		host->device[i].egress = false;
	host->touched.filters = host->unlinked = true;
	return "bpftool link detach";
}

/* Another program's comes before ours, which sees what that lets pass; or it goes. */
static const char *link_others(struct fake_host *host)
{
	unsigned i = below(FAKE_DEVICES);

	host->device[i].others = !host->device[i].others;
	return "bpftool net attach";
}

static const char *new_device(struct fake_host *host)
{
	unsigned i = below(FAKE_DEVICES);

	host->touched.filters = host->touched.filters || host->device[i].egress;
	host->device[i].egress = host->device[i].ingress = false;
	host->link_event = true;
	tell(host, XF_HEAL_TUN, false, "");
	return "a device anew";
}

/* --- their own --- */

static const char *change_nat(struct fake_host *host)
{
	if (host->no_nat)
		return "nothing";
	host->nat = (struct fake_nat){
		.there = below(3) != 0,
		.priority = below(2) ? 100 : -150,
		.but_lan = below(2),
		.fixed = below(2),
		.routed = below(2),
		.proto = below(3) ? 0 : XF_IPPROTO_UDP,
		.forwards_port = below(2),
	};
	host->nat_event = true;
	host->nat_changes++;
	host->touched.nat = true;
	fake_host_forget_flows(host);
	return "NAT";
}

static const char *change_marker(struct fake_host *host)
{
	static const char *const hooks[] = { "prerouting", "input", "forward", "output",
					     "postrouting" };
	/* Behind ours at the very ends nobody is: decision 0033. */
	static const long priorities[] = { -400, -302, -250, -150, -10, 0, 50, 150, INT32_MAX - 2 };
	const uint32_t both = XF_MARK_CAPTURE | XF_MARK_BYPASS;

	if (host->no_marks)
		return "nothing";
	host->marker = (struct fake_marker){
		.hook = below(3) ? hooks[below(5)] : NULL,
		.priority = priorities[below(9)],
		.keep = below(2) ? ~both : UINT32_MAX,
		.set = (uint32_t[]){ 0, XF_MARK_CAPTURE, XF_MARK_BYPASS, both }[below(4)],
	};
	return "marks";
}

/* No event tells of it. */
static const char *change_exempt(struct fake_host *host)
{
	if (host->no_exempt)
		return "nothing";
	for (unsigned i = 0; i < FAKE_DEVICES; i++) {
		host->was_exempt[i] |= fake_exempt_of(host, i);
		host->exempt[i] = below(2) ? 0 : below(8);
	}
	host->exempt_all = below(3) ? 0 : below(8);
	for (unsigned i = 0; i < FAKE_DEVICES; i++)
		host->was_exempt[i] |= fake_exempt_of(host, i);
	host->touched.exempt = true;
	return "sysctls of policies";
}

static const char *flush_conntrack(struct fake_host *host)
{
	fake_conntrack_flush(&host->ct);
	return "conntrack -F";
}

const char *fake_others_act(struct fake_host *host, bool *told)
{
	static const char *(*const acts[])(struct fake_host * host) = {
		delete_table,	flush_table,	 flush_chain,	flush_chain,	 delete_chain,
		add_chain,	add_rule,	 delete_rule,	delete_rule,	 change_set,
		delete_element, delete_bridge,	 flush_ruleset, delete_rules,	 flush_routes,
		down_tun,	delete_tun,	 rename_tun,	change_settings, delete_filters,
		detach_link,	link_others,	 new_device,	change_nat,	 change_exempt,
		change_marker,	flush_conntrack,
	};

	const char *what = acts[below(XF_ARRAY_SIZE(acts))](host);

	*told = !host->unheard && host->tun.settings && host->tun.marks && !host->unlinked &&
		!host->touched.exempt;
	return what;
}
