/*
 * greeter.h - a thread that greets whoever connects, so that nobody else has to wait for strangers.
 *
 * It has a table of descriptors of its own, in which nothing of the daemon's is but its listener
 * and a socket to the control thread; no capability; and few system calls (privs.h). Strangers'
 * descriptors, which can take any time to be closed, come here and go here. Who has shown
 * CAP_NET_ADMIN is handed on as a struct xf_greeted: from then on the control thread's client.
 *
 * Each connection has a deadline, each user who is counted a quota, the table a size: when it is
 * full the one that has been silent longest goes.
 *
 * Control thread. Functions return 0 or -errno.
 */
#ifndef XF_DAEMON_GREETER_H
#define XF_DAEMON_GREETER_H

#include "daemon/journal/rundir.h"

/* Connections that have not been greeted yet: all, and of one user where users are counted. */
#define XF_GREETER_MAX 256
#define XF_GREETER_QUOTA 32
/* A connection that says nothing for so long goes. */
#define XF_GREETER_WAIT_NS (3 * XF_NSEC_PER_SEC)

/*
 * Who has passed, by SO_PEERCRED. Two descriptors come with it, which are the receiver's: the
 * daemon's end of the client's socket, and the connection on which it waits for its welcome
 * (xf_greet_answer()). A process of its own will send the same one day.
 */
struct xf_greeted {
	uint32_t uid;
	uint32_t gid;
	int32_t pid;
	uint32_t pad;
};

struct xf_greeter_config {
	const struct xf_rundir *run;
	const char *path;
	mode_t mode; /* of the socket there */
	gid_t group; /* likewise */
	bool counted; /* has each user a quota? root never has one */
	uint32_t bypass_mark;
};

struct xf_greeter;

/* Listen at cfg->path and start the thread. */
int xf_greeter_new(const struct xf_greeter_config *cfg, struct xf_greeter **out);

/* Stop it, wait for it. NULL is allowed. */
void xf_greeter_free(struct xf_greeter *greeter);

/* Readable when somebody has passed. */
int xf_greeter_fd(const struct xf_greeter *greeter);

/* The next who has; -EAGAIN: nobody. fds[0] is the end, fds[1] the connection. */
int xf_greeter_take(const struct xf_greeter *greeter, struct xf_greeted *out, int fds[2]);

/* Those that were not let in. */
uint64_t xf_greeter_refused(const struct xf_greeter *greeter);

#endif
