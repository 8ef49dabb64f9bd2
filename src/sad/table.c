/*
 * The tag is the hash's lower half, which chooses the bucket too, so that a table can be built anew
 * from its tags: nothing else is read, and a million entries take some milliseconds.
 */
#include <errno.h>
#include <stdlib.h>

#include <xf/huge.h>

#include "table.h"

#define BUCKETS_MIN 4u
/* Entries a bucket, on average: of 4, one in fifty stands in a second bucket. */
#define FULL 4u
#define SPARSE 1u

#define BUCKETS_MAX (1u << 30)

/* An entry of a bucket. */
struct entry {
	_Atomic uint32_t *tag, *seat;
};

static struct xf_table_buckets *current(const struct xf_table *table)
{
	return atomic_load_explicit(&table->buckets, memory_order_acquire);
}

static uint32_t get(const _Atomic uint32_t *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

static uint32_t seat_in(const _Atomic uint32_t *word)
{
	return get(word) & XF_TABLE_SEAT;
}

/* The release makes a seat whole for a reader before it can be met. */
static void set(_Atomic uint32_t *word, uint32_t value)
{
	atomic_store_explicit(word, value, memory_order_release);
}

static struct xf_table_bucket *next_of(const struct xf_table_bucket *bucket)
{
	return atomic_load_explicit(&bucket->next, memory_order_acquire);
}

static size_t array_size(uint32_t mask)
{
	return ((size_t)mask + 1) * sizeof(struct xf_table_bucket);
}

static struct xf_table_bucket *bucket_new(void)
{
	struct xf_table_bucket *bucket = aligned_alloc(XF_CACHE_LINE, sizeof(*bucket));

	if (bucket)
		memset(bucket, 0, sizeof(*bucket));
	return bucket;
}

static struct xf_table_buckets *buckets_new(uint32_t count)
{
	struct xf_table_buckets *buckets = malloc(sizeof(*buckets));

	if (!buckets)
		return NULL;
	buckets->mask = count - 1;
	buckets->array = xf_huge_alloc(array_size(buckets->mask));
	if (!buckets->array) {
		free(buckets);
		return NULL;
	}
	return buckets;
}

static void buckets_free(struct xf_table_buckets *buckets)
{
	for (uint32_t i = 0; i <= buckets->mask; i++) {
		struct xf_table_bucket *bucket = next_of(&buckets->array[i]), *next;

		for (; bucket; bucket = next) {
			next = next_of(bucket);
			free(bucket);
		}
	}
	xf_huge_free(buckets->array, array_size(buckets->mask));
	free(buckets);
}

static void buckets_free_deferred(struct xf_rcu_head *head)
{
	buckets_free(XF_CONTAINER_OF(head, struct xf_table_buckets, rcu));
}

int xf_table_init(struct xf_table *table)
{
	struct xf_table_buckets *buckets = buckets_new(BUCKETS_MIN);

	if (!buckets)
		return -ENOMEM;
	memset(table, 0, sizeof(*table));
	atomic_init(&table->buckets, buckets);
	return 0;
}

void xf_table_fini(struct xf_table *table)
{
	buckets_free(current(table));
	free(table->spare);
}

int xf_table_reserve(struct xf_table *table)
{
	if (!table->spare)
		table->spare = bucket_new();
	return table->spare ? 0 : -ENOMEM;
}

static struct entry entry_in(struct xf_table_bucket *bucket, unsigned i)
{
	return (struct entry){ &bucket->tags[i], &bucket->seats[i] };
}

/* A reader may meet the new tag and still the seat that was there before: it compares seats. */
static void set_entry(struct entry entry, uint32_t tag, uint32_t seat)
{
	atomic_store_explicit(entry.tag, tag, memory_order_relaxed);
	set(entry.seat, seat);
}

/*
 * A free entry in the bucket of @tag; where all are taken, in @spare, which is used up then. No
 * tag: there is none.
 */
static struct entry free_entry(struct xf_table_buckets *buckets, uint32_t tag,
			       struct xf_table_bucket **spare)
{
	struct xf_table_bucket *bucket = &buckets->array[tag & buckets->mask];

	for (;; bucket = next_of(bucket)) {
		for (unsigned i = 0; i < XF_TABLE_ENTRIES; i++) {
			if (!get(&bucket->seats[i]))
				return entry_in(bucket, i);
		}
		if (!next_of(bucket))
			break;
	}
	if (!*spare)
		return (struct entry){ NULL, NULL };
	atomic_store_explicit(&bucket->next, *spare, memory_order_release);
	bucket = *spare;
	*spare = NULL;
	return entry_in(bucket, 0);
}

static bool copy_entry(struct xf_table_buckets *to, uint32_t tag, uint32_t seat,
		       struct xf_table_bucket **spare)
{
	struct entry entry;

	if (!*spare)
		*spare = bucket_new();
	entry = free_entry(to, tag, spare);
	if (!entry.tag)
		return false;
	set_entry(entry, tag, seat);
	return true;
}

static bool copy_bucket(struct xf_table_buckets *to, const struct xf_table_bucket *from,
			struct xf_table_bucket **spare)
{
	for (unsigned i = 0; i < XF_TABLE_ENTRIES; i++) {
		uint32_t seat = get(&from->seats[i]);

		if (seat && !copy_entry(to, get(&from->tags[i]), seat, spare))
			return false;
	}
	return true;
}

static bool copy_all(const struct xf_table_buckets *from, struct xf_table_buckets *to)
{
	struct xf_table_bucket *spare = NULL;
	bool fine = true;

	for (uint32_t i = 0; i <= from->mask; i++) {
		for (const struct xf_table_bucket *b = &from->array[i]; b && fine; b = next_of(b))
			fine = copy_bucket(to, b, &spare);
	}
	free(spare);
	return fine;
}

/* Without memory the table stays as it is, and works as well, but slower. */
static void resize(struct xf_table *table, uint32_t count)
{
	struct xf_table_buckets *old = current(table);
	struct xf_table_buckets *new = buckets_new(count);

	if (!new)
		return;
	if (!copy_all(old, new)) {
		buckets_free(new);
		return;
	}
	atomic_store_explicit(&table->buckets, new, memory_order_release);
	xf_rcu_defer(&old->rcu, buckets_free_deferred);
}

static void fit(struct xf_table *table)
{
	uint64_t count = (uint64_t)current(table)->mask + 1;

	if (table->entries > count * FULL && count < BUCKETS_MAX)
		resize(table, (uint32_t)count * 2);
	else if (table->entries < count * SPARSE && count > BUCKETS_MIN)
		resize(table, (uint32_t)count / 2);
}

/* The entry for the key that @hash is made of; no tag: there is none. */
static struct entry entry_of(struct xf_table *table, const struct xf_table_place *place,
			     uint64_t hash)
{
	struct xf_table_buckets *buckets = current(table);
	struct xf_table_bucket *bucket = &buckets->array[hash & buckets->mask];

	for (; bucket; bucket = next_of(bucket)) {
		uint32_t mask = xf_table_matches(bucket, (uint32_t)hash);

		for (; mask; mask &= mask - 1) {
			struct entry entry = entry_in(bucket, (unsigned)__builtin_ctz(mask));
			uint32_t head = seat_in(entry.seat);

			if (head && place->hash(place, head) == hash)
				return entry;
		}
	}
	return (struct entry){ NULL, NULL };
}

static void put_in_front(const struct xf_table_place *place, _Atomic uint32_t *seat,
			 uint32_t number)
{
	uint32_t old = seat_in(seat);
	struct xf_seat_chain *new = xf_seat_chain_at(place->seats, number);
	struct xf_seat_chain *behind = xf_seat_chain_at(place->seats, old);

	/* Alone so far, it has nothing written there. */
	if (!(get(seat) & XF_TABLE_CHAINED))
		atomic_store_explicit(&behind->next[place->which], 0, memory_order_relaxed);
	behind->prev[place->which] = number;
	new->prev[place->which] = 0;
	atomic_store_explicit(&new->next[place->which], old, memory_order_relaxed);
	set(seat, number | XF_TABLE_CHAINED);
}

void xf_table_add(struct xf_table *table, const struct xf_table_place *place, uint64_t hash,
		  uint32_t number)
{
	struct entry entry = entry_of(table, place, hash);

	if (entry.tag) {
		put_in_front(place, entry.seat, number);
		return;
	}
	entry = free_entry(current(table), (uint32_t)hash, &table->spare);
	set_entry(entry, (uint32_t)hash, number);
	table->entries++;
	fit(table);
}

/* What it points to is left: a reader that stands on it goes on from there. */
static void unchain(const struct xf_table_place *place, _Atomic uint32_t *seat, uint32_t number)
{
	enum xf_sa_table which = place->which;
	struct xf_seat_chain *chain = xf_seat_chain_at(place->seats, number);
	uint32_t next = get(&chain->next[which]);
	uint32_t prev = chain->prev[which];
	uint32_t head = prev ? seat_in(seat) : next;

	if (next)
		xf_seat_chain_at(place->seats, next)->prev[which] = prev;
	if (prev)
		set(&xf_seat_chain_at(place->seats, prev)->next[which], next);
	if (head && get(&xf_seat_chain_at(place->seats, head)->next[which]))
		head |= XF_TABLE_CHAINED;
	set(seat, head);
}

void xf_table_del(struct xf_table *table, const struct xf_table_place *place, uint64_t hash,
		  uint32_t number)
{
	struct entry entry = entry_of(table, place, hash);

	if (get(entry.seat) & XF_TABLE_CHAINED)
		unchain(place, entry.seat, number);
	else
		set(entry.seat, 0);
	if (get(entry.seat))
		return;
	table->entries--;
	fit(table);
}

/* To the next entry that matches, in this bucket or behind it. */
static inline void next_entry(struct xf_table_walk *walk)
{
	walk->number = 0;
	while (walk->bucket) {
		while (walk->matches) {
			unsigned i = (unsigned)__builtin_ctz(walk->matches);
			uint32_t seat =
				atomic_load_explicit(&walk->bucket->seats[i], memory_order_acquire);

			walk->matches &= walk->matches - 1;
			walk->number = seat & XF_TABLE_SEAT;
			walk->chained = seat & XF_TABLE_CHAINED;
			if (walk->number)
				return;
		}
		walk->bucket = next_of(walk->bucket);
		walk->matches = walk->bucket ? xf_table_matches(walk->bucket, walk->tag) : 0;
	}
}

void xf_table_first(const struct xf_table *table, enum xf_sa_table which, uint64_t hash,
		    struct xf_table_walk *walk)
{
	const struct xf_table_buckets *buckets = current(table);

	walk->which = which;
	walk->tag = (uint32_t)hash;
	walk->bucket = &buckets->array[hash & buckets->mask];
	walk->matches = xf_table_matches(walk->bucket, walk->tag);
	next_entry(walk);
}

void xf_table_next(const struct xf_seats *seats, struct xf_table_walk *walk)
{
	if (walk->chained) {
		const struct xf_seat_chain *chain = xf_seat_chain_at(seats, walk->number);

		walk->number =
			atomic_load_explicit(&chain->next[walk->which], memory_order_acquire);
		if (walk->number)
			return;
	}
	next_entry(walk);
}
