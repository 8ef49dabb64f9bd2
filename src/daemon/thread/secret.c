#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "secret.h"

/*
 * Chunks are never unmapped: one that is mapped again would have to be locked again, and that can
 * fail. The pages of one that nobody uses any more are given back, and it waits, locked as before,
 * for blocks of any length; but for the last one of each length, which stays as it is.
 *
 * A large chunk is cut to blocks of one length, in cache lines, side by side: with powers of two
 * the same lines of all keys would fall into a few sets of the caches, and on small pages each of
 * thousands of keys would cost a TLB miss. Small chunks, the first one and those for which the
 * limit on locked memory still has room, are cut to blocks of any length, which stay so.
 *
 * Every chunk begins at a multiple of the large size, with a line that names its description.
 */
#define SMALL_BYTES ((size_t)256 * 1024)
#define LARGE_BYTES ((size_t)2 * 1024 * 1024)
#define MAX_LINES 1024

struct block {
	struct block *next;
};

struct chunk {
	struct chunk *next; /* of those with room for blocks of this length; or of the unused */
	struct chunk *prev;
	uint8_t *mem;
	struct block *free; /* given back */
	size_t fresh; /* from here on nothing was given out */
	size_t lines; /* of its blocks; 0: of any */
	size_t bytes;
	size_t used;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct chunk *open_chunks[MAX_LINES + 1]; /* by the length of their blocks */
static struct block *odd_blocks[MAX_LINES + 1]; /* given back to small chunks */
static struct chunk *unused; /* large ones */
static struct chunk *small; /* the last one */
static size_t locked_bytes;

static size_t lines_of(size_t size)
{
	return (size + XF_CACHE_LINE - 1) / XF_CACHE_LINE;
}

static struct chunk *chunk_of(const void *block)
{
	return *(struct chunk **)((uintptr_t)block & ~(uintptr_t)(LARGE_BYTES - 1));
}

static void push(struct chunk **list, struct chunk *chunk)
{
	chunk->prev = NULL;
	chunk->next = *list;
	if (*list)
		(*list)->prev = chunk;
	*list = chunk;
}

static void take_out(struct chunk **list, struct chunk *chunk)
{
	if (chunk->prev)
		chunk->prev->next = chunk->next;
	else
		*list = chunk->next;
	if (chunk->next)
		chunk->next->prev = chunk->prev;
}

/* @bytes of fresh memory at a multiple of the large size, or NULL and errno. */
static uint8_t *map_aligned(size_t bytes)
{
	size_t all = LARGE_BYTES + bytes;
	uint8_t *mem = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t before;

	if (mem == MAP_FAILED)
		return NULL;
	before = (size_t)(-(uintptr_t)mem & (LARGE_BYTES - 1));
	if (before)
		munmap(mem, before);
	if (all > before + bytes)
		munmap(mem + before + bytes, all - before - bytes);
	return mem + before;
}

static int lock_chunk(struct chunk *chunk)
{
	chunk->mem = map_aligned(chunk->bytes);
	if (!chunk->mem)
		return -errno;
	/* Where the kernel has no large pages, small ones do. */
	if (chunk->bytes == LARGE_BYTES)
		madvise(chunk->mem, chunk->bytes, MADV_HUGEPAGE);
	if (mlock(chunk->mem, chunk->bytes) || madvise(chunk->mem, chunk->bytes, MADV_DONTDUMP) ||
	    madvise(chunk->mem, chunk->bytes, MADV_DONTFORK)) {
		int err = -errno;

		munmap(chunk->mem, chunk->bytes);
		return err;
	}
	return 0;
}

static int new_chunk(size_t bytes, struct chunk **out)
{
	struct chunk *chunk = calloc(1, sizeof(*chunk));
	int err;

	if (!chunk)
		return -ENOMEM;
	chunk->bytes = bytes;
	err = lock_chunk(chunk);
	if (err) {
		free(chunk);
		return err;
	}
	locked_bytes += bytes;
	*out = chunk;
	return 0;
}

static void begin(struct chunk *chunk, size_t lines)
{
	*(struct chunk **)(void *)chunk->mem = chunk;
	chunk->fresh = XF_CACHE_LINE;
	chunk->free = NULL;
	chunk->lines = lines;
}

static bool has_fresh(const struct chunk *chunk, size_t lines)
{
	return chunk->bytes - chunk->fresh >= lines * XF_CACHE_LINE;
}

static void *cut_fresh(struct chunk *chunk, size_t lines)
{
	uint8_t *mem = chunk->mem + chunk->fresh;

	chunk->fresh += lines * XF_CACHE_LINE;
	chunk->used++;
	return mem;
}

/* A block of which the next one's place is the only trace. */
static void *take_free(struct block **list)
{
	struct block *b = *list;

	*list = b->next;
	b->next = NULL;
	return b;
}

static void put_free(struct block **list, void *mem)
{
	struct block *b = mem;

	b->next = *list;
	*list = b;
}

/* A chunk with room for a block of @lines, or NULL. */
static struct chunk *open_chunk(size_t lines)
{
	struct chunk *chunk = open_chunks[lines];

	if (chunk)
		return chunk;
	chunk = unused;
	if (chunk)
		take_out(&unused, chunk);
	else if (new_chunk(LARGE_BYTES, &chunk))
		return NULL;
	begin(chunk, lines);
	push(&open_chunks[lines], chunk);
	return chunk;
}

static void *take_from_large(size_t lines)
{
	struct chunk *chunk = open_chunk(lines);
	void *mem;

	if (!chunk)
		return NULL;
	if (chunk->free) {
		mem = take_free(&chunk->free);
		chunk->used++;
	} else {
		mem = cut_fresh(chunk, lines);
	}
	if (!chunk->free && !has_fresh(chunk, lines))
		take_out(&open_chunks[lines], chunk);
	return mem;
}

static void *take_from_small(size_t lines)
{
	if (odd_blocks[lines])
		return take_free(&odd_blocks[lines]);
	return has_fresh(small, lines) ? cut_fresh(small, lines) : NULL;
}

/* The limit on locked memory may have room for a small chunk still. */
static void *take(size_t lines)
{
	void *mem = take_from_small(lines);

	if (!mem)
		mem = take_from_large(lines);
	if (!mem && !new_chunk(SMALL_BYTES, &small)) {
		begin(small, 0);
		mem = take_from_small(lines);
	}
	return mem;
}

/* Links between free blocks are in it still, where the kernel cannot take locked pages back. */
static void retire(struct chunk *chunk)
{
	if (madvise(chunk->mem, chunk->bytes, MADV_DONTNEED_LOCKED))
		xf_wipe(chunk->mem, chunk->bytes);
	push(&unused, chunk);
}

static void give(struct chunk *chunk, void *mem)
{
	struct chunk **open = &open_chunks[chunk->lines];
	bool was_open = chunk->free || has_fresh(chunk, chunk->lines);

	put_free(&chunk->free, mem);
	if (!was_open)
		push(open, chunk);
	/* The last one stays: the next key would want its pages again. */
	if (--chunk->used == 0 && (chunk->next || chunk->prev)) {
		take_out(open, chunk);
		retire(chunk);
	}
}

static void *secret_alloc(void *arg, size_t size)
{
	size_t lines = lines_of(size);
	void *mem;

	(void)arg;
	if (lines == 0 || lines > MAX_LINES)
		return NULL;
	pthread_mutex_lock(&lock);
	mem = take(lines);
	pthread_mutex_unlock(&lock);
	return mem;
}

static void secret_free(void *arg, void *mem, size_t size)
{
	struct chunk *chunk = chunk_of(mem);

	(void)arg;
	xf_wipe(mem, size);
	pthread_mutex_lock(&lock);
	if (chunk->lines)
		give(chunk, mem);
	else
		put_free(&odd_blocks[lines_of(size)], mem);
	pthread_mutex_unlock(&lock);
}

int xf_secret_memory_init(void)
{
	static const struct xf_secret_ops ops = { .alloc = secret_alloc, .free = secret_free };
	int err = new_chunk(SMALL_BYTES, &small);

	if (err)
		return err;
	begin(small, 0);
	xf_secret_set_ops(&ops);
	return 0;
}

size_t xf_secret_memory_locked(void)
{
	size_t n;

	pthread_mutex_lock(&lock);
	n = locked_bytes;
	pthread_mutex_unlock(&lock);
	return n;
}
