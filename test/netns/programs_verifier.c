/*
 * What the kernel's verifier has to do for each of the programs: how many instructions it looks at,
 * on all ways through them together. That is what a start of the daemon mostly costs, and beyond a
 * limit of its own a kernel refuses a program. The count is the same on a slow machine and a fast
 * one (docs/decisions/0050).
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>

/* What bpftool writes is not held to our warnings. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#include "egress.skel.h"
#include "twin.skel.h"
#pragma GCC diagnostic pop

#include "host/quiet.h"

/* Kernels take 1,000,000. Without global functions it was up to 700,000. */
#define INSTRUCTIONS_MAX 20000
/* Of the verifier's log: totals, nothing else. */
#define LOG_STATS 4
#define LOG_SIZE 65536
/* Linux's, where the headers of 6.1 do not have them. */
#define PROG_TYPE_NETFILTER 32
#define ATTACH_NETFILTER 45

static unsigned long count_in(const char *log)
{
	const char *at = strstr(log, "processed ");
	unsigned long count = 0;

	assert_non_null(at);
	assert_int_equal(sscanf(at, "processed %lu insns", &count), 1);
	return count;
}

/* Load @name of @obj alone. */
static int load_one(struct bpf_object *obj, const char *name, char *log)
{
	struct bpf_program *wanted = bpf_object__find_program_by_name(obj, name);
	struct bpf_program *prog;

	assert_non_null(wanted);
	bpf_object__for_each_program(prog, obj) bpf_program__set_autoload(prog, prog == wanted);
	bpf_program__set_log_level(wanted, LOG_STATS);
	bpf_program__set_log_buf(wanted, log, LOG_SIZE);
	return bpf_object__load(obj);
}

static void assert_looks_at_few(struct bpf_object *obj, const char *name)
{
	char *log = calloc(1, LOG_SIZE);
	unsigned long count;
	int err;

	assert_non_null(log);
	err = load_one(obj, name, log);
	/* This kernel has no programs of the type: the verifier was not asked. */
	if (err && !log[0])
		skip();
	assert_int_equal(err, 0);
	count = count_in(log);
	print_message("%s: %lu instructions\n", name, count);
	assert_in_range(count, 1, INSTRUCTIONS_MAX);
	free(log);
}

static void programs_at_devices_are_looked_at_quickly(void **unused)
{
	static const char *const names[] = { "xf_egress", "xf_tun", "xf_ingress" };

	(void)unused;
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct egress *bpf = egress__open();

		assert_non_null(bpf);
		assert_looks_at_few(bpf->obj, names[i]);
		egress__destroy(bpf);
	}
}

static int set_netfilter(struct bpf_program *prog)
{
	if (bpf_program__set_type(prog, (enum bpf_prog_type)PROG_TYPE_NETFILTER))
		return -1;
	return bpf_program__set_expected_attach_type(prog, (enum bpf_attach_type)ATTACH_NETFILTER);
}

static void programs_at_netfilters_hooks_are_looked_at_quickly(void **unused)
{
	static const char *const names[] = { "xf_twin", "xf_twin_out" };

	(void)unused;
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct twin *bpf = twin__open();

		assert_non_null(bpf);
		assert_int_equal(set_netfilter(bpf->progs.xf_twin), 0);
		assert_int_equal(set_netfilter(bpf->progs.xf_twin_out), 0);
		assert_looks_at_few(bpf->obj, names[i]);
		twin__destroy(bpf);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(programs_at_devices_are_looked_at_quickly),
		cmocka_unit_test(programs_at_netfilters_hooks_are_looked_at_quickly),
	};

	if (geteuid() != 0) {
		puts("skip: needs root");
		return 77;
	}
	xf_libbpf_quiet();
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
