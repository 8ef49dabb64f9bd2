/*
 * What the kernel refuses in NEWSA and UPDSA before it looks at algorithms. The order of the
 * checks is the kernel's: of several faults the user is told the same one.
 */
#include "nl/sa.h"
#include "nl/wire.h"

#define BIT(type) (1ull << (type))
#define ANY_AUTH (BIT(XFRMA_ALG_AUTH) | BIT(XFRMA_ALG_AUTH_TRUNC))
#define IPTFS_IN (BIT(XF_XFRMA_IPTFS_DROP_TIME) | BIT(XF_XFRMA_IPTFS_REORDER_WINDOW))
#define IPTFS_OUT                                                         \
	(BIT(XF_XFRMA_IPTFS_DONT_FRAG) | BIT(XF_XFRMA_IPTFS_INIT_DELAY) | \
	 BIT(XF_XFRMA_IPTFS_MAX_QSIZE) | BIT(XF_XFRMA_IPTFS_PKT_SIZE))
#define ANY_MODE (-1)

struct verify {
	struct xf_nl_request *req;
	const struct xfrm_usersa_info *info;
	uint64_t has; /* bit per attribute type */
	uint8_t dir;
	struct xfrm_replay_state_esn esn; /* without its bitmap */
};

/* Which attributes a protocol needs or does not take. */
struct attr_rule {
	uint8_t proto;
	bool required; /* one of @mask must be there; else: none of it may */
	int mode; /* in which @mask is allowed after all, or ANY_MODE: in none */
	uint64_t with; /* only when one of these is there too; 0 = always */
	uint64_t mask;
	const char *why;
};

static const struct attr_rule attr_rules[] = {
	{ XF_IPPROTO_AH, true, ANY_MODE, 0, ANY_AUTH,
	  "Missing required attribute for AH: AUTH_TRUNC or AUTH" },
	{ XF_IPPROTO_AH, false, ANY_MODE, 0,
	  BIT(XFRMA_ALG_AEAD) | BIT(XFRMA_ALG_CRYPT) | BIT(XFRMA_ALG_COMP) | BIT(XFRMA_TFCPAD),
	  "Invalid attributes for AH: AEAD, CRYPT, COMP, TFCPAD" },
	{ XF_IPPROTO_ESP, false, ANY_MODE, 0, BIT(XFRMA_ALG_COMP),
	  "Invalid attribute for ESP: COMP" },
	{ XF_IPPROTO_ESP, true, ANY_MODE, 0, ANY_AUTH | BIT(XFRMA_ALG_CRYPT) | BIT(XFRMA_ALG_AEAD),
	  "Missing required attribute for ESP: at least one of AUTH, AUTH_TRUNC, CRYPT, AEAD" },
	{ XF_IPPROTO_ESP, false, ANY_MODE, BIT(XFRMA_ALG_AEAD), ANY_AUTH | BIT(XFRMA_ALG_CRYPT),
	  "Invalid attribute combination for ESP: AEAD can't be used with AUTH, AUTH_TRUNC, "
	  "CRYPT" },
	{ XF_IPPROTO_ESP, false, XFRM_MODE_TUNNEL, 0, BIT(XFRMA_TFCPAD),
	  "TFC padding can only be used in tunnel mode" },
	{ XF_IPPROTO_ESP, false, XF_XFRM_MODE_IPTFS, 0, IPTFS_IN | IPTFS_OUT,
	  "IP-TFS options can only be used in IP-TFS mode" },
	{ XF_IPPROTO_COMP, true, ANY_MODE, 0, BIT(XFRMA_ALG_COMP),
	  "Missing required attribute for COMP: COMP" },
	{ XF_IPPROTO_COMP, false, ANY_MODE, 0,
	  BIT(XFRMA_ALG_AEAD) | ANY_AUTH | BIT(XFRMA_ALG_CRYPT) | BIT(XFRMA_TFCPAD),
	  "Invalid attributes for COMP: AEAD, AUTH, AUTH_TRUNC, CRYPT, TFCPAD" },
};

/* The two of Mobile IPv6 have the same rules. */
static const struct attr_rule mip6_rules[] = {
	{ 0, false, ANY_MODE, 0,
	  BIT(XFRMA_ALG_COMP) | ANY_AUTH | BIT(XFRMA_ALG_AEAD) | BIT(XFRMA_ALG_CRYPT) |
		  BIT(XFRMA_ENCAP) | BIT(XFRMA_SEC_CTX) | BIT(XFRMA_TFCPAD),
	  "Invalid attributes for DSTOPTS/ROUTING" },
	{ 0, true, ANY_MODE, 0, BIT(XFRMA_COADDR),
	  "Missing required COADDR attribute for DSTOPTS/ROUTING" },
};

static int fail(const struct verify *v, const char *why)
{
	return xf_nl_fail(v->req, -EINVAL, why);
}

/*
 * The selector's family is the SA's where none is given. A later change of that rule in
 * parse_info() must come here too, or prefixes would be checked against another family.
 */
static int verify_families(const struct verify *v)
{
	const struct xfrm_selector *sel = &v->info->sel;
	uint16_t family = sel->family;

	if (!xf_nl_family_valid(v->info->family))
		return fail(v, "Invalid address family");
	if (!family && !(v->info->flags & XF_SA_AF_UNSPEC))
		family = v->info->family;
	if (family && !xf_nl_family_valid(family))
		return fail(v, "Invalid address family in selector");
	if (family == XF_AF_INET && (sel->prefixlen_d > 32 || sel->prefixlen_s > 32))
		return fail(v, "Invalid prefix length in selector (must be <= 32 for IPv4)");
	if (family == XF_AF_INET6 && (sel->prefixlen_d > 128 || sel->prefixlen_s > 128))
		return fail(v, "Invalid prefix length in selector (must be <= 128 for IPv6)");
	return 0;
}

/* @required: one of the mask is enough. Else @with and @mode narrow when the mask is forbidden. */
static bool rule_broken(const struct verify *v, const struct attr_rule *rule)
{
	if (rule->required)
		return !(v->has & rule->mask);
	if (rule->with && !(v->has & rule->with))
		return false;
	return (v->has & rule->mask) && v->info->mode != rule->mode;
}

static int verify_rules(const struct verify *v, const struct attr_rule *rules, size_t n,
			uint8_t proto)
{
	for (size_t i = 0; i < n; i++) {
		if (rules[i].proto == proto && rule_broken(v, &rules[i]))
			return fail(v, rules[i].why);
	}
	return 0;
}

/* AH and IPComp are checked like ESP, though both are refused later: errno and sentence count. */
static int verify_proto(const struct verify *v)
{
	uint8_t proto = v->info->id.proto;
	int err;

	switch (proto) {
	case XF_IPPROTO_AH:
	case XF_IPPROTO_ESP:
	case XF_IPPROTO_COMP:
		err = verify_rules(v, attr_rules, XF_ARRAY_SIZE(attr_rules), proto);
		if (!err && proto == XF_IPPROTO_COMP && xf_get_be32(&v->info->id.spi) > 0xffff)
			err = fail(v, "SPI is too large for COMP (must be < 0x10000)");
		return err;
	case XF_IPPROTO_DSTOPTS:
	case XF_IPPROTO_ROUTING:
		return verify_rules(v, mip6_rules, XF_ARRAY_SIZE(mip6_rules), 0);
	default:
		return fail(v, "Unsupported protocol");
	}
}

/* Does attribute @type hold its header of @header_len bytes and a key of the length it says? */
static bool key_fits(const struct verify *v, int type, size_t header_len)
{
	const struct nlattr *attr = v->req->attrs[type];
	uint32_t bits;

	if (!attr)
		return true;
	memcpy(&bits, (const char *)mnl_attr_get_payload(attr) + XF_ALG_NAME_LEN, sizeof(bits));
	return mnl_attr_get_payload_len(attr) >= header_len + ((uint64_t)bits + 7) / 8;
}

static int verify_algs(const struct verify *v)
{
	static const int plain[] = { XFRMA_ALG_AUTH, XFRMA_ALG_CRYPT, XFRMA_ALG_COMP };

	if (!key_fits(v, XFRMA_ALG_AEAD, sizeof(struct xfrm_algo_aead)))
		return fail(v, "Invalid AEAD attribute length");
	if (!key_fits(v, XFRMA_ALG_AUTH_TRUNC, sizeof(struct xfrm_algo_auth)))
		return fail(v, "Invalid AUTH_TRUNC attribute length");
	for (size_t i = 0; i < XF_ARRAY_SIZE(plain); i++) {
		if (!key_fits(v, plain[i], sizeof(struct xfrm_algo)))
			return fail(v, "Invalid AUTH/CRYPT/COMP attribute length");
	}
	return 0;
}

/* An output SA counts up and receives nothing (Linux 6.10, XFRMA_SA_DIR). */
static int verify_esn_out(const struct verify *v)
{
	const struct xfrm_replay_state_esn *esn = &v->esn;
	bool is_esn = v->info->flags & XF_SA_ESN;

	if (esn->replay_window)
		return fail(v, "Replay window should be 0 for output SA");
	if (esn->seq || esn->seq_hi)
		return fail(v, "Replay seq and seq_hi should be 0 for output SA");
	if (!is_esn && esn->oseq_hi)
		return fail(v, "Replay oseq_hi should be 0 in non-ESN mode for output SA");
	if (!is_esn && esn->oseq == UINT32_MAX)
		return fail(v, "Replay oseq should be less than 0xFFFFFFFF in non-ESN mode for "
			       "output SA");
	if (is_esn && esn->oseq == UINT32_MAX && esn->oseq_hi == UINT32_MAX)
		return fail(v, "Replay oseq and oseq_hi should be less than 0xFFFFFFFF for "
			       "output SA");
	if (esn->bmp_len)
		return fail(v, "Replay bmp_len should 0 for output SA");
	return 0;
}

/* An input SA has sent nothing, and one more packet must still fit its counter. */
static int verify_esn_in(const struct verify *v)
{
	const struct xfrm_replay_state_esn *esn = &v->esn;
	bool is_esn = v->info->flags & XF_SA_ESN;

	if (esn->oseq || esn->oseq_hi)
		return fail(v, "Replay oseq and oseq_hi should be 0 for input SA");
	if (!is_esn && esn->seq_hi)
		return fail(v, "Replay seq_hi should be 0 in non-ESN mode for input SA");
	if (!is_esn && esn->seq == UINT32_MAX)
		return fail(v, "Replay seq should be less than 0xFFFFFFFF in non-ESN mode for "
			       "input SA");
	if (is_esn && esn->seq == UINT32_MAX && esn->seq_hi == UINT32_MAX)
		return fail(v, "Replay seq and seq_hi should be less than 0xFFFFFFFF for input SA");
	return 0;
}

/*
 * RFC 4304: extended sequence numbers need XFRMA_REPLAY_ESN_VAL, which may also stand alone for a
 * window beyond the 32 packets of the legacy form. The two forms exclude each other.
 */
static int verify_replay(struct verify *v)
{
	struct xfrm_replay_state_esn *esn = &v->esn;
	size_t len;

	if (!xf_nl_get(v->req, XFRMA_REPLAY_ESN_VAL, esn, sizeof(*esn))) {
		if (v->info->flags & XF_SA_ESN)
			return fail(v, "Missing required attribute for ESN");
		return 0;
	}
	len = mnl_attr_get_payload_len(v->req->attrs[XFRMA_REPLAY_ESN_VAL]);
	if (esn->bmp_len > XF_REPLAY_WINDOW_MAX / 32)
		return fail(v, "ESN bitmap length must be <= 128");
	if (len < sizeof(*esn) + esn->bmp_len * sizeof(uint32_t) && len != sizeof(*esn))
		return fail(v, "ESN attribute is too short to fit the full bitmap length");
	if (v->info->id.proto != XF_IPPROTO_ESP && v->info->id.proto != XF_IPPROTO_AH)
		return fail(v, "ESN only supported for ESP and AH");
	if (v->info->replay_window)
		return fail(v, "ESN not compatible with legacy replay_window");
	if (v->dir == XF_SA_DIR_OUT)
		return verify_esn_out(v);
	return v->dir == XF_SA_DIR_IN ? verify_esn_in(v) : 0;
}

static int verify_mode(const struct verify *v)
{
	switch (v->info->mode) {
	case XFRM_MODE_TRANSPORT:
	case XFRM_MODE_TUNNEL:
	case XFRM_MODE_ROUTEOPTIMIZATION:
	case XFRM_MODE_BEET:
		return 0;
	case XF_XFRM_MODE_IPTFS:
		if (v->info->id.proto != XF_IPPROTO_ESP)
			return fail(v, "IP-TFS mode only supported with ESP");
		if (!v->dir)
			return fail(v, "IP-TFS mode requires in or out direction attribute");
		return 0;
	default:
		return fail(v, "Unsupported mode");
	}
}

/* A flag or attribute that does not go with a direction. One of the masks is set. */
struct dir_rule {
	uint8_t flag;
	uint32_t extra_flag;
	uint64_t attr;
	const char *why;
};

static const struct dir_rule out_flags[] = {
	{ XF_SA_DECAP_DSCP, 0, 0, "Flag DECAP_DSCP should not be set for output SA" },
	{ XF_SA_ICMP, 0, 0, "Flag ICMP should not be set for output SA" },
	{ XF_SA_WILDRECV, 0, 0, "Flag WILDRECV should not be set for output SA" },
};

static const struct dir_rule out_attrs[] = {
	{ 0, 0, BIT(XF_XFRMA_IPTFS_DROP_TIME), "IP-TFS drop time should not be set for output SA" },
	{ 0, 0, BIT(XF_XFRMA_IPTFS_REORDER_WINDOW),
	  "IP-TFS reorder window should not be set for output SA" },
};

static const struct dir_rule in_rules[] = {
	{ XF_SA_NOPMTUDISC, 0, 0, "Flag NOPMTUDISC should not be set for input SA" },
	{ 0, XF_SA_DONT_ENCAP_DSCP, 0, "Flag DONT_ENCAP_DSCP should not be set for input SA" },
	{ 0, XF_SA_OSEQ_MAY_WRAP, 0, "Flag OSEQ_MAY_WRAP should not be set for input SA" },
	{ 0, 0, BIT(XF_XFRMA_IPTFS_DONT_FRAG),
	  "IP-TFS don't fragment should not be set for input SA" },
	{ 0, 0, BIT(XF_XFRMA_IPTFS_INIT_DELAY),
	  "IP-TFS initial delay should not be set for input SA" },
	{ 0, 0, BIT(XF_XFRMA_IPTFS_MAX_QSIZE),
	  "IP-TFS max queue size should not be set for input SA" },
	{ 0, 0, BIT(XF_XFRMA_IPTFS_PKT_SIZE), "IP-TFS packet size should not be set for input SA" },
};

static int verify_dir(const struct verify *v, const struct dir_rule *rules, size_t n)
{
	uint32_t extra_flags = xf_nl_u32(v->req, XFRMA_SA_EXTRA_FLAGS, 0);

	for (size_t i = 0; i < n; i++) {
		if ((v->info->flags & rules[i].flag) || (extra_flags & rules[i].extra_flag) ||
		    (v->has & rules[i].attr))
			return fail(v, rules[i].why);
	}
	return 0;
}

/* The window is asked for between flags and attributes: the kernel's order again. */
static int verify_out(const struct verify *v)
{
	struct xfrm_replay_state replay;
	int err = verify_dir(v, out_flags, XF_ARRAY_SIZE(out_flags));

	if (!err && v->info->replay_window)
		err = fail(v, "Replay window should be 0 for output SA");
	if (!err)
		err = verify_dir(v, out_attrs, XF_ARRAY_SIZE(out_attrs));
	if (!err && xf_nl_get(v->req, XFRMA_REPLAY_VAL, &replay, sizeof(replay)) &&
	    (replay.seq || replay.bitmap))
		err = fail(v, "Replay seq and bitmap should be 0 for output SA");
	return err;
}

static int verify_direction(const struct verify *v)
{
	if (v->has & BIT(XF_XFRMA_MTIMER_THRESH)) {
		if (!(v->has & BIT(XFRMA_ENCAP)))
			return fail(v, "MTIMER_THRESH attribute can only be set on ENCAP states");
		if (v->dir == XF_SA_DIR_OUT)
			return fail(v, "MTIMER_THRESH attribute should not be set on output SA");
	}
	if (v->dir == XF_SA_DIR_OUT)
		return verify_out(v);
	if (v->dir == XF_SA_DIR_IN)
		return verify_dir(v, in_rules, XF_ARRAY_SIZE(in_rules));
	if (v->has & BIT(XF_XFRMA_SA_PCPU))
		return fail(v, "SA_PCPU only supported with SA_DIR");
	return 0;
}

/* Presence as a bit mask makes the rules above plain data. */
static uint64_t present(const struct xf_nl_request *req)
{
	uint64_t has = 0;

	for (int type = 1; type <= XF_XFRMA_MAX; type++)
		has |= req->attrs[type] ? BIT(type) : 0;
	return has;
}

int xf_nl_verify_sa(struct xf_nl_request *req, const struct xfrm_usersa_info *info)
{
	struct verify v = {
		.req = req,
		.info = info,
		.has = present(req),
		.dir = xf_nl_u8(req, XF_XFRMA_SA_DIR, XF_SA_DIR_ANY),
	};
	int err = verify_families(&v);

	if (!err)
		err = verify_proto(&v);
	if (!err)
		err = verify_algs(&v);
	if (!err)
		err = xf_nl_verify_sec_ctx(req);
	if (!err)
		err = verify_replay(&v);
	if (!err)
		err = verify_mode(&v);
	return err ? err : verify_direction(&v);
}
