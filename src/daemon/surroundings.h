/*
 * surroundings.h - what workers ask of the host (struct xf_env), and how they wake the control
 * thread.
 *
 * The control thread makes it before the first worker; then it is constant.
 */
#ifndef XF_DAEMON_SURROUNDINGS_H
#define XF_DAEMON_SURROUNDINGS_H

#include <xf/path.h>

#include "capture/capture.h"
#include "host/forwarding.h"
#include "host/route.h"

#include "events.h"

struct xf_surroundings {
	struct xf_route *route;
	struct xf_forwarding *forwarding;
	const struct xf_capture *capture;
	struct xf_events events;
};

/* For the engine; @around outlives it. */
struct xf_env xf_surroundings_env(struct xf_surroundings *around);

#endif
