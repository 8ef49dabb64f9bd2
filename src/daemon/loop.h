/*
 * loop.h - the control thread's event loop: descriptors, one timer, a chance to tidy up.
 *
 * One thread. It is registered for RCU and offline while it waits. Functions return 0 or -errno.
 */
#ifndef XF_DAEMON_LOOP_H
#define XF_DAEMON_LOOP_H

#include <xf/base.h>

struct xf_loop;

/* A descriptor that is waited for; embedded in whatever it belongs to, which owns @fd. */
struct xf_watch {
	int fd;
	void (*ready)(void *arg, uint32_t events); /* EPOLLIN, … */
	void *arg;
};

struct xf_loop_config {
	/* The deadline is over. */
	void (*timer)(void *arg, uint64_t now_ns);
	/* Nothing is ready: what can wait is done now, before the loop blocks. */
	void (*idle)(void *arg);
	void *arg;
};

int xf_loop_new(const struct xf_loop_config *cfg, struct xf_loop **out);
void xf_loop_free(struct xf_loop *loop);

int xf_loop_add(struct xf_loop *loop, struct xf_watch *watch, uint32_t events);
int xf_loop_modify(struct xf_loop *loop, struct xf_watch *watch, uint32_t events);

/* @watch is not called any more, not even for what is ready already. */
void xf_loop_remove(struct xf_loop *loop, struct xf_watch *watch);

/* Call timer() at @at_ns; UINT64_MAX: never. One deadline: this replaces the one before. */
void xf_loop_set_deadline(struct xf_loop *loop, uint64_t at_ns);

/* Until xf_loop_stop(). */
void xf_loop_run(struct xf_loop *loop);
void xf_loop_stop(struct xf_loop *loop);

/* The engine's clock: runs on while the machine is suspended, as the lifetimes of SAs do. */
uint64_t xf_clock_ns(void);

#endif
