/*
 * Sources that all workers read from.
 *
 * Each is in every worker's epoll set. An arrival wakes one of the workers that sleep
 * (EPOLLEXCLUSIVE) and is told once (EPOLLET): a source that one worker is reading from does not
 * keep the others awake.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "port/backend.h"
#include "port/ring_frags.h"

/* A new place at the end of the set. */
static struct xf_source *add_place(struct xf_sources *set)
{
	struct xf_source *source;

	if (set->n == XF_SOURCES_MAX)
		return NULL;
	source = calloc(1, sizeof(*source));
	if (!source)
		return NULL;
	source->index = set->n;
	source->fd = -1;
	source->socket = -1;
	atomic_store_explicit(&set->at[set->n++], source, memory_order_release);
	return source;
}

static struct xf_source *find_free(struct xf_sources *set)
{
	for (uint32_t i = 0; i < set->n; i++)
		if (!set->at[i]->taken)
			return set->at[i];
	return NULL;
}

struct xf_source *xf_shared_get_source(struct xf_io_shared *shared)
{
	struct xf_source *source = find_free(&shared->sources);

	if (!source)
		source = add_place(&shared->sources);
	if (source)
		source->taken = true;
	return source;
}

static int watch(const struct xf_source *source, int epoll_fd)
{
	struct epoll_event event = {
		.events = EPOLLIN | EPOLLET | EPOLLEXCLUSIVE,
		.data.u64 = xf_source_token(source),
	};

	return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, source->fd, &event) < 0 ? -errno : 0;
}

static void next_generation(struct xf_source *source)
{
	uint32_t next = atomic_load_explicit(&source->generation, memory_order_relaxed) + 1;

	atomic_store_explicit(&source->generation, next ? next : 1, memory_order_release);
}

int xf_shared_open(struct xf_io_shared *shared, struct xf_source *source)
{
	int err = 0;

	next_generation(source);
	source->fd = source->socket;
	for (unsigned i = 0; !err && i < shared->workers; i++)
		err = watch(source, shared->epoll_fds[i]);
	if (err)
		xf_shared_close(shared, source);
	return err;
}

/* No worker can hold the socket any more. It may have been wanted again since. */
static void close_socket(struct xf_rcu_head *head)
{
	struct xf_source *source =
		(struct xf_source *)(void *)((char *)head - offsetof(struct xf_source, rcu));

	source->closing = false;
	if (source->fd >= 0)
		return;
	close(source->socket);
	source->socket = -1;
	source->taken = !source->passing;
}

/* Taken out of the epoll sets here, not by close(): others may have the same socket open. */
void xf_shared_close(struct xf_io_shared *shared, struct xf_source *source)
{
	source->fd = -1;
	for (unsigned i = 0; i < shared->workers; i++)
		epoll_ctl(shared->epoll_fds[i], EPOLL_CTL_DEL, source->socket, NULL);
	if (!source->closing)
		xf_rcu_defer(&source->rcu, close_socket);
	source->closing = true;
}

int xf_shared_join(struct xf_io_shared *shared, int epoll_fd)
{
	const struct xf_sources *set = &shared->sources;
	int err = 0;

	if (shared->workers == XF_IO_WORKERS_MAX)
		return -ENOSPC;
	for (uint32_t i = 0; !err && i < set->n; i++)
		if (set->at[i]->fd >= 0)
			err = watch(set->at[i], epoll_fd);
	if (!err)
		shared->epoll_fds[shared->workers++] = epoll_fd;
	return err;
}

void xf_shared_part(struct xf_io_shared *shared, int epoll_fd)
{
	for (unsigned i = 0; i < shared->workers; i++) {
		if (shared->epoll_fds[i] != epoll_fd)
			continue;
		shared->epoll_fds[i] = shared->epoll_fds[--shared->workers];
		return;
	}
}

/* A descriptor of our own: ring and sources go separately. */
static int open_ring(struct xf_io_shared *shared, const struct xf_ring *ring,
		     struct xf_io_error *error)
{
	struct xf_source *source = shared->ring;

	source->backend = &xf_backend_ring;
	source->ring = ring;
	if (xf_ring_frags_new(&source->frags))
		return xf_io_fail(error, -ENOMEM, "cannot receive packets");
	source->socket = fcntl(xf_ring_fd(ring), F_DUPFD_CLOEXEC, 0);
	if (source->socket < 0)
		return xf_io_fail(error, -errno, "cannot receive packets");
	return xf_shared_open(shared, source);
}

/* The ring's is the first (XF_SOURCE_RING). 0 or -ENOMEM. */
static int take_places(struct xf_io_shared *shared)
{
	bool all;

	shared->ring = xf_shared_get_source(shared);
	all = shared->ring;
	for (unsigned i = 0; i < XF_RAW_KINDS; i++)
		all &= (shared->raw[i] = xf_shared_get_source(shared)) != NULL;
	for (unsigned i = 0; i < XF_IO_UDP_PORTS_MAX; i++)
		all &= (shared->udp[i] = xf_shared_get_source(shared)) != NULL;
	return all ? 0 : -ENOMEM;
}

int xf_io_shared_new(const struct xf_io_config *cfg, struct xf_io_shared **out,
		     struct xf_io_error *error)
{
	struct xf_io_shared *shared = calloc(1, sizeof(*shared));
	int err;

	if (!shared)
		return xf_io_fail(error, -ENOMEM, "cannot receive packets");
	shared->rcvbuf_bytes = cfg->rcvbuf_bytes ? cfg->rcvbuf_bytes : XF_IO_SOCKET_BYTES;
	shared->mark_bypass = cfg->names.mark_bypass;
	err = take_places(shared);
	if (err)
		xf_io_fail(error, err, "cannot receive packets");
	else
		err = xf_raw_open(shared, error);
	if (!err && cfg->packet && xf_packet_ring(cfg->packet))
		err = open_ring(shared, xf_packet_ring(cfg->packet), error);
	if (err) {
		xf_io_shared_free(shared);
		return err;
	}
	*out = shared;
	return 0;
}

void xf_io_shared_free(struct xf_io_shared *shared)
{
	if (!shared)
		return;
	/* Sockets that wait for a grace period point into it. */
	xf_rcu_drain();
	if (shared->ring)
		xf_ring_frags_free(shared->ring->frags);
	for (uint32_t i = 0; i < shared->sources.n; i++) {
		struct xf_source *source = shared->sources.at[i];

		if (source->socket >= 0)
			close(source->socket);
		free(source);
	}
	free(shared);
}
