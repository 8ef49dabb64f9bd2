#include <errno.h>
#include <grp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "capture/capture.h"
#include "daemon/config.h"
#include "daemon/log.h"
#include "port/packet.h"

/* A directory of its own for each test, with xfrmd.conf in it. */
struct fixture {
	char dir[64];
	char path[128];
	char dropins[128];
	struct xf_config cfg;
	char error[XF_CONFIG_ERROR_MAX];
};

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	strcpy(f->dir, "/tmp/xfrmd-config-XXXXXX");
	if (!mkdtemp(f->dir))
		return -1;
	snprintf(f->path, sizeof(f->path), "%s/xfrmd.conf", f->dir);
	snprintf(f->dropins, sizeof(f->dropins), "%s/conf.d", f->dir);
	xf_config_default(&f->cfg);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", f->dir);
	if (system(command))
		return -1;
	free(f);
	return 0;
}

static int load(struct fixture *f, const char *text)
{
	xf_config_default(&f->cfg);
	f->error[0] = 0;
	write_file(f->path, text);
	return xf_config_load(&f->cfg, f->path, true, f->error);
}

static void a_missing_file_is_as_good_as_an_empty_one(void **state)
{
	struct fixture *f = *state;
	struct xf_config before = f->cfg;

	assert_int_equal(xf_config_load(&f->cfg, f->path, false, f->error), 0);
	assert_memory_equal(&f->cfg, &before, sizeof(before));
	assert_int_equal(load(f, ""), 0);
	assert_memory_equal(&f->cfg, &before, sizeof(before));
}

/* The example says that its values are those that hold without it. */
static void the_example_has_the_defaults(void **state)
{
	struct fixture *f = *state;
	struct xf_config defaults = f->cfg;

	memset(&f->cfg, 0xff, sizeof(f->cfg));
	memset(f->cfg.tun, 0, sizeof(f->cfg.tun));
	memset(f->cfg.bpffs, 0, sizeof(f->cfg.bpffs));
	assert_int_equal(xf_config_load(&f->cfg, XF_TEST_EXAMPLE, true, f->error), 0);
	assert_memory_equal(&f->cfg, &defaults, sizeof(defaults));
}

static void but_not_one_that_was_asked_for(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(xf_config_load(&f->cfg, f->path, true, f->error), -ENOENT);
	assert_non_null(strstr(f->error, f->path));
}

static void every_key_is_read(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(load(f, "# a comment\n"
				 "[daemon]\nworkers = 4\nlog_level = debug\nmax_clients = 7\n"
				 "group = daemon\n"
				 "[engine]\nmax_sas = 10\nmax_policies = 11\n"
				 "acquire_lifetime = 165\nclamp_mss = no\n"
				 "[capture]\nmode = nft\nowner = no\ntun = ipsec0\n"
				 "tcx = no\nbpffs = /run/bpf\n"
				 "mark_capture = 0x100\n"
				 "mark_bypass = 0x200\ntable = 300\nrule_priority = 60\n"
				 "[io]\nreceive_buffer = 4194304\nnative = raw\n"),
			 0);
	assert_int_equal(f->cfg.workers, 4);
	assert_int_equal(f->cfg.log_level, XF_LOG_DEBUG);
	assert_int_equal(f->cfg.max_clients, 7);
	assert_int_equal(f->cfg.group, getgrnam("daemon")->gr_gid);
	assert_int_equal(f->cfg.max_sas, 10);
	assert_int_equal(f->cfg.max_policies, 11);
	assert_int_equal(f->cfg.acquire_lifetime_s, 165);
	assert_false(f->cfg.clamp_mss);
	assert_int_equal(f->cfg.capture_mode, XF_CAPTURE_NFT);
	assert_false(f->cfg.owner);
	assert_false(f->cfg.tcx);
	assert_string_equal(xf_config_names(&f->cfg).bpffs, "/run/bpf");
	assert_string_equal(f->cfg.tun, "ipsec0");
	assert_int_equal(f->cfg.mark_capture, 0x100);
	assert_int_equal(f->cfg.mark_bypass, 0x200);
	assert_int_equal(f->cfg.table, 300);
	assert_int_equal(f->cfg.rule_priority, 60);
	assert_int_equal(f->cfg.rcvbuf_bytes, 4194304);
	assert_int_equal(f->cfg.native, XF_NATIVE_RAW);
	assert_string_equal(xf_config_names(&f->cfg).tun, "ipsec0");
	assert_int_equal(xf_config_names(&f->cfg).table, 300);
}

/* What is wrong is told with the line where it stands. */
static void errors_name_the_line(void **state)
{
	static const struct {
		const char *text;
		const char *want; /* behind the path */
	} cases[] = {
		{ "[daemon]\nworkers = 0\n",
		  ":2: workers must be a number from 1 to 64, not \"0\"" },
		{ "[daemon]\nworkers = 65\n",
		  ":2: workers must be a number from 1 to 64, not \"65\"" },
		{ "[daemon]\n\n\nworkers = -1\n",
		  ":4: workers must be a number from 1 to 64, not \"-1\"" },
		{ "[daemon]\nworkers = 4x\n",
		  ":2: workers must be a number from 1 to 64, not \"4x\"" },
		{ "[daemon]\nworkers =\n", ":2: workers must be a number from 1 to 64, not \"\"" },
		{ "[engine]\nmax_sas = 4294967296\n",
		  ":2: max_sas must be a number from 0 to 4294967295, not \"4294967296\"" },
		{ "[engine]\nmax_sas = 99999999999999999999\n",
		  ":2: max_sas must be a number from 0 to 4294967295, not "
		  "\"99999999999999999999\"" },
		{ "[daemon]\ngroup = no such group\n",
		  ":2: group must be the name of a group, not \"no such group\"" },
		{ "[io]\nnative = fast\n",
		  ":2: native must be one of auto, packet, raw, not \"fast\"" },
		{ "[capture]\nmode = magic\n",
		  ":2: mode must be one of auto, nft, tc, not \"magic\"" },
		{ "[capture]\ntun = a/b\n",
		  ":2: tun must be the name of an interface, not \"a/b\"" },
		{ "[capture]\ntun = tun%d\n",
		  ":2: tun must be the name of an interface, not \"tun%d\"" },
		{ "[capture]\ntun = sixteen-letters1\n",
		  ":2: tun must be the name of an interface, not \"sixteen-letters1\"" },
		{ "[capture]\nmark_bypass = 3\n",
		  ":2: mark_bypass must be one bit like 0x40000000, not \"3\"" },
		{ "[capture]\nmark_bypass = 0\n",
		  ":2: mark_bypass must be one bit like 0x40000000, not \"0\"" },
		{ "[daemon]\nworker = 1\n", ":2: section [daemon] has no key \"worker\"" },
		{ "[nothing]\nworkers = 1\n", ":2: there is no section [nothing]" },
		{ "workers = 1\n", ":1: \"workers\" stands before the first [section]" },
		{ "[daemon]\nworkers\n", ":2: expected \"[section]\" or \"key = value\"" },
		{ "[daemon\nworkers = 1\n", ":1: expected \"[section]\" or \"key = value\"" },
		/* The first of several is told, of whichever kind it is. */
		{ "[daemon]\nworkers = 0\nlog_level = loud\n",
		  ":2: workers must be a number from 1 to 64, not \"0\"" },
		{ "[daemon]\nnonsense\nworkers = 0\n",
		  ":2: expected \"[section]\" or \"key = value\"" },
		{ "[daemon]\nworkers = 0\nnonsense\n",
		  ":2: workers must be a number from 1 to 64, not \"0\"" },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < XF_ARRAY_SIZE(cases); i++) {
		assert_int_equal(load(f, cases[i].text), -EINVAL);
		assert_int_equal(strncmp(f->error, f->path, strlen(f->path)), 0);
		assert_string_equal(f->error + strlen(f->path), cases[i].want);
	}
}

static void the_two_marks_differ(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(load(f, "[capture]\nmark_capture = 0x200\nmark_bypass = 0x200\n"),
			 -EINVAL);
	assert_non_null(strstr(f->error, "different bits"));
}

static void dropins_win_in_the_order_of_their_names(void **state)
{
	struct fixture *f = *state;
	char path[256];

	assert_int_equal(mkdir(f->dropins, 0755), 0);
	snprintf(path, sizeof(path), "%s/20-late.conf", f->dropins);
	write_file(path, "[daemon]\nworkers = 3\n");
	snprintf(path, sizeof(path), "%s/10-early.conf", f->dropins);
	write_file(path, "[daemon]\nworkers = 2\nmax_clients = 5\n");
	snprintf(path, sizeof(path), "%s/30-not.conf.bak", f->dropins);
	write_file(path, "[daemon]\nworkers = 9\n");
	assert_int_equal(load(f, "[daemon]\nworkers = 1\nlog_level = error\n"), 0);
	assert_int_equal(f->cfg.workers, 3);
	assert_int_equal(f->cfg.max_clients, 5);
	assert_int_equal(f->cfg.log_level, XF_LOG_ERROR);
}

static void an_error_in_a_dropin_names_it(void **state)
{
	struct fixture *f = *state;
	char path[256];

	assert_int_equal(mkdir(f->dropins, 0755), 0);
	snprintf(path, sizeof(path), "%s/10.conf", f->dropins);
	write_file(path, "\n[daemon]\nworkers = none\n");
	assert_int_equal(load(f, ""), -EINVAL);
	assert_int_equal(strncmp(f->error, path, strlen(path)), 0);
	assert_int_equal(strncmp(f->error + strlen(path), ":3: ", 4), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_missing_file_is_as_good_as_an_empty_one),
		TEST(the_example_has_the_defaults),
		TEST(but_not_one_that_was_asked_for),
		TEST(every_key_is_read),
		TEST(errors_name_the_line),
		TEST(the_two_marks_differ),
		TEST(dropins_win_in_the_order_of_their_names),
		TEST(an_error_in_a_dropin_names_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
