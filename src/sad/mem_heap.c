#include <stdlib.h>

#include "sad/mem.h"

struct xf_sa *xf_sa_mem_get(void)
{
	struct xf_sa *sa = aligned_alloc(_Alignof(struct xf_sa), sizeof(*sa));

	if (sa)
		memset(sa, 0, sizeof(*sa));
	return sa;
}

void xf_sa_mem_put(struct xf_sa *sa)
{
	xf_wipe(sa, sizeof(*sa));
	free(sa);
}
