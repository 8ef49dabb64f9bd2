/*
 * EXPIRE and POLEXPIRE, both ways: lifetimes that ran out, and users who say that they did.
 */
#include "nl/policy.h"
#include "nl/sa.h"

void xf_nl_notify_expire(struct xf_nl_server *server, struct xf_sa *sa, bool hard, uint32_t portid)
{
	const struct xf_sa_view *cfg = xf_sa_cfg(sa);
	struct xf_nl_origin origin = { portid, 0 };
	struct xfrm_user_expire *expire;
	struct xf_nl_msg msg;

	if (!xf_nl_has_listeners(server, XFRMNLGRP_EXPIRE))
		return;
	expire = xf_nl_msg_init(&msg, XFRM_MSG_EXPIRE, &origin, sizeof(*expire));
	xf_nl_fill_sa(sa, &expire->state);
	expire->hard = hard;
	xf_nl_msg_put_mark(&msg, &cfg->terms->mark);
	xf_nl_msg_put_if_id(&msg, cfg->if_id);
	if (cfg->terms->pcpu != UINT32_MAX)
		xf_nl_msg_put_u32(&msg, XF_XFRMA_SA_PCPU, cfg->terms->pcpu);
	if (cfg->dir)
		xf_nl_msg_put_u8(&msg, XF_XFRMA_SA_DIR, cfg->dir);
	xf_nl_multicast(server, &msg, XFRMNLGRP_EXPIRE);
}

/* A larval SA that ran out of time counts as hard: its ACQUIRE was not answered. */
void xf_nl_sa_expired(struct xf_nl_server *server, struct xf_sa *sa, enum xf_sa_event event)
{
	xf_nl_notify_expire(server, sa, event != XF_SA_EVENT_SOFT_EXPIRE, 0);
}

void xf_nl_notify_polexpire(struct xf_nl_server *server, struct xf_policy *policy, bool hard,
			    uint32_t portid)
{
	struct xf_nl_origin origin = { portid, 0 };
	struct xfrm_user_polexpire *expire;
	struct xf_nl_msg msg;

	if (!xf_nl_has_listeners(server, XFRMNLGRP_EXPIRE))
		return;
	expire = xf_nl_msg_init(&msg, XFRM_MSG_POLEXPIRE, &origin, sizeof(*expire));
	xf_nl_fill_policy(policy, &expire->pol);
	expire->hard = hard;
	xf_nl_put_policy(&msg, policy);
	xf_nl_multicast(server, &msg, XFRMNLGRP_EXPIRE);
}

void xf_nl_policy_expired(struct xf_nl_server *server, struct xf_policy *policy, bool hard)
{
	xf_nl_notify_polexpire(server, policy, hard, 0);
}

/* A user says that an SA is due for rekeying (soft) or must go (hard): xfrm_add_sa_expire(). */
int xf_nl_expire_sa(struct xf_nl_request *req)
{
	struct xfrm_user_expire expire;
	struct xfrm_usersa_id id;
	struct xf_sa *sa;
	int err = 0;

	xf_nl_header(req, &expire);
	memset(&id, 0, sizeof(id));
	id.daddr = expire.state.id.daddr;
	id.spi = expire.state.id.spi;
	id.proto = expire.state.id.proto;
	id.family = expire.state.family;
	sa = xf_nl_find_sa_by_spi(req, &id);
	if (!sa)
		return -ENOENT;
	if (xf_sa_get_state(sa) != XF_SA_VALID)
		return xf_nl_fail(req, -EINVAL, "SA must be in VALID state");
	xf_nl_notify_expire(req->server, sa, expire.hard, req->nlh->nlmsg_pid);
	if (expire.hard)
		err = xf_sad_del(req->server->cfg.sad, sa);
	return err;
}

/* The same for a policy: xfrm_add_pol_expire(). */
int xf_nl_expire_policy(struct xf_nl_request *req)
{
	struct xfrm_user_polexpire expire;
	struct xf_nl_policy_name name;
	struct xf_policy *policy;
	int err;

	xf_nl_header(req, &expire);
	name = (struct xf_nl_policy_name){ &expire.pol.sel, expire.pol.index, expire.pol.dir };
	err = xf_nl_find_policy(req, &name, &policy);
	if (!err && expire.hard)
		err = xf_nl_reserve_policy(req, 0);
	if (err)
		return err;
	xf_policy_get(policy);
	if (expire.hard) {
		xf_spd_del(req->server->cfg.spd, policy);
		xf_nl_policy_changed(req);
	}
	xf_nl_notify_polexpire(req->server, policy, expire.hard, req->nlh->nlmsg_pid);
	xf_policy_put(policy);
	return 0;
}
