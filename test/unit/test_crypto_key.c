/*
 * Keys in secret memory, the choice of a provider, IVs.
 */
#include <xf/ivgen.h>

#include "crypto_util.h"

#include <errno.h>

#define GUARD 64
#define GUARD_BYTE 0xa5

/* Secret memory that remembers what was given back, and may be out of memory. What stands behind
 * a key is not the key's. */
static struct {
	unsigned live;
	unsigned wiped;
	bool empty;
} vault;

static void *vault_alloc(void *arg, size_t size)
{
	void *mem = NULL;

	assert_ptr_equal(arg, &vault);
	if (vault.empty || posix_memalign(&mem, 64, size + GUARD))
		return NULL;
	memset(mem, 0, size);
	memset((uint8_t *)mem + size, GUARD_BYTE, GUARD);
	vault.live++;
	return mem;
}

static void vault_free(void *arg, void *mem, size_t size)
{
	const uint8_t *bytes = mem;

	assert_ptr_equal(arg, &vault);
	for (size_t i = 0; i < size; i++)
		assert_int_equal(bytes[i], 0);
	for (size_t i = size; i < size + GUARD; i++)
		assert_int_equal(bytes[i], GUARD_BYTE);
	vault.live--;
	vault.wiped++;
	free(mem);
}

static void keys_are_wiped(void **state)
{
	const struct xf_secret_ops ops = { .alloc = vault_alloc,
					   .free = vault_free,
					   .arg = &vault };
	struct xf_suite suites[MAX_SUITES];
	unsigned n = all_suites(suites);

	(void)state;
	xf_secret_set_ops(&ops);
	for (unsigned i = 0; i < n; i++) {
		struct xf_key *key = make_key(&suites[i], NULL, i);

		assert_int_equal(vault.live, 1);
		assert_int_equal((uintptr_t)key->expanded % 64, 0);
		assert_true(key->alloc_len >= sizeof(*key));
		xf_key_free(key);
		assert_int_equal(vault.live, 0);
		assert_int_equal(vault.wiped, i + 1);
	}
	xf_key_free(NULL);
}

static void raw_bytes_and_salt(void **state)
{
	const struct xf_suite gcm = { .cipher = XF_CIPHER_AES_GCM,
				      .cipher_key_len = 16,
				      .salt_len = 4,
				      .iv_len = 8,
				      .block_len = 1,
				      .icv_len = 16 };
	const struct xf_suite cbc = { .cipher = XF_CIPHER_AES_CBC,
				      .auth = XF_AUTH_HMAC_SHA1,
				      .cipher_key_len = 16,
				      .auth_key_len = 5,
				      .iv_len = 16,
				      .block_len = 16,
				      .icv_len = 12 };
	uint8_t raw[20];
	struct xf_key *key;

	(void)state;
	for (uint8_t i = 0; i < sizeof(raw); i++)
		raw[i] = (uint8_t)(i + 1);
	assert_int_equal(xf_key_new(&gcm, NULL, raw, NULL, &key), 0);
	assert_int_equal(xf_key_cipher_raw_len(key), 20);
	assert_memory_equal(key->cipher_raw, raw, 20);
	assert_memory_equal(xf_key_salt(key), raw + 16, 4);
	xf_key_free(key);
	assert_int_equal(xf_key_new(&cbc, NULL, raw, raw + 10, &key), 0);
	assert_int_equal(xf_key_cipher_raw_len(key), 16);
	assert_memory_equal(xf_key_auth_raw(key), raw + 10, 5);
	assert_ptr_equal(xf_key_auth_raw(key) + 5, (uint8_t *)key + key->alloc_len);
	xf_key_free(key);
}

static void no_memory_no_provider(void **state)
{
	struct xf_suite ccm192 = { .cipher = XF_CIPHER_AES_CCM,
				   .cipher_key_len = 24,
				   .salt_len = 3,
				   .iv_len = 8,
				   .block_len = 1,
				   .icv_len = 16 };
	struct xf_suite none = { .cipher = XF_CIPHER_MAX };
	uint8_t raw[40] = { 0 };
	struct xf_key *key = NULL;

	(void)state;
	vault.empty = true;
	assert_int_equal(xf_key_new(&ccm192, NULL, raw, NULL, &key), -ENOMEM);
	vault.empty = false;
	assert_int_equal(xf_key_new(&none, NULL, raw, NULL, &key), -EOPNOTSUPP);
	assert_int_equal(xf_key_new(&ccm192, &xf_provider_ipsec_mb, raw, NULL, &key), -EOPNOTSUPP);
	assert_null(key);
	assert_null(xf_crypto_best(&none));
	assert_ptr_equal(xf_crypto_best(&ccm192), &xf_provider_openssl);
	ccm192.cipher_key_len = 16;
	assert_ptr_equal(xf_crypto_best(&ccm192), xf_provider_ipsec_mb.usable()
							  ? &xf_provider_ipsec_mb
							  : &xf_provider_openssl);
}

static void ivs_of_8_bytes(void **state)
{
	const uint8_t seed[XF_IVGEN_SEED] = { 0x80, 1, 2, 3, 4, 5, 6, 7, 9, 9, 9 };
	struct xf_ivgen gen;
	uint8_t iv[17];

	(void)state;
	assert_int_equal(xf_ivgen_init(&gen, 8, seed), 0);
	assert_null(gen.key);
	memset(iv, 0xee, sizeof(iv));
	xf_ivgen_iv(&gen, 0, iv, 0);
	assert_int_equal(iv[0], 0xee);
	xf_ivgen_iv(&gen, 0, iv, 8);
	assert_memory_equal(iv, seed, 8);
	assert_int_equal(iv[8], 0xee);
	xf_ivgen_iv(&gen, 0x0100000000000001, iv, 8);
	assert_int_equal(iv[0], 0x81);
	assert_int_equal(iv[7], 6);
	xf_ivgen_fini(&gen);
}

static int compare_iv(const void *a, const void *b)
{
	return memcmp(a, b, 16);
}

/* Never twice, and no pattern of the counter shows: each bit is set half of the time. */
static void ivs_of_16_bytes(void **state)
{
	enum { COUNT = 4096 };
	static uint8_t ivs[COUNT][16];
	uint8_t seed[XF_IVGEN_SEED] = { 1, 2, 3 };
	unsigned set[128] = { 0 };
	struct xf_ivgen gen;
	uint8_t other[16];

	(void)state;
	assert_int_equal(xf_ivgen_init(&gen, 16, seed), 0);
	for (unsigned i = 0; i < COUNT; i++) {
		xf_ivgen_iv(&gen, i, ivs[i], 16);
		for (unsigned bit = 0; bit < 128; bit++)
			set[bit] += ivs[i][bit / 8] >> bit % 8 & 1;
	}
	for (unsigned bit = 0; bit < 128; bit++)
		assert_in_range(set[bit], COUNT / 2 - 250, COUNT / 2 + 250);
	xf_ivgen_fini(&gen);
	seed[23] ^= 1;
	assert_int_equal(xf_ivgen_init(&gen, 16, seed), 0);
	xf_ivgen_iv(&gen, 0, other, 16);
	xf_ivgen_fini(&gen);
	assert_memory_not_equal(other, ivs[0], 16);
	qsort(ivs, COUNT, 16, compare_iv);
	for (unsigned i = 1; i < COUNT; i++)
		assert_memory_not_equal(ivs[i - 1], ivs[i], 16);
}

/* From what a generator says of itself another one goes on; no more is said than that takes. */
static void a_seed_gives_the_same_ivs(void **state)
{
	static const uint8_t iv_lens[] = { 0, 8, 16 };
	const uint8_t none[XF_IVGEN_SEED] = { 0 };
	uint8_t seed[XF_IVGEN_SEED], told[XF_IVGEN_SEED], iv[2][16];

	(void)state;
	for (unsigned i = 0; i < sizeof(seed); i++)
		seed[i] = (uint8_t)(200 + i);
	for (unsigned i = 0; i < XF_ARRAY_SIZE(iv_lens); i++) {
		struct xf_ivgen gen, again;

		assert_int_equal(xf_ivgen_init(&gen, iv_lens[i], seed), 0);
		memset(told, 0xee, sizeof(told));
		xf_ivgen_seed(&gen, told);
		assert_int_equal(xf_ivgen_init(&again, iv_lens[i], told), 0);
		memset(iv, 0, sizeof(iv));
		xf_ivgen_iv(&gen, 77, iv[0], iv_lens[i]);
		xf_ivgen_iv(&again, 77, iv[1], iv_lens[i]);
		assert_memory_equal(iv[0], iv[1], 16);
		assert_memory_equal(told, seed, 8);
		assert_memory_equal(told + 8, iv_lens[i] > 8 ? seed + 8 : none, 16);
		xf_ivgen_fini(&gen);
		xf_ivgen_fini(&again);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_are_wiped),
		cmocka_unit_test(raw_bytes_and_salt),
		cmocka_unit_test(no_memory_no_provider),
		cmocka_unit_test(ivs_of_8_bytes),
		cmocka_unit_test(ivs_of_16_bytes),
		cmocka_unit_test(a_seed_gives_the_same_ivs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
