/*
 * peer.h - how shim, daemon and xfrmctl find each other: the path that belongs to a network
 * namespace, the namespace's identity, datagrams with descriptors.
 *
 * No state: any thread. Functions return 0 or -errno.
 */
#ifndef XF_SHIM_PEER_H
#define XF_SHIM_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Tells two namespaces, or two sockets, that live at the same time apart. */
struct xf_inode_id {
	dev_t dev;
	ino_t ino;
};

/* The calling thread's namespace. */
int xf_netns_self(struct xf_inode_id *out);

/* What @fd stands for: a socket, or a namespace opened from /proc or by SIOCGSKNS. */
int xf_inode_of_fd(int fd, struct xf_inode_id *out);

bool xf_inode_equal(const struct xf_inode_id *a, const struct xf_inode_id *b);

/* The namespace's own path, "/run/xfrmd/<inode>.<suffix>"; -ENAMETOOLONG. */
int xf_peer_path(const char *run_dir, const char *suffix, char *buf, size_t size);

#define XF_RUN_DIR "/run/xfrmd"
/* The suffix of the socket for members of a group; root has its own, "sock". */
#define XF_PEER_GROUP "group"

/* A SEQPACKET connection to the socket at @path: a descriptor (close-on-exec) or -errno. */
int xf_peer_connect(const char *path);

#define XF_PEER_FDS 2

/*
 * Send one datagram with @nfds descriptors, which stay the caller's. Goes to the kernel directly,
 * past any hook. @flags: of sendmsg(); MSG_NOSIGNAL is added. Bytes sent or -errno.
 */
ssize_t xf_peer_sendv(int fd, const struct iovec *iov, size_t niov, const int *fds, unsigned nfds,
		      int flags);

/* The same for @len bytes in one piece. */
ssize_t xf_peer_send(int fd, const void *data, size_t len, const int *fds, unsigned nfds,
		     int flags);

/*
 * Receive one datagram with up to XF_PEER_FDS descriptors (close-on-exec), which are the
 * caller's; *@nfds says how many came, and @fds[] beyond is -1. Bytes, 0 at the end or for an
 * empty datagram, or -errno; -EMSGSIZE when it was longer than @size or had more descriptors
 * (then none is handed out).
 */
ssize_t xf_peer_recv(int fd, void *buf, size_t size, int *fds, unsigned *nfds, int flags);

#endif
