/*
 * Attributes are checked one after the other, in the order in which they came; the last one of a
 * type wins, unknown ones are passed over. Bytes left over at the end are no error, but the
 * kernel mentions them in the acknowledgement, also of success.
 */
#include "nl/attr.h"

/* From this attribute on the kernel is strict. */
#define STRICT_FROM XF_XFRMA_SA_DIR

#define BYTES(size)                                \
	{                                          \
		.type = XF_NL_BYTES, .len = (size) \
	}
#define INTEGER(bits)                 \
	{                             \
		.type = XF_NL_U##bits \
	}

static const struct xf_nl_policy xfrm_policy[XF_XFRMA_MAX + 1] = {
	[XFRMA_SA] = BYTES(sizeof(struct xfrm_usersa_info)),
	[XFRMA_POLICY] = BYTES(sizeof(struct xfrm_userpolicy_info)),
	[XFRMA_LASTUSED] = INTEGER(64),
	[XFRMA_ALG_AUTH_TRUNC] = BYTES(sizeof(struct xfrm_algo_auth)),
	[XFRMA_ALG_AEAD] = BYTES(sizeof(struct xfrm_algo_aead)),
	[XFRMA_ALG_AUTH] = BYTES(sizeof(struct xfrm_algo)),
	[XFRMA_ALG_CRYPT] = BYTES(sizeof(struct xfrm_algo)),
	[XFRMA_ALG_COMP] = BYTES(sizeof(struct xfrm_algo)),
	[XFRMA_ENCAP] = BYTES(sizeof(struct xfrm_encap_tmpl)),
	[XFRMA_TMPL] = BYTES(sizeof(struct xfrm_user_tmpl)),
	[XFRMA_SEC_CTX] = BYTES(sizeof(struct xfrm_user_sec_ctx)),
	[XFRMA_LTIME_VAL] = BYTES(sizeof(struct xfrm_lifetime_cur)),
	[XFRMA_REPLAY_VAL] = BYTES(sizeof(struct xfrm_replay_state)),
	[XFRMA_REPLAY_THRESH] = INTEGER(32),
	[XFRMA_ETIMER_THRESH] = INTEGER(32),
	[XFRMA_SRCADDR] = BYTES(sizeof(xfrm_address_t)),
	[XFRMA_COADDR] = BYTES(sizeof(xfrm_address_t)),
	[XFRMA_POLICY_TYPE] = BYTES(sizeof(struct xfrm_userpolicy_type)),
	[XFRMA_MIGRATE] = BYTES(sizeof(struct xfrm_user_migrate)),
	[XFRMA_KMADDRESS] = BYTES(sizeof(struct xfrm_user_kmaddress)),
	[XFRMA_MARK] = BYTES(sizeof(struct xfrm_mark)),
	[XFRMA_TFCPAD] = INTEGER(32),
	[XFRMA_REPLAY_ESN_VAL] = BYTES(sizeof(struct xfrm_replay_state_esn)),
	[XFRMA_SA_EXTRA_FLAGS] = INTEGER(32),
	[XFRMA_PROTO] = INTEGER(8),
	[XFRMA_ADDRESS_FILTER] = BYTES(sizeof(struct xfrm_address_filter)),
	[XFRMA_OFFLOAD_DEV] = BYTES(sizeof(struct xfrm_user_offload)),
	[XFRMA_SET_MARK] = INTEGER(32),
	[XFRMA_SET_MARK_MASK] = INTEGER(32),
	[XFRMA_IF_ID] = INTEGER(32),
	[XF_XFRMA_MTIMER_THRESH] = INTEGER(32),
	[XF_XFRMA_SA_DIR] = { .type = XF_NL_U8, .min = XF_SA_DIR_IN, .max = XF_SA_DIR_OUT },
	[XF_XFRMA_NAT_KEEPALIVE_INTERVAL] = INTEGER(32),
	[XF_XFRMA_SA_PCPU] = INTEGER(32),
	[XF_XFRMA_IPTFS_DROP_TIME] = INTEGER(32),
	[XF_XFRMA_IPTFS_REORDER_WINDOW] = INTEGER(16),
	[XF_XFRMA_IPTFS_DONT_FRAG] = { .type = XF_NL_FLAG },
	[XF_XFRMA_IPTFS_INIT_DELAY] = INTEGER(32),
	[XF_XFRMA_IPTFS_MAX_QSIZE] = INTEGER(32),
	[XF_XFRMA_IPTFS_PKT_SIZE] = INTEGER(32),
};

static const struct xf_nl_policy spd_policy[XFRMA_SPD_MAX + 1] = {
	[XFRMA_SPD_IPV4_HTHRESH] = BYTES(sizeof(struct xfrmu_spdhthresh)),
	[XFRMA_SPD_IPV6_HTHRESH] = BYTES(sizeof(struct xfrmu_spdhthresh)),
};

/* One of the two attribute sets. */
struct attr_set {
	const struct xf_nl_policy *policy;
	int max;
	int strict_from;
};

static const struct attr_set xfrm_set = { xfrm_policy, XF_XFRMA_MAX, STRICT_FROM };
static const struct attr_set spd_set = { spd_policy, XFRMA_SPD_MAX, XFRMA_SPD_MAX + 1 };

/* The length that an integer has, 0 for what is none. */
static size_t integer_len(const struct xf_nl_policy *policy)
{
	switch (policy->type) {
	case XF_NL_U8:
		return 1;
	case XF_NL_U16:
		return 2;
	case XF_NL_U32:
		return 4;
	case XF_NL_U64:
		return 8;
	default:
		return 0;
	}
}

uint64_t xf_nl_policy_max(const struct xf_nl_policy *policy)
{
	size_t len = integer_len(policy);

	if (policy->max || !len)
		return policy->max;
	return UINT64_MAX >> (64 - 8 * len);
}

/* The violated rule is shown for integers and flags only, as in the kernel. */
static int reject(struct xf_nl_request *req, const struct nlattr *attr,
		  const struct xf_nl_policy *policy, int err, const char *why)
{
	req->extack.bad = attr;
	req->extack.policy = policy->type == XF_NL_BYTES ? NULL : policy;
	return xf_nl_fail(req, err, why);
}

/*
 * What validate_nla() adds under NL_VALIDATE_STRICT: integers have just their size, and only a
 * nested attribute may say that it is one.
 */
static int check_strict(struct xf_nl_request *req, const struct nlattr *attr,
			const struct xf_nl_policy *policy)
{
	size_t len = integer_len(policy);

	if (len && mnl_attr_get_payload_len(attr) != len)
		return reject(req, attr, policy, -EINVAL, "invalid attribute length");
	if (policy->type != XF_NL_BYTES && (attr->nla_type & NLA_F_NESTED))
		return reject(req, attr, policy, -EINVAL, "NLA_F_NESTED not expected");
	return 0;
}

/* Old programs send integers in longer attributes; the first bytes count. */
static bool length_is_bad(const struct nlattr *attr, const struct xf_nl_policy *policy)
{
	size_t len = mnl_attr_get_payload_len(attr);

	if (policy->type == XF_NL_FLAG)
		return len > 0;
	if (policy->type == XF_NL_BYTES)
		return len < policy->len;
	return len < integer_len(policy);
}

/* In the order of validate_nla(), so that of two faults the same one is told. */
static int check_attr(struct xf_nl_request *req, const struct attr_set *set,
		      const struct nlattr *attr)
{
	int type = mnl_attr_get_type(attr);
	const struct xf_nl_policy *policy = &set->policy[type];
	int err = type >= set->strict_from ? check_strict(req, attr, policy) : 0;

	if (err)
		return err;
	if (length_is_bad(attr, policy))
		return reject(req, attr, policy, -ERANGE, "Attribute failed policy validation");
	/* Only a single byte has a range of its own. */
	if (policy->max) {
		uint8_t value = mnl_attr_get_u8(attr);

		if (value < policy->min || value > policy->max)
			return reject(req, attr, policy, -ERANGE, "integer out of range");
	}
	return 0;
}

static int parse(struct xf_nl_request *req, size_t header_len, const struct attr_set *set)
{
	const struct nlmsghdr *nlh = req->nlh;
	const char *end = (const char *)nlh + nlh->nlmsg_len;
	const struct nlattr *attr;
	int err;

	memset(req->attrs, 0, sizeof(req->attrs));
	if (nlh->nlmsg_len < NLMSG_HDRLEN + header_len)
		return xf_nl_fail(req, -EINVAL, "Invalid header length");
	attr = mnl_nlmsg_get_payload_offset(nlh, header_len);
	while ((const char *)attr < end && mnl_attr_ok(attr, (int)(end - (const char *)attr))) {
		int type = mnl_attr_get_type(attr);

		if (type > 0 && type <= set->max) {
			err = check_attr(req, set, attr);
			if (err)
				return err;
			req->attrs[type] = attr;
		}
		attr = mnl_attr_next(attr);
	}
	if ((const char *)attr < end)
		req->extack.why = "bytes leftover after parsing attributes";
	return 0;
}

int xf_nl_parse(struct xf_nl_request *req, size_t header_len)
{
	return parse(req, header_len, &xfrm_set);
}

int xf_nl_parse_spd(struct xf_nl_request *req, size_t header_len)
{
	return parse(req, header_len, &spd_set);
}

/* The length was checked by xf_nl_parse(); the payload may be unaligned, so it is copied. */
uint32_t xf_nl_u32(const struct xf_nl_request *req, int type, uint32_t missing)
{
	xf_nl_get(req, type, &missing, sizeof(missing));
	return missing;
}

uint8_t xf_nl_u8(const struct xf_nl_request *req, int type, uint8_t missing)
{
	xf_nl_get(req, type, &missing, sizeof(missing));
	return missing;
}

bool xf_nl_get(const struct xf_nl_request *req, int type, void *out, size_t len)
{
	if (!req->attrs[type])
		return false;
	memcpy(out, mnl_attr_get_payload(req->attrs[type]), len);
	return true;
}

/* A value outside of its mask could never match: Linux 6.18 cuts it off. */
struct xf_mark xf_nl_mark(const struct xf_nl_request *req)
{
	struct xf_mark mark = { 0, 0 };
	struct xfrm_mark wire;

	if (xf_nl_get(req, XFRMA_MARK, &wire, sizeof(wire))) {
		mark.v = wire.v & wire.m;
		mark.m = wire.m;
	}
	return mark;
}

int xf_nl_verify_sec_ctx(struct xf_nl_request *req)
{
	struct xfrm_user_sec_ctx ctx;

	if (!xf_nl_get(req, XFRMA_SEC_CTX, &ctx, sizeof(ctx)))
		return 0;
	if (ctx.len > mnl_attr_get_payload_len(req->attrs[XFRMA_SEC_CTX]) ||
	    ctx.len != sizeof(ctx) + ctx.ctx_len)
		return xf_nl_fail(req, -EINVAL, "Invalid security context length");
	return 0;
}
