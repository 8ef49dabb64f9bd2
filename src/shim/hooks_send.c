/* Sending returns when the daemon has queued its answers, as the kernel would have. */
#include <string.h>
#include <unistd.h>
#include <linux/netlink.h>

#include "hooks.h"
#include "link.h"
#include "table.h"

/* Like the kernel's netlink_sendmsg(): to the kernel, or to nobody. */
static int check_destination(const void *addr, socklen_t len)
{
	struct sockaddr_nl nl;

	if (!addr || !len)
		return 0;
	if (len < sizeof(nl))
		return -EINVAL;
	memcpy(&nl, addr, sizeof(nl));
	if (nl.nl_family != AF_NETLINK)
		return -EINVAL;
	return nl.nl_pid || nl.nl_groups ? -ECONNREFUSED : 0;
}

static ssize_t total(const struct iovec *iov, size_t niov)
{
	size_t sum = 0;

	for (size_t i = 0; i < niov; i++) {
		if (iov[i].iov_len > XF_SHIM_REQUEST_MAX - sum)
			return -EMSGSIZE;
		sum += iov[i].iov_len;
	}
	return (ssize_t)sum;
}

static ssize_t request(int fd, struct xf_shim_sock *sock, const struct iovec *iov, size_t niov)
{
	struct xf_shim_msg msg = { .magic = XF_SHIM_MAGIC, .kind = XF_SHIM_REQUEST };
	ssize_t len = total(iov, niov);
	int err;

	if (len < 0)
		return len;
	err = xf_shim_autobind(fd, sock);
	if (!err)
		err = xf_shim_call(fd, &msg, iov, niov, NULL);
	return err ? err : len;
}

static ssize_t send_one(int fd, struct xf_shim_sock *sock, const void *data, size_t len)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)data, .iov_len = len };

	return xf_shim_return(request(fd, sock, &iov, 1));
}

static ssize_t send_msg(int fd, struct xf_shim_sock *sock, const struct msghdr *msg)
{
	int err = check_destination(msg->msg_name, msg->msg_namelen);

	return err ? err : request(fd, sock, msg->msg_iov, msg->msg_iovlen);
}

XF_SHIM_EXPORT ssize_t write(int fd, const void *data, size_t len)
{
	struct xf_shim_sock *sock = xf_shim_table_find(fd);

	return sock ? send_one(fd, sock, data, len) : xf_shim_real()->write(fd, data, len);
}

XF_SHIM_EXPORT ssize_t send(int fd, const void *data, size_t len, int flags)
{
	struct xf_shim_sock *sock = xf_shim_table_find(fd);

	return sock ? send_one(fd, sock, data, len) : xf_shim_real()->send(fd, data, len, flags);
}

XF_SHIM_EXPORT ssize_t writev(int fd, const struct iovec *iov, int niov)
{
	struct xf_shim_sock *sock = xf_shim_table_find(fd);

	if (!sock)
		return xf_shim_real()->writev(fd, iov, niov);
	if (niov < 0)
		return xf_shim_return(-EINVAL);
	return xf_shim_return(request(fd, sock, iov, (size_t)niov));
}

XF_SHIM_EXPORT ssize_t sendto(int fd, const void *data, size_t len, int flags,
			      const struct sockaddr *addr, socklen_t addrlen)
{
	struct xf_shim_sock *sock = xf_shim_table_find(fd);
	int err;

	if (!sock)
		return xf_shim_real()->sendto(fd, data, len, flags, addr, addrlen);
	err = check_destination(addr, addrlen);
	return err ? xf_shim_return(err) : send_one(fd, sock, data, len);
}

XF_SHIM_EXPORT ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	struct xf_shim_sock *sock = xf_shim_table_find(fd);

	if (!sock)
		return xf_shim_real()->sendmsg(fd, msg, flags);
	return xf_shim_return(send_msg(fd, sock, msg));
}

XF_SHIM_EXPORT int sendmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags)
{
	struct xf_shim_sock *sock = xf_shim_table_find(fd);
	ssize_t len = 0;
	unsigned sent;

	if (!sock)
		return xf_shim_real()->sendmmsg(fd, msgs, n, flags);
	for (sent = 0; sent < n; sent++) {
		len = send_msg(fd, sock, &msgs[sent].msg_hdr);
		if (len < 0)
			break;
		msgs[sent].msg_len = (unsigned)len;
	}
	return sent ? (int)sent : (int)xf_shim_return(len);
}
