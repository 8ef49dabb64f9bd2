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

#include "io/backend.h"
#include "io/ring_frags.h"

static int watch(const struct xf_io_shared *shared, int epoll_fd, uint32_t index)
{
	struct epoll_event event = {
		.events = EPOLLIN | EPOLLET | EPOLLEXCLUSIVE,
		.data.u32 = index,
	};
	int fd = shared->sources[index].fd;

	if (fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0)
		return 0;
	return -errno;
}

int xf_shared_announce(struct xf_io_shared *shared, uint32_t index)
{
	int err = 0;

	for (unsigned i = 0; !err && i < shared->workers; i++)
		err = watch(shared, shared->epoll_fds[i], index);
	return err;
}

int xf_shared_join(struct xf_io_shared *shared, int epoll_fd)
{
	int err = 0;

	if (shared->workers == XF_IO_WORKERS_MAX)
		return -ENOSPC;
	for (uint32_t i = 0; !err && i < XF_SOURCE_MAX; i++)
		err = watch(shared, epoll_fd, i);
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
	struct xf_source *source = &shared->sources[XF_SOURCE_RING];

	source->backend = &xf_backend_ring;
	source->ring = ring;
	if (xf_ring_frags_new(&source->frags))
		return xf_io_fail(error, -ENOMEM, "cannot receive packets");
	source->fd = fcntl(xf_ring_fd(ring), F_DUPFD_CLOEXEC, 0);
	return source->fd < 0 ? xf_io_fail(error, -errno, "cannot receive packets") : 0;
}

int xf_io_shared_new(const struct xf_io_config *cfg, struct xf_io_shared **out,
		     struct xf_io_error *error)
{
	struct xf_io_shared *shared = calloc(1, sizeof(*shared));
	int err;

	if (!shared)
		return xf_io_fail(error, -ENOMEM, "cannot receive packets");
	shared->rcvbuf_bytes = cfg->rcvbuf_bytes;
	shared->mark_bypass = cfg->names.mark_bypass;
	for (unsigned i = 0; i < XF_SOURCE_MAX; i++) {
		shared->sources[i].fd = -1;
		shared->sources[i].socket = -1;
	}
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
	for (unsigned i = 0; i < XF_SOURCE_MAX; i++) {
		const struct xf_source *source = &shared->sources[i];
		int fd = source->socket >= 0 ? source->socket : source->fd;

		if (fd >= 0)
			close(fd);
	}
	xf_ring_frags_free(shared->sources[XF_SOURCE_RING].frags);
	free(shared);
}
