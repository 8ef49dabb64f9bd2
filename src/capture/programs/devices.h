/*
 * devices.h - programs at the devices of this namespace.
 *
 * Control thread. Functions return 0 or -errno, with a sentence in @error where they have that. A
 * program stays at its device when the process goes.
 */
#ifndef XF_CAPTURE_DEVICES_H
#define XF_CAPTURE_DEVICES_H

#include "host/pins.h"
#include "port/io.h"

/* Names of programs, as bpf/egress.bpf.c has them. */
#define XF_BPF_EGRESS "xf_egress"
#define XF_BPF_INGRESS "xf_ingress"
#define XF_BPF_TUN "xf_tun"

#define XF_DEVICE_NAME 16 /* IF_NAMESIZE */

/* Programs; -1: none, and what is there goes. */
struct xf_devices_config {
	const char *tun;
	int egress_fd;
	int ingress_fd;
	int tun_fd; /* at the egress of the TUN */
	const struct xf_pins *pins;
	bool links; /* they are put there by links, which @pins hold; else by filters of clsact */
};

struct xf_devices {
	unsigned count; /* with our programs */
	uint32_t tun_ifindex; /* 0: the TUN is not there, or down */
	bool more; /* some have their program otherwise than by a link until the next call */
	char bare[160]; /* those that have no room for them, with commas between; "": none */
};

/*
 * Is it by links that programs are put onto devices, pinned in the file system at @bpffs? NULL: it
 * is; else a few words say why not, but *@pins finds those of an earlier daemon.
 */
const char *xf_devices_choose(const char *bpffs, bool wanted, struct xf_pins *pins);

/*
 * Put the programs onto every device that has to have them, where they are not yet: not on lo and
 * ports of others, and onto the TUN its own. An earlier daemon's are replaced without a gap. It
 * takes no longer than some tenths of a second.
 */
int xf_devices_attach(const struct xf_devices_config *cfg, struct xf_devices *out,
		      struct xf_io_error *error);

/* Are they where xf_devices_attach() has put them? Of links nobody tells. False: @name has not. */
bool xf_devices_stand(const struct xf_devices_config *cfg, char name[XF_DEVICE_NAME]);

/* Take our programs off every device, whoever put them there. */
int xf_devices_release(const char *bpffs, struct xf_io_error *error);

#endif
