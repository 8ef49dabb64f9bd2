/*
 * sa.h - struct xf_sa as the engine's own modules see it (sad, proto, path).
 *
 * Grouped by who writes: see the labels. The data path takes nothing but what stands here and
 * the configuration behind xf_sa_cfg().
 */
#ifndef XF_SAD_SA_H
#define XF_SAD_SA_H

#include <stdatomic.h>

#include <xf/rcu.h>
#include <xf/sad.h>

/* Reasons why the control thread should look at an SA (attention bits). */
enum xf_sa_attention { XF_SA_SOFT_HIT = 1, XF_SA_HARD_HIT = 2 };

struct xf_sa {
	/* Constant after xf_sa_new(). */
	struct xf_key *key;
	struct xf_ivgen ivgen;
	uint64_t add_ns;
	uint64_t real_offset_s;

	/* Published by RCU: written by the control thread only. */
	_Atomic(const struct xf_sa_config *) cfg;

	/* Atomic. */
	_Atomic int state; /* enum xf_sa_state */
	_Atomic uint32_t refs;
	_Atomic uint32_t attention;
	_Alignas(XF_CACHE_LINE) _Atomic uint64_t seq_out; /* last number taken */
	_Atomic uint64_t iv_counter; /* next IV; never set back */
	_Atomic uint64_t bytes;
	_Atomic uint64_t packets;
	_Atomic uint64_t use_ns; /* first use, 0 = none */
	_Atomic uint64_t last_ns;
	_Atomic uint32_t path_mtu; /* 0 = not known */
	_Atomic uint64_t path_mtu_expires_ns;
	_Atomic uint32_t stat_replay_window;
	_Atomic uint32_t stat_replay;
	_Atomic uint32_t stat_integrity;
	_Atomic uint64_t drops[XF_DROP_MAX];

	/* Under replay_lock. */
	_Alignas(XF_CACHE_LINE) atomic_flag replay_lock;
	struct xf_replay *replay;

	/* Control thread: links of the table, timers. */
	struct xf_sa_links *links;
	struct xf_rcu_head rcu;
};

/*
 * Take the next outbound sequence number: XF_PASS and *@seq, or XF_DROP_OUT_STATE_SEQ when the
 * limit is reached (2^32 - 1, or 2^64 - 1 with ESN; OSEQ_MAY_WRAP: none without ESN). A number
 * above the limit is never handed out, however many threads ask.
 */
enum xf_drop xf_sa_take_seq(struct xf_sa *sa, const struct xf_sa_config *cfg, uint64_t *seq);

/* Replay check and commit on 64-bit numbers, with the SA's statistics. */
uint64_t xf_sa_infer_seq(struct xf_sa *sa, uint32_t seq_low);
enum xf_drop xf_sa_replay_check(struct xf_sa *sa, uint64_t seq);
enum xf_drop xf_sa_replay_commit(struct xf_sa *sa, uint64_t seq);

/*
 * Is the SA valid, and are its limits not reached (the kernel's xfrm_state_check_expire())? Sets
 * attention bits where a limit is hit. XF_PASS, or the _INVALID or _EXPIRED reason of the way.
 */
enum xf_drop xf_sa_check(struct xf_sa *sa, const struct xf_sa_config *cfg, bool out,
			 uint64_t now_ns);

/* Count a packet that was protected or accepted. */
void xf_sa_count(struct xf_sa *sa, uint32_t bytes, uint64_t now_ns);

#endif
