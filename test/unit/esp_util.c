#include "esp_util.h"

const struct xf_suite suite_gcm = { .cipher = XF_CIPHER_AES_GCM,
				    .cipher_key_len = 16,
				    .salt_len = 4,
				    .iv_len = 8,
				    .block_len = 1,
				    .icv_len = 16 };
const struct xf_suite suite_ccm = { .cipher = XF_CIPHER_AES_CCM,
				    .cipher_key_len = 32,
				    .salt_len = 3,
				    .iv_len = 8,
				    .block_len = 1,
				    .icv_len = 8 };
const struct xf_suite suite_gmac = { .cipher = XF_CIPHER_AES_GMAC,
				     .cipher_key_len = 16,
				     .salt_len = 4,
				     .iv_len = 8,
				     .block_len = 1,
				     .icv_len = 16 };
const struct xf_suite suite_cbc = { .cipher = XF_CIPHER_AES_CBC,
				    .auth = XF_AUTH_HMAC_SHA256,
				    .cipher_key_len = 32,
				    .auth_key_len = 32,
				    .iv_len = 16,
				    .block_len = 16,
				    .icv_len = 16 };
const struct xf_suite suite_ctr = { .cipher = XF_CIPHER_AES_CTR,
				    .auth = XF_AUTH_HMAC_SHA1,
				    .cipher_key_len = 16,
				    .auth_key_len = 20,
				    .salt_len = 4,
				    .iv_len = 8,
				    .block_len = 1,
				    .icv_len = 12 };
const struct xf_suite suite_null = {
	.auth = XF_AUTH_HMAC_SHA256, .auth_key_len = 32, .block_len = 1, .icv_len = 12
};

struct xf_sa_config esp_config(uint16_t family, uint8_t mode, const struct xf_suite *suite)
{
	struct xf_sa_config cfg = { .mode = mode,
				    .terms = { .suite = *suite, .replay_window = 64 } };
	bool v4 = family == XF_AF_INET;

	cfg.id.family = family;
	cfg.id.proto = XF_IPPROTO_ESP;
	cfg.id.spi = ESP_SPI;
	/* Transport mode keeps the packet's addresses, which are those of packets_ip(). */
	xf_addr_parse(v4 ? "198.51.100.1" : "2001:db8:a::1", &cfg.saddr);
	xf_addr_parse(v4 ? "198.51.100.2" : "2001:db8:b::2", &cfg.id.daddr);
	cfg.terms.life = (struct xf_lifetime){ .soft_bytes = XF_INF,
					       .hard_bytes = XF_INF,
					       .soft_packets = XF_INF,
					       .hard_packets = XF_INF };
	cfg.terms.pcpu = UINT32_MAX;
	return cfg;
}

/* That the SAs are made for; NULL: none was made yet. */
static struct xf_sad *sad;

struct xf_sa *esp_sa_of(const struct xf_sa_config *cfg, struct xf_key *key, const uint8_t *seed)
{
	static const struct xf_sad_config unlimited;
	struct xf_sa *sa;

	if (!sad)
		sad = xf_sad_new(&unlimited);
	assert_non_null(sad);
	sa = xf_sa_new(sad, cfg, key, XF_SA_VALID, seed, ESP_NOW);
	assert_non_null(sa);
	return sa;
}

struct xf_sa *esp_sa(const struct xf_sa_config *cfg)
{
	uint8_t seed[XF_IVGEN_SEED];

	fill(seed, sizeof(seed));
	return esp_sa_of(cfg, make_key(&cfg->terms.suite, NULL, 5), seed);
}

/* One context for each provider that some suite's key is of. */
static struct engine engines[4];

static struct engine *engine_of(const struct xf_crypto_provider *provider)
{
	struct engine *engine = engines;

	while (engine->provider && engine->provider != provider)
		engine++;
	assert_true(engine < engines + XF_ARRAY_SIZE(engines));
	if (!engine->provider)
		assert_true(engine_open(engine, provider));
	return engine;
}

void esp_crypto(struct xf_transform_op *op)
{
	run_one(engine_of(op->crypto.key->provider), &op->crypto);
}

void esp_crypto_done(void)
{
	xf_sad_free(sad);
	sad = NULL;
	for (size_t i = 0; i < XF_ARRAY_SIZE(engines); i++) {
		engine_close(&engines[i]);
		engines[i] = (struct engine){ .provider = NULL };
	}
}

enum xf_drop esp_seal(struct xf_sa *sa, struct xf_pkt *pkt, struct xf_transform_op *op)
{
	static struct xf_ip_info ip;
	enum xf_drop drop;

	assert_int_equal(xf_ip_parse(pkt, true, &ip), 0);
	drop = xf_esp_out_prepare(sa, pkt, &ip, ESP_NOW, op);
	if (drop != XF_PASS)
		return drop;
	esp_crypto(op);
	return xf_esp_out_finish(op);
}

static uint32_t udp_len(const struct xf_ip_info *ip)
{
	return ip->proto == XF_IPPROTO_UDP ? XF_UDP_HDR_LEN : 0;
}

uint32_t esp_at(const struct xf_ip_info *ip)
{
	return ip->l4_off + udp_len(ip);
}

enum xf_drop esp_open(struct xf_sa *sa, struct xf_pkt *pkt, struct xf_transform_op *op)
{
	static struct xf_ip_info ip; /* op->ip points to it */
	enum xf_drop drop;

	assert_int_equal(xf_ip_parse(pkt, true, &ip), 0);
	drop = xf_esp_in_prepare(sa, pkt, &ip, udp_len(&ip), ESP_NOW, op);
	if (drop != XF_PASS)
		return drop;
	esp_crypto(op);
	return xf_esp_in_finish(op, ESP_NOW);
}

void esp_set_seq(struct xf_sa *sa, uint64_t seq_out, uint64_t seq_in)
{
	struct xf_sa_replay_state state = { .seq_out = seq_out, .seq_in = seq_in };

	if (xf_sa_cfg(sa)->terms->replay_esn_attr)
		state.nwords = (xf_sa_cfg(sa)->terms->replay_window + 31) / 32;
	xf_sa_set_replay_state(sa, &state);
}

/* RFC 4303 s2, with the AAD and nonces of RFC 4106, 4309, 4543, 7634, 3686, 3602. */
static void forge_crypto(struct xf_crypto_op *op, const struct xf_suite *suite, uint64_t seq,
			 bool esn, const uint8_t *iv)
{
	uint8_t spi[4], high[4], low[4];
	bool aead = suite->cipher >= XF_CIPHER_AES_GCM;

	xf_put_be32(spi, ESP_SPI);
	xf_put_be32(high, (uint32_t)(seq >> 32));
	xf_put_be32(low, (uint32_t)seq);
	memcpy(op->aad_mem, spi, 4);
	memcpy(op->aad_mem + 4, aead && esn ? high : low, 4);
	op->aad_len = 8;
	if (aead && esn) {
		memcpy(op->aad_mem + 8, low, 4);
		op->aad_len = 12;
	} else if (esn) {
		memcpy(op->tail, high, 4);
		op->tail_len = 4;
	}
	if (!aead || suite->cipher == XF_CIPHER_AES_GMAC) {
		memcpy(op->aad_mem + op->aad_len, iv, suite->iv_len);
		op->aad_len = (uint8_t)(op->aad_len + suite->iv_len);
	}
	memcpy(op->nonce, xf_key_salt(op->key), suite->salt_len);
	memcpy(op->nonce + suite->salt_len, iv, suite->iv_len);
	if (suite->cipher == XF_CIPHER_AES_CTR)
		op->nonce[15] = 1;
}

uint32_t esp_forge(struct xf_sa *sa, uint64_t seq, const uint8_t *text, uint32_t len, uint8_t *out)
{
	const struct xf_sa_view *cfg = xf_sa_cfg(sa);
	const struct xf_suite *suite = &cfg->terms->suite;
	uint32_t udp = cfg->terms->encap.type ? 8 : 0;
	uint32_t esp_len = 8u + suite->iv_len + len + suite->icv_len;
	struct test_ip ip = { .family = cfg->id.family, .ttl = 9, .proto = udp ? 17 : 50 };
	struct xf_crypto_op op = { .key = xf_sa_key(sa), .len = len, .encrypt = true };
	uint32_t off = packets_ip(out, &ip, udp + esp_len);
	struct xf_seg seg;

	if (udp) {
		xf_put_be16(out + off, 4500);
		xf_put_be16(out + off + 2, 4500);
		xf_put_be16(out + off + 4, (uint16_t)(8 + esp_len));
		xf_put_be16(out + off + 6, 0);
		off += 8;
	}
	xf_put_be32(out + off, ESP_SPI);
	xf_put_be32(out + off + 4, (uint32_t)seq);
	off += 8;
	packets_fill(out + off, suite->iv_len);
	op_point(&op);
	forge_crypto(&op, suite, seq, cfg->flags & XF_SA_ESN, out + off);
	off += suite->iv_len;
	memcpy(out + off, text, len);
	seg = (struct xf_seg){ .data = out + off, .len = len };
	op.src = op.dst = &seg;
	op.nsrc = op.ndst = 1;
	assert_int_equal(run_one(engine_of(op.key->provider), &op), XF_CRYPTO_OK);
	memcpy(out + off + len, op.icv, suite->icv_len);
	return off + len + suite->icv_len;
}

struct xf_pool *esp_pool;

int esp_setup(void **state)
{
	(void)state;
	esp_pool = packets_pool();
	srand(4303);
	return 0;
}

int esp_teardown(void **state)
{
	(void)state;
	esp_crypto_done();
	packets_pool_done(esp_pool);
	xf_rcu_drain();
	return 0;
}
