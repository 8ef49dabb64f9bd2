#include "crypto_util.h"

static void add_aead(struct xf_suite *out, unsigned *n, uint8_t cipher, uint8_t icv_len)
{
	for (uint16_t key_len = 16; key_len <= 32; key_len = (uint16_t)(key_len + 8)) {
		if (cipher == XF_CIPHER_CHACHA20_POLY1305 && key_len != 32)
			continue;
		out[(*n)++] = (struct xf_suite){ .cipher = cipher,
						 .cipher_key_len = key_len,
						 .salt_len = cipher == XF_CIPHER_AES_CCM ? 3 : 4,
						 .iv_len = 8,
						 .block_len = 1,
						 .icv_len = icv_len };
	}
}

static const struct {
	uint8_t auth;
	uint8_t icv_len;
	uint16_t key_len;
} macs[] = {
	{ XF_AUTH_NONE, 0, 0 },		 { XF_AUTH_HMAC_SHA1, 12, 20 },
	{ XF_AUTH_HMAC_SHA1, 20, 0 },	 { XF_AUTH_HMAC_SHA256, 12, 32 },
	{ XF_AUTH_HMAC_SHA256, 16, 64 }, { XF_AUTH_HMAC_SHA256, 32, 65 },
	{ XF_AUTH_HMAC_SHA384, 24, 48 }, { XF_AUTH_HMAC_SHA384, 1, 129 },
	{ XF_AUTH_HMAC_SHA512, 32, 64 }, { XF_AUTH_HMAC_SHA512, 64, 256 },
};

static void add_composed(struct xf_suite *out, unsigned *n, struct xf_suite suite)
{
	for (size_t i = 0; i < XF_ARRAY_SIZE(macs); i++) {
		suite.auth = macs[i].auth;
		suite.icv_len = macs[i].icv_len;
		suite.auth_key_len = macs[i].key_len;
		out[(*n)++] = suite;
	}
}

unsigned all_suites(struct xf_suite *out)
{
	unsigned n = 0;

	for (uint8_t icv_len = 8; icv_len <= 16; icv_len = (uint8_t)(icv_len + 4)) {
		add_aead(out, &n, XF_CIPHER_AES_GCM, icv_len);
		add_aead(out, &n, XF_CIPHER_AES_CCM, icv_len);
	}
	add_aead(out, &n, XF_CIPHER_AES_GMAC, 16);
	add_aead(out, &n, XF_CIPHER_CHACHA20_POLY1305, 16);
	for (uint16_t key_len = 16; key_len <= 32; key_len = (uint16_t)(key_len + 8)) {
		struct xf_suite cbc = { .cipher = XF_CIPHER_AES_CBC,
					.cipher_key_len = key_len,
					.iv_len = 16,
					.block_len = 16 };
		struct xf_suite ctr = { .cipher = XF_CIPHER_AES_CTR,
					.cipher_key_len = key_len,
					.salt_len = 4,
					.iv_len = 8,
					.block_len = 1 };

		add_composed(out, &n, cbc);
		add_composed(out, &n, ctr);
	}
	add_composed(out, &n, (struct xf_suite){ .cipher = XF_CIPHER_NULL, .block_len = 1 });
	return n;
}

uint32_t below(uint32_t n)
{
	return n ? (uint32_t)rand() % n : 0;
}

void fill(void *p, size_t len)
{
	uint8_t *bytes = p;

	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)rand();
}

bool engine_open(struct engine *engine, const struct xf_crypto_provider *provider)
{
	engine->provider = provider;
	engine->ctx = NULL;
	if (!provider->usable()) {
		print_message("# %s cannot run here\n", provider->name);
		return false;
	}
	engine->ctx = provider->ctx_new(provider, NULL);
	assert_non_null(engine->ctx);
	return true;
}

void engine_close(struct engine *engine)
{
	if (engine->ctx)
		engine->provider->ctx_free(engine->ctx);
}

struct xf_key *make_key(const struct xf_suite *suite, const struct xf_crypto_provider *provider,
			unsigned seed)
{
	uint8_t cipher_key[XF_CIPHER_KEY_MAX + XF_SALT_MAX];
	uint8_t auth_key[XF_AUTH_KEY_MAX];
	struct xf_key *key;

	for (size_t i = 0; i < sizeof(cipher_key); i++)
		cipher_key[i] = (uint8_t)(seed * 31 + i * 7);
	for (size_t i = 0; i < sizeof(auth_key); i++)
		auth_key[i] = (uint8_t)(seed * 17 + i * 11);
	assert_int_equal(xf_key_new(suite, provider, cipher_key, auth_key, &key), 0);
	return key;
}

void op_point(struct xf_crypto_op *op)
{
	op->aad = op->aad_mem;
	op->icv = op->icv_mem;
}

void op_init(struct xf_crypto_op *op, const struct xf_key *key, uint32_t len)
{
	const struct xf_suite *suite = &key->suite;

	memset(op, 0, sizeof(*op));
	op->key = key;
	op->len = len;
	op->encrypt = true;
	op_point(op);
	if (xf_suite_is_aead(suite)) {
		op->aad_len = below(2) ? 8 : 12;
		if (suite->cipher == XF_CIPHER_AES_GMAC)
			op->aad_len = (uint8_t)(op->aad_len + 8);
	} else {
		op->aad_len = (uint8_t)(8 + suite->iv_len);
		op->tail_len = below(2) ? 4 : 0;
	}
	fill(op->aad_mem, op->aad_len);
	fill(op->tail, op->tail_len);
	fill(op->nonce, sizeof(op->nonce));
	if (suite->cipher == XF_CIPHER_AES_CTR)
		xf_put_be32(op->nonce + 12, 1);
}

enum xf_crypto_status run_one(struct engine *engine, struct xf_crypto_op *op)
{
	struct xf_crypto_op *done = NULL;

	op->status = 0xff;
	assert_int_equal(engine->provider->submit(engine->ctx, &op, 1), 1);
	while (!engine->provider->complete(engine->ctx, &done, 1))
		;
	assert_ptr_equal(done, op);
	assert_int_equal(engine->provider->complete(engine->ctx, &done, 1), 0);
	return (enum xf_crypto_status)op->status;
}

void chain_make(struct chain *chain, const uint8_t *data, uint32_t len, unsigned max_segs)
{
	unsigned pieces = 1 + below(max_segs);

	chain->n = 0;
	for (unsigned i = 0; i < pieces; i++) {
		uint32_t n = below(3) ? below(len + 1) : below(xf_min_u32(len, 20) + 1);
		struct xf_seg *seg = &chain->segs[chain->n++];

		if (i == pieces - 1)
			n = len;
		*seg = (struct xf_seg){ .data = malloc(n), .len = n };
		memset(seg->data, 0, n);
		if (data) {
			memcpy(seg->data, data, n);
			data += n;
		}
		len -= n;
	}
}

void chain_read(const struct chain *chain, uint8_t *out)
{
	for (unsigned i = 0; i < chain->n; i++) {
		memcpy(out, chain->segs[i].data, chain->segs[i].len);
		out += chain->segs[i].len;
	}
}

void chain_free(struct chain *chain)
{
	for (unsigned i = 0; i < chain->n; i++)
		free(chain->segs[i].data);
	chain->n = 0;
}
