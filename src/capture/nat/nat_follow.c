/*
 * The chains of nat.h follow the NAT of others; capture.c and nft_follow.c call it.
 *
 * A kernel that does not take all of them is given fewer, so that the rest of the rules stands: one
 * that has no nat chains drops what somebody's NAT would take out of a policy. More are tried again
 * soon. What a kernel has taken before it takes again: there an error is no reason to put a table
 * with fewer in place of one that may stand with all.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "capture/state.h"

/* So often a table with all chains fails before that of a kernel which had taken them has fewer. */
#define PATIENCE 4

bool xf_capture_can_ask(const struct xf_capture *capture)
{
	struct xf_capture_stats stats = { .backstop = false };

	if (!capture->backstop)
		return false;
	capture->ops->backstop_stats(capture->arg, &stats);
	return stats.programs.twin == XF_TWIN_NETFILTER;
}

enum xf_nat_chains xf_capture_nat_chains(const struct xf_capture *capture)
{
	return capture->nat ? capture->nat_chains : XF_NAT_NONE;
}

/* All of them come (@there) or go. */
static int change_chains(struct xf_capture *capture, bool there, struct xf_io_error *error)
{
	char *script = NULL;
	size_t size;
	FILE *f = open_memstream(&script, &size);
	int err = -ENOMEM;

	if (!f)
		return xf_io_fail(error, err, "cannot make capture rules");
	if (there)
		xf_nat_put(f, &capture->cfg.names, XF_NAT_ALL, xf_capture_can_ask(capture));
	else
		xf_nat_put_deletion(f);
	if (fclose(f) == 0)
		err = capture->ops->nft_run(capture->arg, script, error);
	free(script);
	if (!err)
		xf_capture_expect_change(capture);
	return err;
}

void xf_capture_doubt_conntrack(struct xf_capture *capture)
{
	if (xf_capture_nat_chains(capture) != XF_NAT_ALL)
		return;
	capture->changes.any = true;
	xf_conntrack_noted(&capture->changes, capture->now_ns);
}

/* --- fewer, and all of them again --- */

bool xf_capture_give_way(struct xf_capture *capture)
{
	unsigned failures = capture->heal.part[XF_HEAL_TABLE].failures;

	if (xf_capture_nat_chains(capture) == XF_NAT_NONE ||
	    (capture->nat_taken && failures < PATIENCE))
		return false;
	if (capture->nat_chains == XF_NAT_ALL && capture->cfg.say)
		capture->cfg.say(capture->cfg.say_arg, true,
				 "nftables takes no chains for the host's NAT: what that changes "
				 "on its way to us is dropped");
	capture->nat_chains--;
	capture->nat_failures = 1;
	return true;
}

static void wait_for_more(struct xf_capture *capture)
{
	capture->nat_due_ns = capture->now_ns + xf_heal_wait_ns(capture->nat_failures++);
}

void xf_capture_nat_stands(struct xf_capture *capture)
{
	if (xf_capture_nat_chains(capture) == XF_NAT_ALL)
		capture->nat_taken = true;
	else
		wait_for_more(capture);
}

uint64_t xf_capture_nat_due(const struct xf_capture *capture)
{
	return capture->nat && capture->nat_chains != XF_NAT_ALL ? capture->nat_due_ns : UINT64_MAX;
}

void xf_capture_try_all_nat(struct xf_capture *capture)
{
	if (change_chains(capture, true, NULL) < 0) {
		wait_for_more(capture);
		return;
	}
	capture->nat_chains = XF_NAT_ALL;
	capture->nat_taken = true;
	xf_capture_doubt_conntrack(capture);
}

/* --- what others have --- */

int xf_capture_nat_fd(const struct xf_capture *capture)
{
	return capture->nft ? capture->ops->nat_fd(capture->arg) : -1;
}

bool xf_capture_nat_has_changed(const struct xf_capture *capture)
{
	return !capture->ops->nat_changed || capture->ops->nat_changed(capture->arg);
}

/* What fails is made with the whole table, which has fewer where it must. */
static bool change_or_miss(struct xf_capture *capture, bool there)
{
	if (change_chains(capture, there, NULL) == 0)
		return true;
	xf_heal_missed(&capture->heal, XF_HEAL_TABLE, capture->now_ns,
		       "chains for the host's NAT do not follow it");
	return false;
}

static void begin(struct xf_capture *capture)
{
	capture->nat_chains = XF_NAT_ALL;
	if (change_or_miss(capture, true))
		capture->nat_taken = true;
	/* Connection tracking may have come with it, which the programs are to read. */
	if (capture->backstop)
		xf_capture_sync_backstop(capture, NULL);
}

/* Sets that stay are of no consequence. */
static void end(struct xf_capture *capture)
{
	change_or_miss(capture, false);
	for (unsigned i = 0; xf_nat_delete_sets[i]; i++)
		capture->ops->nft_run(capture->arg, xf_nat_delete_sets[i], NULL);
}

void xf_capture_follow_nat(struct xf_capture *capture, uint64_t now_ns)
{
	bool had = capture->nat;

	capture->now_ns = now_ns;
	if (!capture->nft)
		return;
	xf_capture_read_events(capture);
	capture->nat = capture->ops->foreign_nat(capture->arg);
	if (had && !capture->nat)
		end(capture);
	else if (capture->nat && !had)
		begin(capture);
	else if (xf_capture_nat_due(capture) != UINT64_MAX)
		xf_capture_try_all_nat(capture);
	if (!had)
		xf_capture_doubt_conntrack(capture);
}

void xf_capture_begin_nat(struct xf_capture *capture)
{
	capture->nat = capture->nft && capture->ops->foreign_nat(capture->arg);
	capture->nat_chains = XF_NAT_ALL;
}

int xf_capture_ask_no_more(struct xf_capture *capture, struct xf_io_error *error)
{
	return xf_capture_nat_chains(capture) == XF_NAT_ALL ? change_chains(capture, true, error)
							    : 0;
}

uint64_t xf_capture_clean_conntrack(struct xf_capture *capture, uint64_t now_ns, int *err,
				    struct xf_io_error *error)
{
	uint64_t due = xf_conntrack_due(&capture->changes);
	uint64_t deleted = 0;

	*err = 0;
	if (now_ns < due)
		return due;
	*err = capture->ops->conntrack_clean(capture->arg, &capture->changes, capture->cfg.spd,
					     &deleted, error);
	capture->count.conntrack_deleted += deleted;
	return UINT64_MAX;
}
