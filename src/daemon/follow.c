#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "follow.h"
#include "log.h"
#include "daemon/thread/threads.h"

#define UDP_ENCAP_ESP 2 /* RFC 3948; the kernel's UDP_ENCAP_ESPINUDP */

/* Ports that no SA has any more are closed so late, one that somebody has is tried so often. */
#define PORTS_AGAIN_NS (5 * XF_NSEC_PER_SEC)

/* SAs whose MTUs are asked for at a time: some 4 µs each. */
#define SWEEP_SAS 1024

void xf_follow_init(struct xf_follow *follow, const struct xf_follow_config *cfg)
{
	*follow = (struct xf_follow){ .cfg = *cfg, .ports_due_ns = UINT64_MAX };
}

/* --- Ports --- */

/* Ports on which SAs want ESP in UDP, collected. */
struct port_list {
	const struct xf_follow_config *cfg;
	struct xf_io_udp_port ports[XF_IO_UDP_PORTS_MAX];
	unsigned n;
	unsigned missing; /* more than there is room for */
};

static bool has_port(const struct xf_io_udp_port *ports, unsigned n,
		     const struct xf_io_udp_port *port)
{
	for (unsigned i = 0; i < n; i++) {
		if (ports[i].port == port->port && ports[i].family == port->family)
			return true;
	}
	return false;
}

/* False: @sa is no inbound SA with encapsulation to an address of this host. */
static bool encap_port(const struct xf_follow_config *with, const struct xf_sa *sa,
		       struct xf_io_udp_port *port)
{
	const struct xf_sa_view *cfg = xf_sa_cfg(sa);

	if (cfg->terms->encap.type != UDP_ENCAP_ESP || cfg->dir == XF_SA_DIR_OUT ||
	    !xf_route_is_local(with->route, &cfg->id.daddr, cfg->id.family))
		return false;
	*port = (struct xf_io_udp_port){ .family = cfg->id.family,
					 .port = cfg->terms->encap.dport };
	return port->port != 0;
}

static bool collect_port(void *arg, struct xf_sa *sa)
{
	struct port_list *list = arg;
	struct xf_io_udp_port port;

	if (!encap_port(list->cfg, sa, &port) || has_port(list->ports, list->n, &port))
		return true;
	if (list->n < XF_IO_UDP_PORTS_MAX)
		list->ports[list->n++] = port;
	else
		list->missing++;
	return true;
}

static uint64_t changes_of_sas(const struct xf_follow *follow)
{
	struct xf_sad_info info;

	xf_sad_get_info(follow->cfg.sad, &info);
	return info.changes;
}

static void collect_ports(struct xf_follow *follow, struct port_list *list)
{
	uint64_t cursor = 0;

	*list = (struct port_list){ .cfg = &follow->cfg };
	follow->changes = changes_of_sas(follow);
	follow->ports_due_ns = UINT64_MAX;
	xf_sad_walk(follow->cfg.sad, &cursor, collect_port, list);
}

/* 0 or -errno, with a sentence. */
static int set_ports(struct xf_follow *follow, const struct port_list *list,
		     struct xf_io_error *error)
{
	int err = xf_threads_set_udp_ports(follow->cfg.threads, list->ports, list->n, error);

	follow->refused = err != 0;
	memcpy(follow->ports, list->ports, sizeof(list->ports));
	follow->nports = list->n;
	return err;
}

static void update_ports(struct xf_follow *follow)
{
	struct port_list list;
	struct xf_io_error error;

	collect_ports(follow, &list);
	if (set_ports(follow, &list, &error))
		xf_log(XF_LOG_WARNING, "%s", error.text);
	if (list.missing)
		xf_log(XF_LOG_WARNING, "ESP in UDP is received on %d ports; not on those of %u SAs",
		       XF_IO_UDP_PORTS_MAX, list.missing);
}

/* The error of xf_io_set_udp_ports() is the last port's that has one. False: there is no room. */
static bool put_last(struct port_list *list, const struct xf_io_udp_port *port)
{
	unsigned i = 0;

	while (i < list->n &&
	       (list->ports[i].port != port->port || list->ports[i].family != port->family))
		i++;
	if (i == XF_IO_UDP_PORTS_MAX)
		return false;
	if (i < list->n)
		list->ports[i] = list->ports[--list->n];
	list->ports[list->n++] = *port;
	return true;
}

static int refuse(struct xf_follow *follow, int err, const struct xf_io_udp_port *port)
{
	int version = port->family == XF_AF_INET ? 4 : 6;

	if (err == -EADDRINUSE)
		snprintf(follow->why.text, sizeof(follow->why.text),
			 "UDP port %u (IPv%d) is held by another program: ESP in UDP could not be "
			 "received",
			 port->port, version);
	else if (err == -ENOSPC)
		snprintf(follow->why.text, sizeof(follow->why.text),
			 "ESP in UDP is received on %d ports already", XF_IO_UDP_PORTS_MAX);
	else
		snprintf(follow->why.text, sizeof(follow->why.text),
			 "UDP port %u (IPv%d) cannot be opened: ESP in UDP could not be received",
			 port->port, version);
	return err;
}

/*
 * Ports are opened before the SA is there, and stay open until they are collected next, should it
 * not come. Ports that were just closed make room in a moment: such an SA comes, and its port with
 * the next try.
 */
int xf_follow_wanted(struct xf_follow *follow, const struct xf_sa *sa, const char **why)
{
	struct xf_io_udp_port port;
	struct xf_io_error error;
	struct port_list list;
	int err;

	if (!encap_port(&follow->cfg, sa, &port) ||
	    xf_threads_has_udp_port(follow->cfg.threads, &port))
		return 0;
	collect_ports(follow, &list);
	if (!put_last(&list, &port))
		err = -ENOSPC;
	else
		err = set_ports(follow, &list, &error);
	follow->changes--; /* collected without it: again, whether or not it comes */
	if (!err || err == -EAGAIN || xf_threads_has_udp_port(follow->cfg.threads, &port))
		return 0;
	*why = follow->why.text;
	return refuse(follow, err, &port);
}

/* --- Path MTUs --- */

static void update_mtu(const struct xf_follow_config *with, struct xf_sa *sa)
{
	const struct xf_sa_view *cfg = xf_sa_cfg(sa);
	const struct xf_mark *set = &cfg->terms->set_mark;
	uint32_t mark = with->mark_bypass | (set->v & set->m);

	/* Nothing leaves by an inbound one. */
	if (cfg->dir == XF_SA_DIR_IN ||
	    xf_route_is_local(with->route, &cfg->id.daddr, cfg->id.family))
		return;
	xf_sa_set_route_mtu(
		sa, xf_route_mtu(with->route, &cfg->saddr, &cfg->id.daddr, cfg->id.family, mark));
}

struct sweep {
	const struct xf_follow_config *cfg;
	unsigned left;
};

static bool sweep_one(void *arg, struct xf_sa *sa)
{
	struct sweep *sweep = arg;

	update_mtu(sweep->cfg, sa);
	return --sweep->left > 0;
}

/* SAs that come meanwhile have asked for themselves. */
static void sweep_some(struct xf_follow *follow)
{
	struct sweep sweep = { .cfg = &follow->cfg, .left = SWEEP_SAS };

	if (xf_sad_walk(follow->cfg.sad, &follow->cursor, sweep_one, &sweep))
		return;
	follow->sweeping = follow->again;
	follow->again = false;
	follow->cursor = 0;
}

/* --- Both --- */

void xf_follow_sa(struct xf_follow *follow, struct xf_sa *sa)
{
	struct xf_io_udp_port port;

	update_mtu(&follow->cfg, sa);
	if (encap_port(&follow->cfg, sa, &port) && !has_port(follow->ports, follow->nports, &port))
		update_ports(follow);
}

void xf_follow_routes(struct xf_follow *follow, unsigned changes)
{

	if (changes & (XF_ROUTE_LINK | XF_ROUTE_ROUTE)) {
		follow->again = follow->sweeping;
		follow->sweeping = true;
		if (!follow->again)
			sweep_some(follow);
	}
	if (changes & XF_ROUTE_ADDR)
		update_ports(follow);
}

uint64_t xf_follow_due(struct xf_follow *follow, uint64_t now_ns)
{
	bool unused = follow->nports && changes_of_sas(follow) != follow->changes;

	if ((unused || follow->refused) && follow->ports_due_ns == UINT64_MAX)
		follow->ports_due_ns = now_ns + PORTS_AGAIN_NS;
	return follow->sweeping ? now_ns : follow->ports_due_ns;
}

void xf_follow_act(struct xf_follow *follow, uint64_t now_ns)
{
	if (now_ns >= follow->ports_due_ns)
		update_ports(follow);
	if (follow->sweeping)
		sweep_some(follow);
}
