/*
 * nftables follows the SPD: which form its rules have, and the steps from those in force to these;
 * capture.c calls it. Where sets decide, what comes is in them before rules look into them, and
 * what goes leaves them behind the rules: in between too much is caught, never too little.
 *
 * Out, few policies have a rule each. Where there are more, a packet's destination is looked for in
 * sets of all destinations (the cover), and what is found there goes to the chain `selected`, where
 * the sieve is exact. To make that anew for each of many policies would take long: until nothing
 * has changed for a while destinations alone decide, and the engine sends on what was caught too
 * much. Policies that only add elements to sets that are looked into do not need that.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "capture/nat/nat.h"
#include "capture/nft/nft_sets.h"
#include "capture/nft/ruleset.h"
#include "capture/state.h"
#include "capture/nft/tables.h"

/* So few policies have rules of their own. */
#define FEW 64
/* Exact rules out wait for so long without a change, but no longer than that. */
#define QUIET_NS (200 * XF_NSEC_PER_SEC / 1000)
#define LONGEST_NS (10 * XF_NSEC_PER_SEC)
/* Each rule of `selected` costs a packet up to 140 ns: no more than so many. */
#define RULES_MAX 256

/* Sets are a part of the table. */
bool xf_capture_is_lost(const struct xf_capture *capture)
{
	return xf_heal_is_lost(&capture->heal, XF_HEAL_TABLE) ||
	       xf_heal_is_lost(&capture->heal, XF_HEAL_ELEMENTS);
}

/* --- when --- */

uint64_t xf_capture_exact_due(const struct xf_capture *capture)
{
	const struct xf_sieve *sieve = &capture->sieve[XF_DIR_OUT];
	uint64_t quiet = capture->changed_ns + QUIET_NS;
	uint64_t longest = capture->coarse_ns + LONGEST_NS;

	if (!capture->coarse_ruled || sieve->lost)
		return UINT64_MAX;
	/* Tried in vain. */
	if (sieve->failed)
		return longest;
	if (capture->too_many)
		return capture->changed_ns == capture->coarse_ns ? UINT64_MAX
		       : quiet > longest			 ? quiet
								 : longest;
	return quiet < longest ? quiet : longest;
}

void xf_capture_time_exact(struct xf_capture *capture)
{
	uint64_t due = capture->coarse_ruled ? xf_capture_exact_due(capture)
					     : capture->changed_ns + QUIET_NS;

	capture->calm = capture->now_ns >= due;
	capture->changed_ns = capture->now_ns;
}

/* --- forms --- */

static bool tell_sieve(void *arg, struct xf_policy *policy)
{
	const struct xf_policy_config *cfg = xf_policy_cfg(policy);
	struct xf_sieve *sieve = arg;

	if (cfg->dir == sieve->dir && !cfg->if_id && xf_sieve_is_simple(cfg))
		xf_sieve_change(sieve, policy, true);
	return true;
}

static void sort_anew(struct xf_capture *capture, struct xf_sieve *sieve)
{
	uint64_t cursor = 0;

	if (!sieve->restart && !sieve->failed)
		return;
	xf_sieve_restart(sieve);
	xf_spd_walk(capture->cfg.spd, &cursor, tell_sieve, sieve);
}

static void set_form(struct xf_capture *capture, struct xf_sieve *sieve, bool by_sets)
{
	bool lost = xf_capture_is_lost(capture);

	if (by_sets == sieve->by_sets && !lost)
		return;
	sieve->by_sets = by_sets;
	sieve->rules_dirty = true;
	/* Then sets are forgotten already. */
	if (lost)
		return;
	xf_cells_lost(&sieve->cells, XF_CELL_IN_SETS);
	if (sieve->dir == XF_DIR_OUT)
		xf_cells_lost(&capture->cover.cells, XF_CELL_IN_SETS);
}

/* In and fwd, what had memory for neither set nor kind has rules. */
static void choose_form(struct xf_capture *capture, struct xf_sieve *sieve)
{
	sort_anew(capture, sieve);
	set_form(capture, sieve,
		 !sieve->failed && !sieve->lost && !capture->without_sets &&
			 sieve->simple > (sieve->by_sets ? FEW / 2 : FEW));
}

/*
 * Out, what had no memory, or would be too many rules, goes by destinations. While that is so, the
 * sieve hears of nothing.
 */
static void choose_form_out(struct xf_capture *capture, struct xf_sieve *sieve)
{
	bool by_sets = capture->out > (sieve->by_sets ? FEW / 2 : FEW);

	set_form(capture, sieve, by_sets);
	capture->coarse =
		by_sets &&
		(capture->without_sets || sieve->lost ||
		 (!capture->calm && (sieve->restart || sieve->failed || sieve->rules_dirty)));
	if (by_sets && !capture->coarse) {
		sort_anew(capture, sieve);
		capture->too_many = xf_sieve_rules(sieve) > RULES_MAX;
		capture->coarse = sieve->failed || capture->too_many;
		capture->coarse_ns = capture->now_ns;
	}
	sieve->restart |= capture->coarse;
}

/* --- sets before the rules that look into them, and what goes behind them --- */

static bool is_coarse(const struct xf_capture *capture, const struct xf_sieve *sieve)
{
	return sieve->dir == XF_DIR_OUT && capture->coarse;
}

static int make_sets(struct xf_capture *capture, struct xf_sieve *sieve)
{
	bool out = sieve->dir == XF_DIR_OUT;
	bool coarse = is_coarse(capture, sieve);
	char *script;
	int err =
		xf_ruleset_make_sets(coarse ? NULL : sieve, out ? &capture->cover : NULL, &script);

	if (err)
		return err;
	err = capture->ops->nft_run(capture->arg, script, NULL);
	free(script);
	if (err)
		return err;
	capture->cover.made |= out;
	for (unsigned i = 0; i < sieve->nkinds && !coarse; i++)
		sieve->kinds[i].made = sieve->kinds[i].made || sieve->kinds[i].cells;
	return 0;
}

static int change_elements(struct xf_capture *capture, struct xf_sieve *sieve, bool there)
{
	int err = 0;

	if (sieve->dir == XF_DIR_OUT)
		err = xf_nft_sets_cover(capture->ops, capture->arg, &capture->cover, there);
	if (!err && !is_coarse(capture, sieve))
		err = xf_nft_sets_sift(capture->ops, capture->arg, sieve, there);
	return err;
}

/* Do the rules in force look into all sets that have something, and at ICMP errors? */
static bool looks_everywhere(const struct xf_capture *capture)
{
	const struct xf_cover *cover = &capture->cover;

	if (capture->icmp_ruled != (capture->icmp > 0))
		return false;
	for (unsigned six = 0; six < 2; six++) {
		if (xf_cover_rungs(cover, six) & ~cover->ruled[six])
			return false;
	}
	return true;
}

/* Of a table that is lost nothing is in force. */
static bool needs_rules(const struct xf_capture *capture, const struct xf_sieve *sieve)
{
	if (!sieve->by_sets || xf_capture_is_lost(capture))
		return true;
	if (sieve->dir == XF_DIR_OUT &&
	    (capture->coarse != capture->coarse_ruled || !looks_everywhere(capture)))
		return true;
	return !is_coarse(capture, sieve) && sieve->rules_dirty;
}

static bool has_changed(const struct xf_capture *capture, uint8_t dir)
{
	return capture->changed[dir] || xf_capture_is_lost(capture);
}

static void choose_forms(struct xf_capture *capture)
{
	if (has_changed(capture, XF_DIR_IN))
		choose_form(capture, &capture->sieve[XF_DIR_IN]);
	if (has_changed(capture, XF_DIR_FWD))
		choose_form(capture, &capture->sieve[XF_DIR_FWD]);
	if (has_changed(capture, XF_DIR_OUT))
		choose_form_out(capture, &capture->sieve[XF_DIR_OUT]);
}

static int before_rules(struct xf_capture *capture, struct xf_sieve *sieve,
			struct xf_ruleset_plan *plan)
{
	bool *rules = &plan->dirs[sieve->dir];
	int err = 0;

	if (!has_changed(capture, sieve->dir))
		return 0;
	*rules = needs_rules(capture, sieve);
	if (!sieve->by_sets || plan->fill)
		return 0;
	if (*rules)
		err = make_sets(capture, sieve);
	return err ? err : change_elements(capture, sieve, true);
}

/* A set that was taken away has taken its elements along. */
static void note_unmade(struct xf_sieve *sieve)
{
	for (struct xf_cell *cell = sieve->cells.pending; cell; cell = cell->next_pending) {
		if (!sieve->kinds[cell->key.set].made)
			cell->at = (uint8_t)(cell->at & ~XF_CELL_IN_SETS);
	}
}

/* While destinations decide, the chain `selected` and its sets stay as they are. */
static int after_rules(struct xf_capture *capture, struct xf_sieve *sieve, bool rules)
{
	bool all = rules && !is_coarse(capture, sieve);

	for (unsigned i = 0; i < sieve->nkinds && all; i++) {
		struct xf_sieve_kind *kind = &sieve->kinds[i];

		kind->ruled = kind->made && sieve->by_sets && kind->cells;
		kind->made = kind->ruled;
	}
	note_unmade(sieve);
	if (all)
		sieve->rules_dirty = false;
	return sieve->by_sets ? change_elements(capture, sieve, false) : 0;
}

static void note_in_sets(void *arg, struct xf_cell *cell)
{
	(void)arg;
	cell->at |= XF_CELL_IN_SETS;
}

/* As the script of a plan has left the table. */
static void note_rules(struct xf_capture *capture, const struct xf_ruleset_plan *plan)
{
	struct xf_cover *cover = &capture->cover;
	bool by_sets = capture->sieve[XF_DIR_OUT].by_sets;

	if (!plan->anew && !plan->dirs[XF_DIR_OUT])
		return;
	capture->icmp_ruled = plan->icmp_errors;
	if (capture->coarse && !capture->coarse_ruled)
		capture->coarse_ns = capture->now_ns;
	capture->coarse_ruled = capture->coarse;
	cover->made = by_sets;
	if (plan->fill && by_sets)
		xf_cells_each(&cover->cells, note_in_sets, NULL);
	for (unsigned six = 0; six < 2; six++)
		cover->ruled[six] = by_sets ? xf_cover_rungs(cover, six) : 0;
}

/*
 * The kernel has nothing of it, or nobody knows: sets with other names are filled anew, so that no
 * element is left over in them.
 */
static void forget_sets(struct xf_capture *capture)
{
	for (uint8_t dir = 0; dir < XF_DIR_MAX; dir++) {
		struct xf_sieve *sieve = &capture->sieve[dir];

		sieve->round++;
		for (unsigned i = 0; i < sieve->nkinds; i++)
			sieve->kinds[i].made = sieve->kinds[i].ruled = false;
		xf_cells_lost(&sieve->cells, XF_CELL_IN_SETS);
	}
	capture->cover.round++;
	capture->cover.made = false;
	xf_cells_lost(&capture->cover.cells, XF_CELL_IN_SETS);
}

/* --- scripts --- */

/* Has the table sets that are filled already? */
static bool has_sets(const struct xf_ruleset_plan *plan)
{
	for (uint8_t dir = 0; dir < XF_DIR_MAX; dir++) {
		if (plan->sieve[dir]->by_sets && !(plan->fill && dir == XF_DIR_OUT))
			return true;
	}
	return false;
}

static int run_script(struct xf_capture *capture, const struct xf_ruleset_plan *plan,
		      struct xf_io_error *error)
{
	/* It has an owner, counters of an earlier daemon or sets of elements that are filled. */
	bool stays = !capture->shared || !capture->started || has_sets(plan);
	char *script;
	int err = xf_ruleset_build(plan, &script);

	if (!err && plan->anew) {
		script = xf_tables_in_place_of_old(capture, stays, script);
		err = script ? 0 : -ENOMEM;
	}
	if (err)
		return xf_io_fail(error, err, "cannot make capture rules");
	err = capture->ops->nft_run(capture->arg, script, error);
	if (!err)
		note_rules(capture, plan);
	if (!err && plan->anew)
		err = xf_tables_sign_bridged(capture, error);
	free(script);
	return err;
}

static bool is_ours(const struct xf_capture *capture, const char *name)
{
	const char *last = strrchr(name, '_');

	if (strncmp(name, XF_NAT_SETS, strlen(XF_NAT_SETS)) == 0)
		return true;
	return last && strtoul(last + 1, NULL, 16) == capture->cover.round;
}

/* Sets of an earlier daemon, or of an earlier round, that no rule looks into any more. */
static void delete_stranger(void *arg, const char *name)
{
	const struct xf_capture *capture = arg;
	char script[128];

	if (is_ours(capture, name))
		return;
	snprintf(script, sizeof(script), "delete set inet " XF_NFT_TABLE " %.64s", name);
	capture->ops->nft_run(capture->arg, script, NULL);
}

struct strangers {
	const struct xf_capture *capture;
	FILE *f;
	bool any;
};

static void put_stranger(void *arg, const char *name)
{
	struct strangers *strangers = arg;

	if (is_ours(strangers->capture, name))
		return;
	fprintf(strangers->f, "delete set inet " XF_NFT_TABLE " %s\n", name);
	strangers->any = true;
}

/* Each script costs as much as there are sets, so one for all; and where it fails, one for each. */
static void delete_strangers(struct xf_capture *capture)
{
	struct strangers strangers = { .capture = capture };
	char *script = NULL;
	size_t size;

	strangers.f = open_memstream(&script, &size);
	if (!strangers.f)
		return;
	capture->ops->nft_each_set(capture->arg, put_stranger, &strangers);
	if (fclose(strangers.f) == 0 && strangers.any &&
	    capture->ops->nft_run(capture->arg, script, NULL) < 0)
		capture->ops->nft_each_set(capture->arg, delete_stranger, capture);
	free(script);
}

/* --- all of it --- */

/*
 * A table that stands can be replaced where its sets are filled by the same script: those of
 * destinations.
 */
static bool fills_by_script(const struct xf_capture *capture)
{
	return capture->coarse && capture->started && xf_capture_is_lost(capture) &&
	       !capture->sieve[XF_DIR_IN].by_sets && !capture->sieve[XF_DIR_FWD].by_sets;
}

/* The least that is to be done; when the table is lost, everything. */
static int try_nft(struct xf_capture *capture, struct xf_io_error *error)
{
	struct xf_ruleset_plan plan = {
		.names = &capture->cfg.names,
		.spd = capture->cfg.spd,
		.exempt = &capture->exempt,
		.cover = &capture->cover,
		.icmp_errors = capture->icmp > 0,
		.anew = xf_capture_is_lost(capture),
		.nat = xf_capture_nat_chains(capture),
		.nat_asks = xf_capture_is_lost(capture) && xf_capture_can_ask(capture),
	};
	int err = 0;

	choose_forms(capture);
	plan.by_destination = capture->coarse;
	plan.fill = fills_by_script(capture);
	for (uint8_t dir = 0; dir < XF_DIR_MAX && !err; dir++) {
		plan.sieve[dir] = &capture->sieve[dir];
		err = before_rules(capture, &capture->sieve[dir], &plan);
	}
	if (err)
		return xf_io_fail(error, err, "cannot fill sets of nftables");
	if (plan.anew || plan.dirs[XF_DIR_IN] || plan.dirs[XF_DIR_OUT] || plan.dirs[XF_DIR_FWD])
		err = run_script(capture, &plan, error);
	for (uint8_t dir = 0; dir < XF_DIR_MAX && !err; dir++)
		err = after_rules(capture, &capture->sieve[dir], plan.anew || plan.dirs[dir]);
	return err;
}

static int try_anew(struct xf_capture *capture, struct xf_io_error *error)
{
	int err = xf_tables_make(capture, error);

	if (err)
		return err;
	/* What was there is put back fast. */
	capture->calm = capture->calm && !capture->started;
	forget_sets(capture);
	err = try_nft(capture, error);
	if (!err)
		delete_strangers(capture);
	return err;
}

/*
 * What fails is done anew from the start: somebody may have taken our table away. Where that fails,
 * too, he may have changed it so that nothing can be added to it: without sets, which must be there
 * before the rules, it is replaced in one transaction.
 */
int xf_capture_nft_sync(struct xf_capture *capture, struct xf_io_error *error)
{
	int err = xf_capture_is_lost(capture) ? -EAGAIN : try_nft(capture, error);

	if (!err)
		return 0;
	if (!xf_capture_is_lost(capture))
		xf_heal_missed(&capture->heal, XF_HEAL_TABLE, capture->now_ns,
			       "nftables table " XF_NFT_TABLE " is not as it was");
	err = try_anew(capture, error);
	while (err && xf_capture_give_way(capture))
		err = try_anew(capture, error);
	if (err && capture->started) {
		capture->without_sets = true;
		err = try_anew(capture, error);
	}
	if (!err)
		xf_capture_nat_stands(capture);
	return err;
}

void xf_capture_nft_settled(struct xf_capture *capture)
{
	for (uint8_t dir = 0; dir < XF_DIR_MAX; dir++) {
		if (!is_coarse(capture, &capture->sieve[dir]))
			xf_cells_settled(&capture->sieve[dir].cells);
	}
}
