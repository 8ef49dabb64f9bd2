/*
 * ctl.h - what the verbs of xfrmctl share: options, the connection to the daemon, output.
 *
 * One thread. A verb returns the exit status.
 */
#ifndef XF_CTL_CTL_H
#define XF_CTL_CTL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define XF_CTL_BAD_INPUT 2

struct xf_ctl_options {
	const char *socket; /* NULL: that of this network namespace */
	const char *config; /* check, and release without a daemon, read it */
	unsigned patience_s; /* for an answer; 0: without end */
	bool json;
	bool keys;
};

/* The verbs, a file each. */
int xf_ctl_status(const struct xf_ctl_options *opt);
int xf_ctl_sa(const struct xf_ctl_options *opt);
int xf_ctl_policy(const struct xf_ctl_options *opt);
int xf_ctl_stats(const struct xf_ctl_options *opt);
int xf_ctl_check(const struct xf_ctl_options *opt);
int xf_ctl_release(const struct xf_ctl_options *opt);

/*
 * Ask the daemon and hand out the "result" of its answer, which the caller puts. @request is
 * taken. 0 or -errno with one sentence on stderr; without one when @quiet: -ECONNREFUSED, nobody
 * listens, and -EPROTO, whoever listened ended without an answer.
 */
int xf_ctl_ask(const struct xf_ctl_options *opt, json_t *request, bool quiet, json_t **result);

/*
 * Ask for @verb page after page; @show gets every element of the list @name. With --json the whole
 * list is printed instead, as one array. The exit status.
 */
int xf_ctl_list(const struct xf_ctl_options *opt, const char *verb, const char *name,
		void (*show)(const json_t *element));

/*
 * The same for programs: @see gets each element, until it returns false. 0 or -errno, as from a
 * quiet xf_ctl_ask().
 */
int xf_ctl_each(const struct xf_ctl_options *opt, const char *verb, const char *name,
		bool (*see)(void *arg, const json_t *element), void *arg);

/* Print as people who said --json want it. */
void xf_ctl_print_json(const json_t *value);

/* A member as text or number; "" or 0 where it is absent. */
const char *xf_ctl_text(const json_t *object, const char *name);
json_int_t xf_ctl_number(const json_t *object, const char *name);

/* The lines that SAs and policies have in common. */
void xf_ctl_show_selector(const char *indent, const json_t *sel);
void xf_ctl_show_lifetime(const json_t *life);
void xf_ctl_show_mark(const char *name, const json_t *mark);

#endif
