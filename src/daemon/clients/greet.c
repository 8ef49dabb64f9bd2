/* Checks on a hello. Called by greeter.c; clients.c answers those that have passed. */
#include <errno.h>
#include <unistd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <linux/sockios.h>

#include <xf/base.h>

#include "greet.h"
#include "host/netns.h"

/* Before Linux 5.14: by the namespace's inode, for which CAP_NET_ADMIN is needed. */
static int check_inode(int fd, const struct xf_rundir *run)
{
	struct xf_inode_id id;
	int ns = ioctl(fd, SIOCGSKNS);
	int err;

	/* Without rights over the sender's namespace it is another one. */
	if (ns < 0)
		return errno == EPERM ? -EXDEV : -errno;
	err = xf_inode_of_fd(ns, &id);
	close(ns);
	if (err)
		return err;
	return xf_inode_equal(&id, &run->netns) ? 0 : -EXDEV;
}

/* Does socket @fd belong to our network namespace? */
static int check_netns(int fd, const struct xf_rundir *run)
{
	uint64_t cookie = 0;
	int err;

	if (!run->cookie)
		return check_inode(fd, run);
	err = xf_netns_cookie_of(fd, &cookie);
	if (err)
		return err;
	return cookie == run->cookie ? 0 : -EXDEV;
}

/* Setting repair mode took CAP_NET_ADMIN over the namespace of that socket: it must be ours. */
static int check_capability(int fd, const struct xf_rundir *run)
{
	int repair = 0;
	socklen_t len = sizeof(repair);

	if (getsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &repair, &len))
		return -EPERM;
	return repair == 1 ? check_netns(fd, run) : -EPERM;
}

static int check_end(int fd)
{
	int value = 0;
	socklen_t len = sizeof(value);

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &value, &len) || value != AF_UNIX)
		return -EPROTO;
	len = sizeof(value);
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &len) || value != SOCK_SEQPACKET)
		return -EPROTO;
	return 0;
}

static int check_hello(const struct xf_shim_hello *hello, ssize_t len)
{
	if (len != sizeof(*hello) || hello->magic != XF_SHIM_MAGIC)
		return -EPROTO;
	return hello->version == XF_SHIM_VERSION ? 0 : -EPROTONOSUPPORT;
}

static int check_all(int conn, const struct xf_rundir *run, const struct xf_shim_hello *hello,
		     const int *fds, unsigned nfds)
{
	int err = check_netns(conn, run);

	if (err || (hello->kind == XF_SHIM_MARK && nfds == 0))
		return err;
	if (hello->kind != XF_SHIM_OPEN || nfds != 2)
		return -EPROTO;
	err = check_end(fds[0]);
	return err ? err : check_capability(fds[1], run);
}

int xf_greet_read(int conn, const struct xf_rundir *run, struct xf_greet_fds *out)
{
	struct xf_shim_hello hello;
	unsigned nfds;
	ssize_t n = xf_peer_recv(conn, &hello, sizeof(hello), out->others, &nfds, MSG_DONTWAIT);
	int err;

	out->end = -1;
	if (n < 0)
		return (int)n;
	err = check_hello(&hello, n);
	if (!err)
		err = check_all(conn, run, &hello, out->others, nfds);
	if (!err && nfds) {
		out->end = out->others[0];
		out->others[0] = -1;
	}
	return err;
}

int xf_greet_answer(int conn, const struct xf_rundir *run, int status, uint32_t bypass_mark)
{
	struct xf_shim_welcome w = {
		.magic = XF_SHIM_MAGIC,
		.version = XF_SHIM_VERSION,
		.status = status,
		.bypass_mark = status ? 0 : bypass_mark,
	};
	ssize_t n = xf_peer_send(conn, &w, sizeof(w), &run->netns_fd, status ? 0 : 1, MSG_DONTWAIT);

	return n < 0 ? (int)n : 0;
}
