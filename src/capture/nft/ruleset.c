/*
 * Policies as nftables rules of the chains outbound, selected, inbound and forwarded; who goes
 * there is frame.c's business.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "capture/nft/frame.h"
#include "capture/nat/nat.h"
#include "capture/nft/nft_sets.h"
#include "capture/policy_order.h"
#include "capture/nft/ruleset.h"

#define FOUR_IN_PIECES "ip frag-off & 0x3fff != 0 "
#define SIX_IN_PIECES "exthdr frag exists "
/* What should have come through an SA (XfrmInTmplMismatch), or not at all (XfrmInPolBlock). */
#define PLAINTEXT "counter name plaintext drop"
#define BLOCKED "counter name blocked drop"
#define ICMP_ERRORS "icmp type { 3, 4, 5, 11, 12 } "
#define ICMPV6_ERRORS "icmpv6 type { 1, 2, 3, 4 } "

static void put_prefix(FILE *f, uint16_t family, const char *side, const union xf_addr *addr,
		       uint8_t len)
{
	char text[XF_ADDR_STRLEN];

	if (len)
		fprintf(f, "%s %s %s/%u ", family == XF_AF_INET ? "ip" : "ip6", side,
			xf_addr_format(addr, family, text), len);
}

static void put_port(FILE *f, const char *side, uint16_t port, uint16_t mask)
{
	if (mask == 0xffff)
		fprintf(f, "th %s %u ", side, port);
	else if (mask)
		fprintf(f, "th %s & 0x%x == 0x%x ", side, mask, port & mask);
}

/* Type and code of ICMP stand where ports would (xf/addr.h). */
static void put_icmp(FILE *f, const struct xf_selector *sel)
{
	if (sel->sport_mask == 0xffff)
		fprintf(f, "@th,0,8 %u ", sel->sport & 0xff);
	if (sel->dport_mask == 0xffff)
		fprintf(f, "@th,8,8 %u ", sel->dport & 0xff);
}

static void put_l4(FILE *f, const struct xf_selector *sel)
{
	if (sel->proto)
		fprintf(f, "meta l4proto %u ", sel->proto);
	if (xf_policy_has_ports(sel->proto)) {
		put_port(f, "sport", sel->sport, sel->sport_mask);
		put_port(f, "dport", sel->dport, sel->dport_mask);
	} else if (sel->proto == XF_IPPROTO_ICMP || sel->proto == XF_IPPROTO_ICMPV6) {
		put_icmp(f, sel);
	}
}

/* Match what @cfg selects, or more: see xf_policy_allows(). */
static void put_match(FILE *f, const struct xf_policy_config *cfg)
{
	const struct xf_selector *sel = &cfg->sel;

	if (sel->family != XF_AF_UNSPEC) {
		fprintf(f, "meta nfproto %s ", sel->family == XF_AF_INET ? "ipv4" : "ipv6");
		put_prefix(f, sel->family, "saddr", &sel->saddr, sel->prefixlen_s);
		put_prefix(f, sel->family, "daddr", &sel->daddr, sel->prefixlen_d);
	}
	if (cfg->mark.m)
		fprintf(f, "meta mark & 0x%x == 0x%x ", cfg->mark.m, cfg->mark.v);
	put_l4(f, sel);
}

/*
 * Fragments behind the first have no ports to match, so where ports decide they all count: the
 * engine puts the outbound ones together, and where plaintext is not wanted pieces of it are not.
 */
static void put_fragments(FILE *f, const struct xf_policy_config *cfg, const char *chain,
			  const char *verdict)
{
	struct xf_policy_config any_port = *cfg;

	if (!cfg->sel.sport_mask && !cfg->sel.dport_mask)
		return;
	any_port.sel.sport_mask = 0;
	any_port.sel.dport_mask = 0;
	if (cfg->sel.family != XF_AF_INET6) {
		any_port.sel.family = XF_AF_INET;
		fprintf(f, "add rule inet " XF_NFT_TABLE " %s " FOUR_IN_PIECES, chain);
		put_match(f, &any_port);
		fprintf(f, "%s\n", verdict);
	}
	if (cfg->sel.family != XF_AF_INET) {
		any_port.sel.family = XF_AF_INET6;
		fprintf(f, "add rule inet " XF_NFT_TABLE " %s " SIX_IN_PIECES, chain);
		put_match(f, &any_port);
		fprintf(f, "%s\n", verdict);
	}
}

static void put_strict(FILE *f, const struct xf_policy_config *cfg, const char *chain,
		       const char *verdict)
{
	fprintf(f, "add rule inet " XF_NFT_TABLE " %s ", chain);
	put_match(f, cfg);
	fprintf(f, "%s\n", verdict);
	put_fragments(f, cfg, chain, verdict);
}

static void put_allow(FILE *f, const struct xf_policy_config *cfg, const char *chain)
{
	fprintf(f, "add rule inet " XF_NFT_TABLE " %s ", chain);
	put_match(f, cfg);
	fprintf(f, "return\n");
}

static const char *drop_verdict(bool blocks)
{
	return blocks ? BLOCKED : PLAINTEXT;
}

/* @verdict NULL: the packet is dropped. */
static void put_policy(FILE *f, const struct xf_policy_config *cfg, const char *chain,
		       const char *verdict)
{
	if (!verdict)
		verdict = drop_verdict(cfg->action == XF_POLICY_BLOCK);
	if (xf_policy_is_strict(cfg))
		put_strict(f, cfg, chain, verdict);
	else if (xf_policy_allows(cfg))
		put_allow(f, cfg, chain);
}

static void put_policies(FILE *f, const struct xf_policy_list *list, const char *chain,
			 const char *verdict)
{
	for (size_t i = 0; i < list->n; i++)
		put_policy(f, xf_policy_cfg(list->policy[i]), chain, verdict);
}

/* Elements of the cells of one set, behind each other. */
struct elements {
	FILE *f;
	uint16_t set;
	unsigned n;
};

static void put_element(void *arg, struct xf_cell *cell)
{
	struct elements *elements = arg;
	char text[XF_ADDR_STRLEN];

	if (cell->key.set != elements->set)
		return;
	xf_addr_format(&cell->key.addr[0], xf_cover_six(&cell->key) ? XF_AF_INET6 : XF_AF_INET,
		       text);
	fprintf(elements->f, "%s %s", elements->n++ ? "," : "{", text);
}

/* The set is made, if it is not there. */
static void put_set(FILE *f, const struct xf_nft_set *set)
{
	const char *between = "";

	fprintf(f, "add set inet " XF_NFT_TABLE " %s { type ", set->name);
	for (unsigned i = 0; i < set->n; i++, between = " . ")
		fprintf(f, "%s%s", between, set->six ? "ipv6_addr" : "ipv4_addr");
	if (set->mark_mask) {
		fprintf(f, "%smark", between);
		between = " . ";
	}
	if (set->proto) {
		fprintf(f, "%sinet_proto", between);
		between = " . ";
	}
	for (unsigned i = 0; i < 2; i++) {
		if (set->port_mask[i])
			fprintf(f, "%sinet_service", between);
	}
	fprintf(f, "; }\n");
}

static void put_addresses(FILE *f, const struct xf_nft_set *set)
{
	for (unsigned i = 0; i < set->n; i++) {
		union xf_addr mask;
		char text[XF_ADDR_STRLEN];

		memset(&mask, 0xff, sizeof(mask));
		xf_cell_mask(&mask, set->bits[i]);
		xf_addr_format(&mask, set->six ? XF_AF_INET6 : XF_AF_INET, text);
		fprintf(f, "%s%s %s ", i ? ". " : "", set->six ? "ip6" : "ip", set->side[i]);
		if (set->bits[i] < (set->six ? 128 : 32))
			fprintf(f, "& %s ", text);
	}
}

static void put_mark(FILE *f, const struct xf_nft_set *set)
{
	if (!set->mark_mask)
		return;
	fprintf(f, "%smeta mark ", set->n ? ". " : "");
	if (set->mark_mask != UINT32_MAX)
		fprintf(f, "& 0x%x ", set->mark_mask);
}

static void put_upper(FILE *f, const struct xf_nft_set *set)
{
	static const char *const sides[] = { "sport", "dport" };

	if (set->proto)
		fprintf(f, "%smeta l4proto ", set->n || set->mark_mask ? ". " : "");
	for (unsigned i = 0; i < 2; i++) {
		if (!set->port_mask[i])
			continue;
		fprintf(f, ". th %s ", sides[i]);
		if (set->port_mask[i] != UINT16_MAX)
			fprintf(f, "& 0x%x ", set->port_mask[i]);
	}
}

/* "ip saddr & 255.255.0.0 . ip daddr . meta mark . meta l4proto @in4_16_32_mffffffff_p_0_0_0_" */
static void put_lookup(FILE *f, const struct xf_nft_set *set)
{
	if (set->pieces)
		fputs(set->six ? SIX_IN_PIECES : FOUR_IN_PIECES, f);
	if (!set->n)
		fprintf(f, "meta nfproto %s ", set->six ? "ipv6" : "ipv4");
	put_addresses(f, set);
	put_mark(f, set);
	put_upper(f, set);
	fprintf(f, "@%s ", set->name);
}

/* --- a cover --- */

static void put_cover_sets(FILE *f, const struct xf_cover *cover, const char *verb)
{
	for (unsigned i = 0; i < 2 * XF_COVER_LENS; i++) {
		struct xf_nft_set set;

		xf_nft_set_of_cover(&set, cover, i >= XF_COVER_LENS, i % XF_COVER_LENS);
		if (*verb == 'a')
			put_set(f, &set);
		else
			fprintf(f, "delete set inet " XF_NFT_TABLE " %s\n", set.name);
	}
}

static void put_elements(FILE *f, const struct xf_cover *cover, uint16_t number, const char *name)
{
	struct elements elements = { .f = f, .set = number };

	fprintf(f, "add element inet " XF_NFT_TABLE " %s ", name);
	xf_cells_each(&cover->cells, put_element, &elements);
	fprintf(f, " }\n");
}

/* Destinations alone: too much, never too little. */
static void put_cover(FILE *f, const struct xf_ruleset_plan *plan, const char *verdict)
{
	for (uint16_t i = 0; i < 2 * XF_COVER_LENS; i++) {
		bool six = i >= XF_COVER_LENS;
		unsigned rung = i % XF_COVER_LENS;
		struct xf_nft_set set;

		if (!(xf_cover_rungs(plan->cover, six) >> rung & 1))
			continue;
		xf_nft_set_of_cover(&set, plan->cover, six, rung);
		if (plan->fill)
			put_elements(f, plan->cover, i, set.name);
		fprintf(f, "add rule inet " XF_NFT_TABLE " outbound ");
		if (set.bits[0])
			put_lookup(f, &set);
		else
			fprintf(f, "meta nfproto %s ", six ? "ipv6" : "ipv4");
		fprintf(f, "%s\n", verdict);
	}
}

/* --- a sieve --- */

/* @verdict as put_policy() has it. */
static void put_segment(FILE *f, const struct xf_sieve *sieve, uint32_t segment, const char *chain,
			const char *verdict)
{
	for (unsigned i = 0; i < sieve->nkinds; i++) {
		const struct xf_sieve_kind *kind = &sieve->kinds[i];
		struct xf_nft_set set;

		if (kind->segment != segment || !kind->cells)
			continue;
		xf_nft_set_of_sieve(&set, sieve, i);
		fprintf(f, "add rule inet " XF_NFT_TABLE " %s ", chain);
		put_lookup(f, &set);
		fprintf(f, "%s\n", verdict ? verdict : drop_verdict(kind->blocks));
	}
}

/* @list: what is not simple, in order. Behind each that lets pass, the segment that it begins. */
static void put_sieve(FILE *f, const struct xf_sieve *sieve, const struct xf_policy_list *list,
		      const char *chain, const char *verdict)
{
	put_segment(f, sieve, XF_SIEVE_FIRST, chain, verdict);
	for (size_t i = 0; i < list->n; i++) {
		const struct xf_policy_config *cfg = xf_policy_cfg(list->policy[i]);

		put_policy(f, cfg, chain, verdict);
		if (xf_policy_lets_pass(cfg))
			put_segment(f, sieve, xf_sieve_segment(sieve, list->policy[i]), chain,
				    verdict);
	}
}

/* No rule looks into them any more. */
static void put_unused_sets(FILE *f, const struct xf_sieve *sieve)
{
	for (unsigned i = 0; i < sieve->nkinds; i++) {
		struct xf_nft_set set;

		if (!sieve->kinds[i].made || (sieve->by_sets && sieve->kinds[i].cells))
			continue;
		xf_nft_set_of_sieve(&set, sieve, i);
		fprintf(f, "delete set inet " XF_NFT_TABLE " %s\n", set.name);
	}
}

static bool is_by_sets(const struct xf_sieve *sieve)
{
	return sieve && sieve->by_sets;
}

static bool is_not_simple(const struct xf_policy_config *cfg)
{
	return !xf_sieve_is_simple(cfg);
}

/* They may belong to a policy that does not select them: only the engine reads what they quote. */
static void put_icmp_errors(FILE *f, const char *verdict)
{
	fprintf(f, "add rule inet " XF_NFT_TABLE " outbound " ICMP_ERRORS "%s\n", verdict);
	fprintf(f, "add rule inet " XF_NFT_TABLE " outbound " ICMPV6_ERRORS "%s\n", verdict);
}

static void put_outbound(FILE *f, const struct xf_ruleset_plan *plan,
			 const struct xf_policy_list *list)
{
	const struct xf_sieve *sieve = plan->sieve[XF_DIR_OUT];
	char verdict[96];

	snprintf(verdict, sizeof(verdict),
		 "meta mark set meta mark | 0x%x counter name captured return",
		 plan->names->mark_capture);
	if (!plan->by_destination)
		fprintf(f, "flush chain inet " XF_NFT_TABLE " selected\n");
	if (plan->icmp_errors)
		put_icmp_errors(f, verdict);
	if (!is_by_sets(sieve)) {
		put_policies(f, list, "outbound", verdict);
		return;
	}
	if (plan->fill)
		put_cover_sets(f, plan->cover, "add");
	put_cover(f, plan, plan->by_destination ? verdict : "goto selected");
	if (!plan->by_destination)
		put_sieve(f, sieve, list, "selected", verdict);
}

static void put_outbound_sets_away(FILE *f, const struct xf_ruleset_plan *plan)
{
	const struct xf_sieve *sieve = plan->sieve[XF_DIR_OUT];

	if (!plan->by_destination && sieve)
		put_unused_sets(f, sieve);
	if (!is_by_sets(sieve) && plan->cover && plan->cover->made)
		put_cover_sets(f, plan->cover, "delete");
}

/* With a million policies, listing them for nothing would take a while. */
static bool lists_none(const struct xf_ruleset_plan *plan, uint8_t dir)
{
	const struct xf_sieve *sieve = plan->sieve[dir];
	struct xf_spd_info info;

	if (dir == XF_DIR_OUT && plan->by_destination)
		return true;
	if (is_by_sets(sieve))
		return !sieve->lost && !sieve->others && !sieve->allows.n;
	xf_spd_get_info(plan->spd, &info);
	return !info.count[dir];
}

static int put_chain(FILE *f, const struct xf_ruleset_plan *plan, uint8_t dir)
{
	static const char *const chains[XF_DIR_MAX] = {
		[XF_DIR_IN] = "inbound",
		[XF_DIR_OUT] = "outbound",
		[XF_DIR_FWD] = "forwarded",
	};
	const struct xf_sieve *sieve = plan->sieve[dir];
	struct xf_policy_list list = { .n = 0 };

	if (!lists_none(plan, dir) &&
	    xf_policy_list_get(plan->spd, dir, is_by_sets(sieve) ? is_not_simple : NULL, &list) < 0)
		return -ENOMEM;
	fprintf(f, "flush chain inet " XF_NFT_TABLE " %s\n", chains[dir]);
	if (dir == XF_DIR_OUT)
		put_outbound(f, plan, &list);
	else if (is_by_sets(sieve))
		put_sieve(f, sieve, &list, chains[dir], NULL);
	else
		put_policies(f, &list, chains[dir], NULL);
	if (dir == XF_DIR_OUT)
		put_outbound_sets_away(f, plan);
	else if (sieve)
		put_unused_sets(f, sieve);
	xf_policy_list_free(&list);
	return 0;
}

static int put_all(FILE *f, const struct xf_ruleset_plan *plan)
{
	int err = 0;

	if (plan->anew)
		xf_frame_put(f, plan->names, plan->exempt);
	if (plan->anew)
		xf_nat_put(f, plan->names, plan->nat, plan->nat_asks);
	for (uint8_t dir = 0; dir < XF_DIR_MAX && !err; dir++) {
		if (plan->anew || plan->dirs[dir])
			err = put_chain(f, plan, dir);
	}
	return err;
}

/* What @put has put into memory. */
static int finish(FILE *f, char **text, int err, char **out)
{
	if (fclose(f) != 0)
		err = -ENOMEM;
	if (err)
		free(*text);
	else
		*out = *text;
	return err;
}

int xf_ruleset_build(const struct xf_ruleset_plan *plan, char **out)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		return -ENOMEM;
	return finish(f, &text, put_all(f, plan), out);
}

int xf_ruleset_make_sets(const struct xf_sieve *sieve, const struct xf_cover *cover, char **out)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		return -ENOMEM;
	if (cover && !cover->made)
		put_cover_sets(f, cover, "add");
	for (unsigned i = 0; sieve && i < sieve->nkinds; i++) {
		struct xf_nft_set set;

		if (sieve->kinds[i].made || !sieve->kinds[i].cells)
			continue;
		xf_nft_set_of_sieve(&set, sieve, i);
		put_set(f, &set);
	}
	return finish(f, &text, 0, out);
}

int xf_ruleset_exempt(const struct xf_io_names *names, const struct xf_exempt *exempt, char **out)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		return -ENOMEM;
	xf_frame_put_again(f, names, exempt);
	return finish(f, &text, 0, out);
}

int xf_ruleset_bridge(const struct xf_io_names *names, char **out)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		return -ENOMEM;
	xf_frame_bridge_put(f, names);
	return finish(f, &text, 0, out);
}
