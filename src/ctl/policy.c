#include <stdio.h>

#include "ctl.h"

static void show_tmpl(const json_t *tmpl)
{
	printf("\t%s -> %s %s mode %s reqid %lld", xf_ctl_text(tmpl, "src"),
	       xf_ctl_text(tmpl, "dst"), xf_ctl_text(tmpl, "proto"), xf_ctl_text(tmpl, "mode"),
	       (long long)xf_ctl_number(tmpl, "reqid"));
	if (*xf_ctl_text(tmpl, "spi"))
		printf(" spi %s", xf_ctl_text(tmpl, "spi"));
	printf(" %s\n", xf_ctl_text(tmpl, "level"));
}

static void show(const json_t *policy)
{
	json_t *tmpl;
	size_t i;

	printf("%s %s ", xf_ctl_text(policy, "dir"), xf_ctl_text(policy, "action"));
	xf_ctl_show_selector("", json_object_get(policy, "selector"));
	printf(" priority %lld index %lld", (long long)xf_ctl_number(policy, "priority"),
	       (long long)xf_ctl_number(policy, "index"));
	xf_ctl_show_mark("mark", json_object_get(policy, "mark"));
	if (*xf_ctl_text(policy, "if_id"))
		printf(" if_id %s", xf_ctl_text(policy, "if_id"));
	printf("%s\n", xf_ctl_text(policy, "type")[0] == 's' ? " type sub" : "");
	json_array_foreach(json_object_get(policy, "templates"), i, tmpl) show_tmpl(tmpl);
	xf_ctl_show_lifetime(json_object_get(policy, "lifetime"));
}

int xf_ctl_policy(const struct xf_ctl_options *opt)
{
	return xf_ctl_list(opt, "policy", "policies", show);
}
