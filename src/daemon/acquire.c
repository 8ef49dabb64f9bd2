/*
 * Reads net.core.xfrm_acq_expires. The service opens it when it starts, and reads it for each
 * larval SA that is made: nothing tells of a change. It stays open because the right to open
 * files may go, and with it the way to /proc.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "acquire.h"

int xf_acquire_open(void)
{
	return open("/proc/sys/net/core/xfrm_acq_expires", O_RDONLY | O_CLOEXEC);
}

/* The kernel keeps 32 bits without a sign, and shows them with one. */
uint32_t xf_acquire_lifetime_s(int fd)
{
	char text[32], *end;
	ssize_t len = fd < 0 ? -1 : pread(fd, text, sizeof(text) - 1, 0);
	long value;

	if (len <= 0)
		return XF_ACQUIRE_LIFETIME_S;
	text[len] = '\0';
	value = strtol(text, &end, 10);
	return end == text ? XF_ACQUIRE_LIFETIME_S : (uint32_t)value;
}
