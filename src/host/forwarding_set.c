/*
 * The set of forwarding devices: made by forwarding.c, asked by workers.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "host/forwarding_set.h"

int xf_forwarding_see(struct xf_forwarding_seen *seen, uint32_t ifindex, bool forwards)
{
	if (!forwards) {
		seen->some_do_not = true;
		return 0;
	}
	if (seen->n == seen->room) {
		uint32_t room = seen->room ? 2 * seen->room : 16;
		uint32_t *bigger = realloc(seen->devices, room * sizeof(*bigger));

		if (!bigger)
			return -ENOMEM;
		seen->devices = bigger;
		seen->room = room;
	}
	seen->devices[seen->n++] = ifindex;
	return 0;
}

/* A device that appears is not in the set until its event has been read: all that was seen must
 * hold for it, too, before nobody looks at devices any more. */
static enum xf_forwarding_how how(const struct xf_forwarding_seen *seen)
{
	if (seen->new_ones_do && !seen->some_do_not)
		return XF_FORWARDING_EVERY;
	if (!seen->new_ones_do && !seen->n && !seen->tun_does)
		return XF_FORWARDING_KERNEL;
	return XF_FORWARDING_BY_DEVICE;
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a;
	uint32_t y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

struct xf_forwarding_set *xf_forwarding_set_new(const struct xf_forwarding_seen *seen)
{
	uint32_t n = seen[XF_FORWARDING_4].n + seen[XF_FORWARDING_6].n;
	struct xf_forwarding_set *set = calloc(1, sizeof(*set) + n * sizeof(set->devices[0]));
	uint32_t at = 0;

	if (!set)
		return NULL;
	for (unsigned i = 0; i < XF_FORWARDING_FAMILIES; i++) {
		struct xf_forwarding_part *part = &set->parts[i];

		part->how = (uint8_t)how(&seen[i]);
		part->tun = seen[i].n > 0;
		part->first = at;
		if (part->how != XF_FORWARDING_BY_DEVICE || !seen[i].n)
			continue;
		part->n = seen[i].n;
		memcpy(&set->devices[at], seen[i].devices, part->n * sizeof(set->devices[0]));
		qsort(&set->devices[at], part->n, sizeof(set->devices[0]), compare);
		at += part->n;
	}
	return set;
}

bool xf_forwarding_set_equal(const struct xf_forwarding_set *a, const struct xf_forwarding_set *b)
{
	uint32_t n = 0;

	for (unsigned i = 0; i < XF_FORWARDING_FAMILIES; i++) {
		const struct xf_forwarding_part *p = &a->parts[i];
		const struct xf_forwarding_part *q = &b->parts[i];

		if (p->how != q->how || p->tun != q->tun || p->n != q->n)
			return false;
		n += p->n;
	}
	return !memcmp(a->devices, b->devices, n * sizeof(a->devices[0]));
}

bool xf_forwarding_set_allows(const struct xf_forwarding_set *set, uint16_t family, uint32_t iif)
{
	const struct xf_forwarding_part *part =
		&set->parts[family == XF_AF_INET6 ? XF_FORWARDING_6 : XF_FORWARDING_4];

	return part->how != XF_FORWARDING_BY_DEVICE ||
	       bsearch(&iif, &set->devices[part->first], part->n, sizeof(iif), compare);
}
