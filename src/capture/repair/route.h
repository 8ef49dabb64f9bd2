/*
 * route.h - what has the capture bit goes into the TUN: an ip rule, and its table.
 *
 * Control thread. Functions return 0 or -errno with a sentence in @error.
 */
#ifndef XF_CAPTURE_ROUTE_H
#define XF_CAPTURE_ROUTE_H

#include "port/io.h"

/* The TUN must be there. What stands already is no error; routes of others in our table go. */
int xf_capture_route_add(const struct xf_io_names *names, struct xf_io_error *error);

/* Everything that is there goes; what is not there is no error. */
int xf_capture_route_del(const struct xf_io_names *names, struct xf_io_error *error);

/*
 * What an earlier daemon had by the names @former goes, where @now has others, which stand. Its TUN
 * is ours by now (xf_tun_adopt()).
 */
int xf_capture_route_forget(const struct xf_io_names *former, const struct xf_io_names *now,
			    struct xf_io_error *error);

/* Metrics of our two routes: the TUN, and behind it a black hole. */
#define XF_METRIC_TUN 1u
#define XF_METRIC_BLACK_HOLE 0xffffu

#define XF_RULE_NONE UINT32_MAX

/* Each of struct xf_route_seen.strangers begins so many bytes behind the one before. */
#define XF_ROUTE_ALIGN(len) (((size_t)(len) + 7) & ~(size_t)7)

/* What of it stands, in one address family. Priorities are those of the first rule of a kind. */
struct xf_route_seen {
	uint32_t ours; /* XF_RULE_NONE: there is none */
	uint32_t taker; /* may take what is captured to another table */
	uint32_t refuser; /* somebody wants packets to go nowhere */
	bool into_tun;
	bool black_hole;
	/* Routes of others in our table, as the kernel told them, one behind the other. */
	uint8_t *strangers;
	size_t strangers_len;
};

/* @ifindex is the TUN's. *@out is the caller's, also after an error (xf_route_seen_fini()). */
int xf_route_look(const struct xf_io_names *names, uint8_t family, unsigned ifindex,
		  struct xf_route_seen *out);
void xf_route_seen_fini(struct xf_route_seen *seen);

/* Where our rule belongs that is @wanted somewhere, and: does one stand there or before? */
uint32_t xf_route_place(const struct xf_route_seen *seen, uint32_t wanted);
bool xf_route_has_rule(const struct xf_route_seen *seen, uint32_t wanted);

/* All of that, in the families that the host has, into those members of *@out. */
struct xf_capture_seen;
int xf_capture_route_look(const struct xf_io_names *names, unsigned ifindex,
			  struct xf_capture_seen *out);

/* Has this host the address family? Without, there are no rules and routes of it. */
bool xf_capture_has_ipv6(void);

#endif
