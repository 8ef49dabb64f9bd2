/*
 * counters.h - what capture counts, and what the kernel counts for it.
 *
 * Counters with a source are those of the nftables table, called so there: frame.c declares them,
 * inspect.c reads them. Threads: the control thread's.
 */
#ifndef XF_CAPTURE_COUNTERS_H
#define XF_CAPTURE_COUNTERS_H

#include <xf/counter.h>

#define XF_CAPTURE_COUNTERS(X, arg)                                                           \
	X(arg, captured, COUNTER, "packets", "marked for the TUN", "captured")                \
	X(arg, plaintext_dropped, COUNTER, "packets",                                         \
	  "that came as plaintext, though a policy wants them protected", "plaintext")        \
	X(arg, blocked_dropped, COUNTER, "packets", "that came, though a policy blocks them", \
	  "blocked")                                                                          \
	X(arg, misrouted_dropped, COUNTER, "packets",                                         \
	  "marked, but about to leave by another device", "misrouted")                        \
	X(arg, nat_dropped, COUNTER, "packets",                                               \
	  "heading for the TUN with a source that the host's NAT gave them", "nat_dropped")   \
	X(arg, conntrack_deleted, COUNTER, "conntrack entries",                               \
	  "deleted because they contradicted the policies")                                   \
	X(arg, backstop_dropped, COUNTER, "packets",                                          \
	  "dropped by the backstop, about to leave in clear")                                 \
	X(arg, backstop_captured, COUNTER, "packets",                                         \
	  "sent to the TUN by the backstop, about to leave in clear")                         \
	X(arg, twin_dropped, COUNTER, "packets", "that came as plaintext, dropped by the twin")

struct xf_capture_counts {
	XF_CAPTURE_COUNTERS(XF_COUNTER_MEMBER, uint64_t)
};
extern const struct xf_counter_group xf_capture_counters;

#endif
