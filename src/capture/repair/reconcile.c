/*
 * What others do to our part of the kernel is seen and undone: events, a look every 10 s, repairs
 * within limits (heal.h). The daemon's control thread calls it, as capture.c.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "capture/nft/nft_sets.h"
#include "capture/nft/ruleset.h"
#include "capture/state.h"

#define CHECK_NS (10 * XF_NSEC_PER_SEC)

/* Before the first change, so that nothing is missed. Without it there is capture all the same. */
void xf_capture_watch(struct xf_capture *capture)
{
	struct xf_io_error error = { .text = "" };

	capture->fd = capture->ops->watch ? capture->ops->watch(capture->arg, &error) : -1;
	if (capture->fd >= 0)
		capture->check_ns = capture->now_ns + CHECK_NS;
	else if (*error.text && capture->cfg.say)
		capture->cfg.say(capture->cfg.say_arg, true, error.text);
}

int xf_capture_fd(const struct xf_capture *capture)
{
	return capture->fd;
}

static void lose(struct xf_capture *capture, enum xf_heal_part part, const char *what)
{
	xf_heal_lost(&capture->heal, part, capture->now_ns, what);
}

static void miss(struct xf_capture *capture, enum xf_heal_part part, const char *what)
{
	xf_heal_missed(&capture->heal, part, capture->now_ns, what);
}

static void note_event(void *arg, const struct xf_capture_event *event)
{
	struct xf_capture *capture = arg;
	bool table = event->part == XF_HEAL_TABLE || event->part == XF_HEAL_ELEMENTS;

	if ((table && !capture->nft) || (event->part == XF_HEAL_BACKSTOP && !capture->backstop))
		return;
	/* We have taken away what sees IPv4 of devices that are exempt with it, maybe just now. */
	if (event->ifindex) {
		xf_capture_read_exempt(capture);
		if (xf_exempt_of(&capture->exempt, event->ifindex) & XF_EXEMPT_V4)
			return;
	}
	if (event->sure)
		lose(capture, event->part, event->what);
	else if (table)
		capture->look_at_table = true;
	/* When the TUN has been repaired, what else is there is not known. */
	if (!table)
		capture->look = capture->look_at_exempt = true;
}

void xf_capture_read_events(struct xf_capture *capture)
{
	if (capture->fd >= 0 && capture->started)
		capture->ops->events(capture->arg, note_event, capture);
}

/* --- looking --- */

/* Ours may not stand before it: that would be before what somebody wants to be refused. */
static void say_taker(struct xf_capture *capture, uint32_t taker)
{
	char line[XF_HEAL_TEXT];

	if (taker == capture->taker)
		return;
	capture->taker = taker;
	snprintf(line, sizeof(line),
		 "an ip rule of others (priority %u) may take captured packets elsewhere, where "
		 "they are dropped",
		 taker);
	if (taker != UINT32_MAX && capture->cfg.say)
		capture->cfg.say(capture->cfg.say_arg, true, line);
}

static void look_around(struct xf_capture *capture, struct xf_capture_seen *seen)
{
	const char *tun = capture->cfg.names.tun;
	char what[XF_HEAL_TEXT];

	if (capture->ops->inspect(capture->arg, seen) < 0) {
		*seen = (struct xf_capture_seen){ .tun = true, .taker = UINT32_MAX };
		return;
	}
	capture->look = false;
	snprintf(what, sizeof(what), "the tc filter of %s was deleted", tun);
	if (seen->tun && !seen->tun_marks)
		lose(capture, XF_HEAL_TUN, what);
	snprintf(what, sizeof(what), "TUN %s %s", tun,
		 !seen->tun	    ? "is gone"
		 : !seen->tun_named ? "has another name"
				    : "was brought down or set up otherwise");
	if (!seen->tun || !seen->tun_named || !seen->tun_ready)
		lose(capture, XF_HEAL_TUN, what);
	snprintf(what, sizeof(what), "the route of captured packets into %s was deleted", tun);
	if (!seen->route)
		lose(capture, XF_HEAL_ROUTE,
		     seen->strangers ? "routes of somebody else in the table of captured packets"
				     : what);
	if (!seen->rule)
		lose(capture, XF_HEAL_RULE,
		     seen->rule_behind ? "the ip rule for captured packets stood behind another one"
				       : "the ip rule for captured packets was deleted");
	say_taker(capture, seen->taker);
}

/* What nft_read() says of the elements that should stand. */
static uint64_t elements_digest(const struct xf_capture *capture)
{
	uint64_t sum = xf_nft_sets_cover_digest(capture->ops, &capture->cover);

	for (uint8_t dir = 0; dir < XF_DIR_MAX; dir++)
		sum += xf_nft_sets_sieve_digest(capture->ops, &capture->sieve[dir]);
	return sum;
}

/* Events were lost, so what has happened meanwhile is not known: is all still there? */
static void look_at_table(struct xf_capture *capture)
{
	struct xf_nft_seen seen;

	/* What cannot be read now is read by the next look. */
	capture->look_at_table = !xf_heal_is_lost(&capture->heal, XF_HEAL_TABLE) &&
				 capture->ops->nft_read(capture->arg, true, &seen) < 0;
	if (capture->look_at_table || xf_heal_is_lost(&capture->heal, XF_HEAL_TABLE))
		return;
	if (!seen.there)
		lose(capture, XF_HEAL_TABLE, "nftables table " XF_NFT_TABLE " is gone");
	else if (!capture->snapshot.there || seen.digest != capture->snapshot.digest)
		lose(capture, XF_HEAL_TABLE, "nftables table " XF_NFT_TABLE " may have changed");
	else if (seen.elements != elements_digest(capture))
		lose(capture, XF_HEAL_ELEMENTS,
		     "nftables table " XF_NFT_TABLE ", sets, have other elements");
}

/* As nobody else has changed it: whose events come behind this have changed it since. */
static void take_snapshot(struct xf_capture *capture)
{
	bool stands = !xf_heal_is_lost(&capture->heal, XF_HEAL_TABLE) &&
		      !xf_heal_is_lost(&capture->heal, XF_HEAL_ELEMENTS);

	if (capture->now_ns < capture->snapshot_ns || capture->look_at_table)
		return;
	capture->snapshot_ns = UINT64_MAX;
	if (!capture->nft || capture->fd < 0 || !stands)
		return;
	if (capture->ops->nft_read(capture->arg, false, &capture->snapshot) < 0)
		capture->snapshot.there = false;
}

/* --- the backstop --- */

static void say_bare(struct xf_capture *capture, const char *bare)
{
	char line[2 * XF_HEAL_TEXT];

	if (strcmp(bare, capture->bare) == 0)
		return;
	snprintf(capture->bare, sizeof(capture->bare), "%s", bare);
	snprintf(line, sizeof(line),
		 "no backstop at %s: what somebody else has put there leaves "
		 "no room for filters of clsact",
		 bare);
	if (!*bare)
		snprintf(line, sizeof(line), "the backstop is at every device again");
	if (capture->cfg.say)
		capture->cfg.say(capture->cfg.say_arg, *bare, line);
}

int xf_capture_attach_backstop(struct xf_capture *capture, struct xf_io_error *error)
{
	struct xf_capture_stats stats = { .backstop = false };
	int err = capture->ops->backstop_attach(capture->arg, error);

	capture->ops->backstop_stats(capture->arg, &stats);
	capture->attach_ns = stats.programs.more ? capture->now_ns : UINT64_MAX;
	say_bare(capture, stats.programs.bare ? stats.programs.bare : "");
	return err;
}

/* No event tells of links. */
static void look_at_devices(struct xf_capture *capture)
{
	char device[XF_DEVICE_NAME];
	char what[XF_HEAL_TEXT];

	if (!capture->backstop || capture->attach_ns != UINT64_MAX ||
	    xf_heal_is_lost(&capture->heal, XF_HEAL_BACKSTOP) ||
	    capture->ops->backstop_stands(capture->arg, device))
		return;
	snprintf(what, sizeof(what), "a program's link at %s was taken away", device);
	lose(capture, XF_HEAL_BACKSTOP, what);
}

/* --- whom no policy is asked about --- */

void xf_capture_say_exempt(struct xf_capture *capture)
{
	char list[XF_HEAL_TEXT];
	char line[XF_HEAL_TEXT + 64];

	if (!capture->exempt_changed)
		return;
	capture->exempt_changed = false;
	xf_exempt_describe(&capture->exempt, list, sizeof(list));
	snprintf(line, sizeof(line), "exempt from policies: %s", *list ? list : "nothing");
	if (capture->cfg.say)
		capture->cfg.say(capture->cfg.say_arg, false, line);
}

/* For workers. */
static int publish_exempt(struct xf_capture *capture, const struct xf_exempt *exempt)
{
	struct xf_exempt_set *set;
	int err = xf_exempt_set_new(exempt, &set);

	if (!err)
		xf_exempt_set_defer(atomic_exchange(&capture->exempt_set, set));
	return err;
}

bool xf_capture_is_exempt(const struct xf_capture *capture, const union xf_addr *daddr,
			  uint16_t family, uint32_t iif)
{
	const struct xf_exempt_set *set =
		atomic_load_explicit(&capture->exempt_set, memory_order_acquire);

	return XF_UNLIKELY(set) && xf_exempt_set_has(set, daddr, family, iif);
}

/* What cannot be published is read again by the next look. */
void xf_capture_read_exempt(struct xf_capture *capture)
{
	struct xf_exempt now;

	if (!capture->ops->exempt_read || capture->ops->exempt_read(capture->arg, &now) < 0)
		return;
	capture->look_at_exempt = false;
	if (xf_exempt_equal(&now, &capture->exempt) || publish_exempt(capture, &now) < 0) {
		xf_exempt_fini(&now);
		return;
	}
	xf_exempt_fini(&capture->exempt);
	capture->exempt = now;
	capture->exempt_changed = true;
}

/* Where the table is lost, what makes it anew knows. */
static void follow_exempt(struct xf_capture *capture)
{
	struct xf_io_error error = { .text = "" };
	char *script = NULL;
	int err;

	if (!capture->exempt_changed)
		return;
	if (capture->nft && !xf_heal_is_lost(&capture->heal, XF_HEAL_TABLE)) {
		err = xf_ruleset_exempt(&capture->cfg.names, &capture->exempt, &script);
		if (!err)
			err = capture->ops->nft_run(capture->arg, script, &error);
		free(script);
		if (err)
			miss(capture, XF_HEAL_TABLE, "what is exempt from policies is not known");
		xf_capture_expect_change(capture);
	}
	if (capture->backstop && xf_capture_attach_backstop(capture, &error) < 0)
		miss(capture, XF_HEAL_BACKSTOP, "a device has other filters than it should");
	xf_capture_say_exempt(capture);
}

/* --- repairs --- */

static void note(struct xf_capture *capture, enum xf_heal_part part, int err, const char *how,
		 const struct xf_io_error *error)
{
	char why[XF_HEAL_TEXT];

	snprintf(why, sizeof(why), "cannot be repaired, it is tried again: %.*s",
		 (int)sizeof(why) - 64, error->text);
	if (err)
		xf_heal_failed(&capture->heal, part, capture->now_ns, why);
	else
		xf_heal_repaired(&capture->heal, part, capture->now_ns, how);
}

static bool is_due(const struct xf_capture *capture, enum xf_heal_part part)
{
	return xf_heal_is_due(&capture->heal, part, capture->now_ns);
}

/* A device that goes is down first. What else hangs on it, its route, goes with it. */
static void repair_tun(struct xf_capture *capture, struct xf_capture_seen *seen)
{
	struct xf_io_error error = { .text = "" };
	int err = -ENODEV;

	if (seen->tun)
		err = capture->ops->tun_mend(capture->arg, &error);
	if (err && seen->tun)
		look_around(capture, seen);
	if (!seen->tun)
		err = capture->ops->tun_make(capture->arg, &error);
	note(capture, XF_HEAL_TUN, err, seen->tun ? "set up again" : "made anew", &error);
	/* Its filters may be gone, of which the backstop has one. */
	xf_capture_links_changed(capture, capture->now_ns);
	capture->look = true;
}

static void repair_routes(struct xf_capture *capture)
{
	struct xf_io_error error = { .text = "" };
	int err = capture->ops->route_add(capture->arg, &error);

	note(capture, XF_HEAL_ROUTE, err, "put back", &error);
	note(capture, XF_HEAL_RULE, err, "put back", &error);
}

static void repair_backstop(struct xf_capture *capture)
{
	struct xf_io_error error = { .text = "" };
	int err = xf_capture_attach_backstop(capture, &error);

	note(capture, XF_HEAL_BACKSTOP, err, "put back", &error);
}

/* Sync says itself what came of it. */
static void repair(struct xf_capture *capture)
{
	if (is_due(capture, XF_HEAL_TABLE) || is_due(capture, XF_HEAL_ELEMENTS))
		xf_capture_sync_now(capture, NULL);
	if (is_due(capture, XF_HEAL_BACKSTOP))
		repair_backstop(capture);
	if (is_due(capture, XF_HEAL_ROUTE) || is_due(capture, XF_HEAL_RULE))
		repair_routes(capture);
}

static void check(struct xf_capture *capture)
{
	if (capture->fd < 0 || capture->now_ns < capture->check_ns)
		return;
	capture->check_ns = capture->now_ns + CHECK_NS;
	capture->look = capture->look_at_exempt = true;
	if (capture->nft && capture->ops->nft_has_changed(capture->arg))
		capture->look_at_table = true;
	look_at_devices(capture);
}

/* The TUN first: the route leads into it. */
void xf_capture_reconcile(struct xf_capture *capture)
{
	struct xf_capture_seen seen = { .tun = true };

	xf_capture_read_events(capture);
	check(capture);
	take_snapshot(capture);
	if (capture->look_at_table)
		look_at_table(capture);
	if (capture->look_at_exempt)
		xf_capture_read_exempt(capture);
	follow_exempt(capture);
	if (capture->look || is_due(capture, XF_HEAL_TUN))
		look_around(capture, &seen);
	if (is_due(capture, XF_HEAL_TUN)) {
		repair_tun(capture, &seen);
		look_around(capture, &seen);
	}
	repair(capture);
}

void xf_capture_dispatch(struct xf_capture *capture, uint64_t now_ns)
{
	capture->now_ns = now_ns;
	xf_capture_reconcile(capture);
}

/* What fails is tried again, as a loss. */
void xf_capture_links_changed(struct xf_capture *capture, uint64_t now_ns)
{
	struct xf_io_error error = { .text = "" };
	int err = capture->backstop ? xf_capture_attach_backstop(capture, &error) : 0;

	capture->now_ns = now_ns;
	if (!err)
		return;
	miss(capture, XF_HEAL_BACKSTOP, "a device came or changed");
	note(capture, XF_HEAL_BACKSTOP, err, NULL, &error);
}
