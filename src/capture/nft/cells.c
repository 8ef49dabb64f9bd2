#include <errno.h>
#include <stdlib.h>

#include "capture/nft/cells.h"

#define SIZE_MIN 64

void xf_cell_mask(union xf_addr *addr, uint8_t bits)
{
	for (unsigned i = 0; i < sizeof(addr->bytes); i++) {
		unsigned here = bits > 8 * i ? xf_min_u32(bits - 8 * i, 8) : 0;

		addr->bytes[i] = (uint8_t)(addr->bytes[i] & (0xff00u >> here));
	}
}

static uint64_t mix(uint64_t hash, uint64_t word)
{
	hash = (hash ^ word) * 0xff51afd7ed558ccdull;
	return hash ^ hash >> 32;
}

/* Whoever chooses policies may make a chain long; it is walked in the control thread alone. */
static size_t bucket_of(const struct xf_cells *cells, const struct xf_cell_key *key)
{
	uint64_t words[sizeof(*key) / sizeof(uint64_t)];
	uint64_t hash = 0;

	memcpy(words, key, sizeof(words));
	for (unsigned i = 0; i < XF_ARRAY_SIZE(words); i++)
		hash = mix(hash, words[i]);
	return hash & (cells->size - 1);
}

static void put(struct xf_cells *cells, struct xf_cell *cell)
{
	struct xf_cell **bucket = &cells->buckets[bucket_of(cells, &cell->key)];

	cell->next = *bucket;
	*bucket = cell;
}

/* All cells leave the table, as a list. */
static struct xf_cell *take_all(struct xf_cells *cells)
{
	struct xf_cell *all = NULL;

	for (size_t i = 0; i < cells->size; i++) {
		struct xf_cell *next;

		for (struct xf_cell *cell = cells->buckets[i]; cell; cell = next) {
			next = cell->next;
			cell->next = all;
			all = cell;
		}
		cells->buckets[i] = NULL;
	}
	return all;
}

static void put_all(struct xf_cells *cells, struct xf_cell *all)
{
	struct xf_cell *next;

	for (; all; all = next) {
		next = all->next;
		put(cells, all);
	}
}

/* A table that cannot grow has longer chains. */
static void resize(struct xf_cells *cells, size_t size)
{
	struct xf_cell **buckets = calloc(size, sizeof(*buckets));
	struct xf_cell *all;

	if (!buckets)
		return;
	all = take_all(cells);
	free(cells->buckets);
	cells->buckets = buckets;
	cells->size = size;
	put_all(cells, all);
}

void xf_cells_fini(struct xf_cells *cells)
{
	struct xf_cell *all = take_all(cells);
	struct xf_cell *next;

	for (; all; all = next) {
		next = all->next;
		free(all);
	}
	free(cells->buckets);
	*cells = (struct xf_cells){ .size = 0 };
}

void xf_cells_grow(struct xf_cells *cells)
{
	if (cells->count >= cells->size)
		resize(cells, cells->size ? cells->size * 2 : SIZE_MIN);
}

void xf_cells_reserve(struct xf_cells *cells, size_t count)
{
	size_t size = SIZE_MIN;

	while (size < count)
		size *= 2;
	if (size > cells->size)
		resize(cells, size);
}

static void make_pending(struct xf_cells *cells, struct xf_cell *cell)
{
	if (cell->pending)
		return;
	cell->pending = true;
	cell->next_pending = cells->pending;
	cells->pending = cell;
}

static struct xf_cell *find(const struct xf_cells *cells, const struct xf_cell_key *key)
{
	struct xf_cell *cell = cells->size ? cells->buckets[bucket_of(cells, key)] : NULL;

	while (cell && memcmp(&cell->key, key, sizeof(*key)) != 0)
		cell = cell->next;
	return cell;
}

static struct xf_cell *find_or_make(struct xf_cells *cells, const struct xf_cell_key *key)
{
	struct xf_cell *cell = find(cells, key);

	if (cell)
		return cell;
	cell = cells->size ? calloc(1, sizeof(*cell)) : NULL;
	if (!cell)
		return NULL;
	cell->key = *key;
	put(cells, cell);
	cells->count++;
	return cell;
}

int xf_cells_count(struct xf_cells *cells, const struct xf_cell_key *key, uint32_t n, bool there)
{
	struct xf_cell *cell = there ? find_or_make(cells, key) : find(cells, key);
	bool had = cell && cell->count;

	if (!cell)
		return there ? -ENOMEM : 0;
	cell->count = there ? cell->count + n : cell->count - n;
	if (had == (cell->count != 0))
		return 0;
	make_pending(cells, cell);
	return there ? 1 : -1;
}

static void empty(void *arg, struct xf_cell *cell)
{
	cell->count = 0;
	make_pending(arg, cell);
}

void xf_cells_empty(struct xf_cells *cells)
{
	xf_cells_each(cells, empty, cells);
}

void xf_cells_lost(struct xf_cells *cells, enum xf_cell_at where)
{
	for (size_t i = 0; i < cells->size; i++) {
		for (struct xf_cell *cell = cells->buckets[i]; cell; cell = cell->next) {
			cell->at = (uint8_t)(cell->at & ~where);
			make_pending(cells, cell);
		}
	}
}

void xf_cells_standing(const struct xf_cells *cells, enum xf_cell_at where,
		       void (*visit)(void *arg, const struct xf_cell *cell), void *arg)
{
	for (size_t i = 0; i < cells->size; i++) {
		for (const struct xf_cell *cell = cells->buckets[i]; cell; cell = cell->next) {
			if (cell->at & where)
				visit(arg, cell);
		}
	}
}

void xf_cells_each(const struct xf_cells *cells, void (*visit)(void *arg, struct xf_cell *cell),
		   void *arg)
{
	for (size_t i = 0; i < cells->size; i++) {
		for (struct xf_cell *cell = cells->buckets[i]; cell; cell = cell->next) {
			if (cell->count)
				visit(arg, cell);
		}
	}
}

static void remove_cell(struct xf_cells *cells, struct xf_cell *cell)
{
	struct xf_cell **at = &cells->buckets[bucket_of(cells, &cell->key)];

	while (*at != cell)
		at = &(*at)->next;
	*at = cell->next;
	free(cell);
	cells->count--;
}

struct group {
	struct xf_cell *first;
	struct xf_cell *last;
};

/* Without memory they stay as they are: that is slower and no more. */
void xf_cells_group(struct xf_cells *cells, uint32_t sets)
{
	struct group *groups = cells->pending ? calloc(sets, sizeof(*groups)) : NULL;
	struct xf_cell **end = &cells->pending;

	if (!groups)
		return;
	for (struct xf_cell *cell = cells->pending; cell; cell = cell->next_pending) {
		struct group *group = &groups[cell->key.set];

		if (group->last)
			group->last->next_pending = cell;
		else
			group->first = cell;
		group->last = cell;
	}
	for (uint32_t i = 0; i < sets; i++) {
		if (!groups[i].first)
			continue;
		*end = groups[i].first;
		end = &groups[i].last->next_pending;
	}
	*end = NULL;
	free(groups);
}

void xf_cells_sweep(struct xf_cells *cells)
{
	struct xf_cell **link = &cells->pending;

	while (*link) {
		struct xf_cell *cell = *link;

		if (cell->count || cell->at) {
			link = &cell->next_pending;
			continue;
		}
		*link = cell->next_pending;
		remove_cell(cells, cell);
	}
}

void xf_cells_settled(struct xf_cells *cells)
{
	struct xf_cell *next;

	for (struct xf_cell *cell = cells->pending; cell; cell = next) {
		next = cell->next_pending;
		cell->pending = false;
		if (!cell->count && !cell->at)
			remove_cell(cells, cell);
	}
	cells->pending = NULL;
	if (cells->size > SIZE_MIN && cells->count < cells->size / 8)
		resize(cells, cells->size / 4 > SIZE_MIN ? cells->size / 4 : SIZE_MIN);
}
