/*
 * The side of an SA: sa.c makes and frees it with what a configuration has of it, others as they
 * need it. It lies on the heap, cleared: sa.c's slabs are for what all SAs have.
 */
#include <stdlib.h>

#include "sad/side.h"

struct xf_sa_side *xf_sa_side_get(struct xf_sa *sa)
{
	struct xf_sa_side *side = xf_sa_side(sa);

	if (side)
		return side;
	side = calloc(1, sizeof(*side));
	if (side)
		atomic_store_explicit(&sa->side, side, memory_order_release);
	return side;
}

void xf_sa_side_free(struct xf_sa *sa)
{
	free(xf_sa_side(sa));
}
