/*
 * uapi.h - Linux's numbers where glibc 2.36 does not have the names.
 */
#ifndef XF_DAEMON_UAPI_H
#define XF_DAEMON_UAPI_H

#include <sys/socket.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

#endif
