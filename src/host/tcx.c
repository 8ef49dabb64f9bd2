/* BPF links of tcx; ring.c and capture's devices call it, and xfrmctl. */
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <bpf/bpf.h>

#include "host/tcx.h"

#define LINK_TYPE_TCX 11 /* BPF_LINK_TYPE_TCX */
#define BEFORE (1u << 3) /* BPF_F_BEFORE: whom is not said, so all */

/* As union bpf_attr has it since Linux 6.6. */
struct query {
	uint32_t ifindex;
	uint32_t side;
	uint32_t query_flags;
	uint32_t attach_flags;
	uint64_t prog_ids;
	uint32_t count;
	uint32_t spare;
	uint64_t prog_attach_flags;
	uint64_t link_ids;
	uint64_t link_attach_flags;
	uint64_t revision;
};

struct link_create {
	uint32_t prog_fd;
	uint32_t ifindex;
	uint32_t side;
	uint32_t flags;
	uint32_t relative;
	uint32_t spare;
	uint64_t revision;
};

union attr {
	union bpf_attr all;
	struct query query;
	struct link_create link;
};

static long call(int cmd, union attr *attr)
{
	long result = syscall(SYS_bpf, cmd, attr, sizeof(*attr));

	return result < 0 ? -errno : result;
}

int xf_tcx_query(uint32_t ifindex, enum xf_tcx_side side, struct xf_tcx_seen *out)
{
	union attr attr;
	long err;

	memset(&attr, 0, sizeof(attr));
	attr.query.ifindex = ifindex;
	attr.query.side = side;
	attr.query.prog_ids = (uintptr_t)out->prog;
	attr.query.link_ids = (uintptr_t)out->link;
	attr.query.count = XF_TCX_MAX;
	err = call(BPF_PROG_QUERY, &attr);
	out->n = err ? 0 : attr.query.count;
	return (int)err;
}

int xf_tcx_find(const uint32_t ids[XF_TCX_MAX], unsigned n, uint32_t id)
{
	for (unsigned i = 0; i < n; i++)
		if (ids[i] == id)
			return (int)i;
	return -1;
}

int xf_tcx_link(uint32_t ifindex, enum xf_tcx_side side, int prog_fd)
{
	union attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.link.prog_fd = (uint32_t)prog_fd;
	attr.link.ifindex = ifindex;
	attr.link.side = side;
	attr.link.flags = BEFORE;
	return (int)call(BPF_LINK_CREATE, &attr);
}

int xf_tcx_info(int link, struct xf_tcx_info *out)
{
	struct bpf_link_info info = { 0 };
	uint32_t len = sizeof(info);
	int err = bpf_obj_get_info_by_fd(link, &info, &len);

	/* Where a link of tcx tells of its device, one of XDP does. */
	*out = (struct xf_tcx_info){ .id = info.id, .ifindex = info.xdp.ifindex };
	return err ? err : info.type == LINK_TYPE_TCX ? 0 : -EINVAL;
}

uint32_t xf_tcx_program_id(int prog_fd)
{
	struct bpf_prog_info info = { 0 };
	uint32_t len = sizeof(info);

	return bpf_obj_get_info_by_fd(prog_fd, &info, &len) ? 0 : info.id;
}

int xf_tcx_is_named(uint32_t id, const char *name)
{
	struct bpf_prog_info info = { 0 };
	uint32_t len = sizeof(info);
	int fd = bpf_prog_get_fd_by_id(id);
	int err;

	if (fd < 0)
		return fd;
	err = bpf_obj_get_info_by_fd(fd, &info, &len);
	close(fd);
	return err ? err : strncmp(info.name, name, strlen(name)) == 0;
}
