#include <xf/drop.h>

static const char *const names[XF_DROP_MAX] = { [XF_PASS] = "pass",
#define XF_DROP_NAME(id, name, help) [XF_DROP_##id] = name,
						XF_DROP_KERNEL_LIST(XF_DROP_NAME)
							XF_DROP_OWN_LIST(XF_DROP_NAME)
#undef XF_DROP_NAME
};

const char *xf_drop_name(enum xf_drop reason)
{
	if ((unsigned)reason >= XF_DROP_MAX)
		return "unknown";
	return names[reason];
}
