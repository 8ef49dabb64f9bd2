/*
 * xfrmctl release: ask the daemon, or take the protection away without one.
 *
 * A daemon that starts holds the lock long before it can be asked, and one that ends holds it
 * longer. So without an answer the lock decides: who has it takes the protection away, and no
 * daemon starts meanwhile; else the daemon is asked again, until it answers or gives the lock up.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "capture/capture.h"
#include "ctl.h"
#include "daemon/config.h"
#include "daemon/journal/former.h"
#include "daemon/journal/journal_file.h"
#include "daemon/loop.h"
#include "daemon/journal/rundir.h"

#define TRY_EVERY_US 20000
/* A start with a million policies takes a few seconds. */
#define GIVE_UP_NS (60 * XF_NSEC_PER_SEC)

static int take_away(const struct xf_ctl_options *opt, const struct xf_rundir *run)
{
	char text[XF_CONFIG_ERROR_MAX];
	struct xf_io_error error = { .text = "" };
	struct xf_io_names names;
	struct xf_former former;
	struct xf_config cfg;
	int err = 0;

	xf_config_default(&cfg);
	if (xf_config_load(&cfg, opt->config ? opt->config : XF_CONFIG_PATH, opt->config != NULL,
			   text)) {
		fprintf(stderr, "xfrmctl: %s\n", text);
		return XF_CTL_BAD_INPUT;
	}
	names = xf_config_names(&cfg);
	/* The configuration may be a newer one. */
	if (xf_former_read(run, &former) == 0)
		err = xf_capture_release(&former.names, &error);
	if (!err)
		err = xf_capture_release(&names, &error);
	if (err) {
		fprintf(stderr, "xfrmctl: protection could not be taken away: %s\n", error.text);
		return EXIT_FAILURE;
	}
	xf_journal_remove_files(run->policies_path);
	xf_former_remove(run);
	return EXIT_SUCCESS;
}

/* The exit status; -EBUSY: a daemon has the lock, and nothing was taken away. */
static int release_alone(const struct xf_ctl_options *opt)
{
	struct xf_rundir run;
	int err = xf_rundir_open(&run, XF_RUN_DIR);
	int status;

	if (err == -EBUSY)
		return err;
	if (err) {
		fprintf(stderr, "xfrmctl: %s: %s\n", XF_RUN_DIR, strerror(-err));
		return EXIT_FAILURE;
	}
	status = take_away(opt, &run);
	xf_rundir_close(&run);
	return status;
}

static int release(const struct xf_ctl_options *opt)
{
	uint64_t give_up_ns = xf_clock_ns() + GIVE_UP_NS;

	for (;;) {
		json_t *result = NULL;
		int err = xf_ctl_ask(opt, json_pack("{s:s}", "verb", "release"), true, &result);
		int status = err ? EXIT_FAILURE : EXIT_SUCCESS;

		json_decref(result);
		if (err == -ECONNREFUSED || err == -EPROTO)
			status = release_alone(opt);
		if (status != -EBUSY)
			return status;
		if (xf_clock_ns() > give_up_ns)
			break;
		usleep(TRY_EVERY_US);
	}
	fputs("xfrmctl: an xfrmd that starts or ends does not answer: nothing was taken away\n",
	      stderr);
	return EXIT_FAILURE;
}

int xf_ctl_release(const struct xf_ctl_options *opt)
{
	int status = release(opt);

	if (status == EXIT_SUCCESS && opt->json)
		xf_ctl_print_json(json_object());
	else if (status == EXIT_SUCCESS)
		puts("released: traffic flows in clear");
	return status;
}
