#include <errno.h>
#include <net/if.h>

/* What bpftool writes is not held to our warnings. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#include "meta.skel.h"
#pragma GCC diagnostic pop

#include "host/clsact.h"
#include "host/quiet.h"
#include "port/backend.h"
#include "port/tun/meta.h"

#include "tc_filter.h"

/* A filter of our handle, behind which nothing of others is asked. */
static int put_filter(struct xf_rtnl *rtnl, int ifindex, int prog_fd)
{
	DECLARE_LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = BPF_TC_EGRESS);
	DECLARE_LIBBPF_OPTS(bpf_tc_opts, opts, .prog_fd = prog_fd, .handle = XF_TC_HANDLE,
			    .priority = XF_TC_META_PRIORITY, .flags = BPF_TC_F_REPLACE);
	int err = xf_clsact_make(rtnl, ifindex, true);

	return err ? err : bpf_tc_attach(&hook, &opts);
}

static int attach_program(int ifindex, int prog_fd)
{
	struct xf_rtnl rtnl;
	int err = xf_rtnl_open(&rtnl, NULL);

	if (err)
		return err;
	err = put_filter(&rtnl, ifindex, prog_fd);
	xf_rtnl_close(&rtnl);
	return err;
}

bool xf_meta_is_attached(unsigned ifindex)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex, .attach_point = BPF_TC_EGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = XF_TC_HANDLE, .priority = XF_TC_META_PRIORITY);
	libbpf_print_fn_t print = xf_libbpf_quiet();
	int err = bpf_tc_query(&hook, &opts);

	libbpf_set_print(print);
	return !err;
}

static int load_and_attach(const struct xf_io_names *names, struct xf_io_error *error)
{
	struct meta *skel = meta__open();
	int err = skel ? 0 : -ENOMEM;

	if (!err) {
		skel->rodata->bypass_mark = names->mark_bypass;
		skel->rodata->capture_mark = names->mark_capture;
		err = meta__load(skel);
	}
	if (err)
		xf_io_fail(error, err, "cannot load the BPF program for marks");
	if (!err) {
		err = attach_program((int)if_nametoindex(names->tun),
				     bpf_program__fd(skel->progs.xf_meta));
		if (err)
			xf_io_fail(error, err, "cannot attach the BPF program for marks to %s",
				   names->tun);
	}
	meta__destroy(skel);
	return err;
}

int xf_meta_attach(const struct xf_io_names *names, struct xf_io_error *error)
{
	libbpf_print_fn_t print = xf_libbpf_quiet();
	int err = load_and_attach(names, error);

	libbpf_set_print(print);
	return err;
}
