/*
 * A TUN that somebody has renamed while no daemon ran, or that has the name of an earlier
 * configuration, is ours again. It is known by our program on it, which goes when a device gets
 * into another namespace. service.c calls it before the TUN is opened.
 */
#include <errno.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>

#include "host/link.h"
#include "host/rtnl.h"
#include "port/backend.h"
#include "port/tun/meta.h"

#define LEFT_MAX 16

struct search {
	const char *name; /* as it should be */
	unsigned left[LEFT_MAX];
	unsigned n;
};

static int see_link(const struct nlmsghdr *msg, void *arg)
{
	struct search *search = arg;
	struct xf_link link;

	if (xf_link_read(msg, &link) && !strcmp(link.kind, "tun") &&
	    strcmp(link.name, search->name) != 0 && search->n < LEFT_MAX &&
	    xf_meta_is_attached((unsigned)link.ifindex))
		search->left[search->n++] = (unsigned)link.ifindex;
	return MNL_CB_OK;
}

static int delete (struct xf_rtnl *rtnl, unsigned ifindex)
{
	struct nlmsghdr *msg = xf_rtnl_start(rtnl, RTM_DELLINK, NLM_F_ACK);
	struct ifinfomsg *info = mnl_nlmsg_put_extra_header(msg, sizeof(*info));

	info->ifi_index = (int)ifindex;
	return xf_rtnl_talk(rtnl, msg, NULL, NULL);
}

/* What is captured meanwhile goes into the black hole behind the TUN. */
int xf_tun_adopt(const char *name, struct xf_io_error *error)
{
	struct search search = { .name = name };
	struct xf_rtnl rtnl;
	struct nlmsghdr *msg;
	struct ifinfomsg *info;
	int err = xf_rtnl_open(&rtnl, error);

	if (err)
		return err;
	msg = xf_rtnl_start(&rtnl, RTM_GETLINK, NLM_F_DUMP);
	info = mnl_nlmsg_put_extra_header(msg, sizeof(*info));
	info->ifi_family = AF_UNSPEC;
	err = xf_rtnl_talk(&rtnl, msg, see_link, &search);
	for (unsigned i = 0; i < search.n && !err; i++) {
		if (if_nametoindex(name))
			err = delete (&rtnl, search.left[i]);
		else
			err = xf_tun_rename(search.left[i], name, error);
	}
	xf_rtnl_close(&rtnl);
	return err ? xf_io_fail(error, err, "cannot take over an earlier daemon's TUN")
		   : (int)search.n;
}
