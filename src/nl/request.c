/*
 * From a datagram to handlers, as netlink_rcv_skb() and xfrm_user_rcv_msg() go: message by
 * message; what is no request and what is below XFRM's numbers is acknowledged and no more.
 */
#include "nl/attr.h"

struct handler {
	int (*act)(struct xf_nl_request *req);
	uint16_t header_len;
	bool own_dump; /* GETSA, GETPOLICY: NLM_F_DUMP means something */
	bool spd_attrs;
};

#define HANDLER(fn, type)                                      \
	{                                                      \
		.act = (fn), .header_len = sizeof(struct type) \
	}

static const struct handler handlers[XF_XFRM_MSG_MAX + 1 - XFRM_MSG_BASE] = {
	[XFRM_MSG_NEWSA - XFRM_MSG_BASE] = HANDLER(xf_nl_new_sa, xfrm_usersa_info),
	[XFRM_MSG_DELSA - XFRM_MSG_BASE] = HANDLER(xf_nl_del_sa, xfrm_usersa_id),
	[XFRM_MSG_GETSA -
		XFRM_MSG_BASE] = { xf_nl_get_sa, sizeof(struct xfrm_usersa_id), true, false },
	[XFRM_MSG_NEWPOLICY - XFRM_MSG_BASE] = HANDLER(xf_nl_new_policy, xfrm_userpolicy_info),
	[XFRM_MSG_DELPOLICY - XFRM_MSG_BASE] = HANDLER(xf_nl_get_policy, xfrm_userpolicy_id),
	[XFRM_MSG_GETPOLICY - XFRM_MSG_BASE] = { xf_nl_get_policy,
						 sizeof(struct xfrm_userpolicy_id), true, false },
	[XFRM_MSG_ALLOCSPI - XFRM_MSG_BASE] = HANDLER(xf_nl_alloc_spi, xfrm_userspi_info),
	[XFRM_MSG_ACQUIRE - XFRM_MSG_BASE] = HANDLER(NULL, xfrm_user_acquire),
	[XFRM_MSG_EXPIRE - XFRM_MSG_BASE] = HANDLER(xf_nl_expire_sa, xfrm_user_expire),
	[XFRM_MSG_UPDPOLICY - XFRM_MSG_BASE] = HANDLER(xf_nl_new_policy, xfrm_userpolicy_info),
	[XFRM_MSG_UPDSA - XFRM_MSG_BASE] = HANDLER(xf_nl_new_sa, xfrm_usersa_info),
	[XFRM_MSG_POLEXPIRE - XFRM_MSG_BASE] = HANDLER(xf_nl_expire_policy, xfrm_user_polexpire),
	[XFRM_MSG_FLUSHSA - XFRM_MSG_BASE] = HANDLER(xf_nl_flush_sa, xfrm_usersa_flush),
	[XFRM_MSG_FLUSHPOLICY - XFRM_MSG_BASE] = { xf_nl_flush_policy, 0, false, false },
	[XFRM_MSG_NEWAE - XFRM_MSG_BASE] = HANDLER(xf_nl_new_ae, xfrm_aevent_id),
	[XFRM_MSG_GETAE - XFRM_MSG_BASE] = HANDLER(xf_nl_get_ae, xfrm_aevent_id),
	[XFRM_MSG_REPORT - XFRM_MSG_BASE] = HANDLER(NULL, xfrm_user_report),
	[XFRM_MSG_MIGRATE - XFRM_MSG_BASE] = HANDLER(xf_nl_migrate, xfrm_userpolicy_id),
	[XFRM_MSG_GETSADINFO -
		XFRM_MSG_BASE] = { xf_nl_get_sadinfo, sizeof(uint32_t), false, false },
	[XFRM_MSG_NEWSPDINFO -
		XFRM_MSG_BASE] = { xf_nl_set_spdinfo, sizeof(uint32_t), false, true },
	[XFRM_MSG_GETSPDINFO -
		XFRM_MSG_BASE] = { xf_nl_get_spdinfo, sizeof(uint32_t), false, false },
	[XFRM_MSG_MAPPING - XFRM_MSG_BASE] = HANDLER(NULL, xfrm_user_mapping),
	[XFRM_MSG_SETDEFAULT - XFRM_MSG_BASE] = HANDLER(xf_nl_set_default, xfrm_userpolicy_default),
	[XFRM_MSG_GETDEFAULT - XFRM_MSG_BASE] = HANDLER(xf_nl_get_default, xfrm_userpolicy_default),
};

/* Attributes that mean something for few messages only, and are refused for the others. */
static int reject_unused(struct xf_nl_request *req)
{
	uint16_t type = req->nlh->nlmsg_type;

	if (type == XFRM_MSG_NEWSA || type == XFRM_MSG_UPDSA || type == XFRM_MSG_ALLOCSPI)
		return 0;
	if (req->attrs[XF_XFRMA_SA_DIR])
		return xf_nl_fail(req, -EINVAL, "Invalid attribute SA_DIR");
	if (req->attrs[XF_XFRMA_SA_PCPU] && type != XFRM_MSG_ACQUIRE)
		return xf_nl_fail(req, -EINVAL, "Invalid attribute SA_PCPU");
	return 0;
}

/* GETSA and GETPOLICY alone look at NLM_F_DUMP; a dump reads its attributes itself. */
static int act(struct xf_nl_request *req)
{
	uint16_t type = req->nlh->nlmsg_type;
	const struct handler *handler;
	int err;

	if (type > XF_XFRM_MSG_MAX)
		return -EINVAL;
	handler = &handlers[type - XFRM_MSG_BASE];
	if (handler->own_dump && (req->nlh->nlmsg_flags & NLM_F_DUMP))
		return xf_nl_dump_start(req);
	if (handler->spd_attrs)
		err = xf_nl_parse_spd(req, handler->header_len);
	else
		err = xf_nl_parse(req, handler->header_len);
	if (!err && !handler->spd_attrs)
		err = reject_unused(req);
	if (err)
		return err;
	return handler->act ? handler->act(req) : -EINVAL;
}

static void one_message(struct xf_nl_request *req)
{
	const struct nlmsghdr *nlh = req->nlh;
	int err = 0;

	if ((nlh->nlmsg_flags & NLM_F_REQUEST) && nlh->nlmsg_type >= NLMSG_MIN_TYPE)
		err = act(req);
	/* -EINTR: a dump, which ends with its own NLMSG_DONE. */
	if (err != -EINTR && (err || (nlh->nlmsg_flags & NLM_F_ACK)))
		xf_nl_ack(req, err);
}

/* A length that does not fit ends the datagram: nothing behind it can be trusted. */
void xf_nl_client_request(struct xf_nl_client *client, const void *data, size_t len,
			  uint64_t now_ns)
{
	const char *p = data;

	while (len >= NLMSG_HDRLEN) {
		struct xf_nl_request req = {
			.server = client->server,
			.client = client,
			.nlh = (const struct nlmsghdr *)(const void *)p,
			.now_ns = now_ns,
		};
		size_t step = req.nlh->nlmsg_len;

		if (step < NLMSG_HDRLEN || step > len)
			break;
		one_message(&req);
		step = NLMSG_ALIGN(step);
		step = step < len ? step : len;
		p += step;
		len -= step;
	}
	xf_nl_settle(client->server);
}
