/*
 * Algorithm names and suites against the kernel's tables and setkey functions.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <cmocka.h>

#include <xf/alg.h>

static void names_and_aliases(void **state)
{
	static const struct {
		enum xf_alg_kind kind;
		const char *name;
		uint32_t icv_bits;
		const char *found; /* NULL: the kernel's -ENOSYS */
	} cases[] = {
		{ XF_ALG_AEAD, "rfc4106(gcm(aes))", 64, "rfc4106(gcm(aes))" },
		{ XF_ALG_AEAD, "rfc4106(gcm(aes))", 96, "rfc4106(gcm(aes))" },
		{ XF_ALG_AEAD, "rfc4106(gcm(aes))", 128, "rfc4106(gcm(aes))" },
		{ XF_ALG_AEAD, "rfc4106(gcm(aes))", 0, NULL },
		{ XF_ALG_AEAD, "rfc4106(gcm(aes))", 104, NULL },
		{ XF_ALG_AEAD, "rfc4106(gcm(aes))", 127, NULL },
		{ XF_ALG_AEAD, "rfc4309(ccm(aes))", 64, "rfc4309(ccm(aes))" },
		{ XF_ALG_AEAD, "rfc4309(ccm(aes))", 80, NULL },
		{ XF_ALG_AEAD, "rfc4543(gcm(aes))", 128, "rfc4543(gcm(aes))" },
		{ XF_ALG_AEAD, "rfc4543(gcm(aes))", 96, NULL },
		{ XF_ALG_AEAD, "rfc7539esp(chacha20,poly1305)", 128,
		  "rfc7539esp(chacha20,poly1305)" },
		{ XF_ALG_AEAD, "rfc7539esp(chacha20,poly1305)", 96, NULL },
		{ XF_ALG_AEAD, "gcm(aes)", 128, NULL },
		{ XF_ALG_AEAD, "cbc(aes)", 128, NULL },
		{ XF_ALG_AEAD, "", 128, NULL },
		{ XF_ALG_CRYPT, "cbc(aes)", 0, "cbc(aes)" },
		{ XF_ALG_CRYPT, "aes", 0, "cbc(aes)" },
		{ XF_ALG_CRYPT, "ecb(cipher_null)", 0, "ecb(cipher_null)" },
		{ XF_ALG_CRYPT, "cipher_null", 0, "ecb(cipher_null)" },
		{ XF_ALG_CRYPT, "rfc3686(ctr(aes))", 0, "rfc3686(ctr(aes))" },
		{ XF_ALG_CRYPT, "ctr(aes)", 0, NULL },
		{ XF_ALG_CRYPT, "hmac(sha1)", 0, NULL },
		{ XF_ALG_CRYPT, "cbc(des)", 0, NULL },
		{ XF_ALG_CRYPT, "cbc(des3_ede)", 0, NULL },
		{ XF_ALG_CRYPT, "des3_ede", 0, NULL },
		{ XF_ALG_CRYPT, "cbc(cast5)", 0, NULL },
		{ XF_ALG_CRYPT, "cbc(blowfish)", 0, NULL },
		{ XF_ALG_CRYPT, "cbc(serpent)", 0, NULL },
		{ XF_ALG_CRYPT, "cbc(camellia)", 0, NULL },
		{ XF_ALG_CRYPT, "cbc(twofish)", 0, NULL },
		{ XF_ALG_CRYPT, "cbc(sm4)", 0, NULL },
		{ XF_ALG_AUTH, "hmac(sha1)", 0, "hmac(sha1)" },
		{ XF_ALG_AUTH, "sha1", 0, "hmac(sha1)" },
		{ XF_ALG_AUTH, "hmac(sha256)", 77, "hmac(sha256)" },
		{ XF_ALG_AUTH, "sha256", 0, "hmac(sha256)" },
		{ XF_ALG_AUTH, "hmac(sha384)", 0, "hmac(sha384)" },
		{ XF_ALG_AUTH, "sha384", 0, NULL },
		{ XF_ALG_AUTH, "hmac(sha512)", 0, "hmac(sha512)" },
		{ XF_ALG_AUTH, "sha512", 0, NULL },
		{ XF_ALG_AUTH, "digest_null", 0, "digest_null" },
		{ XF_ALG_AUTH, "hmac(md5)", 0, NULL },
		{ XF_ALG_AUTH, "md5", 0, NULL },
		{ XF_ALG_AUTH, "hmac(rmd160)", 0, NULL },
		{ XF_ALG_AUTH, "hmac(sm3)", 0, NULL },
		{ XF_ALG_AUTH, "xcbc(aes)", 0, NULL },
		{ XF_ALG_AUTH, "cmac(aes)", 0, NULL },
		{ XF_ALG_AUTH, "HMAC(SHA1)", 0, NULL },
		{ XF_ALG_AUTH, "hmac(sha1) ", 0, NULL },
	};

	(void)state;
	for (size_t i = 0; i < XF_ARRAY_SIZE(cases); i++) {
		const struct xf_alg_desc *alg =
			xf_alg_find(cases[i].kind, cases[i].name, cases[i].icv_bits);

		if (!cases[i].found != !alg)
			fail_msg("%s/%u", cases[i].name, cases[i].icv_bits);
		if (alg)
			assert_string_equal(alg->name, cases[i].found);
	}
}

static void kernel_icv_lengths(void **state)
{
	static const struct {
		const char *name;
		uint16_t full, trunc;
	} cases[] = { { "hmac(sha1)", 160, 96 },
		      { "hmac(sha256)", 256, 96 },
		      { "hmac(sha384)", 384, 192 },
		      { "hmac(sha512)", 512, 256 },
		      { "digest_null", 0, 0 } };

	(void)state;
	for (size_t i = 0; i < XF_ARRAY_SIZE(cases); i++) {
		const struct xf_alg_desc *alg = xf_alg_find(XF_ALG_AUTH, cases[i].name, 0);

		assert_int_equal(alg->icv_full_bits, cases[i].full);
		assert_int_equal(alg->icv_default_bits, cases[i].trunc);
	}
}

struct build_case {
	const char *crypt; /* an AEAD when @aead_icv is not 0 */
	uint32_t aead_icv;
	uint32_t key_bits;
	const char *auth;
	uint32_t auth_key_bits;
	uint32_t trunc_bits;
	const char *name; /* NULL: -EINVAL */
};

#define GCM "rfc4106(gcm(aes))"
#define CCM "rfc4309(ccm(aes))"
#define GMAC "rfc4543(gcm(aes))"
#define CHACHA "rfc7539esp(chacha20,poly1305)"
#define CTR "rfc3686(ctr(aes))"

static const struct build_case aead_cases[] = {
	{ GCM, 128, 160, NULL, 0, 128, "gcm128-16" },
	{ GCM, 96, 224, NULL, 0, 96, "gcm192-12" },
	{ GCM, 64, 288, NULL, 0, 0, "gcm256-8" },
	{ GCM, 64, 288, NULL, 0, 128, NULL },
	{ GCM, 128, 128, NULL, 0, 128, NULL },
	{ GCM, 128, 153, NULL, 0, 128, "gcm128-16" }, /* 19.1 bytes are 20 */
	{ GCM, 128, 152, NULL, 0, 128, NULL },
	{ GCM, 128, 168, NULL, 0, 128, NULL },
	{ GCM, 128, 320, NULL, 0, 128, NULL },
	{ GCM, 128, 0, NULL, 0, 128, NULL },
	{ GCM, 128, UINT32_MAX, NULL, 0, 128, NULL },
	{ GCM, 128, 160, "hmac(sha1)", 160, 128, NULL },
	{ CCM, 64, 152, NULL, 0, 64, "ccm128-8" },
	{ CCM, 96, 216, NULL, 0, 96, "ccm192-12" },
	{ CCM, 128, 280, NULL, 0, 128, "ccm256-16" },
	{ CCM, 128, 160, NULL, 0, 128, NULL },
	{ GMAC, 128, 160, NULL, 0, 128, "gmac128-16" },
	{ GMAC, 128, 288, NULL, 0, 128, "gmac256-16" },
	{ CHACHA, 128, 288, NULL, 0, 128, "chacha20poly1305-16" },
	{ CHACHA, 128, 256, NULL, 0, 128, NULL },
	{ CHACHA, 128, 296, NULL, 0, 128, NULL },
	{ CHACHA, 128, 160, NULL, 0, 128, NULL },
};

static const struct build_case composed_cases[] = {
	{ "cbc(aes)", 0, 128, "hmac(sha1)", 160, 0, "cbc128-sha1-12" },
	{ "cbc(aes)", 0, 192, "hmac(sha256)", 256, 0, "cbc192-sha256-12" },
	{ "cbc(aes)", 0, 256, "hmac(sha256)", 256, 128, "cbc256-sha256-16" },
	{ "cbc(aes)", 0, 256, "hmac(sha256)", 256, 256, "cbc256-sha256-32" },
	{ "cbc(aes)", 0, 256, "hmac(sha256)", 256, 257, NULL },
	{ "cbc(aes)", 0, 256, "hmac(sha256)", 256, 7, NULL },
	{ "cbc(aes)", 0, 256, "hmac(sha256)", 256, 8, "cbc256-sha256-1" },
	{ "cbc(aes)", 0, 256, "hmac(sha256)", 256, 100, "cbc256-sha256-12" },
	{ "cbc(aes)", 0, 256, "hmac(sha384)", 0, 0, "cbc256-sha384-24" },
	{ "cbc(aes)", 0, 256, "hmac(sha512)", 2048, 0, "cbc256-sha512-32" },
	{ "cbc(aes)", 0, 256, "hmac(sha512)", 2049, 0, NULL },
	{ "cbc(aes)", 0, 256, "hmac(sha512)", UINT32_MAX, 0, NULL },
	{ "cbc(aes)", 0, 256, NULL, 0, 0, "cbc256-0" },
	{ "cbc(aes)", 0, 256, "digest_null", 0, 0, "cbc256-0" },
	{ "cbc(aes)", 0, 256, "digest_null", 0, 96, NULL },
	{ "cbc(aes)", 0, 256, "digest_null", 1, 0, "cbc256-0" },
	{ "cbc(aes)", 0, 0, "hmac(sha1)", 160, 0, NULL },
	{ "cbc(aes)", 0, 64, "hmac(sha1)", 160, 0, NULL },
	{ "cbc(aes)", 0, 136, "hmac(sha1)", 160, 0, NULL },
	{ "cbc(aes)", 0, 121, "hmac(sha1)", 160, 0, "cbc128-sha1-12" },
	{ "cbc(aes)", 0, 160, "hmac(sha1)", 160, 0, NULL },
	{ "cbc(aes)", 0, 320, "hmac(sha1)", 160, 0, NULL },
	{ CTR, 0, 160, "hmac(sha1)", 160, 0, "ctr128-sha1-12" },
	{ CTR, 0, 288, "hmac(sha512)", 512, 0, "ctr256-sha512-32" },
	{ CTR, 0, 128, "hmac(sha1)", 160, 0, NULL },
	{ "cipher_null", 0, 0, "hmac(sha1)", 160, 160, "null-sha1-20" },
	{ "cipher_null", 0, 8, "hmac(sha1)", 160, 0, NULL },
	{ NULL, 0, 0, "hmac(sha1)", 160, 0, "null-sha1-12" },
	{ NULL, 0, 0, NULL, 0, 0, NULL },
};

static void check_build(const struct build_case *c)
{
	struct xf_suite_request req = { .cipher_key_bits = c->key_bits,
					.auth_key_bits = c->auth_key_bits,
					.icv_bits = c->trunc_bits };
	struct xf_suite suite = { .iv_len = 99 };
	char name[64];
	int err;

	if (c->aead_icv)
		req.aead = xf_alg_find(XF_ALG_AEAD, c->crypt, c->aead_icv);
	else if (c->crypt)
		req.crypt = xf_alg_find(XF_ALG_CRYPT, c->crypt, 0);
	if (c->auth)
		req.auth = xf_alg_find(XF_ALG_AUTH, c->auth, 0);
	err = xf_suite_build(&req, &suite);
	if (err != (c->name ? 0 : -EINVAL))
		fail_msg("%s %u %s %u: %d", c->crypt ? c->crypt : "-", c->key_bits,
			 c->auth ? c->auth : "-", c->trunc_bits, err);
	if (!c->name) {
		assert_int_equal(suite.iv_len, 99);
		return;
	}
	assert_string_equal(xf_suite_name(&suite, name, sizeof(name)), c->name);
	assert_int_equal(suite.auth_key_len, c->auth ? (c->auth_key_bits + 7) / 8 : 0);
}

static void key_and_icv_lengths(void **state)
{
	(void)state;
	for (size_t i = 0; i < XF_ARRAY_SIZE(aead_cases); i++)
		check_build(&aead_cases[i]);
	for (size_t i = 0; i < XF_ARRAY_SIZE(composed_cases); i++)
		check_build(&composed_cases[i]);
}

/* What ESP lays out with: IV, salt and padding unit of each cipher. */
static void layout_lengths(void **state)
{
	static const struct {
		const char *name;
		uint32_t icv_bits, key_bits;
		uint8_t salt, iv, block, icv;
	} cases[] = {
		{ GCM, 128, 160, 4, 8, 1, 16 },	      { CCM, 64, 152, 3, 8, 1, 8 },
		{ GMAC, 128, 160, 4, 8, 1, 16 },      { CHACHA, 128, 288, 4, 8, 1, 16 },
		{ "cbc(aes)", 0, 128, 0, 16, 16, 0 }, { CTR, 0, 160, 4, 8, 1, 0 },
		{ "cipher_null", 0, 0, 0, 0, 1, 0 },
	};

	(void)state;
	for (size_t i = 0; i < XF_ARRAY_SIZE(cases); i++) {
		bool aead = cases[i].icv_bits != 0;
		const struct xf_alg_desc *alg = xf_alg_find(aead ? XF_ALG_AEAD : XF_ALG_CRYPT,
							    cases[i].name, cases[i].icv_bits);
		struct xf_suite_request req = { .aead = aead ? alg : NULL,
						.crypt = aead ? NULL : alg,
						.cipher_key_bits = cases[i].key_bits };
		struct xf_suite suite;

		assert_int_equal(xf_suite_build(&req, &suite), 0);
		assert_int_equal(suite.salt_len, cases[i].salt);
		assert_int_equal(suite.iv_len, cases[i].iv);
		assert_int_equal(suite.block_len, cases[i].block);
		assert_int_equal(suite.icv_len, cases[i].icv);
		assert_int_equal(suite.cipher_key_len, cases[i].key_bits / 8 - cases[i].salt);
		assert_int_equal(xf_suite_is_aead(&suite), aead);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_and_aliases),
		cmocka_unit_test(kernel_icv_lengths),
		cmocka_unit_test(key_and_icv_lengths),
		cmocka_unit_test(layout_lengths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
