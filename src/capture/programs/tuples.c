/*
 * What capture.c tells of policies becomes entries here; backstop.c brings them into the kernel.
 *
 * Which policy of an entry is first is known by a pairing heap: all policies of a pair of networks
 * with different ports may be in one entry (that without ports), so a list would not do.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "capture/policy_order.h"
#include "capture/programs/tuples.h"

#define SIZE_MIN 64
/* Half of it is room for what comes before what goes. */
#define ENTRIES_MAX (XF_BPF_ENTRIES_MAX / 2)

struct xf_tuple_member {
	const struct xf_policy *policy;
	struct xf_policy_tie key;
	uint32_t priority;
	bool strict;
	bool protects;
	bool matches; /* XF_BPF_MATCHES */
	struct xf_tuple *tuple;
	struct xf_tuple_member *next; /* of the table by policy */
	/* Of the heap. */
	struct xf_tuple_member *child;
	struct xf_tuple_member *sibling;
	struct xf_tuple_member *before; /* sibling, or parent */
};

/* --- heaps --- */

static bool goes_before(const struct xf_tuple_member *a, const struct xf_tuple_member *b)
{
	if (a->priority != b->priority)
		return a->priority < b->priority;
	return a->key.rank < b->key.rank;
}

static struct xf_tuple_member *meld(struct xf_tuple_member *a, struct xf_tuple_member *b)
{
	struct xf_tuple_member *top = a;
	struct xf_tuple_member *low = b;

	if (!a || !b)
		return a ? a : b;
	if (goes_before(b, a)) {
		top = b;
		low = a;
	}
	low->before = top;
	low->sibling = top->child;
	if (low->sibling)
		low->sibling->before = low;
	top->child = low;
	top->sibling = NULL;
	top->before = NULL;
	return top;
}

/* In pairs, and these from the end: that keeps heaps flat. */
static struct xf_tuple_member *meld_all(struct xf_tuple_member *list)
{
	struct xf_tuple_member *pairs = NULL;
	struct xf_tuple_member *all = NULL;

	while (list) {
		struct xf_tuple_member *a = list;
		struct xf_tuple_member *b = a->sibling;

		list = b ? b->sibling : NULL;
		a->sibling = NULL;
		if (b)
			b->sibling = NULL;
		a = meld(a, b);
		a->sibling = pairs;
		pairs = a;
	}
	while (pairs) {
		struct xf_tuple_member *next = pairs->sibling;

		pairs->sibling = NULL;
		all = meld(all, pairs);
		pairs = next;
	}
	if (all)
		all->before = NULL;
	return all;
}

static void heap_take(struct xf_tuple *tuple, struct xf_tuple_member *member)
{
	if (member == tuple->first) {
		tuple->first = meld_all(member->child);
		return;
	}
	if (member->before->child == member)
		member->before->child = member->sibling;
	else
		member->before->sibling = member->sibling;
	if (member->sibling)
		member->sibling->before = member->before;
	tuple->first = meld(tuple->first, meld_all(member->child));
}

/* --- tables --- */

static uint64_t mix(uint64_t hash, uint64_t word)
{
	hash = (hash ^ word) * 0xff51afd7ed558ccdull;
	return hash ^ hash >> 32;
}

static struct xf_tuple **tuple_bucket(const struct xf_tuples *tuples, const struct xf_bpf_key *key)
{
	uint64_t words[(sizeof(*key) + 7) / 8] = { 0 };
	uint64_t hash = 0;

	memcpy(words, key, sizeof(*key));
	for (unsigned i = 0; i < XF_ARRAY_SIZE(words); i++)
		hash = mix(hash, words[i]);
	return &tuples->buckets[hash & (tuples->size - 1)];
}

static struct xf_tuple_member **member_bucket(const struct xf_tuples *tuples,
					      const struct xf_policy *policy)
{
	return &tuples->by_policy[mix(0, (uintptr_t)policy) & (tuples->size - 1)];
}

static void move_tuples(struct xf_tuples *tuples, struct xf_tuple *tuple)
{
	struct xf_tuple *next;

	for (; tuple; tuple = next) {
		struct xf_tuple **bucket = tuple_bucket(tuples, &tuple->key);

		next = tuple->next;
		tuple->next = *bucket;
		*bucket = tuple;
	}
}

static void move_members(struct xf_tuples *tuples, struct xf_tuple_member *member)
{
	struct xf_tuple_member *next;

	for (; member; member = next) {
		struct xf_tuple_member **bucket = member_bucket(tuples, member->policy);

		next = member->next;
		member->next = *bucket;
		*bucket = member;
	}
}

/* A table that cannot grow has longer chains, but there must be one. */
static int resize(struct xf_tuples *tuples, size_t size)
{
	struct xf_tuples old = *tuples;
	void *buckets = calloc(size, sizeof(tuples->buckets[0]));
	void *by_policy = calloc(size, sizeof(tuples->by_policy[0]));

	if (!buckets || !by_policy) {
		free(buckets);
		free(by_policy);
		return old.size ? 0 : -ENOMEM;
	}
	tuples->buckets = buckets;
	tuples->by_policy = by_policy;
	tuples->size = size;
	for (size_t i = 0; i < old.size; i++) {
		move_tuples(tuples, old.buckets[i]);
		move_members(tuples, old.by_policy[i]);
	}
	free(old.buckets);
	free(old.by_policy);
	return 0;
}

static int grow(struct xf_tuples *tuples)
{
	if (tuples->members < tuples->size)
		return 0;
	return resize(tuples, tuples->size ? 2 * tuples->size : SIZE_MIN);
}

void xf_tuples_reserve(struct xf_tuples *tuples, size_t policies)
{
	size_t size = SIZE_MIN;

	while (size < policies)
		size *= 2;
	if (size > tuples->size)
		resize(tuples, size);
}

void xf_tuples_fini(struct xf_tuples *tuples)
{
	for (size_t i = 0; i < tuples->size; i++) {
		struct xf_tuple *tuple = tuples->buckets[i];
		struct xf_tuple_member *member = tuples->by_policy[i];

		while (tuple) {
			struct xf_tuple *next = tuple->next;

			free(tuple);
			tuple = next;
		}
		while (member) {
			struct xf_tuple_member *next = member->next;

			free(member);
			member = next;
		}
	}
	for (unsigned i = 0; i < XF_BPF_PARTS; i++)
		free(tuples->part[i].kinds);
	free(tuples->buckets);
	free(tuples->by_policy);
	*tuples = (struct xf_tuples){ .size = 0 };
}

/* --- entries and kinds --- */

static void make_pending(struct xf_tuples *tuples, struct xf_tuple *tuple)
{
	if (tuple->pending)
		return;
	tuple->pending = true;
	tuple->next_pending = tuples->pending;
	tuples->pending = tuple;
}

/* The number of a kind, a new one if it must be; -ENOSPC, -ENOMEM. */
static int kind_number(struct xf_tuple_part *part, const struct xf_bpf_kind *kind)
{
	uint32_t n = part->nkinds;

	if (!part->kinds)
		part->kinds = calloc(XF_BPF_KINDS_MAX, sizeof(part->kinds[0]));
	if (!part->kinds)
		return -ENOMEM;
	for (uint32_t i = 0; i < part->nkinds; i++) {
		if (!part->kinds[i].tuples)
			n = i < n ? i : n;
		else if (memcmp(&part->kinds[i].kind, kind, offsetof(struct xf_bpf_kind, tied)) ==
			 0)
			return (int)i;
	}
	if (n == XF_BPF_KINDS_MAX)
		return -ENOSPC;
	part->kinds[n] = (struct xf_tuple_kind){ .kind = *kind, .dirty = true };
	if (n == part->nkinds)
		part->nkinds++;
	return (int)n;
}

static struct xf_tuple *tuple_get(struct xf_tuples *tuples, const struct xf_bpf_key *key)
{
	struct xf_tuple_part *part = &tuples->part[key->kind / XF_BPF_KINDS_MAX];
	struct xf_tuple **bucket = tuple_bucket(tuples, key);
	struct xf_tuple *tuple = *bucket;

	while (tuple && memcmp(&tuple->key, key, sizeof(*key)))
		tuple = tuple->next;
	if (tuple || tuples->count >= ENTRIES_MAX)
		return tuple;
	tuple = calloc(1, sizeof(*tuple));
	if (!tuple)
		return NULL;
	tuple->key = *key;
	tuple->next = *bucket;
	*bucket = tuple;
	tuples->count++;
	part->kinds[key->kind % XF_BPF_KINDS_MAX].tuples++;
	return tuple;
}

static void tuple_free(struct xf_tuples *tuples, struct xf_tuple *tuple)
{
	struct xf_tuple_part *part = &tuples->part[tuple->key.kind / XF_BPF_KINDS_MAX];
	struct xf_tuple_kind *kind = &part->kinds[tuple->key.kind % XF_BPF_KINDS_MAX];
	struct xf_tuple **link = tuple_bucket(tuples, &tuple->key);

	while (*link != tuple)
		link = &(*link)->next;
	*link = tuple->next;
	if (--kind->tuples == 0) {
		kind->kind = (struct xf_bpf_kind){ .family = 0 };
		kind->dirty = true;
	}
	tuples->count--;
	free(tuple);
}

void xf_tuple_entry(const struct xf_tuple *tuple, struct xf_bpf_entry *out)
{
	const struct xf_tuple_member *first = tuple->first;

	*out = (struct xf_bpf_entry){
		.rank = first->key.rank,
		.pos = first->matches ? first->key.pos : first->key.rank,
		.priority = first->priority,
		.class_of = first->key.tie_class,
		.strict = first->strict,
		.protects = first->protects,
	};
}

/* --- policies --- */

static void put_mask(uint32_t *mask, uint8_t bits)
{
	uint8_t *bytes = (uint8_t *)mask;

	for (unsigned i = 0; i < 16; i++) {
		unsigned here = bits > 8 * i ? xf_min_u32(bits - 8 * i, 8) : 0;

		bytes[i] = (uint8_t)(0xff00u >> here);
	}
}

static void put_address(uint32_t *out, const union xf_addr *addr, const uint32_t *mask)
{
	for (unsigned i = 0; i < 4; i++)
		out[i] = addr->v6_be[i] & mask[i];
}

/* Ports of other protocols are where a program does not look. */
static bool has_ports(const struct xf_selector *sel)
{
	bool icmp = sel->proto == XF_IPPROTO_ICMP || sel->proto == XF_IPPROTO_ICMPV6;

	return (sel->sport_mask || sel->dport_mask) && (icmp || xf_policy_has_ports(sel->proto));
}

/*
 * Does the SPD find @cfg for each packet that has the bits of its key? One of type sub that lets
 * pass decides nothing here (decision 0006).
 */
static enum xf_bpf_match match_of(const struct xf_policy_config *cfg, bool no_ports)
{
	const struct xf_selector *sel = &cfg->sel;
	bool told = !no_ports && (has_ports(sel) || !(sel->sport_mask | sel->dport_mask));

	if (xf_policy_is_strict(cfg))
		return told ? XF_BPF_MATCHES : XF_BPF_MAY_REFUSE;
	told = told && !sel->ifindex && !sel->user && cfg->type == XF_POLICY_MAIN;
	return told ? XF_BPF_MATCHES : XF_BPF_MAY_LET_PASS;
}

static void make_key(const struct xf_policy_config *cfg, bool no_ports, struct xf_bpf_kind *kind,
		     struct xf_bpf_key *key)
{
	const struct xf_selector *sel = &cfg->sel;

	memset(kind, 0, sizeof(*kind));
	memset(key, 0, sizeof(*key));
	put_mask(kind->smask_be, sel->prefixlen_s);
	put_mask(kind->dmask_be, sel->prefixlen_d);
	put_address(key->saddr_be, &sel->saddr, kind->smask_be);
	put_address(key->daddr_be, &sel->daddr, kind->dmask_be);
	kind->family = sel->family == XF_AF_INET ? 4 : 6;
	kind->mark_mask = cfg->mark.m;
	key->mark = cfg->mark.v;
	kind->proto = sel->proto != 0;
	key->proto = sel->proto;
	kind->no_ports = no_ports;
	kind->match = (uint8_t)match_of(cfg, no_ports);
	if (no_ports || !has_ports(sel))
		return;
	kind->sport_mask = sel->sport_mask;
	kind->dport_mask = sel->dport_mask;
	key->sport = sel->sport & sel->sport_mask;
	key->dport = sel->dport & sel->dport_mask;
}

/* See struct xf_bpf_kind. It stays so until the kind goes. */
static void tie(struct xf_tuple_kind *kind)
{
	kind->dirty = kind->dirty || !kind->kind.tied;
	kind->kind.tied = true;
}

/* Are there packets of which programs cannot tell whether @cfg lets them pass? */
static bool is_vague(const struct xf_policy_config *cfg, const struct xf_bpf_kind *kind)
{
	return !xf_policy_is_strict(cfg) && (kind->match != XF_BPF_MATCHES || has_ports(&cfg->sel));
}

static int add_member(struct xf_tuples *tuples, const struct xf_policy *policy, bool no_ports)
{
	const struct xf_policy_config *cfg = xf_policy_cfg(policy);
	unsigned part = xf_tuples_part(cfg->dir, cfg->type);
	struct xf_tuple_member **bucket;
	struct xf_tuple_member *member = NULL;
	struct xf_tuple *tuple;
	struct xf_bpf_kind kind;
	struct xf_bpf_key key;
	int number;

	make_key(cfg, no_ports, &kind, &key);
	number = grow(tuples);
	if (!number)
		number = kind_number(&tuples->part[part], &kind);
	if (number < 0)
		return number;
	key.kind = (uint16_t)(part * XF_BPF_KINDS_MAX + (unsigned)number);
	tuple = tuple_get(tuples, &key);
	if (!tuple)
		return -ENOSPC;
	make_pending(tuples, tuple);
	member = calloc(1, sizeof(*member));
	if (!member)
		return -ENOMEM;
	*member = (struct xf_tuple_member){ .policy = policy,
					    .key = xf_policy_order_key(policy),
					    .priority = cfg->priority,
					    .strict = xf_policy_is_strict(cfg),
					    .protects = xf_policy_protects(cfg),
					    .matches = kind.match == XF_BPF_MATCHES,
					    .tuple = tuple };
	bucket = member_bucket(tuples, policy);
	member->next = *bucket;
	*bucket = member;
	tuples->members++;
	tuple->first = meld(tuple->first, member);
	if (member->key.rank != member->key.pos && is_vague(cfg, &kind))
		tie(&tuples->part[part].kinds[number]);
	return 0;
}

/* All members of @policy, one or two, or none where its part is lost. */
static void remove_members(struct xf_tuples *tuples, const struct xf_policy *policy)
{
	struct xf_tuple_member **link = tuples->size ? member_bucket(tuples, policy) : NULL;

	while (link && *link) {
		struct xf_tuple_member *member = *link;

		if (member->policy != policy) {
			link = &member->next;
			continue;
		}
		*link = member->next;
		heap_take(member->tuple, member);
		make_pending(tuples, member->tuple);
		tuples->members--;
		free(member);
	}
}

static bool is_of_part(const struct xf_tuple_member *member, unsigned part)
{
	return member->tuple->key.kind / XF_BPF_KINDS_MAX == part;
}

/* No entry of @part is wanted any more. */
static void empty_part(struct xf_tuples *tuples, unsigned part)
{
	for (size_t i = 0; i < tuples->size; i++) {
		struct xf_tuple_member **link = &tuples->by_policy[i];

		while (*link) {
			struct xf_tuple_member *member = *link;

			if (!is_of_part(member, part)) {
				link = &member->next;
				continue;
			}
			*link = member->next;
			member->tuple->first = NULL;
			make_pending(tuples, member->tuple);
			tuples->members--;
			free(member);
		}
	}
}

void xf_tuples_change(struct xf_tuples *tuples, const struct xf_policy *policy, bool there)
{
	const struct xf_policy_config *cfg = xf_policy_cfg(policy);
	unsigned number = xf_tuples_part(cfg->dir, cfg->type);
	struct xf_tuple_part *part = &tuples->part[number];
	int err;

	if (cfg->if_id)
		return;
	part->policies += there ? 1u : -1u;
	if (!there) {
		remove_members(tuples, policy);
		return;
	}
	if (part->lost_at)
		return;
	err = add_member(tuples, policy, false);
	if (!err && has_ports(&cfg->sel) && xf_policy_is_strict(cfg))
		err = add_member(tuples, policy, true);
	if (!err)
		return;
	part->lost_at = part->policies;
	empty_part(tuples, number);
}

void xf_tuples_settled(struct xf_tuples *tuples)
{
	struct xf_tuple *next;

	for (struct xf_tuple *tuple = tuples->pending; tuple; tuple = next) {
		next = tuple->next_pending;
		tuple->pending = false;
		if (!tuple->first)
			tuple_free(tuples, tuple);
	}
	tuples->pending = NULL;
}

bool xf_tuples_can_restart(const struct xf_tuples *tuples, unsigned part)
{
	return tuples->part[part].lost_at &&
	       tuples->part[part].policies <= tuples->part[part].lost_at / 2;
}

void xf_tuples_restart(struct xf_tuples *tuples, unsigned part)
{
	tuples->part[part].lost_at = 0;
	tuples->part[part].policies = 0;
}
