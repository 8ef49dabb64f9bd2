#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "link.h"

/* Long enough for a busy daemon; a program must not hang for ever on a stopped one. */
#define WAIT_MS 10000
#define NAME_LEN 12
#define MAX_PIECES 16

static _Atomic uint32_t bypass_mark;

static int fail(int err, const char *what, const char *path)
{
	const char *why = strerror(-err);

	if (err == -EXDEV)
		why = "the xfrmd there belongs to another network namespace";
	dprintf(STDERR_FILENO, "xfrm-exec: %s (%s): %s\n", what, path, why);
	return err;
}

/*
 * The daemon's end of the pair gets the name that proto.h describes. It has to be unique in the
 * namespace and means nothing otherwise.
 */
static int name_end(int fd)
{
	union {
		struct sockaddr_un un;
		unsigned char bytes[NAME_LEN];
	} name = { .un.sun_family = AF_UNIX };

	name.un.sun_path[1] = 1;
	for (int tries = 0; tries < 16; tries++) {
		if (getrandom(name.bytes + 8, 4, 0) != 4)
			return -EIO;
		if (!bind(fd, (struct sockaddr *)&name.un, NAME_LEN))
			return 0;
		if (errno != EADDRINUSE)
			return -errno;
	}
	return -EADDRINUSE;
}

/* A socket that only CAP_NET_ADMIN over this network namespace can make: see proto.h. */
static int prove_capability(void)
{
	int on = 1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on))) {
		int err = -errno;

		close(fd);
		return err;
	}
	return fd;
}

/* Is the daemon's namespace ours? A path can be older than the namespace whose number it has. */
static int check_namespace(int ns)
{
	struct xf_inode_id mine;
	struct xf_inode_id its;
	int err = xf_netns_self(&mine);

	if (!err)
		err = ns < 0 ? -EBADMSG : xf_inode_of_fd(ns, &its);
	if (!err && !xf_inode_equal(&mine, &its))
		err = -EXDEV;
	return err;
}

/* Only root, or whoever we are ourselves, may be the daemon: it is handed keys. */
static int check_owner(int conn)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(conn, SOL_SOCKET, SO_PEERCRED, &cred, &len))
		return -errno;
	return cred.uid == 0 || cred.uid == geteuid() ? 0 : -EACCES;
}

static int welcome(int conn, struct xf_shim_welcome *w)
{
	struct pollfd p = { .fd = conn, .events = POLLIN };
	int fds[XF_PEER_FDS];
	unsigned nfds;
	ssize_t n;
	int err;

	if (poll(&p, 1, WAIT_MS) <= 0)
		return -ETIMEDOUT;
	n = xf_peer_recv(conn, w, sizeof(*w), fds, &nfds, 0);
	if (n < 0)
		return (int)n;
	if (n != sizeof(*w) || w->magic != XF_SHIM_MAGIC || w->version != XF_SHIM_VERSION)
		err = -EPROTO;
	else if (w->status)
		err = w->status;
	else
		err = check_namespace(fds[0]);
	while (nfds)
		close(fds[--nfds]);
	return err;
}

static int fail_to_connect(int err, const char *path)
{
	if (err == -EACCES)
		return fail(err, "this user may not talk to xfrmd", path);
	return fail(err, "no xfrmd serves this network namespace", path);
}

/* One hello and its welcome over @conn, which ends here. */
static int greet(uint16_t kind, const int *fds, unsigned nfds, const char *path, int conn)
{
	struct xf_shim_hello hello = {
		.magic = XF_SHIM_MAGIC,
		.version = XF_SHIM_VERSION,
		.kind = kind,
	};
	struct xf_shim_welcome w;
	int err = check_owner(conn);
	ssize_t n;

	if (!err) {
		n = xf_peer_send(conn, &hello, sizeof(hello), fds, nfds, 0);
		err = n < 0 ? (int)n : welcome(conn, &w);
	}
	close(conn);
	if (err)
		return fail(err, "xfrmd does not take this socket", path);
	atomic_store(&bypass_mark, w.bypass_mark);
	return 0;
}

/* Root's socket, or else that of a group that we may be in. */
static int connect_by_path(char *path, size_t size)
{
	const char *env = getenv(XF_SHIM_PATH_ENV);
	int err;
	int conn;

	if (env) {
		err = snprintf(path, size, "%s", env) < (int)size ? 0 : -ENAMETOOLONG;
		return err ? err : xf_peer_connect(path);
	}
	err = xf_peer_path(XF_RUN_DIR, "sock", path, size);
	conn = err ? err : xf_peer_connect(path);
	if (conn != -EACCES)
		return conn;
	err = xf_peer_path(XF_RUN_DIR, XF_PEER_GROUP, path, size);
	conn = err ? err : xf_peer_connect(path);
	return conn == -ENOENT ? -EACCES : conn;
}

static int greet_by_path(uint16_t kind, const int *fds, unsigned nfds)
{
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)] = XF_RUN_DIR;
	int conn = connect_by_path(path, sizeof(path));

	return conn < 0 ? fail_to_connect(conn, path) : greet(kind, fds, nfds, path, conn);
}

int xf_shim_open(void)
{
	int proof = prove_capability();
	int pair[2];
	int err;

	if (proof < 0)
		return fail(proof, "XFRM needs CAP_NET_ADMIN", "in this network namespace");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
		err = -errno;
		close(proof);
		return err;
	}
	err = name_end(pair[1]);
	if (!err)
		err = greet_by_path(XF_SHIM_OPEN, (int[]){ pair[1], proof }, 2);
	close(proof);
	close(pair[1]);
	if (err)
		close(pair[0]);
	return err ? err : pair[0];
}

uint32_t xf_shim_known_mark(void)
{
	return atomic_load(&bypass_mark);
}

int xf_shim_bypass_mark(uint32_t *out)
{
	int err = xf_shim_known_mark() ? 0 : greet_by_path(XF_SHIM_MARK, NULL, 0);

	*out = xf_shim_known_mark();
	return err;
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Until @fd is ready for @events or @deadline; a signal does not end it, as in the kernel. */
static int wait_ready(int fd, short events, int64_t deadline)
{
	struct pollfd p = { .fd = fd, .events = events };

	for (;;) {
		int64_t left = deadline - now_ms();
		int n = poll(&p, 1, left > 0 ? (int)left : 0);

		if (n > 0)
			return 0;
		if (n == 0)
			return -ETIMEDOUT;
		if (errno != EINTR)
			return -errno;
	}
}

static int deliver(int fd, const struct iovec *iov, size_t niov, int token, int64_t deadline)
{
	for (;;) {
		ssize_t n = xf_peer_sendv(fd, iov, niov, &token, 1, MSG_DONTWAIT);
		int err;

		if (n >= 0)
			return 0;
		if (n == -EPIPE || n == -ECONNRESET || n == -ENOTCONN)
			return -ECONNREFUSED;
		if (n != -EAGAIN)
			return (int)n;
		err = wait_ready(fd, POLLOUT, deadline);
		if (err)
			return err;
	}
}

static int result(int token, int64_t deadline, uint32_t *value)
{
	struct xf_shim_result res;
	int err = wait_ready(token, POLLIN, deadline);

	if (err)
		return err;
	if (recv(token, &res, sizeof(res), 0) != sizeof(res))
		return -ECONNREFUSED;
	if (value)
		*value = res.value;
	return res.status;
}

int xf_shim_call(int fd, const struct xf_shim_msg *msg, const struct iovec *iov, size_t niov,
		 uint32_t *value)
{
	struct iovec pieces[MAX_PIECES + 1] = { { .iov_base = (void *)(uintptr_t)msg,
						  .iov_len = sizeof(*msg) } };
	int64_t deadline = now_ms() + WAIT_MS;
	int token[2];
	int err;

	if (niov > MAX_PIECES)
		return -EMSGSIZE;
	if (niov)
		memcpy(pieces + 1, iov, niov * sizeof(*iov));
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, token))
		return -errno;
	err = deliver(fd, pieces, niov + 1, token[1], deadline);
	close(token[1]);
	if (!err)
		err = result(token[0], deadline, value);
	close(token[0]);
	return err;
}
