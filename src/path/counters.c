/* What the engine's counters are called and how those of its workers are summed, for engine.c. */
#include "path/worker.h"

_Static_assert(sizeof(struct xf_path_counters) == sizeof(struct xf_engine_stats), "one layout");

static const struct xf_counter_desc drops[] = {
#define DROP(id, shown, why)                                               \
	{ .name = shown,                                                   \
	  .kind = XF_KIND_COUNTER,                                         \
	  .unit = "packets",                                               \
	  .offset = offsetof(struct xf_engine_stats, drops[XF_DROP_##id]), \
	  .help = why },
	XF_DROP_KERNEL_LIST(DROP) XF_DROP_OWN_LIST(DROP)
#undef DROP
};
const struct xf_counter_group xf_drop_counters = { "xfrm_stat", drops, XF_ARRAY_SIZE(drops) };

static const struct xf_counter_desc ways[] = { XF_ENGINE_COUNTERS(XF_COUNTER_DESC,
								  struct xf_engine_stats) };
const struct xf_counter_group xf_engine_counters = { "engine", ways, XF_ARRAY_SIZE(ways) };

void xf_path_add_counters(const struct xf_path_counters *count, struct xf_engine_stats *sums)
{
	xf_counters_add(&xf_drop_counters, count, sums);
	xf_counters_add(&xf_engine_counters, count, sums);
}
