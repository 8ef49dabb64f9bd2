/*
 * sad.h - Security Association Database: find the SA for a packet.
 *
 * One writer, many readers. The writer is the control thread; readers sit between
 * xf_read_begin() and xf_read_end() (xf/rcu.h), never block, and keep an SA no longer than that
 * unless they take a reference. The writer's calls may wait for a grace period and free what was
 * taken out before: never call them inside a read section.
 *
 * SPIs are host order. Functions return 0 or -errno; a sentence for the user, where the kernel has
 * one, goes to *@why (NULL is allowed) and is a constant.
 */
#ifndef XF_SAD_H
#define XF_SAD_H

#include <xf/sa.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A policy's template: the SA that it wants (RFC 4301 s4.4.1.2; struct xfrm_user_tmpl). */
struct xf_tmpl {
	struct xf_sa_id id; /* family is that of the tunnel's addresses */
	union xf_addr saddr;
	uint32_t reqid;
	uint8_t mode;
	uint8_t share;
	bool optional;
	uint32_t aalgos, ealgos, calgos;
};

/* Told by the control thread's functions and by lifetimes; runs in the thread that found it. */
enum xf_sa_event {
	XF_SA_EVENT_SOFT_EXPIRE,
	XF_SA_EVENT_HARD_EXPIRE, /* the SA is out of the table already */
	XF_SA_EVENT_LARVAL_EXPIRE, /* a larval SA ran out of time, likewise */
};
struct xf_sad_config {
	uint32_t max_sas; /* 0 = no limit but memory */
	uint64_t seed[2]; /* of the hash functions: random */
	uint32_t larval_lifetime_s; /* the kernel's xfrm_acq_expires: 30; 0 = for ever */
	uint32_t (*larval_lifetime)(void *arg); /* the same, asked for each larval SA; NULL: none */
	int64_t real_offset_ns; /* wall clock minus engine's clock */
	uint32_t replay_slack; /* of the windows (xf/replay.h); 0 where one worker uses the SAs */
	/* One worker alone uses the SAs, and needs no locked instructions. Counters that the
	 * control thread sets while it counts may then keep its value. False is always right. */
	bool one_worker;
	void (*random)(void *arg, void *buf, size_t len); /* control thread: SPIs, IV seeds */
	void *arg;
};

struct xf_sad *xf_sad_new(const struct xf_sad_config *cfg);

/* Without readers, and after every reference to an SA of it was put. */
void xf_sad_free(struct xf_sad *sad);

/*
 * The wall clock was stepped and is ahead by @real_offset_ns from @now_ns on. What has happened
 * keeps its time, and lifetimes go on.
 */
void xf_sad_step_clock(struct xf_sad *sad, uint64_t now_ns, int64_t real_offset_ns);

/*
 * Insert @sa, as NEWSA does; the table takes the caller's reference, on an error it does not.
 *   -EINVAL  it was made for another SAD
 *   -EEXIST  the same (daddr, SPI, proto, family, mark) is present, larval ones included
 *   -ENOSPC  the table holds its maximum
 */
int xf_sad_add(struct xf_sad *sad, struct xf_sa *sa, const char **why);

/*
 * UPDSA: a larval SA is replaced wholly by @sa (the table takes the reference); a valid one gets
 * @sa's encapsulation, care-of address, lifetimes, output mark, if_id as the kernel's
 * xfrm_state_update() does, and @sa is put. On success *@now is the SA in the table, borrowed; on
 * an error @sa is still the caller's.
 *   -ESRCH   there is none, or one of another direction
 *   -EINVAL  it is not valid any more, or has no (or another) encapsulation, or @sa was made for
 *            another SAD
 */
int xf_sad_update(struct xf_sad *sad, struct xf_sa *sa, struct xf_sa **now);

/* Take @sa out (DELSA); the table's reference is put. -ESRCH: not in there. */
int xf_sad_del(struct xf_sad *sad, struct xf_sa *sa);

/*
 * Take out all SAs of @proto; 0 = all, 255 = AH, ESP and IPComp, as the kernel's
 * xfrm_id_proto_match(). Returns how many.
 */
unsigned xf_sad_flush(struct xf_sad *sad, uint8_t proto);

/*
 * ALLOCSPI: find the larval SA that req->cfg (proto, addresses, mode, reqid, if_id, mark, seq,
 * pcpu, dir) describes or make one, and give it an SPI from [@min, @max], unpredictable within it.
 * *@out is borrowed. Kernel errors and sentences:
 *   -ENOENT  no SPI in the range is free (the larval SA stays, as in the kernel)
 *   -EINVAL  a protocol or a range the kernel refuses    -ENOSPC  full    -ENOMEM
 */
struct xf_spi_request {
	const struct xf_sa_config *cfg;
	uint32_t min;
	uint32_t max;
	uint64_t now_ns;
};
int xf_sad_alloc_spi(struct xf_sad *sad, const struct xf_spi_request *req, struct xf_sa **out,
		     const char **why);

/* The inbound lookup: exact key, and (@mark & sa.mark.m) == sa.mark.v. NULL: none. */
struct xf_sa *xf_sad_find_in(const struct xf_sad *sad, const struct xf_sa_id *id, uint32_t mark);

/* The same for a batch; @out[i] is NULL where there is none. */
void xf_sad_find_in_batch(const struct xf_sad *sad, const struct xf_sa_id *ids,
			  const uint32_t *marks, unsigned n, struct xf_sa **out);

/* The same, for a caller that uses the SAs at once: they are fetched, too. */
void xf_sad_find_in_to_use(const struct xf_sad *sad, const struct xf_sa_id *ids,
			   const uint32_t *marks, unsigned n, struct xf_sa **out);

/*
 * By addresses and protocol, for protocols without an SPI (xfrm_state_lookup_byaddr()). NULL for
 * those that have one: AH, ESP and IPComp.
 */
struct xf_sa *xf_sad_find_by_addr(const struct xf_sad *sad, const struct xf_sa_id *id,
				  const union xf_addr *saddr, uint32_t mark);

/* What an outbound packet asks for: the arguments of the kernel's xfrm_state_find(). */
struct xf_sad_query {
	const struct xf_tmpl *tmpl;
	const union xf_addr *saddr; /* the tunnel's ends; in transport mode the packet's */
	const union xf_addr *daddr;
	const struct xf_flow *flow; /* of the packet, for the SAs' own selectors */
	uint32_t mark; /* the policy's (v & m), not the packet's */
	uint32_t if_id; /* the policy's */
	/* NULL, or set when the SAs' own selectors had a say, so that another flow of the same
	 * family between the same ends might be given another SA. */
	bool *by_flow;
};

/*
 * The outbound lookup: the best valid SA for @query, by reqid, mode, protocol, SPI, mark, if_id
 * and the SA's own selector; one without soft expiry before one with, then the newest. SAs bound
 * to a CPU (RFC 9611) are passed over: their fallback SA serves all. NULL: none; *@larval (may be
 * NULL) then says whether a larval one is on its way.
 */
struct xf_sa *xf_sad_find_out(const struct xf_sad *sad, const struct xf_sad_query *query,
			      bool *larval);

/*
 * The same for a batch, whose misses overlap. @out[i] is NULL where there is none; @larval (may be
 * NULL) has @n entries too.
 */
void xf_sad_find_out_batch(const struct xf_sad *sad, struct xf_sad_query *const *queries,
			   unsigned n, struct xf_sa **out, bool *larval);

/* The same, for a caller that uses the SAs at once: they are fetched, too. */
void xf_sad_find_out_to_use(const struct xf_sad *sad, struct xf_sad_query *const *queries,
			    unsigned n, struct xf_sa **out);

/*
 * Visit SAs, newest first as the kernel's dump does, starting behind the one that *@cursor stands
 * for (0 = from the start), until @visit returns false. *@cursor then stands for the last one
 * visited, the one that returned false included; it stays valid when that SA goes away. Returns
 * false when all were visited. Control thread.
 */
bool xf_sad_walk(const struct xf_sad *sad, uint64_t *cursor,
		 bool (*visit)(void *arg, struct xf_sa *sa), void *arg);

/* SAs in the table, how often one has left it or was changed (what came is not counted), and the
 * hash size as GETSADINFO shows it. */
struct xf_sad_info {
	uint64_t changes;
	uint32_t count;
	uint32_t buckets;
	uint32_t buckets_max;
};
void xf_sad_get_info(const struct xf_sad *sad, struct xf_sad_info *out);

/*
 * Act on the lifetimes that ran out: soft ones are told once, hard ones take the SA out and are
 * told. Limits of bytes and packets that a worker hit are acted on here too, once it was told.
 * Returns the time of the next deadline, @now_ns when there is more to do at once, UINT64_MAX when
 * there is nothing. Control thread: at that time, after changes of the table, and after events were
 * taken (xf_engine_take_events()). @event may not change the table.
 */
uint64_t xf_sad_expire(struct xf_sad *sad, uint64_t now_ns,
		       void (*event)(void *arg, struct xf_sa *sa, enum xf_sa_event event),
		       void *arg);

/* XF_EVENT_SA came: xf_sad_expire() shall look at SA @id, which may have gone. Control thread. */
void xf_sad_attend(struct xf_sad *sad, uint64_t id);

#ifdef __cplusplus
}
#endif

#endif
