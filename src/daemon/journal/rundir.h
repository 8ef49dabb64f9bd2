/*
 * rundir.h - /run/xfrmd: the lock that lets one daemon serve a network namespace, and its sockets.
 *
 * Control thread. Functions return 0 or a descriptor, or -errno.
 */
#ifndef XF_DAEMON_RUNDIR_H
#define XF_DAEMON_RUNDIR_H

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

#include "shim/peer.h"

#define XF_RUN_PATH_MAX sizeof(((struct sockaddr_un *)0)->sun_path)

struct xf_rundir {
	struct xf_inode_id netns;
	int lock;
	int netns_fd; /* of the daemon's own namespace, for the welcome */
	char lock_path[XF_RUN_PATH_MAX];
	uint64_t cookie; /* of the namespace; 0: the kernel does not tell (before 5.14) */
	char client_path[XF_RUN_PATH_MAX]; /* netlink clients: root's */
	char group_path[XF_RUN_PATH_MAX]; /* and those of a group's members */
	char ctl_path[XF_RUN_PATH_MAX]; /* xfrmctl */
	char policies_path[XF_RUN_PATH_MAX]; /* journal.h */
	char names_path[XF_RUN_PATH_MAX]; /* former.h */
};

/*
 * Make @dir, which has to belong to us and to be writable for nobody else, and take the lock. Locks
 * and sockets in it that daemons of other namespaces left behind are removed.
 *   -EBUSY  another daemon serves this namespace   -EPERM  the directory is not safe
 */
int xf_rundir_open(struct xf_rundir *run, const char *dir);

/* A listening socket at @path, @group's if that is not 0; what a daemon that died left there is
 * replaced. */
int xf_rundir_listen(const char *path, int type, mode_t mode, gid_t group);

/* Remove the sockets, give up the lock. */
void xf_rundir_close(struct xf_rundir *run);

#endif
