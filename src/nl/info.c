/*
 * GETSADINFO, GETSPDINFO, NEWSPDINFO, GETDEFAULT, SETDEFAULT.
 */
#include "nl/attr.h"

/* An answer that begins with the request's 32 bits of flags. */
static void begin(struct xf_nl_request *req, struct xf_nl_msg *msg, uint16_t type)
{
	struct xf_nl_origin to = { req->client->portid, req->nlh->nlmsg_seq };
	uint32_t flags;

	xf_nl_header(req, &flags);
	memcpy(xf_nl_msg_init(msg, type, &to, sizeof(flags)), &flags, sizeof(flags));
}

int xf_nl_get_sadinfo(struct xf_nl_request *req)
{
	struct xfrmu_sadhinfo hash;
	struct xf_sad_info info;
	struct xf_nl_msg msg;

	xf_sad_get_info(req->server->cfg.sad, &info);
	hash.sadhcnt = info.buckets;
	hash.sadhmcnt = info.buckets_max;
	begin(req, &msg, XFRM_MSG_NEWSADINFO);
	xf_nl_msg_put_u32(&msg, XFRMA_SAD_CNT, info.count);
	xf_nl_msg_put(&msg, XFRMA_SAD_HINFO, &hash, sizeof(hash));
	xf_nl_reply(req, &msg);
	return 0;
}

int xf_nl_get_spdinfo(struct xf_nl_request *req)
{
	struct xf_nl_server *server = req->server;
	struct xfrmu_spdinfo counts;
	struct xfrmu_spdhinfo hash;
	struct xf_spd_info info;
	struct xf_nl_msg msg;

	xf_spd_get_info(server->cfg.spd, &info);
	memset(&counts, 0, sizeof(counts));
	counts.incnt = info.count[XF_DIR_IN];
	counts.outcnt = info.count[XF_DIR_OUT];
	counts.fwdcnt = info.count[XF_DIR_FWD];
	hash.spdhcnt = info.buckets;
	hash.spdhmcnt = info.buckets_max;
	begin(req, &msg, XFRM_MSG_NEWSPDINFO);
	xf_nl_msg_put(&msg, XFRMA_SPD_INFO, &counts, sizeof(counts));
	xf_nl_msg_put(&msg, XFRMA_SPD_HINFO, &hash, sizeof(hash));
	xf_nl_msg_put(&msg, XFRMA_SPD_IPV4_HTHRESH, &server->thresh4, sizeof(server->thresh4));
	xf_nl_msg_put(&msg, XFRMA_SPD_IPV6_HTHRESH, &server->thresh6, sizeof(server->thresh6));
	xf_nl_reply(req, &msg);
	return 0;
}

int xf_nl_set_spdinfo(struct xf_nl_request *req)
{
	struct xfrmu_spdhthresh t4 = req->server->thresh4, t6 = req->server->thresh6;

	xf_nl_get(req, XFRMA_SPD_IPV4_HTHRESH, &t4, sizeof(t4));
	xf_nl_get(req, XFRMA_SPD_IPV6_HTHRESH, &t6, sizeof(t6));
	if (t4.lbits > 32 || t4.rbits > 32)
		return xf_nl_fail(req, -EINVAL, "Invalid hash threshold (must be <= 32 for IPv4)");
	if (t6.lbits > 128 || t6.rbits > 128)
		return xf_nl_fail(req, -EINVAL, "Invalid hash threshold (must be <= 128 for IPv6)");
	req->server->thresh4 = t4;
	req->server->thresh6 = t6;
	return 0;
}

static void fill_default(struct xfrm_userpolicy_default *def)
{
	def->in = def->fwd = def->out = XF_XFRM_USERPOLICY_ACCEPT;
}

int xf_nl_get_default(struct xf_nl_request *req)
{
	struct xf_nl_origin to = { req->client->portid, req->nlh->nlmsg_seq };
	struct xf_nl_msg msg;

	fill_default(xf_nl_msg_init(&msg, XFRM_MSG_GETDEFAULT, &to,
				    sizeof(struct xfrm_userpolicy_default)));
	xf_nl_reply(req, &msg);
	return 0;
}

/*
 * Blocking what no policy matches is not enforced on the packet path, so it is refused rather
 * than promised. Values that are neither block nor accept change nothing, as in the kernel.
 */
int xf_nl_set_default(struct xf_nl_request *req)
{
	struct xf_nl_origin nobody = { 0, 0 };
	struct xfrm_userpolicy_default def;
	struct xf_nl_msg msg;

	xf_nl_header(req, &def);
	if (def.in == XF_XFRM_USERPOLICY_BLOCK || def.fwd == XF_XFRM_USERPOLICY_BLOCK ||
	    def.out == XF_XFRM_USERPOLICY_BLOCK)
		return xf_nl_fail(req, -EOPNOTSUPP, "Default policy block is not supported");
	fill_default(xf_nl_msg_init(&msg, XFRM_MSG_GETDEFAULT, &nobody, sizeof(def)));
	xf_nl_multicast(req->server, &msg, XFRMNLGRP_POLICY);
	return 0;
}
