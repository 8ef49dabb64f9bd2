/*
 * All of these run on worker threads, which ask while they handle a packet. The service gives them
 * to its engine.
 */
#include "surroundings.h"

static bool is_local(void *arg, const union xf_addr *addr, uint16_t family)
{
	const struct xf_surroundings *around = arg;

	return xf_route_is_local(around->route, addr, family);
}

/* What goes to many ends here, and the kernel knows who it is for. */
static bool may_forward(void *arg, const union xf_addr *daddr, uint16_t family, uint32_t iif)
{
	const struct xf_surroundings *around = arg;

	return xf_forwarding_allows(around->forwarding, family, iif) ||
	       xf_route_is_for_many(around->route, daddr, family);
}

static bool is_exempt(void *arg, const union xf_addr *daddr, uint16_t family, uint32_t iif)
{
	const struct xf_surroundings *around = arg;

	return xf_capture_is_exempt(around->capture, daddr, family, iif);
}

static void wake(void *arg)
{
	const struct xf_surroundings *around = arg;

	xf_events_wake(&around->events);
}

struct xf_env xf_surroundings_env(struct xf_surroundings *around)
{
	return (struct xf_env){
		.arg = around,
		.is_local = is_local,
		.may_forward = may_forward,
		.is_exempt = is_exempt,
		.wake = wake,
	};
}
