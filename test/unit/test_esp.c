/*
 * ESP there and back: every suite in every mode and family, with and without ESN and UDP, however
 * the bytes lie in memory. The outer packet is checked against the RFCs, not against the engine.
 */
#include "esp_util.h"

static struct xf_transform_op op;

static const struct combo {
	uint16_t outer, inner;
	uint8_t mode;
} combos[] = {
	{ XF_AF_INET, XF_AF_INET, XF_MODE_TUNNEL },
	{ XF_AF_INET6, XF_AF_INET6, XF_MODE_TUNNEL },
	{ XF_AF_INET6, XF_AF_INET, XF_MODE_TUNNEL },
	{ XF_AF_INET, XF_AF_INET6, XF_MODE_TUNNEL },
	{ XF_AF_INET, XF_AF_INET, XF_MODE_TRANSPORT },
	{ XF_AF_INET6, XF_AF_INET6, XF_MODE_TRANSPORT },
};

struct pair {
	struct xf_sa_config cfg;
	struct xf_sa *out, *in;
	uint16_t inner;
};

static struct pair pair_of(const struct combo *combo, const struct xf_suite *suite, bool esn,
			   bool udp)
{
	struct pair pair = { .cfg = esp_config(combo->outer, combo->mode, suite),
			     .inner = combo->inner };

	if (esn) {
		pair.cfg.flags |= XF_SA_ESN;
		pair.cfg.terms.replay_esn_attr = true;
	}
	if (udp)
		pair.cfg.terms.encap =
			(struct xf_encap){ .type = 2, .sport = 4500, .dport = 14500 };
	pair.out = esp_sa(&pair.cfg);
	pair.in = esp_sa(&pair.cfg);
	return pair;
}

static void pair_put(struct pair *pair)
{
	xf_sa_put(pair->out);
	xf_sa_put(pair->in);
}

/* A packet of @payload_len random bytes behind its IP header. Returns its length. */
static uint32_t clear_packet(uint16_t family, uint32_t payload_len, uint8_t *out)
{
	struct test_ip ip = { .family = family, .proto = 253, .ttl = 61, .tos = 0x28, .id = 9 };
	uint32_t hdr_len = packets_ip(out, &ip, payload_len);

	packets_fill(out + hdr_len, payload_len);
	return hdr_len + payload_len;
}

/* RFC 4303 s2: what stands where, in a packet of which all lengths are known. */
static void check_wire(const struct pair *pair, const uint8_t *wire, uint32_t len,
		       const uint8_t *clear, uint32_t clear_len, uint64_t seq)
{
	const struct xf_suite *suite = &pair->cfg.terms.suite;
	bool tunnel = pair->cfg.mode == XF_MODE_TUNNEL;
	bool v4 = pair->cfg.id.family == XF_AF_INET;
	uint32_t ip_len = v4 ? 20 : 40;
	uint32_t payload = tunnel ? clear_len : clear_len - ip_len;
	uint32_t unit = suite->block_len == 16 ? 16 : 4;
	uint32_t text = (payload + 2 + unit - 1) / unit * unit;
	uint32_t udp = pair->cfg.terms.encap.type ? 8 : 0;
	uint32_t esp = ip_len + udp;

	assert_int_equal(len, esp + 8 + suite->iv_len + text + suite->icv_len);
	assert_int_equal(v4 ? wire[9] : wire[6], udp ? 17 : 50);
	assert_int_equal(xf_get_be16(wire + (v4 ? 2 : 4)), v4 ? len : len - 40);
	if (v4)
		assert_int_equal(xf_csum_fold(xf_csum_add(0, wire, 20)), 0);
	assert_int_equal(xf_get_be32(wire + esp), ESP_SPI);
	assert_int_equal(xf_get_be32(wire + esp + 4), (uint32_t)seq);
	if (udp) {
		assert_int_equal(xf_get_be16(wire + ip_len), 4500);
		assert_int_equal(xf_get_be16(wire + ip_len + 2), 14500);
		assert_int_equal(xf_get_be16(wire + ip_len + 4), len - ip_len);
	}
	if (suite->cipher == XF_CIPHER_NULL || suite->cipher == XF_CIPHER_AES_GMAC) {
		const uint8_t *p = wire + esp + 8 + suite->iv_len;

		assert_memory_equal(p, clear + clear_len - payload, payload);
		for (uint32_t i = 0; i < text - payload - 2; i++)
			assert_int_equal(p[payload + i], i + 1);
		assert_int_equal(p[text - 2], text - payload - 2);
		assert_int_equal(p[text - 1], tunnel ? (pair->inner == XF_AF_INET ? 4 : 41) : 253);
	} else if (payload >= 8) {
		assert_null(memmem(wire, len, clear + clear_len - 8, 8));
	}
}

/* One packet through @pair, in memory of @shape on the way out and on the way in. */
static void there_and_back(struct pair *pair, enum shape shape, uint32_t payload_len, uint64_t seq)
{
	static uint8_t clear[XF_PKT_MAX], wire[XF_PKT_MAX];
	uint32_t len = clear_packet(pair->inner, payload_len, clear);
	struct xf_pkt *pkt = packets_new(esp_pool, shape, clear, len);
	uint32_t wire_len;

	assert_int_equal(esp_seal(pair->out, pkt, &op), XF_PASS);
	assert_ptr_equal(op.pkt, pkt);
	assert_int_equal(pkt->family, pair->cfg.id.family);
	/* In place where the memory is ours alone, else the cipher itself wrote elsewhere. */
	if (shape == SHAPE_OWN || shape == SHAPE_CHAIN)
		assert_ptr_equal(op.crypto.src, op.crypto.dst);
	if (shape == SHAPE_FOREIGN || shape == SHAPE_SHARED ||
	    (shape == SHAPE_LENT && payload_len > 40))
		assert_ptr_not_equal(op.crypto.src, op.crypto.dst);
	wire_len = pkt->len;
	xf_pkt_copy_out(pkt, 0, wire, wire_len);
	xf_pkt_free(pkt);
	packets_unshare();
	check_wire(pair, wire, wire_len, clear, len, seq);

	pkt = packets_new(esp_pool, shape, wire, wire_len);
	assert_int_equal(esp_open(pair->in, pkt, &op), XF_PASS);
	assert_int_equal(pkt->family, pair->inner);
	packets_check(pkt, clear, len);
	assert_int_equal(op.ip->total_len, len);
	assert_int_equal(op.ip->proto, 253);
	xf_pkt_free(pkt);
	packets_unshare();
	packets_pool_check(esp_pool);
}

static void every_suite_and_mode(void **state)
{
	struct xf_suite suites[MAX_SUITES];
	unsigned n = all_suites(suites);
	unsigned cells = 0;

	(void)state;
	for (unsigned i = 0; i < n; i++) {
		for (unsigned k = 0; k < XF_ARRAY_SIZE(combos) * 4; k++) {
			struct pair pair = pair_of(&combos[k / 4], &suites[i], k & 1, (k & 2) != 0);

			if (!(k & 1 && suites[i].auth == XF_AUTH_NONE &&
			      !xf_suite_is_aead(&suites[i])))
				for (unsigned shape = 0; shape < SHAPE_MAX; shape++)
					there_and_back(&pair, shape, 1 + packets_below(300),
						       shape + 1);
			cells++;
			pair_put(&pair);
		}
	}
	print_message("# %u suites, %u cells\n", n, cells);
	assert_true(cells >= 20 * 24);
}

/* Each length up to four blocks and more: the padding of every remainder; then large ones. */
static void every_padding_length(void **state)
{
	static const struct xf_suite *const suites[] = { &suite_null, &suite_gcm, &suite_cbc };
	static const uint32_t large[] = { 1400, 2304, 2305, 9000, 40000, 65000 };

	(void)state;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(suites); i++) {
		for (unsigned k = 0; k < XF_ARRAY_SIZE(combos); k++) {
			struct pair pair = pair_of(&combos[k], suites[i], false, false);
			uint64_t seq = 0;

			for (uint32_t len = 1; len <= 70; len++, seq++)
				there_and_back(&pair, (enum shape)(len % SHAPE_MAX), len, seq + 1);
			for (unsigned j = 0; j < XF_ARRAY_SIZE(large); j++, seq++)
				there_and_back(&pair, (enum shape)(j % SHAPE_MAX), large[j],
					       seq + 1);
			pair_put(&pair);
		}
	}
}

/* The high half is not on the wire but under the ICV, on both sides of the boundary. */
static void esn_boundary(void **state)
{
	struct xf_suite suites[MAX_SUITES];
	unsigned n = all_suites(suites);

	(void)state;
	for (unsigned i = 0; i < n; i++) {
		struct pair pair =
			pair_of(&combos[i % XF_ARRAY_SIZE(combos)], &suites[i], true, false);
		uint64_t top = 0xffffffffull * (1 + i % 3) + i % 3; /* ...fffffffd, …, seen */
		bool mac = xf_suite_is_aead(&suites[i]) || suites[i].auth != XF_AUTH_NONE;

		esp_set_seq(pair.out, top - 3, 0);
		esp_set_seq(pair.in, 0, top - 3);
		for (uint64_t seq = top - 2; seq <= top + 3 && mac; seq++) {
			there_and_back(&pair, (enum shape)(seq % SHAPE_MAX), 100, seq);
			assert_int_equal(op.seq, seq);
		}
		pair_put(&pair);
	}
}

/* A receiver that is 2^32 behind infers another high half; the ICV must tell. */
static void esn_high_half_is_authentic(void **state)
{
	static const struct xf_suite *const suites[] = { &suite_null, &suite_gcm, &suite_cbc,
							 &suite_ctr,  &suite_ccm, &suite_gmac };

	(void)state;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(suites); i++) {
		struct pair pair = pair_of(&combos[0], suites[i], true, false);
		uint8_t clear[200];
		uint32_t len = clear_packet(XF_AF_INET, 100, clear);
		struct xf_pkt *pkt = packets_new(esp_pool, SHAPE_OWN, clear, len);
		struct xf_sa_stats stats;

		esp_set_seq(pair.out, 0x700000000ull, 0);
		assert_int_equal(esp_seal(pair.out, pkt, &op), XF_PASS);
		assert_int_equal(esp_open(pair.in, pkt, &op), XF_DROP_IN_STATE_PROTO);
		xf_sa_get_stats(pair.in, &stats);
		assert_int_equal(stats.integrity_failed, 1);
		xf_pkt_free(pkt);
		pair_put(&pair);
	}
}

/* What another implementation would send is opened, and decrypts to the same. */
static void forged_by_the_rfcs(void **state)
{
	struct xf_suite suites[MAX_SUITES];
	unsigned n = all_suites(suites);
	static uint8_t wire[2000];

	(void)state;
	for (unsigned i = 0; i < n * 4; i++) {
		struct pair pair = pair_of(&combos[i % XF_ARRAY_SIZE(combos)], &suites[i / 4],
					   i & 1, (i & 2) != 0);
		uint8_t text[320];
		bool tunnel = pair.cfg.mode == XF_MODE_TUNNEL;
		uint32_t len = tunnel ? clear_packet(pair.inner, 100, text) : 100;
		uint32_t want = len;
		uint64_t seq = i & 1 ? 0x9abcdef0fffffff0ull + i : 1 + i;
		struct xf_pkt *pkt;
		uint8_t pad = 0;

		esp_set_seq(pair.in, 0, seq - 1);

		if (!tunnel)
			packets_fill(text, len);
		while ((len + 2) % 16)
			text[len++] = ++pad;
		text[len++] = pad;
		text[len++] = tunnel ? (pair.inner == XF_AF_INET ? 4 : 41) : 253;
		len = esp_forge(pair.in, seq, text, len, wire);
		pkt = packets_new(esp_pool, (enum shape)(i % SHAPE_MAX), wire, len);
		assert_int_equal(esp_open(pair.in, pkt, &op), XF_PASS);
		if (!tunnel)
			xf_pkt_trim_front(pkt, pair.inner == XF_AF_INET ? 20 : 40);
		packets_check(pkt, text, want);
		xf_pkt_free(pkt);
		packets_unshare();
		pair_put(&pair);
	}
}

/* IVs are the generator's, each counter value once; two SAs with one key do not share them. */
static void ivs_do_not_repeat(void **state)
{
	static const struct xf_suite *const suites[] = { &suite_gcm, &suite_cbc };

	(void)state;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(suites); i++) {
		struct pair pair = pair_of(&combos[0], suites[i], false, false);
		uint8_t seen[40][16] = { { 0 } };

		for (unsigned k = 0; k < 40; k++) {
			uint8_t clear[100];
			uint32_t len = clear_packet(XF_AF_INET, 50, clear);
			struct xf_pkt *pkt = packets_new(esp_pool, SHAPE_OWN, clear, len);

			assert_int_equal(esp_seal(k & 1 ? pair.in : pair.out, pkt, &op), XF_PASS);
			xf_pkt_copy_out(pkt, 28, seen[k], suites[i]->iv_len);
			for (unsigned j = 0; j < k; j++)
				assert_memory_not_equal(seen[k], seen[j], 8);
			xf_pkt_free(pkt);
		}
		pair_put(&pair);
	}
}

/* Bytes and packets as the kernel counts them: what is protected, without headers or padding. */
static void lifetimes_count_payload(void **state)
{
	(void)state;
	for (unsigned k = 0; k < XF_ARRAY_SIZE(combos); k++) {
		struct pair pair = pair_of(&combos[k], &suite_gcm, false, false);
		uint32_t bytes = 100;
		struct xf_lifetime_now now;

		if (combos[k].mode == XF_MODE_TUNNEL)
			bytes += combos[k].inner == XF_AF_INET ? 20 : 40;
		there_and_back(&pair, SHAPE_OWN, 100, 1);
		there_and_back(&pair, SHAPE_OWN, 100, 2);
		xf_sa_lifetime_now(pair.out, &now);
		assert_int_equal(now.bytes, 2 * bytes);
		assert_int_equal(now.packets, 2);
		xf_sa_lifetime_now(pair.in, &now);
		assert_int_equal(now.bytes, 2 * bytes);
		assert_int_equal(now.packets, 2);
		pair_put(&pair);
	}
}

/* What packets ask stands beside the SA's first configuration: another one counts all the same. */
static void updates_count_for_the_next_packet(void **state)
{
	(void)state;
	for (unsigned k = 0; k < XF_ARRAY_SIZE(combos); k++) {
		struct pair pair = pair_of(&combos[k], &suite_gcm, false, true);
		uint8_t clear[256];
		uint32_t len = clear_packet(pair.inner, 100, clear);
		struct xf_pkt *pkt;

		there_and_back(&pair, SHAPE_OWN, 100, 1);
		pkt = packets_new(esp_pool, SHAPE_OWN, clear, len);
		assert_int_equal(esp_seal(pair.out, pkt, &op), XF_PASS);
		pair.cfg.terms.encap.type = 0;
		assert_int_equal(xf_sa_reconfigure(pair.out, &pair.cfg), 0);
		assert_int_equal(xf_sa_reconfigure(pair.in, &pair.cfg), 0);
		assert_int_equal(esp_open(pair.in, pkt, &op), XF_DROP_IN_STATE_MISMATCH);
		xf_pkt_free(pkt);
		there_and_back(&pair, SHAPE_OWN, 100, 3);
		there_and_back(&pair, SHAPE_CHAIN, 100, 4);
		pair_put(&pair);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(every_suite_and_mode, esp_setup, esp_teardown),
		cmocka_unit_test_setup_teardown(every_padding_length, esp_setup, esp_teardown),
		cmocka_unit_test_setup_teardown(esn_boundary, esp_setup, esp_teardown),
		cmocka_unit_test_setup_teardown(esn_high_half_is_authentic, esp_setup,
						esp_teardown),
		cmocka_unit_test_setup_teardown(forged_by_the_rfcs, esp_setup, esp_teardown),
		cmocka_unit_test_setup_teardown(ivs_do_not_repeat, esp_setup, esp_teardown),
		cmocka_unit_test_setup_teardown(lifetimes_count_payload, esp_setup, esp_teardown),
		cmocka_unit_test_setup_teardown(updates_count_for_the_next_packet, esp_setup,
						esp_teardown),
	};
	int failed;

	xf_read_register();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	xf_read_unregister();
	return failed;
}
