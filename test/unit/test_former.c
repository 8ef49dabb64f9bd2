/* By which names an earlier daemon left things: what is written is read, in its namespace alone. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "daemon/journal/former.h"

static const struct xf_io_names names = {
	.tun = "fifteen-letters",
	.mark_capture = 0x80000000,
	.mark_bypass = 1,
	.table = UINT32_MAX,
	.rule_priority = 32765,
};

static char dir[] = "/tmp/xf_former_XXXXXX";
static struct xf_rundir run = { .cookie = 7 };

static int make_dir(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(run.names_path, sizeof(run.names_path), "%s/1.names", dir);
	return 0;
}

static int remove_dir(void **state)
{
	(void)state;
	return rmdir(dir);
}

static void what_is_written_is_read(void **state)
{
	struct xf_former former;

	(void)state;
	assert_int_equal(xf_former_read(&run, &former), -ENOENT);
	assert_int_equal(xf_former_write(&run, &names), 0);
	assert_int_equal(xf_former_read(&run, &former), 0);
	assert_string_equal(former.names.tun, names.tun);
	assert_int_equal(former.names.mark_capture, names.mark_capture);
	assert_int_equal(former.names.mark_bypass, names.mark_bypass);
	assert_int_equal(former.names.table, names.table);
	assert_int_equal(former.names.rule_priority, names.rule_priority);
	run.cookie = 8;
	assert_int_equal(xf_former_read(&run, &former), -ENOENT);
	run.cookie = 7;
	assert_int_equal(truncate(run.names_path, 30), 0);
	assert_int_equal(xf_former_read(&run, &former), -ENOENT);
	xf_former_remove(&run);
	assert_int_equal(xf_former_read(&run, &former), -ENOENT);
}

static void what_cannot_be_written(void **state)
{
	struct xf_rundir nowhere = { .names_path = "/proc/nowhere/1.names" };

	(void)state;
	assert_int_equal(xf_former_write(&nowhere, &names), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_is_read),
		cmocka_unit_test(what_cannot_be_written),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
