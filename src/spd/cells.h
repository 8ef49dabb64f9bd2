/*
 * cells.h - a hash table of rule numbers: a bucket is a cache line of twelve tags and numbers.
 *
 * A lookup reads one line and then only rules whose tag is right (the prototype of this is
 * Facebook's F14). What finds no room goes to the next bucket, and each bucket that it passed
 * counts it: so a search knows where it may end, and taking out leaves no tombstones.
 *
 * Threads: one writer, readers under RCU. A tag is published after its number. Nobody is moved
 * within a table, and a larger one is published as a whole.
 */
#ifndef XF_SPD_CELLS_H
#define XF_SPD_CELLS_H

#include <stdatomic.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include <xf/base.h>

#define CELL_SLOTS 12
#define CELL_SLOTS_MASK ((1u << CELL_SLOTS) - 1)

struct bucket {
	/* Tags are bytes, 0 = free: eight, then four, above which passers-by are counted. */
	_Atomic uint64_t tags[2];
	_Atomic uint32_t ids[CELL_SLOTS];
};
_Static_assert(sizeof(struct bucket) == XF_CACHE_LINE, "a bucket is a cache line");

#define CELL_PASSED_SHIFT 32

/* Buckets and their number as one word, so that readers see both or neither: 0 = none. */
typedef uintptr_t cells_word;
#define CELLS_BITS_MASK ((cells_word)31)

static inline struct bucket *cells_buckets(cells_word cells)
{
	return (struct bucket *)(cells & ~(cells_word)63);
}

static inline uint32_t cells_mask(cells_word cells)
{
	return (1u << (cells & CELLS_BITS_MASK)) - 1;
}

static inline uint8_t cells_tag(uint64_t hash)
{
	return (uint8_t)((hash & 255) + ((hash & 255) == 0));
}

static inline uint32_t cells_home(cells_word cells, uint64_t hash)
{
	return (uint32_t)(hash >> 32) & cells_mask(cells);
}

/* The high bit of each byte of @tags that equals @tag. */
static inline uint64_t cells_equal(uint64_t tags, uint8_t tag)
{
	const uint64_t low = 0x7f7f7f7f7f7f7f7full;
	uint64_t x = tags ^ tag * 0x0101010101010101ull;

	return ~(((x & low) + low) | x | low);
}

/* Those high bits side by side: bit i is byte i. */
static inline uint32_t cells_gather(uint64_t equal)
{
	return (uint32_t)((equal >> 7) * 0x0102040810204080ull >> 56);
}

/* Which of the bytes of @low, then @high, are @tag: bit i is byte i. */
static inline uint32_t cells_slots_portable(uint64_t low, uint64_t high, uint8_t tag)
{
	return cells_gather(cells_equal(low, tag)) | cells_gather(cells_equal(high, tag)) << 8;
}

#ifdef __SSE2__
static inline uint32_t cells_slots_with(uint64_t low, uint64_t high, uint8_t tag)
{
	__m128i tags = _mm_set_epi64x((long long)high, (long long)low);

	return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(tags, _mm_set1_epi8((char)tag)));
}
#else
#define cells_slots_with cells_slots_portable
#endif

/* The slots of @bucket with @tag, as bits. */
static inline uint32_t cells_match(const struct bucket *bucket, uint8_t tag, bool *more)
{
	uint64_t low = atomic_load_explicit(&bucket->tags[0], memory_order_acquire);
	uint64_t high = atomic_load_explicit(&bucket->tags[1], memory_order_acquire);

	*more = high >> CELL_PASSED_SHIFT;
	return cells_slots_with(low, high, tag) & CELL_SLOTS_MASK;
}

/* The slot of the lowest bit of such a bitmap; any slot when there is none. */
static inline unsigned cells_slot_of(uint32_t found)
{
	return (unsigned)__builtin_ctz(found | 1u << (CELL_SLOTS - 1));
}

/* Where a search is. Slots come one by one; at the end of a bucket the next one is looked at. */
struct cells_iter {
	cells_word cells;
	uint32_t at;
	uint8_t tag;
	bool more;
	uint32_t found;
	struct bucket *bucket;
};

static inline void cells_look(struct cells_iter *it)
{
	it->bucket = &cells_buckets(it->cells)[it->at];
	it->found = cells_match(it->bucket, it->tag, &it->more);
}

static inline struct cells_iter cells_begin(cells_word cells, uint64_t hash)
{
	struct cells_iter it = { .cells = cells,
				 .at = cells_home(cells, hash),
				 .tag = cells_tag(hash) };

	cells_look(&it);
	return it;
}

/* The next slot with the right tag, or NULL. */
static inline _Atomic uint32_t *cells_next(struct cells_iter *it)
{
	unsigned slot;

	while (!it->found) {
		if (!it->more)
			return NULL;
		it->at = (it->at + 1) & cells_mask(it->cells);
		cells_look(it);
	}
	slot = cells_slot_of(it->found);
	it->found &= it->found - 1;
	return &it->bucket->ids[slot];
}

/* 1 << @bits empty buckets, or 0 without memory. */
cells_word xf_spd_cells_new(unsigned bits);

/* No reader is left. 0 is allowed. */
void xf_spd_cells_free(cells_word cells);

/*
 * What is needed to free @cells after a grace period, prepared before it is replaced: NULL without
 * memory. xf_spd_cells_retire() starts the grace period; xf_spd_cells_keep() is for when nothing
 * was replaced.
 */
struct old_cells;
struct old_cells *xf_spd_cells_prepare(cells_word cells);
void xf_spd_cells_retire(struct old_cells *old);
void xf_spd_cells_keep(struct old_cells *old);

/* The number of bits for @count entries at good speed. */
unsigned xf_spd_cells_bits_for(uint32_t count);

/* There is room: two thirds full at most. */
void xf_spd_cells_put(cells_word cells, uint64_t hash, uint32_t id);

/* The slot that holds @id, which is there. */
_Atomic uint32_t *xf_spd_cells_slot(cells_word cells, uint64_t hash, uint32_t id);

void xf_spd_cells_del(cells_word cells, uint64_t hash, uint32_t id);

#endif
