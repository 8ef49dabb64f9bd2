/* What makes, names and duplicates a socket. */
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>
#include <linux/netlink.h>

#include "hooks.h"
#include "link.h"
#include "table.h"

static int open_xfrm(int type)
{
	int fd = xf_shim_open();
	int err;

	if (fd < 0)
		return fd == -EPERM ? fd : -EPROTONOSUPPORT;
	err = xf_shim_table_add(fd, type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC));
	if (!err && !(type & SOCK_CLOEXEC) && xf_shim_real()->fcntl(fd, F_SETFD, 0))
		err = -errno;
	if (!err && (type & SOCK_NONBLOCK) && xf_shim_real()->fcntl(fd, F_SETFL, O_NONBLOCK))
		err = -errno;
	if (!err)
		return fd;
	close(fd);
	return err;
}

XF_SHIM_EXPORT int socket(int domain, int type, int protocol)
{
	int base = type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (domain != AF_NETLINK || protocol != NETLINK_XFRM)
		return xf_shim_real()->socket(domain, type, protocol);
	if (base != SOCK_RAW && base != SOCK_DGRAM)
		return (int)xf_shim_return(-ESOCKTNOSUPPORT);
	return (int)xf_shim_return(open_xfrm(type));
}

static int bind_to(int fd, struct xf_shim_sock *sock, uint32_t portid, uint32_t groups)
{
	struct xf_shim_msg msg = {
		.magic = XF_SHIM_MAGIC,
		.kind = XF_SHIM_BIND,
		.a = portid,
		.b = (uint32_t)getpid(),
		.c = groups,
	};
	uint32_t got;
	int err = xf_shim_call(fd, &msg, NULL, 0, &got);

	if (err)
		return err;
	atomic_store(&sock->portid, got);
	atomic_store(&sock->groups, groups);
	return 0;
}

int xf_shim_autobind(int fd, struct xf_shim_sock *sock)
{
	if (atomic_load(&sock->portid))
		return 0;
	return bind_to(fd, sock, 0, atomic_load(&sock->groups));
}

/* As the kernel's netlink_bind(): a socket keeps its port id, groups may change. */
static int bind_xfrm(int fd, struct xf_shim_sock *sock, const struct sockaddr *addr, socklen_t len)
{
	struct sockaddr_nl nl;
	uint32_t now = atomic_load(&sock->portid);

	if (len < sizeof(nl))
		return -EINVAL;
	memcpy(&nl, addr, sizeof(nl));
	if (nl.nl_family != AF_NETLINK)
		return -EINVAL;
	if (now && nl.nl_pid && nl.nl_pid != now)
		return -EINVAL;
	return bind_to(fd, sock, now ? now : nl.nl_pid, nl.nl_groups);
}

XF_SHIM_EXPORT int bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	struct xf_shim_sock *sock = xf_shim_table_find(fd);

	if (!sock)
		return xf_shim_real()->bind(fd, addr, len);
	return (int)xf_shim_return(bind_xfrm(fd, sock, addr, len));
}

XF_SHIM_EXPORT int connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	struct xf_shim_sock *sock = xf_shim_table_find(fd);
	struct sockaddr_nl nl;

	if (!sock)
		return xf_shim_real()->connect(fd, addr, len);
	if (len < sizeof(nl.nl_family))
		return (int)xf_shim_return(-EINVAL);
	memset(&nl, 0, sizeof(nl));
	memcpy(&nl, addr, len < sizeof(nl) ? len : sizeof(nl));
	if (nl.nl_family == AF_UNSPEC)
		return 0;
	if (nl.nl_family != AF_NETLINK || len < sizeof(nl))
		return (int)xf_shim_return(-EINVAL);
	/* Other programs' sockets are out of reach: the daemon plays the kernel only. */
	if (nl.nl_pid || nl.nl_groups)
		return (int)xf_shim_return(-ECONNREFUSED);
	return (int)xf_shim_return(xf_shim_autobind(fd, sock));
}

XF_SHIM_EXPORT int getsockname(int fd, struct sockaddr *addr, socklen_t *len)
{
	struct xf_shim_sock *sock = xf_shim_table_find(fd);
	struct sockaddr_nl nl = { .nl_family = AF_NETLINK };

	if (!sock)
		return xf_shim_real()->getsockname(fd, addr, len);
	nl.nl_pid = atomic_load(&sock->portid);
	nl.nl_groups = atomic_load(&sock->groups);
	memcpy(addr, &nl, *len < sizeof(nl) ? *len : sizeof(nl));
	*len = sizeof(nl);
	return 0;
}

static int dup_done(int from, int to)
{
	xf_shim_table_dup(from, to);
	return to;
}

XF_SHIM_EXPORT int dup(int fd)
{
	return dup_done(fd, xf_shim_real()->dup(fd));
}

XF_SHIM_EXPORT int dup2(int fd, int to)
{
	return dup_done(fd, xf_shim_real()->dup2(fd, to));
}

XF_SHIM_EXPORT int dup3(int fd, int to, int flags)
{
	return dup_done(fd, xf_shim_real()->dup3(fd, to, flags));
}

static bool duplicates(int cmd)
{
	return cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC;
}

/* The third argument is an int, a pointer or absent: passed on as wide as a register. */
XF_SHIM_EXPORT int fcntl(int fd, int cmd, ...)
{
	va_list ap;
	void *arg;
	int ret;

	va_start(ap, cmd);
	arg = va_arg(ap, void *);
	va_end(ap);
	ret = xf_shim_real()->fcntl(fd, cmd, arg);
	return duplicates(cmd) ? dup_done(fd, ret) : ret;
}

XF_SHIM_EXPORT int fcntl64(int fd, int cmd, ...)
{
	va_list ap;
	void *arg;
	int ret;

	va_start(ap, cmd);
	arg = va_arg(ap, void *);
	va_end(ap);
	ret = xf_shim_real()->fcntl64(fd, cmd, arg);
	return duplicates(cmd) ? dup_done(fd, ret) : ret;
}
