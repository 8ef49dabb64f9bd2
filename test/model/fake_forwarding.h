/*
 * fake_forwarding.h - the kernel's settings of who forwards, as rtnetlink and /proc/sys have them,
 * for src/host/forwarding.c as it is: the linker takes xf_rtnl_*(), xf_sysctl_write() and
 * if_nametoindex() from here.
 *
 * One at a time in a process. What it answers is as Linux 6.18 does; @forces false: as before 6.17.
 */
#ifndef TEST_FAKE_FORWARDING_H
#define TEST_FAKE_FORWARDING_H

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

enum { FAKE_FOUR, FAKE_SIX, FAKE_FAMILIES };

struct fake_forwarder {
	uint32_t ifindex; /* 0: there is none */
	char name[IF_NAMESIZE];
	bool on[FAKE_FAMILIES]; /* forwarding; force_forwarding */
};

enum { FAKE_FORWARDERS = 6 };

struct fake_forwarders {
	struct fake_forwarder of[FAKE_FORWARDERS];
	bool new_ones_do; /* net.ipv4.conf.default.forwarding */
	bool all6; /* net.ipv6.conf.all.forwarding */
	bool no_ipv6; /* this kernel has none */
	bool forces; /* it has force_forwarding */
	bool read_only; /* /proc/sys */
	unsigned interrupted; /* so many lists from now on come with other things in between */
	unsigned spared, fails; /* after so many requests, so many have no answer */
	bool failed; /* one had none, since that was last reset */
	bool told; /* an event, since that was last reset */
	unsigned writes, in_vain; /* to /proc/sys; those to what is not there */
};

extern struct fake_forwarders fake_forwarders;

#endif
