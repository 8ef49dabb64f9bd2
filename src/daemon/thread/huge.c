#include <stdlib.h>
#include <sys/mman.h>

#include "huge.h"

#define HUGE_PAGE ((size_t)2 * 1024 * 1024)

static size_t round_up(size_t size)
{
	return (size + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
}

static void *small_alloc(size_t size)
{
	size_t rounded = (size + XF_CACHE_LINE - 1) & ~(size_t)(XF_CACHE_LINE - 1);
	void *mem = rounded < size ? NULL : aligned_alloc(XF_CACHE_LINE, rounded);

	if (mem)
		memset(mem, 0, rounded);
	return mem;
}

/* A huge page begins at a multiple of its size: map one more, and give back what is too much. */
static void *huge_alloc(void *arg, size_t size)
{
	size_t len = round_up(size);
	size_t before;
	uint8_t *mem;

	(void)arg;
	if (size < HUGE_PAGE)
		return small_alloc(size);
	mem = mmap(NULL, len + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		   0);
	if (mem == MAP_FAILED)
		return NULL;
	before = (size_t)(-(uintptr_t)mem & (HUGE_PAGE - 1));
	if (before)
		munmap(mem, before);
	if (before < HUGE_PAGE)
		munmap(mem + before + len, HUGE_PAGE - before);
	/* Where the kernel says no, small pages do. */
	madvise(mem + before, len, MADV_HUGEPAGE);
	return mem + before;
}

static void huge_free(void *arg, void *mem, size_t size)
{
	(void)arg;
	if (size < HUGE_PAGE)
		free(mem);
	else
		munmap(mem, round_up(size));
}

void xf_huge_memory_init(void)
{
	static const struct xf_huge_ops ops = { .alloc = huge_alloc, .free = huge_free };

	xf_huge_set_ops(&ops);
}
