/*
 * The loop calls this when a deadline is over and before it sleeps; who serves clients, workers and
 * the host calls it when that may have brought a deadline nearer.
 */
#include <malloc.h>

#include <xf/rcu.h>

#include "chores.h"
#include "daemon/clients/notify.h"
#include "log.h"

/* SAs and policies whose going is worth to look for memory. */
#define TRIM_ENTRIES 2048

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

void xf_chores_do(void *arg, uint64_t now_ns)
{
	struct xf_chores *chores = arg;
	struct xf_changes *changes = chores->changes;
	struct xf_sad *sad = xf_engine_sad(chores->engine);
	struct xf_spd *spd = xf_engine_spd(chores->engine);
	uint64_t next = earlier(xf_sad_expire(sad, now_ns, xf_changes_sa_expired, changes),
				xf_spd_expire(spd, now_ns, xf_changes_policy_expired, changes));

	xf_journal_settle(changes->journal);
	next = earlier(next, settle_capture(changes->capture, now_ns));
	next = earlier(next, xf_follow_due(&changes->follow, now_ns));
	next = earlier(next, xf_host_watch_due(chores->host));
	if (chores->watchdog_ns)
		next = earlier(next, now_ns + chores->watchdog_ns);
	xf_loop_set_deadline(chores->loop, next);
}

void xf_chores_timer(void *arg, uint64_t now_ns)
{
	struct xf_chores *chores = arg;

	if (chores->watchdog_ns)
		xf_notify("WATCHDOG=1");
	xf_follow_act(&chores->changes->follow, now_ns);
	xf_host_watch_act(chores->host, now_ns);
	xf_chores_do(chores, now_ns);
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

void xf_chores_idle(void *arg)
{
	struct xf_chores *chores = arg;

	xf_rcu_drain();
	/* No worker goes by what held before any more. */
	if (xf_forwarding_settle(chores->host->cfg.forwarding))
		xf_missing_find_again(chores->missing);
	trim_memory(chores->engine, &chores->entries);
}
