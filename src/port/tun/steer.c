#include <errno.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>

/* What bpftool writes is not held to our warnings. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#include "steer.skel.h"
#pragma GCC diagnostic pop

#include "host/quiet.h"
#include "port/tun/steer.h"

int xf_steer_attach(int tun_fd)
{
	libbpf_print_fn_t print = xf_libbpf_quiet();
	struct steer *skel = steer__open_and_load();
	int fd = skel ? bpf_program__fd(skel->progs.xf_steer) : -1;
	int err = 0;

	/* The device has a reference of its own then. */
	if (fd < 0 || ioctl(tun_fd, TUNSETSTEERINGEBPF, &fd) < 0)
		err = errno ? -errno : -EINVAL;
	steer__destroy(skel);
	libbpf_set_print(print);
	return err;
}
