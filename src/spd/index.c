#include <errno.h>
#include <stdlib.h>

#include "spd/index.h"

/* Fewer rules than this are a scan again. */
#define SCAN_AGAIN (SCAN_MAX / 2)

/* To look at so many tables costs less than to ask which of them. */
#define TABLES_UNPRUNED 3

static struct set *own_set(const struct index *index)
{
	return atomic_load_explicit(&index->set, memory_order_relaxed);
}

static struct scan *scan_of(struct set *set)
{
	return XF_CONTAINER_OF(set, struct scan, set);
}

static struct root *root_of(struct set *set)
{
	return XF_CONTAINER_OF(set, struct root, set);
}

static void publish(struct index *index, struct set *set)
{
	atomic_store_explicit(&index->set, set, memory_order_release);
}

/* --- tables --- */

static void root_free(struct xf_rcu_head *head)
{
	struct root *root = XF_CONTAINER_OF(head, struct root, rcu);

	xf_spd_prune_free(atomic_load_explicit(&root->prune, memory_order_relaxed));
	xf_spd_node_free(root->node);
	free(root);
}

static struct root *root_new(struct space *space, uint16_t family)
{
	struct root *root = calloc(1, sizeof(*root));

	if (!root)
		return NULL;
	root->node = xf_spd_node_new_root(space, family);
	if (root->node)
		return root;
	free(root);
	return NULL;
}

struct gathering {
	struct space *space;
	struct prune *prune;
	bool failed;
	uint32_t n;
	uint32_t *ids;
};

static bool gather_prune(void *arg, uint32_t id)
{
	struct gathering *to = arg;

	to->failed = !xf_spd_prune_add(to->prune, arena_rule(&to->space->arena, id));
	return !to->failed;
}

static void set_prune(struct root *root, struct prune *prune)
{
	struct prune *old = atomic_load_explicit(&root->prune, memory_order_relaxed);

	atomic_store_explicit(&root->prune, prune, memory_order_release);
	xf_spd_prune_free_later(old);
}

/* Without memory every table is looked at, until there is another try at twice the size. */
static void make_prune(struct root *root, uint32_t count)
{
	struct gathering to = { .space = root->node->space };

	to.prune = xf_spd_prune_new(to.space, root->node->family, count);
	if (to.prune)
		xf_spd_node_walk(root->node, gather_prune, &to);
	if (to.failed) {
		xf_spd_prune_free(to.prune);
		to.prune = NULL;
	}
	root->retry = 2 * count;
	set_prune(root, to.prune);
}

static void prune_added(struct root *root, const struct rule *rule)
{
	struct prune *prune = atomic_load_explicit(&root->prune, memory_order_relaxed);
	uint32_t present = atomic_load_explicit(&root->node->present, memory_order_relaxed);
	uint32_t count = root->node->count;

	if (prune && count > 2 * prune->made_for)
		make_prune(root, count);
	else if (prune && !xf_spd_prune_add(prune, rule))
		set_prune(root, NULL);
	else if (!prune && __builtin_popcount(present) > TABLES_UNPRUNED && count >= root->retry)
		make_prune(root, count);
}

static void prune_deleted(struct root *root, const struct rule *rule)
{
	struct prune *prune = atomic_load_explicit(&root->prune, memory_order_relaxed);

	if (!prune)
		return;
	if (root->node->count < prune->made_for / 4)
		make_prune(root, root->node->count);
	else
		xf_spd_prune_del(prune, rule);
}

static int root_add(struct root *root, uint32_t id)
{
	int err = xf_spd_node_add(root->node, id);

	if (!err)
		prune_added(root, arena_rule(&root->node->space->arena, id));
	return err;
}

/* A root with @n rules: NULL without memory. */
static struct root *root_from(struct space *space, uint16_t family, const uint32_t *ids, uint32_t n)
{
	struct root *root = root_new(space, family);

	for (uint32_t i = 0; root && i < n; i++) {
		if (root_add(root, ids[i]) == 0)
			continue;
		root_free(&root->rcu);
		root = NULL;
	}
	return root;
}

static bool gather_rule(void *arg, uint32_t id)
{
	struct gathering *to = arg;

	to->ids[to->n++] = id;
	return true;
}

/* Few rules are left: try to make a scan of them. */
static void shrink(struct index *index, struct root *root)
{
	uint32_t ids[SCAN_AGAIN];
	struct gathering to = { .space = root->node->space, .ids = ids };
	struct scan *scan;

	xf_spd_node_walk(root->node, gather_rule, &to);
	scan = xf_spd_scan_new(&to.space->arena, ids, to.n);
	if (!scan)
		return;
	publish(index, &scan->set);
	xf_rcu_defer(&root->rcu, root_free);
}

/* --- either --- */

static int add_to_scan(struct index *index, struct space *space, uint16_t family, uint32_t id)
{
	struct set *set = own_set(index);
	struct scan *old = set ? scan_of(set) : NULL;
	uint32_t ids[SCAN_MAX + 1];
	uint32_t n = old ? xf_spd_scan_ids(old, ids) : 0;

	ids[n++] = id;
	if (n <= SCAN_MAX) {
		struct scan *scan = xf_spd_scan_new(&space->arena, ids, n);

		if (!scan)
			return -ENOMEM;
		publish(index, &scan->set);
	} else {
		struct root *root = root_from(space, family, ids, n);

		if (!root)
			return -ENOMEM;
		publish(index, &root->set);
	}
	if (old)
		xf_spd_scan_free_later(old);
	return 0;
}

int xf_spd_index_add(struct index *index, struct space *space, uint16_t family, uint32_t id)
{
	struct set *set = own_set(index);

	if (set && !set->is_scan)
		return root_add(root_of(set), id);
	return add_to_scan(index, space, family, id);
}

/* Without memory for another scan, ranks are looked up with each match from now on. */
static void replace_in_scan(struct index *index, struct space *space, uint32_t id, uint32_t by)
{
	struct scan *old = scan_of(own_set(index));
	uint32_t ids[SCAN_MAX];
	uint32_t n = xf_spd_scan_ids(old, ids);
	struct scan *scan;

	for (uint32_t i = 0; i < n; i++)
		ids[i] = ids[i] == id ? by : ids[i];
	scan = xf_spd_scan_new(&space->arena, ids, n);
	if (!scan) {
		xf_spd_scan_swap(old, &space->arena, id, by);
		return;
	}
	publish(index, &scan->set);
	xf_spd_scan_free_later(old);
}

void xf_spd_index_replace(struct index *index, struct space *space, uint32_t id, uint32_t by)
{
	struct set *set = own_set(index);

	if (set->is_scan)
		replace_in_scan(index, space, id, by);
	else
		xf_spd_node_replace(root_of(set)->node, id, by);
}

void xf_spd_index_del(struct index *index, struct space *space, uint32_t id)
{
	struct set *set = own_set(index);
	struct root *root = root_of(set);

	if (set->is_scan) {
		struct scan *scan = scan_of(set);

		if (xf_spd_scan_del(scan, id))
			return;
		publish(index, NULL);
		xf_spd_scan_free_later(scan);
		return;
	}
	xf_spd_node_del(root->node, id);
	prune_deleted(root, arena_rule(&space->arena, id));
	if (root->node->count <= SCAN_AGAIN)
		shrink(index, root);
}

void xf_spd_index_prefetch(const struct index *index, const struct space *space, uint32_t id)
{
	struct set *set = own_set(index);
	struct prune *prune;

	if (!set || set->is_scan)
		return;
	xf_spd_node_prefetch(root_of(set)->node, id);
	prune = atomic_load_explicit(&root_of(set)->prune, memory_order_relaxed);
	if (prune)
		xf_spd_prune_prefetch_rule(prune, arena_rule(&space->arena, id));
}

void xf_spd_index_fini(struct index *index)
{
	struct set *set = own_set(index);

	if (set && set->is_scan)
		xf_spd_scan_free(scan_of(set));
	else if (set)
		root_free(&root_of(set)->rcu);
	publish(index, NULL);
}
