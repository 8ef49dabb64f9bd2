/*
 * Programs of the backstop are put onto devices here, by pinned links of tcx, or by filters of
 * clsact where there are none. Called by backstop.c, and by the release without a daemon.
 */
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <unistd.h>
#include <linux/rtnetlink.h>
#include <bpf/bpf.h>

#include "capture/programs/devices.h"
#include "capture/exempt.h"
#include "capture/programs/filters.h"
#include "host/link.h"
#include "host/rtnl.h"

struct device {
	struct xf_link link;
	uint32_t exempt; /* enum xf_exempt_from, itself */
};

struct visit {
	int (*act)(void *arg, const struct device *device);
	void *arg;
	unsigned done;
	int err;
};

static int visit_link(const struct nlmsghdr *msg, void *arg)
{
	struct visit *visit = arg;
	struct device device;
	int err;

	if (!xf_link_read(msg, &device.link) || (device.link.flags & IFF_LOOPBACK))
		return MNL_CB_OK;
	device.exempt = xf_exempt_of_link(msg);
	err = visit->act(visit->arg, &device);
	if (err > 0)
		visit->done++;
	else if (err < 0 && err != -ENODEV)
		visit->err = err;
	return MNL_CB_OK;
}

static int for_each_device(struct visit *visit, struct xf_io_error *error)
{
	struct xf_rtnl rtnl;
	struct nlmsghdr *msg;
	struct ifinfomsg *ifi;
	int err = xf_rtnl_open(&rtnl, error);

	if (err)
		return err;
	msg = xf_rtnl_start(&rtnl, RTM_GETLINK, NLM_F_DUMP);
	ifi = mnl_nlmsg_put_extra_header(msg, sizeof(*ifi));
	ifi->ifi_family = AF_UNSPEC;
	err = xf_rtnl_talk(&rtnl, msg, visit_link, visit);
	xf_rtnl_close(&rtnl);
	return err ? xf_io_fail(error, err, "cannot list devices") : 0;
}

/*
 * What leaves by a port of one of these passes its master first, and what the port forwards for
 * others is none of our business.
 */
static bool is_port(const struct xf_link *link)
{
	static const char *const kinds[] = { "bridge", "bond", "team", "openvswitch" };

	for (unsigned i = 0; i < XF_ARRAY_SIZE(kinds); i++)
		if (strcmp(link->slave_kind, kinds[i]) == 0)
			return true;
	return false;
}

#define LOOPBACK 1
/* Each that is made waits for a grace period of the kernel's RCU, some 10 ms. */
#define MADE_AT_ONCE 16

enum { INGRESS, EGRESS, SIDES };

static const enum xf_tcx_side sides[SIDES] = { XF_TCX_INGRESS, XF_TCX_EGRESS };

struct attaching {
	const struct xf_devices_config *cfg;
	struct xf_devices *out;
	uint32_t exempt; /* enum xf_exempt_from, every device */
	unsigned links; /* that stand ... */
	unsigned made; /* ... since now */
	struct xf_rtnl rtnl; /* for filters */
};

/* What is to be at a device. */
struct wanted {
	int fd[SIDES]; /* a program, or -1: nothing */
	bool six[SIDES]; /* which IPv4 passes */
	bool tun;
};

static struct wanted wanted_at(const struct attaching *a, const struct device *device)
{
	uint32_t exempt = a->exempt | device->exempt;

	if (strcmp(device->link.name, a->cfg->tun) == 0)
		return (struct wanted){ .fd = { -1, a->cfg->tun_fd }, .tun = true };
	if (is_port(&device->link))
		return (struct wanted){ .fd = { -1, -1 } };
	return (struct wanted){
		.fd = { a->cfg->ingress_fd, a->cfg->egress_fd },
		.six = { exempt & XF_EXEMPT_POLICY4, exempt & XF_EXEMPT_XFRM4 },
	};
}

/* --- links --- */

const char *xf_devices_choose(const char *bpffs, bool wanted, struct xf_pins *pins)
{
	struct xf_tcx_seen seen;
	int err;

	xf_pins_init(pins, bpffs);
	if (!wanted)
		return "it is configured so";
	if (xf_tcx_query(LOOPBACK, XF_TCX_EGRESS, &seen) < 0)
		return "this kernel has no tcx (Linux 6.6)";
	xf_pins_sweep(pins);
	err = xf_pins_make(pins);
	if (err == -EPERM)
		return "the directory for pins is not ours alone";
	return err ? "there is no BPF file system to pin links in" : NULL;
}

static bool holds(int link, const struct xf_tcx_seen *seen)
{
	struct xf_tcx_info info;

	return xf_tcx_info(link, &info) == 0 && xf_tcx_find(seen->link, seen->n, info.id) >= 0;
}

/* An earlier daemon's link takes our program without a gap. -ENOENT: there is none here. */
static int take_over(const struct xf_pins *pins, uint32_t ifindex, enum xf_tcx_side side,
		     const struct xf_tcx_seen *seen, int fd)
{
	int link = xf_pins_get(pins, ifindex, side);
	int err;

	if (link < 0)
		return link;
	err = holds(link, seen) ? bpf_link_update(link, fd, NULL) : -ENOENT;
	close(link);
	/* It is at another device, which had the number, and maybe has it elsewhere. */
	if (err == -ENOENT)
		xf_pins_drop(pins, ifindex, side);
	return err;
}

static int make_link(const struct xf_pins *pins, uint32_t ifindex, enum xf_tcx_side side, int fd)
{
	int link = xf_tcx_link(ifindex, side, fd);
	int err;

	if (link < 0)
		return link;
	err = xf_pins_put(pins, ifindex, side, link);
	close(link);
	return err;
}

/* 1: it is there now; 0: it was already. -EAGAIN: enough have been made for now, unless @urgent. */
static int put_link(struct attaching *a, uint32_t ifindex, enum xf_tcx_side side, int fd,
		    bool urgent)
{
	const struct xf_pins *pins = a->cfg->pins;
	struct xf_tcx_seen seen;
	int err = xf_tcx_query(ifindex, side, &seen);
	bool there = !err && xf_tcx_find(seen.prog, seen.n, xf_tcx_program_id(fd)) >= 0;

	if (!err && !there)
		err = take_over(pins, ifindex, side, &seen, fd);
	if (err == -ENOENT && a->made >= MADE_AT_ONCE && !urgent)
		return -EAGAIN;
	if (err == -ENOENT) {
		a->made++;
		err = make_link(pins, ifindex, side, fd);
	}
	a->links += !err;
	return err ? err : !there;
}

static void count_pin(void *arg, uint32_t ifindex, enum xf_tcx_side side)
{
	(void)ifindex;
	(void)side;
	++*(unsigned *)arg;
}

static void drop_stray_pin(void *arg, uint32_t ifindex, enum xf_tcx_side side)
{
	const struct attaching *a = arg;
	int link = xf_pins_get(a->cfg->pins, ifindex, side);
	struct xf_tcx_seen seen;
	int err = xf_tcx_query(ifindex, side, &seen);
	bool stray = link >= 0 && (err == -ENODEV || (!err && !holds(link, &seen)));

	if (link >= 0)
		close(link);
	if (stray)
		xf_pins_drop(a->cfg->pins, ifindex, side);
}

/* Devices go, also into other namespaces, where their links would go with them. */
static void drop_stray_pins(struct attaching *a)
{
	unsigned n = 0;

	xf_pins_each(a->cfg->pins, count_pin, &n);
	if (n > a->links)
		xf_pins_each(a->cfg->pins, drop_stray_pin, a);
}

/* --- a device --- */

static void remove_program(struct attaching *a, int ifindex, unsigned side)
{
	const struct xf_place at = { .ifindex = ifindex, .egress = side == EGRESS };

	xf_filter_remove(&a->rtnl, &at);
	xf_pins_drop(a->cfg->pins, (uint32_t)ifindex, sides[side]);
}

static bool has_no_room(int err)
{
	return err == -EBUSY || err == -EOPNOTSUPP;
}

/* Where there are many new devices, some have filters until their turn comes. */
static int put_by_link(struct attaching *a, const struct xf_place *at, unsigned side, int fd)
{
	uint32_t ifindex = (uint32_t)at->ifindex;
	int err = put_link(a, ifindex, sides[side], fd, false);

	if (err == -EAGAIN) {
		err = xf_filter_put(&a->rtnl, at, fd, false);
		a->out->more |= !err;
		if (!has_no_room(err))
			return err;
		err = put_link(a, ifindex, sides[side], fd, true);
	}
	if (err > 0)
		xf_filter_remove(&a->rtnl, at);
	return err < 0 ? err : 0;
}

/*
 * What takes the place of something else is there before that goes. A link sees all families, so
 * IPv6 alone is for a filter.
 */
static int put_program(struct attaching *a, int ifindex, unsigned side, const struct wanted *wanted)
{
	const struct xf_place at = { .ifindex = ifindex, .egress = side == EGRESS };
	int err;

	if (a->cfg->links && !wanted->six[side])
		return put_by_link(a, &at, side, wanted->fd[side]);
	err = xf_filter_put(&a->rtnl, &at, wanted->fd[side], wanted->six[side]);
	if (!err)
		xf_pins_drop(a->cfg->pins, (uint32_t)ifindex, sides[side]);
	return err;
}

static void note_bare(struct xf_devices *devices, const char *name)
{
	size_t len = strlen(devices->bare);

	snprintf(devices->bare + len, sizeof(devices->bare) - len, "%s%s", len ? ", " : "", name);
}

/* 1: attached; 0: not a device for us, or no more: it has become a port. Or there is no room. */
static int attach_one(void *arg, const struct device *device)
{
	struct attaching *a = arg;
	const struct wanted wanted = wanted_at(a, device);
	int ifindex = device->link.ifindex;
	bool bare = false;
	int err = 0;

	if (wanted.tun)
		a->out->tun_ifindex = device->link.flags & IFF_UP ? (uint32_t)ifindex : 0;
	for (unsigned side = 0; side < SIDES && !err; side++) {
		if (wanted.fd[side] < 0) {
			remove_program(a, ifindex, side);
			continue;
		}
		err = put_program(a, ifindex, side, &wanted);
		bare = bare || has_no_room(err);
		err = has_no_room(err) ? 0 : err;
	}
	if (bare)
		note_bare(a->out, device->link.name);
	return err ? err : !bare && !wanted.tun && wanted.fd[EGRESS] >= 0;
}

int xf_devices_attach(const struct xf_devices_config *cfg, struct xf_devices *out,
		      struct xf_io_error *error)
{
	struct attaching a = { .cfg = cfg, .out = out, .exempt = xf_exempt_of_all() };
	struct visit visit = { .act = attach_one, .arg = &a };
	int err = xf_rtnl_open(&a.rtnl, error);

	*out = (struct xf_devices){ .count = 0 };
	if (err)
		return err;
	err = for_each_device(&visit, error);
	xf_rtnl_close(&a.rtnl);
	if (!err)
		drop_stray_pins(&a);
	/* They have changed meanwhile: some were not seen. */
	out->more |= err == -EINTR;
	err = err == -EINTR ? 0 : err;
	out->count = visit.done;
	if (!err && visit.err)
		err = xf_io_fail(error, visit.err, "cannot attach the backstop to a device");
	return err;
}

/* --- is all of it there? --- */

struct looking {
	struct attaching a;
	char *name; /* of a device without a link */
};

/* Filters tell when they go. */
static int look_at(void *arg, const struct device *device)
{
	struct looking *looking = arg;
	const struct wanted wanted = wanted_at(&looking->a, device);
	struct xf_tcx_seen seen;

	for (unsigned side = 0; side < SIDES; side++) {
		if (wanted.fd[side] < 0 || wanted.six[side] ||
		    xf_tcx_query((uint32_t)device->link.ifindex, sides[side], &seen) < 0 ||
		    xf_tcx_find(seen.prog, seen.n, xf_tcx_program_id(wanted.fd[side])) >= 0)
			continue;
		snprintf(looking->name, XF_DEVICE_NAME, "%s", device->link.name);
	}
	return 0;
}

bool xf_devices_stand(const struct xf_devices_config *cfg, char name[XF_DEVICE_NAME])
{
	struct looking looking = { .a = { .cfg = cfg, .exempt = xf_exempt_of_all() },
				   .name = name };
	struct visit visit = { .act = look_at, .arg = &looking };

	*name = '\0';
	if (cfg->links)
		for_each_device(&visit, NULL);
	return !*name;
}

/* --- release --- */

/* Pins may be out of reach: who may, finds links by their programs' names. */
static void detach_by_name(uint32_t ifindex, enum xf_tcx_side side)
{
	struct xf_tcx_seen seen;

	if (xf_tcx_query(ifindex, side, &seen))
		return;
	for (unsigned i = 0; i < seen.n; i++) {
		int link = -1;

		if (seen.link[i] && (xf_tcx_is_named(seen.prog[i], XF_BPF_EGRESS) > 0 ||
				     xf_tcx_is_named(seen.prog[i], XF_BPF_INGRESS) > 0 ||
				     xf_tcx_is_named(seen.prog[i], XF_BPF_TUN) > 0))
			link = bpf_link_get_fd_by_id(seen.link[i]);
		if (link < 0)
			continue;
		bpf_link_detach(link);
		close(link);
	}
}

static int release_one(void *arg, const struct device *device)
{
	struct attaching *a = arg;
	int ifindex = device->link.ifindex;

	for (unsigned side = 0; side < SIDES; side++) {
		remove_program(a, ifindex, side);
		detach_by_name((uint32_t)ifindex, sides[side]);
	}
	return 0;
}

int xf_devices_release(const char *bpffs, struct xf_io_error *error)
{
	struct xf_pins pins;
	const struct xf_devices_config cfg = { .pins = &pins };
	struct attaching a = { .cfg = &cfg };
	struct visit visit = { .act = release_one, .arg = &a };
	int err = xf_rtnl_open(&a.rtnl, error);

	if (err)
		return err;
	xf_pins_init(&pins, bpffs);
	err = for_each_device(&visit, error);
	xf_rtnl_close(&a.rtnl);
	drop_stray_pins(&a);
	xf_pins_sweep(&pins);
	return err;
}
