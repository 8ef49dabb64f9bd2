/*
 * greet.h - the daemon's side of the first datagram from a shim (shim/proto.h): may it come in?
 *
 * The greeter's thread (greeter.h), but for xf_greet_answer(), which is anybody's. Functions
 * return 0 or -errno.
 */
#ifndef XF_DAEMON_GREET_H
#define XF_DAEMON_GREET_H

#include "shim/proto.h"
#include "daemon/journal/rundir.h"

/* What came with a hello: descriptors of strangers, the caller's, or -1. */
struct xf_greet_fds {
	int end; /* the daemon's end of the client's socket; -1: it only asks for the mark */
	int others[XF_PEER_FDS]; /* to be closed, which may take time */
};

/*
 * Read the hello that waits on @conn and check it: the sender's namespace is ours, and it has
 * CAP_NET_ADMIN over it. On an error out->end is -1.
 *   -EXDEV  another network namespace   -EPERM  no CAP_NET_ADMIN   -EPROTO  not our protocol
 */
int xf_greet_read(int conn, const struct xf_rundir *run, struct xf_greet_fds *out);

/* Answer with @status; when it is 0 with what proves our namespace too. */
int xf_greet_answer(int conn, const struct xf_rundir *run, int status, uint32_t bypass_mark);

#endif
