/*
 * table.h - seats by a hash of their key: buckets of one cache line, read without a lock.
 *
 * A bucket has seven entries, each 32 bits of the hash (a tag) and a seat's number, and the address
 * of another bucket, for the few that overflow. Entries never move inside of a table, and one that
 * goes away leaves a free place, not a tombstone. Seats of one key share an entry: the
 * newest stands in it, the others hang behind it in a chain, so that nobody can fill buckets with
 * one key.
 *
 * One writer; readers inside an RCU section. A new size is built aside from the tags alone and
 * published; readers of the old one go on in it.
 */
#ifndef XF_SAD_TABLE_H
#define XF_SAD_TABLE_H

#include <stdatomic.h>

#if defined(__SSE2__) && !defined(__SANITIZE_THREAD__)
#include <emmintrin.h>
#endif

#include <xf/rcu.h>

#include "seat.h"

#define XF_TABLE_ENTRIES 7

/*
 * An entry's seat: with XF_TABLE_CHAINED it has others of its key behind it; 0 = the entry is free.
 * Three bits are free, for what is to be known before a seat is fetched.
 */
#define XF_TABLE_SEAT ((1u << XF_SEAT_BITS) - 1)
#define XF_TABLE_CHAINED (1u << 31)
_Static_assert(!(XF_TABLE_SEAT & XF_TABLE_CHAINED), "a number says nothing else");

struct xf_table_bucket {
	_Alignas(XF_CACHE_LINE) _Atomic uint32_t tags[XF_TABLE_ENTRIES];
	_Atomic uint32_t seats[XF_TABLE_ENTRIES];
	_Atomic(struct xf_table_bucket *) next;
};

struct xf_table_buckets {
	struct xf_rcu_head rcu;
	struct xf_table_bucket *array;
	uint32_t mask;
};

struct xf_table {
	_Atomic(struct xf_table_buckets *) buckets; /* published by RCU */
	/* Writer. */
	struct xf_table_bucket *spare; /* xf_table_reserve() left it */
	uint32_t entries; /* keys, not seats */
};

/* Where a seat is linked: its SAD's seats, and how keys are told apart. */
struct xf_table_place {
	const struct xf_seats *seats;
	enum xf_sa_table which;
	uint64_t (*hash)(const struct xf_table_place *place,
			 uint32_t number); /* of a linked seat */
};

int xf_table_init(struct xf_table *table); /* 0 or -ENOMEM */

/* Without readers. Seats are not looked at. */
void xf_table_fini(struct xf_table *table);

/* The next xf_table_add() needs no memory any more: 0 or -ENOMEM. */
int xf_table_reserve(struct xf_table *table);

void xf_table_add(struct xf_table *table, const struct xf_table_place *place, uint64_t hash,
		  uint32_t number);
void xf_table_del(struct xf_table *table, const struct xf_table_place *place, uint64_t hash,
		  uint32_t number);

/* A walk over the seats that may have the key @hash is made of: the caller compares. */
struct xf_table_walk {
	uint32_t number; /* a seat, or 0: no more */
	bool chained; /* there are others behind it */
	/* Private. */
	const struct xf_table_bucket *bucket;
	uint32_t tag;
	uint32_t matches; /* entries of the bucket that are still to be visited */
	enum xf_sa_table which;
};
void xf_table_first(const struct xf_table *table, enum xf_sa_table which, uint64_t hash,
		    struct xf_table_walk *walk);
void xf_table_next(const struct xf_seats *seats, struct xf_table_walk *walk);

#if defined(__SSE2__) && !defined(__SANITIZE_THREAD__)
/* One bit for each entry that has the tag, free ones among them. Each lane is loaded as a
 * whole, as an atomic load would; the eighth is a seat. */
static inline uint32_t xf_table_matches(const struct xf_table_bucket *bucket, uint32_t tag)
{
	const __m128i *tags = (const __m128i *)bucket;
	const __m128i wanted = _mm_set1_epi32((int)tag);
	__m128i low = _mm_cmpeq_epi32(_mm_load_si128(&tags[0]), wanted);
	__m128i high = _mm_cmpeq_epi32(_mm_load_si128(&tags[1]), wanted);
	int mask = _mm_movemask_ps(_mm_castsi128_ps(low)) | _mm_movemask_ps(_mm_castsi128_ps(high))
								    << 4;

	return (uint32_t)mask & ((1u << XF_TABLE_ENTRIES) - 1);
}
#else
/* The same where lanes cannot be compared at once, or TSan would not know why they may. */
static inline uint32_t xf_table_matches(const struct xf_table_bucket *bucket, uint32_t tag)
{
	uint32_t mask = 0;

	for (unsigned i = 0; i < XF_TABLE_ENTRIES; i++)
		mask |= (uint32_t)(atomic_load_explicit(&bucket->tags[i], memory_order_relaxed) ==
				   tag)
			<< i;
	return mask;
}
#endif

/* For batches, so that their misses overlap: the bucket of @hash, to be fetched. */
static inline const struct xf_table_bucket *xf_table_bucket_of(const struct xf_table *table,
							       uint64_t hash)
{
	const struct xf_table_buckets *buckets =
		atomic_load_explicit(&table->buckets, memory_order_acquire);

	return &buckets->array[hash & buckets->mask];
}

/* Then the first seat in it that may be the one, perhaps with XF_TABLE_CHAINED; 0 = none. */
static inline uint32_t xf_table_peek(const struct xf_table_bucket *bucket, uint64_t hash)
{
	uint32_t mask = xf_table_matches(bucket, (uint32_t)hash);

	if (!mask)
		return 0;
	return atomic_load_explicit(&bucket->seats[__builtin_ctz(mask)], memory_order_acquire);
}

#endif
