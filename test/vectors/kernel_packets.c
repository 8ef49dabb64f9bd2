/*
 * Packets that a Linux kernel sent: they open, and with the same number and IV the transform
 * makes the same packets again, outer headers included. Every provider, memory of every shape.
 *
 *   kernel_packets FILE
 */
#include <xf/gso.h>

#include "../unit/esp_util.h"

#define CASES_MAX 32
#define PACKETS 3

struct kernel_case {
	uint32_t spi;
	char mode[8], cipher[8], auth[8];
	unsigned esn, udp, icv_len;
	uint8_t key[XF_CIPHER_KEY_MAX + XF_SALT_MAX], auth_key[XF_AUTH_KEY_MAX];
	uint16_t key_len, auth_key_len;
	uint8_t wire[PACKETS][200];
	uint32_t len[PACKETS];
	unsigned n;
};

static struct kernel_case cases[CASES_MAX];
static unsigned ncases;
static struct xf_pool *pool;
static struct xf_transform_op op;

static uint32_t unhex(const char *hex, uint8_t *out)
{
	uint32_t n = 0;
	unsigned byte;

	for (; sscanf(hex, "%2x", &byte) == 1; hex += 2)
		out[n++] = (uint8_t)byte;
	return n;
}

static void read_case(const char *line, struct kernel_case *c)
{
	char key[200], auth_key[600];

	assert_int_equal(sscanf(line, "case %u %7s %u %u %7s %7s %u %199s %599s", &c->spi, c->mode,
				&c->esn, &c->udp, c->cipher, c->auth, &c->icv_len, key, auth_key),
			 9);
	c->key_len = (uint16_t)unhex(key, c->key);
	c->auth_key_len = (uint16_t)unhex(auth_key, c->auth_key);
}

static void read_file(const char *path)
{
	static char line[2000];
	FILE *file = fopen(path, "r");

	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		if (strncmp(line, "case ", 5) == 0) {
			assert_true(ncases < CASES_MAX);
			read_case(line, &cases[ncases++]);
		} else if (strncmp(line, "packet ", 7) == 0) {
			struct kernel_case *c = &cases[ncases - 1];

			c->len[c->n] = unhex(line + 7, c->wire[c->n]);
			c->n++;
		}
	}
	fclose(file);
}

static struct xf_suite suite_of(const struct kernel_case *c)
{
	static const struct {
		const char *name;
		struct xf_suite suite;
	} ciphers[] = {
		{ "null", { .cipher = XF_CIPHER_NULL, .block_len = 1 } },
		{ "cbc", { .cipher = XF_CIPHER_AES_CBC, .iv_len = 16, .block_len = 16 } },
		{ "ctr", { .cipher = XF_CIPHER_AES_CTR, .salt_len = 4, .iv_len = 8 } },
		{ "gcm", { .cipher = XF_CIPHER_AES_GCM, .salt_len = 4, .iv_len = 8 } },
		{ "ccm", { .cipher = XF_CIPHER_AES_CCM, .salt_len = 3, .iv_len = 8 } },
		{ "gmac", { .cipher = XF_CIPHER_AES_GMAC, .salt_len = 4, .iv_len = 8 } },
		{ "chacha", { .cipher = XF_CIPHER_CHACHA20_POLY1305, .salt_len = 4, .iv_len = 8 } },
	};
	static const char *const auths[XF_AUTH_MAX] = { "-", "sha1", "sha256", "sha384", "sha512" };
	struct xf_suite suite = { .block_len = 0 };

	for (unsigned i = 0; i < XF_ARRAY_SIZE(ciphers); i++)
		if (strcmp(ciphers[i].name, c->cipher) == 0)
			suite = ciphers[i].suite;
	for (unsigned i = 0; i < XF_AUTH_MAX; i++)
		if (strcmp(auths[i], c->auth) == 0)
			suite.auth = (uint8_t)i;
	suite.block_len = suite.block_len ? suite.block_len : 1;
	suite.cipher_key_len = (uint16_t)(c->key_len - suite.salt_len);
	suite.auth_key_len = c->auth_key_len;
	suite.icv_len = (uint8_t)c->icv_len;
	return suite;
}

static struct xf_sa_config config_of(const struct kernel_case *c, const struct xf_suite *suite)
{
	bool v4 = c->wire[0][0] >> 4 == 4;
	struct xf_sa_config cfg =
		esp_config(v4 ? XF_AF_INET : XF_AF_INET6,
			   c->mode[0] == 't' ? XF_MODE_TRANSPORT : XF_MODE_TUNNEL, suite);

	cfg.id.spi = c->spi;
	xf_addr_load(&cfg.saddr, c->wire[0] + (v4 ? 12 : 8), cfg.id.family);
	xf_addr_load(&cfg.id.daddr, c->wire[0] + (v4 ? 16 : 24), cfg.id.family);
	if (c->udp)
		cfg.terms.encap = (struct xf_encap){ .type = 2, .sport = 4500, .dport = 4501 };
	if (c->esn) {
		cfg.flags = XF_SA_ESN;
		cfg.terms.replay_esn_attr = true;
	}
	return cfg;
}

static struct xf_sa *new_sa(const struct kernel_case *c, const struct xf_crypto_provider *provider)
{
	static const uint8_t seed[XF_IVGEN_SEED];
	struct xf_suite suite = suite_of(c);
	struct xf_sa_config cfg = config_of(c, &suite);
	uint64_t before = c->esn ? 0x2fffffffeull : 0;
	struct xf_key *key;
	struct xf_sa *sa;

	assert_int_equal(xf_key_new(&suite, provider, c->key, c->auth_key, &key), 0);
	sa = esp_sa_of(&cfg, key, seed);
	esp_set_seq(sa, before, before);
	return sa;
}

/* The text inside, and a UDP checksum that the kernel left right. */
static void check_inside(const struct kernel_case *c, unsigned i, const struct xf_pkt *pkt)
{
	uint8_t clear[200];
	char want[40];
	uint32_t off = op.ip->l4_off;
	int n = snprintf(want, sizeof(want), "case %u packet %u", c->spi, i);
	uint64_t sum = xf_csum_pseudo(&op.ip->saddr, &op.ip->daddr, op.ip->family, XF_IPPROTO_UDP,
				      pkt->len - off);

	xf_pkt_copy_out(pkt, 0, clear, pkt->len);
	assert_int_equal(op.ip->proto, XF_IPPROTO_UDP);
	assert_int_equal(pkt->len, off + 8 + (uint32_t)n);
	assert_memory_equal(clear + off + 8, want, (size_t)n);
	assert_int_equal(xf_csum_fold(xf_csum_add(sum, clear + off, pkt->len - off)), 0);
}

/*
 * The kernel's IPv4 ids are its own, and it sets DF over small IPv6 packets, too (tunnel.c says
 * why we do not): those fields and the checksum over them may differ in a tunnel.
 */
static void mask_outer(const struct kernel_case *c, uint8_t *wire)
{
	if (wire[0] >> 4 != 4 || c->mode[0] == 't')
		return;
	memset(wire + 4, 0, strcmp(c->mode, "6in4") == 0 ? 4 : 2);
	memset(wire + 10, 0, 2);
}

static void check_again(struct xf_sa *sa, const struct kernel_case *c, unsigned i,
			struct xf_pkt *pkt)
{
	uint8_t want[200], got[200];
	uint32_t esp = (c->wire[i][0] >> 4 == 4 ? 20u : 40u) + (c->udp ? 8u : 0u);

	memcpy(want, c->wire[i], c->len[i]);
	sa->ivgen.salt = xf_get_be64(want + esp + 8) ^ atomic_load(&sa->begun);
	assert_int_equal(esp_seal(sa, pkt, &op), XF_PASS);
	assert_int_equal(pkt->len, c->len[i]);
	xf_pkt_copy_out(pkt, 0, got, pkt->len);
	mask_outer(c, want);
	mask_outer(c, got);
	assert_memory_equal(got, want, pkt->len);
}

static void run_case(const struct kernel_case *c, const struct xf_crypto_provider *provider,
		     enum shape shape)
{
	struct xf_sa *out = new_sa(c, provider), *in = new_sa(c, provider);

	for (unsigned i = 0; i < PACKETS; i++) {
		struct xf_pkt *pkt = packets_new(pool, shape, c->wire[i], c->len[i]);

		assert_int_equal(esp_open(in, pkt, &op), XF_PASS);
		/* Transport mode in UDP leaves it to be completed: there may be NAT in between. */
		if (pkt->csum_start)
			assert_int_equal(xf_gso_complete_csum(pkt), 0);
		check_inside(c, i, pkt);
		if (xf_sa_key(in)->suite.iv_len <= 8)
			check_again(out, c, i, pkt);
		xf_pkt_free(pkt);
		packets_unshare();
	}
	xf_sa_put(out);
	xf_sa_put(in);
}

static void kernel_packets(void **state)
{
	unsigned ran = 0;

	(void)state;
	pool = packets_pool();
	for (unsigned i = 0; i < ncases; i++) {
		struct xf_suite suite = suite_of(&cases[i]);
		const struct xf_crypto_provider *const *provider = xf_crypto_providers();

		assert_int_equal(cases[i].n, PACKETS);
		for (; *provider; provider++) {
			if (!(*provider)->usable() || !(*provider)->has(&suite))
				continue;
			for (unsigned shape = 0; shape < SHAPE_MAX; shape++)
				run_case(&cases[i], *provider, (enum shape)shape);
			ran++;
		}
	}
	print_message("# %u cases, %u with a provider\n", ncases, ran);
	assert_true(ncases > 0 && ran >= ncases);
	esp_crypto_done();
	packets_pool_done(pool);
	xf_rcu_drain();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(kernel_packets) };
	int failed;

	if (argc != 2)
		return 2;
	read_file(argv[1]);
	xf_read_register();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	xf_read_unregister();
	return failed;
}
