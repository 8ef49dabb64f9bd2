/*
 * netns.h - the number of a network namespace that no later one gets (SO_NETNS_COOKIE), by which
 * what was left behind is told from what is another namespace's. Linux 5.14.
 *
 * Threads: any.
 */
#ifndef XF_HOST_NETNS_H
#define XF_HOST_NETNS_H

#include <stdint.h>

/* That of socket @fd's namespace. 0 or -errno: this kernel has none. */
int xf_netns_cookie_of(int fd, uint64_t *out);

/* That of the calling thread's; 0: this kernel has none. */
uint64_t xf_netns_cookie(void);

#endif
