/* Which addresses nobody forwards. Broadcast addresses of networks: test/netns/forwarding.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "host/route.h"

static void what_is_for_many(void **state)
{
	static const struct {
		const char *addr;
		bool many;
	} cases[] = {
		{ "223.255.255.255", false },
		{ "224.0.0.0", true },
		{ "239.255.255.255", true },
		{ "240.0.0.1", false },
		{ "255.255.255.254", false },
		{ "255.255.255.255", true },
		{ "127.0.0.1", false },
		{ "ff02::1", true },
		{ "ff0e::101", true },
		{ "fe80::1", false },
		{ "2001:db8::ff", false },
		{ "::1", false },
		{ "::", false },
	};
	struct xf_route *route;

	(void)state;
	assert_int_equal(xf_route_new(&route, NULL), 0);
	for (unsigned i = 0; i < XF_ARRAY_SIZE(cases); i++) {
		union xf_addr addr;
		int family = xf_addr_parse(cases[i].addr, &addr);

		assert_true(family > 0);
		assert_int_equal(xf_route_is_for_many(route, &addr, (uint16_t)family),
				 cases[i].many);
	}
	xf_route_free(route);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_for_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
