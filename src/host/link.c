/* Devices as rtnetlink shows them; those who dump links call it. */
#include <linux/rtnetlink.h>

#include "host/link.h"

static void take_text(const struct nlattr *attr, const char **out)
{
	if (mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0)
		*out = mnl_attr_get_str(attr);
}

static int info_attr(const struct nlattr *attr, void *arg)
{
	struct xf_link *link = arg;

	if (mnl_attr_get_type(attr) == IFLA_INFO_KIND)
		take_text(attr, &link->kind);
	else if (mnl_attr_get_type(attr) == IFLA_INFO_SLAVE_KIND)
		take_text(attr, &link->slave_kind);
	return MNL_CB_OK;
}

static int link_attr(const struct nlattr *attr, void *arg)
{
	struct xf_link *link = arg;

	if (mnl_attr_get_type(attr) == IFLA_IFNAME)
		take_text(attr, &link->name);
	else if (mnl_attr_get_type(attr) == IFLA_LINKINFO)
		mnl_attr_parse_nested(attr, info_attr, link);
	return MNL_CB_OK;
}

bool xf_link_read(const struct nlmsghdr *msg, struct xf_link *out)
{
	const struct ifinfomsg *info = mnl_nlmsg_get_payload(msg);

	if (msg->nlmsg_type != RTM_NEWLINK)
		return false;
	*out = (struct xf_link){ .ifindex = info->ifi_index,
				 .flags = info->ifi_flags,
				 .name = "",
				 .kind = "",
				 .slave_kind = "" };
	mnl_attr_parse(msg, sizeof(*info), link_attr, out);
	return true;
}
