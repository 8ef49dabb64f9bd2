/*
 * xfrmd: IPsec for one network namespace. Runs in the foreground until SIGTERM; the protection in
 * the kernel stays when it ends.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>

#include "daemon/control/control.h"
#include "daemon/thread/huge.h"
#include "log.h"
#include "missing.h"
#include "daemon/clients/notify.h"
#include "daemon/thread/privs.h"
#include "daemon/thread/secret.h"
#include "service.h"

#define EXIT_BAD_INPUT 2

struct options {
	const char *config;
	bool check;
};

struct signals {
	struct xf_watch watch;
	struct xf_loop *loop;
};

static int usage(FILE *to)
{
	fputs("usage: xfrmd [--config FILE] [--check]\n"
	      "  --config FILE  read FILE, not " XF_CONFIG_PATH "\n"
	      "  --check        say whether the configuration is good, and end\n"
	      "  --version      print the version\n",
	      to);
	return to == stdout ? EXIT_SUCCESS : EXIT_BAD_INPUT;
}

/* -1: go on; else the exit status. */
static int parse_options(int argc, char **argv, struct options *opt)
{
	static const struct option longs[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "check", no_argument, NULL, 'k' },
		{ "version", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c == 'c')
			opt->config = optarg;
		else if (c == 'k')
			opt->check = true;
		else if (c == 'v')
			return puts("xfrmd " XFRMD_VERSION) < 0;
		else
			return usage(c == 'h' ? stdout : stderr);
	}
	if (optind == argc)
		return -1;
	fprintf(stderr, "xfrmd: \"%s\" is not an option\n", argv[optind]);
	return EXIT_BAD_INPUT;
}

static void signal_ready(void *arg, uint32_t events)
{
	struct signals *signals = arg;
	struct signalfd_siginfo info;

	(void)events;
	if (read(signals->watch.fd, &info, sizeof(info)) != sizeof(info))
		return;
	xf_log(XF_LOG_INFO, "stopping; protected traffic stays blocked until xfrmd is back");
	xf_loop_stop(signals->loop);
}

/* Threads that start later inherit the mask: only the control thread sees signals. */
static int take_signals(struct signals *signals, struct xf_loop *loop)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	signal(SIGPIPE, SIG_IGN);
	if (sigprocmask(SIG_BLOCK, &set, NULL))
		return -errno;
	signals->loop = loop;
	signals->watch.ready = signal_ready;
	signals->watch.arg = signals;
	signals->watch.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signals->watch.fd < 0)
		return -errno;
	return xf_loop_add(loop, &signals->watch, EPOLLIN);
}

static int fail(const char *what, int err)
{
	xf_log(XF_LOG_ERROR, "%s: %s", what, strerror(-err));
	return EXIT_FAILURE;
}

static int release(void *arg, struct xf_io_error *error)
{
	return xf_service_release(arg, error);
}

static int start_control(struct xf_service *service, struct xf_control **out)
{
	const struct xf_control_config cfg = {
		.loop = service->loop,
		.path = service->run.ctl_path,
		.answers = {
			.shown = {
				.engine = service->engine,
				.ports = { &service->names, service->threads, service->capture },
				.native = { (enum xf_native)service->cfg->native, service->packet,
					    &service->no_packet },
				.clients = service->clients,
				.missing = &service->missing,
				.netns = service->run.netns.ino,
				.start_ns = service->start_ns,
			},
			.release = release,
			.arg = service,
		},
	};

	return xf_control_new(&cfg, out);
}

/* Serve until told to stop. */
static int serve(struct xf_service *service)
{
	struct signals signals = { .watch.fd = -1 };
	struct xf_control *control = NULL;
	struct xf_io_error error = { .text = "" };
	int err = take_signals(&signals, service->loop);

	if (err)
		return fail("cannot take signals", err);
	if (xf_service_start(service, &error)) {
		xf_log(XF_LOG_ERROR, "%s", error.text);
		return EXIT_FAILURE;
	}
	xf_missing_find(&service->missing);
	err = start_control(service, &control);
	if (!err)
		err = xf_privs_enter(XF_ROLE_CONTROL);
	if (!err) {
		xf_notify("READY=1");
		xf_log(XF_LOG_INFO, "ready: network namespace %lu, %u worker%s",
		       (unsigned long)service->run.netns.ino, service->cfg->workers,
		       service->cfg->workers == 1 ? "" : "s");
		xf_loop_run(service->loop);
		xf_notify("STOPPING=1");
	}
	xf_control_free(control);
	xf_service_stop(service);
	close(signals.watch.fd);
	return err ? fail("cannot start", err) : EXIT_SUCCESS;
}

static int run(const struct xf_config *cfg)
{
	struct xf_service service = { .cfg = cfg };
	struct xf_loop_config loop = {
		.timer = xf_chores_timer,
		.idle = xf_chores_idle,
		.arg = &service.chores,
	};
	int err;
	int status;

	xf_log_set_level((enum xf_log_level)cfg->log_level);
	err = xf_privs_init();
	if (err)
		return fail("cannot find out about privileges", err);
	/* A client needs a descriptor, one while it says hello, a token. */
	xf_privs_raise_limits(3 * cfg->max_clients + 1024);
	xf_huge_memory_init();
	err = xf_secret_memory_init();
	if (err)
		return fail("cannot lock memory for keys", err);
	err = xf_rundir_open(&service.run, XF_RUN_DIR);
	if (err == -EBUSY) {
		xf_log(XF_LOG_ERROR, "another xfrmd serves this network namespace (%s)",
		       service.run.lock_path);
		return EXIT_FAILURE;
	}
	if (err)
		return fail(XF_RUN_DIR, err);
	err = xf_loop_new(&loop, &service.loop);
	if (err)
		return fail("cannot make an event loop", err);
	status = serve(&service);
	xf_loop_free(service.loop);
	xf_rundir_close(&service.run);
	return status;
}

int main(int argc, char **argv)
{
	struct options opt = { .config = NULL };
	char error[XF_CONFIG_ERROR_MAX];
	struct xf_config cfg;
	int status = parse_options(argc, argv, &opt);
	int err;

	if (status >= 0)
		return status;
	err = xf_privs_close_inherited();
	if (err)
		return fail("cannot close inherited descriptors", err);
	xf_config_default(&cfg);
	if (xf_config_load(&cfg, opt.config ? opt.config : XF_CONFIG_PATH, opt.config != NULL,
			   error)) {
		fprintf(stderr, "xfrmd: %s\n", error);
		return EXIT_BAD_INPUT;
	}
	if (opt.check) {
		puts("xfrmd: the configuration is good");
		return EXIT_SUCCESS;
	}
	return run(&cfg);
}
