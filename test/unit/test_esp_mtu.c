/*
 * Lengths: the MTU inside an SA against the kernel's figures and against packets really sealed,
 * TFC padding, and the kinds of UDP payload.
 */
#include "esp_util.h"

static struct xf_transform_op op;

/* Length of the outer packet for an inner one of @len bytes; it must come out again unchanged. */
static uint32_t outer_len(struct xf_sa *sa, uint16_t family, uint32_t len)
{
	static uint8_t clear[XF_PKT_MAX];
	struct test_ip ip = { .family = family, .proto = 253 };
	uint32_t hdr_len = packets_ip(clear, &ip, len - (family == XF_AF_INET ? 20 : 40));
	struct xf_pkt *pkt;
	uint32_t outer;

	packets_fill(clear + hdr_len, len - hdr_len);
	pkt = packets_new(esp_pool, (enum shape)packets_below(SHAPE_MAX), clear, len);
	assert_int_equal(esp_seal(sa, pkt, &op), XF_PASS);
	outer = pkt->len;
	assert_int_equal(esp_open(sa, pkt, &op), XF_PASS);
	packets_check(pkt, clear, len);
	xf_pkt_free(pkt);
	packets_unshare();
	return outer;
}

/* The formula of the kernel's xfrm_state_mtu(), worked out by hand for these SAs. */
static void kernel_figures(void **state)
{
	static const struct {
		uint16_t family;
		uint8_t mode;
		const struct xf_suite *suite;
		bool udp;
		uint32_t mtu, inner;
	} rows[] = {
		{ XF_AF_INET, XF_MODE_TUNNEL, &suite_gcm, false, 1500, 1446 },
		{ XF_AF_INET, XF_MODE_TUNNEL, &suite_gcm, true, 1500, 1438 },
		{ XF_AF_INET, XF_MODE_TUNNEL, &suite_cbc, false, 1500, 1438 },
		{ XF_AF_INET, XF_MODE_TUNNEL, &suite_null, false, 1500, 1458 },
		{ XF_AF_INET, XF_MODE_TRANSPORT, &suite_gcm, false, 1500, 1466 },
		{ XF_AF_INET, XF_MODE_TRANSPORT, &suite_cbc, false, 1500, 1458 },
		{ XF_AF_INET6, XF_MODE_TUNNEL, &suite_gcm, false, 1500, 1426 },
		{ XF_AF_INET6, XF_MODE_TUNNEL, &suite_cbc, false, 1500, 1406 },
		{ XF_AF_INET6, XF_MODE_TUNNEL, &suite_gcm, false, 1300, 1280 },
		{ XF_AF_INET6, XF_MODE_TRANSPORT, &suite_gcm, false, 1500, 1466 },
		{ XF_AF_INET, XF_MODE_TUNNEL, &suite_gcm, false, 576, 522 },
		{ XF_AF_INET, XF_MODE_TUNNEL, &suite_gcm, false, 60, 6 },
		{ XF_AF_INET, XF_MODE_TUNNEL, &suite_gcm, false, 56, 2 },
		{ XF_AF_INET, XF_MODE_TUNNEL, &suite_gcm, false, 55, 0 },
		{ XF_AF_INET, XF_MODE_TUNNEL, &suite_gcm, false, 0, 0 },
	};

	(void)state;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(rows); i++) {
		struct xf_sa_config cfg = esp_config(rows[i].family, rows[i].mode, rows[i].suite);
		struct xf_sa *sa;

		cfg.terms.encap.type = rows[i].udp ? 2 : 0;
		sa = esp_sa(&cfg);
		print_message("# row %u\n", i);
		assert_int_equal(xf_esp_inner_mtu(sa, rows[i].mtu, rows[i].family), rows[i].inner);
		/* An IPv6 sender is never told less than 1280, whatever is outside. */
		assert_int_equal(xf_esp_inner_mtu(sa, rows[i].mtu, XF_AF_INET6),
				 rows[i].inner > 1280 ? rows[i].inner : 1280);
		xf_sa_put(sa);
	}
}

/* The largest that fits does fit, one byte more does not; the overhead is never too small. */
static void mtu_is_exact(void **state)
{
	struct xf_suite suites[MAX_SUITES];
	unsigned n = all_suites(suites);

	(void)state;
	for (unsigned i = 0; i < n * 8; i++) {
		uint16_t family = i & 1 ? XF_AF_INET : XF_AF_INET6;
		uint8_t mode = i & 2 ? XF_MODE_TUNNEL : XF_MODE_TRANSPORT;
		struct xf_sa_config cfg = esp_config(family, mode, &suites[i / 8]);
		struct xf_sa *sa;

		cfg.terms.encap.type = i & 4 ? 2 : 0;
		sa = esp_sa(&cfg);
		for (unsigned k = 0; k < 6; k++) {
			/* Beyond all minimums, so that nothing but the size counts. */
			uint32_t mtu = 1500 + packets_below(600);
			uint32_t inner = xf_esp_inner_mtu(sa, mtu, family);

			assert_true(outer_len(sa, family, inner) <= mtu);
			assert_true(outer_len(sa, family, inner + 1) > mtu);
		}
		xf_sa_put(sa);
	}
}

/* TFC padding: up to the configured size, but no further than one packet of the path. */
static void tfc(void **state)
{
	static const struct {
		uint32_t tfc_pad, path_mtu, inner_len, as_if; /* padded like a packet of @as_if */
	} rows[] = {
		{ 0, 0, 100, 100 },	  { 99, 0, 100, 100 },	     { 100, 0, 100, 100 },
		{ 101, 0, 100, 101 },	  { 1000, 0, 100, 1000 },    { 1446, 0, 100, 1446 },
		{ 9000, 0, 100, 1446 },	  { 9000, 0, 1446, 1446 },   { 9000, 0, 1450, 1450 },
		{ 9000, 1000, 100, 946 }, { 9000, 3000, 100, 2946 }, { 9000, 1000, 1200, 1200 },
	};

	(void)state;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(rows) * 2; i++) {
		unsigned row = i / 2;
		struct xf_sa_config cfg = esp_config(
			XF_AF_INET, i & 1 ? XF_MODE_TUNNEL : XF_MODE_TRANSPORT, &suite_gcm);
		struct xf_sa *plain = esp_sa(&cfg), *sa;
		uint32_t as_if = i & 1 ? rows[row].as_if : rows[row].inner_len;

		cfg.terms.tfc_pad = rows[row].tfc_pad;
		sa = esp_sa(&cfg);
		if (rows[row].path_mtu)
			xf_sa_set_route_mtu(sa, rows[row].path_mtu);
		print_message("# row %u\n", row);
		assert_int_equal(outer_len(sa, XF_AF_INET, rows[row].inner_len),
				 outer_len(plain, XF_AF_INET, as_if));
		xf_sa_put(plain);
		xf_sa_put(sa);
	}
}

/* The padding is zeros, then 1, 2, 3: seen through NULL encryption. */
static void tfc_bytes(void **state)
{
	struct xf_sa_config cfg = esp_config(XF_AF_INET, XF_MODE_TUNNEL, &suite_null);
	struct test_ip ip = { .family = XF_AF_INET, .proto = 253 };
	uint8_t clear[60], wire[400];
	struct xf_sa *sa;
	struct xf_pkt *pkt;

	(void)state;
	cfg.terms.tfc_pad = 300;
	sa = esp_sa(&cfg);
	memset(clear, 0xee, sizeof(clear));
	packets_ip(clear, &ip, 40);
	pkt = packets_new(esp_pool, SHAPE_FOREIGN, clear, 60);
	assert_int_equal(esp_seal(sa, pkt, &op), XF_PASS);
	assert_int_equal(pkt->len, 20 + 8 + 304 + 12);
	xf_pkt_copy_out(pkt, 0, wire, pkt->len);
	xf_pkt_free(pkt);
	packets_unshare();
	assert_memory_equal(wire + 28, clear, 60);
	for (uint32_t i = 60; i < 300; i++)
		assert_int_equal(wire[28 + i], 0);
	assert_int_equal(xf_get_be32(wire + 28 + 300), 0x01020204);
	xf_sa_put(sa);
}

static void udp_kinds(void **state)
{
	static const struct {
		uint8_t data[9];
		uint32_t len;
		enum xf_udp_kind kind;
	} rows[] = {
		{ { 0xff }, 1, XF_UDP_KEEPALIVE },
		{ { 0xfe }, 1, XF_UDP_SHORT },
		{ { 0 }, 0, XF_UDP_SHORT },
		{ { 0xff, 0xff }, 2, XF_UDP_SHORT },
		{ { 0, 0, 0 }, 3, XF_UDP_SHORT },
		{ { 0, 0, 0, 0 }, 4, XF_UDP_IKE },
		{ { 0, 0, 0, 0, 1, 2, 3, 4, 5 }, 9, XF_UDP_IKE },
		{ { 0, 0, 0, 1 }, 4, XF_UDP_SHORT },
		{ { 0, 0, 1, 0, 0, 0, 0, 1 }, 8, XF_UDP_SHORT },
		{ { 0, 0, 1, 0, 0, 0, 0, 1, 9 }, 9, XF_UDP_ESP },
		{ { 0xff, 0, 0, 0, 0, 0, 0, 1, 9 }, 9, XF_UDP_ESP },
	};

	(void)state;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(rows); i++) {
		uint8_t *exact = malloc(rows[i].len);

		memcpy(exact, rows[i].data, rows[i].len);
		assert_int_equal(xf_udp_classify(exact, rows[i].len), rows[i].kind);
		free(exact);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(kernel_figures, esp_setup, esp_teardown),
		cmocka_unit_test_setup_teardown(mtu_is_exact, esp_setup, esp_teardown),
		cmocka_unit_test_setup_teardown(tfc, esp_setup, esp_teardown),
		cmocka_unit_test_setup_teardown(tfc_bytes, esp_setup, esp_teardown),
		cmocka_unit_test(udp_kinds),
	};
	int failed;

	xf_read_register();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	xf_read_unregister();
	return failed;
}
