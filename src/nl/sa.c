/*
 * DELSA, GETSA and FLUSHSA, and the events about SAs.
 */
#include "nl/sa.h"
#include "nl/wire.h"

static bool has_spi(uint8_t proto)
{
	return proto == XF_IPPROTO_ESP || proto == XF_IPPROTO_AH || proto == XF_IPPROTO_COMP;
}

static void load_id(const struct xfrm_usersa_id *wire, struct xf_sa_id *id)
{
	memset(id, 0, sizeof(*id));
	xf_nl_load_addr(&id->daddr, &wire->daddr, wire->family);
	id->spi = xf_get_be32(&wire->spi);
	id->family = wire->family;
	id->proto = wire->proto;
}

struct xf_sa *xf_nl_find_sa_by_spi(const struct xf_nl_request *req, const struct xfrm_usersa_id *id)
{
	struct xf_sa_id key;

	if (!xf_nl_family_valid(id->family))
		return NULL;
	load_id(id, &key);
	return xf_sad_find_in(req->server->cfg.sad, &key, xf_nl_mark(req).v);
}

/*
 * The kernel's xfrm_user_state_lookup(). The mark stands for a packet's: an SA without mark is
 * found with any, one with a mark only when that matches.
 */
struct xf_sa *xf_nl_find_sa(const struct xf_nl_request *req, const struct xfrm_usersa_id *id,
			    int *err)
{
	union xf_addr saddr;
	xfrm_address_t wire;
	struct xf_sa_id key;

	*err = -ESRCH;
	if (has_spi(id->proto))
		return xf_nl_find_sa_by_spi(req, id);
	if (!xf_nl_get(req, XFRMA_SRCADDR, &wire, sizeof(wire))) {
		*err = -EINVAL;
		return NULL;
	}
	if (!xf_nl_family_valid(id->family))
		return NULL;
	load_id(id, &key);
	xf_nl_load_addr(&saddr, &wire, id->family);
	return xf_sad_find_by_addr(req->server->cfg.sad, &key, &saddr, xf_nl_mark(req).v);
}

int xf_nl_get_sa(struct xf_nl_request *req)
{
	struct xf_nl_origin to = { req->client->portid, req->nlh->nlmsg_seq };
	struct xfrm_usersa_id id;
	struct xf_nl_msg msg;
	struct xf_sa *sa;
	int err;

	xf_nl_header(req, &id);
	sa = xf_nl_find_sa(req, &id, &err);
	if (!sa)
		return err;
	xf_nl_fill_sa(sa,
		      xf_nl_msg_init(&msg, XFRM_MSG_NEWSA, &to, sizeof(struct xfrm_usersa_info)));
	xf_nl_put_sa(&msg, sa);
	xf_nl_reply(req, &msg);
	return 0;
}

/* The reference keeps the SA for its event after the table has let go of it. */
int xf_nl_del_sa(struct xf_nl_request *req)
{
	struct xf_nl_origin origin = xf_nl_origin(req);
	struct xfrm_usersa_id id;
	struct xf_sa *sa;
	int err;

	xf_nl_header(req, &id);
	sa = xf_nl_find_sa(req, &id, &err);
	if (!sa)
		return err;
	xf_sa_get(sa);
	err = xf_sad_del(req->server->cfg.sad, sa);
	if (!err)
		xf_nl_notify_sa(req->server, XFRM_MSG_DELSA, sa, &origin);
	xf_sa_put(sa);
	return err;
}

int xf_nl_flush_sa(struct xf_nl_request *req)
{
	struct xf_nl_origin origin = xf_nl_origin(req);
	struct xfrm_usersa_flush flush, *event;
	struct xf_nl_msg msg;

	xf_nl_header(req, &flush);
	/* An empty table is no event. */
	if (!xf_sad_flush(req->server->cfg.sad, flush.proto))
		return 0;
	event = xf_nl_msg_init(&msg, XFRM_MSG_FLUSHSA, &origin, sizeof(*event));
	event->proto = flush.proto;
	xf_nl_multicast(req->server, &msg, XFRMNLGRP_SA);
	return 0;
}

void xf_nl_notify_sa(struct xf_nl_server *server, uint16_t event, struct xf_sa *sa,
		     const struct xf_nl_origin *origin)
{
	struct xfrm_usersa_info info = { .family = XF_AF_UNSPEC };
	struct xf_nl_msg msg;

	if (!xf_nl_has_listeners(server, XFRMNLGRP_SA))
		return;
	xf_nl_fill_sa(sa, &info);
	if (event == XFRM_MSG_DELSA) {
		xf_nl_fill_sa_id(
			sa, xf_nl_msg_init(&msg, event, origin, sizeof(struct xfrm_usersa_id)));
		/* By way of a copy: attributes are aligned to 4 bytes, the struct to 8. */
		xf_nl_msg_put(&msg, XFRMA_SA, &info, sizeof(info));
	} else {
		memcpy(xf_nl_msg_init(&msg, event, origin, sizeof(info)), &info, sizeof(info));
	}
	xf_nl_put_sa(&msg, sa);
	xf_nl_multicast(server, &msg, XFRMNLGRP_SA);
	xf_wipe(msg.buf, sizeof(msg.buf));
}
