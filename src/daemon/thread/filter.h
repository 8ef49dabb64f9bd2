/*
 * filter.h - which system calls a thread of the daemon may still make (seccomp).
 *
 * One list for each kind of thread. What is not on it ends the whole process with SIGSYS; in the
 * control thread, where foreign libraries run, only what would lead out of the process does, and
 * the rest fails with ENOSYS. The kernel's audit log names both. Builds with a sanitizer log it and
 * go on, for sanitizers have needs of their own. A list cannot be widened again.
 *
 * Any thread, for itself. Functions return 0 or -errno.
 */
#ifndef XF_DAEMON_FILTER_H
#define XF_DAEMON_FILTER_H

/* The kinds of threads; privs.c knows what capabilities they have. */
enum xf_role {
	XF_ROLE_CONTROL, /* netlink, nftables, tc, rtnetlink, the journal */
	XF_ROLE_WORKER, /* packets */
	XF_ROLE_CRYPTO, /* ciphers for workers */
	XF_ROLE_GREETER, /* the first datagram of whoever connects */
	XF_ROLES,
};

/* The list of @role holds for the calling thread from now on, which needs no capability. */
int xf_filter_load(enum xf_role role);

#endif
