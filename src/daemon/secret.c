#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>

#include "secret.h"

/*
 * Blocks are cut one behind the other from chunks that are never given back to the kernel: a chunk
 * that is unmapped and mapped again would have to be locked again, and that can fail. The first one
 * is small; the keys of thousands of SAs stand on large pages, or each would cost a TLB miss. They
 * are as long as they must be, in cache lines: with powers of two the same lines of all keys would
 * fall into a few sets of the caches.
 */
#define CHUNK_BYTES ((size_t)256 * 1024)
#define LARGE_BYTES ((size_t)2 * 1024 * 1024)
#define MAX_LINES 1024

struct block {
	struct block *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct block *free_blocks[MAX_LINES + 1]; /* by their length in lines */
static uint8_t *fresh; /* what was not cut yet of the last chunk */
static size_t fresh_bytes;
static size_t locked_bytes;

static size_t lines_of(size_t size)
{
	return (size + XF_CACHE_LINE - 1) / XF_CACHE_LINE;
}

/* @bytes of fresh memory at a multiple of that, or NULL and errno. */
static uint8_t *map_aligned(size_t bytes)
{
	uint8_t *mem =
		mmap(NULL, 2 * bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t before;

	if (mem == MAP_FAILED)
		return NULL;
	before = (size_t)(-(uintptr_t)mem & (bytes - 1));
	if (before)
		munmap(mem, before);
	munmap(mem + before + bytes, bytes - before);
	return mem + before;
}

static void put(void *mem, size_t lines)
{
	struct block *b = mem;

	b->next = free_blocks[lines];
	free_blocks[lines] = b;
}

static int add_chunk_of(size_t bytes)
{
	uint8_t *mem = map_aligned(bytes);

	if (!mem)
		return -errno;
	/* Where the kernel has no large pages, small ones do. */
	if (bytes >= LARGE_BYTES)
		madvise(mem, bytes, MADV_HUGEPAGE);
	if (mlock(mem, bytes) || madvise(mem, bytes, MADV_DONTDUMP) ||
	    madvise(mem, bytes, MADV_DONTFORK)) {
		int err = -errno;

		munmap(mem, bytes);
		return err;
	}
	locked_bytes += bytes;
	/* The rest of the one before: as many keys as it had room for would be too few. */
	if (fresh_bytes)
		put(fresh, lines_of(fresh_bytes));
	fresh = mem;
	fresh_bytes = bytes;
	return 0;
}

/* The limit on locked memory may have room for a small one still. */
static int add_chunk(void)
{
	if (locked_bytes > 0 && !add_chunk_of(LARGE_BYTES))
		return 0;
	return add_chunk_of(CHUNK_BYTES);
}

/* A block that was given back, of which the next one's place is the only trace, or a fresh one. */
static void *take(size_t lines)
{
	struct block *b = free_blocks[lines];

	if (b) {
		free_blocks[lines] = b->next;
		b->next = NULL;
		return b;
	}
	if (fresh_bytes < lines * XF_CACHE_LINE && add_chunk())
		return NULL;
	b = (struct block *)(void *)fresh;
	fresh += lines * XF_CACHE_LINE;
	fresh_bytes -= lines * XF_CACHE_LINE;
	return b;
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
	(void)arg;
	xf_wipe(mem, size);
	pthread_mutex_lock(&lock);
	put(mem, lines_of(size));
	pthread_mutex_unlock(&lock);
}

int xf_secret_memory_init(void)
{
	static const struct xf_secret_ops ops = { .alloc = secret_alloc, .free = secret_free };
	int err = add_chunk();

	if (!err)
		xf_secret_set_ops(&ops);
	return err;
}

size_t xf_secret_memory_locked(void)
{
	size_t n;

	pthread_mutex_lock(&lock);
	n = locked_bytes;
	pthread_mutex_unlock(&lock);
	return n;
}
