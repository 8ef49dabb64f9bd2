/*
 * show.h - SAs, policies and counters as JSON (docs/control-protocol.md).
 *
 * Control thread. Every function returns a new JSON value, or NULL when there is no memory.
 */
#ifndef XF_DAEMON_SHOW_H
#define XF_DAEMON_SHOW_H

#include <jansson.h>

#include <xf/path.h>

#include "capture/capture.h"
#include "daemon/clients/clients.h"
#include "daemon/missing.h"
#include "daemon/thread/threads.h"
#include "port/packet.h"

/* By what packets come in and leave, ... */
struct xf_shown_ports {
	const struct xf_io_names *names;
	const struct xf_threads *threads;
	struct xf_capture *capture;
};

/* ... and native ones in particular. */
struct xf_shown_native {
	enum xf_native mode;
	struct xf_packet *packet; /* NULL: none, because of ... */
	const struct xf_io_error *no_packet;
};

/* The parts of a daemon that are shown; whoever shows it has them, and sees that they are there. */
struct xf_shown {
	struct xf_engine *engine;
	struct xf_shown_ports ports;
	struct xf_shown_native native;
	const struct xf_clients *clients;
	const struct xf_missing *missing;
	uint64_t netns; /* its inode */
	uint64_t start_ns;
};

json_t *xf_show_sa(struct xf_sa *sa, bool keys, uint64_t now_ns);
json_t *xf_show_policy(const struct xf_policy *policy);
json_t *xf_show_status(const struct xf_shown *shown);
json_t *xf_show_stats(struct xf_engine *engine, const struct xf_shown_ports *ports);

/* Parts of the above. */
json_t *xf_show_counters(const struct xf_counter_group *group, const void *sums);
json_t *xf_show_selector(const struct xf_selector *sel);
json_t *xf_show_addr(const union xf_addr *addr, uint16_t family);
json_t *xf_show_hex(uint32_t value);
json_t *xf_show_mark(const struct xf_mark *mark);
json_t *xf_show_lifetime(const struct xf_lifetime *life, const struct xf_lifetime_now *now);

/* Names as ip(8) has them; a number where there is none. */
const char *xf_show_proto(uint8_t proto, char buf[8]);
const char *xf_show_mode(uint8_t mode, char buf[8]);

/* Drops by name, those that are not zero. */
json_t *xf_show_drops(const uint64_t drops[XF_DROP_MAX]);

#endif
