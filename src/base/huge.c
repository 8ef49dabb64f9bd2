#include <xf/huge.h>

#include <stdlib.h>

/* aligned_alloc() wants whole multiples of the alignment. */
static void *heap_alloc(void *arg, size_t size)
{
	size_t rounded = (size + XF_CACHE_LINE - 1) & ~(size_t)(XF_CACHE_LINE - 1);
	void *mem = rounded < size ? NULL : aligned_alloc(XF_CACHE_LINE, rounded);

	(void)arg;
	if (mem)
		memset(mem, 0, rounded);
	return mem;
}

static void heap_free(void *arg, void *mem, size_t size)
{
	(void)arg;
	(void)size;
	free(mem);
}

/* Set once, before the first table. */
static struct xf_huge_ops huge = { .alloc = heap_alloc, .free = heap_free };

void xf_huge_set_ops(const struct xf_huge_ops *ops)
{
	huge = *ops;
}

void *xf_huge_alloc(size_t size)
{
	return huge.alloc(huge.arg, size);
}

void xf_huge_free(void *mem, size_t size)
{
	if (mem)
		huge.free(huge.arg, mem, size);
}
