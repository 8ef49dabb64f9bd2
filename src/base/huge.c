#include <xf/huge.h>

#include <stdlib.h>

/* calloc() does not touch pages that are zero already. What it gave stands in front. */
static void *heap_alloc(void *arg, size_t size)
{
	uint8_t *mem = calloc(1, size + XF_CACHE_LINE + sizeof(void *));
	uint8_t *at = mem + sizeof(void *);

	(void)arg;
	if (!mem)
		return NULL;
	at += -(uintptr_t)at % XF_CACHE_LINE;
	memcpy(at - sizeof(void *), &mem, sizeof(mem));
	return at;
}

static void heap_free(void *arg, void *mem, size_t size)
{
	void *start;

	(void)arg;
	(void)size;
	memcpy(&start, (uint8_t *)mem - sizeof(void *), sizeof(start));
	free(start);
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
