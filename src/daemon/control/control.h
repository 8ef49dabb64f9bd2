/*
 * control.h - the control socket, through which xfrmctl asks: docs/control-protocol.md.
 *
 * Control thread. Functions return 0 or -errno.
 */
#ifndef XF_DAEMON_CONTROL_H
#define XF_DAEMON_CONTROL_H

#include "daemon/service.h"

struct xf_control;

/* Listen at the service's ctl_path, for root only. */
int xf_control_new(struct xf_service *service, struct xf_control **out);

/* NULL is allowed. */
void xf_control_free(struct xf_control *control);

/*
 * Answer one request, a JSON text of @len bytes: the answer, one line, which the caller frees, or
 * NULL when there is no memory.
 */
char *xf_control_answer(struct xf_service *service, const char *text, size_t len);

#endif
