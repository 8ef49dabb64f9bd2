#include <errno.h>
#include <stdlib.h>

#include <xf/heap.h>

#define CAPACITY_MIN 16

void xf_heap_fini(struct xf_heap *heap)
{
	free(heap->nodes);
	memset(heap, 0, sizeof(*heap));
}

static int resize(struct xf_heap *heap, size_t capacity)
{
	struct xf_heap_node **nodes =
		realloc(heap->nodes, capacity * sizeof(struct xf_heap_node *));

	if (!nodes)
		return -ENOMEM;
	heap->nodes = nodes;
	heap->capacity = capacity;
	return 0;
}

int xf_heap_reserve(struct xf_heap *heap, size_t count)
{
	size_t capacity = heap->capacity ? heap->capacity : CAPACITY_MIN;

	if (count <= heap->capacity)
		return 0;
	while (capacity < count)
		capacity *= 2;
	return resize(heap, capacity);
}

void xf_heap_trim(struct xf_heap *heap, size_t count)
{
	size_t needed = count > heap->count ? count : heap->count;

	if (heap->capacity > CAPACITY_MIN && needed < heap->capacity / 4)
		resize(heap, heap->capacity / 2);
}

/* A node knows its place, so that it can be moved and taken out without a search. */
static void place(struct xf_heap *heap, size_t pos, struct xf_heap_node *node)
{
	heap->nodes[pos - 1] = node;
	node->pos = pos;
}

/* Bring @node from the hole at @pos to where it belongs, up or down. */
static void settle(struct xf_heap *heap, size_t pos, struct xf_heap_node *node)
{
	while (pos > 1 && heap->nodes[pos / 2 - 1]->due_ns > node->due_ns) {
		place(heap, pos, heap->nodes[pos / 2 - 1]);
		pos /= 2;
	}
	for (;;) {
		size_t child = pos * 2;

		if (child < heap->count &&
		    heap->nodes[child]->due_ns < heap->nodes[child - 1]->due_ns)
			child++;
		if (child > heap->count || heap->nodes[child - 1]->due_ns >= node->due_ns)
			break;
		place(heap, pos, heap->nodes[child - 1]);
		pos = child;
	}
	place(heap, pos, node);
}

void xf_heap_set(struct xf_heap *heap, struct xf_heap_node *node, uint64_t due_ns)
{
	node->due_ns = due_ns;
	settle(heap, node->pos ? node->pos : ++heap->count, node);
}

void xf_heap_del(struct xf_heap *heap, struct xf_heap_node *node)
{
	size_t pos = node->pos;
	struct xf_heap_node *last;

	if (!pos)
		return;
	last = heap->nodes[--heap->count];
	node->pos = 0;
	if (last != node)
		settle(heap, pos, last);
}
