/*
 * Lengths: how much an SA adds to a packet, and how much fits inside. The formulas are the
 * kernel's, so that both ends of a tunnel tell their senders the same MTU.
 */
#include "proto/transform.h"

void xf_esp_layout(const struct xf_sa_config *cfg, struct xf_esp_layout *out)
{
	uint32_t block_len = cfg->suite.block_len;

	out->outer_len = 0;
	if (cfg->mode == XF_MODE_TUNNEL)
		out->outer_len = cfg->id.family == XF_AF_INET ? XF_IPV4_HDR_LEN : XF_IPV6_HDR_LEN;
	out->udp_len = cfg->encap.type ? XF_UDP_HDR_LEN : 0;
	out->iv_len = cfg->suite.iv_len;
	out->icv_len = cfg->suite.icv_len;
	/* RFC 4303 s2.4: the ICV starts at a multiple of 4. */
	out->align = block_len > 4 ? block_len : 4;
}

/* The IP header that stays in front in transport mode, options aside, as the kernel counts it. */
static uint32_t kept_hdr_len(const struct xf_sa_config *cfg)
{
	if (cfg->mode == XF_MODE_TUNNEL)
		return 0;
	return cfg->id.family == XF_AF_INET ? XF_IPV4_HDR_LEN : XF_IPV6_HDR_LEN;
}

/* The kernel's __xfrm_state_mtu(). */
static uint32_t fitting_len(const struct xf_sa_config *cfg, uint32_t outer_mtu)
{
	struct xf_esp_layout lay;
	uint32_t fixed;
	uint32_t kept = kept_hdr_len(cfg);

	xf_esp_layout(cfg, &lay);
	fixed = xf_esp_gap_len(&lay) + lay.icv_len + kept;
	if (outer_mtu < fixed + lay.align)
		return 0;
	return ((outer_mtu - fixed) & ~(lay.align - 1)) + kept - XF_ESP_TRAILER_LEN;
}

static uint32_t inner_mtu(const struct xf_sa_config *cfg, uint32_t outer_mtu, uint16_t inner_family)
{
	uint32_t mtu = fitting_len(cfg, outer_mtu);

	if (cfg->id.family == XF_AF_INET6 || inner_family == XF_AF_INET6)
		return mtu > XF_IPV6_MIN_MTU ? mtu : XF_IPV6_MIN_MTU;
	return mtu;
}

uint32_t xf_esp_inner_mtu(const struct xf_sa *sa, uint32_t outer_mtu, uint16_t inner_family)
{
	return inner_mtu(xf_sa_cfg(sa), outer_mtu, inner_family);
}

uint32_t xf_esp_tfc_len(const struct xf_sa *sa, const struct xf_sa_config *cfg, uint32_t inner_len,
			uint64_t now_ns)
{
	uint32_t mtu;
	uint32_t want;

	if (cfg->tfc_pad == 0 || cfg->mode != XF_MODE_TUNNEL)
		return 0;
	mtu = xf_sa_path_mtu(sa, now_ns);
	want = inner_mtu(cfg, mtu ? mtu : XF_PATH_MTU_DEFAULT, XF_AF_UNSPEC);
	want = xf_min_u32(want, cfg->tfc_pad);
	return want > inner_len ? want - inner_len : 0;
}
