/*
 * form.h - what each packet asks of an SA's configuration, worked out once, when it is published.
 *
 * A form stands in front of the configuration that it was made from: one pointer names both, and
 * they are replaced together. Constant from then on. Lengths are bytes. One cache line is all that
 * most packets need.
 */
#ifndef XF_SAD_FORM_H
#define XF_SAD_FORM_H

#include <xf/ip.h>
#include <xf/rcu.h>
#include <xf/transform.h>

/* The longest outer IP header, UDP header, SPI. */
#define XF_FORM_HDR_MAX (40 + 8 + 4)

/*
 * What any module may ask. What the SA's transform alone asks stands in xf_sa_form.own.
 * Free: 6 bits, for what the path must know of an SA before its transform is called: that a device
 * has its cipher (offload), that its packets come out of a link or belong to one (interfaces).
 */
enum xf_form_what {
	XF_FORM_IPV6 = 1 << 0, /* the outer addresses */
	XF_FORM_ONLY_IN = 1 << 1,
	XF_FORM_ONLY_OUT = 1 << 2,
	XF_FORM_UDP = 1 << 3, /* encapsulated: as a number, the length of a UDP header */
	XF_FORM_ESN = 1 << 4,
	XF_FORM_NOPMTUDISC = 1 << 5,
	XF_FORM_MAY_WRAP = 1 << 6, /* the sequence number counts in 64 bits */
	XF_FORM_SELECTS = 1 << 7, /* the SA has a selector of its own */
	XF_FORM_MORE = 1 << 8, /* the terms say something: limits, mark, TFC padding */
	XF_FORM_ALONE = 1 << 9, /* one worker alone uses the SAs of this SAD */
};
_Static_assert(XF_FORM_UDP == XF_UDP_HDR_LEN, "a flag that is a length");

struct xf_sa_form {
	/* The transform's: what stands in front of the sequence number, zero where packets differ:
	 * the outer IP header of a tunnel, the UDP header, the SPI. */
	uint8_t hdr[XF_FORM_HDR_MAX];
	uint16_t what; /* enum xf_form_what */
	/* The transform's own. */
	uint8_t own; /* flags; of ESP: enum xf_esp_own */
	uint8_t outer_len; /* of that IP header; 0 in transport mode */
	uint8_t iv_len;
	uint8_t icv_len;
	uint8_t gap_len; /* from the first byte that is added to the first that is encrypted */
	uint8_t align_mask; /* payload, padding and trailer together: a power of two, less one */
	uint32_t hdr_sum; /* of the words of the outer IPv4 header, as hdr has them */
};

/* What of it most inbound packets ask. */
struct xf_sa_brief {
	uint16_t what;
	uint8_t own;
	uint8_t icv_len;
};

/* No byte is free; bits are, in what and in own. What few SAs have is in their side (side.h). */
_Static_assert(sizeof(struct xf_sa_form) == XF_CACHE_LINE, "a form is a cache line");

/* A published configuration, with its form: an SA's first one, which stands in it, ... */
struct xf_sa_own_config {
	struct xf_sa_form form;
	struct xf_sa_view cfg;
};

/* ... and one that took its place. */
struct xf_sa_config_box {
	struct xf_sa_own_config own;
	struct xf_rcu_head rcu; /* until its readers have left it */
};

/* Two bytes are free, one in the id and one behind dir, for what policies ask of few. */
_Static_assert(sizeof(struct xf_sa_own_config) == 2 * XF_CACHE_LINE,
	       "what policies ask of an SA is one cache line");

static inline const struct xf_sa_form *xf_form_of(const struct xf_sa_view *cfg)
{
	return &XF_CONTAINER_OF(cfg, struct xf_sa_own_config, cfg)->form;
}

static inline const struct xf_sa_terms *xf_form_terms(const struct xf_sa_form *form)
{
	return XF_CONTAINER_OF(form, struct xf_sa_own_config, form)->cfg.terms;
}

static inline struct xf_sa_brief xf_form_brief(const struct xf_sa_form *form)
{
	return (struct xf_sa_brief){ form->what, form->own, form->icv_len };
}

/* Bytes of the UDP header, of which @what tells: 0 without one. */
static inline uint32_t xf_form_udp_len(unsigned what)
{
	return what & XF_FORM_UDP;
}

static inline uint16_t xf_form_family(const struct xf_sa_form *form)
{
	return form->what & XF_FORM_IPV6 ? XF_AF_INET6 : XF_AF_INET;
}

/* The kernel's xfrm_smark_get(): the mark after an SA that sets it. */
static inline uint32_t xf_form_mark(const struct xf_sa_form *form, uint32_t mark)
{
	const struct xf_mark *set;

	if (XF_LIKELY(!(form->what & XF_FORM_MORE)))
		return mark;
	set = &xf_form_terms(form)->set_mark;
	return (set->v & set->m) | (mark & ~set->m);
}

/* The form of @cfg, which @transform has its part in. */
void xf_form_make(const struct xf_sa_view *cfg, const struct xf_transform *transform,
		  struct xf_sa_form *out);

#endif
