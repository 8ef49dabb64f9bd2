/*
 * control.h - the control socket, through which xfrmctl asks: docs/control-protocol.md.
 *
 * Control thread. Functions return 0 or -errno.
 */
#ifndef XF_DAEMON_CONTROL_H
#define XF_DAEMON_CONTROL_H

#include "daemon/loop.h"
#include "show.h"

struct xf_control;

/* What requests are answered from. */
struct xf_answers {
	struct xf_shown shown;
	/* Take the protection away, as xf_service_release(): the daemon stops, and what is shown
	 * may be gone. */
	int (*release)(void *arg, struct xf_io_error *error);
	void *arg;
	bool released;
};

struct xf_control_config {
	struct xf_loop *loop;
	const char *path;
	struct xf_answers answers;
};

/* Listen at cfg->path, for root only. What @cfg points to outlives it. */
int xf_control_new(const struct xf_control_config *cfg, struct xf_control **out);

/* NULL is allowed. */
void xf_control_free(struct xf_control *control);

/*
 * Answer one request, a JSON text of @len bytes: the answer, one line, which the caller frees, or
 * NULL when there is no memory.
 */
char *xf_control_answer(struct xf_answers *answers, const char *text, size_t len);

#endif
