/*
 * thread.h - start a thread of the daemon that has given up its privileges before it does anything.
 *
 * Any thread. Functions return 0 or -errno.
 */
#ifndef XF_DAEMON_THREAD_H
#define XF_DAEMON_THREAD_H

#include <pthread.h>

#include "privs.h"

struct xf_thread_config {
	const char *name; /* as /proc and ps show it; 15 letters */
	enum xf_role role;
	/* With the starter's privileges still, or NULL; an error ends the thread. */
	int (*prepare)(void *arg);
	void (*run)(void *arg);
	void *arg;
};

/*
 * Start it and wait until it has become what @cfg says; pthread_join() it. On an error there is no
 * thread.
 */
int xf_thread_start(const struct xf_thread_config *cfg, pthread_t *out);

#endif
