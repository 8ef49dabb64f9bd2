/*
 * sysctl.h - settings of devices, as files below /proc/sys.
 *
 * Control thread.
 */
#ifndef XF_HOST_SYSCTL_H
#define XF_HOST_SYSCTL_H

#include <stdbool.h>

/* Is the number in the file @path that of @value? */
bool xf_sysctl_holds(const char *path, const char *value);

/* 0 or -errno. */
int xf_sysctl_write(const char *path, const char *value);

#endif
