/* Adds up counters that lists describe. The control thread calls it. */
#include <stdatomic.h>

#include <xf/counter.h>

_Static_assert(sizeof(_Atomic uint64_t) == sizeof(uint64_t) &&
		       _Alignof(_Atomic uint64_t) == _Alignof(uint64_t),
	       "what workers count in has the layout of the sums");

void xf_counters_add(const struct xf_counter_group *group, const void *from, void *sums)
{
	for (size_t i = 0; i < group->n; i++) {
		const struct xf_counter_desc *desc = &group->descs[i];
		const void *counter = (const char *)from + desc->offset;
		uint64_t more = atomic_load_explicit((const _Atomic uint64_t *)counter,
						     memory_order_relaxed);

		xf_counter_set(desc, sums, xf_counter_value(desc, sums) + more);
	}
}
