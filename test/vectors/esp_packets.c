/*
 * ESP packets as RFCs print them, whole: in through the transform, and, where the IV can be
 * chosen, out again byte for byte. Every provider that has the suite.
 */
#include "../unit/esp_util.h"

static const struct xf_suite cbc = { .cipher = XF_CIPHER_AES_CBC, .iv_len = 16, .block_len = 16 };
static const struct xf_suite gcm = {
	.cipher = XF_CIPHER_AES_GCM, .salt_len = 4, .iv_len = 8, .block_len = 1, .icv_len = 16
};
static const struct xf_suite gmac = {
	.cipher = XF_CIPHER_AES_GMAC, .salt_len = 4, .iv_len = 8, .block_len = 1, .icv_len = 16
};
static const struct xf_suite chacha = { .cipher = XF_CIPHER_CHACHA20_POLY1305,
					.salt_len = 4,
					.iv_len = 8,
					.block_len = 1,
					.icv_len = 16 };

/*
 * @esp from the SPI on. @payload is what is protected: next header 4 in tunnel mode, everything
 * else in transport mode. @outer is printed for RFC 3602 only; the packet inside has its own
 * header in tunnel mode, and that of @outer in transport mode.
 */
static const struct packet {
	const char *name;
	const struct xf_suite *suite;
	const char *key; /* salt last */
	const char *outer;
	const char *esp;
	const char *payload;
	uint8_t next_hdr;
} packets[] = {
	{ .name = "RFC 3602 s4 case 5 (transport)",
	  .suite = &cbc,
	  .key = "90d382b410eeba7ad938c46cec1a82bf",
	  .outer = "4500007c08f200004032f9a5c0a87b03c0a87b64",
	  .esp = "0000432100000001e96e8c08ab465763fd098d45dd3ff893f663c25d325c18c6a9453e194e120849"
		 "a4870b66cc6b9965330013b4898dc856a4699e523a55db080b59ec3a8e4b7e52775b07d1db34ed9c"
		 "538ab50c551b874aa269add047ad2d5913ac19b7cfbad4a6",
	  .payload =
		  "08000ebda70a00008e9c083db95b070008090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
		  "202122232425262728292a2b2c2d2e2f3031323334353637",
	  .next_hdr = 1 },
	{ .name = "RFC 3602 s4 case 7 (tunnel)",
	  .suite = &cbc,
	  .key = "0123456789abcdef0123456789abcdef",
	  .outer = "4500008c090500004032f91ec0a87b03c0a87bc8",
	  .esp = "0000876500000002f4e765244f6407adf13dc1380f673f37773b5241a4c449225e4f3ce5ed611b0c"
		 "237ca96cf74a93013c1b0ea1a0cf70f8e4ecaec78ac53aad7a0f022b859243c647752e94a859352b"
		 "8a4d4d2decd136e5c177f132ad3fbfb2201ac9904c74ee0a109e0ca1e4dfe9d5a100b842f1c22f0d",
	  .payload =
		  "45000054090400004001f988c0a87b03c0a87bc808009f76a90a0100b49c083d02a2040008090a0b"
		  "0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f30313233"
		  "34353637",
	  .next_hdr = 4 },
	{ .name = "mcgrew-packet-128",
	  .suite = &gcm,
	  .key = "feffe9928665731c6d6a8f9467308308cafebabe",
	  .esp = "0000a5f80000000afacedbaddecaf888deb22cd9b07c72c16e3a65beeb8df304a5a5897d33ae530f"
		 "1ba76d5d114d2a5c3de81827c10e9a4f51330d0eec416642cfbb85a5b47e48a4ec3b9ba95d918bd1"
		 "83b70d3aa8bc6ee4c309e9d85a41ad4a",
	  .payload =
		  "4500003e698f000080114dccc0a80102c0a801010a980035002a2343b2d001000001000000000000"
		  "037369700963796265726369747902646b0000010001",
	  .next_hdr = 1 },
	{ .name = "mcgrew-packet-256",
	  .suite = &gcm,
	  .key = "abbccddef00112233445566778899aababbccddef00112233445566778899aab11223344",
	  .esp = "4a2cbfe3000000020102030405060708ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf"
		 "06efae9d65a5d763748a637985771d347f0545659f14e99def842d8eb335f4eecfdbf831824b4c49"
		 "15956c96",
	  .payload =
		  "4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee0000000007002400020bf0000"
		  "020405b401010402",
	  .next_hdr = 1 },
	{ .name = "mcgrew-gmac-packet",
	  .suite = &gmac,
	  .key = "4c80cdefbb5d10da906ac73c3613a63422433c64",
	  .esp = "0000432100000007000000000000000045000030da3a00008001df3bc0a80005c0a800010800c6cd"
		 "020007006162636465666768696a6b6c6d6e6f707172737401020201f2a9a836e155106aa8dcd618"
		 "e4099aaa",
	  .payload =
		  "45000030da3a00008001df3bc0a80005c0a800010800c6cd020007006162636465666768696a6b6c"
		  "6d6e6f7071727374",
	  .next_hdr = 1 },
	{ .name = "rfc7634-a-packet",
	  .suite = &chacha,
	  .key = "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3",
	  .esp = "0102030400000005101112131415161724039428b97f417e3c13753a4f05087b67c352e6a7fab1b9"
		 "82d466ef407ae5c614ee8099d52844eb61aa95dfab4c02f72aa71e7c4c4f64c9befe2facc638e8f3"
		 "cbec163fac469b502773f6fb94e664da9165b82829f641e076aaa8266b7fb0f7b11b369907e1ad43",
	  .payload =
		  "45000054a6f200004001e778c6336405c000020508005b7a3a080000553bec100007362708090a0b"
		  "0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f30313233"
		  "34353637",
	  .next_hdr = 4 },
};

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

struct laid_out {
	struct xf_sa_config cfg;
	uint8_t key[XF_CIPHER_KEY_MAX + XF_SALT_MAX];
	uint8_t wire[400], clear[400];
	uint32_t wire_len, clear_len, esp_off, seq;
};

/* The outer packet, and the one that it must give. */
static void lay_out(const struct packet *p, struct laid_out *l)
{
	bool tunnel = p->next_hdr == 4;
	struct test_ip ip = { .family = XF_AF_INET, .ttl = 64, .proto = 50 };
	struct xf_suite suite = *p->suite;
	uint8_t esp[300];
	uint32_t esp_len = unhex(p->esp, esp), len;

	suite.cipher_key_len = (uint16_t)(unhex(p->key, l->key) - suite.salt_len);
	l->cfg = esp_config(XF_AF_INET, tunnel ? XF_MODE_TUNNEL : XF_MODE_TRANSPORT, &suite);
	l->cfg.id.spi = xf_get_be32(esp);
	l->seq = xf_get_be32(esp + 4);
	packets_ip(l->wire, &ip, esp_len);
	if (p->outer)
		unhex(p->outer, l->wire);
	l->esp_off = 20;
	memcpy(l->wire + 20, esp, esp_len);
	l->wire_len = 20 + esp_len;
	l->clear_len = 0;
	if (!tunnel) {
		memcpy(l->clear, l->wire, 20);
		l->clear_len = 20;
	}
	len = unhex(p->payload, l->clear + l->clear_len);
	l->clear_len += len;
	if (!tunnel) {
		l->clear[9] = p->next_hdr;
		xf_put_be16(l->clear + 2, (uint16_t)l->clear_len);
		xf_ipv4_set_csum(l->clear, 20);
	}
}

static struct xf_sa *new_sa(const struct laid_out *l, const struct xf_crypto_provider *provider)
{
	static const uint8_t seed[XF_IVGEN_SEED];
	struct xf_key *key;

	assert_int_equal(xf_key_new(&l->cfg.terms.suite, provider, l->key, NULL, &key), 0);
	return esp_sa_of(&l->cfg, key, seed);
}

static void check_in(struct xf_sa *sa, const struct laid_out *l, enum shape shape)
{
	struct xf_pkt *pkt = packets_new(pool, shape, l->wire, l->wire_len);

	assert_int_equal(esp_open(sa, pkt, &op), XF_PASS);
	packets_check(pkt, l->clear, l->clear_len);
	xf_pkt_free(pkt);
	packets_unshare();
}

/* The counter that gives the printed IV; 16 byte IVs are made by a cipher and cannot be chosen. */
static void check_out(struct xf_sa *sa, const struct laid_out *l, enum shape shape)
{
	struct xf_pkt *pkt = packets_new(pool, shape, l->clear, l->clear_len);
	uint8_t esp[300];

	esp_set_seq(sa, l->seq - 1, 0);
	sa->ivgen.salt = xf_get_be64(l->wire + l->esp_off + 8) ^ atomic_load(&sa->begun);
	assert_int_equal(esp_seal(sa, pkt, &op), XF_PASS);
	assert_int_equal(pkt->len, l->wire_len);
	xf_pkt_copy_out(pkt, 20, esp, pkt->len - 20);
	assert_memory_equal(esp, l->wire + 20, pkt->len - 20);
	xf_pkt_free(pkt);
	packets_unshare();
}

static void run_packet(const struct packet *p)
{
	unsigned ran = 0;
	struct laid_out l;

	lay_out(p, &l);
	for (const struct xf_crypto_provider *const *provider = xf_crypto_providers(); *provider;
	     provider++) {
		if (!(*provider)->usable() || !(*provider)->has(&l.cfg.terms.suite))
			continue;
		for (unsigned shape = 0; shape < SHAPE_MAX; shape++) {
			struct xf_sa *sa = new_sa(&l, *provider);

			check_in(sa, &l, (enum shape)shape);
			if (l.cfg.terms.suite.iv_len == 8)
				check_out(sa, &l, (enum shape)shape);
			xf_sa_put(sa);
		}
		print_message("# %s: %s\n", p->name, (*provider)->name);
		ran++;
	}
	assert_true(ran > 0);
}

static void printed_packets(void **state)
{
	(void)state;
	pool = packets_pool();
	for (unsigned i = 0; i < XF_ARRAY_SIZE(packets); i++)
		run_packet(&packets[i]);
	esp_crypto_done();
	packets_pool_done(pool);
	xf_rcu_drain();
}

/* RFC 3602 prints the original packet of case 5 too: mended, it must be that one. */
static void mended_header(void **state)
{
	uint8_t want[20];
	struct laid_out l;

	(void)state;
	lay_out(&packets[0], &l);
	unhex("4500005408f200004001f9fec0a87b03c0a87b64", want);
	assert_memory_equal(l.clear, want, 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(printed_packets),
		cmocka_unit_test(mended_header),
	};
	int failed;

	xf_read_register();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	xf_read_unregister();
	return failed;
}
