/*
 * Slots are in order of arrival and are packed, never reordered. A cursor is a number of arrival,
 * not a place, so neither packing nor the end of the SA it stands for moves it.
 */
#include "db.h"

size_t xf_sad_slots_before(const struct xf_sad *sad, uint64_t id)
{
	size_t low = 0, high = sad->nslots;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (sad->slots[middle].id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool xf_sad_walk(const struct xf_sad *sad, uint64_t *cursor,
		 bool (*visit)(void *arg, struct xf_sa *sa), void *arg)
{
	size_t i = *cursor ? xf_sad_slots_before(sad, *cursor) : sad->nslots;

	while (i-- > 0) {
		if (!sad->slots[i].sa)
			continue;
		*cursor = sad->slots[i].id;
		if (!visit(arg, sad->slots[i].sa))
			return true;
	}
	return false;
}
