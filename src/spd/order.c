/*
 * The kernel dumps policies youngest first (its list policy_all). Here they stand in an array by
 * the number that each got when it was made; a gone one leaves a hole, and holes are squeezed
 * out when there are as many as policies.
 */
#include <errno.h>
#include <stdlib.h>

#include "spd/spd_priv.h"

#define PLACES_MIN 64

static void squeeze(struct xf_spd *spd)
{
	size_t n = 0;

	for (size_t i = 0; i < spd->nplaces; i++)
		if (spd->places[i].policy)
			spd->places[n++] = spd->places[i];
	spd->nplaces = n;
}

static int resize(struct xf_spd *spd, size_t max)
{
	struct place *places = realloc(spd->places, max * sizeof(struct place));

	if (!places)
		return -ENOMEM;
	spd->places = places;
	spd->max_places = max;
	return 0;
}

int xf_spd_order_reserve(struct xf_spd *spd)
{
	if (spd->nplaces < spd->max_places)
		return 0;
	return resize(spd, spd->max_places ? spd->max_places * 2 : PLACES_MIN);
}

void xf_spd_order_add(struct xf_spd *spd, struct xf_policy *policy)
{
	spd->places[spd->nplaces++] = (struct place){ .pos = policy->pos, .policy = policy };
}

/* How many places have a number below @pos. */
static size_t count_below(const struct xf_spd *spd, uint64_t pos)
{
	size_t low = 0;
	size_t high = spd->nplaces;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (spd->places[mid].pos < pos)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

void xf_spd_order_del(struct xf_spd *spd, const struct xf_policy *policy)
{
	spd->places[count_below(spd, policy->pos)].policy = NULL;
	if (spd->nplaces >= 2 * spd->by_index.count)
		squeeze(spd);
	if (spd->max_places > PLACES_MIN && spd->nplaces < spd->max_places / 4)
		resize(spd, spd->max_places / 2);
}

struct xf_policy *xf_spd_order_older(const struct xf_spd *spd, uint64_t pos, size_t *place)
{
	size_t i = *place;

	if (i >= spd->nplaces || spd->places[i].pos != pos)
		i = count_below(spd, pos);
	while (i-- > 0) {
		if (!spd->places[i].policy)
			continue;
		*place = i;
		return spd->places[i].policy;
	}
	return NULL;
}
