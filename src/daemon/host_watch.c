/*
 * One descriptor for each that tells of changes, and a time for each that does not. The service
 * starts this with its loop; chores.c asks for the times.
 */
#include <sys/epoll.h>
#include <unistd.h>

#include "host_watch.h"

/* iptables' own tables come without an event, so they are asked for so often. */
#define NAT_AGAIN_NS (5 * XF_NSEC_PER_SEC)
#define IPTABLES_NAMES "/proc/thread-self/net/ip_tables_names"

static void follow_nat(struct xf_host_watch *host, uint64_t now_ns)
{
	if (xf_capture_nat_fd(host->cfg.capture) < 0)
		return;
	xf_capture_follow_nat(host->cfg.capture, now_ns);
	host->nat_due_ns = access(IPTABLES_NAMES, F_OK) ? UINT64_MAX : now_ns + NAT_AGAIN_NS;
}

static void route_ready(void *arg, uint32_t events)
{
	struct xf_host_watch *host = arg;
	unsigned changes = xf_route_dispatch(host->cfg.route);
	uint64_t now_ns = xf_clock_ns();

	(void)events;
	if (changes & XF_ROUTE_LINK)
		xf_capture_links_changed(host->cfg.capture, now_ns);
	xf_follow_routes(host->cfg.follow, changes);
	if (changes & XF_ROUTE_NETCONF)
		xf_forwarding_load(host->cfg.forwarding, now_ns);
	host->cfg.changed(host->cfg.arg, now_ns);
}

static void capture_ready(void *arg, uint32_t events)
{
	struct xf_host_watch *host = arg;
	uint64_t now_ns = xf_clock_ns();

	(void)events;
	xf_capture_dispatch(host->cfg.capture, now_ns);
	host->cfg.changed(host->cfg.arg, now_ns);
}

static void packet_ready(void *arg, uint32_t events)
{
	struct xf_host_watch *host = arg;

	(void)events;
	xf_packet_dispatch(host->cfg.packet, xf_clock_ns());
}

/* Each change of a policy changes our table. Where iptables has come it is asked from now on. */
static void nat_ready(void *arg, uint32_t events)
{
	struct xf_host_watch *host = arg;
	bool iptables = host->nat_due_ns == UINT64_MAX && access(IPTABLES_NAMES, F_OK) == 0;

	(void)events;
	if (!xf_capture_nat_has_changed(host->cfg.capture) && !iptables)
		return;
	follow_nat(host, xf_clock_ns());
	host->cfg.changed(host->cfg.arg, xf_clock_ns());
}

uint64_t xf_host_watch_due(const struct xf_host_watch *host)
{
	uint64_t forwarding = xf_forwarding_due(host->cfg.forwarding);

	return host->nat_due_ns < forwarding ? host->nat_due_ns : forwarding;
}

void xf_host_watch_act(struct xf_host_watch *host, uint64_t now_ns)
{
	if (now_ns >= host->nat_due_ns)
		follow_nat(host, now_ns);
	if (now_ns >= xf_forwarding_due(host->cfg.forwarding))
		xf_forwarding_load(host->cfg.forwarding, now_ns);
}

/* -1: the host does not say that. */
static int watch(struct xf_host_watch *host, struct xf_watch *watch, int fd,
		 void (*ready)(void *arg, uint32_t events), struct xf_loop *loop)
{
	*watch = (struct xf_watch){ .fd = fd, .ready = ready, .arg = host };
	return fd < 0 ? 0 : xf_loop_add(loop, watch, EPOLLIN);
}

int xf_host_watch_start(struct xf_host_watch *host, const struct xf_host_watch_config *cfg,
			struct xf_loop *loop)
{
	int packet = cfg->packet ? xf_packet_fd(cfg->packet) : -1;
	int err;

	*host = (struct xf_host_watch){ .cfg = *cfg, .nat_due_ns = UINT64_MAX };
	err = watch(host, &host->capture, xf_capture_fd(cfg->capture), capture_ready, loop);
	if (!err)
		err = watch(host, &host->route, xf_route_fd(cfg->route), route_ready, loop);
	if (!err)
		err = watch(host, &host->nat, xf_capture_nat_fd(cfg->capture), nat_ready, loop);
	if (!err)
		err = watch(host, &host->packet, packet, packet_ready, loop);
	follow_nat(host, xf_clock_ns());
	return err;
}
