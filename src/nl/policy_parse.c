/*
 * What the kernel refuses in policies, in its order, and the rest as a configuration.
 */
#include "nl/policy.h"
#include "nl/wire.h"

#define INDEX_DIR_MASK 7u

int xf_nl_verify_policy_dir(struct xf_nl_request *req, uint8_t dir)
{
	return dir < XF_DIR_MAX ? 0 : xf_nl_fail(req, -EINVAL, "Invalid policy direction");
}

int xf_nl_parse_policy_type(struct xf_nl_request *req, uint8_t *type)
{
	struct xfrm_userpolicy_type wire = { .type = XF_POLICY_MAIN };

	xf_nl_get(req, XFRMA_POLICY_TYPE, &wire, sizeof(wire));
	if (wire.type >= XF_POLICY_TYPE_MAX)
		return xf_nl_fail(req, -EINVAL, "Invalid policy type");
	*type = wire.type;
	return 0;
}

static int verify_selector(struct xf_nl_request *req, const struct xfrm_selector *sel)
{
	if (!xf_nl_family_valid(sel->family))
		return xf_nl_fail(req, -EINVAL, "Invalid selector family");
	if (sel->prefixlen_d <= xf_addr_bits(sel->family) &&
	    sel->prefixlen_s <= xf_addr_bits(sel->family))
		return 0;
	return xf_nl_fail(req, -EINVAL,
			  sel->family == XF_AF_INET
				  ? "Invalid prefix length in selector (must be <= 32 for IPv4)"
				  : "Invalid prefix length in selector (must be <= 128 for IPv6)");
}

static int verify_info(struct xf_nl_request *req, const struct xfrm_userpolicy_info *info)
{
	int err;

	if (info->share > XFRM_SHARE_UNIQUE)
		return xf_nl_fail(req, -EINVAL, "Invalid policy share");
	if (info->action > XF_POLICY_BLOCK)
		return xf_nl_fail(req, -EINVAL, "Invalid policy action");
	err = verify_selector(req, &info->sel);
	if (!err)
		err = xf_nl_verify_policy_dir(req, info->dir);
	if (!err && info->index && (info->index & INDEX_DIR_MASK) != info->dir)
		err = xf_nl_fail(req, -EINVAL, "Policy index doesn't match direction");
	return err;
}

/* AH and IPComp templates are accepted, as by a kernel without them: no SA will ever match. */
static bool tmpl_proto_valid(uint8_t proto)
{
	return proto == XF_IPPROTO_ESP || proto == XF_IPPROTO_AH || proto == XF_IPPROTO_COMP ||
	       proto == XF_IPPROTO_ROUTING || proto == XF_IPPROTO_DSTOPTS;
}

/* @inner is the family of what this template protects. */
static int verify_tmpl(struct xf_nl_request *req, const struct xf_tmpl *tmpl, uint8_t dir,
		       uint16_t inner)
{
	bool tunnel = tmpl->mode == XF_MODE_TUNNEL || tmpl->mode == XF_MODE_BEET;

	if (tunnel && tmpl->optional && dir == XF_DIR_OUT)
		return xf_nl_fail(req, -EINVAL,
				  "Mode in optional template not allowed in outbound policy");
	if (!tunnel && tmpl->mode != XF_XFRM_MODE_IPTFS && tmpl->id.family != inner)
		return xf_nl_fail(req, -EINVAL, "Mode in template doesn't support a family change");
	if (tmpl->mode >= XF_XFRM_MODE_MAX)
		return xf_nl_fail(req, -EINVAL, "Mode in template must be < XFRM_MODE_MAX (6)");
	if (!xf_nl_family_valid(tmpl->id.family))
		return xf_nl_fail(req, -EINVAL, "Invalid family in template");
	if (!tmpl_proto_valid(tmpl->id.proto))
		return xf_nl_fail(req, -EINVAL, "Invalid XFRM protocol in template");
	return 0;
}

/* Templates go from the innermost outwards; a rest shorter than a template is ignored. */
static int parse_tmpls(struct xf_nl_request *req, struct xf_policy_config *cfg)
{
	const struct nlattr *attr = req->attrs[XFRMA_TMPL];
	size_t n = attr ? mnl_attr_get_payload_len(attr) / sizeof(struct xfrm_user_tmpl) : 0;
	uint16_t inner = cfg->sel.family;
	struct xfrm_user_tmpl wire;

	if (n > XF_XFRM_MAX_DEPTH)
		return xf_nl_fail(req, -EINVAL, "Template count must be <= XFRM_MAX_DEPTH (6)");
	for (size_t i = 0; i < n; i++) {
		const char *p = mnl_attr_get_payload(attr);
		int err;

		memcpy(&wire, p + i * sizeof(wire), sizeof(wire));
		/* Old programs leave it zero: the policy's own. */
		if (!wire.family)
			wire.family = cfg->sel.family;
		xf_nl_load_tmpl(&cfg->tmpl[i], &wire);
		err = verify_tmpl(req, &cfg->tmpl[i], cfg->dir, inner);
		if (err)
			return err;
		inner = cfg->tmpl[i].id.family;
	}
	cfg->ntmpl = (uint8_t)n;
	return 0;
}

static void parse_info(const struct xfrm_userpolicy_info *info, struct xf_policy_config *cfg)
{
	xf_nl_load_selector(&cfg->sel, &info->sel);
	xf_nl_load_lifetime(&cfg->life, &info->lft);
	cfg->priority = info->priority;
	cfg->index = info->index;
	cfg->dir = info->dir;
	cfg->action = info->action;
	cfg->flags = info->flags;
}

int xf_nl_parse_policy(struct xf_nl_request *req, const struct xfrm_userpolicy_info *info,
		       struct xf_policy_config *cfg)
{
	int err = verify_info(req, info);

	memset(cfg, 0, sizeof(*cfg));
	if (!err)
		err = xf_nl_verify_sec_ctx(req);
	if (!err)
		err = xf_nl_parse_policy_type(req, &cfg->type);
	if (err)
		return err;
	parse_info(info, cfg);
	err = parse_tmpls(req, cfg);
	if (err)
		return err;
	cfg->mark = xf_nl_mark(req);
	cfg->if_id = xf_nl_u32(req, XFRMA_IF_ID, 0);
	/* Policies are offloaded whole or not at all, and no device here does it. */
	if (req->attrs[XFRMA_OFFLOAD_DEV])
		return xf_nl_fail(req, -EINVAL, "Policy offload is not supported");
	return 0;
}

/* An index names a policy alone, but type, direction, mark and if_id must still agree. */
int xf_nl_find_policy(struct xf_nl_request *req, const struct xf_nl_policy_name *name,
		      struct xf_policy **out)
{
	struct xf_policy_id id = { .index = name->index, .dir = name->dir };
	int err = xf_nl_parse_policy_type(req, &id.type);

	if (!err)
		err = xf_nl_verify_policy_dir(req, name->dir);
	if (!err && !name->index)
		err = xf_nl_verify_sec_ctx(req);
	if (err)
		return err;
	xf_nl_load_selector(&id.sel, name->sel);
	id.mark = xf_nl_mark(req);
	id.if_id = xf_nl_u32(req, XFRMA_IF_ID, 0);
	*out = xf_spd_find(req->server->cfg.spd, &id);
	return *out ? 0 : -ENOENT;
}
