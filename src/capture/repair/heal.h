/*
 * heal.h - parts of the host's state that capture needs: which of them stand, how often somebody
 * took them away, and when they may be repaired.
 *
 *                  policies change
 *     IN_FORCE ----------------------> CHANGED      the kernel follows older policies
 *        ^  ^ \___________________________|  \
 *        |  |         sync done              | sync failed
 *        |  |                                v
 *        |  |     repaired          +----> LOST     somebody took it away or changed it
 *        |  +-----------------------|-------+|
 *        |                          | due    | cannot be repaired
 *        +---- repaired ---- FAILED +<-------+      tried again, at once and then less often
 *
 * Bounded: a part that others took away more than 5 times in 10 s is repaired once in 10 s from
 * then on (it is held), so that an agent which undoes every repair costs little. What is closed
 * stays closed meanwhile. An operation of ours that fails is nobody's doing and counts for nothing
 * of this: it is tried again at once, then later and later.
 *
 * Pure: no kernel, no clock; one line for each loss with its repair goes to say(). Control thread.
 */
#ifndef XF_CAPTURE_HEAL_H
#define XF_CAPTURE_HEAL_H

#include <xf/base.h>

enum xf_heal_part {
	XF_HEAL_TUN, /* in the order in which they are repaired */
	XF_HEAL_TABLE, /* of nftables: its chains and rules */
	XF_HEAL_ELEMENTS, /* of the table's sets */
	XF_HEAL_BACKSTOP,
	XF_HEAL_ROUTE, /* of the table that leads into the TUN */
	XF_HEAL_RULE, /* the ip rule that leads into that table */
	XF_HEAL_PARTS,
};

enum xf_heal_state { XF_HEAL_IN_FORCE, XF_HEAL_CHANGED, XF_HEAL_LOST, XF_HEAL_FAILED };

#define XF_HEAL_LOSSES 5 /* in ... */
#define XF_HEAL_PERIOD_NS (10 * XF_NSEC_PER_SEC)
#define XF_HEAL_TEXT 200

struct xf_heal_entry {
	enum xf_heal_state state;
	bool held;
	bool ours; /* lost by an operation of ours that has failed: it counts for no limit */
	unsigned failures; /* of this loss; the first was told */
	uint64_t due_ns; /* LOST, FAILED: repair it then */
	uint64_t losses;
	uint64_t repairs;
	uint64_t times_ns[XF_HEAL_LOSSES]; /* of the last repairs, plus 1; 0: none yet */
	unsigned at; /* the oldest of them */
	char what[XF_HEAL_TEXT]; /* "nftables table xfrmd was deleted by nft (pid 7)" */
};

struct xf_heal {
	struct xf_heal_entry part[XF_HEAL_PARTS];
	void (*say)(void *arg, bool bad, const char *line); /* NULL: nobody listens */
	void *arg;
};

/* "table", "rule", … */
const char *xf_heal_name(enum xf_heal_part part);

/* It is not as we left it: a sentence without a full stop says what became of it, and by whom. What
 * is lost already is lost once; the newest sentence counts. */
void xf_heal_lost(struct xf_heal *heal, enum xf_heal_part part, uint64_t now_ns, const char *what);

/* It is not as it should be, because an operation of ours has failed. */
void xf_heal_missed(struct xf_heal *heal, enum xf_heal_part part, uint64_t now_ns,
		    const char *what);

/* Policies have changed, and the kernel follows them again; each for what is not lost. */
void xf_heal_changed(struct xf_heal *heal, enum xf_heal_part part);
void xf_heal_follows(struct xf_heal *heal, enum xf_heal_part part);

/* Is it to be repaired now? Then do so and tell. */
bool xf_heal_is_due(const struct xf_heal *heal, enum xf_heal_part part, uint64_t now_ns);
bool xf_heal_is_lost(const struct xf_heal *heal, enum xf_heal_part part); /* or FAILED */

/* An attempt that succeeded, with what was done ("made anew"), or failed, with the reason. */
void xf_heal_repaired(struct xf_heal *heal, enum xf_heal_part part, uint64_t now_ns,
		      const char *how);
void xf_heal_failed(struct xf_heal *heal, enum xf_heal_part part, uint64_t now_ns, const char *why);

/* How long to wait after so many failures, one behind the other. */
uint64_t xf_heal_wait_ns(unsigned failures);

/* When xf_heal_is_due() comes true next; UINT64_MAX: nothing is lost. */
uint64_t xf_heal_due(const struct xf_heal *heal);

#endif
