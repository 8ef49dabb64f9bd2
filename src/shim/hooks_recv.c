/*
 * Receiving works without us, but for one thing: the kernel says ENOBUFS when it had to drop
 * messages for a slow reader. The daemon says it by an empty datagram, which netlink never has. It
 * differs from the end of the connection in having a sender's name.
 */
#include <string.h>
#include <unistd.h>

#include "hooks.h"
#include "table.h"

static ssize_t receive(int fd, struct msghdr *msg, int flags)
{
	const struct xf_shim_real *real = xf_shim_real();
	struct sockaddr_storage name;
	void *want = msg->msg_name;
	socklen_t room = want ? msg->msg_namelen : 0;
	char byte;
	ssize_t n;

	msg->msg_name = &name;
	msg->msg_namelen = sizeof(name);
	n = real->recvmsg(fd, msg, flags);
	msg->msg_name = want;
	if (n < 0)
		return n;
	if (n == 0 && msg->msg_namelen && !(msg->msg_flags & MSG_TRUNC)) {
		if (flags & MSG_PEEK)
			real->recv(fd, &byte, sizeof(byte), MSG_DONTWAIT);
		return xf_shim_return(-ENOBUFS);
	}
	if (want)
		memcpy(want, &name, msg->msg_namelen < room ? msg->msg_namelen : room);
	else
		msg->msg_namelen = 0;
	return n;
}

static ssize_t receive_into(int fd, void *buf, size_t len, int flags, struct sockaddr *addr,
			    socklen_t *addrlen)
{
	struct iovec iov = { .iov_base = buf, .iov_len = len };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_name = addr,
		.msg_namelen = addr ? *addrlen : 0,
	};
	ssize_t n = receive(fd, &msg, flags);

	if (n >= 0 && addr)
		*addrlen = msg.msg_namelen;
	return n;
}

XF_SHIM_EXPORT ssize_t read(int fd, void *buf, size_t len)
{
	if (!xf_shim_table_find(fd))
		return xf_shim_real()->read(fd, buf, len);
	return receive_into(fd, buf, len, 0, NULL, NULL);
}

XF_SHIM_EXPORT ssize_t recv(int fd, void *buf, size_t len, int flags)
{
	if (!xf_shim_table_find(fd))
		return xf_shim_real()->recv(fd, buf, len, flags);
	return receive_into(fd, buf, len, flags, NULL, NULL);
}

XF_SHIM_EXPORT ssize_t recvfrom(int fd, void *buf, size_t len, int flags, struct sockaddr *addr,
				socklen_t *addrlen)
{
	if (!xf_shim_table_find(fd))
		return xf_shim_real()->recvfrom(fd, buf, len, flags, addr, addrlen);
	return receive_into(fd, buf, len, flags, addr, addrlen);
}

XF_SHIM_EXPORT ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
	if (!xf_shim_table_find(fd))
		return xf_shim_real()->recvmsg(fd, msg, flags);
	return receive(fd, msg, flags);
}
