/*
 * greet.h - the daemon's side of the first datagram from a shim (shim/proto.h): may it come in?
 *
 * Control thread. Functions return 0 or -errno.
 */
#ifndef XF_DAEMON_GREET_H
#define XF_DAEMON_GREET_H

#include "shim/proto.h"
#include "rundir.h"

/*
 * Read the hello that waits on @conn and check it: the sender's namespace is ours, and it has
 * CAP_NET_ADMIN over it. On success *@end is the daemon's end of the client's socket, which the
 * caller owns, or -1 when the client only asks for the mark.
 *   -EXDEV  another network namespace   -EPERM  no CAP_NET_ADMIN   -EPROTO  not our protocol
 */
int xf_greet_accept(int conn, const struct xf_rundir *run, int *end);

/* Answer with @status; when it is 0 with what proves our namespace too. */
int xf_greet_answer(int conn, const struct xf_rundir *run, int status, uint32_t bypass_mark);

#endif
