/*
 * Settings below /proc/sys. Called for the TUN by tun.c and forwarding.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/sysctl.h"

bool xf_sysctl_holds(const char *path, const char *value)
{
	char text[16] = "";
	FILE *f = fopen(path, "re");
	bool same;

	if (!f)
		return false;
	same = fgets(text, sizeof(text), f) && atoi(text) == atoi(value);
	fclose(f);
	return same;
}

int xf_sysctl_write(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int err = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, value, strlen(value)) < 0)
		err = -errno;
	close(fd);
	return err;
}
