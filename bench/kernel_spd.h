/*
 * kernel_spd.h - the host kernel's own policy lookup, for a comparison.
 *
 * Two network namespaces with a veth pair each, one with policies and one without: what a
 * sendto() costs more in the first is the lookup. IPv4 and UDP. The namespaces go away with the
 * process.
 *
 * Threads: the calling thread is left in a network namespace of its own.
 */
#ifndef BENCH_KERNEL_SPD_H
#define BENCH_KERNEL_SPD_H

#include <xf/spd.h>

struct mnl_socket;

struct kernel_spd {
	struct mnl_socket *netlink;
	int with; /* sockets that send from any address */
	int without;
	uint32_t seq;
};

/* 0 or -errno: not everybody may make namespaces. */
int kernel_spd_open(struct kernel_spd *kernel);

/* Add the selectors, marks and priorities of @cfgs, all "allow" without a template. */
int kernel_spd_add(struct kernel_spd *kernel, const struct xf_policy_config *cfgs, uint32_t count);

/* Can a socket send a packet like this one? */
bool kernel_spd_can_send(const struct xf_flow *flow);

/* Send a packet of @flow. */
int kernel_spd_send(int fd, const struct xf_flow *flow);

#endif
