#include <stdlib.h>

#include "io/cover.h"

#define SIZE_MIN 64

static const uint8_t lens[2][XF_COVER_LENS] = {
	{ 32, 28, 24, 20, 16, 12, 8, 4, 0 },
	{ 128, 64, 56, 48, 40, 32, 24, 16, 0 },
};

uint8_t xf_cover_len(bool six, unsigned rung)
{
	return lens[six][rung];
}

static void mask_addr(union xf_addr *addr, uint8_t bits)
{
	for (unsigned i = 0; i < sizeof(addr->bytes); i++) {
		unsigned here = bits > 8 * i ? xf_min_u32(bits - 8 * i, 8) : 0;

		addr->bytes[i] = (uint8_t)(addr->bytes[i] & (0xff00u >> here));
	}
}

/* Whoever chooses policies may make a chain long; it is walked in the control thread alone. */
static size_t bucket_of(const struct xf_cover *cover, const struct xf_cell *cell)
{
	uint64_t hash = cell->addr.quad[0] * 0x9e3779b97f4a7c15ull ^
			cell->addr.quad[1] * 0xff51afd7ed558ccdull ^
			(uint64_t)(cell->rung * 2u + cell->six) << 56;

	hash = (hash ^ hash >> 32) * 0xc4ceb9fe1a85ec53ull;
	return (hash >> 32) & (cover->size - 1);
}

static void put(struct xf_cover *cover, struct xf_cell *cell)
{
	struct xf_cell **bucket = &cover->buckets[bucket_of(cover, cell)];

	cell->next = *bucket;
	*bucket = cell;
}

/* All cells leave the table, as a list. */
static struct xf_cell *take_all(struct xf_cover *cover)
{
	struct xf_cell *all = NULL;

	for (size_t i = 0; i < cover->size; i++) {
		struct xf_cell *next;

		for (struct xf_cell *cell = cover->buckets[i]; cell; cell = next) {
			next = cell->next;
			cell->next = all;
			all = cell;
		}
		cover->buckets[i] = NULL;
	}
	return all;
}

static void put_all(struct xf_cover *cover, struct xf_cell *all)
{
	struct xf_cell *next;

	for (; all; all = next) {
		next = all->next;
		put(cover, all);
	}
}

/* A table that cannot grow has longer chains. */
static void resize(struct xf_cover *cover, size_t size)
{
	struct xf_cell **buckets = calloc(size, sizeof(*buckets));
	struct xf_cell *all;

	if (!buckets)
		return;
	all = take_all(cover);
	free(cover->buckets);
	cover->buckets = buckets;
	cover->size = size;
	put_all(cover, all);
}

void xf_cover_fini(struct xf_cover *cover)
{
	struct xf_cell *all = take_all(cover);
	struct xf_cell *next;

	for (; all; all = next) {
		next = all->next;
		free(all);
	}
	free(cover->buckets);
	*cover = (struct xf_cover){ .failed = false };
}

static void make_pending(struct xf_cover *cover, struct xf_cell *cell)
{
	if (cell->pending)
		return;
	cell->pending = true;
	cell->next_pending = cover->pending;
	cover->pending = cell;
}

static struct xf_cell *find(const struct xf_cover *cover, const struct xf_cell *key)
{
	struct xf_cell *cell = cover->size ? cover->buckets[bucket_of(cover, key)] : NULL;

	while (cell && (cell->rung != key->rung || cell->six != key->six ||
			memcmp(&cell->addr, &key->addr, sizeof(key->addr)) != 0))
		cell = cell->next;
	return cell;
}

static struct xf_cell *find_or_make(struct xf_cover *cover, const struct xf_cell *key)
{
	struct xf_cell *cell = find(cover, key);

	if (cell)
		return cell;
	cell = cover->size ? malloc(sizeof(*cell)) : NULL;
	if (!cell)
		return NULL;
	*cell = *key;
	put(cover, cell);
	cover->count++;
	return cell;
}

/* @n policies more, or fewer, in the cell that is like @key. */
static void count(struct xf_cover *cover, const struct xf_cell *key, uint32_t n, bool there)
{
	struct xf_cover_family *family = &cover->family[key->six];
	struct xf_cell *cell = there ? find_or_make(cover, key) : find(cover, key);
	bool had;

	if (!cell) {
		cover->failed = cover->failed || there;
		return;
	}
	had = cell->count != 0;
	cell->count = there ? cell->count + n : cell->count - n;
	if (had == (cell->count != 0))
		return;
	family->cells += there ? 1u : -1u;
	family->at_rung[cell->rung] += there ? 1u : -1u;
	make_pending(cover, cell);
}

/* Cells of @family that are longer than its finest rung allows become parts of shorter ones. */
static void cut_cells(struct xf_cover *cover, bool six)
{
	uint8_t finest = cover->family[six].finest;

	for (size_t i = cover->size; i-- > 0;) {
		struct xf_cell *next;

		for (struct xf_cell *cell = cover->buckets[i]; cell; cell = next) {
			struct xf_cell key = { .addr = cell->addr, .six = six, .rung = finest };

			next = cell->next;
			if (cell->six != six || cell->rung >= finest || !cell->count)
				continue;
			mask_addr(&key.addr, xf_cover_len(six, finest));
			count(cover, &key, cell->count, true);
			count(cover, cell, cell->count, false);
		}
	}
}

static void coarsen(struct xf_cover *cover, bool six)
{
	struct xf_cover_family *family = &cover->family[six];

	while (family->cells > XF_COVER_MAX && family->finest < XF_COVER_LENS - 1) {
		family->finest++;
		cut_cells(cover, six);
	}
}

static void change(struct xf_cover *cover, const struct xf_selector *sel, bool six, bool there)
{
	struct xf_cover_family *family = &cover->family[six];
	struct xf_cell key = { .addr = sel->daddr, .six = six, .rung = family->finest };
	uint8_t bits = sel->family ? sel->prefixlen_d : 0;

	while (lens[six][key.rung] > bits)
		key.rung++;
	mask_addr(&key.addr, lens[six][key.rung]);
	/* Here and nowhere else, so that the table does not move under cut_cells(). */
	if (there && cover->count >= cover->size)
		resize(cover, cover->size ? cover->size * 2 : SIZE_MIN);
	family->policies += there ? 1u : -1u;
	count(cover, &key, 1, there);
	if (family->cells > XF_COVER_MAX)
		coarsen(cover, six);
}

void xf_cover_change(struct xf_cover *cover, const struct xf_selector *sel, bool there)
{
	if (sel->family != XF_AF_INET6)
		change(cover, sel, false, there);
	if (sel->family != XF_AF_INET)
		change(cover, sel, true, there);
}

bool xf_cover_is_too_coarse(const struct xf_cover *cover)
{
	for (unsigned six = 0; six < 2; six++) {
		const struct xf_cover_family *family = &cover->family[six];

		if (family->finest > 0 && family->policies < XF_COVER_MAX / 4)
			return true;
	}
	return cover->failed;
}

static void empty(void *arg, struct xf_cell *cell)
{
	cell->count = 0;
	make_pending(arg, cell);
}

void xf_cover_restart(struct xf_cover *cover)
{
	xf_cover_each(cover, empty, cover);
	memset(cover->family, 0, sizeof(cover->family));
	cover->failed = false;
}

uint32_t xf_cover_rungs(const struct xf_cover *cover, bool six)
{
	uint32_t rungs = 0;

	for (unsigned i = 0; i < XF_COVER_LENS; i++)
		rungs |= (uint32_t)(cover->family[six].at_rung[i] != 0) << i;
	return rungs;
}

void xf_cover_lost(struct xf_cover *cover, enum xf_cell_at where)
{
	for (size_t i = 0; i < cover->size; i++) {
		for (struct xf_cell *cell = cover->buckets[i]; cell; cell = cell->next) {
			cell->at = (uint8_t)(cell->at & ~where);
			make_pending(cover, cell);
		}
	}
}

void xf_cover_each(const struct xf_cover *cover, void (*visit)(void *arg, struct xf_cell *cell),
		   void *arg)
{
	for (size_t i = 0; i < cover->size; i++) {
		for (struct xf_cell *cell = cover->buckets[i]; cell; cell = cell->next) {
			if (cell->count)
				visit(arg, cell);
		}
	}
}

static void remove_cell(struct xf_cover *cover, struct xf_cell *cell)
{
	struct xf_cell **at = &cover->buckets[bucket_of(cover, cell)];

	while (*at != cell)
		at = &(*at)->next;
	*at = cell->next;
	free(cell);
	cover->count--;
}

void xf_cover_settled(struct xf_cover *cover)
{
	struct xf_cell *next;

	for (struct xf_cell *cell = cover->pending; cell; cell = next) {
		next = cell->next_pending;
		cell->pending = false;
		if (!cell->count && !cell->at)
			remove_cell(cover, cell);
	}
	cover->pending = NULL;
	if (cover->size > SIZE_MIN && cover->count < cover->size / 8)
		resize(cover, cover->size / 4 > SIZE_MIN ? cover->size / 4 : SIZE_MIN);
}
