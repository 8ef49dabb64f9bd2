#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <xf/addr.h>
#include <xf/drop.h>

static union xf_addr addr(const char *text)
{
	union xf_addr a;

	assert_true(xf_addr_parse(text, &a) > 0);
	return a;
}

static void prefixes(void **state)
{
	static const struct {
		const char *a, *b;
		uint8_t bits;
		bool match;
	} cases[] = {
		{ "10.0.0.1", "11.0.0.1", 0, true },   { "10.0.0.1", "11.0.0.1", 7, true },
		{ "10.0.0.1", "11.0.0.1", 8, false },  { "10.1.2.3", "10.1.2.3", 32, true },
		{ "10.1.2.3", "10.1.2.2", 32, false }, { "10.1.2.3", "10.1.2.2", 31, true },
		{ "fd00::1", "fd00::1", 128, true },   { "fd00::1", "fd00::", 128, false },
		{ "fd00::1", "fd00::", 127, true },    { "fd00::1", "fe00::1", 6, true },
		{ "fd00::1", "fe00::1", 7, false },
	};

	(void)state;
	for (size_t i = 0; i < XF_ARRAY_SIZE(cases); i++) {
		union xf_addr a = addr(cases[i].a);
		union xf_addr b = addr(cases[i].b);

		assert_int_equal(xf_addr_prefix_match(&a, &b, cases[i].bits), cases[i].match);
	}
}

static void selectors(void **state)
{
	struct xf_selector sel = { .family = XF_AF_INET,
				   .saddr = addr("10.1.0.0"),
				   .prefixlen_s = 16,
				   .daddr = addr("10.2.0.0"),
				   .prefixlen_d = 16,
				   .proto = XF_IPPROTO_UDP,
				   .dport = 0x1234,
				   .dport_mask = 0xfff0 };
	struct xf_flow flow = { .family = XF_AF_INET,
				.saddr = addr("10.1.9.9"),
				.daddr = addr("10.2.9.9"),
				.proto = XF_IPPROTO_UDP,
				.dport = 0x123f };

	(void)state;
	assert_true(xf_selector_match(&sel, &flow));
	flow.dport = 0x1244;
	assert_false(xf_selector_match(&sel, &flow));
	flow.dport = 0x1230;
	flow.proto = XF_IPPROTO_TCP;
	assert_false(xf_selector_match(&sel, &flow));
	flow.proto = XF_IPPROTO_UDP;
	sel.ifindex = 3;
	assert_true(xf_selector_match(&sel, &flow));
	flow.oif = 4;
	assert_false(xf_selector_match(&sel, &flow));
	flow.oif = 3;
	assert_true(xf_selector_match(&sel, &flow));
	flow.saddr = addr("10.3.0.1");
	assert_false(xf_selector_match(&sel, &flow));
}

static void names(void **state)
{
	(void)state;
	assert_string_equal(xf_drop_name(XF_PASS), "pass");
	assert_string_equal(xf_drop_name(XF_DROP_IN_ERROR), "XfrmInError");
	assert_string_equal(xf_drop_name(XF_DROP_OUT_NO_QUEUE), "XfrmOutNoQueueSpace");
	for (int i = 0; i < XF_DROP_MAX; i++)
		assert_non_null(xf_drop_name((enum xf_drop)i));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(prefixes),
		cmocka_unit_test(selectors),
		cmocka_unit_test(names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
