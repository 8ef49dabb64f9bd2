/*
 * hooks.h - the C library's own functions, behind our hooks of the same names.
 */
#ifndef XF_SHIM_HOOKS_H
#define XF_SHIM_HOOKS_H

#include <errno.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#define XF_SHIM_EXPORT __attribute__((visibility("default")))

/* X(name, type of the function, parameters) */
#define XF_SHIM_REAL_LIST(X)                                                                     \
	X(socket, int, (int, int, int))                                                          \
	X(bind, int, (int, const struct sockaddr *, socklen_t))                                  \
	X(connect, int, (int, const struct sockaddr *, socklen_t))                               \
	X(getsockname, int, (int, struct sockaddr *, socklen_t *))                               \
	X(setsockopt, int, (int, int, int, const void *, socklen_t))                             \
	X(getsockopt, int, (int, int, int, void *, socklen_t *))                                 \
	X(dup, int, (int))                                                                       \
	X(dup2, int, (int, int))                                                                 \
	X(dup3, int, (int, int, int))                                                            \
	X(fcntl, int, (int, int, ...))                                                           \
	X(fcntl64, int, (int, int, ...))                                                         \
	X(write, ssize_t, (int, const void *, size_t))                                           \
	X(writev, ssize_t, (int, const struct iovec *, int))                                     \
	X(send, ssize_t, (int, const void *, size_t, int))                                       \
	X(sendto, ssize_t, (int, const void *, size_t, int, const struct sockaddr *, socklen_t)) \
	X(sendmsg, ssize_t, (int, const struct msghdr *, int))                                   \
	X(sendmmsg, int, (int, struct mmsghdr *, unsigned, int))                                 \
	X(read, ssize_t, (int, void *, size_t))                                                  \
	X(recv, ssize_t, (int, void *, size_t, int))                                             \
	X(recvfrom, ssize_t, (int, void *, size_t, int, struct sockaddr *, socklen_t *))         \
	X(recvmsg, ssize_t, (int, struct msghdr *, int))

struct xf_shim_real {
#define XF_SHIM_REAL_FIELD(name, ret, args) ret(*name) args;
	XF_SHIM_REAL_LIST(XF_SHIM_REAL_FIELD)
#undef XF_SHIM_REAL_FIELD
};

/* Filled before the first hook runs: libraries' constructors call hooks before ours has run. */
const struct xf_shim_real *xf_shim_real(void);

struct xf_shim_sock;

/* The socket's port id; chosen by the daemon on first use. 0 or -errno. */
int xf_shim_autobind(int fd, struct xf_shim_sock *sock);

/* A C library's answer: @value, or -1 with errno for a negative one. */
static inline ssize_t xf_shim_return(ssize_t value)
{
	if (value >= 0)
		return value;
	errno = (int)-value;
	return -1;
}

#endif
