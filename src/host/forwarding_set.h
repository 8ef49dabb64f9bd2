/*
 * forwarding_set.h - the devices from which the kernel forwards, as workers ask for them.
 *
 * Made from what the kernel says of each device; constant once it is published. One thread makes
 * it, any may ask it.
 */
#ifndef XF_HOST_FORWARDING_SET_H
#define XF_HOST_FORWARDING_SET_H

#include <xf/addr.h>
#include <xf/rcu.h>

/* The families, in this order. */
enum { XF_FORWARDING_4, XF_FORWARDING_6, XF_FORWARDING_FAMILIES };

/* What the kernel says of one family, collected. All zero: nothing forwards. */
struct xf_forwarding_seen {
	uint32_t *devices; /* that forward; the TUN is none of them */
	uint32_t n;
	uint32_t room;
	bool some_do_not; /* other devices do not */
	bool new_ones_do; /* devices to come will */
	bool has_tun;
	bool tun_does; /* the TUN's own flag */
};

/* The device @ifindex, no TUN of ours, forwards or does not. 0 or -ENOMEM. */
int xf_forwarding_see(struct xf_forwarding_seen *seen, uint32_t ifindex, bool forwards);

enum xf_forwarding_how {
	XF_FORWARDING_BY_DEVICE, /* from devices in the set alone */
	XF_FORWARDING_EVERY, /* from all devices, also those to come */
	/* From none: the TUN's own flag has the kernel refuse, which knows best what is local. */
	XF_FORWARDING_KERNEL,
};

struct xf_forwarding_set {
	struct xf_rcu_head rcu;
	struct xf_forwarding_part {
		uint8_t how; /* enum xf_forwarding_how */
		bool tun; /* the TUN shall forward */
		uint32_t first; /* of its devices */
		uint32_t n;
	} parts[XF_FORWARDING_FAMILIES];
	uint32_t devices[]; /* those of a part ascend */
};

/* Make the set of what was @seen in both families, or NULL. */
struct xf_forwarding_set *xf_forwarding_set_new(const struct xf_forwarding_seen *seen);

bool xf_forwarding_set_equal(const struct xf_forwarding_set *a, const struct xf_forwarding_set *b);

/* May what arrived on @iif (0: not known) be sent on to what the kernel would forward? */
bool xf_forwarding_set_allows(const struct xf_forwarding_set *set, uint16_t family, uint32_t iif);

#endif
