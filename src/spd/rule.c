#include <xf/hash.h>

#include "spd/spd_priv.h"

/* Masks of wire bytes, read as a word: the first byte is the lowest on little-endian machines. */
#define WIRE(x) (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? __builtin_bswap64(x) : (uint64_t)(x))
#define TOP(n) ((n) >= 64 ? ~0ull : ~(~0ull >> ((n)&63)))
#define MASKS(n)                                                   \
	{                                                          \
		WIRE(TOP(n)), (n) <= 64 ? 0ull : WIRE(TOP((n)-64)) \
	}
#define MASKS_4(n) MASKS(n), MASKS((n) + 1), MASKS((n) + 2), MASKS((n) + 3)
#define MASKS_16(n) MASKS_4(n), MASKS_4((n) + 4), MASKS_4((n) + 8), MASKS_4((n) + 12)

const uint64_t xf_spd_prefix_masks[129][2] = {
	MASKS_16(0),  MASKS_16(16), MASKS_16(32),  MASKS_16(48), MASKS_16(64),
	MASKS_16(80), MASKS_16(96), MASKS_16(112), MASKS(128),
};

static void mask_addr(union xf_addr *out, const union xf_addr *addr, uint8_t prefix_bits)
{
	out->quad[0] = addr->quad[0] & xf_spd_prefix_masks[prefix_bits][0];
	out->quad[1] = addr->quad[1] & xf_spd_prefix_masks[prefix_bits][1];
}

int xf_spd_rule_init(struct rule *rule, const struct xf_policy_config *cfg)
{
	const struct xf_selector *sel = &cfg->sel;

	memset(rule, 0, sizeof(*rule));
	if (cfg->mark.v & ~cfg->mark.m)
		return -1;
	mask_addr(&rule->saddr, &sel->saddr, sel->prefixlen_s);
	mask_addr(&rule->daddr, &sel->daddr, sel->prefixlen_d);
	rule->dport = sel->dport & sel->dport_mask;
	rule->dport_mask = sel->dport_mask;
	rule->sport = sel->sport & sel->sport_mask;
	rule->sport_mask = sel->sport_mask;
	rule->prefixlen_s = sel->prefixlen_s;
	rule->prefixlen_d = sel->prefixlen_d;
	rule->proto = sel->proto;
	rule->flags = (uint8_t)xf_spd_policy_class(sel);
	rule->priority = cfg->priority;
	if (cfg->mark.m)
		rule->flags |= RULE_MARK;
	if (sel->ifindex)
		rule->flags |= RULE_IFINDEX;
	return 0;
}

void xf_spd_rule_strip_ports(struct rule *rule)
{
	rule->dport = rule->dport_mask = 0;
	rule->sport = rule->sport_mask = 0;
}

void xf_spd_rule_strip_ifindex(struct rule *rule)
{
	rule->flags &= (uint8_t)~RULE_IFINDEX;
}

static struct xf_mark mark_of(const struct rule *rule)
{
	static const struct xf_mark none;

	return rule->flags & RULE_MARK ? rule_policy(rule)->cfg.mark : none;
}

static uint32_t ifindex_of(const struct rule *rule)
{
	return rule->flags & RULE_IFINDEX ? rule_policy(rule)->cfg.sel.ifindex : 0;
}

void xf_spd_rule_words(const struct rule *rule, union flow_words *value, union flow_words *mask)
{
	struct xf_mark mark = mark_of(rule);
	uint32_t ifindex = ifindex_of(rule);

	memset(value, 0, sizeof(*value));
	memset(mask, 0, sizeof(*mask));
	value->flow = (struct xf_flow){ .saddr = rule->saddr,
					.daddr = rule->daddr,
					.dport = rule->dport,
					.sport = rule->sport,
					.proto = rule->proto,
					.mark = mark.v,
					.oif = ifindex };
	memcpy(&mask->w[0], xf_spd_prefix_masks[rule->prefixlen_s], 16);
	memcpy(&mask->w[2], xf_spd_prefix_masks[rule->prefixlen_d], 16);
	mask->flow.dport = rule->dport_mask;
	mask->flow.sport = rule->sport_mask;
	mask->flow.proto = rule->proto ? UINT8_MAX : 0;
	mask->flow.mark = mark.m;
	mask->flow.oif = ifindex ? UINT32_MAX : 0;
}

bool xf_spd_rule_same_match(const struct rule *a, const struct rule *b)
{
	struct xf_mark am = mark_of(a), bm = mark_of(b);

	return memcmp(a, b, offsetof(struct rule, priority)) == 0 && am.v == bm.v && am.m == bm.m &&
	       ifindex_of(a) == ifindex_of(b);
}

uint64_t xf_spd_rule_match_hash(const struct rule *rule, const uint64_t seed[2])
{
	struct {
		uint8_t head[offsetof(struct rule, priority)];
		struct xf_mark mark;
		uint32_t ifindex;
	} key = { .mark = mark_of(rule), .ifindex = ifindex_of(rule) };

	_Static_assert(sizeof(key) == offsetof(struct rule, priority) + 12, "without padding");
	memcpy(key.head, rule, sizeof(key.head));
	return xf_hash(seed, &key, sizeof(key));
}

bool xf_spd_rule_match_rare(const struct rule *rule, const struct xf_flow *flow)
{
	const struct xf_policy_config *cfg = &rule_policy(rule)->cfg;

	if ((rule->flags & RULE_MARK) && !xf_mark_match(&cfg->mark, flow->mark))
		return false;
	return !(rule->flags & RULE_IFINDEX) || cfg->sel.ifindex == flow->oif;
}
