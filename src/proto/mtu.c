/*
 * Lengths: how much an SA adds to a packet, and how much fits inside. The formulas are the
 * kernel's, so that both ends of a tunnel tell their senders the same MTU.
 */
#include "proto/esp.h"
#include "sad/use.h"

/* The IP header that stays in front in transport mode, options aside, as the kernel counts it. */
static uint32_t kept_hdr_len(const struct xf_sa_form *form)
{
	if (form->own & XF_ESP_TUNNEL)
		return 0;
	return form->what & XF_FORM_IPV6 ? XF_IPV6_HDR_LEN : XF_IPV4_HDR_LEN;
}

/* The kernel's __xfrm_state_mtu(). */
static uint32_t fitting_len(const struct xf_sa_form *form, uint32_t outer_mtu)
{
	uint32_t kept = kept_hdr_len(form);
	uint32_t fixed = (uint32_t)form->gap_len + form->icv_len + kept;

	if (outer_mtu < fixed + form->align_mask + 1)
		return 0;
	return ((outer_mtu - fixed) & ~(uint32_t)form->align_mask) + kept - XF_ESP_TRAILER_LEN;
}

static uint32_t inner_mtu(const struct xf_sa_form *form, uint32_t outer_mtu, uint16_t inner_family)
{
	uint32_t mtu = fitting_len(form, outer_mtu);

	if (form->what & XF_FORM_IPV6 || inner_family == XF_AF_INET6)
		return mtu > XF_IPV6_MIN_MTU ? mtu : XF_IPV6_MIN_MTU;
	return mtu;
}

uint32_t xf_esp_inner_mtu(const struct xf_sa *sa, uint32_t outer_mtu, uint16_t inner_family)
{
	return inner_mtu(xf_sa_form(sa), outer_mtu, inner_family);
}

uint32_t xf_esp_tfc_len(const struct xf_sa *sa, uint32_t inner_len, uint64_t now_ns)
{
	const struct xf_sa_form *form = xf_sa_form(sa);
	uint32_t tfc_pad = xf_form_terms(form)->tfc_pad;
	uint32_t want;

	if (tfc_pad == 0 || !(form->own & XF_ESP_TUNNEL))
		return 0;
	want = inner_mtu(form, xf_sa_outer_mtu(sa, now_ns), XF_AF_UNSPEC);
	want = xf_min_u32(want, tfc_pad);
	return want > inner_len ? want - inner_len : 0;
}
