/*
 * What a tunnel writes and reads outside of ESP: DSCP, ECN, DF, TTL, id, flow label, UDP; and
 * what transport mode changes in the headers that stay. Expectations are tables.
 */
#include "esp_util.h"

#include "proto/esp.h"

static struct xf_transform_op op;

/* Seal a packet with 100 bytes of payload; the outer one goes to @wire. Returns its length. */
static uint32_t seal(struct xf_sa *sa, const struct test_ip *ip, uint32_t payload_len,
		     uint8_t *wire)
{
	static uint8_t clear[XF_PKT_MAX];
	uint32_t len = packets_ip(clear, ip, payload_len) + payload_len;
	struct xf_pkt *pkt = packets_new(esp_pool, SHAPE_OWN, clear, len);

	assert_int_equal(esp_seal(sa, pkt, &op), XF_PASS);
	len = pkt->len;
	xf_pkt_copy_out(pkt, 0, wire, len);
	xf_pkt_free(pkt);
	return len;
}

static void open_wire(struct xf_sa *sa, const uint8_t *wire, uint32_t len, struct xf_ip_info *info)
{
	struct xf_pkt *pkt = packets_new(esp_pool, SHAPE_MIXED, wire, len);

	assert_int_equal(esp_open(sa, pkt, &op), XF_PASS);
	assert_int_equal(xf_ip_parse(pkt, true, info), 0);
	assert_int_equal(info->total_len, pkt->len);
	assert_memory_equal(info, op.ip, sizeof(*info));
	xf_pkt_free(pkt);
	packets_unshare();
}

static uint8_t wire_tos(const uint8_t *wire)
{
	return wire[0] >> 4 == 4 ? wire[1] : (uint8_t)(xf_get_be32(wire) >> 20);
}

static void set_wire_tos(uint8_t *wire, uint8_t tos)
{
	if (wire[0] >> 4 == 4) {
		wire[1] = tos;
		xf_ipv4_set_csum(wire, 20);
	} else {
		wire[0] = (uint8_t)(0x60 | tos >> 4);
		wire[1] = (uint8_t)(tos << 4 | (wire[1] & 0xf));
	}
}

static const uint16_t families[4][2] = { { XF_AF_INET, XF_AF_INET },
					 { XF_AF_INET6, XF_AF_INET6 },
					 { XF_AF_INET6, XF_AF_INET },
					 { XF_AF_INET, XF_AF_INET6 } };

/* Not-ECT, ECT(1), ECT(0), CE = 0, 1, 2, 3. Outer field that a 6.1 kernel wrote for each. */
static const uint8_t encap_ecn[4] = { 0, 1, 2, 2 };

/* Inner field after decapsulation: [outer][inner], as a 6.1 kernel delivered it. */
static const uint8_t decap_ecn[4][4] = {
	{ 0, 1, 2, 3 },
	{ 0, 1, 2, 3 },
	{ 0, 1, 2, 3 },
	{ 0, 3, 3, 3 },
};

static void dscp_and_ecn_out(void **state)
{
	(void)state;
	for (unsigned row = 0; row < 4 * 4 * 4; row++) {
		const uint16_t *fam = families[row / 16];
		bool no_ecn = row & 4;
		bool no_dscp = row & 8;
		uint8_t ecn = row & 3;
		struct xf_sa_config cfg = esp_config(fam[0], XF_MODE_TUNNEL, &suite_gcm);
		struct test_ip ip = { .family = fam[1], .proto = 253, .tos = 0xb8 | ecn };
		struct xf_sa *sa;
		uint8_t wire[300];

		cfg.flags = no_ecn ? XF_SA_NOECN : 0;
		cfg.terms.extra_flags = no_dscp ? XF_SA_DONT_ENCAP_DSCP : 0;
		sa = esp_sa(&cfg);
		seal(sa, &ip, 100, wire);
		assert_int_equal(wire_tos(wire) & 0xfc, no_dscp ? 0 : 0xb8);
		assert_int_equal(wire_tos(wire) & 3, no_ecn ? 0 : encap_ecn[ecn]);
		xf_sa_put(sa);
	}
}

static void dscp_and_ecn_in(void **state)
{
	(void)state;
	for (unsigned row = 0; row < 4 * 64; row++) {
		const uint16_t *fam = families[row / 64];
		bool no_ecn = row & 16;
		bool decap_dscp = row & 32;
		uint8_t outer = row & 3, inner = (row >> 2) & 3;
		struct xf_sa_config cfg = esp_config(fam[0], XF_MODE_TUNNEL, &suite_cbc);
		struct test_ip ip = {
			.family = fam[1], .proto = 253, .tos = 0x68 | inner, .flow_label = 0x98765
		};
		struct xf_sa *sa_out = esp_sa(&cfg), *sa_in;
		struct xf_ip_info info;
		uint8_t wire[300];
		uint32_t len;

		cfg.flags =
			(uint8_t)((no_ecn ? XF_SA_NOECN : 0) | (decap_dscp ? XF_SA_DECAP_DSCP : 0));
		sa_in = esp_sa(&cfg);
		len = seal(sa_out, &ip, 100, wire);
		set_wire_tos(wire, 0xb8 | outer);
		open_wire(sa_in, wire, len, &info);
		assert_int_equal(info.tos & 0xfc, decap_dscp ? 0xb8 : 0x68);
		assert_int_equal(info.tos & 3, no_ecn ? inner : decap_ecn[outer][inner]);
		if (fam[1] == XF_AF_INET6)
			assert_int_equal(info.flow_label, 0x98765);
		xf_sa_put(sa_out);
		xf_sa_put(sa_in);
	}
}

/* DF of the outer IPv4 header, and its id. */
static void dont_fragment(void **state)
{
	static const struct {
		uint16_t inner;
		bool inner_df;
		uint8_t flags;
		uint32_t payload_len;
		bool df;
	} rows[] = {
		{ XF_AF_INET, false, 0, 100, false },
		{ XF_AF_INET, true, 0, 100, true },
		{ XF_AF_INET, true, XF_SA_NOPMTUDISC, 100, false },
		{ XF_AF_INET, true, 0, 1300, true },
		/* IPv6 knows no cutting on the way; at 1280 its sender cannot go lower. */
		{ XF_AF_INET6, false, 0, 1280 - 40, false },
		{ XF_AF_INET6, false, 0, 1281 - 40, true },
		{ XF_AF_INET6, false, XF_SA_NOPMTUDISC, 1400, false },
	};

	(void)state;
	for (size_t i = 0; i < XF_ARRAY_SIZE(rows); i++) {
		struct xf_sa_config cfg = esp_config(XF_AF_INET, XF_MODE_TUNNEL, &suite_gcm);
		struct test_ip ip = { .family = rows[i].inner,
				      .proto = 253,
				      .df = rows[i].inner_df };
		struct xf_sa *sa;
		uint8_t wire[1600], second[1600];

		cfg.flags = rows[i].flags;
		sa = esp_sa(&cfg);
		seal(sa, &ip, rows[i].payload_len, wire);
		seal(sa, &ip, rows[i].payload_len, second);
		assert_int_equal(xf_get_be16(wire + 6), rows[i].df ? XF_IPV4_DF : 0);
		if (rows[i].df)
			assert_int_equal(xf_get_be16(wire + 4), 0);
		else
			assert_int_not_equal(xf_get_be16(wire + 4), xf_get_be16(second + 4));
		xf_sa_put(sa);
	}
}

/* Addresses, hop limit, flow label: what is the tunnel's and what is the inner packet's. */
static void outer_fields(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		const uint16_t *fam = families[i];
		struct xf_sa_config cfg = esp_config(fam[0], XF_MODE_TUNNEL, &suite_gcm);
		struct test_ip ip = {
			.family = fam[1], .ttl = 7, .proto = 6, .flow_label = 0xfedcb
		};
		struct xf_sa *sa = esp_sa(&cfg);
		struct xf_ip_info outer, inner;
		uint8_t wire[300];
		uint32_t len = seal(sa, &ip, 100, wire);
		struct xf_pkt *pkt = packets_new(esp_pool, SHAPE_OWN, wire, len);

		assert_int_equal(xf_ip_parse(pkt, true, &outer), 0);
		xf_pkt_free(pkt);
		assert_int_equal(outer.family, fam[0]);
		assert_int_equal(outer.ttl, 64);
		assert_int_equal(outer.proto, 50);
		assert_int_equal(outer.total_len, len);
		assert_true(xf_addr_equal(&outer.saddr, &cfg.saddr, fam[0]));
		assert_true(xf_addr_equal(&outer.daddr, &cfg.id.daddr, fam[0]));
		assert_int_equal(outer.flow_label, i == 1 ? 0xfedcb : 0);
		open_wire(sa, wire, len, &inner);
		assert_int_equal(inner.ttl, 7);
		xf_sa_put(sa);
	}
}

/* UDP: no checksum over IPv4, a right one over IPv6 (RFC 3948 s2.1, RFC 8200 s8.1). */
static void udp_checksum(void **state)
{
	(void)state;
	for (unsigned row = 0; row < 4 * 50; row++) {
		bool v4 = row & 1;
		uint8_t mode = row & 2 ? XF_MODE_TUNNEL : XF_MODE_TRANSPORT;
		struct xf_sa_config cfg =
			esp_config(v4 ? XF_AF_INET : XF_AF_INET6, mode, &suite_gcm);
		struct test_ip ip = { .family = cfg.id.family, .proto = 253 };
		struct xf_sa *sa;
		uint8_t wire[400];
		uint32_t off = v4 ? 20 : 40, len;
		union xf_addr a, b;

		cfg.terms.encap = (struct xf_encap){ .type = 2, .sport = 4500, .dport = 40123 };
		sa = esp_sa(&cfg);
		len = seal(sa, &ip, row, wire);
		if (v4) {
			assert_int_equal(xf_get_be16(wire + off + 6), 0);
		} else {
			xf_addr_load(&a, wire + 8, XF_AF_INET6);
			xf_addr_load(&b, wire + 24, XF_AF_INET6);
			assert_int_not_equal(xf_get_be16(wire + off + 6), 0);
			assert_int_equal(xf_csum_fold(xf_csum_add(
						 xf_csum_pseudo(&a, &b, XF_AF_INET6, 17, len - off),
						 wire + off, len - off)),
					 0);
		}
		xf_sa_put(sa);
	}
}

/* A sum that comes out as zero is sent as ffff: zero would mean that there is none. */
static void udp_checksum_is_never_zero(void **state)
{
	struct test_ip ip = { .family = XF_AF_INET6, .proto = 17 };
	uint8_t data[60] = { 0 };
	uint16_t csum[2];

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct xf_pkt *pkt;
		uint8_t scratch[2];

		packets_ip(data, &ip, 20);
		pkt = packets_new(esp_pool, SHAPE_FOREIGN, data, 60);
		assert_int_equal(xf_udp_set_csum6(pkt, 40), 0);
		csum[i] = xf_get_be16(xf_pkt_peek(pkt, 46, 2, scratch));
		xf_pkt_free(pkt);
		packets_unshare();
		xf_put_be16(data + 58, csum[0]); /* now the rest sums up to nothing */
	}
	assert_int_not_equal(csum[0], 0xffff);
	assert_int_equal(csum[1], 0xffff);
}

/* The output mark replaces the bits under its mask, both ways (the kernel's smark). */
static void marks(void **state)
{
	struct xf_sa_config cfg = esp_config(XF_AF_INET, XF_MODE_TUNNEL, &suite_gcm);
	struct test_ip ip = { .family = XF_AF_INET, .proto = 253 };
	uint8_t clear[120];
	struct xf_pkt *pkt;
	struct xf_sa *sa;

	(void)state;
	cfg.terms.set_mark = (struct xf_mark){ .v = 0xffff1234, .m = 0x0000ff0f };
	sa = esp_sa(&cfg);
	memset(clear, 0, sizeof(clear));
	packets_ip(clear, &ip, 100);
	pkt = packets_new(esp_pool, SHAPE_OWN, clear, 120);
	pkt->mark = 0xabcdabcd;
	assert_int_equal(esp_seal(sa, pkt, &op), XF_PASS);
	assert_int_equal(pkt->mark, 0xabcd12c4);
	pkt->mark = 0x55555555;
	assert_int_equal(esp_open(sa, pkt, &op), XF_PASS);
	assert_int_equal(pkt->mark, 0x55551254);
	xf_pkt_free(pkt);
	xf_sa_put(sa);
}

/* Transport mode: build @chain of IPv6 headers (types and lengths), then 40 bytes of UDP. */
struct ext {
	uint8_t type;
	uint8_t len;
};

static uint32_t chain6(uint8_t *out, const struct ext *exts, unsigned n)
{
	struct test_ip ip = { .family = XF_AF_INET6, .ttl = 5, .tos = 0x11, .flow_label = 0x12345 };
	uint32_t off = XF_IPV6_HDR_LEN;

	for (unsigned i = 0; i < n; i++) {
		packets_fill(out + off, exts[i].len);
		out[off] = i + 1 < n ? exts[i + 1].type : XF_IPPROTO_UDP;
		out[off + 1] = (uint8_t)(exts[i].len / 8 - 1);
		off += exts[i].len;
	}
	packets_fill(out + off, 40);
	ip.proto = n ? exts[0].type : XF_IPPROTO_UDP;
	packets_ip(out, &ip, off + 40 - XF_IPV6_HDR_LEN);
	return off + 40;
}

/* Behind a NAT the checksum of the UDP datagram of 40 bytes at @off is left to be completed. */
static void leave_csum6(uint8_t *packet, uint32_t off)
{
	union xf_addr saddr, daddr;
	uint64_t sum;

	xf_addr_load(&saddr, packet + 8, XF_AF_INET6);
	xf_addr_load(&daddr, packet + 24, XF_AF_INET6);
	sum = xf_csum_pseudo(&saddr, &daddr, XF_AF_INET6, XF_IPPROTO_UDP, 40);
	xf_put_be16(packet + off + 6, (uint16_t)~xf_csum_fold(sum));
}

static void transport_behind_extension_headers(void **state)
{
	static const struct {
		struct ext exts[4];
		unsigned n;
		uint32_t esp_off, field;
	} rows[] = {
		{ { { 0, 0 } }, 0, 40, 6 },
		{ { { 0, 8 } }, 1, 48, 40 },
		{ { { 0, 16 }, { 43, 24 } }, 2, 80, 56 },
		{ { { 60, 8 }, { 43, 8 }, { 60, 16 } }, 3, 56, 48 },
		{ { { 0, 8 }, { 60, 248 }, { 43, 8 }, { 60, 8 } }, 4, 304, 296 },
	};

	(void)state;
	for (unsigned row = 0; row < XF_ARRAY_SIZE(rows) * 4 * SHAPE_MAX; row++) {
		unsigned i = row % XF_ARRAY_SIZE(rows);
		bool udp = row / XF_ARRAY_SIZE(rows) % 2;
		bool null = row / XF_ARRAY_SIZE(rows) / 2 % 2;
		enum shape shape = (enum shape)(row / XF_ARRAY_SIZE(rows) / 4);
		struct xf_sa_config cfg =
			esp_config(XF_AF_INET6, XF_MODE_TRANSPORT, null ? &suite_null : &suite_gcm);
		uint8_t clear[500], wire[700];
		uint32_t len = chain6(clear, rows[i].exts, rows[i].n), wire_len;
		struct xf_pkt *pkt = packets_new(esp_pool, shape, clear, len);
		struct xf_sa *sa;
		uint32_t off = rows[i].esp_off;

		if (udp)
			cfg.terms.encap = (struct xf_encap){ .type = 2, .sport = 1, .dport = 2 };
		sa = esp_sa(&cfg);
		assert_int_equal(esp_seal(sa, pkt, &op), XF_PASS);
		wire_len = pkt->len;
		xf_pkt_copy_out(pkt, 0, wire, wire_len);
		xf_pkt_free(pkt);
		packets_unshare();
		assert_int_equal(wire[rows[i].field], udp ? 17 : 50);
		assert_int_equal(xf_get_be16(wire + 4), wire_len - 40);
		assert_int_equal(xf_get_be32(wire + off + (udp ? 8 : 0)), ESP_SPI);
		if (null)
			assert_int_equal(wire[wire_len - 12 - 1], clear[rows[i].field]);
		/* What stands in front is as it was, but for length and next header. */
		wire[rows[i].field] = clear[rows[i].field];
		memcpy(wire + 4, clear + 4, 2);
		assert_memory_equal(wire, clear, off);
		wire[rows[i].field] = udp ? 17 : 50;
		xf_put_be16(wire + 4, (uint16_t)(wire_len - 40));

		pkt = packets_new(esp_pool, shape, wire, wire_len);
		assert_int_equal(esp_open(sa, pkt, &op), XF_PASS);
		assert_int_equal(pkt->csum_start, udp ? len - 40 : 0);
		if (udp)
			leave_csum6(clear, len - 40);
		packets_check(pkt, clear, len);
		xf_pkt_free(pkt);
		packets_unshare();
		xf_sa_put(sa);
	}
}

/* Others may put ESP behind the second options header; then that one is to be mended. */
static void transport_behind_all_options(void **state)
{
	static const struct ext exts[] = { { 43, 8 }, { 60, 16 } };
	static const enum shape shapes[] = { SHAPE_CHAIN, SHAPE_OWN };

	(void)state;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(shapes); i++) {
		struct xf_sa_config cfg = esp_config(XF_AF_INET6, XF_MODE_TRANSPORT, &suite_gcm);
		struct xf_sa *sa = esp_sa(&cfg);
		uint8_t clear[300], text[44], esp[200], wire[300];
		uint32_t len = chain6(clear, exts, 2), esp_len;
		struct xf_pkt *pkt;

		memcpy(text, clear + 64, 40);
		memcpy(text + 40, (const uint8_t[]){ 1, 2, 2, XF_IPPROTO_UDP }, 4);
		esp_len = esp_forge(sa, 1, text, 44, esp) - 40;
		memcpy(wire, clear, 64);
		memcpy(wire + 64, esp + 40, esp_len);
		wire[48] = 50;
		xf_put_be16(wire + 4, (uint16_t)(24 + esp_len));
		pkt = packets_new(esp_pool, shapes[i], wire, 64 + esp_len);
		assert_int_equal(esp_open(sa, pkt, &op), XF_PASS);
		packets_check(pkt, clear, len);
		xf_pkt_free(pkt);
		xf_sa_put(sa);
	}
}

static void transport_behind_ipv4_options(void **state)
{
	struct xf_sa_config cfg = esp_config(XF_AF_INET, XF_MODE_TRANSPORT, &suite_gcm);
	struct xf_sa *sa = esp_sa(&cfg);

	(void)state;
	for (uint32_t i = 0; i < 22; i++) {
		uint32_t hdr_len = 20 + i / 2 * 4; /* up to 60 */
		enum shape shape = i % 2 ? SHAPE_OWN : SHAPE_MIXED;
		struct test_ip ip = { .family = XF_AF_INET, .proto = 6, .df = true, .id = 77 };
		uint8_t clear[200] = { 0 };
		struct xf_pkt *pkt;
		struct xf_ip_info info;

		packets_ip(clear, &ip, hdr_len - 20 + 33);
		memset(clear + 20, 1, 40); /* no-operation options */
		clear[0] = (uint8_t)(0x40 | hdr_len / 4);
		packets_fill(clear + hdr_len, 33);
		xf_ipv4_set_csum(clear, hdr_len);
		pkt = packets_new(esp_pool, shape, clear, hdr_len + 33);
		assert_int_equal(esp_seal(sa, pkt, &op), XF_PASS);
		assert_int_equal(xf_ip_parse(pkt, true, &info), 0);
		assert_int_equal(info.hdr_len, hdr_len);
		assert_int_equal(info.proto, 50);
		assert_int_equal(info.total_len, pkt->len);
		assert_int_equal(info.frag_id, 77);
		assert_true(info.df);
		assert_int_equal(esp_open(sa, pkt, &op), XF_PASS);
		packets_check(pkt, clear, hdr_len + 33);
		xf_pkt_free(pkt);
		packets_unshare();
	}
	xf_sa_put(sa);
}

/* A checksum of the inner packet that was wrong must not come out right (RFC 1624). */
static void tos_change_keeps_a_wrong_checksum_wrong(void **state)
{
	static const uint8_t tail[] = { 1, 2, 2, 4 };
	struct xf_sa_config cfg = esp_config(XF_AF_INET, XF_MODE_TUNNEL, &suite_null);
	struct test_ip ip = { .family = XF_AF_INET, .proto = 253, .tos = 0x68 };
	struct xf_sa *sa;
	uint8_t text[44], wire[200];
	struct xf_pkt *pkt;
	uint32_t len;

	(void)state;
	cfg.flags = XF_SA_DECAP_DSCP;
	sa = esp_sa(&cfg);
	packets_ip(text, &ip, 20);
	text[10] ^= 0xff;
	memcpy(text + 40, tail, sizeof(tail));
	len = esp_forge(sa, 1, text, sizeof(text), wire);
	set_wire_tos(wire, 0xb8);
	pkt = packets_new(esp_pool, SHAPE_OWN, wire, len);
	assert_int_equal(esp_open(sa, pkt, &op), XF_DROP_IN_HDR);
	xf_pkt_free(pkt);
	xf_sa_put(sa);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(dscp_and_ecn_out, esp_setup, esp_teardown),
		cmocka_unit_test_setup_teardown(dscp_and_ecn_in, esp_setup, esp_teardown),
		cmocka_unit_test_setup_teardown(dont_fragment, esp_setup, esp_teardown),
		cmocka_unit_test_setup_teardown(outer_fields, esp_setup, esp_teardown),
		cmocka_unit_test_setup_teardown(udp_checksum, esp_setup, esp_teardown),
		cmocka_unit_test_setup_teardown(udp_checksum_is_never_zero, esp_setup,
						esp_teardown),
		cmocka_unit_test_setup_teardown(transport_behind_all_options, esp_setup,
						esp_teardown),
		cmocka_unit_test_setup_teardown(marks, esp_setup, esp_teardown),
		cmocka_unit_test_setup_teardown(transport_behind_extension_headers, esp_setup,
						esp_teardown),
		cmocka_unit_test_setup_teardown(transport_behind_ipv4_options, esp_setup,
						esp_teardown),
		cmocka_unit_test_setup_teardown(tos_change_keeps_a_wrong_checksum_wrong, esp_setup,
						esp_teardown),
	};
	int failed;

	xf_read_register();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	xf_read_unregister();
	return failed;
}
