/*
 * Algorithms of an SA: names to descriptions, in the kernel's order (xfrm_state_construct()), and
 * the suite they make.
 */
#include "nl/sa.h"

/* struct xfrm_algo_aead, struct xfrm_algo_auth and struct xfrm_algo in one form. */
struct alg_attr {
	char name[XF_ALG_NAME_LEN];
	uint32_t key_bits;
	uint32_t icv_bits; /* 0 where the attribute has none */
	const uint8_t *key;
};

static bool load_alg(const struct xf_nl_request *req, int type, bool has_icv, struct alg_attr *out)
{
	const struct nlattr *attr = req->attrs[type];
	const uint8_t *p;

	if (!attr)
		return false;
	p = mnl_attr_get_payload(attr);
	memcpy(out->name, p, sizeof(out->name));
	out->name[sizeof(out->name) - 1] = '\0';
	p += sizeof(out->name);
	memcpy(&out->key_bits, p, sizeof(out->key_bits));
	p += sizeof(out->key_bits);
	out->icv_bits = 0;
	if (has_icv) {
		memcpy(&out->icv_bits, p, sizeof(out->icv_bits));
		p += sizeof(out->icv_bits);
	}
	out->key = p;
	return true;
}

/* Dumps show the name that the kernel's list has, not the alias that was given. */
static void store_name(struct xf_alg_name *out, const struct xf_alg_desc *desc,
		       const struct alg_attr *alg)
{
	*out = (struct xf_alg_name){ desc->name, alg->key_bits, alg->icv_bits };
}

static int parse_aead(struct xf_nl_request *req, struct xf_nl_sa *sa)
{
	const struct xf_alg_desc *desc;
	struct alg_attr alg;

	if (!load_alg(req, XFRMA_ALG_AEAD, true, &alg))
		return 0;
	desc = xf_alg_find(XF_ALG_AEAD, alg.name, alg.icv_bits);
	if (!desc)
		return xf_nl_fail(req, -ENOSYS, "Requested AEAD algorithm not found");
	store_name(&sa->cfg.terms.aead, desc, &alg);
	sa->cipher_key = alg.key;
	return 0;
}

static int parse_auth_trunc(struct xf_nl_request *req, struct xf_nl_sa *sa)
{
	const struct xf_alg_desc *desc;
	struct alg_attr alg;

	if (!load_alg(req, XFRMA_ALG_AUTH_TRUNC, true, &alg))
		return 0;
	desc = xf_alg_find(XF_ALG_AUTH, alg.name, 0);
	if (!desc)
		return xf_nl_fail(req, -ENOSYS, "Requested AUTH_TRUNC algorithm not found");
	if (alg.icv_bits > desc->icv_full_bits)
		return xf_nl_fail(req, -EINVAL, "Invalid length requested for truncated ICV");
	if (!alg.icv_bits)
		alg.icv_bits = desc->icv_default_bits;
	store_name(&sa->cfg.terms.auth, desc, &alg);
	sa->auth_key = alg.key;
	return 0;
}

/* XFRMA_ALG_AUTH counts only where there is no XFRMA_ALG_AUTH_TRUNC. */
static int parse_auth(struct xf_nl_request *req, struct xf_nl_sa *sa)
{
	const struct xf_alg_desc *desc;
	struct alg_attr alg;

	if (sa->cfg.terms.auth.name || !load_alg(req, XFRMA_ALG_AUTH, false, &alg))
		return 0;
	desc = xf_alg_find(XF_ALG_AUTH, alg.name, 0);
	if (!desc)
		return xf_nl_fail(req, -ENOSYS, "Requested AUTH algorithm not found");
	alg.icv_bits = desc->icv_default_bits;
	store_name(&sa->cfg.terms.auth, desc, &alg);
	sa->auth_key = alg.key;
	return 0;
}

static int parse_crypt(struct xf_nl_request *req, struct xf_nl_sa *sa)
{
	const struct xf_alg_desc *desc;
	struct alg_attr alg;

	if (!load_alg(req, XFRMA_ALG_CRYPT, false, &alg))
		return 0;
	desc = xf_alg_find(XF_ALG_CRYPT, alg.name, 0);
	if (!desc)
		return xf_nl_fail(req, -ENOSYS, "Requested CRYPT algorithm not found");
	store_name(&sa->cfg.terms.crypt, desc, &alg);
	sa->cipher_key = alg.key;
	return 0;
}

/* IPComp itself is not there; the kernel finds that out only after its algorithm is known. */
static int parse_comp(struct xf_nl_request *req)
{
	struct alg_attr alg;

	if (load_alg(req, XFRMA_ALG_COMP, false, &alg) && strcmp(alg.name, "deflate") != 0)
		return xf_nl_fail(req, -ENOSYS, "Requested COMP algorithm not found");
	return 0;
}

int xf_nl_parse_algs(struct xf_nl_request *req, struct xf_nl_sa *sa)
{
	int err = parse_aead(req, sa);

	if (!err)
		err = parse_auth_trunc(req, sa);
	if (!err)
		err = parse_auth(req, sa);
	if (!err)
		err = parse_crypt(req, sa);
	return err ? err : parse_comp(req);
}

static const struct xf_alg_desc *find(enum xf_alg_kind kind, const struct xf_alg_name *name)
{
	if (!name->name)
		return NULL;
	return xf_alg_find(kind, name->name, kind == XF_ALG_AEAD ? name->icv_bits : 0);
}

int xf_nl_build_suite(struct xf_nl_request *req, struct xf_nl_sa *sa)
{
	const struct xf_sa_config *cfg = &sa->cfg;
	struct xf_suite_request suite = {
		.aead = find(XF_ALG_AEAD, &cfg->terms.aead),
		.crypt = find(XF_ALG_CRYPT, &cfg->terms.crypt),
		.auth = find(XF_ALG_AUTH, &cfg->terms.auth),
		.cipher_key_bits =
			cfg->terms.aead.name ? cfg->terms.aead.key_bits : cfg->terms.crypt.key_bits,
		.auth_key_bits = cfg->terms.auth.key_bits,
		.icv_bits =
			cfg->terms.aead.name ? cfg->terms.aead.icv_bits : cfg->terms.auth.icv_bits,
	};
	int err;

	if (!suite.aead && !suite.crypt)
		return xf_nl_fail(req, -EINVAL, "ESP: AEAD or CRYPT must be provided");
	err = xf_suite_build(&suite, &sa->cfg.terms.suite);
	/* The kernel is silent about the keys of ciphers and hashes that it joins. */
	if (err && (suite.aead || (suite.auth && suite.icv_bits < 8)))
		xf_nl_fail(req, err, "Kernel was unable to initialize cryptographic operations");
	return err;
}
