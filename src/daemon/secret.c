#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>

#include "secret.h"

/*
 * Blocks of powers of two, cut from chunks that are never given back to the kernel: a chunk that is
 * unmapped and mapped again would have to be locked again, and that can fail.
 */
#define CHUNK_BYTES (256u * 1024)
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

static int add_chunk(unsigned order)
{
	size_t step = (size_t)1 << (order + MIN_SHIFT);
	uint8_t *mem =
		mmap(NULL, CHUNK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		return -errno;
	if (mlock(mem, CHUNK_BYTES) || madvise(mem, CHUNK_BYTES, MADV_DONTDUMP) ||
	    madvise(mem, CHUNK_BYTES, MADV_DONTFORK)) {
		int err = -errno;

		munmap(mem, CHUNK_BYTES);
		return err;
	}
	locked_bytes += CHUNK_BYTES;
	for (size_t off = 0; off < CHUNK_BYTES; off += step) {
		struct block *b = (struct block *)(void *)(mem + off);

		b->next = free_blocks[order];
		free_blocks[order] = b;
	}
	return 0;
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
