/*
 * wire.h - the kernel's structs to ours and back: addresses, selectors, lifetimes, templates.
 *
 * Pure functions. What is read is in host order and normalised: of an IPv4 address the last
 * twelve bytes are zero.
 */
#ifndef XF_NL_WIRE_H
#define XF_NL_WIRE_H

#include <xf/spd.h>

#include "nl/uapi.h"

void xf_nl_load_addr(union xf_addr *out, const xfrm_address_t *wire, uint16_t family);
void xf_nl_load_selector(struct xf_selector *out, const struct xfrm_selector *wire);
void xf_nl_store_selector(struct xfrm_selector *out, const struct xf_selector *sel);
void xf_nl_load_lifetime(struct xf_lifetime *out, const struct xfrm_lifetime_cfg *wire);
void xf_nl_store_lifetime(struct xfrm_lifetime_cfg *out, const struct xf_lifetime *life);
void xf_nl_store_lifetime_now(struct xfrm_lifetime_cur *out, const struct xf_lifetime_now *now);
void xf_nl_load_tmpl(struct xf_tmpl *out, const struct xfrm_user_tmpl *wire);
void xf_nl_store_tmpl(struct xfrm_user_tmpl *out, const struct xf_tmpl *tmpl);

static inline bool xf_nl_family_valid(uint16_t family)
{
	return family == XF_AF_INET || family == XF_AF_INET6;
}

#endif
