/*
 * The table of transforms: which one an SA has, where an SPI stands, what nobody does; and what a
 * transform makes of a configuration.
 */
#include <errno.h>

#include "esp_util.h"
#include "packets.h"
#include "proto/esp.h"
#include "proto/spi.h"

/* As AH's header, and as IPComp's: two bytes of SPI. */
#define AH_LIKE          \
	{                \
		4, 4, 12 \
	}
#define COMP_LIKE       \
	{               \
		2, 2, 4 \
	}

static bool takes_all(const struct xf_sa_config *cfg)
{
	return cfg->id.proto == XF_IPPROTO_AH || cfg->id.proto == XF_IPPROTO_COMP;
}

static bool takes_one(const struct xf_sa_config *cfg)
{
	return cfg->id.proto == XF_IPPROTO_AH && cfg->reqid == 7;
}

static const struct xf_transform ah = {
	.name = "ah", .protocol = XF_IPPROTO_AH, .spi = AH_LIKE, .takes = takes_all
};
static const struct xf_transform special = {
	.name = "special", .protocol = XF_IPPROTO_AH, .spi = AH_LIKE, .takes = takes_one
};
static const struct xf_transform comp = {
	.name = "comp", .protocol = XF_IPPROTO_COMP, .spi = COMP_LIKE, .takes = takes_one
};
static const struct xf_transform elsewhere = {
	.name = "elsewhere", .protocol = XF_IPPROTO_ESP, .spi = AH_LIKE, .takes = takes_one
};

static const char *name_for(uint8_t proto, uint32_t reqid)
{
	struct xf_sa_config cfg = esp_config(XF_AF_INET, XF_MODE_TUNNEL, &suite_gcm);
	struct xf_sa *sa;
	const char *name;

	cfg.id.proto = proto;
	cfg.reqid = reqid;
	sa = esp_sa(&cfg);
	name = xf_transform_of(sa)->name;
	assert_ptr_equal(xf_transform_of(sa), xf_transforms()[xf_transform_for(&cfg)]);
	xf_sa_put(sa);
	return name;
}

/* The verdicts of an SA of @proto, out and in, of a packet that is as it was. */
static void refuses(uint8_t proto, uint8_t dir, enum xf_drop out, enum xf_drop in)
{
	struct xf_sa_config cfg = esp_config(XF_AF_INET, XF_MODE_TUNNEL, &suite_gcm);
	struct test_ip ip = { .family = XF_AF_INET, .proto = XF_IPPROTO_UDP };
	static struct xf_transform_op op;
	struct xf_transform_op *ops = &op;
	struct xf_ip_info info;
	uint8_t bytes[100] = { 0 };
	struct xf_pkt *pkt;

	cfg.id.proto = proto;
	cfg.dir = dir;
	packets_ip(bytes, &ip, 80);
	pkt = packets_new(esp_pool, SHAPE_OWN, bytes, sizeof(bytes));
	assert_int_equal(xf_ip_parse(pkt, true, &info), 0);
	op.sa = esp_sa(&cfg);
	op.pkt = pkt;
	op.ip = &info;
	xf_transform_of(op.sa)->out_prepare(&ops, 1, ESP_NOW);
	assert_int_equal(op.drop, out);
	xf_transform_of(op.sa)->in_prepare(&ops, 1, ESP_NOW);
	assert_int_equal(op.drop, in);
	packets_check(pkt, bytes, sizeof(bytes));
	xf_pkt_free(pkt);
	xf_sa_put(op.sa);
}

static void an_sa_that_nobody_takes_refuses_all(void **state)
{
	(void)state;
	assert_string_equal(name_for(XF_IPPROTO_ESP, 7), "esp");
	assert_string_equal(name_for(XF_IPPROTO_AH, 7), "none");
	assert_int_equal(xf_spi_places[XF_IPPROTO_AH].len, 0);
	refuses(XF_IPPROTO_AH, 0, XF_DROP_OUT_STATE_PROTO, XF_DROP_IN_STATE_PROTO);
	refuses(XF_IPPROTO_COMP, XF_SA_DIR_IN, XF_DROP_OUT_STATE_DIR, XF_DROP_IN_STATE_PROTO);
	refuses(XF_IPPROTO_AH, XF_SA_DIR_OUT, XF_DROP_OUT_STATE_PROTO, XF_DROP_IN_STATE_DIR);
}

/* Who came last is asked first; what stands does not go. */
static void the_last_one_is_asked_first(void **state)
{
	static const struct xf_spi_place bad[] = {
		{ 0, 0, 8 }, { 0, 3, 8 }, { 5, 4, 12 }, { 4, 4, 7 }, { 4, 4, 13 },
	};

	(void)state;
	assert_int_equal(xf_transform_register(&ah), 0);
	assert_string_equal(name_for(XF_IPPROTO_AH, 7), "ah");
	assert_int_equal(xf_transform_register(&special), 0);
	assert_string_equal(name_for(XF_IPPROTO_AH, 7), "special");
	assert_string_equal(name_for(XF_IPPROTO_AH, 8), "ah");
	assert_string_equal(name_for(XF_IPPROTO_ESP, 7), "esp");
	assert_int_equal(xf_transform_register(&ah), -EEXIST);
	assert_int_equal(xf_transform_register(&xf_transform_esp), -EEXIST);
	assert_int_equal(xf_transform_register(&elsewhere), -EINVAL);
	assert_int_equal(xf_spi_places[XF_IPPROTO_ESP].off, 0);
	assert_int_equal(xf_transform_register(&comp), 0);
	for (unsigned i = 0; i < XF_ARRAY_SIZE(bad); i++) {
		struct xf_transform transform = comp;

		transform.protocol = 200;
		transform.spi = bad[i];
		assert_int_equal(xf_transform_register(&transform), -EINVAL);
	}
}

static void an_spi_is_where_the_protocol_has_it(void **state)
{
	static const struct {
		uint8_t proto;
		uint16_t port;
		uint8_t head[16];
		uint32_t len;
		enum xf_drop drop;
		struct xf_spi spi;
	} rows[] = {
		{ 50, 0, { 1, 2, 3, 4, 0, 0, 0, 9 }, 8, XF_PASS, { 0x01020304, 50, 0 } },
		{ 50, 0, { 1, 2, 3, 4, 0, 0, 0 }, 7, XF_DROP_IN_HDR, { 0 } },
		{ 50, 0, { 0 }, 0, XF_DROP_IN_HDR, { 0 } },
		{ 51, 0, { 4, 4, 0, 0, 1, 2, 3, 5 }, 12, XF_PASS, { 0x01020305, 51, 0 } },
		{ 51, 0, { 4, 4, 0, 0, 1, 2, 3, 5 }, 11, XF_DROP_IN_HDR, { 0 } },
		{ 108, 0, { 4, 0, 0xf0, 1 }, 4, XF_PASS, { 0xf001, 108, 0 } },
		{ 108, 0, { 4, 0, 0xf0 }, 3, XF_DROP_IN_HDR, { 0 } },
		{ 17, 4500, { [8] = 1, 2, 3, 6 }, 16, XF_DROP_IN_HDR, { 0 } },
		{ 17, 4500, { [8] = 0, 0, 0, 0 }, 16, XF_DROP_IN_IKE, { 0 } },
		{ 17, 4500, { [8] = 0xff }, 9, XF_DROP_IN_KEEPALIVE, { 0 } },
		{ 17, 4500, { [8] = 1 }, 9, XF_DROP_IN_HDR, { 0 } },
		{ 17, 4500, { 0 }, 4, XF_DROP_IN_HDR, { 0 } },
		{ 17, 0, { [8] = 1, 2, 3, 6 }, 16, XF_DROP_IN_HDR, { 0 } },
		{ 6, 0, { 1, 2, 3, 4 }, 16, XF_DROP_IN_HDR, { 0 } },
	};

	(void)state;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(rows) * SHAPE_MAX; i++) {
		struct test_ip ip = { .family = XF_AF_INET, .proto = rows[i / SHAPE_MAX].proto };
		struct xf_spi spi = { 0 };
		struct xf_ip_info info;
		uint8_t bytes[64];
		struct xf_pkt *pkt;
		uint32_t len = packets_ip(bytes, &ip, rows[i / SHAPE_MAX].len);

		print_message("# row %u\n", i / SHAPE_MAX);
		memcpy(bytes + len, rows[i / SHAPE_MAX].head, rows[i / SHAPE_MAX].len);
		pkt = packets_new(esp_pool, (enum shape)(i % SHAPE_MAX), bytes,
				  len + rows[i / SHAPE_MAX].len);
		pkt->encap_dport = rows[i / SHAPE_MAX].port;
		assert_int_equal(xf_ip_parse(pkt, true, &info), 0);
		assert_int_equal(xf_spi_find(pkt, &info, &spi), rows[i / SHAPE_MAX].drop);
		assert_int_equal(spi.spi, rows[i / SHAPE_MAX].spi.spi);
		assert_int_equal(spi.proto, rows[i / SHAPE_MAX].spi.proto);
		assert_int_equal(spi.udp_len, rows[i / SHAPE_MAX].spi.udp_len);
		xf_pkt_free(pkt);
		packets_unshare();
	}
	for (unsigned proto = 0; proto < 256; proto++)
		assert_int_equal(xf_spi_is_there((uint8_t)proto),
				 proto == 50 || proto == 51 || proto == 108);
}

static void esp_in_udp_has_its_own_place(void **state)
{
	struct test_ip ip = { .family = XF_AF_INET, .proto = XF_IPPROTO_UDP };
	const uint8_t esp[17] = { [8] = 0x51, 0x52, 0x53, 0x54, 0, 0, 0, 1, 9 };
	struct xf_ip_info info;
	uint8_t bytes[64];
	uint32_t len = packets_ip(bytes, &ip, sizeof(esp));
	struct xf_spi spi = { 0 };
	struct xf_pkt *pkt;

	(void)state;
	memcpy(bytes + len, esp, sizeof(esp));
	pkt = packets_new(esp_pool, SHAPE_OWN, bytes, len + sizeof(esp));
	pkt->encap_dport = 4500;
	assert_int_equal(xf_ip_parse(pkt, true, &info), 0);
	assert_int_equal(xf_spi_find(pkt, &info, &spi), XF_PASS);
	assert_true(spi.spi == ESP_SPI && spi.proto == XF_IPPROTO_ESP && spi.udp_len == 8);
	xf_pkt_free(pkt);
}

/* Behind all others: the table is full from here on. */
static void there_is_an_end(void **state)
{
	static struct xf_transform more[XF_TRANSFORMS_MAX];
	unsigned n = 0;
	int err;

	(void)state;
	do {
		more[n] = comp;
		err = xf_transform_register(&more[n++]);
	} while (!err);
	assert_int_equal(err, -ENOSPC);
	assert_int_equal(n, XF_TRANSFORMS_MAX - 5 + 1);
	assert_ptr_equal(xf_transforms()[XF_TRANSFORMS_MAX - 1], &more[n - 2]);
	assert_null(xf_transforms()[XF_TRANSFORMS_MAX]);
	assert_string_equal(name_for(XF_IPPROTO_ESP, 7), "esp");
}

/* One thing that differs from an IPv4 tunnel with AES-GCM, and which flags say so. */
struct form_case {
	void (*change)(struct xf_sa_config *cfg);
	unsigned what, own;
	uint8_t outer_len, gap_len, align_mask;
};

#define OWN (XF_ESP_TUNNEL | XF_ESP_PLAIN | XF_ESP_ENCAP_DSCP)
#define USUAL_LENGTHS .outer_len = 20, .gap_len = 36, .align_mask = 3

#define CHANGE(name, statement)                    \
	static void name(struct xf_sa_config *cfg) \
	{                                          \
		statement;                         \
	}

CHANGE(no_change, (void)cfg)
CHANGE(to_ipv6, cfg->id.family = XF_AF_INET6)
CHANGE(to_transport, cfg->mode = XF_MODE_TRANSPORT)
CHANGE(to_beet, cfg->mode = XF_MODE_BEET)
CHANGE(to_udp, cfg->terms.encap.type = 2)
CHANGE(to_in, cfg->dir = XF_SA_DIR_IN)
CHANGE(to_out, cfg->dir = XF_SA_DIR_OUT)
CHANGE(to_esn, cfg->flags = XF_SA_ESN)
CHANGE(to_noecn, cfg->flags = XF_SA_NOECN)
CHANGE(to_nopmtudisc, cfg->flags = XF_SA_NOPMTUDISC)
CHANGE(to_decap_dscp, cfg->flags = XF_SA_DECAP_DSCP)
CHANGE(to_dont_encap_dscp, cfg->terms.extra_flags = XF_SA_DONT_ENCAP_DSCP)
CHANGE(to_may_wrap, cfg->terms.extra_flags = XF_SA_OSEQ_MAY_WRAP)
CHANGE(to_selector, cfg->terms.sel.family = XF_AF_INET)
CHANGE(to_soft, cfg->terms.life.soft_bytes = 1)
CHANGE(to_hard, cfg->terms.life.hard_packets = 1)
CHANGE(to_mark, cfg->terms.set_mark.m = 1)
CHANGE(to_tfc, cfg->terms.tfc_pad = 100)
CHANGE(to_gmac, cfg->terms.suite.cipher = XF_CIPHER_AES_GMAC)
CHANGE(to_cbc, cfg->terms.suite = suite_cbc)

static const struct form_case form_cases[] = {
	{ no_change, 0, OWN, USUAL_LENGTHS },
	{ to_ipv6, XF_FORM_IPV6, OWN, 40, 56, 3 },
	{ to_transport, 0, (OWN & ~XF_ESP_TUNNEL) | XF_ESP_TRANSPORT, 0, 16, 3 },
	{ to_beet, 0, OWN & ~XF_ESP_TUNNEL, 0, 16, 3 },
	{ to_udp, XF_FORM_UDP, OWN, 20, 44, 3 },
	{ to_in, XF_FORM_ONLY_IN, OWN, USUAL_LENGTHS },
	{ to_out, XF_FORM_ONLY_OUT, OWN, USUAL_LENGTHS },
	{ to_esn, XF_FORM_ESN | XF_FORM_MAY_WRAP, OWN, USUAL_LENGTHS },
	{ to_noecn, 0, OWN | XF_ESP_NOECN, USUAL_LENGTHS },
	{ to_nopmtudisc, XF_FORM_NOPMTUDISC, OWN, USUAL_LENGTHS },
	{ to_decap_dscp, 0, OWN | XF_ESP_DECAP_DSCP, USUAL_LENGTHS },
	{ to_dont_encap_dscp, 0, OWN & ~XF_ESP_ENCAP_DSCP, USUAL_LENGTHS },
	{ to_may_wrap, XF_FORM_MAY_WRAP, OWN, USUAL_LENGTHS },
	{ to_selector, XF_FORM_SELECTS, OWN, USUAL_LENGTHS },
	{ to_soft, XF_FORM_MORE, OWN, USUAL_LENGTHS },
	{ to_hard, XF_FORM_MORE, OWN, USUAL_LENGTHS },
	{ to_mark, XF_FORM_MORE, OWN, USUAL_LENGTHS },
	{ to_tfc, XF_FORM_MORE, OWN, USUAL_LENGTHS },
	{ to_gmac, 0, OWN & ~XF_ESP_PLAIN, USUAL_LENGTHS },
	{ to_cbc, 0, OWN & ~XF_ESP_PLAIN, 20, 44, 15 },
};

/* The first configuration's form, then that of one that takes its place. */
static void check_form(const struct xf_sa *sa, const struct form_case *want)
{
	const struct xf_sa_form *form = xf_sa_form(sa);

	assert_int_equal(form->what, want->what);
	assert_int_equal(form->own, want->own);
	assert_int_equal(form->outer_len, want->outer_len);
	assert_int_equal(form->gap_len, want->gap_len);
	assert_int_equal(form->align_mask, want->align_mask);
	assert_int_equal(xf_sa_brief(sa).what, want->what);
	assert_int_equal(xf_sa_brief(sa).own, want->own);
	assert_int_equal(xf_sa_brief(sa).icv_len, form->icv_len);
}

static void a_form_says_what_its_configuration_says(void **state)
{
	(void)state;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(form_cases); i++) {
		struct xf_sa_config cfg = esp_config(XF_AF_INET, XF_MODE_TUNNEL, &suite_gcm);
		struct xf_sa *plain = esp_sa_of(&cfg, NULL, NULL), *sa;

		form_cases[i].change(&cfg);
		sa = esp_sa_of(&cfg, NULL, NULL);
		check_form(sa, &form_cases[i]);
		assert_int_equal(xf_sa_reconfigure(plain, &cfg), 0);
		check_form(plain, &form_cases[i]);
		xf_sa_put(sa);
		xf_sa_put(plain);
	}
}

/* No headers and lengths of ESP's: only what any module may ask. */
static void a_form_is_its_transforms(void **state)
{
	struct xf_sa_config cfg = esp_config(XF_AF_INET6, XF_MODE_TUNNEL, &suite_gcm);
	static const struct xf_sa_form other = { .what = XF_FORM_IPV6 | XF_FORM_SELECTS };
	struct xf_sa *sa;

	(void)state;
	cfg.id.proto = XF_IPPROTO_COMP;
	cfg.terms.sel.family = XF_AF_INET6;
	sa = esp_sa_of(&cfg, NULL, NULL);
	assert_string_equal(xf_transform_of(sa)->name, "none");
	assert_memory_equal(xf_sa_form(sa), &other, sizeof(other));
	xf_sa_put(sa);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, esp_setup, esp_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_form_says_what_its_configuration_says),
		TEST(a_form_is_its_transforms),
		TEST(an_sa_that_nobody_takes_refuses_all),
		TEST(the_last_one_is_asked_first),
		TEST(an_spi_is_where_the_protocol_has_it),
		TEST(esp_in_udp_has_its_own_place),
		TEST(there_is_an_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
