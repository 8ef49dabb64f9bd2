/*
 * The worker loop: wait, read a batch, through the engine, send what comes out.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <xf/gro.h>
#include <xf/rcu.h>

#include "port/backend.h"
#include "port/device.h"

/* With an empty pool a worker looks so often whether buffers have come back. */
#define STARVED_MS 1

/* Waiting for ciphers, the worker looks by itself so often: a wake may have come before. */
#define CATCH_UP_MS 10

/* Taken over at once from the kernel, which keeps the rest for the next pass. */
#define EVENTS 32

/* Slots of a batch hold one small and one large buffer each; the rest is for what comes out of
 * the engine, and for datagrams that wait for their fragments. */
const struct xf_pool_config xf_io_pool_default = {
	.packets = 4096,
	.small_bufs = 8192,
	.large_bufs = 4 * XF_BATCH,
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * XF_NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* And what other workers' packets have waited for. */
static void send_queues(struct xf_io *io, struct xf_path_result *res)
{
	do {
		xf_tx_wire(io, &res->wire);
		xf_tun_deliver(io, &res->deliver);
		xf_tx_clear(io, &res->clear);
		xf_tx_reply(io, &res->reply);
	} while (xf_path_sent(io->worker, res));
}

static void send_results(struct xf_io *io, struct xf_path_result *res)
{
	struct xf_pktq back = { 0 };

	send_queues(io, res);
	xf_tx_ask(io, &res->ask, &back);
	if (!back.count)
		return;
	xf_path_out(io->worker, &back, io->now_ns, res);
	send_queues(io, res);
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

/* Returns the time of the next one. */
static uint64_t tick(struct xf_io *io, uint64_t now)
{
	struct xf_path_result res = { 0 };
	uint64_t deadline_ns = xf_path_tick(io->worker, now, &res);

	send_results(io, &res);
	xf_read_quiescent();
	return deadline_ns;
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

/* Read a batch from @source, which this worker has claimed. */
static void read_batch(struct xf_io *io, struct xf_source *source, struct xf_pktq *in)
{
	int n = -EAGAIN;

	source->more = false;
	if (source->fd >= 0)
		n = source->backend->receive(io, source, XF_BATCH, in);
	io->starved |= n == -ENOBUFS;
}

static struct xf_source *find_source(struct xf_io *io, uint64_t token)
{
	if (xf_token_index(token) == XF_SOURCE_TUN)
		return &io->tun_source;
	return xf_sources_find(&io->shared->sources, token);
}

/* Packets of a link: by these their policies are found, their fragments, and the way back. */
static void tell_device(const struct xf_port_device *device, const struct xf_pktq *in)
{
	for (struct xf_pkt *pkt = in->head; pkt; pkt = pkt->next) {
		pkt->oif = device->ifindex;
		pkt->if_id = device->if_id;
		pkt->realm = device->link;
	}
}

/*
 * It stays ready when there may be more. When others have come meanwhile they may know it by a
 * later token than this worker did, so that is what counts.
 */
static void give_back(struct xf_io *io, struct xf_source *source)
{
	bool more = source->more;

	if (xf_source_give_back(source) || more)
		xf_ready_add(&io->ready, xf_source_token(source));
}

/*
 * The next batch may be another worker's as soon as this one has its numbers, so that packets of
 * one flow stay in order; what gets none here has to be sent before.
 */
static void serve_captured(struct xf_io *io, struct xf_source *source, uint64_t now)
{
	struct xf_path_result res = { 0 };
	struct xf_pktq in = { 0 };
	bool some;
	bool first;

	read_batch(io, source, &in);
	some = in.count;
	if (source->ifindex)
		tell_device(&(struct xf_port_device){ source->ifindex, source->if_id,
						      xf_source_token(source) },
			    &in);
	if (some)
		xf_path_out(io->worker, &in, now, &res);
	first = res.clear.count || res.ask.count;
	if (first)
		send_results(io, &res);
	give_back(io, source);
	if (some && !first)
		send_results(io, &res);
}

/* The next batch may be another worker's while this one is decrypted: its ticket, taken with it,
 * keeps the order. */
static void serve_received(struct xf_io *io, struct xf_source *source, uint64_t now)
{
	struct xf_path_ticket ticket = { .turn = &source->turn };
	struct xf_path_result res = { 0 };
	struct xf_pktq in = { 0 };
	bool some;

	read_batch(io, source, &in);
	some = in.count;
	if (some)
		ticket.number = source->batches++;
	give_back(io, source);
	if (!some)
		return;
	xf_path_in_ordered(io->worker, &in, io->cfg.worker.ordered ? &ticket : NULL, now, &res);
	send_results(io, &res);
}

/* Read once from the source that @token is about, where it is still there and nobody else does. */
static void serve(struct xf_io *io, uint64_t token, uint64_t now)
{
	struct xf_source *source;

	catch_up(io, now);
	source = find_source(io, token);
	if (!source || !xf_source_claim(source))
		return;
	if (source->backend->captured)
		serve_captured(io, source, now);
	else
		serve_received(io, source, now);
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

/* The event of WAKE has done its work: collect() does what is to be done. */
static void note_event(struct xf_io *io, uint64_t token)
{
	uint32_t index = xf_token_index(token);

	if (index == XF_SOURCE_STOP)
		io->stopping = true;
	else if (index != XF_SOURCE_WAKE)
		xf_ready_add(&io->ready, token);
}

/*
 * See which sources have become ready. With some of them not empty yet this only looks; else it
 * sleeps, offline for RCU, at most until @deadline_ns. Without buffers there is nothing to do but
 * to wait for those that hold them. False: the worker shall stop.
 */
static bool wait_ready(struct xf_io *io, uint64_t deadline_ns, uint64_t now)
{
	struct epoll_event events[EVENTS];
	bool sleep = !xf_ready_any(&io->ready) || io->starved;
	int ms = io->starved ? STARVED_MS : wait_ms(deadline_ns, now);
	int n;

	io->starved = false;
	if (sleep)
		xf_read_offline();
	n = epoll_wait(io->epoll_fd, events, EVENTS, sleep ? ms : 0);
	if (sleep)
		xf_read_online();
	for (int i = 0; i < n; i++)
		note_event(io, events[i].data.u64);
	xf_count(&io->count.wakeups, sleep);
	return !io->stopping;
}

/*
 * One batch from each source that is ready: none has to wait until another one is empty. What
 * becomes ready meanwhile has its turn in the next pass.
 */
static void serve_ready(struct xf_io *io, uint64_t now)
{
	uint64_t ring = xf_ready_clear(&io->ready, XF_SOURCE_RING);

	if (ring)
		serve(io, ring, now);
	for (uint32_t n = io->ready.n; n; n--)
		serve(io, xf_ready_take(&io->ready), now);
}

void xf_io_run(struct xf_io *io)
{
	uint64_t deadline_ns = UINT64_MAX;
	uint64_t now = 0;

	xf_read_register();
	while (wait_ready(io, deadline_ns, now)) {
		now = now_ns();
		io->now_ns = now;
		serve_ready(io, now);
		collect(io, now);
		deadline_ns = tick(io, now);
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

static int watch(const struct xf_io *io, int fd, uint64_t token)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET, .data.u64 = token };

	return epoll_ctl(io->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int watch_all(struct xf_io *io, struct xf_io_error *error)
{
	int err;

	io->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (io->epoll_fd < 0)
		return xf_io_fail(error, -errno, "cannot make an epoll set");
	err = watch(io, io->tun.fd, xf_source_token(&io->tun_source));
	if (!err)
		err = watch(io, io->stop_fd, XF_SOURCE_STOP);
	if (!err)
		err = watch(io, io->wake_fd, XF_SOURCE_WAKE);
	if (!err)
		err = xf_shared_join(io->shared, io->epoll_fd);
	return err ? xf_io_fail(error, err, "cannot watch a descriptor") : 0;
}

static int open_all(struct xf_io *io, struct xf_io_error *error)
{
	int err = xf_tx_open(&io->tx4, XF_AF_INET, &io->cfg.names, error);

	if (!err)
		err = xf_tx_open(&io->tx6, XF_AF_INET6, &io->cfg.names, error);
	if (!err)
		err = xf_packet_open(io, error);
	return err ? err : watch_all(io, error);
}

static struct xf_io *alloc_io(const struct xf_io_config *cfg)
{
	struct xf_io *io = calloc(1, sizeof(*io));

	if (!io)
		return NULL;
	io->cfg = *cfg;
	io->shared = cfg->shared;
	if (!io->cfg.worker.pool.packets)
		io->cfg.worker.pool = xf_io_pool_default;
	io->ident = (uint32_t)cfg->worker.seed[0];
	io->epoll_fd = -1;
	io->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	io->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	io->cfg.worker.wake = (struct xf_crypto_wake){ .fn = wake, .arg = io };
	xf_tx_init(&io->tx4);
	xf_tx_init(&io->tx6);
	xf_tx_init(&io->tx_packet);
	io->tun.fd = -1;
	return io;
}

/* The device first: what it takes decides what the worker joins. */
static int open_worker(struct xf_io *io, struct xf_io_error *error)
{
	struct xf_worker_config *cfg = &io->cfg.worker;
	int err = xf_tun_open(&io->cfg.names, !io->cfg.no_offloads, &io->tun, error);

	if (err)
		return err;
	io->tun_source.backend = &xf_backend_tun;
	io->tun_source.index = XF_SOURCE_TUN;
	io->tun_source.generation = 1;
	io->tun_source.fd = io->tun.fd;
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
	xf_shared_part(io->shared, io->epoll_fd);
	close_fd(io->tun.fd);
	xf_tx_close(&io->tx4);
	xf_tx_close(&io->tx6);
	close_fd(io->tx_packet.fd);
	close_fd(io->epoll_fd);
	close_fd(io->stop_fd);
	if (io->worker) {
		xf_rx_free(io);
		xf_worker_free(io->worker);
	}
	close_fd(io->wake_fd); /* until then a provider may use it */
	free(io);
}
