/*
 * What the SPD asks of the kernel, and when it is done: nftables (nft_follow.c), the host's NAT
 * (nat_follow.c), backstop, rule and route; the daemon's control thread calls it. What is done to
 * the kernel goes through a table of operations (ops.h).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "capture/capture.h"
#include "capture/ops.h"
#include "capture/state.h"
#include "capture/nft/tables.h"

/* --- following the SPD --- */

void xf_capture_policy(struct xf_capture *capture, const struct xf_policy *policy, bool there)
{
	const struct xf_policy_config *cfg = xf_policy_cfg(policy);

	/* Those with an if_id see only what an xfrm interface sends. */
	if (cfg->if_id)
		return;
	capture->changed[cfg->dir] = true;
	xf_heal_changed(&capture->heal, XF_HEAL_TABLE);
	if (capture->backstop)
		capture->ops->backstop_policy(capture->arg, policy, there);
	if (capture->nft)
		xf_sieve_change(&capture->sieve[cfg->dir], policy, there);
	if (cfg->dir != XF_DIR_OUT)
		return;
	capture->out += there ? 1u : -1u;
	if (capture->nat)
		xf_conntrack_note(&capture->changes, cfg, there);
	if (cfg->flags & XF_POLICY_ICMP)
		capture->icmp += there ? 1u : -1u;
	if (xf_policy_is_strict(cfg))
		xf_cover_change(&capture->cover, &cfg->sel, there);
}

static bool tell_cover(void *arg, struct xf_policy *policy)
{
	const struct xf_policy_config *cfg = xf_policy_cfg(policy);
	struct xf_capture *capture = arg;

	if (cfg->dir == XF_DIR_OUT && !cfg->if_id && xf_policy_is_strict(cfg))
		xf_cover_change(&capture->cover, &cfg->sel, true);
	return true;
}

static void refine(struct xf_capture *capture)
{
	uint64_t cursor = 0;

	if (!xf_cover_is_too_coarse(&capture->cover))
		return;
	xf_cover_restart(&capture->cover);
	xf_spd_walk(capture->cfg.spd, &cursor, tell_cover, capture);
}

void xf_capture_expect_change(struct xf_capture *capture)
{
	capture->snapshot.there = false;
	capture->snapshot_ns = capture->now_ns + XF_CAPTURE_SNAPSHOT_NS;
}

int xf_capture_sync_backstop(struct xf_capture *capture, struct xf_io_error *error)
{
	int err = capture->ops->backstop_sync(capture->arg, &capture->cover, capture->cfg.spd);

	return err ? xf_io_fail(error, err, "cannot fill the rules of the backstop") : 0;
}

/* The backstop first: if the rules fail it stands already. */
static int sync_all(struct xf_capture *capture, struct xf_io_error *error)
{
	int backstop_err = 0;
	int err = 0;

	if (capture->backstop)
		backstop_err = xf_capture_sync_backstop(capture, error);
	if (capture->nft)
		err = xf_capture_nft_sync(capture, error);
	if (!err)
		err = backstop_err;
	if (!err && capture->cover.failed)
		err = xf_io_fail(error, -ENOMEM, "cannot make capture rules");
	if (err)
		return err;
	xf_cells_settled(&capture->cover.cells);
	xf_capture_nft_settled(capture);
	memset(capture->changed, 0, sizeof(capture->changed));
	xf_capture_expect_change(capture);
	return 0;
}

/* The table stands as it should, or is lost for now. */
static void note_outcome(struct xf_capture *capture, int err, const struct xf_io_error *error)
{
	static const enum xf_heal_part parts[] = { XF_HEAL_TABLE, XF_HEAL_ELEMENTS };
	char why[XF_HEAL_TEXT];

	snprintf(why, sizeof(why), "cannot be made anew, it is tried again: %.*s",
		 (int)sizeof(why) - 64, error->text);
	if (err && !xf_capture_is_lost(capture))
		xf_heal_missed(&capture->heal, XF_HEAL_TABLE, capture->now_ns,
			       "what captures does not follow the policies");
	for (unsigned i = 0; i < XF_ARRAY_SIZE(parts); i++) {
		if (err)
			xf_heal_failed(&capture->heal, parts[i], capture->now_ns, why);
		else
			xf_heal_repaired(&capture->heal, parts[i], capture->now_ns, "made anew");
		xf_heal_follows(&capture->heal, parts[i]);
	}
}

static int sync_once(struct xf_capture *capture, struct xf_io_error *error)
{
	bool lost = xf_capture_is_lost(capture);
	int err;

	if (lost || capture->changed[XF_DIR_OUT]) {
		refine(capture);
		xf_capture_time_exact(capture);
	}
	err = sync_all(capture, error);
	note_outcome(capture, err, error);
	if (lost && !err)
		xf_capture_doubt_conntrack(capture);
	return err;
}

/* Where it had to do without sets, they come now that the table stands. */
int xf_capture_sync_now(struct xf_capture *capture, struct xf_io_error *error)
{
	struct xf_io_error own = { .text = "" };
	int err = sync_once(capture, &own);

	if (capture->without_sets) {
		capture->without_sets = false;
		for (uint8_t dir = 0; dir < XF_DIR_MAX; dir++)
			capture->changed[dir] = true;
		if (!err)
			err = sync_once(capture, &own);
	}
	if (err && error)
		*error = own;
	return err;
}

int xf_capture_sync(struct xf_capture *capture, uint64_t now_ns, struct xf_io_error *error)
{
	bool changed = capture->changed[XF_DIR_IN] || capture->changed[XF_DIR_OUT] ||
		       capture->changed[XF_DIR_FWD];

	capture->now_ns = now_ns;
	xf_capture_read_events(capture);
	if (capture->changed[XF_DIR_OUT])
		xf_conntrack_noted(&capture->changes, now_ns);
	if (!changed && !xf_heal_is_due(&capture->heal, XF_HEAL_TABLE, now_ns) &&
	    !xf_heal_is_due(&capture->heal, XF_HEAL_ELEMENTS, now_ns))
		return 0;
	return xf_capture_sync_now(capture, error);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

uint64_t xf_capture_due(const struct xf_capture *capture)
{
	uint64_t due = xf_heal_due(&capture->heal);

	due = earlier(due, xf_capture_exact_due(capture));
	due = earlier(due, xf_capture_nat_due(capture));
	due = earlier(due, xf_tables_bridge_due(capture));
	due = earlier(due, capture->attach_ns);
	if (capture->fd < 0)
		return due;
	return earlier(due, earlier(capture->check_ns, capture->snapshot_ns));
}

int xf_capture_settle(struct xf_capture *capture, uint64_t now_ns, struct xf_io_error *error)
{
	int err = 0;

	capture->now_ns = now_ns;
	if (now_ns >= xf_capture_exact_due(capture)) {
		capture->changed[XF_DIR_OUT] = true;
		err = xf_capture_sync(capture, now_ns, error);
	}
	if (now_ns >= xf_capture_nat_due(capture))
		xf_capture_try_all_nat(capture);
	if (now_ns >= xf_tables_bridge_due(capture))
		xf_tables_sign_bridged(capture, NULL);
	if (now_ns >= capture->attach_ns)
		xf_capture_links_changed(capture, now_ns);
	xf_capture_reconcile(capture);
	return err;
}

/* --- start and end --- */

/* What the mode asks for and this kernel has; at least one of the two. */
static int open_parts(struct xf_capture *capture, struct xf_io_error *error)
{
	enum xf_capture_mode mode = capture->cfg.mode;
	int nft_err = -ENOENT;
	int tc_err;

	if (mode != XF_CAPTURE_TC)
		nft_err = capture->ops->nft_open(capture->arg, error);
	capture->nft = nft_err == 0;
	if (nft_err && mode == XF_CAPTURE_NFT)
		return nft_err;
	if (mode == XF_CAPTURE_NFT)
		return 0;
	tc_err = capture->ops->backstop_open(capture->arg, capture->cfg.twin,
					     nft_err ? error : NULL);
	capture->backstop = tc_err == 0;
	return nft_err ? tc_err : 0;
}

static bool tell_policy(void *arg, struct xf_policy *policy)
{
	xf_capture_policy(arg, policy, true);
	return true;
}

static int choose_ops(struct xf_capture *capture, struct xf_io_error *error)
{
	int err;

	capture->ops = capture->cfg.ops;
	capture->arg = capture->cfg.arg;
	if (capture->ops)
		return 0;
	err = xf_kernel_new(&capture->cfg, &capture->kernel);
	capture->ops = &xf_kernel_ops;
	capture->arg = capture->kernel;
	return err ? xf_io_fail(error, err, "cannot capture") : 0;
}

/*
 * A TUN that somebody has deleted since it was opened is a loss like one later, where losses are
 * seen: it is made anew at once, with its route. All that is captured until then goes nowhere.
 */
static int lead_into_tun(struct xf_capture *capture, struct xf_io_error *error)
{
	int err = capture->ops->route_add(capture->arg, error);

	if (err != -ENODEV || capture->fd < 0)
		return err;
	capture->check_ns = capture->now_ns;
	return 0;
}

/* What is loaded may be refused its place: then the rules are not to count on it. */
static int attach_backstop(struct xf_capture *capture, struct xf_io_error *error)
{
	bool could_ask = xf_capture_can_ask(capture);
	int err = xf_capture_attach_backstop(capture, error);

	if (!err && could_ask && !xf_capture_can_ask(capture))
		err = xf_capture_ask_no_more(capture, error);
	return err;
}

/* What is told soon would otherwise make tables grow, again and again. */
static void make_room(struct xf_capture *capture)
{
	struct xf_spd_info info;

	xf_spd_get_info(capture->cfg.spd, &info);
	for (uint8_t dir = 0; dir < XF_DIR_MAX && capture->nft; dir++)
		xf_cells_reserve(&capture->sieve[dir].cells, info.count[dir]);
	xf_cells_reserve(&capture->cover.cells, xf_min_u32(info.count[XF_DIR_OUT], XF_COVER_MAX));
}

/* Rules and backstop first: what the TUN carries is what they let through. */
static int start(struct xf_capture *capture, struct xf_io_error *error)
{
	uint64_t cursor = 0;
	int err = choose_ops(capture, error);

	if (err)
		return err;
	xf_capture_watch(capture);
	err = open_parts(capture, error);
	if (!err)
		xf_capture_begin_nat(capture);
	xf_capture_read_exempt(capture);
	make_room(capture);
	xf_spd_walk(capture->cfg.spd, &cursor, tell_policy, capture);
	/* Whatever stands there is of no policy of ours. */
	capture->heal.part[XF_HEAL_TABLE].state = XF_HEAL_LOST;
	if (!err)
		err = xf_capture_sync_now(capture, error);
	if (!err && capture->backstop)
		err = attach_backstop(capture, error);
	if (!err)
		err = lead_into_tun(capture, error);
	if (!err)
		xf_capture_say_exempt(capture);
	capture->heal = (struct xf_heal){ .say = capture->cfg.say, .arg = capture->cfg.say_arg };
	capture->started = err == 0;
	return err;
}

int xf_capture_new(const struct xf_capture_config *cfg, struct xf_capture **out,
		   struct xf_io_error *error)
{
	struct xf_capture *capture = calloc(1, sizeof(*capture));
	int err;

	if (!capture)
		return xf_io_fail(error, -ENOMEM, "cannot capture");
	capture->cfg = *cfg;
	capture->now_ns = cfg->now_ns;
	capture->check_ns = UINT64_MAX;
	capture->taker = UINT32_MAX;
	capture->snapshot_ns = UINT64_MAX;
	capture->bridge_due_ns = UINT64_MAX;
	capture->attach_ns = UINT64_MAX;
	for (uint8_t dir = 0; dir < XF_DIR_MAX; dir++) {
		capture->sieve[dir].dir = dir;
		capture->sieve[dir].round = (uint16_t)cfg->now_ns;
	}
	capture->cover.round = (uint16_t)cfg->now_ns;
	err = start(capture, error);
	if (err) {
		xf_capture_free(capture);
		return err;
	}
	*out = capture;
	return 0;
}

void xf_capture_free(struct xf_capture *capture)
{
	if (!capture)
		return;
	xf_kernel_free(capture->kernel);
	xf_exempt_fini(&capture->exempt);
	xf_exempt_set_free(atomic_load(&capture->exempt_set));
	xf_cover_fini(&capture->cover);
	for (uint8_t dir = 0; dir < XF_DIR_MAX; dir++)
		xf_sieve_fini(&capture->sieve[dir]);
	free(capture);
}

static bool has_part(const struct xf_capture *capture, enum xf_heal_part part)
{
	if (part == XF_HEAL_TABLE || part == XF_HEAL_ELEMENTS)
		return capture->nft;
	return part != XF_HEAL_BACKSTOP || capture->backstop;
}

static void show_parts(const struct xf_capture *capture, struct xf_capture_stats *out)
{
	for (enum xf_heal_part part = 0; part < XF_HEAL_PARTS; part++) {
		const struct xf_heal_entry *entry = &capture->heal.part[part];

		out->parts[part] = (struct xf_capture_part){
			.name = has_part(capture, part) ? xf_heal_name(part) : NULL,
			.in_force = !xf_heal_is_lost(&capture->heal, part),
			.losses = entry->losses,
			.repairs = entry->repairs,
			.what = entry->what,
		};
	}
}

int xf_capture_get_stats(struct xf_capture *capture, struct xf_capture_stats *out)
{
	int err = 0;

	memset(out, 0, sizeof(*out));
	if (capture->backstop) {
		out->backstop = true;
		capture->ops->backstop_stats(capture->arg, out);
	}
	if (capture->nft)
		err = capture->ops->nft_counters(capture->arg, &out->count);
	out->nft = capture->nft && !err;
	out->exact = out->nft && !capture->coarse_ruled;
	out->nat = out->nft && xf_capture_nat_chains(capture) == XF_NAT_ALL;
	out->shared = out->nft ? capture->shared : NULL;
	xf_counters_add(&xf_capture_counters, &capture->count, &out->count);
	show_parts(capture, out);
	return err;
}
