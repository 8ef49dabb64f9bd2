#include <errno.h>
#include <stdlib.h>

#include "base/alone.h"
#include "spd/spd_priv.h"
#include "spd/spd_test.h"

/* Of last uses: fine enough for a step of the clock, and 32 bits are 34 years. */
#define QUARTER_NS (XF_NSEC_PER_SEC / 4)

#define SIZE(n) ((uint32_t)(offsetof(struct xf_policy, members) + (n) * sizeof(struct member)))

void xf_spd_slabs_init(struct xf_spd *spd)
{
	for (unsigned n = 0; n < XF_ARRAY_SIZE(spd->slabs); n++)
		spd->slabs[n].object_bytes = SIZE(n);
}

void xf_spd_slabs_fini(struct xf_spd *spd)
{
	for (unsigned n = 0; n < XF_ARRAY_SIZE(spd->slabs); n++)
		xf_slabs_fini(&spd->slabs[n]);
}

size_t xf_policy_bytes(const struct xf_policy *policy)
{
	return SIZE(policy->nmembers);
}

const struct xf_policy_config *xf_policy_cfg(const struct xf_policy *policy)
{
	return &policy->cfg;
}

_Static_assert(CLASS_MAX == XF_POLICY_CLASSES, "they are told to others as they are");

struct xf_policy_tie xf_policy_order_key(const struct xf_policy *policy)
{
	return (struct xf_policy_tie){
		.rank = policy->rank,
		.pos = policy->pos,
		.tie_class = (uint8_t)xf_spd_policy_class(&policy->cfg.sel),
	};
}

struct xf_policy *xf_policy_get(struct xf_policy *policy)
{
	atomic_fetch_add_explicit(&policy->refs, 1, memory_order_relaxed);
	return policy;
}

/* The table's own reference is put after a grace period, so the last one may free at once. */
void xf_policy_put(struct xf_policy *policy)
{
	if (atomic_fetch_sub_explicit(&policy->refs, 1, memory_order_acq_rel) == 1)
		xf_slab_put(&policy->spd->slabs[policy->nmembers], policy);
}

/* The kernel counts policy lifetimes in whole seconds of the wall clock. */
static uint64_t wall_s(const struct xf_policy *policy, uint64_t now_ns)
{
	return xf_wall_s((int64_t)now_ns, policy->real_offset_ns);
}

/* When it was used last, of the engine's clock. False: never. */
static bool used_ns(const struct xf_policy *policy, uint64_t *ns)
{
	uint32_t used = atomic_load_explicit(&policy->used, memory_order_relaxed);

	*ns = used ? (used - 1) * QUARTER_NS : 0;
	return used != 0;
}

/* The same on the wall clock, as far as lifetimes know it; 0 = never. */
static uint64_t use_s(const struct xf_policy *policy)
{
	uint64_t ns;

	return used_ns(policy, &ns) ? wall_s(policy, ns) : 0;
}

/* And as it was, if it was stepped since the policy was made. */
static uint64_t shown_use_s(const struct xf_policy *policy)
{
	uint64_t ns;

	if (!used_ns(policy, &ns))
		return 0;
	return xf_wall_s((int64_t)ns, xf_wall_offset_at(&policy->spd->wall, ns));
}

void xf_policy_lifetime_now(const struct xf_policy *policy, struct xf_lifetime_now *out)
{
	out->bytes = atomic_load_explicit(&policy->bytes, memory_order_relaxed);
	out->packets = atomic_load_explicit(&policy->packets, memory_order_relaxed);
	out->add_s = policy->add_s;
	out->use_s = shown_use_s(policy);
}

void xf_policy_count(struct xf_policy *policy, bool alone, unsigned packets, uint64_t bytes,
		     uint64_t now_ns)
{
	uint32_t used = (uint32_t)(now_ns / QUARTER_NS) + 1;

	xf_shared_add(&policy->bytes, bytes, alone);
	xf_shared_add(&policy->packets, packets, alone);
	/* Mostly the same: then the line is not written once more. */
	if (atomic_load_explicit(&policy->used, memory_order_relaxed) != used)
		atomic_store_explicit(&policy->used, used, memory_order_relaxed);
}

static bool any_side(const union xf_addr *addr, uint8_t prefix_bits, uint16_t family)
{
	/* The kernel's INEXACT_PREFIXLEN_IPV4 and _IPV6. */
	return prefix_bits < (family == XF_AF_INET6 ? 48 : 16) || xf_addr_is_any(addr, family);
}

/* As policy_hash_bysel() and xfrm_policy_inexact_alloc_chain() choose the chain. */
enum rule_class xf_spd_policy_class(const struct xf_selector *sel)
{
	uint8_t bits = xf_addr_bits(sel->family);
	bool any_src = any_side(&sel->saddr, sel->prefixlen_s, sel->family);
	bool any_dst = any_side(&sel->daddr, sel->prefixlen_d, sel->family);

	if (sel->prefixlen_s == bits && sel->prefixlen_d == bits)
		return CLASS_EXACT;
	if (any_src)
		return any_dst ? CLASS_ANY : CLASS_DADDR;
	return any_dst ? CLASS_SADDR : CLASS_BOTH;
}

static bool wants_whole(const struct xf_policy_config *cfg)
{
	if (cfg->sel.sport_mask || cfg->sel.dport_mask)
		return true;
	for (uint8_t i = 0; i < cfg->ntmpl; i++)
		if (cfg->tmpl[i].mode == XF_MODE_TRANSPORT)
			return true;
	return false;
}

/* Which indexes a policy is in: kinds as bits. */
static uint32_t kinds_of(const struct xf_policy_config *cfg)
{
	struct rule rule;
	uint32_t kinds = 1u << KIND_MAIN;

	if (xf_spd_rule_init(&rule, cfg) < 0)
		return 0;
	if (wants_whole(cfg))
		kinds |= 1u << KIND_WHOLE;
	if (cfg->sel.ifindex)
		kinds |= kinds << KIND_NO_IF;
	return kinds;
}

struct xf_policy *xf_spd_policy_new(struct xf_spd *spd, const struct xf_policy_config *cfg,
				    uint64_t now_ns)
{
	uint32_t kinds = kinds_of(cfg);
	struct xf_policy *policy = xf_slab_get(&spd->slabs[__builtin_popcount(kinds)]);

	if (!policy)
		return NULL;
	policy->spd = spd;
	policy->cfg = *cfg;
	policy->real_offset_ns = xf_wall_offset_ns(&spd->wall, xf_wall_last(&spd->wall));
	policy->add_s = wall_s(policy, now_ns);
	atomic_init(&policy->refs, 1);
	for (; kinds; kinds &= kinds - 1) {
		struct member *member = &policy->members[policy->nmembers++];

		member->policy = policy;
		member->kind = (uint8_t)__builtin_ctz(kinds);
		member->rule = RULE_NONE;
	}
	return policy;
}

static void free_rules(struct xf_policy *policy)
{
	for (unsigned i = 0; i < policy->nmembers; i++)
		if (policy->members[i].rule != RULE_NONE)
			xf_spd_arena_free(&policy->spd->space.arena, policy->members[i].rule);
}

static int make_rule(struct xf_policy *policy, struct member *member)
{
	struct arena *arena = &policy->spd->space.arena;
	struct rule *rule;

	member->rule = xf_spd_arena_alloc(arena);
	if (member->rule == RULE_NONE)
		return -ENOMEM;
	rule = arena_rule(arena, member->rule);
	xf_spd_rule_init(rule, &policy->cfg);
	if (member->kind & KIND_WHOLE)
		xf_spd_rule_strip_ports(rule);
	if (member->kind & KIND_NO_IF)
		xf_spd_rule_strip_ifindex(rule);
	rule->rank = policy->rank;
	atomic_init(&rule->policy, policy);
	return 0;
}

static struct member *member_of(struct xf_policy *policy, unsigned kind)
{
	for (unsigned i = 0; policy && i < policy->nmembers; i++)
		if (policy->members[i].kind == kind)
			return &policy->members[i];
	return NULL;
}

static void leave_all(struct xf_policy *policy)
{
	for (unsigned i = 0; i < policy->nmembers; i++)
		if (policy->members[i].joined)
			xf_spd_twins_leave(policy->spd, &policy->members[i]);
}

int xf_spd_policy_prepare(struct xf_policy *policy)
{
	for (unsigned i = 0; i < policy->nmembers; i++) {
		if (make_rule(policy, &policy->members[i]) < 0)
			return -ENOMEM;
		xf_spd_twins_prepare(policy->spd, &policy->members[i]);
	}
	return 0;
}

/* What can fail comes first: to join where @old is not. */
static int join_new(struct xf_policy *policy, struct xf_policy *old)
{
	for (unsigned i = 0; i < policy->nmembers; i++) {
		struct member *member = &policy->members[i];

		if (!member_of(old, member->kind) && xf_spd_twins_join(policy->spd, member) < 0) {
			leave_all(policy);
			return -ENOMEM;
		}
	}
	return 0;
}

int xf_spd_policy_publish(struct xf_policy *policy, struct xf_policy *old)
{
	int err = join_new(policy, old);

	if (err)
		return err;
	for (unsigned i = 0; i < policy->nmembers; i++) {
		struct member *member = &policy->members[i];

		if (!member->joined)
			xf_spd_twins_swap(policy->spd, member_of(old, member->kind), member);
	}
	if (old)
		leave_all(old);
	return 0;
}

void xf_spd_policy_hide(struct xf_policy *policy)
{
	leave_all(policy);
}

/* A reader may be about to take a reference of its own: the table keeps its one so long. */
static void put_rcu(struct xf_rcu_head *head)
{
	struct xf_policy *policy = XF_CONTAINER_OF(head, struct xf_policy, rcu);

	free_rules(policy);
	xf_policy_put(policy);
}

void xf_spd_policy_put_later(struct xf_policy *policy)
{
	xf_rcu_defer(&policy->rcu, put_rcu);
}

/* @limit_s after @since_s, or UINT64_MAX when there is no limit or no such time. */
static uint64_t deadline_s(uint64_t limit_s, uint64_t since_s)
{
	uint64_t sum;

	if (limit_s == 0 || __builtin_add_overflow(limit_s, since_s, &sum))
		return UINT64_MAX;
	return sum;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/*
 * As the kernel's xfrm_policy_timer(): use limits count from the last use, or from the making
 * when there was none; bytes and packets have no limits that anybody acts on.
 */
static uint64_t hard_s(const struct xf_policy *policy)
{
	const struct xf_lifetime *life = &policy->cfg.life;
	uint64_t used_s = use_s(policy);

	return earlier(deadline_s(life->hard_add_s, policy->add_s),
		       deadline_s(life->hard_use_s, used_s ? used_s : policy->add_s));
}

static uint64_t soft_s(const struct xf_policy *policy)
{
	const struct xf_lifetime *life = &policy->cfg.life;
	uint64_t used_s = use_s(policy);

	if (policy->soft_told)
		return UINT64_MAX;
	return earlier(deadline_s(life->soft_add_s, policy->add_s),
		       deadline_s(life->soft_use_s, used_s ? used_s : policy->add_s));
}

uint64_t xf_spd_policy_due_ns(const struct xf_policy *policy)
{
	uint64_t due_s = earlier(hard_s(policy), soft_s(policy));
	int64_t due_ns;

	if (due_s > INT64_MAX ||
	    __builtin_mul_overflow((int64_t)due_s, (int64_t)XF_NSEC_PER_SEC, &due_ns) ||
	    __builtin_sub_overflow(due_ns, policy->real_offset_ns, &due_ns))
		return UINT64_MAX;
	return due_ns < 0 ? 0 : (uint64_t)due_ns;
}

enum policy_age xf_spd_policy_age(const struct xf_policy *policy, uint64_t now_ns)
{
	uint64_t now_s = wall_s(policy, now_ns);

	if (hard_s(policy) <= now_s)
		return POLICY_HARD;
	return soft_s(policy) <= now_s ? POLICY_SOFT : POLICY_FRESH;
}
