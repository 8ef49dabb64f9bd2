/*
 * rule.h - what the classifier keeps of a policy: one cache line, so that a match costs one miss.
 *
 * Flows are compared and hashed as the words of struct xf_flow: a selector is a flow of values and
 * a flow of masks. Marks and interfaces are rare and stay in the policy itself.
 *
 * Threads: a rule is constant once it is published, but for the policy of one in an index without
 * order (spd_priv.h). It stays what it is for a grace period after it was taken out.
 */
#ifndef XF_SPD_RULE_H
#define XF_SPD_RULE_H

#include <stdatomic.h>

#include <xf/spd.h>

struct node;

enum rule_flags {
	RULE_CLASS = 7, /* enum rule_class */
	RULE_NODE = 8, /* no policy: more tables */
	RULE_MARK = 16,
	RULE_IFINDEX = 32,
};

#define RULE_NONE UINT32_MAX

struct rule {
	union xf_addr saddr; /* without what the prefix leaves out, as the ports are */
	union xf_addr daddr;
	uint16_t dport;
	uint16_t dport_mask;
	uint16_t sport;
	uint16_t sport_mask;
	uint8_t prefixlen_s;
	uint8_t prefixlen_d;
	uint8_t proto;
	uint8_t flags;
	uint32_t priority;
	uint64_t rank;
	union {
		_Atomic(struct xf_policy *) policy;
		struct node *node;
	};
};
_Static_assert(sizeof(struct rule) == XF_CACHE_LINE, "a rule is a cache line");

/* A flow as words; of a rule, or of masks, in the same layout. */
#define FLOW_WORDS 7
union flow_words {
	struct xf_flow flow;
	uint64_t w[FLOW_WORDS];
	uint32_t half[2 * FLOW_WORDS];
};
_Static_assert(sizeof(union flow_words) == sizeof(struct xf_flow), "no bytes are left over");
_Static_assert(offsetof(struct xf_flow, daddr) == 16, "words 0 and 1 source, 2 and 3 destination");

/* The masks of prefixes as words, by length. */
extern const uint64_t xf_spd_prefix_masks[129][2];

/* Fill @rule from @sel: -1 when no packet can match @mark, else 0. Rank and policy are not set. */
int xf_spd_rule_init(struct rule *rule, const struct xf_policy_config *cfg);

/* Drop what a fragment does not show, or what a packet of an unknown interface has. */
void xf_spd_rule_strip_ports(struct rule *rule);
void xf_spd_rule_strip_ifindex(struct rule *rule);

/* @rule as values and masks of a flow. Not for one with RULE_NODE. */
void xf_spd_rule_words(const struct rule *rule, union flow_words *value, union flow_words *mask);

/* Do @a and @b match the same packets, and are they of one class? */
bool xf_spd_rule_same_match(const struct rule *a, const struct rule *b);

/* Of what xf_spd_rule_same_match() compares. */
uint64_t xf_spd_rule_match_hash(const struct rule *rule, const uint64_t seed[2]);

bool xf_spd_rule_match_rare(const struct rule *rule, const struct xf_flow *flow);

/* A flow that is aligned to words, as an array of them: no copy, no strict aliasing here. */
static inline const uint64_t *flow_as_words(const struct xf_flow *flow)
{
	return (const uint64_t *)(const void *)flow;
}

/* What IPv6 addresses have more. */
static inline bool rule_match_long(const struct rule *rule, const struct xf_flow *flow)
{
	uint64_t s = xf_spd_prefix_masks[rule->prefixlen_s][1];
	uint64_t d = xf_spd_prefix_masks[rule->prefixlen_d][1];

	return !(((rule->saddr.quad[1] ^ flow->saddr.quad[1]) & s) |
		 ((rule->daddr.quad[1] ^ flow->daddr.quad[1]) & d));
}

/* Does @rule, which has a policy, match @flow, which is of its family? */
static inline bool rule_match(const struct rule *rule, const struct xf_flow *flow)
{
	uint64_t s = xf_spd_prefix_masks[rule->prefixlen_s][0];
	uint64_t d = xf_spd_prefix_masks[rule->prefixlen_d][0];
	uint64_t diff = ((rule->saddr.quad[0] ^ flow->saddr.quad[0]) & s) |
			((rule->daddr.quad[0] ^ flow->daddr.quad[0]) & d);
	uint32_t rest = (uint32_t)((rule->dport ^ flow->dport) & rule->dport_mask) |
			(uint32_t)((rule->sport ^ flow->sport) & rule->sport_mask) |
			(uint32_t)((rule->proto ^ flow->proto) & (rule->proto ? UINT8_MAX : 0));

	/* One guess for all: what matches one field often does not match another. */
	if (diff | rest)
		return false;
	if (flow->family != XF_AF_INET && !rule_match_long(rule, flow))
		return false;
	return !(rule->flags & (RULE_MARK | RULE_IFINDEX)) || xf_spd_rule_match_rare(rule, flow);
}

/* Of one class: is @a before @b? */
static inline bool rule_before(const struct rule *a, const struct rule *b)
{
	if (a->priority != b->priority)
		return a->priority < b->priority;
	return a->rank < b->rank;
}

static inline struct xf_policy *rule_policy(const struct rule *rule)
{
	return atomic_load_explicit(&rule->policy, memory_order_acquire);
}

#endif
