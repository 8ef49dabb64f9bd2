/*
 * What NEWSA refuses: a row per fault, with the errno and the sentence of Linux 6.18. Nothing may
 * change in the SAD, and the acknowledgement carries the whole request.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include "nl_util.h"

#include <cmocka.h>

struct attr {
	uint16_t type;
	uint16_t len;
	uint8_t data[28];
};

/* What differs from a NEWSA that is right; a zero means "as it was". */
struct fault {
	const char *what;
	int err;
	const char *why;
	uint8_t proto, mode_plus_1, flags, window, dir, prefix;
	uint16_t family, sel_family;
	bool no_aead;
	uint32_t trunc_bits; /* 0 = 96 */
	uint32_t crypt_bits; /* 0 = 160 */
	const char *auth, *trunc, *crypt, *comp; /* algorithm names; the key has 160 bits */
	struct attr attr[2];
};

#define U32(v) (v) & 0xff, ((v) >> 8) & 0xff, ((v) >> 16) & 0xff, (uint32_t)(v) >> 24
/* bmp_len, oseq, seq, oseq_hi, seq_hi, replay_window; the bitmap is left out. */
#define ESN(bmp, oseq, seq, oseq_hi, seq_hi, win)                                          \
	{                                                                                  \
		XFRMA_REPLAY_ESN_VAL, 24,                                                  \
		{                                                                          \
			U32(bmp), U32(oseq), U32(seq), U32(oseq_hi), U32(seq_hi), U32(win) \
		}                                                                          \
	}
#define ALL 0xffffffffu
#define IN XF_SA_DIR_IN
#define OUT XF_SA_DIR_OUT
#define NOTYPE -EPROTONOSUPPORT, "Requested type not found"
#define NOMODE -EPROTONOSUPPORT, "Requested mode not found"

static const struct fault faults[] = {
	{ "family", -EINVAL, "Invalid address family", .family = 3 },
	{ "selector family", -EINVAL, "Invalid address family in selector", .sel_family = 3 },
	{ "prefix 33", -EINVAL, "Invalid prefix length in selector (must be <= 32 for IPv4)",
	  .prefix = 33 },
	{ "prefix 129", -EINVAL, "Invalid prefix length in selector (must be <= 128 for IPv6)",
	  .sel_family = 10, .prefix = 129 },
	{ "protocol", -EINVAL, "Unsupported protocol", .proto = 99 },
	{ "no algorithm", -EINVAL,
	  "Missing required attribute for ESP: at least one of AUTH, AUTH_TRUNC, CRYPT, AEAD",
	  .no_aead = true },
	{ "AEAD and cipher", -EINVAL,
	  "Invalid attribute combination for ESP: AEAD can't be used with AUTH, AUTH_TRUNC, CRYPT",
	  .crypt = "cbc(aes)" },
	{ "IPComp on ESP", -EINVAL, "Invalid attribute for ESP: COMP", .comp = "deflate" },
	{ "AH without hash", -EINVAL, "Missing required attribute for AH: AUTH_TRUNC or AUTH",
	  .proto = 51, .no_aead = true },
	{ "AH with AEAD", -EINVAL, "Invalid attributes for AH: AEAD, CRYPT, COMP, TFCPAD",
	  .proto = 51, .auth = "hmac(sha1)" },
	{ "AH", NOTYPE, .proto = 51, .no_aead = true, .auth = "hmac(sha1)" },
	{ "IPComp", NOTYPE, .proto = 108, .no_aead = true, .comp = "deflate" },
	{ "IPComp of another kind", -ENOSYS, "Requested COMP algorithm not found", .proto = 108,
	  .no_aead = true, .comp = "lzs" },
	{ "IPComp without", -EINVAL, "Missing required attribute for COMP: COMP", .proto = 108,
	  .no_aead = true },
	{ "IPComp with AEAD", -EINVAL,
	  "Invalid attributes for COMP: AEAD, AUTH, AUTH_TRUNC, CRYPT, TFCPAD", .proto = 108,
	  .comp = "deflate" },
	{ "Mobile IPv6", -EINVAL, "Invalid attributes for DSTOPTS/ROUTING", .proto = 43 },
	{ "Mobile IPv6 without COADDR", -EINVAL,
	  "Missing required COADDR attribute for DSTOPTS/ROUTING", .proto = 60, .no_aead = true },
	{ "TFC in transport mode", -EINVAL, "TFC padding can only be used in tunnel mode",
	  .mode_plus_1 = 1, .attr = { { XFRMA_TFCPAD, 4, { 9 } } } },
	{ "IP-TFS option", -EINVAL, "IP-TFS options can only be used in IP-TFS mode",
	  .attr = { { XF_XFRMA_IPTFS_PKT_SIZE, 4, { 9 } } } },
	{ "mode", -EINVAL, "Unsupported mode", .mode_plus_1 = 10 },
	{ "IP-TFS", -EINVAL, "IP-TFS mode requires in or out direction attribute",
	  .mode_plus_1 = 6 },
	{ "IP-TFS in", NOMODE, .mode_plus_1 = 6, .dir = IN },
	{ "BEET", NOMODE, .mode_plus_1 = 5 },
	{ "route optimisation", NOMODE, .mode_plus_1 = 3 },
	{ "family change in transport mode", -EPROTONOSUPPORT,
	  "Only tunnel modes can accommodate a change of family", .mode_plus_1 = 1,
	  .sel_family = 10 },
	{ "unknown hash", -ENOSYS, "Requested AUTH algorithm not found", .no_aead = true,
	  .auth = "hmac(foo)" },
	{ "unknown truncated hash", -ENOSYS, "Requested AUTH_TRUNC algorithm not found",
	  .no_aead = true, .trunc = "hmac(foo)" },
	{ "unknown cipher", -ENOSYS, "Requested CRYPT algorithm not found", .no_aead = true,
	  .crypt = "cbc(foo)" },
	{ "hash alone", -EINVAL, "ESP: AEAD or CRYPT must be provided", .no_aead = true,
	  .auth = "hmac(sha1)" },
	{ "cipher key of 160 bits", -EINVAL, "", .no_aead = true, .crypt = "cbc(aes)" },
	{ "cipher key of 160 bits and a hash", -EINVAL, "", .no_aead = true, .crypt = "cbc(aes)",
	  .trunc = "hmac(sha1)" },
	{ "ICV of 4 bits", -EINVAL, "Kernel was unable to initialize cryptographic operations",
	  .no_aead = true, .crypt = "cbc(aes)", .crypt_bits = 128, .trunc = "hmac(sha1)",
	  .trunc_bits = 4 },
	{ "ICV of 161 bits", -EINVAL, "Invalid length requested for truncated ICV", .no_aead = true,
	  .trunc = "hmac(sha1)", .trunc_bits = 161 },
	{ "security context", -EINVAL, "Invalid security context length",
	  .attr = { { XFRMA_SEC_CTX, 8, { 9 } } } },
	{ "ESN flag alone", -EINVAL, "Missing required attribute for ESN", .flags = XF_SA_ESN },
	{ "long bitmap", -EINVAL, "ESN bitmap length must be <= 128",
	  .attr = { ESN(129, 0, 0, 0, 0, 32) } },
	{ "short bitmap", -EINVAL, "ESN attribute is too short to fit the full bitmap length",
	  .attr = { { XFRMA_REPLAY_ESN_VAL, 28, { 2 } } } },
	{ "two windows", -EINVAL, "ESN not compatible with legacy replay_window", .window = 4,
	  .attr = { ESN(1, 0, 0, 0, 0, 32) } },
	{ "window beyond the bitmap", -EINVAL,
	  "ESN replay window is too large for the chosen bitmap size",
	  .attr = { ESN(1, 0, 0, 0, 0, 33) } },
	{ "ESN without window", -EINVAL, "ESN replay window must be > 0", .flags = XF_SA_ESN,
	  .attr = { ESN(1, 0, 0, 0, 0, 0) } },
	{ "output window", -EINVAL, "Replay window should be 0 for output SA", .dir = OUT,
	  .attr = { ESN(1, 0, 0, 0, 0, 32) } },
	{ "output legacy window", -EINVAL, "Replay window should be 0 for output SA", .dir = OUT,
	  .window = 1 },
	{ "output seq", -EINVAL, "Replay seq and seq_hi should be 0 for output SA", .dir = OUT,
	  .attr = { ESN(0, 0, 1, 0, 0, 0) } },
	{ "output oseq_hi", -EINVAL, "Replay oseq_hi should be 0 in non-ESN mode for output SA",
	  .dir = OUT, .attr = { ESN(0, 0, 0, 1, 0, 0) } },
	{ "output oseq", -EINVAL,
	  "Replay oseq should be less than 0xFFFFFFFF in non-ESN mode for output SA", .dir = OUT,
	  .attr = { ESN(0, ALL, 0, 0, 0, 0) } },
	{ "output ESN oseq", -EINVAL,
	  "Replay oseq and oseq_hi should be less than 0xFFFFFFFF for output SA", .dir = OUT,
	  .flags = XF_SA_ESN, .attr = { ESN(0, ALL, 0, ALL, 0, 0) } },
	{ "output bitmap", -EINVAL, "Replay bmp_len should 0 for output SA", .dir = OUT,
	  .attr = { ESN(1, 0, 0, 0, 0, 0) } },
	{ "input oseq", -EINVAL, "Replay oseq and oseq_hi should be 0 for input SA", .dir = IN,
	  .attr = { ESN(1, 1, 0, 0, 0, 32) } },
	{ "input seq_hi", -EINVAL, "Replay seq_hi should be 0 in non-ESN mode for input SA",
	  .dir = IN, .attr = { ESN(1, 0, 0, 0, 1, 32) } },
	{ "input seq", -EINVAL,
	  "Replay seq should be less than 0xFFFFFFFF in non-ESN mode for input SA", .dir = IN,
	  .attr = { ESN(1, 0, ALL, 0, 0, 32) } },
	{ "input ESN seq", -EINVAL,
	  "Replay seq and seq_hi should be less than 0xFFFFFFFF for input SA", .dir = IN,
	  .flags = XF_SA_ESN, .attr = { ESN(1, 0, ALL, 0, ALL, 32) } },
	{ "output DECAP_DSCP", -EINVAL, "Flag DECAP_DSCP should not be set for output SA",
	  .dir = OUT, .flags = XF_SA_DECAP_DSCP },
	{ "output ICMP", -EINVAL, "Flag ICMP should not be set for output SA", .dir = OUT,
	  .flags = XF_SA_ICMP },
	{ "output WILDRECV", -EINVAL, "Flag WILDRECV should not be set for output SA", .dir = OUT,
	  .flags = XF_SA_WILDRECV },
	{ "output REPLAY_VAL", -EINVAL, "Replay seq and bitmap should be 0 for output SA",
	  .dir = OUT, .attr = { { XFRMA_REPLAY_VAL, 12, { 0, 0, 0, 0, 1 } } } },
	{ "input NOPMTUDISC", -EINVAL, "Flag NOPMTUDISC should not be set for input SA", .dir = IN,
	  .flags = XF_SA_NOPMTUDISC },
	{ "input DONT_ENCAP_DSCP", -EINVAL, "Flag DONT_ENCAP_DSCP should not be set for input SA",
	  .dir = IN, .attr = { { XFRMA_SA_EXTRA_FLAGS, 4, { 1 } } } },
	{ "input OSEQ_MAY_WRAP", -EINVAL, "Flag OSEQ_MAY_WRAP should not be set for input SA",
	  .dir = IN, .attr = { { XFRMA_SA_EXTRA_FLAGS, 4, { 2 } } } },
	{ "MTIMER without encapsulation", -EINVAL,
	  "MTIMER_THRESH attribute can only be set on ENCAP states",
	  .attr = { { XF_XFRMA_MTIMER_THRESH, 4, { 2 } } } },
	{ "MTIMER out", -EINVAL, "MTIMER_THRESH attribute should not be set on output SA",
	  .dir = OUT,
	  .attr = { { XF_XFRMA_MTIMER_THRESH, 4, { 2 } }, { XFRMA_ENCAP, 24, { 2 } } } },
	{ "PCPU without direction", -EINVAL, "SA_PCPU only supported with SA_DIR",
	  .attr = { { XF_XFRMA_SA_PCPU, 4, { 0 } } } },
	{ "PCPU too big", -ERANGE, "pCPU number too big", .dir = IN,
	  .attr = { { XF_XFRMA_SA_PCPU, 4, { 0, 0, 1 } } } },
	{ "encapsulation", -EINVAL, "Unsupported encapsulation type for ESP",
	  .attr = { { XFRMA_ENCAP, 24, { 7 } } } },
	{ "packet offload", -EINVAL, "", .attr = { { XFRMA_OFFLOAD_DEV, 8, { 1, 0, 0, 0, 4 } } } },
	{ "offload flags", -EINVAL, "Unrecognized flags in offload request",
	  .attr = { { XFRMA_OFFLOAD_DEV, 8, { 1, 0, 0, 0, 8 } } } },
	{ "keepalive of an input SA", -EINVAL, "NAT keepalive is only supported for outbound SAs",
	  .attr = { { XF_XFRMA_NAT_KEEPALIVE_INTERVAL, 4, { 9 } } } },
	/* lib/nlattr.c */
	{ "short mark", -ERANGE, "Attribute failed policy validation",
	  .attr = { { XFRMA_MARK, 7, { 0 } } } },
	{ "short integer", -ERANGE, "Attribute failed policy validation",
	  .attr = { { XFRMA_IF_ID, 3, { 0 } } } },
	{ "long strict integer", -EINVAL, "invalid attribute length",
	  .attr = { { XF_XFRMA_SA_PCPU, 8, { 0 } } } },
	{ "direction 3", -ERANGE, "integer out of range", .dir = 3 },
	{ "flag with data", -ERANGE, "Attribute failed policy validation",
	  .attr = { { XF_XFRMA_IPTFS_DONT_FRAG, 1, { 1 } } } },
	{ "nested strict", -EINVAL, "NLA_F_NESTED not expected",
	  .attr = { { XF_XFRMA_SA_DIR | NLA_F_NESTED, 1, { 1 } } } },
};

static void put_trunc(struct nl_req *r, const char *name, uint32_t bits)
{
	struct {
		struct xfrm_algo_auth alg;
		uint8_t key[20];
	} trunc = { .alg = { .alg_key_len = 160, .alg_trunc_len = bits ? bits : 96 } };

	snprintf(trunc.alg.alg_name, sizeof(trunc.alg.alg_name), "%s", name);
	nl_attr(r, XFRMA_ALG_AUTH_TRUNC, &trunc, sizeof(trunc));
}

static void put_algs(struct nl_req *r, const struct fault *fault)
{
	if (!fault->no_aead)
		nl_attr_aead(r, 160, 128);
	if (fault->auth)
		nl_attr_alg(r, XFRMA_ALG_AUTH, fault->auth, 160);
	if (fault->trunc)
		put_trunc(r, fault->trunc, fault->trunc_bits);
	if (fault->crypt)
		nl_attr_alg(r, XFRMA_ALG_CRYPT, fault->crypt,
			    fault->crypt_bits ? fault->crypt_bits : 160);
	if (fault->comp)
		nl_attr_alg(r, XFRMA_ALG_COMP, fault->comp, 0);
}

static void build(struct nl_req *r, const struct fault *fault)
{
	struct xfrm_usersa_info info;

	nl_sa_info(&info, 0x100);
	info.family = fault->family ? fault->family : info.family;
	info.id.proto = fault->proto ? fault->proto : info.id.proto;
	info.mode = fault->mode_plus_1 ? (uint8_t)(fault->mode_plus_1 - 1) : info.mode;
	info.flags = fault->flags;
	info.replay_window = fault->window;
	info.sel.family = fault->sel_family;
	info.sel.prefixlen_d = fault->prefix;
	nl_begin(r, XFRM_MSG_NEWSA, NLM_F_ACK, &info, sizeof(info));
	put_algs(r, fault);
	if (fault->dir)
		nl_attr(r, XF_XFRMA_SA_DIR, &fault->dir, 1);
	for (unsigned i = 0; i < 2 && fault->attr[i].type; i++)
		nl_attr(r, fault->attr[i].type, fault->attr[i].data, fault->attr[i].len);
}

static void test_faults(void **state)
{
	struct nl_fixture *f = nl_setup();
	struct xf_sad_info info;
	struct nl_req r;

	(void)state;
	for (size_t i = 0; i < XF_ARRAY_SIZE(faults); i++) {
		const struct nlmsghdr *ack;

		build(&r, &faults[i]);
		nl_send(f, 0, &r);
		assert_int_equal(f->in[0].n, 1);
		ack = nl_msg(&f->in[0], 0);
		if (nl_error(ack) != faults[i].err || strcmp(nl_why(ack), faults[i].why))
			fail_msg("%s: %d \"%s\"", faults[i].what, nl_error(ack), nl_why(ack));
		assert_true(ack->nlmsg_len >= NLMSG_HDRLEN + 4 + r.nlh->nlmsg_len);
		assert_memory_equal((const char *)ack + NLMSG_HDRLEN + 4, r.buf, r.nlh->nlmsg_len);
		xf_sad_get_info(f->sad, &info);
		assert_int_equal(info.count, 0);
	}
	assert_int_equal(f->sa_changes, 0);
	nl_teardown(f);
}

/* The key is shorter than the attribute says, by one byte and by almost 2^32 bits. */
static void test_key_lengths(void **state)
{
	static const struct {
		uint16_t type;
		uint32_t bits;
		size_t len;
		const char *why;
	} rows[] = {
		{ XFRMA_ALG_AEAD, 160, 72 + 19, "Invalid AEAD attribute length" },
		{ XFRMA_ALG_AEAD, UINT32_MAX, 72 + 19, "Invalid AEAD attribute length" },
		{ XFRMA_ALG_AUTH_TRUNC, 160, 72 + 19, "Invalid AUTH_TRUNC attribute length" },
		{ XFRMA_ALG_AUTH, 160, 68 + 19, "Invalid AUTH/CRYPT/COMP attribute length" },
		{ XFRMA_ALG_CRYPT, UINT32_MAX - 7, 68, "Invalid AUTH/CRYPT/COMP attribute length" },
	};
	struct nl_fixture *f = nl_setup();
	struct xfrm_usersa_info info;

	(void)state;
	nl_sa_info(&info, 0x100);
	for (size_t i = 0; i < XF_ARRAY_SIZE(rows); i++) {
		uint8_t alg[128] = "cbc(aes)";
		struct nl_req r;

		memcpy(alg + XF_ALG_NAME_LEN, &rows[i].bits, sizeof(rows[i].bits));
		nl_begin(&r, XFRM_MSG_NEWSA, NLM_F_ACK, &info, sizeof(info));
		nl_attr(&r, rows[i].type, alg, rows[i].len);
		nl_send(f, 0, &r);
		assert_int_equal(nl_error(nl_msg(&f->in[0], 0)), -EINVAL);
		assert_string_equal(nl_why(nl_msg(&f->in[0], 0)), rows[i].why);
	}
	nl_teardown(f);
}

/* Where the offending attribute is, and the rule that it broke, as the kernel writes them. */
static void test_bad_attr_is_shown(void **state)
{
	static const uint8_t expected[] = {
		0x19, 0,   1,	 0,   'i', 'n', 't', 'e', 'g', 'e',  'r', ' ', 'o', 'u', 't',
		' ',  'o', 'f',	 ' ', 'r', 'a', 'n', 'g', 'e', 0,    0,	  0,   0,   8,	 0,
		2,    0,   0xf0, 0,   0,   0,	36,  0,	  4,   0x80, 12,  0,   4,   0,	 1,
		0,    0,   0,	 0,   0,   0,	0,   12,  0,   5,    0,	  2,   0,   0,	 0,
		0,    0,   0,	 0,   8,   0,	1,   0,	  2,   0,    0,	  0,
	};
	struct nl_fixture *f = nl_setup();
	struct xfrm_usersa_info info;
	struct nl_req r;
	uint8_t dir = 3;

	(void)state;
	nl_sa_info(&info, 0x100);
	nl_begin(&r, XFRM_MSG_NEWSA, NLM_F_ACK, &info, sizeof(info));
	nl_attr(&r, XF_XFRMA_SA_DIR, &dir, 1);
	nl_send(f, 0, &r);
	assert_int_equal(f->in[0].len[0], NLMSG_HDRLEN + 4 + r.nlh->nlmsg_len + sizeof(expected));
	assert_memory_equal(f->in[0].data[0] + f->in[0].len[0] - sizeof(expected), expected,
			    sizeof(expected));
	nl_teardown(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_key_lengths),
		cmocka_unit_test(test_bad_attr_is_shown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
