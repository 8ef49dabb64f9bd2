#include "show.h"

static const char *dir_name(uint8_t dir)
{
	static const char *const names[XF_DIR_MAX] = {
		[XF_DIR_IN] = "in",
		[XF_DIR_OUT] = "out",
		[XF_DIR_FWD] = "fwd",
	};

	return names[dir];
}

static json_t *show_tmpl(const struct xf_tmpl *tmpl)
{
	char proto[8];
	char mode[8];
	json_t *o = json_pack("{s:o, s:o, s:s, s:s, s:I, s:s}", "src",
			      xf_show_addr(&tmpl->saddr, tmpl->id.family), "dst",
			      xf_show_addr(&tmpl->id.daddr, tmpl->id.family), "proto",
			      xf_show_proto(tmpl->id.proto, proto), "mode",
			      xf_show_mode(tmpl->mode, mode), "reqid", (json_int_t)tmpl->reqid,
			      "level", tmpl->optional ? "use" : "required");

	if (tmpl->id.spi)
		json_object_set_new(o, "spi", xf_show_hex(tmpl->id.spi));
	return o;
}

static json_t *show_templates(const struct xf_policy_config *cfg)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < cfg->ntmpl; i++)
		json_array_append_new(list, show_tmpl(&cfg->tmpl[i]));
	return list;
}

json_t *xf_show_policy(const struct xf_policy *policy)
{
	const struct xf_policy_config *cfg = xf_policy_cfg(policy);
	struct xf_lifetime_now now;
	json_t *o;

	xf_policy_lifetime_now(policy, &now);
	o = json_pack("{s:s, s:s, s:s, s:I, s:I, s:o, s:o, s:o}", "dir", dir_name(cfg->dir), "type",
		      cfg->type == XF_POLICY_SUB ? "sub" : "main", "action",
		      cfg->action == XF_POLICY_BLOCK ? "block" : "allow", "priority",
		      (json_int_t)cfg->priority, "index", (json_int_t)cfg->index, "selector",
		      xf_show_selector(&cfg->sel), "templates", show_templates(cfg), "lifetime",
		      xf_show_lifetime(&cfg->life, &now));
	if (cfg->mark.m)
		json_object_set_new(o, "mark", xf_show_mark(&cfg->mark));
	if (cfg->if_id)
		json_object_set_new(o, "if_id", xf_show_hex(cfg->if_id));
	if (cfg->flags & XF_POLICY_ICMP)
		json_object_set_new(o, "icmp", json_true());
	if (cfg->flags & XF_POLICY_LOCALOK)
		json_object_set_new(o, "localok", json_true());
	return o;
}
