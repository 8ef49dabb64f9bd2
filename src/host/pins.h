/*
 * pins.h - where links of programs at devices (tcx.h) stay while no process has them: in a BPF file
 * system, a directory for each network namespace, a file for each side of a device.
 *
 * The namespace's cookie names the directory, so nobody takes the pins of another one, or of an
 * earlier one whose number came again. A link that is gone leaves its file behind; who sweeps takes
 * it away.
 *
 * Control thread. Functions return 0 or -errno.
 */
#ifndef XF_HOST_PINS_H
#define XF_HOST_PINS_H

#include "host/tcx.h"

#define XF_PINS_FS_MAX 96 /* of the file system's path */

struct xf_pins {
	uint64_t cookie; /* of this namespace */
	char top[XF_PINS_FS_MAX + 16]; /* of all namespaces */
	char dir[XF_PINS_FS_MAX + 48]; /* of this one */
};

/* Those of this namespace in the file system at @bpffs, whether or not that is there. */
void xf_pins_init(struct xf_pins *pins, const char *bpffs);

/*
 * The directory is there from now on, and belongs to us alone. -ENOTTY: @bpffs is no BPF file
 * system; -EPERM: something of somebody else's is in its place.
 */
int xf_pins_make(const struct xf_pins *pins);

/* The link of a device's side: a descriptor, which is the caller's, or -errno. */
int xf_pins_get(const struct xf_pins *pins, uint32_t ifindex, enum xf_tcx_side side);

/* Keep @link as that. What was kept in its place goes. */
int xf_pins_put(const struct xf_pins *pins, uint32_t ifindex, enum xf_tcx_side side, int link);

/* It is kept no longer and, as far as it is anywhere, is taken off its device. */
void xf_pins_drop(const struct xf_pins *pins, uint32_t ifindex, enum xf_tcx_side side);

/* Call @visit for all that is kept; it may drop what it is called with. */
void xf_pins_each(const struct xf_pins *pins,
		  void (*visit)(void *arg, uint32_t ifindex, enum xf_tcx_side side), void *arg);

/* Directories whose devices have all gone, of this namespace or another one, go. */
void xf_pins_sweep(const struct xf_pins *pins);

#endif
