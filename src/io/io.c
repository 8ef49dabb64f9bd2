/*
 * The worker loop: wait, read a batch, through the engine, send what comes out.
 */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <xf/gro.h>
#include <xf/rcu.h>

#include "io/backend.h"

/* Waiting for ciphers, the worker looks by itself so often: a wake may have come before. */
#define CATCH_UP_MS 10

const struct xf_io_names xf_io_names_default = {
	.tun = XF_TUN_NAME,
	.mark_capture = XF_MARK_CAPTURE,
	.mark_bypass = XF_MARK_BYPASS,
	.table = XF_ROUTE_TABLE,
	.rule_priority = XF_RULE_PRIORITY,
};

/* Slots of a batch hold one small and one large buffer each; the rest is for what comes out of
 * the engine, and for datagrams that wait for their fragments. */
const struct xf_pool_config xf_io_pool_default = {
	.packets = 4096,
	.small_bufs = 8192,
	.large_bufs = 4 * XF_BATCH,
};

int xf_io_fail(struct xf_io_error *error, int err, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (!error)
		return err;
	va_start(ap, fmt);
	n = vsnprintf(error->text, sizeof(error->text), fmt, ap);
	va_end(ap);
	if (n >= 0 && (size_t)n < sizeof(error->text))
		snprintf(error->text + n, sizeof(error->text) - (size_t)n, ": %s", strerror(-err));
	return err;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * XF_NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

static void send_results(struct xf_io *io, struct xf_path_result *res)
{
	xf_tx_wire(io, &res->wire);
	xf_tun_deliver(io, &res->deliver);
	xf_tx_clear(io, &res->clear);
	xf_tx_reply(io, &res->reply);
}

/* A cipher on another thread has something for us (struct xf_crypto_wake). */
static void wake(void *arg)
{
	const struct xf_io *io = arg;
	const uint64_t one = 1;
	ssize_t n;

	do
		n = write(io->wake_fd, &one, sizeof(one));
	while (n < 0 && errno == EINTR);
}

/* Send what has come back from such ciphers. */
static void collect(struct xf_io *io, uint64_t now)
{
	struct xf_path_result res = { 0 };
	uint64_t wakes;

	if (!xf_path_waiting(io->worker))
		return;
	/* Emptied first: what comes back from here on wakes us again. */
	while (read(io->wake_fd, &wakes, sizeof(wakes)) < 0 && errno == EINTR)
		;
	xf_path_poll(io->worker, now, &res);
	send_results(io, &res);
	xf_read_quiescent();
}

/* So much is under way that more could be lost: let the ciphers catch up first. */
static void catch_up(struct xf_io *io, uint64_t now)
{
	struct pollfd woken = { .fd = io->wake_fd, .events = POLLIN };

	while (xf_path_busy(io->worker)) {
		xf_read_offline();
		poll(&woken, 1, CATCH_UP_MS);
		xf_read_online();
		collect(io, now);
	}
}

static void serve(struct xf_io *io, struct xf_source *source, uint64_t now)
{
	struct xf_path_result res = { 0 };
	struct xf_pktq in = { 0 };

	catch_up(io, now);
	if (source->backend->receive(io, source, XF_BATCH, &in) <= 0)
		return;
	if (source->backend->captured)
		xf_path_out(io->worker, &in, now, &res);
	else
		xf_path_in(io->worker, &in, now, &res);
	send_results(io, &res);
	xf_read_quiescent();
}

/* Milliseconds to wait, rounded up so that a deadline has passed when epoll returns. */
static int wait_ms(uint64_t deadline_ns, uint64_t now)
{
	uint64_t ms;

	if (deadline_ns == UINT64_MAX)
		return -1;
	if (deadline_ns <= now)
		return 0;
	ms = (deadline_ns - now + 999999) / 1000000;
	return ms > 3600000 ? 3600000 : (int)ms;
}

/* Under load there is always something to read: the worker goes offline only to sleep. */
static int wait_events(struct xf_io *io, struct epoll_event *events, int timeout_ms)
{
	int n = epoll_wait(io->epoll_fd, events, XF_EVENTS_MAX, 0);

	if (n != 0 || timeout_ms == 0)
		return n;
	xf_read_offline();
	n = epoll_wait(io->epoll_fd, events, XF_EVENTS_MAX, timeout_ms);
	xf_read_online();
	return n;
}

void xf_io_run(struct xf_io *io)
{
	struct epoll_event events[XF_EVENTS_MAX];
	int timeout_ms = -1;
	bool stop = false;

	xf_read_register();
	while (!stop) {
		int n = wait_events(io, events, timeout_ms);
		uint64_t now = now_ns();

		xf_io_count(&io->count.wakeups, 1);
		for (int i = 0; i < n; i++) {
			if (events[i].data.u32 == XF_SOURCE_STOP)
				stop = true;
			else if (events[i].data.u32 != XF_SOURCE_WAKE)
				serve(io, &io->sources[events[i].data.u32], now);
		}
		collect(io, now);
		timeout_ms = wait_ms(xf_path_tick(io->worker, now), now);
	}
	xf_read_unregister();
}

void xf_io_stop(struct xf_io *io)
{
	const uint64_t one = 1;
	ssize_t n;

	do
		n = write(io->stop_fd, &one, sizeof(one));
	while (n < 0 && errno == EINTR);
}

static int watch(struct xf_io *io, int fd, uint32_t index)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = index };

	if (fd < 0)
		return 0;
	return epoll_ctl(io->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int watch_all(struct xf_io *io, struct xf_io_error *error)
{
	int err = 0;

	io->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (io->epoll_fd < 0)
		return xf_io_fail(error, -errno, "cannot make an epoll set");
	for (uint32_t i = 0; !err && i < XF_SOURCE_UDP; i++)
		err = watch(io, io->sources[i].fd, i);
	if (!err)
		err = watch(io, io->stop_fd, XF_SOURCE_STOP);
	if (!err)
		err = watch(io, io->wake_fd, XF_SOURCE_WAKE);
	return err ? xf_io_fail(error, err, "cannot watch a descriptor") : 0;
}

static int open_all(struct xf_io *io, struct xf_io_error *error)
{
	int err = xf_raw_open(io, error);

	if (!err)
		err = xf_tx_open(&io->tx4, XF_AF_INET, io->cfg.names.mark_bypass, error);
	if (!err)
		err = xf_tx_open(&io->tx6, XF_AF_INET6, io->cfg.names.mark_bypass, error);
	return err ? err : watch_all(io, error);
}

static struct xf_io *alloc_io(const struct xf_io_config *cfg)
{
	struct xf_io *io = calloc(1, sizeof(*io));

	if (!io)
		return NULL;
	io->cfg = *cfg;
	if (!io->cfg.worker.pool.packets)
		io->cfg.worker.pool = xf_io_pool_default;
	io->ident = (uint32_t)cfg->worker.seed[0];
	io->epoll_fd = -1;
	io->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	io->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	io->cfg.worker.wake = (struct xf_crypto_wake){ .fn = wake, .arg = io };
	io->tx4.fd = -1;
	io->tx6.fd = -1;
	pthread_mutex_init(&io->udp_lock, NULL);
	for (unsigned i = 0; i < XF_SOURCE_MAX; i++)
		io->sources[i].fd = -1;
	return io;
}

/* The device first: what it takes decides what the worker joins. */
static int open_worker(struct xf_io *io, struct xf_io_error *error)
{
	struct xf_worker_config *cfg = &io->cfg.worker;
	int err = xf_tun_open(io->cfg.names.tun, !io->cfg.no_offloads, &io->tun, error);

	if (err)
		return err;
	io->sources[XF_SOURCE_TUN] =
		(struct xf_source){ .backend = &xf_backend_tun, .fd = io->tun.fd };
	if (io->tun.supers)
		cfg->gro = XF_GRO_TCP;
	if (io->tun.udp_supers)
		cfg->gro |= XF_GRO_UDP;
	io->worker = xf_worker_new(io->cfg.engine, cfg);
	if (!io->worker)
		return xf_io_fail(error, -ENOMEM, "cannot make a worker");
	io->pool = xf_worker_pool(io->worker);
	return 0;
}

int xf_io_new(const struct xf_io_config *cfg, struct xf_io **out, struct xf_io_error *error)
{
	struct xf_io *io = alloc_io(cfg);
	int err;

	if (!io)
		return xf_io_fail(error, -ENOMEM, "cannot make a worker");
	err = io->stop_fd < 0 || io->wake_fd < 0 ? -errno : 0;
	if (err) {
		xf_io_free(io);
		return xf_io_fail(error, err, "cannot make an eventfd");
	}
	err = open_worker(io, error);
	if (!err)
		err = open_all(io, error);
	if (err) {
		xf_io_free(io);
		return err;
	}
	*out = io;
	return 0;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

void xf_io_free(struct xf_io *io)
{
	if (!io)
		return;
	for (unsigned i = 0; i < XF_SOURCE_MAX; i++)
		close_fd(io->sources[i].fd);
	close_fd(io->tx4.fd);
	close_fd(io->tx6.fd);
	close_fd(io->epoll_fd);
	close_fd(io->stop_fd);
	if (io->worker) {
		xf_rx_free(io);
		xf_worker_free(io->worker);
	}
	close_fd(io->wake_fd); /* until then a provider may use it */
	pthread_mutex_destroy(&io->udp_lock);
	free(io);
}

void xf_io_get_stats(const struct xf_io *io, struct xf_io_stats *out)
{
	const struct xf_io_counters *c = &io->count;

	*out = (struct xf_io_stats){
		.tun_rx = atomic_load(&c->tun_rx),
		.tun_tx = atomic_load(&c->tun_tx),
		.tun_rx_supers = atomic_load(&c->tun_rx_supers),
		.tun_tx_supers = atomic_load(&c->tun_tx_supers),
		.raw_rx = atomic_load(&c->raw_rx),
		.raw_tx = atomic_load(&c->raw_tx),
		.udp_rx = atomic_load(&c->udp_rx),
		.udp_rx_calls = atomic_load(&c->udp_rx_calls),
		.udp_tx = atomic_load(&c->udp_tx),
		.udp_tx_calls = atomic_load(&c->udp_tx_calls),
		.clear_tx = atomic_load(&c->clear_tx),
		.reply_tx = atomic_load(&c->reply_tx),
		.send_errors = atomic_load(&c->send_errors),
		.truncated = atomic_load(&c->truncated),
		.rx_no_buffer = atomic_load(&c->rx_no_buffer),
		.udp_in_use = atomic_load(&c->udp_in_use),
		.wakeups = atomic_load(&c->wakeups),
		.marks = io->tun.marks,
	};
}
