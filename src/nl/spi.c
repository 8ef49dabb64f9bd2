/*
 * ALLOCSPI: a larval SA with an SPI of our choice, for an IKE daemon to fill in by UPDSA.
 */
#include "nl/sa.h"
#include "nl/wire.h"

/* Of the whole xfrm_usersa_info only these fields say what the larval SA is. */
static int parse_spi(struct xf_nl_request *req, const struct xfrm_userspi_info *info,
		     struct xf_sa_config *cfg)
{
	memset(cfg, 0, sizeof(*cfg));
	cfg->terms.pcpu = xf_nl_u32(req, XF_XFRMA_SA_PCPU, UINT32_MAX);
	if (req->attrs[XF_XFRMA_SA_PCPU] && cfg->terms.pcpu >= req->server->cpus)
		return xf_nl_fail(req, -EINVAL, "pCPU number too big");
	if (!xf_nl_family_valid(info->info.family))
		return xf_nl_fail(req, -EINVAL, "Invalid address family");
	cfg->id.family = info->info.family;
	cfg->id.proto = info->info.id.proto;
	xf_nl_load_addr(&cfg->id.daddr, &info->info.id.daddr, info->info.family);
	xf_nl_load_addr(&cfg->saddr, &info->info.saddr, info->info.family);
	cfg->mode = info->info.mode;
	cfg->reqid = info->info.reqid;
	cfg->seq = info->info.seq;
	cfg->terms.mark = xf_nl_mark(req);
	cfg->if_id = xf_nl_u32(req, XFRMA_IF_ID, 0);
	cfg->dir = xf_nl_u8(req, XF_XFRMA_SA_DIR, XF_SA_DIR_ANY);
	return 0;
}

int xf_nl_alloc_spi(struct xf_nl_request *req)
{
	struct xf_nl_origin to = { req->client->portid, req->nlh->nlmsg_seq };
	struct xfrm_userspi_info info;
	struct xf_sa_config cfg;
	struct xf_spi_request spi;
	const char *why = NULL;
	struct xf_nl_msg msg;
	struct xf_sa *sa;
	int err;

	xf_nl_header(req, &info);
	err = parse_spi(req, &info, &cfg);
	if (err)
		return err;
	spi = (struct xf_spi_request){ &cfg, info.min, info.max, req->now_ns };
	err = xf_sad_alloc_spi(req->server->cfg.sad, &spi, &sa, &why);
	if (err)
		return why ? xf_nl_fail(req, err, why) : err;
	xf_nl_fill_sa(sa,
		      xf_nl_msg_init(&msg, XFRM_MSG_NEWSA, &to, sizeof(struct xfrm_usersa_info)));
	xf_nl_put_sa(&msg, sa);
	xf_nl_reply(req, &msg);
	return 0;
}
