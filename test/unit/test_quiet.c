/* libbpf prints nothing, until who printed before is put back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "host/quiet.h"

static unsigned printed;

static int count(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	(void)level;
	(void)fmt;
	(void)ap;
	printed++;
	return 0;
}

/* libbpf says so. */
static void open_nothing(void)
{
	assert_int_not_equal(libbpf_get_error(bpf_object__open("/nowhere/at/all")), 0);
}

static void until_it_is_put_back(void **state)
{
	libbpf_print_fn_t before;

	(void)state;
	libbpf_set_print(count);
	open_nothing();
	assert_int_not_equal(printed, 0);
	printed = 0;
	before = xf_libbpf_quiet();
	open_nothing();
	assert_int_equal(printed, 0);
	libbpf_set_print(before);
	open_nothing();
	assert_int_not_equal(printed, 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = { cmocka_unit_test(until_it_is_put_back) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
