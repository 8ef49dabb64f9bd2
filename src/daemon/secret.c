#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>

#include "secret.h"

/*
 * Blocks of powers of two, cut from chunks that are never given back to the kernel: a chunk that is
 * unmapped and mapped again would have to be locked again, and that can fail. The first one is
 * small; the keys of thousands of SAs stand on large pages, or each would cost a TLB miss.
 */
#define CHUNK_BYTES ((size_t)256 * 1024)
#define LARGE_BYTES ((size_t)2 * 1024 * 1024)
#define MIN_SHIFT 6
#define MAX_SHIFT 16
#define ORDERS (MAX_SHIFT - MIN_SHIFT + 1)

struct block {
	struct block *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct block *free_blocks[ORDERS];
static size_t locked_bytes;

static unsigned order_of(size_t size)
{
	unsigned order = 0;

	while (((size_t)1 << (order + MIN_SHIFT)) < size)
		order++;
	return order;
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

static int add_chunk_of(unsigned order, size_t bytes)
{
	size_t step = (size_t)1 << (order + MIN_SHIFT);
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
	for (size_t off = 0; off < bytes; off += step) {
		struct block *b = (struct block *)(void *)(mem + off);

		b->next = free_blocks[order];
		free_blocks[order] = b;
	}
	return 0;
}

/* The limit on locked memory may have room for a small one still. */
static int add_chunk(unsigned order)
{
	if (locked_bytes > 0 && !add_chunk_of(order, LARGE_BYTES))
		return 0;
	return add_chunk_of(order, CHUNK_BYTES);
}

static void *secret_alloc(void *arg, size_t size)
{
	unsigned order = order_of(size);
	struct block *b = NULL;

	(void)arg;
	if (order >= ORDERS)
		return NULL;
	pthread_mutex_lock(&lock);
	if (free_blocks[order] || !add_chunk(order)) {
		b = free_blocks[order];
		free_blocks[order] = b->next;
		b->next = NULL;
	}
	pthread_mutex_unlock(&lock);
	return b;
}

static void secret_free(void *arg, void *mem, size_t size)
{
	unsigned order = order_of(size);
	struct block *b = mem;

	(void)arg;
	xf_wipe(mem, size);
	pthread_mutex_lock(&lock);
	b->next = free_blocks[order];
	free_blocks[order] = b;
	pthread_mutex_unlock(&lock);
}

int xf_secret_memory_init(void)
{
	static const struct xf_secret_ops ops = { .alloc = secret_alloc, .free = secret_free };
	int err = add_chunk(order_of(4096));

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
