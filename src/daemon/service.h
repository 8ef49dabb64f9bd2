/*
 * service.h - the parts put together: engine, netlink server, workers, capture, routes.
 *
 * Control thread. Functions return 0 or -errno; starting says in one sentence what failed.
 */
#ifndef XF_DAEMON_SERVICE_H
#define XF_DAEMON_SERVICE_H

#include "daemon/clients/clients.h"
#include "daemon/thread/threads.h"

#include "changes.h"
#include "chores.h"
#include "config.h"
#include "host_watch.h"
#include "surroundings.h"
#include "wallclock.h"

/* Each part takes of this what it needs; the whole is for starting and stopping alone. */
struct xf_service {
	/* Constant after xf_service_start(). */
	const struct xf_config *cfg;
	struct xf_loop *loop;
	struct xf_rundir run;
	struct xf_io_names names;
	struct xf_engine *engine;
	struct xf_surroundings around;
	struct xf_packet *packet; /* NULL: native packets leave by raw sockets, because ... */
	struct xf_io_error no_packet; /* ... of this; "": as configured */
	struct xf_threads *threads;
	struct xf_capture *capture;
	struct xf_clients *clients;
	uint64_t start_ns;
	int acquire_fd; /* net.core.xfrm_acq_expires; -1 = this kernel has none */
	struct xf_wallclock wallclock;

	/* Control thread. */
	struct xf_changes changes;
	struct xf_host_watch host;
	struct xf_chores chores;
	struct xf_missing missing;
};

/*
 * Bring everything up on @loop: when this returns 0, clients are served and packets flow. On an
 * error all is as before. @service is zero but for cfg, loop and run (xf_rundir_open()).
 */
int xf_service_start(struct xf_service *service, struct xf_io_error *error);

/*
 * Take the protection away: traffic flows in clear from then on. The workers end and the loop
 * stops, whatever comes of it.
 */
int xf_service_release(struct xf_service *service, struct xf_io_error *error);

/* Stop. The protection in the kernel stays, unless it was released. */
void xf_service_stop(struct xf_service *service);

#endif
