/*
 * journal.h - policies that outlive the daemon, so that a restart fails closed.
 *
 * The kernel's rules stay when the daemon dies; the policies they were derived from must come back
 * with the next one, or its first look at an empty SPD would open them. The journal is a file of
 * XFRM netlink messages: what was announced to listeners of policies, in order, is what a new
 * daemon is asked to do again. Where they do not tell a policy's place among equals, because they
 * were written anew, a record in front of its message does. SAs are not in it: no key is ever
 * written to a file.
 *
 * A change of policies is a transaction: xf_journal_reserve() before it (it may refuse), the
 * announcement, xf_journal_flush() before anybody is told. The form of the file is in
 * journal_file.h.
 *
 * Control thread. Functions return 0 or -errno.
 */
#ifndef XF_DAEMON_JOURNAL_H
#define XF_DAEMON_JOURNAL_H

#include "nl/nl.h"

#include "journal_file.h"

struct xf_journal;

struct xf_journal_config {
	const char *path; /* copied */
	struct xf_nl_server *server;
	struct xf_spd *spd; /* the server's */
	struct xf_journal_id id;
	/* An earlier daemon's rules are in force in this network namespace. That decides where the
	 * file does not say whose it is. */
	bool rules_stand;
};

/*
 * Do again what stands in the file, if it is of this namespace; else set it aside. Keep the
 * policies of the server in it from now on.
 *   -EBADMSG  the file is damaged: not all that it protected would come back
 *   -ENODATA  there is none, and rules stand
 *   -E2BIG    policies in it do not fit any more (xf_spd_config.max_policies)
 * These three leave all as it is; see xf_journal_error().
 */
int xf_journal_open(const struct xf_journal_config *cfg, uint64_t now_ns, struct xf_journal **out);

/* Why opening failed with @err, in a few words. */
const char *xf_journal_error(int err);

/*
 * For xf_nl_server_config.spd_reserve: the policies in force are about to change and to take @more
 * bytes more. Once this returns 0 the change can be written, whatever fills the file system.
 */
int xf_journal_reserve(struct xf_journal *journal, size_t more, const char **why);

/* For xf_spd_config.watch: a policy has come (@there) or gone. NULL is allowed. */
void xf_journal_policy(struct xf_journal *journal, const struct xf_policy *policy, bool there);

/* Write what was announced: before anybody is told that it is in force. NULL is allowed. */
void xf_journal_flush(struct xf_journal *journal);

/* The same, and give back room that is not needed any more. After each request and expiry. */
void xf_journal_settle(struct xf_journal *journal);

/* Stop keeping; the file stays. NULL is allowed. */
void xf_journal_close(struct xf_journal *journal);

/* The protection was released: nothing is to come back. */
void xf_journal_forget(struct xf_journal *journal);

struct xf_journal_stats {
	unsigned restored; /* policies that came back */
	unsigned refused; /* messages of an older version's file that did not fit; left out */
	bool set_aside; /* the file was somebody else's: PATH.old */
	bool short_of_room; /* what is reserved for changes could not be had */
};
void xf_journal_get_stats(const struct xf_journal *journal, struct xf_journal_stats *out);

#endif
