/*
 * What ESP makes of a configuration: headers as far as they are the same for all packets, lengths,
 * flags. Called when an SA is made or its configuration replaced, through the table of transforms.
 */
#include "proto/esp.h"

/* The kernel's sysctl defaults ip_default_ttl and hop_limit. */
#define TUNNEL_TTL 64

static void make_lengths(const struct xf_sa_view *cfg, struct xf_sa_form *form)
{
	uint8_t block_len = cfg->terms->suite.block_len;

	if (cfg->mode == XF_MODE_TUNNEL)
		form->outer_len = cfg->id.family == XF_AF_INET ? XF_IPV4_HDR_LEN : XF_IPV6_HDR_LEN;
	form->iv_len = cfg->terms->suite.iv_len;
	form->icv_len = cfg->terms->suite.icv_len;
	form->gap_len = (uint8_t)(form->outer_len + xf_form_udp_len(form->what) + XF_ESP_HDR_LEN +
				  form->iv_len);
	/* RFC 4303 s2.4: the ICV starts at a multiple of 4. */
	form->align_mask = (uint8_t)((block_len > XF_ESP_ALIGN ? block_len : XF_ESP_ALIGN) - 1);
}

static void make_outer(const struct xf_sa_view *cfg, struct xf_sa_form *form)
{
	uint8_t proto = form->what & XF_FORM_UDP ? XF_IPPROTO_UDP : XF_IPPROTO_ESP;
	uint8_t *hdr = form->hdr;

	if (cfg->id.family == XF_AF_INET) {
		hdr[0] = 0x45;
		hdr[8] = TUNNEL_TTL;
		hdr[9] = proto;
		memcpy(hdr + 12, cfg->saddr.bytes, 4);
		memcpy(hdr + 16, cfg->id.daddr.bytes, 4);
		form->hdr_sum = (uint32_t)xf_csum_add(0, hdr, XF_IPV4_HDR_LEN);
	} else {
		hdr[0] = 0x60;
		hdr[6] = proto;
		hdr[7] = TUNNEL_TTL;
		memcpy(hdr + 8, cfg->saddr.bytes, 16);
		memcpy(hdr + 24, cfg->id.daddr.bytes, 16);
	}
}

static void make_hdr(const struct xf_sa_view *cfg, struct xf_sa_form *form)
{
	uint8_t *p = form->hdr + form->outer_len;

	if (form->outer_len)
		make_outer(cfg, form);
	if (form->what & XF_FORM_UDP) {
		xf_put_be16(p, cfg->terms->encap.sport);
		xf_put_be16(p + 2, cfg->terms->encap.dport);
		p += XF_UDP_HDR_LEN;
	}
	xf_put_be32(p, cfg->id.spi);
}

/* GMAC and HMAC cover the IV. */
static bool is_plain(const struct xf_suite *suite)
{
	return xf_suite_is_aead(suite) && suite->cipher != XF_CIPHER_AES_GMAC &&
	       suite->salt_len == 4 && suite->iv_len == 8;
}

static unsigned own_flags(const struct xf_sa_view *cfg)
{
	unsigned own = is_plain(&cfg->terms->suite) ? XF_ESP_PLAIN : 0;

	if (cfg->mode == XF_MODE_TUNNEL)
		own |= XF_ESP_TUNNEL;
	if (cfg->mode == XF_MODE_TRANSPORT)
		own |= XF_ESP_TRANSPORT;
	if (cfg->flags & XF_SA_NOECN)
		own |= XF_ESP_NOECN;
	if (cfg->flags & XF_SA_DECAP_DSCP)
		own |= XF_ESP_DECAP_DSCP;
	if (!(cfg->terms->extra_flags & XF_SA_DONT_ENCAP_DSCP))
		own |= XF_ESP_ENCAP_DSCP;
	return own;
}

void xf_esp_make_form(const struct xf_sa_view *cfg, struct xf_sa_form *form)
{
	make_lengths(cfg, form);
	make_hdr(cfg, form);
	form->own = (uint8_t)own_flags(cfg);
}
