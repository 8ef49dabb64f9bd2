#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "peer.h"

static int netns_from_stat(const struct stat *st, struct xf_inode_id *out)
{
	out->dev = st->st_dev;
	out->ino = st->st_ino;
	return 0;
}

int xf_netns_self(struct xf_inode_id *out)
{
	struct stat st;

	/* A namespace belongs to a thread, not to a process: setns(2). */
	if (stat("/proc/thread-self/ns/net", &st))
		return -errno;
	return netns_from_stat(&st, out);
}

int xf_inode_of_fd(int fd, struct xf_inode_id *out)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	return netns_from_stat(&st, out);
}

bool xf_inode_equal(const struct xf_inode_id *a, const struct xf_inode_id *b)
{
	return a->dev == b->dev && a->ino == b->ino;
}

int xf_peer_path(const char *run_dir, const char *suffix, char *buf, size_t size)
{
	struct xf_inode_id id;
	int err = xf_netns_self(&id);
	int n;

	if (err)
		return err;
	n = snprintf(buf, size, "%s/%lu.%s", run_dir, (unsigned long)id.ino, suffix);
	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

int xf_peer_connect(const char *path)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd;

	if (strlen(path) >= sizeof(un.sun_path))
		return -ENAMETOOLONG;
	strcpy(un.sun_path, path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&un, sizeof(un))) {
		int err = -errno;

		close(fd);
		return err;
	}
	return fd;
}

union fd_space {
	char buf[CMSG_SPACE(XF_PEER_FDS * sizeof(int))];
	struct cmsghdr align;
};

ssize_t xf_peer_sendv(int fd, const struct iovec *iov, size_t niov, const int *fds, unsigned nfds,
		      int flags)
{
	union fd_space space = { 0 };
	struct msghdr msg = { .msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = niov };
	ssize_t n;

	if (nfds) {
		struct cmsghdr *c = &space.align;

		msg.msg_control = space.buf;
		msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
	}
	do
		n = syscall(SYS_sendmsg, fd, &msg, flags | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

ssize_t xf_peer_send(int fd, const void *data, size_t len, const int *fds, unsigned nfds, int flags)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)data, .iov_len = len };

	return xf_peer_sendv(fd, &iov, 1, fds, nfds, flags);
}

static void take_fds(struct msghdr *msg, int *fds, unsigned *nfds)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		*nfds = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(c), *nfds * sizeof(int));
	}
}

ssize_t xf_peer_recv(int fd, void *buf, size_t size, int *fds, unsigned *nfds, int flags)
{
	union fd_space space;
	struct iovec iov = { .iov_base = buf, .iov_len = size };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = space.buf,
		.msg_controllen = sizeof(space.buf),
	};
	ssize_t n;

	for (unsigned i = 0; i < XF_PEER_FDS; i++)
		fds[i] = -1;
	*nfds = 0;
	do
		n = syscall(SYS_recvmsg, fd, &msg, flags | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	take_fds(&msg, fds, nfds);
	if (!(msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
		return n;
	while (*nfds) {
		(*nfds)--;
		close(fds[*nfds]);
		fds[*nfds] = -1;
	}
	return -EMSGSIZE;
}
