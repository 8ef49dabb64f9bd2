/*
 * GETAE and NEWAE: replay state and lifetime of an SA, for hot stand-by and MOBIKE.
 *
 * The kernel also sends NEWAE on its own, paced by XFRMA_REPLAY_THRESH and XFRMA_ETIMER_THRESH.
 * We send none, so the thresholds have no effect; GETAE shows the kernel's defaults.
 */
#include "nl/sa.h"
#include "nl/wire.h"

#define REPLAY_THRESH 2 /* packets: XFRM_AE_SEQT_SIZE */
#define ETIMER_THRESH 10 /* 100 ms: XFRM_AE_ETIME */

static void build(struct xf_nl_msg *msg, struct xf_sa *sa, const struct xf_nl_origin *origin,
		  uint32_t flags)
{
	const struct xf_sa_view *cfg = xf_sa_cfg(sa);
	bool larval = xf_sa_get_state(sa) == XF_SA_ACQ;
	struct xf_lifetime_now now;
	struct xfrm_lifetime_cur life;
	struct xfrm_aevent_id *id = xf_nl_msg_init(msg, XFRM_MSG_NEWAE, origin, sizeof(*id));

	xf_nl_fill_sa_id(sa, &id->sa_id);
	memcpy(&id->saddr, &cfg->saddr, sizeof(id->saddr));
	id->reqid = cfg->reqid;
	id->flags = flags;
	xf_nl_put_replay(msg, sa);
	xf_sa_lifetime_now(sa, &now);
	xf_nl_store_lifetime_now(&life, &now);
	xf_nl_msg_put(msg, XFRMA_LTIME_VAL, &life, sizeof(life));
	if (flags & XFRM_AE_RTHR)
		xf_nl_msg_put_u32(msg, XFRMA_REPLAY_THRESH, larval ? 0 : REPLAY_THRESH);
	if (flags & XFRM_AE_ETHR)
		xf_nl_msg_put_u32(msg, XFRMA_ETIMER_THRESH, larval ? 0 : ETIMER_THRESH);
	xf_nl_msg_put_mark(msg, &cfg->terms->mark);
	xf_nl_msg_put_if_id(msg, cfg->if_id);
	if (cfg->terms->pcpu != UINT32_MAX)
		xf_nl_msg_put_u32(msg, XF_XFRMA_SA_PCPU, cfg->terms->pcpu);
	if (cfg->dir)
		xf_nl_msg_put_u8(msg, XF_XFRMA_SA_DIR, cfg->dir);
}

int xf_nl_get_ae(struct xf_nl_request *req)
{
	/* Unlike other answers this one carries the request's own port number. */
	struct xf_nl_origin origin = xf_nl_origin(req);
	struct xfrm_aevent_id id;
	struct xf_nl_msg msg;
	struct xf_sa *sa;

	xf_nl_header(req, &id);
	sa = xf_nl_find_sa_by_spi(req, &id.sa_id);
	if (!sa)
		return -ESRCH;
	build(&msg, sa, &origin, id.flags);
	xf_nl_reply(req, &msg);
	return 0;
}

void xf_nl_notify_ae(struct xf_nl_server *server, struct xf_sa *sa,
		     const struct xf_nl_origin *origin)
{
	struct xf_nl_msg msg;

	if (!xf_nl_has_listeners(server, XFRMNLGRP_AEVENTS))
		return;
	build(&msg, sa, origin, XFRM_AE_CU);
	xf_nl_multicast(server, &msg, XFRMNLGRP_AEVENTS);
}

/* The size of an SA's bitmap cannot change. */
static int verify_replay_esn(struct xf_nl_request *req, struct xf_sa *sa)
{
	const struct nlattr *attr = req->attrs[XFRMA_REPLAY_ESN_VAL];
	struct xfrm_replay_state_esn esn;
	struct xf_sa_replay_state state;

	if (!xf_sa_cfg(sa)->terms->replay_esn_attr ||
	    !xf_nl_get(req, XFRMA_REPLAY_ESN_VAL, &esn, sizeof(esn)))
		return 0;
	if (mnl_attr_get_payload_len(attr) < sizeof(esn) + (uint64_t)esn.bmp_len * 4)
		return xf_nl_fail(req, -EINVAL, "ESN attribute is too short");
	xf_sa_get_replay_state(sa, &state);
	if (esn.bmp_len != state.nwords)
		return xf_nl_fail(req, -EINVAL,
				  "New ESN size doesn't match the existing SA's ESN size");
	if (esn.replay_window > esn.bmp_len * sizeof(uint32_t) * 8)
		return xf_nl_fail(req, -EINVAL, "ESN replay window is longer than the bitmap");
	return 0;
}

static int verify_new_ae(struct xf_nl_request *req, const struct xfrm_aevent_id *id,
			 struct xf_sa **out)
{
	if (!req->attrs[XFRMA_LTIME_VAL] && !req->attrs[XFRMA_REPLAY_VAL] &&
	    !req->attrs[XFRMA_REPLAY_ESN_VAL] && !req->attrs[XFRMA_ETIMER_THRESH] &&
	    !req->attrs[XFRMA_REPLAY_THRESH])
		return xf_nl_fail(req, -EINVAL, "Missing required attribute for AE");
	if (!(req->nlh->nlmsg_flags & NLM_F_REPLACE))
		return xf_nl_fail(req, -EINVAL, "NLM_F_REPLACE flag is required");
	*out = xf_nl_find_sa_by_spi(req, &id->sa_id);
	if (!*out)
		return -ESRCH;
	if (xf_sa_get_state(*out) != XF_SA_VALID)
		return xf_nl_fail(req, -EINVAL, "SA must be in VALID state");
	return verify_replay_esn(req, *out);
}

int xf_nl_new_ae(struct xf_nl_request *req)
{
	struct xf_nl_origin origin = xf_nl_origin(req);
	struct xf_sa_replay_state replay;
	struct xf_lifetime_now now;
	struct xfrm_aevent_id id;
	struct xf_sa *sa = NULL;
	bool has_replay;
	int err;

	xf_nl_header(req, &id);
	err = verify_new_ae(req, &id, &sa);
	if (err)
		return err;
	if (xf_sa_cfg(sa)->terms->replay_esn_attr)
		has_replay = xf_nl_load_replay_esn(req, &replay);
	else
		has_replay = xf_nl_load_replay(req, &replay);
	if (has_replay)
		xf_sa_set_replay_state(sa, &replay);
	if (xf_nl_load_lifetime_now(req, &now))
		xf_sa_set_lifetime_now(sa, &now);
	xf_nl_notify_ae(req->server, sa, &origin);
	return 0;
}
