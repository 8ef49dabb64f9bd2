#include <errno.h>
#include <stdlib.h>

#include <xf/huge.h>

#include "spd/node.h"

/* Rules with the same key that a table has side by side: each is a cache line to look at. */
#define SHARED_MAX 8

/* The lengths that are common are a level's own. */
static const uint8_t levels[2][LEVELS] = { { 0, 8, 16, 24, 32 }, { 0, 32, 48, 64, 128 } };

/* Within a level, lengths are rounded down to multiples of these. */
static const uint8_t fine[2] = { 4, 8 };

unsigned xf_spd_node_level(uint16_t family, uint8_t prefix_bits)
{
	const uint8_t *of = levels[family == XF_AF_INET6];
	unsigned level = LEVELS - 1;

	while (of[level] > prefix_bits)
		level--;
	return level;
}

uint8_t xf_spd_node_level_bits(uint16_t family, unsigned level)
{
	return levels[family == XF_AF_INET6][level];
}

unsigned xf_spd_node_root_table(uint16_t family, const struct rule *rule)
{
	return xf_spd_node_level(family, rule->prefixlen_d) * LEVELS +
	       xf_spd_node_level(family, rule->prefixlen_s);
}

static uint8_t rounded(const struct node *node, uint8_t steps, uint8_t prefix_bits)
{
	if (steps & STEP_ALL)
		return prefix_bits;
	if (steps & STEP_PREFIX)
		return prefix_bits - prefix_bits % fine[node->family == XF_AF_INET6];
	return xf_spd_node_level_bits(node->family, xf_spd_node_level(node->family, prefix_bits));
}

/* The words of rule @id: what it matches, or what those below it share. */
static const struct rule *words_of(const struct space *space, uint32_t id, union flow_words *value,
				   union flow_words *mask)
{
	const struct rule *rule = arena_rule(&space->arena, id);

	if (rule->flags & RULE_NODE)
		*value = rule->node->key;
	else
		xf_spd_rule_words(rule, value, mask);
	return rule;
}

/* Make @mask, which has all that @rule looks at, the tuple that it has after @steps. */
static void to_tuple(const struct node *node, uint8_t steps, const struct rule *rule,
		     union flow_words *mask)
{
	memcpy(&mask->w[0], xf_spd_prefix_masks[rounded(node, steps, rule->prefixlen_s)], 16);
	memcpy(&mask->w[2], xf_spd_prefix_masks[rounded(node, steps, rule->prefixlen_d)], 16);
	if (steps & STEP_ALL)
		return;
	if (!(steps & STEP_PORTS) || mask->flow.sport != UINT16_MAX)
		mask->flow.sport = 0;
	if (!(steps & STEP_PORTS) || mask->flow.dport != UINT16_MAX)
		mask->flow.dport = 0;
	if (!(steps & STEP_PORTS))
		mask->flow.proto = 0;
	if (!(steps & STEP_MARK)) {
		mask->flow.mark = 0;
		mask->flow.oif = 0;
	}
}

static bool same_key(const union flow_words *a, const union flow_words *b,
		     const uint64_t mask[FLOW_WORDS])
{
	uint64_t diff = 0;

	for (unsigned i = 0; i < FLOW_WORDS; i++)
		diff |= (a->w[i] ^ b->w[i]) & mask[i];
	return !diff;
}

/* --- tables --- */

static struct table_list *own_list(const struct node *node)
{
	return atomic_load_explicit(&node->list, memory_order_relaxed);
}

static struct table_of *own_table(const struct table_list *list, unsigned i)
{
	return atomic_load_explicit(&list->tables[i], memory_order_relaxed);
}

static cells_word own_cells(const struct table_of *table)
{
	return atomic_load_explicit(&table->cells, memory_order_relaxed);
}

static struct table_of *table_new(const union flow_words *mask)
{
	struct table_of *table = aligned_alloc(XF_CACHE_LINE, sizeof(*table));
	cells_word cells = xf_spd_cells_new(0);

	if (!table || !cells) {
		free(table);
		xf_spd_cells_free(cells);
		return NULL;
	}
	memset(table, 0, sizeof(*table));
	memcpy(table->mask, mask->w, sizeof(table->mask));
	table->is_long = mask->w[1] | mask->w[3];
	table->is_wide = mask->w[4] | mask->w[5] | mask->w[6];
	atomic_init(&table->cells, cells);
	return table;
}

static void table_free(struct xf_rcu_head *head)
{
	struct table_of *table = XF_CONTAINER_OF(head, struct table_of, rcu);

	xf_spd_cells_free(own_cells(table));
	free(table);
}

static struct table_list *list_new(uint32_t count)
{
	struct table_list *list = calloc(1, sizeof(*list) + count * sizeof(list->tables[0]));

	if (list)
		list->count = count;
	return list;
}

static void list_free(struct xf_rcu_head *head)
{
	free(XF_CONTAINER_OF(head, struct table_list, rcu));
}

/* A place for one more table, in a list twice as long when there is none: -1 without memory. */
static int free_place(struct node *node)
{
	struct table_list *old = own_list(node);
	struct table_list *list;

	for (unsigned i = 0; i < old->count; i++)
		if (!own_table(old, i))
			return (int)i;
	list = list_new(old->count * 2);
	if (!list)
		return -1;
	for (unsigned i = 0; i < old->count; i++)
		atomic_init(&list->tables[i], own_table(old, i));
	atomic_store_explicit(&node->list, list, memory_order_release);
	xf_rcu_defer(&old->rcu, list_free);
	return (int)old->count;
}

/* Where @node has the table with tuple @mask, or -1. The root's tables have fixed places. */
static int find_place(const struct node *node, const struct rule *rule,
		      const union flow_words *mask)
{
	const struct table_list *list = own_list(node);

	if (!node->steps)
		return (int)xf_spd_node_root_table(node->family, rule);
	for (unsigned i = 0; i < list->count; i++) {
		const struct table_of *table = own_table(list, i);

		if (table && memcmp(table->mask, mask->w, sizeof(table->mask)) == 0)
			return (int)i;
	}
	return -1;
}

static struct table_of *table_get(struct node *node, const struct rule *rule,
				  const union flow_words *mask)
{
	int place = find_place(node, rule, mask);
	struct table_of *table;

	if (place < 0)
		place = free_place(node);
	if (place < 0)
		return NULL;
	table = own_table(own_list(node), (unsigned)place);
	if (table)
		return table;
	table = table_new(mask);
	if (!table)
		return NULL;
	atomic_store_explicit(&own_list(node)->tables[place], table, memory_order_release);
	if (!node->steps)
		atomic_fetch_or_explicit(&node->present, 1u << place, memory_order_release);
	return table;
}

/* Take @table out when nothing is left in it. */
static void table_put(struct node *node, struct table_of *table)
{
	struct table_list *list = own_list(node);
	unsigned i = 0;

	if (table->count)
		return;
	while (own_table(list, i) != table)
		i++;
	if (!node->steps)
		atomic_fetch_and_explicit(&node->present, ~(1u << i), memory_order_release);
	atomic_store_explicit(&list->tables[i], NULL, memory_order_release);
	xf_rcu_defer(&table->rcu, table_free);
}

static uint64_t hash_of(const struct space *space, const struct table_of *table, uint32_t id)
{
	union flow_words value, mask;

	words_of(space, id, &value, &mask);
	return node_hash(space, table, value.w);
}

/* Visit all numbers in @cells in turn: *@at is where to go on. False at the end. */
static bool each_id(cells_word cells, size_t *at, uint32_t *id)
{
	size_t slots = ((size_t)cells_mask(cells) + 1) * CELL_SLOTS;

	for (; *at < slots; (*at)++) {
		struct bucket *bucket = &cells_buckets(cells)[*at / CELL_SLOTS];
		unsigned slot = (unsigned)(*at % CELL_SLOTS);
		uint64_t tags = atomic_load_explicit(&bucket->tags[slot / 8], memory_order_relaxed);

		if (!(tags >> (slot % 8 * 8) & 255))
			continue;
		*id = atomic_load_explicit(&bucket->ids[slot], memory_order_relaxed);
		(*at)++;
		return true;
	}
	return false;
}

/* How many rules are fetched ahead while a table is copied. */
#define AHEAD 16

static void copy_cells(const struct space *space, const struct table_of *table, cells_word to)
{
	cells_word from = own_cells(table);
	uint32_t ids[AHEAD];
	size_t at = 0;
	unsigned n;

	do {
		for (n = 0; n < AHEAD && each_id(from, &at, &ids[n]); n++)
			__builtin_prefetch(arena_rule(&space->arena, ids[n]));
		for (unsigned i = 0; i < n; i++)
			xf_spd_cells_put(to, hash_of(space, table, ids[i]), ids[i]);
	} while (n == AHEAD);
}

/* Let @table have 1 << @bits buckets: 0 or -ENOMEM. */
static int table_resize(const struct space *space, struct table_of *table, unsigned bits)
{
	struct old_cells *old = xf_spd_cells_prepare(own_cells(table));
	cells_word cells = old ? xf_spd_cells_new(bits) : 0;

	if (!cells) {
		xf_spd_cells_keep(old);
		return -ENOMEM;
	}
	copy_cells(space, table, cells);
	atomic_store_explicit(&table->cells, cells, memory_order_release);
	xf_spd_cells_retire(old);
	return 0;
}

static int xf_spd_table_add(const struct space *space, struct table_of *table, uint64_t hash,
			    uint32_t id)
{
	unsigned bits = own_cells(table) & CELLS_BITS_MASK;

	if (xf_spd_cells_bits_for(table->count + 1) > bits &&
	    table_resize(space, table, bits + 1) < 0)
		return -ENOMEM;
	xf_spd_cells_put(own_cells(table), hash, id);
	table->count++;
	return 0;
}

/* Tables shrink late, so that they do not grow and shrink in turn; without memory they stay. */
static void xf_spd_table_del(struct node *node, struct table_of *table, uint64_t hash, uint32_t id)
{
	unsigned bits = own_cells(table) & CELLS_BITS_MASK;

	xf_spd_cells_del(own_cells(table), hash, id);
	table->count--;
	if (bits >= 2 && xf_spd_cells_bits_for(table->count) < bits - 1)
		table_resize(node->space, table, bits - 1);
	table_put(node, table);
}

/* --- nodes --- */

static struct node *node_new(struct space *space, uint16_t family, uint8_t steps, uint32_t tables)
{
	struct node *node = calloc(1, sizeof(*node));
	struct table_list *list = list_new(tables);

	if (!node || !list) {
		free(node);
		free(list);
		return NULL;
	}
	node->space = space;
	node->family = family;
	node->steps = steps;
	node->rule = RULE_NONE;
	atomic_init(&node->list, list);
	atomic_init(&node->min_priority, UINT32_MAX);
	return node;
}

struct node *xf_spd_node_new_root(struct space *space, uint16_t family)
{
	return node_new(space, family, 0, ROOT_TABLES);
}

/* Rules may be gone by now: nodes find each other without them. */
void xf_spd_node_free(struct node *node)
{
	struct table_list *list = own_list(node);

	while (node->below) {
		struct node *below = node->below;

		node->below = below->next;
		xf_spd_node_free(below);
	}
	for (unsigned i = 0; i < list->count; i++)
		if (own_table(list, i))
			table_free(&own_table(list, i)->rcu);
	if (node->rule != RULE_NONE)
		xf_spd_arena_free(&node->space->arena, node->rule);
	free(list);
	free(node);
}

static void node_free_rcu(struct xf_rcu_head *head)
{
	xf_spd_node_free(XF_CONTAINER_OF(head, struct node, rcu));
}

void xf_spd_node_free_later(struct node *node)
{
	xf_rcu_defer(&node->rcu, node_free_rcu);
}

/* --- splitting --- */

/* How well a step tells @n rules apart: mostly by how many keys they have, then by few tables. */
static int worth(const struct node *node, uint8_t steps, const uint32_t *ids, unsigned n)
{
	union flow_words keys[SHARED_MAX + 1], masks[SHARED_MAX + 1];
	int distinct = 0, tables = 0;

	for (unsigned i = 0; i < n; i++) {
		bool new_key = true, new_mask = true;

		to_tuple(node, steps, words_of(node->space, ids[i], &keys[i], &masks[i]),
			 &masks[i]);
		for (unsigned k = 0; k < i; k++) {
			bool same = memcmp(&masks[k], &masks[i], sizeof(masks[i])) == 0;

			new_mask = new_mask && !same;
			new_key = new_key && !(same && same_key(&keys[k], &keys[i], masks[i].w));
		}
		distinct += new_key;
		tables += new_mask;
	}
	return distinct <= 2 ? 0 : distinct * 16 - tables;
}

/* What a node for these rules, which share a key of @node, has in its tuples. */
static uint8_t choose_steps(const struct node *node, const uint32_t *ids, unsigned n)
{
	static const uint8_t steps[] = { STEP_PORTS, STEP_MARK, STEP_PREFIX };
	uint8_t best = STEP_ALL;
	int best_worth = 0;

	for (unsigned i = 0; i < XF_ARRAY_SIZE(steps); i++) {
		int value = worth(node, node->steps | steps[i], ids, n);

		if (!(node->steps & steps[i]) && value > best_worth) {
			best_worth = value;
			best = steps[i];
		}
	}
	return node->steps | best;
}

static int add(struct node *node, uint32_t id);

static void link_below(struct node *parent, struct node *node)
{
	node->next = parent->below;
	node->link = &parent->below;
	if (node->next)
		node->next->link = &node->next;
	parent->below = node;
}

static void unlink_below(struct node *node)
{
	*node->link = node->next;
	if (node->next)
		node->next->link = node->link;
}

/* A node with @n rules that share a key of @table, and a rule that leads there: or NULL. */
static struct node *gather(const struct node *parent, const struct table_of *table,
			   const uint32_t *ids, unsigned n)
{
	uint8_t steps = choose_steps(parent, ids, n);
	struct node *node = node_new(parent->space, parent->family, steps, 1);
	union flow_words mask;
	struct rule *rule;

	if (!node)
		return NULL;
	node->rule = xf_spd_arena_alloc(&node->space->arena);
	for (unsigned i = 0; node->rule != RULE_NONE && i < n; i++) {
		if (add(node, ids[i]) < 0)
			break;
	}
	if (node->rule == RULE_NONE || node->count != n) {
		xf_spd_node_free(node);
		return NULL;
	}
	words_of(node->space, ids[0], &node->key, &mask);
	for (unsigned i = 0; i < FLOW_WORDS; i++)
		node->key.w[i] &= table->mask[i];
	rule = arena_rule(&node->space->arena, node->rule);
	memset(rule, 0, sizeof(*rule));
	rule->flags = RULE_NODE;
	rule->node = node;
	return node;
}

/*
 * Let @table have a node in the place of the rules @ids, the last of which is new. A reader that
 * has passed the place of the node already and finds the rules gone sees that there was a move.
 */
static int split(struct node *node, struct table_of *table, uint64_t hash, const uint32_t *ids,
		 unsigned n)
{
	struct node *below = gather(node, table, ids, n);
	cells_word cells = own_cells(table);

	if (!below)
		return -ENOMEM;
	link_below(node, below);
	atomic_store_explicit(xf_spd_cells_slot(cells, hash, ids[0]), below->rule,
			      memory_order_release);
	atomic_fetch_add_explicit(&node->space->moves, 1, memory_order_release);
	for (unsigned i = 1; i < n - 1; i++)
		xf_spd_cells_del(cells, hash, ids[i]);
	table->count -= n - 2;
	return 0;
}

/* --- rules --- */

/* Where a rule is or belongs: a table, and what it has under the rule's key. */
struct spot {
	struct table_of *table;
	uint64_t hash;
	uint32_t ids[SHARED_MAX + 1]; /* rules with the same key */
	unsigned nids;
	struct node *below; /* the node for this key, if there is one */
};

/* Rules of a table with every field in the key are five of one key at most: one of each class. */
static void look(const struct node *node, const union flow_words *value, struct spot *spot)
{
	struct cells_iter it;
	_Atomic uint32_t *slot;

	spot->hash = node_hash(node->space, spot->table, value->w);
	spot->nids = 0;
	spot->below = NULL;
	it = cells_begin(own_cells(spot->table), spot->hash);
	while ((slot = cells_next(&it))) {
		uint32_t id = atomic_load_explicit(slot, memory_order_relaxed);
		union flow_words other, mask;
		const struct rule *rule = words_of(node->space, id, &other, &mask);

		if (!same_key(value, &other, spot->table->mask))
			continue;
		if (rule->flags & RULE_NODE)
			spot->below = rule->node;
		else
			spot->ids[spot->nids++] = id;
	}
}

static int add_in_table(struct node *node, uint32_t id, const union flow_words *value,
			struct table_of *table)
{
	struct spot spot = { .table = table };

	look(node, value, &spot);
	if (spot.below)
		return add(spot.below, id);
	if (spot.nids < SHARED_MAX)
		return xf_spd_table_add(node->space, table, spot.hash, id);
	spot.ids[spot.nids++] = id;
	return split(node, table, spot.hash, spot.ids, spot.nids);
}

static int add(struct node *node, uint32_t id)
{
	union flow_words value, mask;
	const struct rule *rule = words_of(node->space, id, &value, &mask);
	struct table_of *table;
	int err = -ENOMEM;

	to_tuple(node, node->steps, rule, &mask);
	table = table_get(node, rule, &mask);
	if (!table)
		return -ENOMEM;
	/* Readers that see the rule must not pass this node over. */
	if (rule->priority < atomic_load_explicit(&node->min_priority, memory_order_relaxed))
		atomic_store_explicit(&node->min_priority, rule->priority, memory_order_release);
	err = add_in_table(node, id, &value, table);
	if (err)
		table_put(node, table);
	else
		node->count++;
	return err;
}

void xf_spd_node_prefetch(const struct node *root, uint32_t id)
{
	union flow_words value, mask;
	const struct rule *rule = words_of(root->space, id, &value, &mask);
	const struct table_of *table =
		own_table(own_list(root), xf_spd_node_root_table(root->family, rule));
	cells_word cells;

	if (!table)
		return;
	cells = own_cells(table);
	__builtin_prefetch(
		&cells_buckets(cells)[cells_home(cells, node_hash(root->space, table, value.w))],
		1);
}

int xf_spd_node_add(struct node *root, uint32_t id)
{
	return add(root, id);
}

/* Where in @node rule @id is: in @spot's table, or below it. */
static void find(const struct node *node, uint32_t id, struct spot *spot)
{
	union flow_words value, mask;
	const struct rule *rule = words_of(node->space, id, &value, &mask);

	to_tuple(node, node->steps, rule, &mask);
	spot->table = own_table(own_list(node), (unsigned)find_place(node, rule, &mask));
	look(node, &value, spot);
}

void xf_spd_node_replace(struct node *root, uint32_t id, uint32_t by)
{
	uint32_t priority = arena_rule(&root->space->arena, by)->priority;
	struct node *node = root;
	struct spot spot;

	for (;;) {
		if (priority < atomic_load_explicit(&node->min_priority, memory_order_relaxed))
			atomic_store_explicit(&node->min_priority, priority, memory_order_release);
		find(node, id, &spot);
		if (!spot.below)
			break;
		node = spot.below;
	}
	atomic_store_explicit(xf_spd_cells_slot(own_cells(spot.table), spot.hash, id), by,
			      memory_order_release);
}

void xf_spd_node_del(struct node *node, uint32_t id)
{
	struct spot spot;

	find(node, id, &spot);
	node->count--;
	if (!spot.below) {
		xf_spd_table_del(node, spot.table, spot.hash, id);
		return;
	}
	xf_spd_node_del(spot.below, id);
	if (spot.below->count)
		return;
	xf_spd_table_del(node, spot.table, spot.hash, spot.below->rule);
	unlink_below(spot.below);
	xf_spd_node_free_later(spot.below);
}

bool xf_spd_node_walk(const struct node *node, bool (*visit)(void *arg, uint32_t id), void *arg)
{
	const struct table_list *list = own_list(node);

	for (unsigned i = 0; i < list->count; i++) {
		const struct table_of *table = own_table(list, i);
		size_t at = 0;
		uint32_t id;

		while (table && each_id(own_cells(table), &at, &id)) {
			const struct rule *rule = arena_rule(&node->space->arena, id);
			bool more = rule->flags & RULE_NODE
					    ? xf_spd_node_walk(rule->node, visit, arg)
					    : visit(arg, id);

			if (!more)
				return false;
		}
	}
	return true;
}
