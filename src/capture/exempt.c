/*
 * Reads the sysctls disable_xfrm and disable_policy. Those of devices come with a dump of links,
 * those of "all" from /proc. The kernel tells nobody of a change: reconcile.c looks when links
 * change, and every 10 s. Called by kernel.c and devices.c.
 */
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>

#include "capture/exempt.h"
#include "host/rtnl.h"

/* Where each of them is in the kernel's array of a device's settings. */
static const struct setting {
	uint32_t from;
	uint16_t family;
	uint16_t attr;
	unsigned index;
	const char *path; /* of "all" */
	const char *name; /* %s: a device */
} settings[] = {
	{ XF_EXEMPT_XFRM4, AF_INET, IFLA_INET_CONF, IPV4_DEVCONF_NOXFRM - 1,
	  "/proc/sys/net/ipv4/conf/all/disable_xfrm", "net.ipv4.conf.%s.disable_xfrm" },
	{ XF_EXEMPT_POLICY4, AF_INET, IFLA_INET_CONF, IPV4_DEVCONF_NOPOLICY - 1,
	  "/proc/sys/net/ipv4/conf/all/disable_policy", "net.ipv4.conf.%s.disable_policy" },
	{ XF_EXEMPT_POLICY6, AF_INET6, IFLA_INET6_CONF, DEVCONF_DISABLE_POLICY,
	  "/proc/sys/net/ipv6/conf/all/disable_policy", "net.ipv6.conf.%s.disable_policy" },
};

static bool is_set(const char *path)
{
	char text[16] = "";
	FILE *f = fopen(path, "re");
	bool set;

	if (!f)
		return false;
	set = fgets(text, sizeof(text), f) && atoi(text) != 0;
	fclose(f);
	return set;
}

uint32_t xf_exempt_of_all(void)
{
	uint32_t from = 0;

	for (unsigned i = 0; i < XF_ARRAY_SIZE(settings); i++) {
		if (is_set(settings[i].path))
			from |= settings[i].from;
	}
	return from;
}

/* An address family's settings of a device. */
struct conf {
	uint16_t family;
	uint32_t *from;
};

static int conf_attr(const struct nlattr *attr, void *arg)
{
	const uint32_t *values = mnl_attr_get_payload(attr);
	unsigned n = mnl_attr_get_payload_len(attr) / 4u;
	const struct conf *conf = arg;

	for (unsigned i = 0; i < XF_ARRAY_SIZE(settings); i++) {
		const struct setting *s = &settings[i];

		if (s->family == conf->family && s->attr == mnl_attr_get_type(attr) &&
		    s->index < n && values[s->index])
			*conf->from |= s->from;
	}
	return MNL_CB_OK;
}

static int family_attr(const struct nlattr *attr, void *arg)
{
	struct conf conf = { .family = mnl_attr_get_type(attr), .from = arg };

	return mnl_attr_parse_nested(attr, conf_attr, &conf);
}

static int link_attr(const struct nlattr *attr, void *arg)
{
	if (mnl_attr_get_type(attr) == IFLA_AF_SPEC)
		return mnl_attr_parse_nested(attr, family_attr, arg);
	return MNL_CB_OK;
}

/* Of loopback only what belongs to its addresses: what stays in this host is not captured. */
uint32_t xf_exempt_of_link(const struct nlmsghdr *msg)
{
	const struct ifinfomsg *ifi = mnl_nlmsg_get_payload(msg);
	uint32_t from = 0;

	mnl_attr_parse(msg, sizeof(*ifi), link_attr, &from);
	return ifi->ifi_flags & IFF_LOOPBACK ? from & XF_EXEMPT_POLICY6 : from;
}

struct reading {
	struct xf_exempt *out;
	uint32_t tun; /* 0: it is not there */
};

/* Room for one more of @n elements of @size, which have room for powers of two. */
static void *grown(void *array, uint32_t n, size_t size)
{
	return n & (n - 1) ? array : realloc(array, (n ? 2 * n : 1) * size);
}

static int see_link(const struct nlmsghdr *msg, void *arg)
{
	const struct ifinfomsg *ifi = mnl_nlmsg_get_payload(msg);
	struct reading *reading = arg;
	struct xf_exempt *out = reading->out;
	struct xf_exempt_device *devices;
	uint32_t from = xf_exempt_of_link(msg);

	if (msg->nlmsg_type != RTM_NEWLINK || !from || (uint32_t)ifi->ifi_index == reading->tun)
		return MNL_CB_OK;
	devices = grown(out->devices, out->ndevices, sizeof(*devices));
	if (!devices)
		return MNL_CB_ERROR;
	out->devices = devices;
	devices[out->ndevices++] = (struct xf_exempt_device){
		.ifindex = (uint32_t)ifi->ifi_index,
		.from = from,
	};
	return MNL_CB_OK;
}

/* Where an address has a peer, IFA_ADDRESS is the peer's. */
static int addr_attr(const struct nlattr *attr, void *arg)
{
	const struct nlattr **found = arg;
	uint16_t type = mnl_attr_get_type(attr);

	if (mnl_attr_get_payload_len(attr) == sizeof(struct in6_addr) &&
	    (type == IFA_LOCAL || (type == IFA_ADDRESS && !*found)))
		*found = attr;
	return MNL_CB_OK;
}

static int see_addr(const struct nlmsghdr *msg, void *arg)
{
	const struct ifaddrmsg *ifa = mnl_nlmsg_get_payload(msg);
	const struct reading *reading = arg;
	struct xf_exempt *out = reading->out;
	const struct nlattr *found = NULL;
	union xf_addr *addrs;

	if (msg->nlmsg_type != RTM_NEWADDR || ifa->ifa_index == reading->tun ||
	    !(xf_exempt_of(out, ifa->ifa_index) & XF_EXEMPT_POLICY6))
		return MNL_CB_OK;
	mnl_attr_parse(msg, sizeof(*ifa), addr_attr, &found);
	if (!found)
		return MNL_CB_OK;
	addrs = grown(out->addrs, out->naddrs, sizeof(*addrs));
	if (!addrs)
		return MNL_CB_ERROR;
	out->addrs = addrs;
	memcpy(addrs[out->naddrs++].bytes, mnl_attr_get_payload(found), sizeof(addrs->bytes));
	return MNL_CB_OK;
}

static int dump_links(struct xf_rtnl *rtnl, struct reading *reading)
{
	struct nlmsghdr *msg = xf_rtnl_start(rtnl, RTM_GETLINK, NLM_F_DUMP);
	struct ifinfomsg *ifi = mnl_nlmsg_put_extra_header(msg, sizeof(*ifi));

	ifi->ifi_family = AF_UNSPEC;
	mnl_attr_put_u32(msg, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	return xf_rtnl_talk(rtnl, msg, see_link, reading);
}

static int dump_addrs(struct xf_rtnl *rtnl, struct reading *reading)
{
	struct nlmsghdr *msg = xf_rtnl_start(rtnl, RTM_GETADDR, NLM_F_DUMP);
	struct ifaddrmsg *ifa = mnl_nlmsg_put_extra_header(msg, sizeof(*ifa));

	ifa->ifa_family = AF_INET6;
	return xf_rtnl_talk(rtnl, msg, see_addr, reading);
}

static uint32_t of_any(const struct xf_exempt *exempt)
{
	uint32_t from = exempt->all;

	for (uint32_t i = 0; i < exempt->ndevices; i++)
		from |= exempt->devices[i].from;
	return from;
}

int xf_exempt_read(const char *tun, struct xf_exempt *out)
{
	struct reading reading = { .out = out, .tun = if_nametoindex(tun) };
	struct xf_rtnl rtnl;
	int err = xf_rtnl_open(&rtnl, NULL);

	*out = (struct xf_exempt){ .all = xf_exempt_of_all() };
	if (err)
		return err;
	err = dump_links(&rtnl, &reading);
	if (!err && (of_any(out) & XF_EXEMPT_POLICY6))
		err = dump_addrs(&rtnl, &reading);
	xf_rtnl_close(&rtnl);
	if (err)
		xf_exempt_fini(out);
	return err;
}

void xf_exempt_fini(struct xf_exempt *exempt)
{
	free(exempt->devices);
	free(exempt->addrs);
	*exempt = (struct xf_exempt){ .all = 0 };
}

static bool is_same(const void *a, const void *b, size_t size)
{
	return !size || memcmp(a, b, size) == 0;
}

bool xf_exempt_equal(const struct xf_exempt *a, const struct xf_exempt *b)
{
	return a->all == b->all && a->ndevices == b->ndevices && a->naddrs == b->naddrs &&
	       is_same(a->devices, b->devices, a->ndevices * sizeof(a->devices[0])) &&
	       is_same(a->addrs, b->addrs, a->naddrs * sizeof(a->addrs[0]));
}

uint32_t xf_exempt_of(const struct xf_exempt *exempt, uint32_t ifindex)
{
	uint32_t from = exempt->all;

	for (uint32_t i = 0; i < exempt->ndevices; i++) {
		if (exempt->devices[i].ifindex == ifindex)
			from |= exempt->devices[i].from;
	}
	return from;
}

static void describe(FILE *f, const char *dev, uint32_t from)
{
	for (unsigned i = 0; i < XF_ARRAY_SIZE(settings); i++) {
		if (!(from & settings[i].from))
			continue;
		if (ftell(f) > 0)
			fputs(", ", f);
		fprintf(f, settings[i].name, dev);
	}
}

void xf_exempt_describe(const struct xf_exempt *exempt, char *text, size_t size)
{
	FILE *f = fmemopen(text, size, "w");

	*text = '\0';
	if (!f)
		return;
	describe(f, "all", exempt->all);
	for (uint32_t i = 0; i < exempt->ndevices; i++) {
		char dev[IF_NAMESIZE];

		if (if_indextoname(exempt->devices[i].ifindex, dev))
			describe(f, dev, exempt->devices[i].from);
	}
	fclose(f);
	text[size - 1] = '\0';
}
