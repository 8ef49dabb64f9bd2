/*
 * From a verified NEWSA or UPDSA to a configuration: what xfrm_state_construct() and the init
 * functions of mode and protocol decide.
 */
#include "nl/sa.h"
#include "nl/wire.h"

#define ENCAP_ESPINUDP 2 /* UDP_ENCAP_ESPINUDP of <linux/udp.h> */
#define LEGACY_WINDOW_MAX 32

bool xf_nl_load_replay(const struct xf_nl_request *req, struct xf_sa_replay_state *out)
{
	struct xfrm_replay_state wire;

	if (!xf_nl_get(req, XFRMA_REPLAY_VAL, &wire, sizeof(wire)))
		return false;
	memset(out, 0, sizeof(*out));
	out->seq_out = wire.oseq;
	out->seq_in = wire.seq;
	out->bitmap = wire.bitmap;
	return true;
}

bool xf_nl_load_replay_esn(const struct xf_nl_request *req, struct xf_sa_replay_state *out)
{
	const struct nlattr *attr = req->attrs[XFRMA_REPLAY_ESN_VAL];
	struct xfrm_replay_state_esn wire;
	size_t bytes;

	if (!xf_nl_get(req, XFRMA_REPLAY_ESN_VAL, &wire, sizeof(wire)))
		return false;
	memset(out, 0, sizeof(*out));
	out->seq_out = (uint64_t)wire.oseq_hi << 32 | wire.oseq;
	out->seq_in = (uint64_t)wire.seq_hi << 32 | wire.seq;
	out->nwords = xf_min_u32(wire.bmp_len, XF_ARRAY_SIZE(out->bmp));
	/* The bitmap may be missing: nothing was received yet. */
	bytes = out->nwords * sizeof(out->bmp[0]);
	if (mnl_attr_get_payload_len(attr) >= sizeof(wire) + bytes)
		memcpy(out->bmp, (const char *)mnl_attr_get_payload(attr) + sizeof(wire), bytes);
	return true;
}

bool xf_nl_load_lifetime_now(const struct xf_nl_request *req, struct xf_lifetime_now *out)
{
	struct xfrm_lifetime_cur wire;

	if (!xf_nl_get(req, XFRMA_LTIME_VAL, &wire, sizeof(wire)))
		return false;
	out->bytes = wire.bytes;
	out->packets = wire.packets;
	out->add_s = wire.add_time;
	out->use_s = wire.use_time;
	return true;
}

/* The kernel's copy_from_user_state(): the legacy window has 32 bits, more are cut off. */
static void parse_info(const struct xfrm_usersa_info *info, struct xf_sa_config *cfg)
{
	xf_nl_load_addr(&cfg->id.daddr, &info->id.daddr, info->family);
	xf_nl_load_addr(&cfg->saddr, &info->saddr, info->family);
	cfg->id.spi = xf_get_be32(&info->id.spi);
	cfg->id.family = info->family;
	cfg->id.proto = info->id.proto;
	xf_nl_load_selector(&cfg->terms.sel, &info->sel);
	if (!cfg->terms.sel.family && !(info->flags & XF_SA_AF_UNSPEC))
		cfg->terms.sel.family = info->family;
	xf_nl_load_lifetime(&cfg->terms.life, &info->lft);
	cfg->reqid = info->reqid;
	cfg->seq = info->seq;
	cfg->mode = info->mode;
	cfg->flags = info->flags;
	cfg->terms.replay_window = xf_min_u32(info->replay_window, LEGACY_WINDOW_MAX);
}

static void parse_encap(const struct xf_nl_request *req, struct xf_sa_config *cfg)
{
	struct xfrm_encap_tmpl encap;
	xfrm_address_t coaddr;

	if (xf_nl_get(req, XFRMA_ENCAP, &encap, sizeof(encap))) {
		cfg->terms.encap.type = encap.encap_type;
		cfg->terms.encap.sport = xf_get_be16(&encap.encap_sport);
		cfg->terms.encap.dport = xf_get_be16(&encap.encap_dport);
		xf_nl_load_addr(&cfg->terms.encap.oa, &encap.encap_oa, XF_AF_UNSPEC);
	}
	if (xf_nl_get(req, XFRMA_COADDR, &coaddr, sizeof(coaddr))) {
		xf_nl_load_addr(&cfg->coaddr, &coaddr, XF_AF_UNSPEC);
		cfg->has_coaddr = true;
	}
}

static int parse_attrs(struct xf_nl_request *req, struct xf_sa_config *cfg)
{
	struct xfrm_replay_state_esn esn;

	cfg->terms.extra_flags = xf_nl_u32(req, XFRMA_SA_EXTRA_FLAGS, 0);
	cfg->terms.tfc_pad = xf_nl_u32(req, XFRMA_TFCPAD, 0);
	cfg->terms.mark = xf_nl_mark(req);
	if (req->attrs[XFRMA_SET_MARK]) {
		cfg->terms.set_mark.v = xf_nl_u32(req, XFRMA_SET_MARK, 0);
		cfg->terms.set_mark.m = xf_nl_u32(req, XFRMA_SET_MARK_MASK, UINT32_MAX);
	}
	cfg->if_id = xf_nl_u32(req, XFRMA_IF_ID, 0);
	cfg->dir = xf_nl_u8(req, XF_XFRMA_SA_DIR, XF_SA_DIR_ANY);
	if (xf_nl_get(req, XFRMA_REPLAY_ESN_VAL, &esn, sizeof(esn))) {
		cfg->terms.replay_esn_attr = true;
		cfg->terms.replay_window = esn.replay_window;
	}
	cfg->terms.pcpu = xf_nl_u32(req, XF_XFRMA_SA_PCPU, UINT32_MAX);
	if (req->attrs[XF_XFRMA_SA_PCPU] && cfg->terms.pcpu >= req->server->cpus)
		return xf_nl_fail(req, -ERANGE, "pCPU number too big");
	return 0;
}

/* Modes are modules in the kernel; this is one without BEET and IP-TFS. */
static bool mode_exists(uint8_t mode, uint16_t family)
{
	switch (mode) {
	case XF_MODE_TRANSPORT:
	case XF_MODE_TUNNEL:
		return true;
	case XF_MODE_ROUTEOPTIMIZATION:
		return family == XF_AF_INET6;
	default:
		return false;
	}
}

/* The part of __xfrm_init_state() before the protocol: inner mode, then type. */
static int check_mode(struct xf_nl_request *req, const struct xf_sa_config *cfg)
{
	uint16_t inner = cfg->terms.sel.family ? cfg->terms.sel.family : cfg->id.family;

	if (!mode_exists(cfg->mode, inner))
		return xf_nl_fail(req, -EPROTONOSUPPORT, "Requested mode not found");
	if (cfg->mode != XF_MODE_TUNNEL && inner != cfg->id.family)
		return xf_nl_fail(req, -EPROTONOSUPPORT,
				  "Only tunnel modes can accommodate a change of family");
	if (cfg->id.proto != XF_IPPROTO_ESP)
		return xf_nl_fail(req, -EPROTONOSUPPORT, "Requested type not found");
	return 0;
}

/* What needs a timer towards the peer or the IKE daemon, which is not there. */
static int check_nat_timers(struct xf_nl_request *req, const struct xf_sa_config *cfg)
{
	if (xf_nl_u32(req, XF_XFRMA_NAT_KEEPALIVE_INTERVAL, 0)) {
		if (cfg->dir != XF_SA_DIR_OUT)
			return xf_nl_fail(req, -EINVAL,
					  "NAT keepalive is only supported for outbound SAs");
		if (!cfg->terms.encap.type)
			return xf_nl_fail(req, -EINVAL,
					  "NAT keepalive is only supported for UDP encapsulation");
		return xf_nl_fail(req, -EOPNOTSUPP, "NAT keepalives are not supported");
	}
	if (xf_nl_u32(req, XF_XFRMA_MTIMER_THRESH, 0))
		return xf_nl_fail(req, -EOPNOTSUPP, "MTIMER_THRESH is not supported");
	return 0;
}

/* The kernel's xfrm_init_replay(). */
static int check_replay(struct xf_nl_request *req, const struct xf_sa_config *cfg)
{
	struct xfrm_replay_state_esn esn;

	if (!xf_nl_get(req, XFRMA_REPLAY_ESN_VAL, &esn, sizeof(esn)))
		return 0;
	if (esn.replay_window > esn.bmp_len * sizeof(uint32_t) * 8)
		return xf_nl_fail(req, -EINVAL,
				  "ESN replay window is too large for the chosen bitmap size");
	if ((cfg->flags & XF_SA_ESN) && !esn.replay_window && cfg->dir != XF_SA_DIR_OUT)
		return xf_nl_fail(req, -EINVAL, "ESN replay window must be > 0");
	return 0;
}

/*
 * No device here offloads. The kernel does crypto offload in software then, and refuses packet
 * offload without a sentence.
 */
static int check_offload(struct xf_nl_request *req, const struct xf_sa_config *cfg)
{
	const uint8_t known = XFRM_OFFLOAD_IPV6 | XFRM_OFFLOAD_INBOUND | XF_XFRM_OFFLOAD_PACKET;
	struct xfrm_user_offload offload;
	bool inbound;

	if (!xf_nl_get(req, XFRMA_OFFLOAD_DEV, &offload, sizeof(offload)))
		return 0;
	inbound = offload.flags & XFRM_OFFLOAD_INBOUND;
	if (offload.flags & ~known)
		return xf_nl_fail(req, -EINVAL, "Unrecognized flags in offload request");
	if (cfg->dir && inbound != (cfg->dir == XF_SA_DIR_IN))
		return xf_nl_fail(req, -EINVAL, "Mismatched SA and offload direction");
	if (cfg->terms.tfc_pad)
		return xf_nl_fail(req, -EINVAL, "TFC padding can't be offloaded");
	return offload.flags & XF_XFRM_OFFLOAD_PACKET ? -EINVAL : 0;
}

/* The protocol's own init, which is ESP's: esp_init_state(). */
static int init_esp(struct xf_nl_request *req, struct xf_nl_sa *sa)
{
	int err = xf_nl_build_suite(req, sa);

	if (err)
		return err;
	if (sa->cfg.mode == XF_MODE_ROUTEOPTIMIZATION)
		return -EINVAL;
	if (req->attrs[XFRMA_ENCAP] && sa->cfg.terms.encap.type != ENCAP_ESPINUDP)
		return xf_nl_fail(req, -EINVAL, "Unsupported encapsulation type for ESP");
	return 0;
}

static int init_state(struct xf_nl_request *req, struct xf_nl_sa *sa)
{
	int err = check_mode(req, &sa->cfg);

	if (!err)
		err = init_esp(req, sa);
	if (!err)
		err = check_nat_timers(req, &sa->cfg);
	if (!err)
		err = check_replay(req, &sa->cfg);
	return err ? err : check_offload(req, &sa->cfg);
}

int xf_nl_parse_sa(struct xf_nl_request *req, const struct xfrm_usersa_info *info,
		   struct xf_nl_sa *sa)
{
	int err;

	memset(sa, 0, sizeof(*sa));
	parse_info(info, &sa->cfg);
	parse_encap(req, &sa->cfg);
	err = xf_nl_parse_algs(req, sa);
	if (!err)
		err = parse_attrs(req, &sa->cfg);
	if (!err)
		err = init_state(req, sa);
	if (err)
		return err;
	if (sa->cfg.terms.replay_esn_attr)
		sa->has_replay = xf_nl_load_replay_esn(req, &sa->replay);
	else
		sa->has_replay = xf_nl_load_replay(req, &sa->replay);
	sa->has_lifetime = xf_nl_load_lifetime_now(req, &sa->lifetime);
	return 0;
}
