/*
 * changes.h - what follows from a change of SAs and policies: the journal, the kernel's rules,
 * ports and path MTUs, and what listeners are told.
 *
 * Control thread. Functions that take an @arg are called with a struct xf_changes, by the netlink
 * server, the SPD, and those who ask these for what has expired; they return 0 or -errno, with a
 * sentence in *@why.
 */
#ifndef XF_DAEMON_CHANGES_H
#define XF_DAEMON_CHANGES_H

#include "capture/capture.h"
#include "daemon/journal/journal.h"
#include "nl/nl.h"

#include "follow.h"

struct xf_changes {
	struct xf_nl_server *server; /* tells listeners */
	struct xf_journal *journal; /* NULL: policies come back, and are in it already */
	struct xf_capture *capture; /* NULL: there are no rules yet, or no longer */
	struct xf_follow follow;
};

/* One policy came or went. */
void xf_changes_policy(void *arg, const struct xf_policy *policy, bool there);

/* May so many more come? */
int xf_changes_reserve(void *arg, size_t more, const char **why);

/* That is all of them for now: what is told from here on is in force. */
void xf_changes_end(void *arg);

/* May @sa come? It came, or is another now. */
int xf_changes_sa_wanted(void *arg, const struct xf_sa *sa, const char **why);
void xf_changes_sa(void *arg, struct xf_sa *sa);

void xf_changes_sa_expired(void *arg, struct xf_sa *sa, enum xf_sa_event event);
void xf_changes_policy_expired(void *arg, struct xf_policy *policy, bool hard);

#endif
