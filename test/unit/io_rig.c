#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <cmocka.h>

#include "io_rig.h"

static bool nobody(void *arg, const union xf_addr *addr, uint16_t family)
{
	(void)arg;
	(void)addr;
	(void)family;
	return false;
}

static void random_bytes(void *arg, void *buf, size_t len)
{
	(void)arg;
	memset(buf, 7, len);
}

struct xf_engine *rig_engine(void)
{
	const struct xf_engine_config cfg = {
		.sad = { .larval_lifetime_s = 30, .random = random_bytes },
		.env = { .is_local = nobody },
	};
	struct xf_engine *engine = xf_engine_new(&cfg);

	assert_non_null(engine);
	return engine;
}

struct xf_io_shared *rig_shared(void)
{
	struct xf_io_shared *shared = calloc(1, sizeof(*shared));

	assert_non_null(shared);
	shared->ring = xf_shared_get_source(shared);
	for (unsigned i = 0; i < XF_RAW_KINDS; i++)
		shared->raw[i] = xf_shared_get_source(shared);
	for (unsigned i = 0; i < XF_IO_UDP_PORTS_MAX; i++)
		shared->udp[i] = xf_shared_get_source(shared);
	return shared;
}

static void watch(const struct xf_io *io, int fd, uint32_t index)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET, .data.u64 = xf_token(index, 0) };

	assert_return_code(epoll_ctl(io->epoll_fd, EPOLL_CTL_ADD, fd, &event), 0);
}

struct xf_io *rig_io(struct xf_engine *engine, struct xf_io_shared *shared)
{
	struct xf_io *io = calloc(1, sizeof(*io));

	assert_non_null(io);
	io->cfg = (struct xf_io_config){ .engine = engine, .names = xf_io_names_default };
	io->cfg.worker.pool = xf_io_pool_default;
	io->cfg.worker.ordered = true;
	io->shared = shared;
	io->worker = xf_worker_new(engine, &io->cfg.worker);
	assert_non_null(io->worker);
	io->pool = xf_worker_pool(io->worker);
	io->tun.fd = -1;
	io->tun_source.fd = -1;
	xf_tx_init(&io->tx4);
	xf_tx_init(&io->tx6);
	xf_tx_init(&io->tx_packet);
	io->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	io->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	io->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	watch(io, io->stop_fd, XF_SOURCE_STOP);
	watch(io, io->wake_fd, XF_SOURCE_WAKE);
	assert_int_equal(xf_shared_join(shared, io->epoll_fd), 0);
	return io;
}

void rig_enter_namespace(char *self)
{
	const char *how = geteuid() ? "-rn" : "-n";
	char command[64];

	if (getenv("IN_NETNS"))
		return;
	snprintf(command, sizeof(command), "unshare %s true 2>/dev/null", how);
	if (access("/dev/net/tun", R_OK | W_OK) || system(command)) {
		puts("skip: no network namespace and TUNs to be had here");
		exit(77);
	}
	setenv("IN_NETNS", "1", 1);
	execlp("unshare", "unshare", how, self, (char *)NULL);
	exit(1);
}
