/*
 * twin.h - BPF links at netfilter's hooks for input and forwarding, which drop plaintext that
 * policies refuse also while nftables has no rules.
 *
 * The links are held by this process and go with it: a pinned one would keep its network namespace
 * alive for ever (docs/decisions/0020). While they are there a socket is in a map, by which the
 * programs at devices know that they may sleep. Control thread; functions return 0 or -errno.
 */
#ifndef XF_CAPTURE_TWIN_H
#define XF_CAPTURE_TWIN_H

#include "port/io.h"

enum xf_twin_form {
	XF_TWIN_AUTO, /* both of the following, where they can be had */
	XF_TWIN_NETFILTER, /* at netfilter's hooks (Linux 6.4) */
	XF_TWIN_TC, /* at the ingress of devices */
	XF_TWIN_NONE,
};

/* "netfilter", ...; AUTO is none that is in force. */
const char *xf_twin_name(enum xf_twin_form form);

/* Descriptors of maps that the programs share. */
struct xf_twin_maps {
	int config;
	int kinds;
	int entries;
	int counts;
	int holder;
};

struct xf_twin;

/* Load; the maps stay the caller's. */
int xf_twin_new(const struct xf_twin_maps *maps, struct xf_twin **out);
/* Put the program at the hooks; it is there already: nothing. */
int xf_twin_attach(struct xf_twin *twin);
void xf_twin_free(struct xf_twin *twin); /* NULL is allowed */

#endif
