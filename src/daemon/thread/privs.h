/*
 * privs.h - what the daemon's threads may do once they run.
 *
 *   thread    capabilities                                               system calls
 *   control   NET_ADMIN NET_RAW NET_BIND_SERVICE IPC_LOCK BPF PERFMON    filter.c: control
 *   worker    NET_RAW, or NET_ADMIN where the kernel wants that for      filter.c: worker
 *             SO_MARK at each send (before 6.4)
 *   crypto    none                                                       filter.c: every_thread
 *   greeter   none, or NET_ADMIN where there is no SO_NETNS_COOKIE       filter.c: greeter
 *
 * All: no new privileges, empty bounding, inheritable and ambient sets. Capabilities and filters
 * belong to a thread, so each gives them up itself (thread.h), before it does anything else.
 *
 * Functions return 0 or -errno.
 */
#ifndef XF_DAEMON_PRIVS_H
#define XF_DAEMON_PRIVS_H

#include <stdbool.h>

#include "filter.h"

/*
 * Once, before threads start: no core dump and nobody's debugger but root's, for keys are in our
 * memory; find out which of the capabilities above this kernel asks for.
 */
int xf_privs_init(void);

/*
 * The calling thread becomes one of @role, for good: nothing but what the table says is left to
 * it. Of capabilities that the process does not have there is less. On an error the thread must
 * not go on.
 */
int xf_privs_enter(enum xf_role role);

/* Of what the control thread wants, is @cap (CAP_...) missing? Before xf_privs_enter(). */
bool xf_privs_lacks(int cap);

/* Raise the limits of descriptors and locked memory as far as is allowed. */
void xf_privs_raise_limits(unsigned descriptors);

/* Close what came from whoever started us, but stdio, and what systemd says is for us. */
int xf_privs_close_inherited(void);

#endif
