/*
 * devices.h - programs at the devices of this namespace.
 *
 * Control thread. Functions return 0 or -errno, with a sentence in @error where they have that. A
 * program stays at its device when the process goes.
 */
#ifndef XF_CAPTURE_DEVICES_H
#define XF_CAPTURE_DEVICES_H

#include "io/io.h"

struct xf_devices_config {
	const char *tun;
	int egress_fd; /* a program; -1: none, and what is there stays */
	int ingress_fd;
	int tun_fd; /* at the egress of the TUN; -1: none, and what is there goes */
};

struct xf_devices {
	unsigned count; /* with our programs */
	uint32_t tun_ifindex; /* 0: the TUN is not there, or down */
};

/*
 * Put the programs onto every device that has to have them, where they are not yet: not on lo and
 * ports of others, and onto the TUN its own.
 */
int xf_devices_attach(const struct xf_devices_config *cfg, struct xf_devices *out,
		      struct xf_io_error *error);

/* Take our programs off every device, whoever put them there. */
int xf_devices_release(struct xf_io_error *error);

#endif
