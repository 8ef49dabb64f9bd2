/*
 * NEWPOLICY, UPDPOLICY, GETPOLICY, DELPOLICY and FLUSHPOLICY, and the events about policies.
 */
#include "nl/policy.h"
#include "nl/wire.h"

void xf_nl_fill_policy(const struct xf_policy *policy, struct xfrm_userpolicy_info *info)
{
	const struct xf_policy_config *cfg = xf_policy_cfg(policy);
	struct xf_lifetime_now now;

	xf_policy_lifetime_now(policy, &now);
	xf_nl_store_selector(&info->sel, &cfg->sel);
	xf_nl_store_lifetime(&info->lft, &cfg->life);
	xf_nl_store_lifetime_now(&info->curlft, &now);
	info->priority = cfg->priority;
	info->index = cfg->index;
	info->dir = cfg->dir;
	info->action = cfg->action;
	info->flags = cfg->flags;
	/* The kernel takes a share and forgets it. */
	info->share = XFRM_SHARE_ANY;
}

void xf_nl_put_policy_type(struct xf_nl_msg *msg, uint8_t type)
{
	struct xfrm_userpolicy_type *wire =
		xf_nl_msg_reserve(msg, XFRMA_POLICY_TYPE, sizeof(*wire));

	wire->type = type;
}

void xf_nl_put_policy(struct xf_nl_msg *msg, const struct xf_policy *policy)
{
	const struct xf_policy_config *cfg = xf_policy_cfg(policy);

	if (cfg->ntmpl) {
		struct xfrm_user_tmpl *wire =
			xf_nl_msg_reserve(msg, XFRMA_TMPL, cfg->ntmpl * sizeof(*wire));

		for (unsigned i = 0; i < cfg->ntmpl; i++)
			xf_nl_store_tmpl(&wire[i], &cfg->tmpl[i]);
	}
	xf_nl_put_policy_type(msg, cfg->type);
	xf_nl_msg_put_mark(msg, &cfg->mark);
	xf_nl_msg_put_if_id(msg, cfg->if_id);
}

/* @byid: DELPOLICY named the policy by its index, and so does the event. */
static void begin_delete(struct xf_nl_msg *msg, const struct xf_nl_origin *origin,
			 const struct xf_policy_config *cfg, bool byid)
{
	struct xfrm_userpolicy_id *id =
		xf_nl_msg_init(msg, XFRM_MSG_DELPOLICY, origin, sizeof(*id));

	id->dir = cfg->dir;
	if (byid)
		id->index = cfg->index;
	else
		xf_nl_store_selector(&id->sel, &cfg->sel);
}

static void notify(struct xf_nl_request *req, const struct xf_policy *policy, bool byid)
{
	struct xfrm_userpolicy_info info = { .priority = 0 };
	struct xf_nl_origin origin = xf_nl_origin(req);
	uint16_t event = req->nlh->nlmsg_type;
	struct xf_nl_msg msg;

	xf_nl_fill_policy(policy, &info);
	if (event == XFRM_MSG_DELPOLICY) {
		begin_delete(&msg, &origin, xf_policy_cfg(policy), byid);
		xf_nl_msg_put(&msg, XFRMA_POLICY, &info, sizeof(info));
	} else {
		memcpy(xf_nl_msg_init(&msg, event, &origin, sizeof(info)), &info, sizeof(info));
	}
	xf_nl_put_policy(&msg, policy);
	xf_nl_multicast(req->server, &msg, XFRMNLGRP_POLICY);
}

static size_t attr_bytes(size_t len)
{
	return NLMSG_ALIGN(sizeof(struct nlattr) + len);
}

size_t xf_nl_policy_bytes(const struct xf_policy_config *cfg)
{
	size_t bytes = NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(struct xfrm_userpolicy_info)) +
		       attr_bytes(sizeof(struct xfrm_userpolicy_type));

	if (cfg->ntmpl)
		bytes += attr_bytes(cfg->ntmpl * sizeof(struct xfrm_user_tmpl));
	if (cfg->mark.v | cfg->mark.m)
		bytes += attr_bytes(sizeof(struct xfrm_mark));
	if (cfg->if_id)
		bytes += attr_bytes(sizeof(cfg->if_id));
	return bytes;
}

int xf_nl_reserve_policy(struct xf_nl_request *req, size_t more)
{
	const struct xf_nl_server_config *cfg = &req->server->cfg;

	return cfg->spd_reserve ? cfg->spd_reserve(cfg->arg, more, &req->extack.why) : 0;
}

/*
 * What is refused for another reason anyway keeps its own error: @exclusive and there already.
 */
static int reserve_new(struct xf_nl_request *req, const struct xf_policy_config *cfg,
		       bool exclusive)
{
	const struct xf_policy_id id = { .sel = cfg->sel,
					 .mark = cfg->mark,
					 .if_id = cfg->if_id,
					 .dir = cfg->dir,
					 .type = cfg->type };
	const struct xf_policy *old = xf_spd_find(req->server->cfg.spd, &id);
	size_t now = old ? xf_nl_policy_bytes(xf_policy_cfg(old)) : 0;
	size_t then = xf_nl_policy_bytes(cfg);

	if (old && exclusive)
		return -EEXIST;
	return xf_nl_reserve_policy(req, then > now ? then - now : 0);
}

/* Who hears of a policy may rely on its being in force: see xf_nl_settle(). */
void xf_nl_policy_changed(const struct xf_nl_request *req)
{
	req->server->spd_dirty = true;
}

int xf_nl_new_policy(struct xf_nl_request *req)
{
	bool exclusive = req->nlh->nlmsg_type == XFRM_MSG_NEWPOLICY;
	struct xfrm_userpolicy_info info;
	struct xf_policy_config cfg;
	struct xf_policy *policy;
	int err;

	xf_nl_header(req, &info);
	err = xf_nl_parse_policy(req, &info, &cfg);
	if (!err)
		err = reserve_new(req, &cfg, exclusive);
	if (!err)
		err = xf_spd_insert(req->server->cfg.spd, &cfg, exclusive, req->now_ns, &policy);
	if (err)
		return err;
	xf_nl_policy_changed(req);
	notify(req, policy, false);
	return 0;
}

/* The reference keeps the policy for its event after the table has let go of it. */
static void del_policy(struct xf_nl_request *req, struct xf_policy *policy, bool byid)
{
	xf_policy_get(policy);
	xf_spd_del(req->server->cfg.spd, policy);
	xf_nl_policy_changed(req);
	notify(req, policy, byid);
	xf_policy_put(policy);
}

/* GETPOLICY and DELPOLICY name a policy the same way and differ in what is done with it. */
int xf_nl_get_policy(struct xf_nl_request *req)
{
	struct xf_nl_origin to = { req->client->portid, req->nlh->nlmsg_seq };
	struct xfrm_userpolicy_id id;
	struct xf_nl_policy_name name;
	struct xf_policy *policy;
	struct xf_nl_msg msg;
	int err;

	xf_nl_header(req, &id);
	name = (struct xf_nl_policy_name){ &id.sel, id.index, id.dir };
	err = xf_nl_find_policy(req, &name, &policy);
	if (err)
		return err;
	if (req->nlh->nlmsg_type == XFRM_MSG_DELPOLICY) {
		err = xf_nl_reserve_policy(req, 0);
		if (!err)
			del_policy(req, policy, id.index != 0);
		return err;
	}
	xf_nl_fill_policy(policy, xf_nl_msg_init(&msg, XFRM_MSG_NEWPOLICY, &to,
						 sizeof(struct xfrm_userpolicy_info)));
	xf_nl_put_policy(&msg, policy);
	xf_nl_reply(req, &msg);
	return 0;
}

int xf_nl_flush_policy(struct xf_nl_request *req)
{
	struct xf_nl_origin origin = xf_nl_origin(req);
	struct xf_nl_msg msg;
	uint8_t type;
	int err = xf_nl_parse_policy_type(req, &type);

	if (!err)
		err = xf_nl_reserve_policy(req, 0);
	if (err)
		return err;
	if (!xf_spd_flush(req->server->cfg.spd, type))
		return 0;
	xf_nl_policy_changed(req);
	xf_nl_msg_init(&msg, XFRM_MSG_FLUSHPOLICY, &origin, 0);
	xf_nl_put_policy_type(&msg, type);
	xf_nl_multicast(req->server, &msg, XFRMNLGRP_POLICY);
	return 0;
}
