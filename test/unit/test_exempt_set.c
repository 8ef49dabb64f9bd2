/* What workers are told to be exempt, against the list itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "capture/exempt_set.h"

#define DEVICES 40
#define ADDRS 40
#define NUMBERS 64 /* of which devices and addresses are drawn */
#define ROUNDS 500

static uint64_t seed = 0x5eed;

static uint32_t draw(uint32_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)((seed >> 20) % below);
}

/* They differ in their first bytes, in their last ones, or both. */
static union xf_addr addr_of(uint32_t number)
{
	union xf_addr addr = { .bytes = { 0xfd, (uint8_t)(number >> 3) } };

	addr.bytes[15] = number & 7;
	return addr;
}

struct list {
	struct xf_exempt exempt;
	struct xf_exempt_device devices[DEVICES];
	union xf_addr addrs[ADDRS];
};

static void draw_list(struct list *list)
{
	list->exempt = (struct xf_exempt){
		.all = draw(4) ? 0 : draw(8),
		.ndevices = draw(3) ? draw(DEVICES) : 0,
		.naddrs = draw(3) ? draw(ADDRS) : 0,
		.devices = list->devices,
		.addrs = list->addrs,
	};
	for (uint32_t i = 0; i < list->exempt.ndevices; i++)
		list->devices[i] = (struct xf_exempt_device){ 1 + draw(NUMBERS), draw(8) };
	for (uint32_t i = 0; i < list->exempt.naddrs; i++)
		list->addrs[i] = addr_of(draw(NUMBERS));
}

static bool has_addr(const struct xf_exempt *exempt, const union xf_addr *addr)
{
	for (uint32_t i = 0; i < exempt->naddrs; i++)
		if (memcmp(&exempt->addrs[i], addr, sizeof(*addr)) == 0)
			return true;
	return false;
}

static void is_what_the_list_has(void **state)
{
	const union xf_addr v4 = { .bytes = { 192, 0, 2, 1 } };
	unsigned none = 0;

	(void)state;
	for (unsigned round = 0; round < ROUNDS; round++) {
		struct xf_exempt_set *set;
		struct list list;
		bool any = false;

		draw_list(&list);
		assert_int_equal(xf_exempt_set_new(&list.exempt, &set), 0);
		for (uint32_t i = 0; i <= NUMBERS; i++) {
			union xf_addr v6 = addr_of(i);
			bool four = xf_exempt_of(&list.exempt, i) & XF_EXEMPT_POLICY4;
			bool six = has_addr(&list.exempt, &v6);

			any |= four || six;
			if (!set)
				continue;
			assert_int_equal(xf_exempt_set_has(set, &v4, XF_AF_INET, i), four);
			assert_int_equal(xf_exempt_set_has(set, &v6, XF_AF_INET6, i), six);
		}
		assert_int_equal(set != NULL, any);
		none += !set;
		xf_exempt_set_free(set);
	}
	assert_in_range(none, 1, ROUNDS / 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(is_what_the_list_has) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
