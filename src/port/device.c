/*
 * Links as sources of all workers. Called by the control thread; io.c reads from them.
 */
#include <errno.h>
#include <unistd.h>

#include "port/backend.h"
#include "port/device.h"

int xf_device_add(struct xf_io_shared *shared, int fd, struct xf_port_device *device,
		  struct xf_io_error *error)
{
	struct xf_source *source = xf_shared_get_source(shared);
	int err;

	if (!source) {
		close(fd);
		return xf_io_fail(error, -ENOSPC, "cannot read from another device");
	}
	source->backend = &xf_backend_tun;
	source->ifindex = device->ifindex;
	source->if_id = device->if_id;
	source->passing = true;
	source->socket = fd;
	err = xf_shared_open(shared, source);
	if (err)
		return xf_io_fail(error, err, "cannot watch a device");
	device->link = xf_source_token(source);
	return 0;
}

int xf_device_remove(struct xf_io_shared *shared, uint64_t link)
{
	struct xf_source *source = NULL;

	if (xf_token_index(link) < XF_SOURCES_MAX)
		source = xf_sources_find(&shared->sources, link);
	if (!source || !source->ifindex || source->fd < 0)
		return -ENOENT;
	xf_shared_close(shared, source);
	return 0;
}
