#include <string.h>

#include "follow.h"
#include "log.h"
#include "service.h"

#define UDP_ENCAP_ESP 2 /* RFC 3948; the kernel's UDP_ENCAP_ESPINUDP */

/* Ports that no SA has any more are closed so late, one that somebody has is tried so often. */
#define PORTS_AGAIN_NS (5 * XF_NSEC_PER_SEC)

/* SAs whose MTUs are asked for at a time: some 4 µs each. */
#define SWEEP_SAS 1024

void xf_follow_init(struct xf_service *service)
{
	service->follow.ports_due_ns = UINT64_MAX;
}

/* --- Ports --- */

/* Ports on which SAs want ESP in UDP, collected. */
struct port_list {
	const struct xf_service *service;
	uint16_t ports[XF_IO_UDP_PORTS_MAX];
	unsigned n;
};

static bool has_port(const uint16_t *ports, unsigned n, uint16_t port)
{
	for (unsigned i = 0; i < n; i++) {
		if (ports[i] == port)
			return true;
	}
	return false;
}

/* The local port of an inbound SA with encapsulation, else 0. */
static uint16_t encap_port(const struct xf_service *service, const struct xf_sa *sa)
{
	const struct xf_sa_view *cfg = xf_sa_cfg(sa);

	if (cfg->terms->encap.type != UDP_ENCAP_ESP || cfg->dir == XF_SA_DIR_OUT ||
	    !xf_route_is_local(service->route, &cfg->id.daddr, cfg->id.family))
		return 0;
	return cfg->terms->encap.dport;
}

static bool collect_port(void *arg, struct xf_sa *sa)
{
	struct port_list *list = arg;
	uint16_t port = encap_port(list->service, sa);

	if (port && !has_port(list->ports, list->n, port))
		list->ports[list->n++] = port;
	return list->n < XF_IO_UDP_PORTS_MAX;
}

static uint64_t changes_of_sas(const struct xf_service *service)
{
	struct xf_sad_info info;

	xf_sad_get_info(xf_engine_sad(service->engine), &info);
	return info.changes;
}

static void update_ports(struct xf_service *service)
{
	struct xf_follow *follow = &service->follow;
	struct port_list list = { .service = service };
	struct xf_io_error error;
	uint64_t cursor = 0;

	follow->changes = changes_of_sas(service);
	follow->ports_due_ns = UINT64_MAX;
	xf_sad_walk(xf_engine_sad(service->engine), &cursor, collect_port, &list);
	follow->refused =
		xf_threads_set_udp_ports(service->threads, list.ports, list.n, &error) != 0;
	if (follow->refused)
		xf_log(XF_LOG_WARNING, "%s", error.text);
	memcpy(follow->ports, list.ports, sizeof(list.ports));
	follow->nports = list.n;
}

/* --- Path MTUs --- */

static void update_mtu(const struct xf_service *service, struct xf_sa *sa)
{
	const struct xf_sa_view *cfg = xf_sa_cfg(sa);
	const struct xf_mark *set = &cfg->terms->set_mark;
	uint32_t mark = service->names.mark_bypass | (set->v & set->m);

	/* Nothing leaves by an inbound one. */
	if (cfg->dir == XF_SA_DIR_IN ||
	    xf_route_is_local(service->route, &cfg->id.daddr, cfg->id.family))
		return;
	xf_sa_set_route_mtu(sa, xf_route_mtu(service->route, &cfg->saddr, &cfg->id.daddr,
					     cfg->id.family, mark));
}

struct sweep {
	const struct xf_service *service;
	unsigned left;
};

static bool sweep_one(void *arg, struct xf_sa *sa)
{
	struct sweep *sweep = arg;

	update_mtu(sweep->service, sa);
	return --sweep->left > 0;
}

/* SAs that come meanwhile have asked for themselves. */
static void sweep_some(struct xf_service *service)
{
	struct xf_follow *follow = &service->follow;
	struct sweep sweep = { .service = service, .left = SWEEP_SAS };

	if (xf_sad_walk(xf_engine_sad(service->engine), &follow->cursor, sweep_one, &sweep))
		return;
	follow->sweeping = follow->again;
	follow->again = false;
	follow->cursor = 0;
}

/* --- Both --- */

void xf_follow_sa(struct xf_service *service, struct xf_sa *sa)
{
	struct xf_follow *follow = &service->follow;
	uint16_t port = encap_port(service, sa);

	update_mtu(service, sa);
	if (port && !has_port(follow->ports, follow->nports, port))
		update_ports(service);
}

void xf_follow_routes(struct xf_service *service, unsigned changes)
{
	struct xf_follow *follow = &service->follow;

	if (changes & (XF_ROUTE_LINK | XF_ROUTE_ROUTE)) {
		follow->again = follow->sweeping;
		follow->sweeping = true;
		if (!follow->again)
			sweep_some(service);
	}
	if (changes & XF_ROUTE_ADDR)
		update_ports(service);
}

uint64_t xf_follow_due(struct xf_service *service, uint64_t now_ns)
{
	struct xf_follow *follow = &service->follow;
	bool unused = follow->nports && changes_of_sas(service) != follow->changes;

	if ((unused || follow->refused) && follow->ports_due_ns == UINT64_MAX)
		follow->ports_due_ns = now_ns + PORTS_AGAIN_NS;
	return follow->sweeping ? now_ns : follow->ports_due_ns;
}

void xf_follow_act(struct xf_service *service, uint64_t now_ns)
{
	if (now_ns >= service->follow.ports_due_ns)
		update_ports(service);
	if (service->follow.sweeping)
		sweep_some(service);
}
