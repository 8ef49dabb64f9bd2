/*
 * What a test of model_host.c says before it fails.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "model_host.h"

static const char *fate_name(enum fake_fate fate)
{
	static const char *const names[] = { [FAKE_LEFT] = "left by",
					     [FAKE_HERE] = "came to",
					     [FAKE_PROTECTED] = "was protected by",
					     [FAKE_BLOCKED] = "was blocked by",
					     [FAKE_LOST] = "was lost to" };

	return names[fate];
}

void describe_packet(const char *what, const struct fake_packet *p)
{
	char text[2][XF_ADDR_STRLEN];

	print_message("# %s %s > %s proto %u ports %u %u mark 0x%x fragment %d behind %d\n", what,
		      xf_addr_format(&p->addr[0], p->family, text[0]),
		      xf_addr_format(&p->addr[1], p->family, text[1]), p->proto, xf_get_be16(p->l4),
		      xf_get_be16(p->l4 + 2), p->mark, p->fragment, p->behind);
}

static bool describe_policy(void *arg, struct xf_policy *policy)
{
	const struct xf_policy_config *cfg = xf_policy_cfg(policy);
	const struct xf_selector *sel = &cfg->sel;
	const struct fake_packet *p = arg;
	struct xf_flow flow;
	char text[2][XF_ADDR_STRLEN];

	fake_flow(p, &flow);
	flow.sport = sel->sport;
	flow.dport = sel->dport;
	if (xf_selector_match(sel, &flow))
		print_message("# policy: dir %u type %u %s/%u > %s/%u proto %u ports %u/%x %u/%x "
			      "mark %u/%x priority %u action %u templates %u optional %d\n",
			      cfg->dir, cfg->type,
			      xf_addr_format(&sel->saddr, sel->family, text[0]), sel->prefixlen_s,
			      xf_addr_format(&sel->daddr, sel->family, text[1]), sel->prefixlen_d,
			      sel->proto, sel->sport, sel->sport_mask, sel->dport, sel->dport_mask,
			      cfg->mark.v, cfg->mark.m, cfg->priority, cfg->action, cfg->ntmpl,
			      cfg->tmpl[0].optional);
	return true;
}

void fail_packet(const struct world *w, const struct fake_packet *start,
		 const struct fake_journey *j, const char *why)
{
	const struct fake_host *host = &w->host;
	char text[XF_ADDR_STRLEN];
	uint64_t cursor;

	describe_packet("it began as", start);
	describe_packet("it ended as", &j->p);
	print_message("# it %s %s; dir %u local %d tun %d judged %d heard %u undone %d quotes %d\n",
		      fate_name(j->fate), j->by, j->dir, j->local, j->from_tun, j->judged,
		      j->heard_n, j->undone, j->quotes);
	print_message("# asked %d settled %d clashed %d once %d flags 0x%x\n", j->asked, j->settled,
		      j->clashed, j->once, start->tcp_flags);
	print_message("# round %u, %s, faults %u, last act: %s\n", w->round,
		      w->steady ? "steady" : "window", host->kernel.faults, w->act);
	print_message("# heard %s port %u; program at the TUN %d, chains for NAT missing %d\n",
		      xf_addr_format(&j->heard.saddr, start->family, text), j->heard.sport,
		      host->tun.program, misses_nat(w));
	print_message("# touched: table %d bridge %d filters %d path %d; nat %d priority %ld "
		      "but_lan %d fixed %d proto %u; marker %s %ld 0x%x 0x%x\n",
		      host->touched.table, host->touched.bridge, host->touched.filters,
		      host->touched.path, host->nat.there, host->nat.priority, host->nat.but_lan,
		      host->nat.fixed, host->nat.proto, host->marker.hook ? host->marker.hook : "-",
		      host->marker.priority, host->marker.keep, host->marker.set);
	cursor = 0;
	xf_spd_walk(w->spd, &cursor, describe_policy, (void *)(uintptr_t)start);
	for (unsigned part = 0; part < XF_HEAL_PARTS && w->capture; part++)
		print_message("# %s: state %d, %s\n", xf_heal_name(part),
			      w->capture->heal.part[part].state, w->capture->heal.part[part].what);
	print_message("# and as it ended:\n");
	cursor = 0;
	xf_spd_walk(w->spd, &cursor, describe_policy, (void *)(uintptr_t)&j->p);
	fail_msg("seed %u: %s", w->cfg->seed, why);
}
