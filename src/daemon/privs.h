/*
 * privs.h - what the daemon may do after it has started.
 */
#ifndef XF_DAEMON_PRIVS_H
#define XF_DAEMON_PRIVS_H

/*
 * Give up every capability but those that running needs, for good: children and what they run
 * have none. 0 or -errno. Before threads start: capabilities belong to a thread.
 */
int xf_privs_drop(void);

/* Raise the limits of descriptors and locked memory as far as is allowed. */
void xf_privs_raise_limits(unsigned descriptors);

#endif
