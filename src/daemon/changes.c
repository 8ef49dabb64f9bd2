/*
 * Changes by netlink and by time, in the order in which their parts must know of them: the journal
 * before the rules, both before anybody is told.
 */
#include "changes.h"
#include "log.h"
#include "loop.h"

/* Policies that come back at the start are there before their rules: NULL. */
static void sync_capture(struct xf_capture *capture)
{
	struct xf_io_error error;

	if (capture && xf_capture_sync(capture, xf_clock_ns(), &error))
		xf_log(XF_LOG_ERROR, "the kernel's rules do not follow the policies: %s",
		       error.text);
}

void xf_changes_policy(void *arg, const struct xf_policy *policy, bool there)
{
	const struct xf_changes *changes = arg;

	xf_journal_policy(changes->journal, policy, there);
	if (changes->capture)
		xf_capture_policy(changes->capture, policy, there);
}

/* Policies that come back at the start are in the journal already. */
int xf_changes_reserve(void *arg, size_t more, const char **why)
{
	const struct xf_changes *changes = arg;

	return changes->journal ? xf_journal_reserve(changes->journal, more, why) : 0;
}

/* The journal first: what is in force and was told comes back after a crash. */
void xf_changes_end(void *arg)
{
	struct xf_changes *changes = arg;

	xf_journal_flush(changes->journal);
	sync_capture(changes->capture);
}

int xf_changes_sa_wanted(void *arg, const struct xf_sa *sa, const char **why)
{
	struct xf_changes *changes = arg;

	return xf_follow_wanted(&changes->follow, sa, why);
}

void xf_changes_sa(void *arg, struct xf_sa *sa)
{
	struct xf_changes *changes = arg;

	xf_follow_sa(&changes->follow, sa);
}

void xf_changes_sa_expired(void *arg, struct xf_sa *sa, enum xf_sa_event event)
{
	const struct xf_changes *changes = arg;

	xf_nl_sa_expired(changes->server, sa, event);
}

void xf_changes_policy_expired(void *arg, struct xf_policy *policy, bool hard)
{
	struct xf_changes *changes = arg;

	xf_nl_policy_expired(changes->server, policy, hard);
	if (hard)
		sync_capture(changes->capture);
}
