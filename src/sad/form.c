#include <xf/ip.h>

#include "sad/form.h"

/* The kernel's sysctl defaults ip_default_ttl and hop_limit. */
#define TUNNEL_TTL 64
#define ESP_HDR_LEN 8 /* SPI and sequence number (RFC 4303 s2) */

static bool is_tunnel(const struct xf_sa_view *cfg)
{
	return cfg->mode == XF_MODE_TUNNEL;
}

static void make_lengths(const struct xf_sa_view *cfg, struct xf_sa_form *form)
{
	uint8_t block_len = cfg->terms->suite.block_len;

	if (is_tunnel(cfg))
		form->outer_len = cfg->id.family == XF_AF_INET ? XF_IPV4_HDR_LEN : XF_IPV6_HDR_LEN;
	form->udp_len = cfg->terms->encap.type ? XF_UDP_HDR_LEN : 0;
	form->iv_len = cfg->terms->suite.iv_len;
	form->icv_len = cfg->terms->suite.icv_len;
	form->gap_len =
		(uint8_t)(form->outer_len + form->udp_len + ESP_HDR_LEN + cfg->terms->suite.iv_len);
	/* RFC 4303 s2.4: the ICV starts at a multiple of 4. */
	form->align_mask = (uint8_t)((block_len > 4 ? block_len : 4) - 1);
}

static void make_outer(const struct xf_sa_view *cfg, struct xf_sa_form *form)
{
	uint8_t proto = cfg->terms->encap.type ? XF_IPPROTO_UDP : XF_IPPROTO_ESP;
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

	if (is_tunnel(cfg))
		make_outer(cfg, form);
	if (form->udp_len) {
		xf_put_be16(p, cfg->terms->encap.sport);
		xf_put_be16(p + 2, cfg->terms->encap.dport);
		p += XF_UDP_HDR_LEN;
	}
	xf_put_be32(p, cfg->id.spi);
}

static unsigned of_suite(const struct xf_suite *suite)
{
	unsigned what = suite->block_len > 1 ? XF_FORM_BLOCKS : 0;

	/* GMAC and HMAC cover the IV. */
	if (xf_suite_is_aead(suite) && suite->cipher != XF_CIPHER_AES_GMAC &&
	    suite->salt_len == 4 && suite->iv_len == 8)
		what |= XF_FORM_PLAIN;
	return what;
}

static unsigned of_flags(const struct xf_sa_view *cfg)
{
	unsigned what = 0;

	if (cfg->flags & XF_SA_ESN)
		what |= XF_FORM_ESN;
	if (cfg->flags & XF_SA_NOECN)
		what |= XF_FORM_NOECN;
	if (cfg->flags & XF_SA_NOPMTUDISC)
		what |= XF_FORM_NOPMTUDISC;
	if (cfg->flags & XF_SA_DECAP_DSCP)
		what |= XF_FORM_DECAP_DSCP;
	if (!(cfg->terms->extra_flags & XF_SA_DONT_ENCAP_DSCP))
		what |= XF_FORM_ENCAP_DSCP;
	if (cfg->flags & XF_SA_ESN || cfg->terms->extra_flags & XF_SA_OSEQ_MAY_WRAP)
		what |= XF_FORM_MAY_WRAP;
	return what;
}

static unsigned of_identity(const struct xf_sa_view *cfg)
{
	unsigned what = 0;

	if (is_tunnel(cfg))
		what |= XF_FORM_TUNNEL;
	if (cfg->mode == XF_MODE_TRANSPORT)
		what |= XF_FORM_TRANSPORT;
	if (cfg->id.family == XF_AF_INET6)
		what |= XF_FORM_IPV6;
	if (cfg->dir == XF_SA_DIR_IN)
		what |= XF_FORM_ONLY_IN;
	if (cfg->dir == XF_SA_DIR_OUT)
		what |= XF_FORM_ONLY_OUT;
	if (cfg->terms->sel.family)
		what |= XF_FORM_SELECTS;
	return what;
}

static unsigned of_terms(const struct xf_sa_terms *terms)
{
	const struct xf_lifetime *life = &terms->life;
	bool limited = life->soft_bytes != XF_INF || life->hard_bytes != XF_INF ||
		       life->soft_packets != XF_INF || life->hard_packets != XF_INF;

	return limited || terms->set_mark.m || terms->tfc_pad ? XF_FORM_MORE : 0;
}

void xf_form_make(const struct xf_sa_view *cfg, struct xf_sa_form *out)
{
	memset(out, 0, sizeof(*out));
	make_lengths(cfg, out);
	make_hdr(cfg, out);
	out->what = (uint16_t)(of_identity(cfg) | of_flags(cfg) | of_suite(&cfg->terms->suite) |
			       of_terms(cfg->terms));
}
