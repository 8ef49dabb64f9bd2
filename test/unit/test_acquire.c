/*
 * net.core.xfrm_acq_expires: what stands there now, as the kernel writes it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include <xf/base.h>

#include <daemon/acquire.h>

static const struct {
	const char *text;
	uint32_t seconds;
} settings[] = {
	{ "30\n", 30 },
	{ "165\n", 165 },
	{ "0\n", 0 },
	{ "2147483647\n", 2147483647 },
	{ "-1\n", UINT32_MAX },
	{ "7\n", 7 },
	{ "", XF_ACQUIRE_LIFETIME_S },
	{ "x\n", XF_ACQUIRE_LIFETIME_S },
};

static void read_again_each_time(void **state)
{
	int fd = memfd_create("setting", 0);

	(void)state;
	assert_true(fd >= 0);
	for (size_t i = 0; i < XF_ARRAY_SIZE(settings); i++) {
		size_t len = strlen(settings[i].text);

		assert_int_equal(ftruncate(fd, 0), 0);
		assert_int_equal(pwrite(fd, settings[i].text, len, 0), len);
		assert_int_equal(xf_acquire_lifetime_s(fd), settings[i].seconds);
		assert_int_equal(xf_acquire_lifetime_s(fd), settings[i].seconds);
	}
	close(fd);
}

static void a_kernel_without_it(void **state)
{
	(void)state;
	assert_int_equal(xf_acquire_lifetime_s(-1), 30);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(read_again_each_time),
		cmocka_unit_test(a_kernel_without_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
