/* From which devices packets go on: as the settings of all devices say, in both families. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "host/forwarding_set.h"

/* A device and its setting; ifindex 0 ends a list. */
struct device {
	uint32_t ifindex;
	bool forwards;
};

#define DEVICES 5

struct settings {
	struct device devices[DEVICES];
	bool new_ones_do;
	bool tun_does;
};

static void see_all(struct xf_forwarding_seen *seen, const struct settings *settings)
{
	for (const struct device *d = settings->devices; d->ifindex; d++)
		assert_int_equal(xf_forwarding_see(seen, d->ifindex, d->forwards), 0);
	seen->new_ones_do = settings->new_ones_do;
	seen->tun_does = settings->tun_does;
	seen->has_tun = true;
}

/* Either family may be NULL: nothing was seen of it. */
static struct xf_forwarding_set *make(const struct settings *four, const struct settings *six)
{
	struct xf_forwarding_seen seen[XF_FORWARDING_FAMILIES] = { { .n = 0 } };
	struct xf_forwarding_set *set;

	if (four)
		see_all(&seen[XF_FORWARDING_4], four);
	if (six)
		see_all(&seen[XF_FORWARDING_6], six);
	set = xf_forwarding_set_new(seen);
	assert_non_null(set);
	for (unsigned i = 0; i < XF_FORWARDING_FAMILIES; i++)
		free(seen[i].devices);
	return set;
}

/* Device 7 is not there yet; the last of them is not known. */
static const uint32_t asked[] = { 1, 2, 3, 7, 0 };

static const struct {
	struct settings settings;
	enum xf_forwarding_how how;
	bool tun;
	bool allows[XF_ARRAY_SIZE(asked)];
} cases[] = {
	/* None does: the kernel refuses by the TUN's own flag, once that is off. */
	{ { { { 1, false }, { 2, false } }, false, false },
	  XF_FORWARDING_KERNEL,
	  false,
	  { true, true, true, true, true } },
	{ { { { 1, false }, { 2, false } }, false, true },
	  XF_FORWARDING_BY_DEVICE,
	  false,
	  { false, false, false, false, false } },
	/* A TUN that is made anew would forward. */
	{ { { { 1, false }, { 2, false } }, true, false },
	  XF_FORWARDING_BY_DEVICE,
	  false,
	  { false, false, false, false, false } },
	/* Some do. */
	{ { { { 1, false }, { 2, true }, { 3, false } }, false, false },
	  XF_FORWARDING_BY_DEVICE,
	  true,
	  { false, true, false, false, false } },
	{ { { { 3, true }, { 2, false }, { 1, true } }, true, true },
	  XF_FORWARDING_BY_DEVICE,
	  true,
	  { true, false, true, false, false } },
	/* All do, but the next one may not. */
	{ { { { 2, true }, { 1, true } }, false, true },
	  XF_FORWARDING_BY_DEVICE,
	  true,
	  { true, true, false, false, false } },
	{ { { { 2, true }, { 1, true } }, true, true },
	  XF_FORWARDING_EVERY,
	  true,
	  { true, true, true, true, true } },
	/* IPv6: one setting for all, no device is looked at. */
	{ { { { 0, false } }, true, false },
	  XF_FORWARDING_EVERY,
	  false,
	  { true, true, true, true, true } },
};

static void each_family_by_its_settings(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2 * XF_ARRAY_SIZE(cases); i++) {
		const struct settings *settings = &cases[i / 2].settings;
		bool six = i % 2;
		uint16_t family = six ? XF_AF_INET6 : XF_AF_INET;
		/* The other family's settings are others. */
		static const struct settings other = { .devices = { { 9, true } } };
		struct xf_forwarding_set *set =
			six ? make(&other, settings) : make(settings, &other);
		const struct xf_forwarding_part *part =
			&set->parts[six ? XF_FORWARDING_6 : XF_FORWARDING_4];

		assert_int_equal(part->how, cases[i / 2].how);
		assert_int_equal(part->tun, cases[i / 2].tun);
		for (unsigned k = 0; k < XF_ARRAY_SIZE(asked); k++)
			assert_int_equal(xf_forwarding_set_allows(set, family, asked[k]),
					 cases[i / 2].allows[k]);
		free(set);
	}
}

/* More than one step of the list's growth, in any order. */
static void many_devices(void **state)
{
	struct xf_forwarding_seen seen[XF_FORWARDING_FAMILIES] = { { .n = 0 } };
	struct xf_forwarding_set *set;

	(void)state;
	for (uint32_t i = 0; i < 1009; i++) {
		uint32_t ifindex = 1 + i * 17 % 1009;

		assert_int_equal(xf_forwarding_see(&seen[XF_FORWARDING_4], ifindex, ifindex % 3),
				 0);
	}
	set = xf_forwarding_set_new(seen);
	assert_non_null(set);
	for (uint32_t ifindex = 1; ifindex <= 1009; ifindex++)
		assert_int_equal(xf_forwarding_set_allows(set, XF_AF_INET, ifindex),
				 ifindex % 3 != 0);
	free(set);
	free(seen[XF_FORWARDING_4].devices);
}

static void equal_when_nothing_changes(void **state)
{
	static const struct settings some = { .devices = {
						      { 1, true }, { 2, true }, { 3, false } } };
	static const struct settings other_order = {
		.devices = { { 2, true }, { 3, false }, { 1, true } }
	};
	static const struct settings others = { .devices = {
							{ 1, true }, { 4, true }, { 3, false } } };
	static const struct settings fewer = { .devices = { { 1, true }, { 3, false } } };
	static const struct settings every = { .devices = { { 1, true } }, .new_ones_do = true };
	static const struct settings none = { .devices = { { 1, false } } };
	static const struct settings not_yet = { .devices = { { 1, false } }, .tun_does = true };
	static const struct {
		const struct settings *a[2];
		const struct settings *b[2];
		bool equal;
	} pairs[] = {
		{ { &some, NULL }, { &some, NULL }, true },
		{ { &some, NULL }, { &other_order, NULL }, true },
		{ { &some, NULL }, { &others, NULL }, false },
		{ { &some, NULL }, { &fewer, NULL }, false },
		{ { &some, NULL }, { NULL, &some }, false },
		{ { &some, &others }, { &some, &some }, false },
		{ { &every, NULL }, { &some, NULL }, false },
		{ { &none, NULL }, { &not_yet, NULL }, false },
		{ { &none, &none }, { &none, NULL }, true },
	};

	(void)state;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(pairs); i++) {
		struct xf_forwarding_set *a = make(pairs[i].a[0], pairs[i].a[1]);
		struct xf_forwarding_set *b = make(pairs[i].b[0], pairs[i].b[1]);

		assert_int_equal(xf_forwarding_set_equal(a, b), pairs[i].equal);
		assert_int_equal(xf_forwarding_set_equal(b, a), pairs[i].equal);
		free(a);
		free(b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_family_by_its_settings),
		cmocka_unit_test(many_devices),
		cmocka_unit_test(equal_when_nothing_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
