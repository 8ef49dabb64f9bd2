/*
 * What any module asks of a configuration; sa.c has it made when one is published. What headers and
 * cipher make of it is the transform's to say.
 */
#include "sad/form.h"

static unsigned of_flags(const struct xf_sa_view *cfg)
{
	unsigned what = 0;

	if (cfg->flags & XF_SA_ESN)
		what |= XF_FORM_ESN;
	if (cfg->flags & XF_SA_NOPMTUDISC)
		what |= XF_FORM_NOPMTUDISC;
	if (cfg->flags & XF_SA_ESN || cfg->terms->extra_flags & XF_SA_OSEQ_MAY_WRAP)
		what |= XF_FORM_MAY_WRAP;
	return what;
}

static unsigned of_identity(const struct xf_sa_view *cfg)
{
	unsigned what = 0;

	if (cfg->id.family == XF_AF_INET6)
		what |= XF_FORM_IPV6;
	if (cfg->dir == XF_SA_DIR_IN)
		what |= XF_FORM_ONLY_IN;
	if (cfg->dir == XF_SA_DIR_OUT)
		what |= XF_FORM_ONLY_OUT;
	if (cfg->terms->encap.type)
		what |= XF_FORM_UDP;
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

void xf_form_make(const struct xf_sa_view *cfg, const struct xf_transform *transform,
		  struct xf_sa_form *out)
{
	memset(out, 0, sizeof(*out));
	out->what = (uint16_t)(of_identity(cfg) | of_flags(cfg) | of_terms(cfg->terms));
	if (transform->make_form)
		transform->make_form(cfg, out);
}
