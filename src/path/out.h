/*
 * out.h - the way out, in the order in which a batch goes through its files:
 *
 *   out.c         parse, and the policy of each packet
 *   out_policy.c  what the policy says: the bundle of SAs; blocked, or ...
 *   out_clear.c   ... not protected at all
 *   out_fit.c     does it fit? Else cut it, or tell its sender
 *   out_pieces.c  super-packets and what is too long are cut: pieces fill flights of their own
 *   out_flight.c  the rounds of transform and cipher, and out
 *
 * Each hands all packets on at once. A worker's thread, in a read section.
 */
#ifndef XF_PATH_OUT_H
#define XF_PATH_OUT_H

#include "path/worker.h"

/* What to do with a packet before it is encapsulated (struct xf_slot.cut). */
enum xf_out_fit { XF_OUT_FITS, XF_OUT_CUT_OUTER, XF_OUT_CUT_INNER, XF_OUT_REFUSE };

struct xf_out {
	struct xf_worker *worker;
	struct xf_path_result *res;
	uint64_t now_ns;
	struct xf_flight *filling; /* takes what is cut from the packets of a batch */
};

/* Local packets say so themselves where I/O knows; else their source address does. */
static inline bool xf_out_is_local(const struct xf_out *o, const struct xf_slot *s)
{
	const struct xf_env *env = &o->worker->engine->env;

	return s->pkt->local || env->is_local(env->arg, &s->ip.saddr, s->ip.family);
}

/* The bundle of each packet of @f, whose policy is in @policies. Those that nothing protects leave:
 * to be sent on in clear, to be asked about, or dropped. */
void xf_out_apply_policies(struct xf_out *o, struct xf_flight *f,
			   struct xf_policy *const *policies);

/* Nobody wants @s protected: it leaves as it would have left without us. */
void xf_out_send_clear(struct xf_out *o, struct xf_slot *s);

/* The host is to be asked what its NAT does to @s before anybody protects it. */
void xf_out_send_ask(struct xf_out *o, struct xf_slot *s);

/* How each packet of @f fits its bundle; those that do not, and may not be cut, leave. True: some
 * are to be cut before they are encapsulated. */
bool xf_out_check_fit(struct xf_out *o, struct xf_flight *f);

/* The packets of @f, in their order and cut, go on in flights of their own. Consumes @f. */
void xf_out_cut(struct xf_out *o, struct xf_flight *f);

/* What transforms give back goes on as pieces do. */
extern const struct xf_shape_way xf_out_shape_way;

/* Transform, encrypt and send what @f has. Consumes @f. */
void xf_out_go(struct xf_out *o, struct xf_flight *f);

#endif
