/* What the counters of capture are called, for those who declare, read, sum and show them. */
#include "capture/counters.h"

static const struct xf_counter_desc descs[] = { XF_CAPTURE_COUNTERS(XF_COUNTER_DESC,
								    struct xf_capture_counts) };
const struct xf_counter_group xf_capture_counters = { "capture", descs, XF_ARRAY_SIZE(descs) };
