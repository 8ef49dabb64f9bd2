/* Network namespaces by number, for whoever leaves something behind in one. */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host/netns.h"

/* Linux's number where glibc 2.36 does not have the name. */
#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

int xf_netns_cookie_of(int fd, uint64_t *out)
{
	socklen_t len = sizeof(*out);

	return getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, out, &len) ? -errno : 0;
}

uint64_t xf_netns_cookie(void)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	uint64_t cookie = 0;

	if (fd < 0)
		return 0;
	if (xf_netns_cookie_of(fd, &cookie))
		cookie = 0;
	close(fd);
	return cookie;
}
