#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/random.h>

#include <xf/rcu.h>

#include "acquire.h"
#include "capture/repair/route.h"
#include "crypto_threads.h"
#include "daemon/journal/former.h"
#include "log.h"
#include "daemon/clients/notify.h"
#include "service.h"

static void random_bytes(void *arg, void *buf, size_t len)
{
	uint8_t *p = buf;

	(void)arg;
	while (len) {
		ssize_t n = getrandom(p, len, 0);

		if (n < 0)
			continue;
		p += n;
		len -= (size_t)n;
	}
}

static void say_of_capture(void *arg, bool bad, const char *line)
{
	(void)arg;
	xf_log(bad ? XF_LOG_WARNING : XF_LOG_NOTICE, "%s", line);
}

static int remake_tun(void *arg, struct xf_io_error *error)
{
	struct xf_threads *threads = *(struct xf_threads **)arg;

	return xf_threads_remake_tun(threads, error);
}

static uint32_t larval_lifetime(void *arg)
{
	const int *acquire_fd = arg;

	return xf_acquire_lifetime_s(*acquire_fd);
}

static int start_engine(struct xf_service *service, struct xf_io_error *error)
{
	const struct xf_config *cfg = service->cfg;
	int64_t offset_ns = xf_wallclock_offset_ns();
	struct xf_engine_config engine = {
		.sad = { .max_sas = cfg->max_sas,
			 .larval_lifetime_s = cfg->acquire_lifetime_s,
			 .larval_lifetime = cfg->acquire_lifetime_s ? NULL : larval_lifetime,
			 .arg = &service->acquire_fd,
			 .real_offset_ns = offset_ns,
			 .replay_slack = cfg->workers > 1 ? cfg->workers * XF_PATH_SLACK : 0,
			 .one_worker = cfg->workers == 1,
			 .random = random_bytes },
		.spd = { .max_policies = cfg->max_policies,
			 .real_offset_ns = offset_ns,
			 .watch = xf_changes_policy,
			 .watch_arg = &service->changes },
		.env = xf_surroundings_env(&service->around),
		.clamp_mss = cfg->clamp_mss,
	};

	random_bytes(NULL, engine.sad.seed, sizeof(engine.sad.seed));
	random_bytes(NULL, engine.spd.seed, sizeof(engine.spd.seed));
	service->engine = xf_engine_new(&engine);
	if (service->engine && !xf_events_open(&service->around.events))
		return 0;
	snprintf(error->text, sizeof(error->text), "no memory for the engine");
	return -ENOMEM;
}

static int start_server(struct xf_service *service, struct xf_io_error *error)
{
	struct xf_nl_server_config server = {
		.sad = xf_engine_sad(service->engine),
		.spd = xf_engine_spd(service->engine),
		.random = random_bytes,
		.spd_reserve = xf_changes_reserve,
		.spd_changed = xf_changes_end,
		.sa_wanted = xf_changes_sa_wanted,
		.sa_changed = xf_changes_sa,
		.arg = &service->changes,
	};

	service->changes.server = xf_nl_server_new(&server);
	if (service->changes.server)
		return 0;
	snprintf(error->text, sizeof(error->text), "no memory for the netlink server");
	return -ENOMEM;
}

static void tell_journal(const struct xf_journal *journal, const char *path)
{
	struct xf_journal_stats stats;

	xf_journal_get_stats(journal, &stats);
	if (stats.restored || stats.refused)
		xf_log(XF_LOG_NOTICE, "%u policies of an earlier daemon are in force (%u refused)",
		       stats.restored, stats.refused);
	if (stats.set_aside)
		xf_log(XF_LOG_NOTICE,
		       "the policies in %s are another network namespace's: set aside as .old",
		       path);
	if (stats.short_of_room)
		xf_log(XF_LOG_WARNING, "%s: no room for changes of policies: they may be refused",
		       path);
}

/*
 * Rules that stand in the kernel already are an earlier daemon's: the policies behind them come
 * back before this daemon changes a rule. Where not all of them would, it does not start: the rules
 * stay, and what they protect stays blocked until somebody says that it may be open.
 */
static int start_journal(struct xf_service *service, struct xf_io_error *error)
{
	struct xf_journal_config journal = {
		.path = service->run.policies_path,
		.server = service->changes.server,
		.spd = xf_engine_spd(service->engine),
		.rules_stand = if_nametoindex(service->names.tun) != 0,
	};
	const char *why;
	int err;

	xf_journal_id_self(&journal.id);
	err = xf_journal_open(&journal, xf_clock_ns(), &service->changes.journal);
	why = xf_journal_error(err);
	if (why)
		snprintf(error->text, sizeof(error->text),
			 "%s: %s; what is protected stays blocked (xfrmctl release opens)",
			 journal.path, why);
	else if (err)
		snprintf(error->text, sizeof(error->text), "cannot keep policies in %s: %s",
			 journal.path, strerror(-err));
	else
		tell_journal(service->changes.journal, journal.path);
	return err;
}

/* Where packet sockets cannot be had raw ones do, unless it says otherwise. */
static int start_packet(struct xf_service *service, struct xf_io_error *error)
{
	enum xf_native native = (enum xf_native)service->cfg->native;
	int err;

	if (native == XF_NATIVE_RAW)
		return 0;
	err = xf_packet_new(&service->names, native, &service->packet, error);
	if (!err || native == XF_NATIVE_PACKET)
		return err;
	xf_log(XF_LOG_NOTICE, "native packets leave by raw sockets: %s", error->text);
	service->no_packet = *error;
	return 0;
}

/* Without it there is a new one, and the old one stays. */
static void adopt_tun(const struct xf_service *service)
{
	struct xf_io_error error;
	int n = xf_tun_adopt(service->names.tun, &error);

	if (n < 0)
		xf_log(XF_LOG_WARNING, "%s", error.text);
	else if (n > 0)
		xf_log(XF_LOG_NOTICE, "the TUN of an earlier daemon had another name than %s",
		       service->names.tun);
}

/* What stands now is by the names of this configuration; what was by others goes. */
static void follow_names(const struct xf_service *service)
{
	struct xf_io_error error;
	struct xf_former former;
	int err = xf_former_read(&service->run, &former);

	if (!err && xf_capture_route_forget(&former.names, &service->names, &error))
		xf_log(XF_LOG_WARNING, "rules of an earlier configuration stay: %s", error.text);
	err = xf_former_write(&service->run, &service->names);
	if (err)
		xf_log(XF_LOG_WARNING, "%s: %s", service->run.names_path, strerror(-err));
}

/* What goes by several parts, which are there now. */
static void start_followers(struct xf_service *service)
{
	const struct xf_follow_config follow = {
		.sad = xf_engine_sad(service->engine),
		.threads = service->threads,
		.route = service->around.route,
		.mark_bypass = service->names.mark_bypass,
	};

	xf_follow_init(&service->changes.follow, &follow);
	service->around.capture = service->capture;
	service->changes.capture = service->capture;
	service->missing = (struct xf_missing){
		.threads = service->threads,
		.capture = service->capture,
		.forwarding = service->around.forwarding,
		.mode = (enum xf_capture_mode)service->cfg->capture_mode,
	};
}

static int start_io(struct xf_service *service, struct xf_io_error *error)
{
	const struct xf_config *cfg = service->cfg;
	struct xf_io_config io = {
		.engine = service->engine,
		.names = service->names,
		.rcvbuf_bytes = cfg->rcvbuf_bytes,
	};
	struct xf_capture_config capture = {
		.names = service->names,
		.spd = xf_engine_spd(service->engine),
		.now_ns = xf_clock_ns(),
		.mode = (enum xf_capture_mode)cfg->capture_mode,
		.twin = (enum xf_twin_form)cfg->twin,
		.owner = cfg->owner,
		.tcx = cfg->tcx,
		.remake_tun = remake_tun,
		.remake_arg = &service->threads,
		.say = say_of_capture,
	};
	int err = xf_route_new(&service->around.route, error);

	if (!err)
		err = start_packet(service, error);
	io.packet = service->packet;
	if (!err)
		adopt_tun(service);
	if (!err)
		err = xf_threads_new(&io, cfg->workers, &service->threads, error);
	/* The TUN is there now, and nobody delivers into it yet. */
	if (!err)
		err = xf_forwarding_new(&service->names, xf_clock_ns(), &service->around.forwarding,
					error);
	if (!err)
		xf_forwarding_settle(service->around.forwarding);
	if (!err)
		err = xf_capture_new(&capture, &service->capture, error);
	if (!err)
		start_followers(service);
	if (!err)
		follow_names(service);
	return err;
}

static int start_clients(struct xf_service *service)
{
	struct xf_clients_config clients = {
		.loop = service->loop,
		.server = service->changes.server,
		.run = &service->run,
		.bypass_mark = service->names.mark_bypass,
		.max = service->cfg->max_clients,
		.group = (gid_t)service->cfg->group,
		.served = xf_chores_do,
		.arg = &service->chores,
	};

	return xf_clients_new(&clients, &service->clients);
}

static void clock_stepped(void *arg, uint64_t now_ns, int64_t offset_ns)
{
	struct xf_engine *engine = arg;

	xf_sad_step_clock(xf_engine_sad(engine), now_ns, offset_ns);
	xf_spd_step_clock(xf_engine_spd(engine), now_ns, offset_ns);
	xf_log(XF_LOG_INFO, "the clock was set: lifetimes go on as before");
}

static int watch_all(struct xf_service *service)
{
	const struct xf_events_config events = {
		.engine = service->engine,
		.packet = service->packet,
		.taken = xf_chores_do,
		.arg = &service->chores,
	};
	const struct xf_host_watch_config host = {
		.route = service->around.route,
		.forwarding = service->around.forwarding,
		.capture = service->capture,
		.packet = service->packet,
		.follow = &service->changes.follow,
		.changed = xf_chores_do,
		.arg = &service->chores,
	};
	int err = xf_events_start(&service->around.events, &events, service->loop);

	service->chores = (struct xf_chores){
		.loop = service->loop,
		.engine = service->engine,
		.changes = &service->changes,
		.host = &service->host,
		.missing = &service->missing,
		.watchdog_ns = xf_notify_watchdog_ns(),
	};
	service->wallclock =
		(struct xf_wallclock){ .stepped = clock_stepped, .arg = service->engine };
	if (!err)
		err = xf_wallclock_start(&service->wallclock, service->loop);
	return err ? err : xf_host_watch_start(&service->host, &host, service->loop);
}

/* Before the first key: what a provider wants is decided then. */
static int start_crypto(const struct xf_config *cfg, struct xf_io_error *error)
{
	int err = 0;

	if (cfg->crypto_threads)
		err = xf_crypto_threads_start(cfg->crypto_threads,
					      (enum xf_crypto_threads_for)cfg->crypto_suites);
	if (err)
		snprintf(error->text, sizeof(error->text), "cannot start %u crypto threads: %s",
			 cfg->crypto_threads, strerror(-err));
	return err;
}

/* Clients come last: what they are told is in force, is. */
int xf_service_start(struct xf_service *service, struct xf_io_error *error)
{
	int err;

	service->around.events.watch.fd = -1;
	service->wallclock.watch.fd = -1;
	service->acquire_fd = xf_acquire_open();
	service->start_ns = xf_clock_ns();
	service->names = xf_config_names(service->cfg);
	err = start_crypto(service->cfg, error);
	if (!err)
		err = start_engine(service, error);
	if (!err)
		err = start_server(service, error);
	if (!err)
		err = start_journal(service, error);
	if (!err)
		err = start_io(service, error);
	if (!err)
		err = xf_threads_start(service->threads, error);
	if (err)
		goto stop;
	err = watch_all(service);
	if (!err)
		err = start_clients(service);
	if (err) {
		snprintf(error->text, sizeof(error->text), "cannot serve clients at %s: %s",
			 service->run.client_path, strerror(-err));
		goto stop;
	}
	xf_chores_do(&service->chores, xf_clock_ns());
	return 0;
stop:
	xf_service_stop(service);
	return err;
}

static void stop_io(struct xf_service *service)
{
	xf_threads_free(service->threads);
	if (service->capture)
		xf_capture_free(service->capture);
	service->threads = NULL;
	service->capture = NULL;
	service->changes.capture = NULL;
}

int xf_service_release(struct xf_service *service, struct xf_io_error *error)
{
	int err;

	xf_loop_stop(service->loop);
	stop_io(service);
	err = xf_capture_release(&service->names, error);
	/* What could not be taken away comes back whole with the next daemon. */
	if (err)
		return err;
	xf_journal_forget(service->changes.journal);
	xf_former_remove(&service->run);
	return 0;
}

void xf_service_stop(struct xf_service *service)
{
	xf_clients_free(service->clients);
	xf_journal_close(service->changes.journal);
	service->changes.journal = NULL;
	if (service->changes.server)
		xf_nl_server_free(service->changes.server);
	stop_io(service);
	if (service->engine)
		xf_engine_free(service->engine);
	if (service->around.route)
		xf_route_free(service->around.route);
	xf_forwarding_free(service->around.forwarding);
	xf_packet_free(service->packet);
	xf_events_close(&service->around.events);
	xf_wallclock_stop(&service->wallclock);
	if (service->acquire_fd >= 0)
		close(service->acquire_fd);
	xf_rcu_drain();
	/* Then no key is left either. */
	xf_crypto_threads_stop();
	service->clients = NULL;
	service->changes.server = NULL;
	service->engine = NULL;
	service->around.route = NULL;
	service->around.forwarding = NULL;
	service->packet = NULL;
}
