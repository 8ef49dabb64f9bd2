/*
 * A TUN that is made anew (xf_io_remake_tun()) when the program for marks cannot be had: what a
 * worker read with marks it does not read without. In a network namespace of its own.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>
#include <cmocka.h>

#include "port/tun/meta.h"

#include "io_rig.h"

/* In place of src/port/tun/meta.c. */
static bool refused;

int xf_meta_attach(const struct xf_io_names *names, struct xf_io_error *error)
{
	(void)names;
	return refused ? xf_io_fail(error, -EPERM, "the test says so") : 0;
}

bool xf_meta_is_attached(unsigned ifindex)
{
	(void)ifindex;
	return !refused;
}

struct bed {
	struct xf_engine *engine;
	struct xf_io_shared *shared;
	struct xf_io *io;
};

static void setup(struct bed *bed)
{
	bed->engine = rig_engine();
	bed->shared = rig_shared();
	bed->io = rig_io(bed->engine, bed->shared);
	assert_int_equal(xf_tun_open(&bed->io->cfg.names, true, &bed->io->tun, NULL), 0);
	assert_int_equal(bed->io->tun.marks, !refused);
}

static void teardown(struct bed *bed)
{
	assert_int_equal(xf_tun_remove(bed->io->cfg.names.tun, NULL), 0);
	xf_io_free(bed->io);
	xf_io_shared_free(bed->shared);
	xf_engine_free(bed->engine);
}

/* However often it is tried: else policies with marks would be missed from then on. */
static void one_without_marks_is_refused(void **state)
{
	struct bed bed;

	(void)state;
	setup(&bed);
	for (unsigned i = 0; i < 3; i++) {
		struct xf_io_error error = { .text = "" };

		refused = true;
		assert_int_equal(xf_io_remake_tun(bed.io, &error), -EOPNOTSUPP);
		assert_string_equal(error.text,
				    "the new TUN tells no marks: Operation not supported");
		assert_true(bed.io->tun.marks);
	}
	refused = false;
	assert_int_equal(xf_io_remake_tun(bed.io, NULL), 0);
	assert_true(bed.io->tun.marks);
	teardown(&bed);
}

/* Where there were none from the start, one without is taken, and one with is used. */
static void one_with_marks_is_welcome(void **state)
{
	struct bed bed;

	(void)state;
	refused = true;
	setup(&bed);
	assert_int_equal(xf_io_remake_tun(bed.io, NULL), 0);
	assert_false(bed.io->tun.marks);
	refused = false;
	assert_int_equal(xf_io_remake_tun(bed.io, NULL), 0);
	assert_true(bed.io->tun.marks);
	teardown(&bed);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_without_marks_is_refused),
		cmocka_unit_test(one_with_marks_is_welcome),
	};

	(void)argc;
	rig_enter_namespace(argv[0]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
