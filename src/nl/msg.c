/*
 * Building a message. The buffer holds the largest one there is (XF_NL_MSG_MAX), so that nothing
 * here can fail; the keys that pass through it are wiped by xf_nl_reply() and xf_nl_multicast()'s
 * callers with xf_wipe().
 */
#include <assert.h>

#include "nl/internal.h"

void *xf_nl_msg_init(struct xf_nl_msg *msg, uint16_t type, const struct xf_nl_origin *to,
		     size_t len)
{
	void *header;

	msg->nlh = mnl_nlmsg_put_header(msg->buf);
	msg->nlh->nlmsg_type = type;
	msg->nlh->nlmsg_pid = to->portid;
	msg->nlh->nlmsg_seq = to->seq;
	header = mnl_nlmsg_put_extra_header(msg->nlh, len);
	return memset(header, 0, NLMSG_ALIGN(len));
}

void *xf_nl_msg_reserve(struct xf_nl_msg *msg, uint16_t type, size_t len)
{
	struct nlattr *attr = mnl_nlmsg_get_payload_tail(msg->nlh);

	assert(msg->nlh->nlmsg_len + sizeof(struct nlattr) + NLMSG_ALIGN(len) <= sizeof(msg->buf));
	attr->nla_type = type;
	attr->nla_len = (uint16_t)(sizeof(struct nlattr) + len);
	msg->nlh->nlmsg_len += (uint32_t)(sizeof(struct nlattr) + NLMSG_ALIGN(len));
	return memset(mnl_attr_get_payload(attr), 0, NLMSG_ALIGN(len));
}

void xf_nl_msg_put(struct xf_nl_msg *msg, uint16_t type, const void *data, size_t len)
{
	memcpy(xf_nl_msg_reserve(msg, type, len), data, len);
}

void xf_nl_msg_put_u32(struct xf_nl_msg *msg, uint16_t type, uint32_t value)
{
	xf_nl_msg_put(msg, type, &value, sizeof(value));
}

void xf_nl_msg_put_u8(struct xf_nl_msg *msg, uint16_t type, uint8_t value)
{
	xf_nl_msg_put(msg, type, &value, sizeof(value));
}

void xf_nl_msg_put_mark(struct xf_nl_msg *msg, const struct xf_mark *mark)
{
	struct xfrm_mark wire = { mark->v, mark->m };

	if (mark->v | mark->m)
		xf_nl_msg_put(msg, XFRMA_MARK, &wire, sizeof(wire));
}

void xf_nl_msg_put_if_id(struct xf_nl_msg *msg, uint32_t if_id)
{
	if (if_id)
		xf_nl_msg_put_u32(msg, XFRMA_IF_ID, if_id);
}

void xf_nl_reply(struct xf_nl_request *req, struct xf_nl_msg *msg)
{
	xf_nl_send(req->client, msg->buf, msg->nlh->nlmsg_len);
	xf_wipe(msg->buf, sizeof(msg->buf));
}
