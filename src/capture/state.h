/*
 * state.h - struct xf_capture, for the files that keep it: capture.c (what the SPD asks for) and
 * reconcile.c (what others do).
 */
#ifndef XF_CAPTURE_STATE_H
#define XF_CAPTURE_STATE_H

#include <stdatomic.h>

#include "capture/capture.h"
#include "capture/nat/conntrack.h"
#include "capture/exempt_set.h"
#include "capture/nat/nat.h"
#include "capture/ops.h"
#include "capture/nft/sieve.h"

struct xf_capture {
	/* Constant after xf_capture_new(). */
	struct xf_capture_config cfg;
	const struct xf_capture_ops *ops;
	void *arg; /* theirs */
	struct xf_kernel *kernel; /* the same, or NULL: the caller's */
	bool nft; /* else mode tc */
	bool backstop;
	bool started;
	int fd; /* -1: what others do is not followed */

	/* What the SPD asks for, and what of it stands in the kernel. */
	struct xf_cover cover; /* of those policies out that want something */
	struct xf_sieve sieve[XF_DIR_MAX];
	uint32_t out; /* policies out, all that count */
	uint32_t icmp; /* of these, with flag icmp */
	bool icmp_ruled; /* the rules in force capture ICMP errors */
	bool changed[XF_DIR_MAX]; /* policies that the rules do not follow yet */
	bool without_sets; /* for this once, no set is filled before the rules */
	bool calm; /* exact rules out may be made now, however long that takes */
	bool coarse; /* destinations alone are to decide what is captured ... */
	bool coarse_ruled; /* ... and do, by the rules in force ... */
	uint64_t coarse_ns; /* ... since then, or since it was tried in vain to do better */
	bool too_many; /* rules that would be exact */
	uint64_t changed_ns; /* last change out */
	const char *shared; /* why others may change the table; NULL: they may not */
	bool nat; /* somebody else translates addresses here */
	enum xf_nat_chains nat_chains; /* then: what the table has, or is to have, of nat.h */
	bool nat_taken; /* the kernel has taken all of them before */
	unsigned nat_failures; /* it did not take more than these; that is tried again ... */
	uint64_t nat_due_ns; /* ... then */
	bool bridged; /* there is, or was, a table of family bridge */
	unsigned bridge_failures; /* until there is one, which is tried ... */
	uint64_t bridge_due_ns; /* ... then */
	struct xf_conntrack_changes changes; /* with nat: that entries do not follow yet */

	struct xf_exempt exempt;
	_Atomic(struct xf_exempt_set *) exempt_set; /* of these; published by RCU */
	bool exempt_changed; /* the rules do not follow yet */

	/* What stands, and what does not. */
	struct xf_heal heal;
	uint64_t now_ns; /* of this call */
	uint64_t check_ns; /* look by yourself then */
	uint32_t taker; /* the rule of others that was told of last; UINT32_MAX: none */
	bool look; /* TUN, rule or route may be others now */
	bool look_at_table; /* likewise */
	bool look_at_exempt; /* their sysctls, likewise */
	struct xf_nft_seen snapshot; /* as we left the table; not there: not taken yet ... */
	uint64_t snapshot_ns; /* ... but then, if nothing changes until then */
	struct xf_capture_counts count; /* our own, and of tables that are gone */
	uint64_t attach_ns; /* the backstop is to be put onto more devices then */
	char bare[XF_HEAL_TEXT]; /* devices that have no room for the backstop, as was said last */
};

/* Do what the SPD asks for, or everything, when the table is lost. */
int xf_capture_sync_now(struct xf_capture *capture, struct xf_io_error *error);

/* The table has changed by our own doing: what it is like is to be seen anew. */
void xf_capture_expect_change(struct xf_capture *capture);

/* nat_follow.c */
/* NAT can be asked for sources where a program tells what becomes of it (nat.h). */
bool xf_capture_can_ask(const struct xf_capture *capture);
/* What the table is to have of nat.h. */
enum xf_nat_chains xf_capture_nat_chains(const struct xf_capture *capture);
/* A table with these was not taken: is it to be tried with fewer? Then that is so from now on. */
bool xf_capture_give_way(struct xf_capture *capture);
/* The table stands, with these. */
void xf_capture_nat_stands(struct xf_capture *capture);
/* Flows that began while not all chains were there may have got another source. */
void xf_capture_doubt_conntrack(struct xf_capture *capture);
/* At the start: the NAT of others decides what the table is to be. */
void xf_capture_begin_nat(struct xf_capture *capture);
/* The programs that NAT is asked with were refused their place. */
int xf_capture_ask_no_more(struct xf_capture *capture, struct xf_io_error *error);
/* When more chains are to be tried, and that; UINT64_MAX: all are there. */
uint64_t xf_capture_nat_due(const struct xf_capture *capture);
void xf_capture_try_all_nat(struct xf_capture *capture);
int xf_capture_sync_backstop(struct xf_capture *capture, struct xf_io_error *error);

/* nft_follow.c */
bool xf_capture_is_lost(const struct xf_capture *capture); /* the table, or its elements */
/* Something out has changed: is it time for exact rules? */
void xf_capture_time_exact(struct xf_capture *capture);
/* When rules that go by destinations alone are to become exact. */
uint64_t xf_capture_exact_due(const struct xf_capture *capture);
int xf_capture_nft_sync(struct xf_capture *capture, struct xf_io_error *error);
/* All that was to be done is. */
void xf_capture_nft_settled(struct xf_capture *capture);

/* reconcile.c */
#define XF_CAPTURE_SNAPSHOT_NS XF_NSEC_PER_SEC
void xf_capture_watch(struct xf_capture *capture);
void xf_capture_read_events(struct xf_capture *capture);
void xf_capture_reconcile(struct xf_capture *capture);
void xf_capture_read_exempt(struct xf_capture *capture);
/* The backstop is put where it is not yet, and who has no room for it is said, once. */
int xf_capture_attach_backstop(struct xf_capture *capture, struct xf_io_error *error);
/* The rules follow. */
void xf_capture_say_exempt(struct xf_capture *capture);

#endif
