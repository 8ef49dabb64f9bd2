/*
 * The transform of SAs that no other takes: they may stand in the SAD, but no packet goes through
 * them. src/path calls it as any other.
 */
#include "sad/transform.h"
#include "sad/use.h"

/* What is wrong with the SA itself is said first, as by any transform. */
static void refuse(struct xf_transform_op *const *ops, unsigned n, bool out, uint64_t now_ns)
{
	for (unsigned i = 0; i < n; i++) {
		struct xf_sa *sa = ops[i]->sa;
		enum xf_drop drop =
			xf_sa_check(sa, xf_sa_brief(sa).what, out, now_ns, ops[i]->events);

		if (drop == XF_PASS)
			drop = out ? XF_DROP_OUT_STATE_PROTO : XF_DROP_IN_STATE_PROTO;
		ops[i]->dst_pkt = NULL;
		ops[i]->drop = drop;
	}
}

static void out_prepare(struct xf_transform_op *const *ops, unsigned n, uint64_t now_ns)
{
	refuse(ops, n, true, now_ns);
}

static void in_prepare(struct xf_transform_op *const *ops, unsigned n, uint64_t now_ns)
{
	refuse(ops, n, false, now_ns);
}

static uint32_t inner_mtu(const struct xf_sa *sa, uint32_t outer_mtu, uint16_t inner_family)
{
	(void)sa;
	(void)inner_family;
	return outer_mtu;
}

static bool takes(const struct xf_sa_config *cfg)
{
	(void)cfg;
	return true;
}

/* Nothing passes prepare, so nothing is to be finished. */
const struct xf_transform xf_transform_none = {
	.name = "none",
	.takes = takes,
	.out_prepare = out_prepare,
	.in_prepare = in_prepare,
	.inner_mtu = inner_mtu,
};
