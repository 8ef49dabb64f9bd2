#include <errno.h>
#include <stdlib.h>

#include <xf/hash.h>

#include "spd/spd_priv.h"
#include "spd/spd_test.h"

/* The kernel's first hash size and its largest (xfrm_policy_hashmax). */
#define KERNEL_HASH_MASK_MIN 7
#define KERNEL_HASH_MAX (1024 * 1024)

struct xf_spd *xf_spd_new(const struct xf_spd_config *cfg)
{
	struct xf_spd *spd = calloc(1, sizeof(*spd));

	if (!spd)
		return NULL;
	spd->cfg = *cfg;
	xf_wall_init(&spd->wall, cfg->real_offset_ns);
	xf_spd_slabs_init(spd);
	spd->scan = xf_spd_scan_best();
	xf_spd_arena_init(&spd->space.arena);
	for (uint64_t i = 0; i < XF_ARRAY_SIZE(spd->space.keys); i++)
		spd->space.keys[i] = xf_hash(cfg->seed, &i, sizeof(i));
	spd->byidx_mask = KERNEL_HASH_MASK_MIN;
	for (int dir = 0; dir < XF_DIR_MAX; dir++)
		spd->bydst_mask[dir] = KERNEL_HASH_MASK_MIN;
	return spd;
}

void xf_spd_step_clock(struct xf_spd *spd, uint64_t now_ns, int64_t real_offset_ns)
{
	xf_wall_step(&spd->wall, now_ns, real_offset_ns);
}

void xf_spd_free(struct xf_spd *spd)
{
	if (!spd)
		return;
	for (uint8_t type = 0; type < XF_POLICY_TYPE_MAX; type++)
		xf_spd_flush(spd, type);
	xf_rcu_drain();
	xf_spd_slabs_fini(spd);
	xf_spd_table_fini(&spd->by_identity);
	xf_spd_table_fini(&spd->by_index);
	xf_spd_table_fini(&spd->by_match);
	xf_spd_arena_fini(&spd->space.arena);
	xf_heap_fini(&spd->due);
	free(spd->places);
	free(spd);
}

static void changed(struct xf_spd *spd)
{
	atomic_fetch_add_explicit(&spd->generation, 1, memory_order_release);
}

uint64_t xf_spd_generation(const struct xf_spd *spd)
{
	return atomic_load_explicit(&spd->generation, memory_order_acquire);
}

/* What the kernel compares in xfrm_policy_insert_list(), without padding. */
static uint64_t identity_hash(const struct xf_spd *spd, const struct xf_policy_id *id)
{
	const struct xf_selector *sel = &id->sel;
	uint64_t words[9] = {
		sel->daddr.quad[0],
		sel->daddr.quad[1],
		sel->saddr.quad[0],
		sel->saddr.quad[1],
		(uint64_t)sel->dport << 48 | (uint64_t)sel->dport_mask << 32 |
			(uint64_t)sel->sport << 16 | sel->sport_mask,
		(uint64_t)sel->family << 48 | (uint64_t)sel->prefixlen_d << 40 |
			(uint64_t)sel->prefixlen_s << 32 | (uint64_t)sel->proto << 24 |
			(uint64_t)id->dir << 8 | id->type,
		(uint64_t)sel->ifindex << 32 | sel->user,
		(uint64_t)id->mark.v << 32 | id->mark.m,
		id->if_id,
	};

	return xf_hash(spd->cfg.seed, words, sizeof(words));
}

static uint64_t index_hash(const struct xf_spd *spd, uint32_t index)
{
	return xf_hash(spd->cfg.seed, &index, sizeof(index));
}

static bool same_but_selector(const struct xf_policy_config *cfg, const struct xf_policy_id *id)
{
	return cfg->dir == id->dir && cfg->type == id->type && cfg->if_id == id->if_id &&
	       cfg->mark.v == id->mark.v && cfg->mark.m == id->mark.m;
}

static struct xf_policy *find_identity(const struct xf_spd *spd, const struct xf_policy_id *id,
				       uint64_t hash)
{
	struct table_link *link = xf_spd_table_first(&spd->by_identity, hash);

	for (; link; link = xf_spd_table_next(link)) {
		struct xf_policy *policy = XF_CONTAINER_OF(link, struct xf_policy, by_identity);

		if (same_but_selector(&policy->cfg, id) &&
		    xf_selector_equal(&policy->cfg.sel, &id->sel))
			return policy;
	}
	return NULL;
}

static struct xf_policy *find_index(const struct xf_spd *spd, uint32_t index)
{
	struct table_link *link = xf_spd_table_first(&spd->by_index, index_hash(spd, index));

	for (; link; link = xf_spd_table_next(link)) {
		struct xf_policy *policy = XF_CONTAINER_OF(link, struct xf_policy, by_index);

		if (policy->cfg.index == index)
			return policy;
	}
	return NULL;
}

struct xf_policy *xf_spd_find(const struct xf_spd *spd, const struct xf_policy_id *id)
{
	struct xf_policy *policy;

	if (!id->index)
		return find_identity(spd, id, identity_hash(spd, id));
	policy = find_index(spd, id->index);
	return policy && same_but_selector(&policy->cfg, id) ? policy : NULL;
}

/* The kernel's xfrm_gen_index(): the wanted one when it is free, else 1, 8 + …, direction below. */
static uint32_t gen_index(struct xf_spd *spd, uint8_t dir, uint32_t wanted)
{
	for (;;) {
		uint32_t index = wanted;

		if (!wanted) {
			index = spd->index_generator | dir;
			spd->index_generator += 8;
		}
		wanted = 0;
		if (index == 0)
			index = 8;
		if (!find_index(spd, index))
			return index;
	}
}

/* What the kernel refuses in verify_newpolicy_info(); prefixes index address bytes in lookups. */
static int check(const struct xf_policy_config *cfg)
{
	uint8_t bits = xf_addr_bits(cfg->sel.family);

	if (cfg->sel.family != XF_AF_INET && cfg->sel.family != XF_AF_INET6)
		return -EINVAL;
	if (cfg->sel.prefixlen_d > bits || cfg->sel.prefixlen_s > bits)
		return -EINVAL;
	if (cfg->dir >= XF_DIR_MAX || cfg->type >= XF_POLICY_TYPE_MAX || cfg->ntmpl > XF_MAX_DEPTH)
		return -EINVAL;
	if (cfg->index && (cfg->index & 7) != cfg->dir)
		return -EINVAL;
	return 0;
}

/* All that can fail for want of memory comes before the first change. */
static int reserve(struct xf_spd *spd)
{
	size_t count = spd->by_index.count + 2; /* an update has both for a moment */

	if (xf_spd_table_reserve(&spd->by_identity, count) < 0 ||
	    xf_spd_table_reserve(&spd->by_index, count) < 0 ||
	    xf_spd_table_reserve(&spd->by_match, spd->by_match.count + KINDS) < 0 ||
	    xf_heap_reserve(&spd->due, count) < 0)
		return -ENOMEM;
	return xf_spd_order_reserve(spd);
}

/* The kernel doubles its tables in the background when they are full (xfrm_hash_resize()). */
static void grow_kernel_hashes(struct xf_spd *spd, uint8_t dir)
{
	uint32_t total = 0;

	if (spd->count[dir] <= spd->bydst_mask[dir])
		return;
	for (int i = 0; i < XF_DIR_MAX; i++) {
		total += spd->count[i];
		if (spd->bydst_mask[i] + 1 < KERNEL_HASH_MAX && spd->count[i] > spd->bydst_mask[i])
			spd->bydst_mask[i] = spd->bydst_mask[i] * 2 + 1;
	}
	if (spd->byidx_mask + 1 < KERNEL_HASH_MAX && total > spd->byidx_mask)
		spd->byidx_mask = spd->byidx_mask * 2 + 1;
}

/* Use moves deadlines back without telling the heap, so what is due is looked at again there. */
static void rearm(struct xf_spd *spd, struct xf_policy *policy)
{
	uint64_t due_ns = xf_spd_policy_due_ns(policy);

	if (due_ns == UINT64_MAX)
		xf_heap_del(&spd->due, &policy->due);
	else
		xf_heap_set(&spd->due, &policy->due, due_ns);
}

static void tell_watcher(const struct xf_spd *spd, const struct xf_policy *policy)
{
	if (spd->cfg.watch)
		spd->cfg.watch(spd->cfg.watch_arg, policy, policy->linked);
}

static bool asks_mark(const struct xf_policy_config *cfg)
{
	return cfg->dir == XF_DIR_OUT && cfg->mark.m;
}

/* Enter @policy, which readers see already, into the control thread's own tables. */
static void link_policy(struct xf_spd *spd, struct xf_policy *policy, uint64_t id_hash)
{
	const struct xf_policy_config *cfg = &policy->cfg;

	policy->linked = true;
	spd->count[cfg->dir]++;
	spd->marked += asks_mark(cfg);
	policy->part->count++;
	xf_spd_order_add(spd, policy);
	xf_spd_table_add(&spd->by_identity, &policy->by_identity, id_hash);
	xf_spd_table_add(&spd->by_index, &policy->by_index, index_hash(spd, cfg->index));
	rearm(spd, policy);
	tell_watcher(spd, policy);
}

/* The reverse; the caller has seen to it that readers do not find @policy any more. */
static void unlink_policy(struct xf_spd *spd, struct xf_policy *policy)
{
	const struct xf_policy_config *cfg = &policy->cfg;

	policy->linked = false;
	spd->count[cfg->dir]--;
	spd->marked -= asks_mark(cfg);
	policy->part->count--;
	xf_spd_table_del(&spd->by_identity, &policy->by_identity);
	xf_spd_table_del(&spd->by_index, &policy->by_index);
	xf_spd_order_del(spd, policy);
	xf_heap_del(&spd->due, &policy->due);
	xf_heap_trim(&spd->due, spd->by_index.count);
	tell_watcher(spd, policy);
	xf_spd_policy_put_later(policy);
}

/* Misses that an insertion will have, of which two are known before the first. */
static void prefetch_for(const struct xf_spd *spd, const struct xf_policy_config *cfg,
			 uint64_t id_hash)
{
	uint32_t index = cfg->index ? cfg->index : spd->index_generator | cfg->dir;

	xf_spd_table_prefetch(&spd->by_identity, id_hash);
	xf_spd_table_prefetch(&spd->by_index, index_hash(spd, index));
}

/* Its place among equals: @old's, the one that was asked for, or behind all. */
static void place(struct xf_spd *spd, struct xf_policy *policy, const struct xf_policy *old)
{
	bool asked = spd->next_pos > spd->last_pos;

	policy->pos = asked ? spd->next_pos : spd->last_pos + 1;
	policy->rank = asked ? spd->next_rank : policy->pos;
	if (old && old->cfg.priority == policy->cfg.priority)
		policy->rank = old->rank;
	spd->last_pos = policy->pos;
}

int xf_spd_insert(struct xf_spd *spd, const struct xf_policy_config *cfg, bool exclusive,
		  uint64_t now_ns, struct xf_policy **out)
{
	const struct xf_policy_id id = { .sel = cfg->sel,
					 .mark = cfg->mark,
					 .if_id = cfg->if_id,
					 .dir = cfg->dir,
					 .type = cfg->type };
	struct xf_policy *policy;
	struct xf_policy *old;
	struct part *part;
	int err = check(cfg);
	uint64_t hash;

	if (err)
		return err;
	hash = identity_hash(spd, &id);
	prefetch_for(spd, cfg, hash);
	old = find_identity(spd, &id, hash);
	if (old && exclusive)
		return -EEXIST;
	if (!old && spd->cfg.max_policies && spd->by_index.count >= spd->cfg.max_policies)
		return -ENOSPC;
	if (reserve(spd) < 0 || !(part = xf_spd_part_get(spd, cfg)))
		return -ENOMEM;
	policy = xf_spd_policy_new(spd, cfg, now_ns);
	if (!policy)
		goto put_part;
	place(spd, policy, old);
	policy->part = part;
	if (xf_spd_policy_prepare(policy) < 0)
		goto put_policy;
	policy->cfg.index = old ? old->cfg.index : gen_index(spd, cfg->dir, cfg->index);
	if (xf_spd_policy_publish(policy, old) < 0)
		goto put_policy;
	link_policy(spd, policy, hash);
	if (old)
		unlink_policy(spd, old);
	else
		grow_kernel_hashes(spd, cfg->dir);
	changed(spd);
	*out = policy;
	return 0;

put_policy:
	xf_spd_policy_put_later(policy);
put_part:
	xf_spd_part_put(spd, cfg, part);
	return -ENOMEM;
}

void xf_spd_set_next_place(struct xf_spd *spd, uint64_t rank, uint64_t pos)
{
	if (pos <= spd->last_pos || rank > pos)
		return;
	spd->next_rank = rank;
	spd->next_pos = pos;
}

void xf_spd_del(struct xf_spd *spd, struct xf_policy *policy)
{
	const struct xf_policy_config *cfg = &policy->cfg;

	if (!policy->linked)
		return;
	xf_spd_table_prefetch(&spd->by_identity, policy->by_identity.hash);
	xf_spd_table_prefetch(&spd->by_index, policy->by_index.hash);
	for (unsigned i = 0; i < policy->nmembers; i++)
		xf_spd_twins_prefetch(spd, &policy->members[i]);
	xf_spd_policy_hide(policy);
	unlink_policy(spd, policy);
	xf_spd_part_put(spd, cfg, policy->part);
	changed(spd);
}

unsigned xf_spd_flush(struct xf_spd *spd, uint8_t type)
{
	uint64_t pos = UINT64_MAX;
	unsigned n = 0;
	struct xf_policy *policy;
	size_t place = 0;

	while ((policy = xf_spd_order_older(spd, pos, &place))) {
		pos = policy->pos;
		if (policy->cfg.type != type)
			continue;
		xf_spd_del(spd, policy);
		n++;
	}
	return n;
}

bool xf_spd_walk(const struct xf_spd *spd, uint64_t *cursor,
		 bool (*visit)(void *arg, struct xf_policy *policy), void *arg)
{
	uint64_t pos = *cursor ? *cursor : UINT64_MAX;
	struct xf_policy *policy;
	size_t place = 0;

	while ((policy = xf_spd_order_older(spd, pos, &place))) {
		pos = policy->pos;
		*cursor = pos;
		if (!visit(arg, policy))
			return true;
	}
	return false;
}

void xf_spd_get_info(const struct xf_spd *spd, struct xf_spd_info *out)
{
	for (int dir = 0; dir < XF_DIR_MAX; dir++)
		out->count[dir] = spd->count[dir];
	out->buckets = spd->byidx_mask;
	out->buckets_max = KERNEL_HASH_MAX;
}

bool xf_spd_asks_marks(const struct xf_spd *spd)
{
	return spd->marked;
}

uint64_t xf_spd_expire(struct xf_spd *spd, uint64_t now_ns,
		       void (*event)(void *arg, struct xf_policy *policy, bool hard), void *arg)
{
	struct xf_heap_node *node;

	while ((node = xf_heap_first(&spd->due)) && node->due_ns <= now_ns) {
		struct xf_policy *policy = XF_CONTAINER_OF(node, struct xf_policy, due);
		enum policy_age age = xf_spd_policy_age(policy, now_ns);

		xf_policy_get(policy);
		if (age == POLICY_SOFT)
			policy->soft_told = true;
		if (age == POLICY_HARD)
			xf_spd_del(spd, policy);
		else
			rearm(spd, policy);
		if (age != POLICY_FRESH)
			event(arg, policy, age == POLICY_HARD);
		xf_policy_put(policy);
	}
	return node ? node->due_ns : UINT64_MAX;
}
