/*
 * spd.h - Security Policy Database: what must be protected, what may pass, what is blocked.
 *
 * One writer (the control thread), many readers between xf_read_begin() and xf_read_end(), like
 * the SAD. Lookups, and xf_policy_*(), are for any reader; everything else is the writer's.
 * The order is the kernel's: lower priority number first, of equal ones the older. Functions
 * return 0 or -errno; the kernel has no sentences for these errors.
 */
#ifndef XF_SPD_H
#define XF_SPD_H

#include <xf/sad.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The values are those of <linux/xfrm.h>. */
enum xf_policy_dir { XF_DIR_IN = 0, XF_DIR_OUT = 1, XF_DIR_FWD = 2, XF_DIR_MAX = 3 };
enum xf_policy_type { XF_POLICY_MAIN = 0, XF_POLICY_SUB = 1, XF_POLICY_TYPE_MAX = 2 };
enum xf_policy_action { XF_POLICY_ALLOW = 0, XF_POLICY_BLOCK = 1 };
enum xf_policy_flag { XF_POLICY_LOCALOK = 1, XF_POLICY_ICMP = 2, XF_POLICY_CPU_ACQUIRE = 4 };

/* What packets ask of it comes first: with the first template it is less than two cache lines. */
struct xf_policy_config {
	uint8_t dir;
	uint8_t type;
	uint8_t action;
	uint8_t flags;
	uint8_t share;
	uint8_t ntmpl;
	uint32_t if_id;
	struct xf_mark mark;
	uint32_t priority;
	uint32_t index; /* 0: the SPD chooses; its low three bits are the direction */
	struct xf_tmpl tmpl[XF_MAX_DEPTH];
	struct xf_selector sel;
	struct xf_lifetime life;
};

struct xf_policy; /* reference counted, constant configuration */
struct xf_spd;

struct xf_spd_config {
	uint32_t max_policies; /* 0 = no limit but memory */
	uint64_t seed[2];
	int64_t real_offset_ns; /* wall clock minus engine's clock */
	/* A policy has come (@there) or gone, for what is kept beside the table; an update is a
	 * new one that comes and then the old one that goes. NULL is allowed. */
	void (*watch)(void *arg, const struct xf_policy *policy, bool there);
	void *watch_arg;
};

struct xf_spd *xf_spd_new(const struct xf_spd_config *cfg);

/* Without readers, and after every reference to a policy of it was put. */
void xf_spd_free(struct xf_spd *spd);

/* As xf_sad_step_clock(). */
void xf_spd_step_clock(struct xf_spd *spd, uint64_t now_ns, int64_t real_offset_ns);

const struct xf_policy_config *xf_policy_cfg(const struct xf_policy *policy);

/*
 * What decides between policies of equal type and priority that match the same packet: in a class
 * the lowest rank is its first match, and of the classes' first matches the lowest pos wins. A pos
 * is nobody else's; a rank is the pos, or that of the policy whose place an update took. Of more
 * than two policies this is not an order: a before c by rank, c before b and b before a by pos can
 * be. Control thread.
 */
#define XF_POLICY_CLASSES 5
struct xf_policy_tie {
	uint64_t rank;
	uint64_t pos;
	uint8_t tie_class; /* below XF_POLICY_CLASSES */
};
struct xf_policy_tie xf_policy_order_key(const struct xf_policy *policy);

struct xf_policy *xf_policy_get(struct xf_policy *policy);
void xf_policy_put(struct xf_policy *policy);

/*
 * use_s is the last use, as the kernel has it for policies. Bytes and packets are ours: the kernel
 * counts none, and its dumps say 0.
 */
void xf_policy_lifetime_now(const struct xf_policy *policy, struct xf_lifetime_now *out);

/* Data path: the policy was used for packets of @bytes in all (counters, use lifetimes). @alone: no
 * other worker counts. */
void xf_policy_count(struct xf_policy *policy, bool alone, unsigned packets, uint64_t bytes,
		     uint64_t now_ns);

/*
 * Insert, as NEWPOLICY (@exclusive) or UPDPOLICY does. A policy with the same type, direction,
 * selector, mark and if_id is replaced as the kernel's xfrm_policy_insert() does it: the new one
 * takes the index over, and its place among equals when the priority stays; in the dump it is the
 * youngest. *@out is borrowed.
 *   -EEXIST  @exclusive and there is one    -ENOSPC  full    -ENOMEM
 *   -EINVAL  family, prefix length, direction, type, or an index of another direction
 */
int xf_spd_insert(struct xf_spd *spd, const struct xf_policy_config *cfg, bool exclusive,
		  uint64_t now_ns, struct xf_policy **out);

/*
 * The next policy that is inserted gets this place among equals: one that comes back, of which
 * xf_policy_order_key() told it. Later ones come behind. Policies come back by ascending @pos; a
 * @pos that is not above all others', or a @rank above it, is not taken. Control thread.
 */
void xf_spd_set_next_place(struct xf_spd *spd, uint64_t rank, uint64_t pos);

/* What names a policy in GETPOLICY and DELPOLICY: the index when it is not 0, else the rest. */
struct xf_policy_id {
	struct xf_selector sel;
	struct xf_mark mark;
	uint32_t if_id;
	uint32_t index;
	uint8_t dir;
	uint8_t type;
};

/* Exactly that policy (an index alone is not enough), borrowed, or NULL (-ENOENT). */
struct xf_policy *xf_spd_find(const struct xf_spd *spd, const struct xf_policy_id *id);

/* Take @policy out; the table's reference is put after a grace period. Out already: nothing. */
void xf_spd_del(struct xf_spd *spd, struct xf_policy *policy);

/* Take out all policies of @type, youngest first. Returns how many. */
unsigned xf_spd_flush(struct xf_spd *spd, uint8_t type);

/*
 * The policy that @flow meets in direction @dir (type sub before main, as the kernel), or NULL.
 * The scalar call is the batch of one.
 */
void xf_spd_lookup_batch(const struct xf_spd *spd, enum xf_policy_dir dir,
			 const struct xf_flow *flows, unsigned n, struct xf_policy **out);

/* The same, for a caller that counts and goes by the policies at once: they are fetched, too. */
void xf_spd_lookup_to_use(const struct xf_spd *spd, enum xf_policy_dir dir,
			  const struct xf_flow *flows, unsigned n, struct xf_policy **out);

static inline struct xf_policy *xf_spd_lookup(const struct xf_spd *spd, enum xf_policy_dir dir,
					      const struct xf_flow *flow)
{
	struct xf_policy *policy;

	xf_spd_lookup_batch(spd, dir, flow, 1, &policy);
	return policy;
}

/*
 * Could any policy of @dir with a port, or a transport-mode template, match packets between
 * @flow's addresses and of its protocol? Then fragments are put together before the lookup.
 */
bool xf_spd_wants_whole(const struct xf_spd *spd, enum xf_policy_dir dir,
			const struct xf_flow *flow);

/*
 * Visit policies, youngest first as the kernel's dump does; cursor and result as xf_sad_walk().
 * @visit may take policies out.
 */
bool xf_spd_walk(const struct xf_spd *spd, uint64_t *cursor,
		 bool (*visit)(void *arg, struct xf_policy *policy), void *arg);

/* As GETSPDINFO has them: buckets are those that the kernel would have (its mask, in fact). */
struct xf_spd_info {
	uint32_t count[XF_DIR_MAX];
	uint32_t buckets;
	uint32_t buckets_max;
};
void xf_spd_get_info(const struct xf_spd *spd, struct xf_spd_info *out);

/* Does any policy out ask for a packet's mark? Any thread. */
bool xf_spd_asks_marks(const struct xf_spd *spd);

/*
 * Act on lifetimes that ran out: soft ones are told once, hard ones take the policy out and are
 * told. Returns the next deadline or UINT64_MAX.
 */
uint64_t xf_spd_expire(struct xf_spd *spd, uint64_t now_ns,
		       void (*event)(void *arg, struct xf_policy *policy, bool hard), void *arg);

#ifdef __cplusplus
}
#endif

#endif
