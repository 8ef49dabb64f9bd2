/*
 * threads.h - the worker threads: one xf_io each, from start to stop.
 *
 * Control thread; the workers themselves run xf_io_run() and nothing of ours. Functions return 0
 * or -errno with a sentence in @error.
 */
#ifndef XF_DAEMON_THREADS_H
#define XF_DAEMON_THREADS_H

#include "port/io.h"

struct xf_threads;

/* Make @n workers' queues and sockets, like @io (the seed is drawn for each). No thread yet. */
int xf_threads_new(const struct xf_io_config *io, unsigned n, struct xf_threads **out,
		   struct xf_io_error *error);

/*
 * Start them, as XF_ROLE_WORKER (privs.h). Signals must be blocked already: they belong to the
 * control thread.
 */
int xf_threads_start(struct xf_threads *threads, struct xf_io_error *error);

/* Stop those that run, wait for them, free all. */
void xf_threads_free(struct xf_threads *threads);

/* xf_io_set_udp_ports() of what they share. */
int xf_threads_set_udp_ports(struct xf_threads *threads, const struct xf_io_udp_port *ports,
			     unsigned n, struct xf_io_error *error);

/* xf_io_has_udp_port() of what they share. */
bool xf_threads_has_udp_port(const struct xf_threads *threads, const struct xf_io_udp_port *port);

/* xf_io_remake_tun() of each. On an error call again. */
int xf_threads_remake_tun(struct xf_threads *threads, struct xf_io_error *error);

/* Sums over all workers. */
void xf_threads_get_stats(const struct xf_threads *threads, struct xf_io_stats *out);
void xf_threads_get_queues(const struct xf_threads *threads, struct xf_io_queues *out);

unsigned xf_threads_count(const struct xf_threads *threads);

#endif
