/*
 * journal.h - policies that outlive the daemon, so that a restart fails closed.
 *
 * The kernel's rules stay when the daemon dies; the policies they were derived from must come back
 * with the next one, or its first look at an empty SPD would open them. The journal is a file of
 * XFRM netlink messages: what was announced to listeners of policies, in order, is what a new
 * daemon is asked to do again. SAs are not in it: no key is ever written to a file.
 *
 * Control thread. Functions return 0 or -errno.
 */
#ifndef XF_DAEMON_JOURNAL_H
#define XF_DAEMON_JOURNAL_H

#include "nl/nl.h"

struct xf_journal;

struct xf_journal_config {
	const char *path; /* copied */
	struct xf_nl_server *server;
	/* An earlier daemon's rules are in force in this network namespace: do again what stands
	 * in the file. Else that is somebody else's and goes. */
	bool adopt;
};

/* Keep the policies of the server in the file from now on. */
int xf_journal_open(const struct xf_journal_config *cfg, uint64_t now_ns, struct xf_journal **out);

/* Write what was announced: before anybody is told that it is in force. NULL is allowed. */
void xf_journal_flush(struct xf_journal *journal);

/*
 * The same, and bring the file up to date where a message alone did not: after an expiry, after a
 * write that failed, when it has grown far beyond what it must hold. After each request and each
 * expiry.
 */
void xf_journal_settle(struct xf_journal *journal);

/* Stop keeping; the file stays. NULL is allowed. */
void xf_journal_close(struct xf_journal *journal);

/* The protection was released: nothing is to come back. */
void xf_journal_forget(struct xf_journal *journal);

/* Policies that came back, and messages of the file that did not fit (counted, left out). */
struct xf_journal_stats {
	unsigned restored;
	unsigned refused;
};
void xf_journal_get_stats(const struct xf_journal *journal, struct xf_journal_stats *out);

#endif
