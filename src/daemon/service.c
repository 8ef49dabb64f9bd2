#include <errno.h>
#include <malloc.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/epoll.h>
#include <sys/random.h>

#include <xf/rcu.h>

#include "acquire.h"
#include "capture/repair/route.h"
#include "crypto_threads.h"
#include "daemon/journal/former.h"
#include "log.h"
#include "daemon/clients/notify.h"
#include "service.h"

/* SAs and policies whose going is worth to look for memory. */
#define TRIM_ENTRIES 2048

/* iptables' own tables come without an event, so they are asked for so often. */
#define NAT_AGAIN_NS (5 * XF_NSEC_PER_SEC)
#define IPTABLES_NAMES "/proc/thread-self/net/ip_tables_names"

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

/* On worker threads. */
static bool is_local(void *arg, const union xf_addr *addr, uint16_t family)
{
	const struct xf_surroundings *around = arg;

	return xf_route_is_local(around->route, addr, family);
}

/* On worker threads. What goes to many ends here, and the kernel knows who it is for. */
static bool may_forward(void *arg, const union xf_addr *daddr, uint16_t family, uint32_t iif)
{
	const struct xf_surroundings *around = arg;

	return xf_forwarding_allows(around->forwarding, family, iif) ||
	       xf_route_is_for_many(around->route, daddr, family);
}

/* On worker threads. */
static bool is_exempt(void *arg, const union xf_addr *daddr, uint16_t family, uint32_t iif)
{
	const struct xf_surroundings *around = arg;

	return xf_capture_is_exempt(around->capture, daddr, family, iif);
}

/* On worker threads: wake the control thread. */
static void wake(void *arg)
{
	const struct xf_surroundings *around = arg;

	xf_events_wake(&around->events);
}

/* Policies that come back at the start are there before their rules: NULL. */
static void sync_capture(struct xf_capture *capture)
{
	struct xf_io_error error;

	if (capture && xf_capture_sync(capture, xf_clock_ns(), &error))
		xf_log(XF_LOG_ERROR, "the kernel's rules do not follow the policies: %s",
		       error.text);
}

/* Of the SPD. */
static void policy_changed(void *arg, const struct xf_policy *policy, bool there)
{
	const struct xf_service *service = arg;

	xf_journal_policy(service->journal, policy, there);
	if (service->capture)
		xf_capture_policy(service->capture, policy, there);
}

/* Policies that come back at the start are in the journal already. */
static int spd_reserve(void *arg, size_t more, const char **why)
{
	const struct xf_service *service = arg;

	return service->journal ? xf_journal_reserve(service->journal, more, why) : 0;
}

/* The journal first: what is in force and was told comes back after a crash. */
static void spd_changed(void *arg)
{
	struct xf_service *service = arg;

	xf_journal_flush(service->journal);
	sync_capture(service->capture);
}

static int sa_wanted(void *arg, const struct xf_sa *sa, const char **why)
{
	struct xf_service *service = arg;

	return xf_follow_wanted(&service->follow, sa, why);
}

static void sa_changed(void *arg, struct xf_sa *sa)
{
	struct xf_service *service = arg;

	xf_follow_sa(&service->follow, sa);
}

static void sa_expired(void *arg, struct xf_sa *sa, enum xf_sa_event event)
{
	const struct xf_service *service = arg;

	xf_nl_sa_expired(service->server, sa, event);
}

static void policy_expired(void *arg, struct xf_policy *policy, bool hard)
{
	struct xf_service *service = arg;

	xf_nl_policy_expired(service->server, policy, hard);
	if (hard)
		sync_capture(service->capture);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Returns when to do it again. */
static uint64_t settle_capture(struct xf_capture *capture, uint64_t now_ns)
{
	struct xf_io_error error;
	uint64_t conntrack;
	int err;

	if (!capture)
		return UINT64_MAX;
	if (xf_capture_settle(capture, now_ns, &error))
		xf_log(XF_LOG_WARNING, "capture goes by destinations alone: %s", error.text);
	conntrack = xf_capture_clean_conntrack(capture, now_ns, &err, &error);
	if (err)
		xf_log(XF_LOG_WARNING, "%s", error.text);
	return earlier(conntrack, xf_capture_due(capture));
}

/* Act on what is due, wait for what is next. */
static void act_on_time(struct xf_service *service, uint64_t now_ns)
{
	struct xf_sad *sad = xf_engine_sad(service->engine);
	struct xf_spd *spd = xf_engine_spd(service->engine);
	uint64_t next = earlier(xf_sad_expire(sad, now_ns, sa_expired, service),
				xf_spd_expire(spd, now_ns, policy_expired, service));

	xf_journal_settle(service->journal);
	next = earlier(next, settle_capture(service->capture, now_ns));
	next = earlier(next, xf_follow_due(&service->follow, now_ns));
	next = earlier(next, service->nat_due_ns);
	next = earlier(next, xf_forwarding_due(service->around.forwarding));
	if (service->watchdog_ns)
		next = earlier(next, now_ns + service->watchdog_ns);
	xf_loop_set_deadline(service->loop, next);
}

static void follow_nat(struct xf_service *service, uint64_t now_ns)
{
	if (xf_capture_nat_fd(service->capture) < 0)
		return;
	xf_capture_follow_nat(service->capture, now_ns);
	service->nat_due_ns = access(IPTABLES_NAMES, F_OK) ? UINT64_MAX : now_ns + NAT_AGAIN_NS;
}

void xf_service_timer(void *arg, uint64_t now_ns)
{
	struct xf_service *service = arg;

	if (service->watchdog_ns)
		xf_notify("WATCHDOG=1");
	xf_follow_act(&service->follow, now_ns);
	if (now_ns >= service->nat_due_ns)
		follow_nat(service, now_ns);
	if (now_ns >= xf_forwarding_due(service->around.forwarding))
		xf_forwarding_load(service->around.forwarding, now_ns);
	act_on_time(service, now_ns);
}

static size_t count_entries(struct xf_engine *engine)
{
	struct xf_spd_info spd;
	struct xf_sad_info sad;
	size_t n;

	xf_sad_get_info(xf_engine_sad(engine), &sad);
	xf_spd_get_info(xf_engine_spd(engine), &spd);
	n = sad.count;
	for (int dir = 0; dir < XF_DIR_MAX; dir++)
		n += spd.count[dir];
	return n;
}

/*
 * What is freed behind something that is not stays with malloc until it is asked. That takes as
 * long as there is memory, so it is done when half of the entries have gone.
 */
static void trim_memory(struct xf_engine *engine, size_t *entries)
{
	size_t n = count_entries(engine);

	if (n >= *entries) {
		*entries = n;
	} else if (n < *entries / 2 && *entries - n > TRIM_ENTRIES) {
		*entries = n;
		malloc_trim(0);
	}
}

void xf_service_idle(void *arg)
{
	struct xf_service *service = arg;

	xf_rcu_drain();
	/* No worker goes by what held before any more. */
	if (xf_forwarding_settle(service->around.forwarding))
		xf_missing_find_again(&service->missing);
	trim_memory(service->engine, &service->entries);
}

static void served(void *arg, uint64_t now_ns)
{
	act_on_time(arg, now_ns);
}

static void route_ready(void *arg, uint32_t events)
{
	struct xf_service *service = arg;
	unsigned changes = xf_route_dispatch(service->around.route);
	uint64_t now_ns = xf_clock_ns();

	(void)events;
	if (changes & XF_ROUTE_LINK)
		xf_capture_links_changed(service->capture, now_ns);
	xf_follow_routes(&service->follow, changes);
	if (changes & XF_ROUTE_NETCONF)
		xf_forwarding_load(service->around.forwarding, now_ns);
	act_on_time(service, now_ns);
}

static void capture_ready(void *arg, uint32_t events)
{
	struct xf_service *service = arg;
	uint64_t now_ns = xf_clock_ns();

	(void)events;
	xf_capture_dispatch(service->capture, now_ns);
	act_on_time(service, now_ns);
}

static void say_of_capture(void *arg, bool bad, const char *line)
{
	(void)arg;
	xf_log(bad ? XF_LOG_WARNING : XF_LOG_NOTICE, "%s", line);
}

static int remake_tun(void *arg, struct xf_io_error *error)
{
	const struct xf_service *service = arg;

	return xf_threads_remake_tun(service->threads, error);
}

static void packet_ready(void *arg, uint32_t events)
{
	struct xf_service *service = arg;

	(void)events;
	xf_packet_dispatch(service->packet, xf_clock_ns());
}

static uint32_t larval_lifetime(void *arg)
{
	const struct xf_service *service = arg;

	return xf_acquire_lifetime_s(service->acquire_fd);
}

/* Each change of a policy changes our table. Where iptables has come it is asked from now on. */
static void nat_ready(void *arg, uint32_t events)
{
	struct xf_service *service = arg;
	bool iptables = service->nat_due_ns == UINT64_MAX && access(IPTABLES_NAMES, F_OK) == 0;

	(void)events;
	if (!xf_capture_nat_has_changed(service->capture) && !iptables)
		return;
	follow_nat(service, xf_clock_ns());
	act_on_time(service, xf_clock_ns());
}

static int start_engine(struct xf_service *service, struct xf_io_error *error)
{
	const struct xf_config *cfg = service->cfg;
	int64_t offset_ns = xf_wallclock_offset_ns();
	struct xf_engine_config engine = {
		.sad = { .max_sas = cfg->max_sas,
			 .larval_lifetime_s = cfg->acquire_lifetime_s,
			 .larval_lifetime = cfg->acquire_lifetime_s ? NULL : larval_lifetime,
			 .arg = service,
			 .real_offset_ns = offset_ns,
			 .random = random_bytes },
		.spd = { .max_policies = cfg->max_policies,
			 .real_offset_ns = offset_ns,
			 .watch = policy_changed,
			 .watch_arg = service },
		.env = { .arg = &service->around,
			 .is_local = is_local,
			 .may_forward = may_forward,
			 .is_exempt = is_exempt,
			 .wake = wake },
		.clamp_mss = cfg->clamp_mss,
	};

	if (cfg->workers > 1)
		xf_replay_set_slack(cfg->workers * XF_PATH_SLACK);
	xf_set_alone(cfg->workers == 1);
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
		.spd_reserve = spd_reserve,
		.spd_changed = spd_changed,
		.sa_wanted = sa_wanted,
		.sa_changed = sa_changed,
		.arg = service,
	};

	service->server = xf_nl_server_new(&server);
	if (service->server)
		return 0;
	snprintf(error->text, sizeof(error->text), "no memory for the netlink server");
	return -ENOMEM;
}

static void tell_journal(const struct xf_service *service)
{
	struct xf_journal_stats stats;

	xf_journal_get_stats(service->journal, &stats);
	if (stats.restored || stats.refused)
		xf_log(XF_LOG_NOTICE, "%u policies of an earlier daemon are in force (%u refused)",
		       stats.restored, stats.refused);
	if (stats.set_aside)
		xf_log(XF_LOG_NOTICE,
		       "the policies in %s are another network namespace's: set aside as .old",
		       service->run.policies_path);
	if (stats.short_of_room)
		xf_log(XF_LOG_WARNING, "%s: no room for changes of policies: they may be refused",
		       service->run.policies_path);
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
		.server = service->server,
		.spd = xf_engine_spd(service->engine),
		.rules_stand = if_nametoindex(service->names.tun) != 0,
	};
	const char *why;
	int err;

	xf_journal_id_self(&journal.id);
	err = xf_journal_open(&journal, xf_clock_ns(), &service->journal);
	why = xf_journal_error(err);
	if (why)
		snprintf(error->text, sizeof(error->text),
			 "%s: %s; what is protected stays blocked (xfrmctl release opens)",
			 journal.path, why);
	else if (err)
		snprintf(error->text, sizeof(error->text), "cannot keep policies in %s: %s",
			 journal.path, strerror(-err));
	else
		tell_journal(service);
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

	xf_follow_init(&service->follow, &follow);
	service->around.capture = service->capture;
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
		.remake_arg = service,
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
		.server = service->server,
		.run = &service->run,
		.bypass_mark = service->names.mark_bypass,
		.max = service->cfg->max_clients,
		.group = (gid_t)service->cfg->group,
		.served = served,
		.arg = service,
	};

	return xf_clients_new(&clients, &service->clients);
}

static void clock_stepped(void *arg, uint64_t now_ns, int64_t offset_ns)
{
	struct xf_service *service = arg;

	xf_sad_step_clock(xf_engine_sad(service->engine), now_ns, offset_ns);
	xf_spd_step_clock(xf_engine_spd(service->engine), now_ns, offset_ns);
	xf_log(XF_LOG_INFO, "the clock was set: lifetimes go on as before");
}

static int watch_all(struct xf_service *service)
{
	const struct xf_events_config events = {
		.engine = service->engine,
		.packet = service->packet,
		.taken = served,
		.arg = service,
	};
	int err;

	service->wallclock = (struct xf_wallclock){ .stepped = clock_stepped, .arg = service };
	service->route_watch = (struct xf_watch){
		.fd = xf_route_fd(service->around.route),
		.ready = route_ready,
		.arg = service,
	};
	service->capture_watch = (struct xf_watch){
		.fd = xf_capture_fd(service->capture),
		.ready = capture_ready,
		.arg = service,
	};
	err = xf_events_start(&service->around.events, &events, service->loop);
	if (!err && service->capture_watch.fd >= 0)
		err = xf_loop_add(service->loop, &service->capture_watch, EPOLLIN);
	if (!err)
		err = xf_wallclock_start(&service->wallclock, service->loop);
	if (!err)
		err = xf_loop_add(service->loop, &service->route_watch, EPOLLIN);
	service->nat_watch = (struct xf_watch){
		.fd = xf_capture_nat_fd(service->capture),
		.ready = nat_ready,
		.arg = service,
	};
	if (!err && service->nat_watch.fd >= 0)
		err = xf_loop_add(service->loop, &service->nat_watch, EPOLLIN);
	follow_nat(service, xf_clock_ns());
	if (err || !service->packet)
		return err;
	service->packet_watch = (struct xf_watch){
		.fd = xf_packet_fd(service->packet),
		.ready = packet_ready,
		.arg = service,
	};
	return xf_loop_add(service->loop, &service->packet_watch, EPOLLIN);
}

static void read_clocks(struct xf_service *service)
{
	service->start_ns = xf_clock_ns();
	service->watchdog_ns = xf_notify_watchdog_ns();
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
	service->nat_due_ns = UINT64_MAX;
	read_clocks(service);
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
	act_on_time(service, xf_clock_ns());
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
	xf_journal_forget(service->journal);
	xf_former_remove(&service->run);
	return 0;
}

void xf_service_stop(struct xf_service *service)
{
	xf_clients_free(service->clients);
	xf_journal_close(service->journal);
	service->journal = NULL;
	if (service->server)
		xf_nl_server_free(service->server);
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
	service->server = NULL;
	service->engine = NULL;
	service->around.route = NULL;
	service->around.forwarding = NULL;
	service->packet = NULL;
}
