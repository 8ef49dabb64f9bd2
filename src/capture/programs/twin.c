/* The twin of the chains input, forward and nat_guard (bpf/twin.bpf.c), for backstop.c. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <linux/netfilter.h>
#include <bpf/bpf.h>

/* What bpftool writes is not held to our warnings. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#include "twin.skel.h"
#pragma GCC diagnostic pop

#include "capture/programs/twin.h"

/* Linux's, where the headers of 6.1 do not have them. */
#define PROG_TYPE_NETFILTER 32
#define ATTACH_NETFILTER 45

/* Behind our chains of nftables (-10), whose sign the program reads; an other when it is taken. */
#define PRIORITY -9
#define PRIORITIES 4
/* Behind all nat chains, before conntrack confirms (2147483647). */
#define PRIORITY_OUT 2147483640

#define HOOKS 6

struct xf_twin {
	struct twin *bpf;
	int holder_map;
	int holder[2]; /* a pair of sockets: maps take what is connected */
	int link[HOOKS];
};

const char *xf_twin_name(enum xf_twin_form form)
{
	static const char *const names[] = {
		[XF_TWIN_AUTO] = "none",
		[XF_TWIN_NETFILTER] = "netfilter",
		[XF_TWIN_TC] = "tc",
		[XF_TWIN_NONE] = "none",
	};

	return names[form];
}

static int set_type(struct bpf_program *prog)
{
	int err = bpf_program__set_type(prog, (enum bpf_prog_type)PROG_TYPE_NETFILTER);

	return err ? err
		   : bpf_program__set_expected_attach_type(prog,
							   (enum bpf_attach_type)ATTACH_NETFILTER);
}

static int load(struct xf_twin *twin, const struct xf_twin_maps *maps)
{
	int err;

	twin->bpf = twin__open();
	if (!twin->bpf)
		return errno ? -errno : -EINVAL;
	err = set_type(twin->bpf->progs.xf_twin);
	if (!err)
		err = set_type(twin->bpf->progs.xf_twin_out);
	if (!err)
		err = bpf_map__reuse_fd(twin->bpf->maps.config, maps->config);
	if (!err)
		err = bpf_map__reuse_fd(twin->bpf->maps.kinds, maps->kinds);
	if (!err)
		err = bpf_map__reuse_fd(twin->bpf->maps.entries, maps->entries);
	if (!err)
		err = bpf_map__reuse_fd(twin->bpf->maps.counts, maps->counts);
	return err ? err : twin__load(twin->bpf);
}

int xf_twin_new(const struct xf_twin_maps *maps, struct xf_twin **out)
{
	struct xf_twin *twin = calloc(1, sizeof(*twin));
	int err;

	if (!twin)
		return -ENOMEM;
	twin->holder_map = maps->holder;
	twin->holder[0] = twin->holder[1] = -1;
	for (unsigned i = 0; i < HOOKS; i++)
		twin->link[i] = -1;
	err = load(twin, maps);
	if (err) {
		xf_twin_free(twin);
		return err;
	}
	*out = twin;
	return 0;
}

/* As union bpf_attr has it for BPF_LINK_CREATE since Linux 6.4. */
struct link_create {
	uint32_t prog_fd;
	uint32_t target;
	uint32_t attach_type;
	uint32_t flags;
	struct {
		uint32_t pf;
		uint32_t hook;
		int32_t priority;
		uint32_t flags;
	} netfilter;
};

static int make_link(const struct xf_twin *twin, unsigned hook)
{
	static const struct {
		uint32_t pf;
		uint32_t hook;
	} places[HOOKS] = {
		{ NFPROTO_IPV4, NF_INET_LOCAL_IN },	{ NFPROTO_IPV4, NF_INET_FORWARD },
		{ NFPROTO_IPV6, NF_INET_LOCAL_IN },	{ NFPROTO_IPV6, NF_INET_FORWARD },
		{ NFPROTO_IPV4, NF_INET_POST_ROUTING }, { NFPROTO_IPV6, NF_INET_POST_ROUTING },
	};
	bool out = places[hook].hook == NF_INET_POST_ROUTING;
	union {
		union bpf_attr all;
		struct link_create link;
	} attr;
	long fd = -1;

	for (int32_t i = 0; fd < 0 && i < PRIORITIES; i++) {
		memset(&attr, 0, sizeof(attr));
		attr.link.prog_fd = (uint32_t)bpf_program__fd(out ? twin->bpf->progs.xf_twin_out
								  : twin->bpf->progs.xf_twin);
		attr.link.attach_type = ATTACH_NETFILTER;
		attr.link.netfilter.pf = places[hook].pf;
		attr.link.netfilter.hook = places[hook].hook;
		attr.link.netfilter.priority = (out ? PRIORITY_OUT : PRIORITY) + i;
		fd = syscall(SYS_bpf, BPF_LINK_CREATE, &attr, sizeof(attr));
		if (fd < 0 && errno != EBUSY)
			break;
	}
	return fd < 0 ? -errno : (int)fd;
}

/* Opened before the links, so that it is closed before them when the process ends. */
static int open_holder(struct xf_twin *twin)
{
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, twin->holder) == 0)
		return 0;
	twin->holder[0] = twin->holder[1] = -1;
	return -errno;
}

int xf_twin_attach(struct xf_twin *twin)
{
	uint32_t zero = 0;
	int err = 0;

	if (twin->holder[0] >= 0)
		return 0;
	err = open_holder(twin);
	for (unsigned i = 0; !err && i < HOOKS; i++) {
		twin->link[i] = make_link(twin, i);
		err = twin->link[i] < 0 ? twin->link[i] : 0;
	}
	if (!err)
		err = bpf_map_update_elem(twin->holder_map, &zero, &twin->holder[0], BPF_ANY);
	return err;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

void xf_twin_free(struct xf_twin *twin)
{
	if (!twin)
		return;
	close_fd(twin->holder[0]);
	close_fd(twin->holder[1]);
	for (unsigned i = 0; i < HOOKS; i++)
		close_fd(twin->link[i]);
	twin__destroy(twin->bpf);
	free(twin);
}
