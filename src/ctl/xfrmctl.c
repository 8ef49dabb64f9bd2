/*
 * xfrmctl: look at the xfrmd of this network namespace, and take its protection away.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl.h"

static const struct verb {
	const char *name;
	int (*run)(const struct xf_ctl_options *opt);
	const char *help;
} verbs[] = {
	{ "status", xf_ctl_status, "the daemon and what it serves" },
	{ "sa", xf_ctl_sa, "security associations" },
	{ "policy", xf_ctl_policy, "policies" },
	{ "stats", xf_ctl_stats, "counters, named as in /proc/net/xfrm_stat" },
	{ "check", xf_ctl_check, "what on this host keeps traffic from being protected" },
	{ "release", xf_ctl_release,
	  "stop xfrmd and take its protection away: traffic flows in clear" },
	{ NULL, NULL, NULL },
};

static int usage(FILE *to)
{
	fputs("usage: xfrmctl VERB [--json] [--keys] [--socket PATH] [--config FILE]\n", to);
	for (const struct verb *v = verbs; v->name; v++)
		fprintf(to, "  %-8s %s\n", v->name, v->help);
	fputs("  --json         print JSON\n"
	      "  --keys         show keys too (sa)\n"
	      "  --socket PATH  the daemon's control socket, not this network namespace's\n"
	      "  --config FILE  names of what is released when no xfrmd runs (release); looked at "
	      "(check)\n",
	      to);
	return to == stdout ? EXIT_SUCCESS : XF_CTL_BAD_INPUT;
}

static const struct verb *find_verb(const char *name)
{
	for (const struct verb *v = verbs; v->name; v++) {
		if (!strcmp(v->name, name))
			return v;
	}
	return NULL;
}

static int bad(const char *what, const char *arg)
{
	fprintf(stderr, "xfrmctl: %s \"%s\", see xfrmctl --help\n", what, arg);
	return XF_CTL_BAD_INPUT;
}

/* -1: go on; else the exit status. */
static int parse_options(int argc, char **argv, struct xf_ctl_options *opt)
{
	static const struct option longs[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "keys", no_argument, NULL, 'k' },
		{ "socket", required_argument, NULL, 's' },
		{ "config", required_argument, NULL, 'c' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":", longs, NULL)) != -1) {
		if (c == 'j')
			opt->json = true;
		else if (c == 'k')
			opt->keys = true;
		else if (c == 's')
			opt->socket = optarg;
		else if (c == 'c')
			opt->config = optarg;
		else if (c == 'h')
			return usage(stdout);
		else
			return bad(c == ':' ? "a value is missing for" : "there is no option",
				   argv[optind - 1]);
	}
	return -1;
}

int main(int argc, char **argv)
{
	struct xf_ctl_options opt = { .socket = NULL };
	int status = parse_options(argc, argv, &opt);
	const struct verb *verb;

	if (status >= 0)
		return status;
	if (optind == argc)
		return usage(stderr);
	verb = find_verb(argv[optind]);
	if (!verb)
		return bad("there is no verb", argv[optind]);
	if (optind + 1 < argc)
		return bad("one verb at a time, not also", argv[optind + 1]);
	if (opt.keys && verb->run != xf_ctl_sa)
		return bad("--keys goes with sa, not with", verb->name);
	return verb->run(&opt);
}
