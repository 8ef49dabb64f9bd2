/*
 * What becomes of packets on the host of model_host.c, and whether it should.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "capture/policy_order.h"

#include "fake_bpf.h"
#include "model_host.h"

/* Does a policy select it that the kernel need not know yet? */
static bool is_recent(const struct world *w, uint8_t dir, const struct xf_flow *flow)
{
	if (w->nrecent > RECENT)
		return true;
	for (unsigned i = 0; i < w->nrecent; i++) {
		if (w->recent[i].dir == dir && xf_selector_match(&w->recent[i].sel, flow))
			return true;
	}
	return false;
}

/* --- what should have become of them --- */

bool lacks_nat_chains(const struct world *w)
{
	const struct xf_capture *capture = w->capture;

	return capture->nat && xf_capture_nat_chains(capture) == XF_NAT_NONE;
}

bool misses_nat(const struct world *w)
{
	return w->host.touched.nat || (w->capture ? lacks_nat_chains(w) : w->left_without_nat);
}

/* Do rules and programs hold what leaves, if one of the two may be broken? */
static bool holds_out(const struct world *w)
{
	bool rules = !w->host.touched.table && !misses_nat(w);
	bool programs = !w->host.touched.filters;

	if (w->cfg->mode == XF_CAPTURE_NFT)
		return rules;
	if (w->cfg->mode == XF_CAPTURE_TC)
		return programs;
	return rules || programs;
}

/* The twin at devices knows less: decision 0020. */
static bool holds_in(const struct world *w)
{
	if (fake_bpf_has_links())
		return true;
	return w->cfg->mode != XF_CAPTURE_TC && !w->host.touched.table && !misses_nat(w);
}

/* --- whom no policy is asked about (decision 0029) --- */

/* What may be so by now, while a change of sysctls is not known yet. */
static uint32_t exempt_of(const struct world *w, unsigned device)
{
	return fake_exempt_of(&w->host, device) |
	       (w->host.touched.exempt ? w->host.was_exempt[device] : 0);
}

static bool is_exempt_out(const struct world *w, const struct xf_flow *flow)
{
	unsigned device =
		fake_role_of(&flow->daddr, flow->family) == FAKE_AT_LAN ? FAKE_LAN : FAKE_WAN;

	return flow->family == XF_AF_INET && (exempt_of(w, device) & XF_EXEMPT_XFRM4);
}

/* What the SPD wants of it, if it is asked. */
static enum fake_wish wish_of(const struct world *w, const struct xf_flow *flow,
			      const struct xf_flow *quoted)
{
	return is_exempt_out(w, flow) ? FAKE_CLEAR : fake_wish_of(w->spd, flow, quoted);
}

static unsigned device_of_addr(const union xf_addr *addr)
{
	return addr->bytes[2] & 1 ? FAKE_WAN : FAKE_LAN;
}

/* IPv4 by where it arrives, IPv6 by whose address of this host it is for: as it is now. */
static bool is_exempt_in(const struct world *w, const struct fake_packet *start,
			 const struct fake_journey *j)
{
	bool wan = fake_role_of(&start->addr[0], start->family) == FAKE_AT_WAN;

	if (start->family == XF_AF_INET)
		return exempt_of(w, wan ? FAKE_WAN : FAKE_LAN) & XF_EXEMPT_POLICY4;
	return j->dir == XF_DIR_IN &&
	       (exempt_of(w, device_of_addr(&j->routed.daddr)) & XF_EXEMPT_POLICY6);
}

/* Programs know less of it: what is forwarded, and addresses, is refused all the same. */
static bool is_let_in(const struct world *w, const struct fake_packet *start,
		      const struct fake_journey *bare)
{
	bool forwarded = bare->dir == XF_DIR_FWD;

	if (!is_exempt_in(w, start, bare) || w->cfg->mode == XF_CAPTURE_TC)
		return false;
	if (start->family == XF_AF_INET6)
		return w->cfg->mode == XF_CAPTURE_NFT || fake_bpf_has_links();
	return !forwarded || !fake_bpf_has_links();
}

static bool is_refused(const struct world *w, uint8_t dir, const struct xf_flow *flow)
{
	const struct xf_policy *policy = xf_spd_lookup(w->spd, dir, flow);

	return policy && xf_policy_is_strict(xf_policy_cfg(policy));
}

/* What is on the wire, with the mark that it began with. */
static struct xf_flow final_flow(const struct fake_packet *start, const struct fake_journey *j)
{
	struct xf_flow flow;

	fake_flow(&j->p, &flow);
	flow.mark = start->mark;
	return flow;
}

/* Programs know nothing of what errors quote (decision 0028). */
static const struct xf_flow *quoted_by(const struct world *w, const struct fake_journey *j)
{
	return j->quotes && w->cfg->mode != XF_CAPTURE_TC && !w->host.touched.table ? &j->quoted
										    : NULL;
}

/* Must @flow, of @j, not leave in clear? What an error quotes may let it pass, too. */
static bool wants(const struct world *w, const struct xf_flow *flow, const struct fake_journey *j)
{
	return wish_of(w, flow, quoted_by(w, j)) != FAKE_CLEAR &&
	       (!j->quotes || wish_of(w, flow, &j->quoted) != FAKE_CLEAR);
}

struct ask {
	uint8_t dir;
	bool tie;
	bool ports;
	bool sub_allows; /* a policy of type sub lets pass */
	bool optional; /* templates are */
};

static bool look_at_policy(void *arg, struct xf_policy *policy)
{
	const struct xf_policy_config *cfg = xf_policy_cfg(policy);
	const struct xf_policy_tie tie = xf_policy_order_key(policy);
	struct ask *ask = arg;

	if (cfg->dir != ask->dir)
		return true;
	ask->tie = ask->tie || tie.rank != tie.pos;
	ask->ports = ask->ports || cfg->sel.sport_mask || cfg->sel.dport_mask;
	ask->sub_allows =
		ask->sub_allows || (cfg->type == XF_POLICY_SUB && !xf_policy_is_strict(cfg));
	ask->optional = ask->optional || (cfg->ntmpl && cfg->tmpl[0].optional);
	return true;
}

static struct ask ask(const struct world *w, uint8_t dir)
{
	struct ask ask = { .dir = dir };
	uint64_t cursor = 0;

	xf_spd_walk(w->spd, &cursor, look_at_policy, &ask);
	return ask;
}

/* Where nothing else stands, those at devices know what both directions refuse. */
static bool holds_at_devices(const struct world *w, const struct fake_packet *start)
{
	struct xf_flow flow;

	if (w->cfg->mode == XF_CAPTURE_NFT || w->host.touched.filters || start->fragment)
		return false;
	fake_flow(start, &flow);
	return is_refused(w, XF_DIR_IN, &flow) && is_refused(w, XF_DIR_FWD, &flow) &&
	       !is_recent(w, XF_DIR_IN, &flow) && !is_recent(w, XF_DIR_FWD, &flow);
}

static void check_in(const struct world *w, const struct fake_packet *start,
		     const struct fake_journey *j)
{
	struct xf_flow flow;

	if (j->local || j->from_tun || !j->judged || is_exempt_in(w, start, j))
		return;
	fake_flow(start, &flow);
	if ((is_refused(w, j->dir, &flow) && !is_recent(w, j->dir, &flow) && holds_in(w)) ||
	    holds_at_devices(w, start))
		fail_packet(w, start, j, "plaintext that the SPD refuses came in");
}

/* Ties (decision 0006), and what passes for a policy that rules cannot tell exactly, or that
 * decides nothing by itself. */
static bool may_be_caught(const struct world *w, uint8_t dir, const struct xf_flow *flow)
{
	const struct xf_policy *winner = xf_spd_lookup(w->spd, dir, flow);

	return (winner && !xf_policy_allows(xf_policy_cfg(winner))) || ask(w, dir).tie;
}

/* In and fwd may refuse these, and pieces where ports decide. */
static bool may_be_refused(const struct world *w, const struct fake_packet *start, uint8_t dir,
			   const struct xf_flow *flow)
{
	return may_be_caught(w, dir, flow) || (start->fragment && ask(w, dir).ports);
}

/* What masquerade keeps within a policy is captured behind it (decision 0022): without a daemon by
 * the backstop alone. */
static bool is_on_the_backstop(const struct world *w, const struct fake_journey *j,
			       const struct xf_flow *final)
{
	return !fake_bpf_has_links() && w->host.nat.there &&
	       fake_role_of(&final->saddr, final->family) == FAKE_SELF &&
	       !xf_addr_equal(&final->saddr, &j->routed.saddr, final->family) &&
	       wish_of(w, final, NULL) != FAKE_CLEAR;
}

static void check_out(const struct world *w, const struct fake_packet *start,
		      const struct fake_journey *j)
{
	const struct xf_flow final = final_flow(start, j);

	/* Chains nat_arrived and nat_restored belong together: one without the other sends it
	 * astray. */
	if (w->host.touched.table && !xf_addr_equal(&j->p.addr[1], &j->routed.daddr, start->family))
		return;
	if (j->fate != FAKE_LEFT || !holds_out(w) || is_recent(w, XF_DIR_OUT, &j->routed) ||
	    is_recent(w, XF_DIR_OUT, &final) || (j->quotes && is_recent(w, XF_DIR_OUT, &j->quoted)))
		return;
	if (!j->undone && wants(w, &j->routed, j) &&
	    !(w->host.touched.filters && is_on_the_backstop(w, j, &final)))
		fail_packet(w, start, j, "what the SPD protects left in clear");
	/* Without programs nothing stands behind source NAT. */
	if (w->cfg->mode != XF_CAPTURE_NFT && !w->host.touched.filters && wants(w, &final, j))
		fail_packet(w, start, j, "what NAT brings into a policy left in clear");
}

/* --- when all is repaired --- */

static bool is_same_end(const struct fake_journey *a, const struct fake_journey *b)
{
	return a->fate == b->fate && strcmp(a->by, b->by) == 0 &&
	       xf_addr_equal(&a->p.addr[0], &b->p.addr[0], a->p.family) &&
	       xf_addr_equal(&a->p.addr[1], &b->p.addr[1], a->p.family) &&
	       memcmp(a->p.l4 + 2, b->p.l4 + 2, 2) == 0;
}

static enum fake_fate fate_of(enum fake_wish wish)
{
	return wish == FAKE_PROTECT ? FAKE_PROTECTED : FAKE_BLOCKED;
}

/* Caught too much by programs, an error meets the daemon, which knows what it quotes. */
static bool is_as_quoted(const struct world *w, const struct fake_journey *j)
{
	enum fake_wish wish;

	if (!j->quotes || !j->heard_n || quoted_by(w, j) ||
	    !may_be_caught(w, XF_DIR_OUT, &j->routed))
		return false;
	wish = wish_of(w, &j->heard, &j->quoted);
	return wish != FAKE_CLEAR && j->fate == fate_of(wish);
}

/* Without chains that translate, what is captured may be lost to NAT, or lose it. */
static bool is_kept_from_nat(const struct world *w, const struct fake_journey *j)
{
	return w->cfg->no_nat_chains && w->host.nat.there && j->caught;
}

/* Nobody wants it: it gets where it would get without capture. */
static void check_nobodys(struct world *w, const struct fake_packet *start,
			  const struct fake_journey *j, const struct fake_journey *bare)
{
	struct xf_flow final = final_flow(start, bare);
	enum fake_wish wish = FAKE_CLEAR;

	if (is_as_quoted(w, j))
		return;
	/* NAT may have found another port free. */
	if (!is_icmp(start->proto))
		final.sport = xf_get_be16(j->p.l4);
	if (bare->fate == FAKE_LEFT)
		wish = wish_of(w, &final, quoted_by(w, j));

	if (wish == FAKE_CLEAR) {
		if (!is_same_end(j, bare)) {
			describe_packet("without capture it is", &bare->p);
			fail_packet(w, start, j, "what no policy wants did not get there");
		}
		w->seen.translated += !xf_addr_equal(&j->p.addr[0], &start->addr[0], start->family);
		return;
	}
	w->seen.redirected++;
	if (w->cfg->mode != XF_CAPTURE_NFT && j->fate != FAKE_PROTECTED && j->fate != FAKE_BLOCKED)
		fail_packet(w, start, j, "what NAT brings into a policy was not captured");
}

static bool has_source(const struct xf_flow *flow, const union xf_addr *addr)
{
	return xf_addr_equal(&flow->saddr, addr, flow->family);
}

/* May the host's NAT be asked for the source of what a policy wants? */
static bool asks(const struct world *w)
{
	return w->host.nat.there && fake_bpf_has_links() && !w->cfg->no_nat_chains;
}

/* Does a policy select @flow for certain, as programs see it (decision 0036)? */
static bool is_certain(const struct world *w, const struct xf_flow *flow)
{
	const struct xf_policy *winner = xf_spd_lookup(w->spd, XF_DIR_OUT, flow);
	struct ask all = ask(w, XF_DIR_OUT);

	return winner && !all.tie && !all.sub_allows && !all.optional;
}

/*
 * What Linux does: @bare has the source that the host's NAT gives it, and if a policy selects that
 * too, it is protected so, else with its own (decision 0022: there in clear).
 */
static void check_source(struct world *w, const struct fake_packet *start,
			 const struct fake_journey *j, const struct fake_journey *bare)
{
	bool own = has_source(&j->heard, &j->routed.saddr) && j->heard.sport == j->routed.sport;
	struct xf_flow after = final_flow(start, bare);
	bool changes = bare->fate == FAKE_LEFT && !has_source(&after, &j->routed.saddr) &&
		       has_source(&j->routed, &start->addr[0]) &&
		       xf_addr_equal(&j->routed.daddr, &start->addr[1], start->family);
	bool within;

	after.sport = own ? after.sport : j->heard.sport;
	within = asks(w) && changes && !is_icmp(start->proto) &&
		 wish_of(w, &j->routed, NULL) == FAKE_PROTECT &&
		 wish_of(w, &after, NULL) != FAKE_CLEAR;
	if (!own && !(within && has_source(&j->heard, &after.saddr)))
		fail_packet(w, start, j, "NAT came before the policy");
	w->seen.within += !own;
	if (own && within && is_certain(w, &after) && !w->stale && !j->settled && !bare->settled &&
	    !j->clashed)
		fail_packet(w, start, j, "NAT within a policy was not applied");
}

static void check_wanted(struct world *w, const struct fake_packet *start,
			 const struct fake_journey *j, const struct fake_journey *bare)
{
	enum fake_wish wish = wish_of(w, &j->routed, j->quotes ? &j->quoted : NULL);
	bool own = has_source(&j->heard, &j->routed.saddr);

	if (!own)
		wish = wish_of(w, &j->heard, NULL);
	if (wish != FAKE_CLEAR && j->fate != fate_of(wish))
		fail_packet(w, start, j, "what a policy wants did not meet the daemon");
	check_source(w, start, j, bare);
	w->seen.asked += j->asked;
}

static void check_steady(struct world *w, const struct fake_packet *start,
			 const struct fake_journey *j, const struct fake_journey *bare)
{
	uint8_t dir = bare->dir;
	struct xf_flow flow;
	enum fake_wish wish;
	bool exempt, refused;

	/* Answers are asked for as such: send_reply(). */
	if (j->is_reply || bare->is_reply)
		return;
	fake_flow(start, &flow);
	refused = !j->local && !j->from_tun && is_refused(w, dir, &flow);
	exempt = refused && is_let_in(w, start, bare);
	w->seen.refused += refused && !exempt;
	w->seen.exempt += exempt;
	if (refused && !exempt)
		return;
	if (!j->local && !j->judged) {
		if (j->from_tun || exempt || !may_be_refused(w, start, dir, &flow))
			fail_packet(w, start, j, "what no policy refuses did not come in");
		w->seen.too_much++;
		return;
	}
	wish = dir == XF_DIR_IN ? FAKE_CLEAR : wish_of(w, &j->routed, quoted_by(w, j));
	w->seen.exempt += dir != XF_DIR_IN && wish == FAKE_CLEAR &&
			  fake_wish_of(w->spd, &j->routed, quoted_by(w, j)) != FAKE_CLEAR;
	if (j->undone || is_kept_from_nat(w, j))
		return;
	/* Its answers would look like another's, or it is caught though it has its NAT already:
	 * it is dropped as long as that is there (decision 0022). */
	if (j->fate == FAKE_LOST && w->host.nat.there &&
	    (j->clashed || (wish == FAKE_CLEAR && may_be_caught(w, XF_DIR_OUT, &j->routed)))) {
		w->seen.clashed++;
		return;
	}
	if (wish == FAKE_CLEAR)
		check_nobodys(w, start, j, bare);
	else
		check_wanted(w, start, j, bare);
}

/* The answer to what left, or through the tunnel to what was protected, finds its way back. */
static void send_reply(struct world *w, const struct fake_packet *first,
		       const struct fake_journey *before)
{
	const struct fake_packet *out = &before->p;
	struct fake_journey j = {
		.p = { .family = out->family, .proto = out->proto, .tcp_flags = FAKE_ACK }
	};
	struct fake_packet start;

	j.from_tun = before->fate == FAKE_PROTECTED;
	j.p.addr[0] = out->addr[1];
	j.p.addr[1] = out->addr[0];
	memcpy(j.p.l4, out->l4 + 2, 2);
	memcpy(j.p.l4 + 2, out->l4, 2);
	j.iif = strcmp(before->by, "wan") == 0 ? 3 : 2;
	start = j.p;
	fake_host_send(&w->host, &j);
	w->seen.replies++;
	w->seen.replies_within += j.from_tun && before->asked;
	check_in(w, &start, &j);
	check_out(w, &start, &j);
	if ((j.fate != FAKE_LEFT && j.fate != FAKE_HERE) || is_kept_from_nat(w, &j))
		return;
	if (!xf_addr_equal(&j.p.addr[1], &first->addr[0], first->family) ||
	    !xf_addr_equal(&j.p.addr[0], &first->addr[1], first->family) ||
	    memcmp(j.p.l4, first->l4 + 2, 2) != 0 || memcmp(j.p.l4 + 2, first->l4, 2) != 0) {
		describe_packet("the first was", first);
		fail_packet(w, &start, &j, "an answer did not get back");
	}
}

/* Caught while our rules were damaged, or not known: its connection has no NAT from then on. */
static void note_mistake(struct world *w, const struct fake_journey *j)
{
	w->mistaken = w->mistaken || (!w->steady && w->host.nat.there && j->caught &&
				      wish_of(w, &j->routed, NULL) == FAKE_CLEAR);
}

/* What NAT was asked for is known: the next packet of its flow is not asked for, but that of a new
 * connection, and fares as the first one. */
static void check_known(struct world *w, const struct fake_journey *first,
			const struct fake_journey *before)
{
	bool own = has_source(&before->heard, &before->routed.saddr);
	struct fake_journey j = *first;

	if (!before->asked || before->fate != FAKE_PROTECTED || is_icmp(first->p.proto) ||
	    (!own && first->p.tcp_flags == FAKE_SYN))
		return;
	fake_host_send(&w->host, &j);
	if (j.asked)
		fail_packet(w, &first->p, &j, "NAT was asked twice for a flow");
	if (j.fate != before->fate || j.heard.sport != before->heard.sport ||
	    !has_source(&j.heard, &before->heard.saddr))
		fail_packet(w, &first->p, &j, "the second packet of a flow fares otherwise");
	w->seen.known++;
}

/* It has the source that NAT gave it, and what the SPD says of that now. */
void receive_late(struct world *w)
{
	struct fake_journey j;

	if (!below(2) || !fake_host_receive_late(&w->host, &j))
		return;
	w->seen.late++;
	if (j.fate == FAKE_LEFT && !w->outdated)
		fail_packet(w, &w->waiting, &j, "a late answer left in clear");
}

static void send_packet(struct world *w)
{
	const struct fake_journey *late = w->host.late;
	struct fake_journey first, j, bare;

	draw_journey(w, &first);
	j = first;
	fake_host_send(&w->host, &j);
	if (w->host.late != late) {
		w->waiting = first.p;
		w->outdated = false;
	}
	w->seen.packets++;
	w->seen.in_windows += !w->steady;
	w->seen.fates[j.fate]++;
	note_mistake(w, &j);
	check_in(w, &first.p, &j);
	check_out(w, &first.p, &j);
	if (!w->steady)
		return;
	bare = first;
	fake_host_send(&w->bare, &bare);
	if (j.once) {
		w->seen.once++;
		j = first;
		fake_host_send(&w->host, &j);
	}
	check_steady(w, &first.p, &j, &bare);
	check_known(w, &first, &j);
	if ((j.fate == FAKE_LEFT || j.fate == FAKE_PROTECTED) && !is_kept_from_nat(w, &j) &&
	    !j.is_reply && !first.p.fragment && !is_icmp(first.p.proto) && !first.from_tun)
		send_reply(w, &first.p, &j);
}

void send_packets(struct world *w, unsigned n)
{
	while (n--)
		send_packet(w);
}

void send_bridged(struct world *w)
{
	struct fake_journey j;

	draw_journey(w, &j);
	w->seen.packets++;
	if (!fake_host_bridge(&w->host, &j))
		fail_packet(w, &j.p, &j, "a frame of a bridge got lost");
}
