#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "ctl.h"
#include "daemon/config.h"
#include "capture/capture.h"

/* Protection outlives the daemon, so it must be possible to take it away without one. */
static int release_alone(const struct xf_ctl_options *opt)
{
	char text[XF_CONFIG_ERROR_MAX];
	struct xf_io_error error = { .text = "" };
	struct xf_io_names names;
	struct xf_config cfg;

	xf_config_default(&cfg);
	if (xf_config_load(&cfg, opt->config ? opt->config : XF_CONFIG_PATH, opt->config != NULL,
			   text)) {
		fprintf(stderr, "xfrmctl: %s\n", text);
		return XF_CTL_BAD_INPUT;
	}
	names = xf_config_names(&cfg);
	if (xf_capture_release(&names, &error)) {
		fprintf(stderr, "xfrmctl: protection could not be taken away: %s\n", error.text);
		return EXIT_FAILURE;
	}
	return EXIT_SUCCESS;
}

int xf_ctl_release(const struct xf_ctl_options *opt)
{
	json_t *result = NULL;
	int err = xf_ctl_ask(opt, json_pack("{s:s}", "verb", "release"), true, &result);
	int status = err ? EXIT_FAILURE : EXIT_SUCCESS;

	if (err == -ECONNREFUSED)
		status = release_alone(opt);
	if (status == EXIT_SUCCESS && opt->json)
		xf_ctl_print_json(json_object());
	else if (status == EXIT_SUCCESS)
		puts("released: traffic flows in clear");
	json_decref(result);
	return status;
}
