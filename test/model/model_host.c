/*
 * Capture and a whole host (fake_host.h): random policies come, change and go, operations fail or
 * only seem to, other programs change our part of the host and theirs, and packets go their ways
 * through all of it, also while capture is at work.
 *
 * At any time: what the SPD protects or blocks does not leave in clear, and plaintext that it
 * refuses does not come in; as long as one of the two layers is whole (decisions 0018, 0020). When
 * all is repaired: what it protects meets the daemon with its own source, and what no policy wants
 * gets where it would get on a host without capture, with the NAT that it would have there, and
 * back.
 *
 * In worlds with NAT and links at netfilter's hooks the daemon asks NAT for the source of what a
 * policy wants (port/ask.c): one that a policy selects, too, is that with which it is protected.
 *
 * A world with NAT exempts no devices: what was protected keeps its entry of conntrack, and so its
 * source, when its device becomes exempt.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <xf/rcu.h>

#include "model_host.h"

#ifndef MODEL_DIVISOR
#define MODEL_DIVISOR 1u
#endif
#define SEED 20261130u
#define STEADY 40 /* packets */
#define DEAD 15 /* packets while the daemon is */
#define MS (XF_NSEC_PER_SEC / 1000)
/* A part that is held, and the look each ten seconds. */
#define LONG_ENOUGH (25 * XF_NSEC_PER_SEC)

/* --- policies --- */

static struct xf_policy *find(const struct world *w, const struct xf_policy_config *cfg)
{
	const struct xf_policy_id id = {
		.sel = cfg->sel, .mark = cfg->mark, .dir = cfg->dir, .type = cfg->type
	};

	return xf_spd_find(w->spd, &id);
}

static void change_policy(struct world *w)
{
	unsigned i = below(w->cfg->max);
	struct xf_policy_config *cfg = &w->known[i];
	struct xf_policy *policy = i < w->n ? find(w, cfg) : NULL;

	if (i >= w->n) {
		cfg = &w->known[w->n++];
		draw_policy(w, cfg);
	} else if (policy && below(2) == 0) {
		xf_spd_del(w->spd, policy);
		draw_policy(w, cfg);
		return;
	} else if (below(2)) {
		draw_wishes(cfg);
	}
	/* An update that takes a place over makes ties: what is caught too much for these has no
	 * NAT, and its connection keeps that when they are gone. */
	if (policy && w->cfg->nat)
		xf_spd_del(w->spd, policy);
	assert_int_equal(xf_spd_insert(w->spd, cfg, false, w->now_ns, &policy), 0);
}

static void change_policies(struct world *w)
{
	unsigned n = 1 + below(below(8) ? 3 : 12) + (w->n ? 0 : w->cfg->max / 2);

	if (below(100 + w->cfg->max) == 0)
		xf_spd_flush(w->spd, below(4) ? XF_POLICY_MAIN : XF_POLICY_SUB);
	while (n--)
		change_policy(w);
}

static void watch(void *arg, const struct xf_policy *policy, bool there)
{
	struct world *w = arg;

	w->stale = w->stale || w->cfg->nat;
	w->outdated = true;
	if (!w->capture)
		return;
	if (w->nrecent < RECENT)
		w->recent[w->nrecent] = *xf_policy_cfg(policy);
	w->nrecent++;
	xf_capture_policy(w->capture, policy, there);
}

/* While capture is at work. */
static void send_meanwhile(void *arg)
{
	struct world *w = arg;

	if (below(4) == 0)
		send_packets(w, 1 + below(2));
}

/* --- the daemon's control thread --- */

void world_sync(struct world *w)
{
	if (xf_capture_sync(w->capture, w->now_ns, NULL) < 0)
		w->seen.failed++;
	else
		w->nrecent = 0;
}

static uint64_t act_on_time(struct world *w)
{
	uint64_t conntrack;
	uint64_t due;
	int err;

	if (xf_capture_settle(w->capture, w->now_ns, NULL) < 0)
		w->seen.failed++;
	conntrack = xf_capture_clean_conntrack(w->capture, w->now_ns, &err, NULL);
	due = xf_capture_due(w->capture);
	return conntrack < due ? conntrack : due;
}

/* Devices, NAT, and what others did. */
void world_hear(struct world *w)
{
	struct fake_host *host = &w->host;

	while (host->nevents || host->link_event || host->nat_event) {
		if (host->link_event) {
			host->link_event = false;
			xf_capture_links_changed(w->capture, w->now_ns);
		}
		if (host->nat_event) {
			host->nat_event = false;
			xf_capture_follow_nat(w->capture, w->now_ns);
		}
		if (host->nevents)
			xf_capture_dispatch(w->capture, w->now_ns);
	}
}

void world_run(struct world *w, uint64_t until_ns)
{
	for (unsigned i = 0;; i++) {
		uint64_t due;

		assert_in_range(i, 0, 1000);
		world_hear(w);
		due = act_on_time(w);
		if (w->host.nevents || w->host.link_event)
			continue;
		if (due > until_ns)
			break;
		w->now_ns = due > w->now_ns ? due : w->now_ns;
	}
	w->now_ns = until_ns;
}

static bool is_in_force(const struct world *w)
{
	if (!w->cfg->no_nat_chains && xf_capture_nat_due(w->capture) != UINT64_MAX)
		return false;
	for (unsigned part = 0; part < XF_HEAL_PARTS; part++) {
		if (xf_heal_is_lost(&w->capture->heal, (enum xf_heal_part)part))
			return false;
	}
	return true;
}

static bool is_held(const struct world *w)
{
	for (unsigned part = 0; part < XF_HEAL_PARTS; part++) {
		if (w->capture->heal.part[part].held)
			return true;
	}
	return false;
}

/* --- rounds --- */

/* All is as it should be: then all is asserted. */
void world_send_steady(struct world *w)
{
	if (!is_in_force(w)) {
		for (unsigned part = 0; part < XF_HEAL_PARTS; part++)
			print_message("# %s: state %d, %s\n", xf_heal_name(part),
				      w->capture->heal.part[part].state,
				      w->capture->heal.part[part].what);
		print_message("# round %u, last act: %s, NAT %d %d\n", w->round, w->act,
			      w->host.nat.there, w->capture->nat_chains);
		fail_msg("seed %u: a part of what capture needs is not in force", w->cfg->seed);
	}
	w->host.touched = (struct fake_touched){ .table = false };
	memset(w->host.was_exempt, 0, sizeof(w->host.was_exempt));
	if (w->mistaken)
		fake_conntrack_flush(&w->host.ct);
	w->mistaken = false;
	if (w->bare.nat_changes != w->host.nat_changes)
		fake_conntrack_flush(&w->bare.ct);
	if (w->cfg->nat && below(2)) {
		fake_host_forget_flows(&w->host);
		fake_conntrack_flush(&w->bare.ct);
		w->stale = false;
	}
	w->bare.nat = w->host.nat;
	w->bare.nat_changes = w->host.nat_changes;
	w->steady = true;
	send_packets(w, STEADY);
	if (w->cfg->mode != XF_CAPTURE_TC)
		send_bridged(w);
	w->steady = false;
}

static void calm_down(struct world *w)
{
	unsigned faults = w->host.kernel.faults;

	w->host.kernel.faults = 0;
	world_run(w, w->now_ns + LONG_ENOUGH);
	if (w->nrecent)
		world_sync(w);
	world_run(w, w->now_ns + XF_NSEC_PER_SEC);
	assert_int_equal(w->nrecent, 0);
	world_send_steady(w);
	w->host.kernel.faults = faults;
}

/* Nothing of ours is on its way, and nothing fails. */
static bool knows_all(const struct world *w)
{
	return !w->host.kernel.faults && !is_held(w) && !w->nrecent && is_in_force(w) &&
	       !w->host.nat_event && w->host.tun.marks && !w->host.touched.exempt &&
	       !w->host.unlinked;
}

/* @prompt: nothing fails, and all is told, so the first repair has to do. */
static void let_others_act(struct world *w)
{
	bool prompt = knows_all(w);
	unsigned n = below(3);

	while (n--) {
		bool told;

		w->host.snapshot = w->capture->snapshot.there && knows_all(w);
		w->act = fake_others_act(&w->host, &told);
		w->seen.acts++;
		prompt = prompt && told;
		send_packets(w, 1 + below(3));
		/* Before anything of ours comes behind it. */
		if (w->host.unheard)
			world_run(w, w->now_ns + 11 * XF_NSEC_PER_SEC);
	}
	if (below(2))
		world_hear(w);
	send_packets(w, below(4));
	if (!prompt)
		return;
	world_run(w, w->now_ns + 300 * MS);
	if (is_held(w))
		return;
	w->seen.prompt++;
	world_send_steady(w);
}

static int try_start(struct world *w)
{
	const struct xf_capture_config capture = {
		.names = xf_io_names_default,
		.spd = w->spd,
		.now_ns = w->now_ns,
		.mode = w->cfg->mode,
		.owner = w->cfg->owner,
		.ops = &fake_host_ops,
		.arg = &w->host,
	};

	fake_host_begin_daemon(&w->host);
	return xf_capture_new(&capture, &w->capture, NULL);
}

/* A daemon that cannot start ends, and is started again. A start is many operations, and all of
 * them have to do. */
void world_start_daemon(struct world *w)
{
	unsigned faults = w->host.kernel.faults;

	w->host.kernel.faults *= 20;
	while (try_start(w) < 0) {
		fake_host_end_daemon(&w->host);
		assert_true(w->host.kernel.faults);
		w->host.kernel.faults = below(4) ? w->host.kernel.faults : 0;
		w->seen.starts++;
		w->now_ns += 100 * MS;
	}
	w->host.kernel.faults = faults;
	w->host.workers = true;
	w->nrecent = 0;
}

/* Killed: it takes leave of nothing. */
void world_end_daemon(struct world *w)
{
	w->left_without_nat = lacks_nat_chains(w);
	xf_capture_free(w->capture);
	w->capture = NULL;
	fake_host_end_daemon(&w->host);
	w->seen.deaths++;
}

static void die_and_start(struct world *w)
{
	unsigned n = below(4);

	world_end_daemon(w);
	send_packets(w, DEAD);
	while (n--) {
		bool told;

		w->act = fake_others_act(&w->host, &told);
		w->seen.acts++;
		send_packets(w, DEAD);
	}
	world_start_daemon(w);
}

static void run(struct world *w)
{
	for (w->round = 0; w->round < w->cfg->rounds / MODEL_DIVISOR; w->round++) {
		w->host.kernel.faults = below(2) ? w->cfg->faults : 0;
		let_others_act(w);
		/* Their NAT and our policies do not change in the same millisecond. */
		if (w->host.nat_event)
			world_hear(w);
		change_policies(w);
		w->now_ns += below(2) ? 0 : 300 * MS;
		receive_late(w);
		world_sync(w);
		send_packets(w, below(4));
		let_others_act(w);
		receive_late(w);
		if (w->cfg->deaths && below(4) == 0)
			die_and_start(w);
		if (below(2))
			world_run(w, w->now_ns + below(2000) * MS);
		calm_down(w);
		if (w->host.ct.n > 150)
			fake_conntrack_flush(&w->host.ct);
		if (w->bare.ct.n > 150)
			fake_conntrack_flush(&w->bare.ct);
		xf_rcu_drain();
		/* Other policies, now and then: else they are what they were drawn to be. */
		if (w->round % 200 == 199)
			w->n /= 2;
	}
}

struct world *world_new(const struct world_config *cfg)
{
	struct world *w = calloc(1, sizeof(*w));
	const struct xf_spd_config spd = { .seed = { 1, 2 }, .watch = watch, .watch_arg = w };

	assert_non_null(w);
	w->cfg = cfg;
	srand(cfg->seed);
	w->now_ns = XF_NSEC_PER_SEC;
	w->act = "none";
	w->spd = xf_spd_new(&spd);
	assert_non_null(w->spd);
	fake_host_init(&w->bare, false);
	w->bare.bare = true;
	fake_host_init(&w->host, cfg->netfilter);
	w->bare.spd = w->host.spd = w->spd;
	w->host.tcx = cfg->tcx;
	w->host.no_nat = !cfg->nat;
	w->host.no_exempt = !cfg->exempt;
	w->host.kernel.owned = cfg->owner;
	fake_nft_take_nat(w->host.kernel.nft, !cfg->no_nat_chains);
	/* Then no chain of ours puts them right. */
	w->host.no_marks = cfg->mode == XF_CAPTURE_TC;
	world_start_daemon(w);
	w->host.pause = send_meanwhile;
	w->host.pause_arg = w;
	return w;
}

static void report(const struct world *w)
{
	const struct counts *seen = &w->seen;

	print_message("# seed %u: %lu packets, %lu in windows; left %lu here %lu protected %lu "
		      "blocked %lu lost %lu\n",
		      w->cfg->seed, seen->packets + seen->replies, seen->in_windows,
		      seen->fates[FAKE_LEFT], seen->fates[FAKE_HERE], seen->fates[FAKE_PROTECTED],
		      seen->fates[FAKE_BLOCKED], seen->fates[FAKE_LOST]);
	print_message("# refused %lu, too much %lu, translated %lu, behind NAT %lu, once %lu, "
		      "clashed %lu, replies %lu\n",
		      seen->refused, seen->too_much, seen->translated, seen->redirected, seen->once,
		      seen->clashed, seen->replies);
	print_message(
		"# NAT was asked for %lu, within %lu, known then %lu, late %lu, replies %lu\n",
		seen->asked, seen->within, seen->known, seen->late, seen->replies_within);
	print_message("# %lu acts of others, %lu repairs at once, %u faults, %lu syncs failed\n",
		      seen->acts, seen->prompt, w->host.kernel.fault_count, seen->failed);
	print_message("# the daemon died %lu times, %lu starts failed, exempt %lu\n", seen->deaths,
		      seen->starts, seen->exempt);
	assert_true(!w->cfg->exempt == !seen->exempt);
	assert_true(seen->fates[FAKE_LEFT] && seen->fates[FAKE_PROTECTED] && seen->refused);
	assert_true(!w->cfg->faults == !w->host.kernel.fault_count);
	assert_true(!w->cfg->nat || seen->translated);
}

void world_free(struct world *w)
{
	w->host.pause = NULL;
	world_end_daemon(w);
	xf_spd_free(w->spd);
	fake_host_fini(&w->host);
	fake_host_fini(&w->bare);
	free(w);
}

static void run_world(const struct world_config *cfg)
{
	struct world_config own = *cfg;
	const char *seed = getenv("MODEL_SEED");
	const char *times = getenv("MODEL_TIMES"); /* as many rounds: by hand */
	struct world *w;

	own.seed = seed ? (unsigned)strtoul(seed, NULL, 0) : SEED;
	own.rounds *= times ? (unsigned)strtoul(times, NULL, 0) : 1;
	w = world_new(&own);
	run(w);
	report(w);
	world_free(w);
}

static void test_auto(void **unused)
{
	const struct world_config cfg = { .exempt = true,
					  .mode = XF_CAPTURE_AUTO,
					  .netfilter = true,
					  .tcx = true,
					  .max = 20,
					  .rounds = 1200 };

	(void)unused;
	run_world(&cfg);
}

static void test_nat(void **unused)
{
	const struct world_config cfg = {
		.mode = XF_CAPTURE_AUTO, .nat = true, .tcx = true, .max = 20, .rounds = 1200
	};

	(void)unused;
	run_world(&cfg);
}

/* NAT is asked for what it makes of a source. */
static void test_questions(void **unused)
{
	const struct world_config cfg = { .mode = XF_CAPTURE_AUTO,
					  .nat = true,
					  .netfilter = true,
					  .tcx = true,
					  .max = 20,
					  .rounds = 1200 };

	(void)unused;
	run_world(&cfg);
}

/* And answers get lost, come late, twice, or by other ways. */
static void test_questions_and_faults(void **unused)
{
	const struct world_config cfg = { .mode = XF_CAPTURE_AUTO,
					  .nat = true,
					  .netfilter = true,
					  .deaths = true,
					  .max = 40,
					  .faults = 12,
					  .rounds = 800 };

	(void)unused;
	run_world(&cfg);
}

static void test_faults(void **unused)
{
	const struct world_config cfg = {
		.mode = XF_CAPTURE_AUTO, .nat = true, .max = MANY, .faults = 6, .rounds = 800
	};

	(void)unused;
	run_world(&cfg);
}

static void test_without_netfilter_links(void **unused)
{
	const struct world_config cfg = { .exempt = true,
					  .mode = XF_CAPTURE_AUTO,
					  .nat = false,
					  .max = 30,
					  .faults = 10,
					  .rounds = 800 };

	(void)unused;
	run_world(&cfg);
}

static void test_nft_alone(void **unused)
{
	const struct world_config cfg = {
		.mode = XF_CAPTURE_NFT, .nat = true, .max = 100, .faults = 10, .rounds = 800
	};

	(void)unused;
	run_world(&cfg);
}

/* What its NAT takes out of a policy is lost there, and does not leave in clear. */
static void test_nft_without_nat_chains(void **unused)
{
	const struct world_config cfg = {
		.mode = XF_CAPTURE_NFT, .nat = true, .no_nat_chains = true, .max = 20, .rounds = 400
	};

	(void)unused;
	run_world(&cfg);
}

/* Nobody changes its table while the daemon lives. */
static void test_owner(void **unused)
{
	const struct world_config cfg = { .mode = XF_CAPTURE_AUTO,
					  .nat = true,
					  .owner = true,
					  .deaths = true,
					  .max = 100,
					  .faults = 12,
					  .rounds = 600 };

	(void)unused;
	run_world(&cfg);
}

static void test_deaths(void **unused)
{
	const struct world_config cfg = { .exempt = true,
					  .mode = XF_CAPTURE_AUTO,
					  .netfilter = true,
					  .deaths = true,
					  .max = 30,
					  .faults = 12,
					  .rounds = 600 };

	(void)unused;
	run_world(&cfg);
}

static void test_programs_alone(void **unused)
{
	const struct world_config cfg = { .exempt = true,
					  .mode = XF_CAPTURE_TC,
					  .netfilter = true,
					  .tcx = true,
					  .max = 30,
					  .faults = 10,
					  .rounds = 800 };

	(void)unused;
	run_world(&cfg);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_auto),
		cmocka_unit_test(test_nat),
		cmocka_unit_test(test_questions),
		cmocka_unit_test(test_questions_and_faults),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_without_netfilter_links),
		cmocka_unit_test(test_nft_alone),
		cmocka_unit_test(test_programs_alone),
		cmocka_unit_test(test_nft_without_nat_chains),
		cmocka_unit_test(test_owner),
		cmocka_unit_test(test_deaths),
		cmocka_unit_test(flows_within_begin_and_end),
		cmocka_unit_test(flows_within_outlive_conntrack),
		cmocka_unit_test(flows_within_follow_policies),
		cmocka_unit_test(a_crowd_is_back_at_once),
		cmocka_unit_test(what_fails_by_itself_is_not_held),
		cmocka_unit_test(nat_chains_outlive_failures),
		cmocka_unit_test(nat_chains_give_way),
		cmocka_unit_test(what_is_sent_on_is_known_by_its_socket),
		cmocka_unit_test(what_was_redirected_is_sent_on_as_it_is),
		cmocka_unit_test(nat_chains_go_with_the_nat),
		cmocka_unit_test(counters_outlive_the_daemon),
		cmocka_unit_test(a_bridge_is_signed_in_the_end),
	};
	int failed;

	/* One of them, by name. */
	cmocka_set_test_filter(getenv("MODEL_TEST"));
	xf_read_register();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	xf_read_unregister();
	return failed;
}
