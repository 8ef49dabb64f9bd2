/*
 * NLMSG_ERROR in its forms (net/netlink/af_netlink.c: netlink_ack()): success and NETLINK_CAP_ACK
 * carry the request's header only, an error all of the request; with NETLINK_EXT_ACK the TLVs of
 * enum nlmsgerr_attrs follow, which a success may have too.
 */
#include <stdlib.h>

#include "nl/attr.h"

int xf_nl_fail(struct xf_nl_request *req, int err, const char *why)
{
	req->extack.why = why;
	return err;
}

static uint8_t *put_tlv(uint8_t *p, uint16_t type, const void *data, size_t len)
{
	struct nlattr attr = { (uint16_t)(sizeof(struct nlattr) + len), type };

	memset(p, 0, sizeof(struct nlattr) + NLMSG_ALIGN(len));
	memcpy(p, &attr, sizeof(attr));
	memcpy(p + sizeof(struct nlattr), data, len);
	return p + sizeof(struct nlattr) + NLMSG_ALIGN(len);
}

/* The rule that was violated, as the kernel describes it (NLMSGERR_ATTR_POLICY). */
static uint8_t *put_policy(uint8_t *p, const struct xf_nl_policy *policy)
{
	uint8_t nest[64], *end = nest;
	uint64_t max = xf_nl_policy_max(policy);
	uint32_t type = policy->type;

	if (type != XF_NL_FLAG) {
		end = put_tlv(end, NL_POLICY_TYPE_ATTR_MIN_VALUE_U, &policy->min, sizeof(max));
		end = put_tlv(end, NL_POLICY_TYPE_ATTR_MAX_VALUE_U, &max, sizeof(max));
	}
	end = put_tlv(end, NL_POLICY_TYPE_ATTR_TYPE, &type, sizeof(type));
	return put_tlv(p, NLMSGERR_ATTR_POLICY | NLA_F_NESTED, nest, (size_t)(end - nest));
}

size_t xf_nl_extack_put(uint8_t *buf, const struct nlmsghdr *nlh, const struct xf_nl_extack *extack,
			int err)
{
	uint8_t *p = buf;

	if (extack->why)
		p = put_tlv(p, NLMSGERR_ATTR_MSG, extack->why, strlen(extack->why) + 1);
	if (err && extack->bad) {
		uint32_t off = (uint32_t)((const char *)extack->bad - (const char *)nlh);

		p = put_tlv(p, NLMSGERR_ATTR_OFFS, &off, sizeof(off));
	}
	if (err && extack->policy)
		p = put_policy(p, extack->policy);
	return (size_t)(p - buf);
}

/* Bytes of the request that go back. */
static size_t echo_len(const struct xf_nl_request *req, int err)
{
	if (err && !req->client->cap_ack)
		return NLMSG_ALIGN(req->nlh->nlmsg_len);
	return NLMSG_HDRLEN;
}

void xf_nl_ack(struct xf_nl_request *req, int err)
{
	size_t echo = echo_len(req, err);
	size_t head = NLMSG_HDRLEN + sizeof(int);
	bool capped = !err || req->client->cap_ack;
	size_t max = head + echo + XF_NL_EXTACK_MAX, len = head + echo;
	uint8_t *buf = calloc(1, max);
	struct nlmsghdr *nlh = (struct nlmsghdr *)(void *)buf;

	if (!buf) {
		req->client->overrun = true;
		return;
	}
	memcpy(buf + NLMSG_HDRLEN, &err, sizeof(err));
	memcpy(buf + head, req->nlh, capped ? NLMSG_HDRLEN : req->nlh->nlmsg_len);
	if (req->client->ext_ack)
		len += xf_nl_extack_put(buf + len, req->nlh, &req->extack, err);
	nlh->nlmsg_type = NLMSG_ERROR;
	nlh->nlmsg_pid = req->client->portid;
	nlh->nlmsg_seq = req->nlh->nlmsg_seq;
	nlh->nlmsg_len = (uint32_t)len;
	nlh->nlmsg_flags =
		(uint16_t)((capped ? NLM_F_CAPPED : 0) | (len > head + echo ? NLM_F_ACK_TLVS : 0));
	xf_nl_send(req->client, buf, len);
	xf_wipe(buf, max);
	free(buf);
}
