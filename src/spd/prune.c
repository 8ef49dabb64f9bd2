#include <stdlib.h>

#include <xf/huge.h>

#include "spd/prune.h"

/* The largest maps, in bits of their index: of short prefixes there are fewer. */
static const uint8_t max_bits[PRUNE_LEVELS] = { 16, 18, 21 };
#define MIN_BITS 8

/* --- counts --- */

static size_t counts_bytes(const struct prune_count_map *map)
{
	return map->slots ? ((size_t)map->mask + 1) * sizeof(map->slots[0]) : 0;
}

static uint32_t counts_home(const struct prune_count_map *map, uint64_t key)
{
	return (uint32_t)((key * 0x9e3779b97f4a7c15ull) >> 32) & map->mask;
}

static uint64_t *counts_find(const struct prune_count_map *map, uint64_t key)
{
	uint32_t at = counts_home(map, key);

	while (map->slots[at] && map->slots[at] >> 32 != key)
		at = (at + 1) & map->mask;
	return &map->slots[at];
}

static bool counts_grow(struct prune_count_map *map)
{
	struct prune_count_map old = *map;
	uint32_t size = old.slots ? (old.mask + 1) * 2 : 256;

	if (old.slots && old.count < size / 2 - size / 8)
		return true;
	map->slots = xf_huge_alloc(size * sizeof(map->slots[0]));
	if (!map->slots) {
		*map = old;
		return false;
	}
	map->mask = size - 1;
	for (uint32_t i = 0; old.slots && i <= old.mask; i++)
		if (old.slots[i])
			*counts_find(map, old.slots[i] >> 32) = old.slots[i];
	xf_huge_free(old.slots, counts_bytes(&old));
	return true;
}

/* What comes behind the free place @at moves up, as far as it may stand there. */
static void counts_close(struct prune_count_map *map, uint32_t at)
{
	uint32_t next = at;

	map->slots[at] = 0;
	for (;;) {
		uint32_t home;

		next = (next + 1) & map->mask;
		if (!map->slots[next])
			return;
		home = counts_home(map, map->slots[next] >> 32);
		if (((next - home) & map->mask) < ((next - at) & map->mask))
			continue;
		map->slots[at] = map->slots[next];
		map->slots[next] = 0;
		at = next;
	}
}

/* --- maps --- */

/* To fetch so little costs more than it gains. */
#define SMALL_BYTES (256u << 10)

static unsigned log2_up(uint32_t n)
{
	unsigned bits = 0;

	while (bits < 31 && (1u << bits) < n)
		bits++;
	return bits;
}

/* An index that is as long as what is looked at needs no hash. */
static unsigned set_level(struct prune *prune, const struct space *space, unsigned level)
{
	unsigned bits = log2_up(prune->made_for) + 1;
	uint8_t used = xf_spd_node_level_bits(prune->family, level + 1);

	if (bits < MIN_BITS)
		bits = MIN_BITS;
	if (bits > max_bits[level])
		bits = max_bits[level];
	if (bits >= used)
		bits = used;
	prune->shift[level] = (uint8_t)(64 - used);
	prune->drop[level] = (uint8_t)(64 - bits);
	prune->factor[level] = bits == used ? UINT64_C(1) << (64 - bits) : space->keys[level] | 1;
	return bits;
}

struct prune *xf_spd_prune_new(const struct space *space, uint16_t family, uint32_t count)
{
	struct prune *prune = calloc(1, sizeof(*prune));
	_Atomic uint32_t *map;
	unsigned bits[PRUNE_LEVELS];

	if (!prune)
		return NULL;
	prune->family = family;
	prune->made_for = count;
	for (unsigned level = 0; level < PRUNE_LEVELS; level++) {
		bits[level] = set_level(prune, space, level);
		prune->map_bytes += PRUNE_SIDES * (sizeof(*map) << bits[level]);
	}
	prune->is_small = prune->map_bytes <= SMALL_BYTES;
	map = prune->memory = xf_huge_alloc(prune->map_bytes);
	if (!map) {
		free(prune);
		return NULL;
	}
	for (unsigned level = 0; level < PRUNE_LEVELS; level++) {
		for (unsigned side = 0; side < PRUNE_SIDES; side++) {
			prune->maps[side][level] = map;
			map += UINT64_C(1) << bits[level];
		}
	}
	return prune;
}

void xf_spd_prune_free(struct prune *prune)
{
	if (!prune)
		return;
	xf_huge_free(prune->counts.slots, counts_bytes(&prune->counts));
	xf_huge_free(prune->memory, prune->map_bytes);
	free(prune);
}

static void prune_free_rcu(struct xf_rcu_head *head)
{
	xf_spd_prune_free(XF_CONTAINER_OF(head, struct prune, rcu));
}

void xf_spd_prune_free_later(struct prune *prune)
{
	if (prune)
		xf_rcu_defer(&prune->rcu, prune_free_rcu);
}

/* One side of a rule: the word that has the table's bit, and how its rules are counted. */
struct side {
	_Atomic uint32_t *word;
	uint32_t *always_count; /* or NULL: then in the map, under @key */
	uint64_t key;
};

static struct side side_of(struct prune *prune, const struct rule *rule, unsigned side)
{
	const union xf_addr *addr = side ? &rule->daddr : &rule->saddr;
	uint8_t bits = side ? rule->prefixlen_d : rule->prefixlen_s;
	unsigned table = xf_spd_node_root_table(prune->family, rule);
	unsigned level = xf_spd_node_level(prune->family, bits);
	struct side out = { 0 };

	if (level == 0) {
		out.word = &prune->always[side];
		out.always_count = &prune->always_counts[side][table];
		return out;
	}
	level = level > PRUNE_LEVELS ? PRUNE_LEVELS - 1 : level - 1;
	out.word = prune_entry(prune, side, level, prune_host(addr));
	/* At most 24 bits of the place, in all maps; never 0. */
	out.key = (uint64_t)(out.word - prune->maps[0][0]) * ROOT_TABLES + table + 1;
	return out;
}

void xf_spd_prune_prefetch_rule(struct prune *prune, const struct rule *rule)
{
	const struct prune_count_map *counts = &prune->counts;

	for (unsigned side = 0; side < PRUNE_SIDES; side++) {
		struct side of = side_of(prune, rule, side);

		__builtin_prefetch(of.word, 1);
		if (counts->slots && !of.always_count)
			__builtin_prefetch(&counts->slots[counts_home(counts, of.key)], 1);
	}
}

static bool add_side(struct prune *prune, const struct rule *rule, unsigned side)
{
	struct side of = side_of(prune, rule, side);
	uint32_t bit = 1u << xf_spd_node_root_table(prune->family, rule);
	bool first;

	if (of.always_count) {
		first = (*of.always_count)++ == 0;
	} else {
		uint64_t *slot;

		if (!counts_grow(&prune->counts))
			return false;
		slot = counts_find(&prune->counts, of.key);
		first = !*slot;
		if (first) {
			*slot = of.key << 32;
			prune->counts.count++;
		}
		++*slot;
	}
	if (first)
		atomic_fetch_or_explicit(of.word, bit, memory_order_release);
	return true;
}

static void del_side(struct prune *prune, const struct rule *rule, unsigned side)
{
	struct side of = side_of(prune, rule, side);
	uint32_t bit = 1u << xf_spd_node_root_table(prune->family, rule);
	bool last;

	if (of.always_count) {
		last = --*of.always_count == 0;
	} else {
		uint64_t *slot = counts_find(&prune->counts, of.key);

		last = (uint32_t)-- * slot == 0;
		if (last) {
			counts_close(&prune->counts, (uint32_t)(slot - prune->counts.slots));
			prune->counts.count--;
		}
	}
	if (last)
		atomic_fetch_and_explicit(of.word, ~bit, memory_order_release);
}

bool xf_spd_prune_add(struct prune *prune, const struct rule *rule)
{
	return add_side(prune, rule, 0) && add_side(prune, rule, 1);
}

void xf_spd_prune_del(struct prune *prune, const struct rule *rule)
{
	del_side(prune, rule, 0);
	del_side(prune, rule, 1);
}
