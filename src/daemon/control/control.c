#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/epoll.h>

#include "control.h"
#include "daemon/journal/rundir.h"
#include "daemon/log.h"

/* Requests are short; answers are as long as the tables. */
#define REQUEST_MAX 4096
#define CONNECTIONS_MAX 32

struct conn {
	struct xf_watch watch;
	struct xf_control *owner;
	struct conn *next;
	char *answer; /* being sent; NULL: none */
	size_t answer_len;
	size_t sent;
	size_t len; /* of what was received */
	char buf[REQUEST_MAX];
};

struct xf_control {
	struct xf_loop *loop;
	struct xf_answers answers;
	struct xf_watch listener;
	struct conn *list;
	unsigned count;
};

static void drop(struct conn *conn)
{
	struct conn **at = &conn->owner->list;

	while (*at != conn)
		at = &(*at)->next;
	*at = conn->next;
	conn->owner->count--;
	xf_loop_remove(conn->owner->loop, &conn->watch);
	close(conn->watch.fd);
	/* It may hold keys. */
	if (conn->answer)
		xf_wipe(conn->answer, conn->answer_len);
	free(conn->answer);
	free(conn);
}

/* Send on. False: the connection is gone. */
static bool flush(struct conn *conn)
{
	struct xf_loop *loop = conn->owner->loop;
	ssize_t n = send(conn->watch.fd, conn->answer + conn->sent, conn->answer_len - conn->sent,
			 MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0 && errno != EAGAIN) {
		drop(conn);
		return false;
	}
	conn->sent += n > 0 ? (size_t)n : 0;
	if (conn->sent < conn->answer_len) {
		xf_loop_modify(loop, &conn->watch, EPOLLOUT);
		return true;
	}
	xf_wipe(conn->answer, conn->answer_len);
	free(conn->answer);
	conn->answer = NULL;
	xf_loop_modify(loop, &conn->watch, EPOLLIN);
	return true;
}

/* Answer the line that ends at @end. False: the connection is gone. */
static bool answer_line(struct conn *conn, const char *end)
{
	size_t used = (size_t)(end - conn->buf) + 1;

	conn->answer = xf_control_answer(&conn->owner->answers, conn->buf, used - 1);
	conn->len -= used;
	memmove(conn->buf, conn->buf + used, conn->len);
	if (!conn->answer) {
		drop(conn);
		return false;
	}
	conn->answer_len = strlen(conn->answer);
	conn->sent = 0;
	return flush(conn);
}

static bool receive(struct conn *conn)
{
	ssize_t n = recv(conn->watch.fd, conn->buf + conn->len, sizeof(conn->buf) - conn->len,
			 MSG_DONTWAIT);

	if (n > 0) {
		conn->len += (size_t)n;
		return true;
	}
	if (n < 0 && errno == EAGAIN)
		return true;
	drop(conn);
	return false;
}

static void conn_ready(void *arg, uint32_t events)
{
	struct conn *conn = arg;
	const char *end;

	if (conn->answer) {
		if (!flush(conn))
			return;
	} else if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && !receive(conn)) {
		return;
	}
	/* Several requests may have come at once. */
	while (!conn->answer && (end = memchr(conn->buf, '\n', conn->len))) {
		if (!answer_line(conn, end))
			return;
	}
	if (!conn->answer && conn->len == sizeof(conn->buf))
		drop(conn);
}

static int add(struct xf_control *control, int fd)
{
	struct conn *conn;
	int err;

	if (control->count >= CONNECTIONS_MAX)
		return -EMFILE;
	conn = calloc(1, sizeof(*conn));
	if (!conn)
		return -ENOMEM;
	conn->owner = control;
	conn->watch = (struct xf_watch){ .fd = fd, .ready = conn_ready, .arg = conn };
	err = xf_loop_add(control->loop, &conn->watch, EPOLLIN);
	if (err) {
		free(conn);
		return err;
	}
	conn->next = control->list;
	control->list = conn;
	control->count++;
	return 0;
}

static void listener_ready(void *arg, uint32_t events)
{
	struct xf_control *control = arg;
	int fd = accept4(control->listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (fd >= 0 && add(control, fd))
		close(fd);
}

int xf_control_new(const struct xf_control_config *cfg, struct xf_control **out)
{
	struct xf_control *control = calloc(1, sizeof(*control));
	int err;

	if (!control)
		return -ENOMEM;
	control->loop = cfg->loop;
	control->answers = cfg->answers;
	control->listener.ready = listener_ready;
	control->listener.arg = control;
	control->listener.fd = xf_rundir_listen(cfg->path, SOCK_STREAM, 0600, 0);
	err = control->listener.fd < 0 ? control->listener.fd
				       : xf_loop_add(cfg->loop, &control->listener, EPOLLIN);
	if (err) {
		if (control->listener.fd >= 0)
			close(control->listener.fd);
		free(control);
		return err;
	}
	*out = control;
	return 0;
}

void xf_control_free(struct xf_control *control)
{
	if (!control)
		return;
	while (control->list)
		drop(control->list);
	xf_loop_remove(control->loop, &control->listener);
	close(control->listener.fd);
	free(control);
}
