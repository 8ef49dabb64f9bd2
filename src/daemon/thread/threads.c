#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "thread.h"
#include "threads.h"

struct thread {
	struct xf_io *io;
	pthread_t id;
	bool running;
};

struct xf_threads {
	struct xf_io_shared *shared;
	unsigned n;
	struct thread list[];
};

int xf_threads_new(const struct xf_io_config *io, unsigned n, struct xf_threads **out,
		   struct xf_io_error *error)
{
	struct xf_threads *threads = calloc(1, sizeof(*threads) + n * sizeof(threads->list[0]));
	struct xf_io_config cfg = *io;
	int err = 0;

	cfg.worker.ordered = n > 1;
	if (!threads) {
		snprintf(error->text, sizeof(error->text), "no memory for %u workers", n);
		return -ENOMEM;
	}
	err = xf_io_shared_new(&cfg, &threads->shared, error);
	cfg.shared = threads->shared;
	for (; threads->n < n && !err; threads->n += err == 0) {
		if (getrandom(cfg.worker.seed, sizeof(cfg.worker.seed), 0) !=
		    sizeof(cfg.worker.seed))
			err = -EIO;
		else
			err = xf_io_new(&cfg, &threads->list[threads->n].io, error);
	}
	if (err) {
		xf_threads_free(threads);
		return err;
	}
	*out = threads;
	return 0;
}

static void run(void *arg)
{
	xf_io_run(arg);
}

int xf_threads_start(struct xf_threads *threads, struct xf_io_error *error)
{
	for (unsigned i = 0; i < threads->n; i++) {
		struct thread *t = &threads->list[i];
		const struct xf_thread_config cfg = {
			.name = "worker", .role = XF_ROLE_WORKER, .run = run, .arg = t->io
		};
		int err = xf_thread_start(&cfg, &t->id);

		if (err) {
			snprintf(error->text, sizeof(error->text),
				 "cannot start worker %u without privileges: %s", i,
				 strerror(-err));
			return err;
		}
		t->running = true;
	}
	return 0;
}

void xf_threads_free(struct xf_threads *threads)
{
	if (!threads)
		return;
	for (unsigned i = 0; i < threads->n; i++) {
		if (threads->list[i].running)
			xf_io_stop(threads->list[i].io);
	}
	for (unsigned i = 0; i < threads->n; i++) {
		if (threads->list[i].running)
			pthread_join(threads->list[i].id, NULL);
	}
	for (unsigned i = 0; i < threads->n; i++)
		xf_io_free(threads->list[i].io);
	xf_io_shared_free(threads->shared);
	free(threads);
}

int xf_threads_set_udp_ports(struct xf_threads *threads, const struct xf_io_udp_port *ports,
			     unsigned n, struct xf_io_error *error)
{
	return xf_io_set_udp_ports(threads->shared, ports, n, error);
}

bool xf_threads_has_udp_port(const struct xf_threads *threads, const struct xf_io_udp_port *port)
{
	return xf_io_has_udp_port(threads->shared, port);
}

int xf_threads_remake_tun(struct xf_threads *threads, struct xf_io_error *error)
{
	int err = 0;

	for (unsigned i = 0; i < threads->n && !err; i++)
		err = xf_io_remake_tun(threads->list[i].io, error);
	return err;
}

void xf_threads_get_stats(const struct xf_threads *threads, struct xf_io_stats *out)
{
	memset(out, 0, sizeof(*out));
	for (unsigned i = 0; i < threads->n; i++)
		xf_io_add_stats(threads->list[i].io, out);
	xf_io_shared_add_stats(threads->shared, out);
}

void xf_threads_get_queues(const struct xf_threads *threads, struct xf_io_queues *out)
{
	memset(out, 0, sizeof(*out));
	for (unsigned i = 0; i < threads->n; i++)
		xf_io_add_queue(threads->list[i].io, out);
}

unsigned xf_threads_count(const struct xf_threads *threads)
{
	return threads->n;
}
