#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "ctl.h"
#include "shim/peer.h"

#define PATH_BYTES sizeof(((struct sockaddr_un *)0)->sun_path)

static int complain(int err, const char *path)
{
	if (err == -ENOENT || err == -ECONNREFUSED)
		fprintf(stderr, "xfrmctl: no xfrmd serves this network namespace (%s)\n", path);
	else
		fprintf(stderr, "xfrmctl: %s: %s\n", path, strerror(-err));
	return err;
}

/* A stream, so not xf_peer_connect(). */
static int dial(const struct xf_ctl_options *opt, const char *path)
{
	struct timeval patience = { .tv_sec = opt->patience_s };
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (opt->patience_s) {
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	}
	memcpy(un.sun_path, path, strlen(path));
	if (connect(fd, (struct sockaddr *)&un, sizeof(un))) {
		int err = -errno;

		close(fd);
		return err;
	}
	return fd;
}

static int find_path(const struct xf_ctl_options *opt, char path[PATH_BYTES])
{
	int n;

	if (!opt->socket)
		return xf_peer_path(XF_RUN_DIR, "ctl", path, PATH_BYTES);
	n = snprintf(path, PATH_BYTES, "%s", opt->socket);
	return n < (int)PATH_BYTES ? 0 : -ENAMETOOLONG;
}

/* One line each way. */
static json_t *exchange(int fd, const json_t *request)
{
	FILE *stream = fdopen(fd, "r+e");
	json_t *answer = NULL;
	char *line = NULL;
	size_t size = 0;

	if (!stream) {
		close(fd);
		return NULL;
	}
	json_dumpf(request, stream, JSON_COMPACT);
	fputc('\n', stream);
	if (!fflush(stream) && getline(&line, &size, stream) > 0)
		answer = json_loads(line, 0, NULL);
	free(line);
	fclose(stream);
	return answer;
}

static int take_result(const json_t *answer, bool quiet, json_t **result)
{
	if (!answer) {
		if (!quiet)
			fputs("xfrmctl: xfrmd gave no answer\n", stderr);
		return -EPROTO;
	}
	if (!json_is_true(json_object_get(answer, "ok"))) {
		fprintf(stderr, "xfrmctl: %s\n", xf_ctl_text(answer, "error"));
		return -EREMOTEIO;
	}
	*result = json_incref(json_object_get(answer, "result"));
	return 0;
}

int xf_ctl_ask(const struct xf_ctl_options *opt, json_t *request, bool quiet, json_t **result)
{
	char path[PATH_BYTES] = "";
	json_t *answer;
	int err = find_path(opt, path);
	int fd = err ? err : dial(opt, path);

	if (fd < 0) {
		json_decref(request);
		if (quiet && (fd == -ENOENT || fd == -ECONNREFUSED))
			return -ECONNREFUSED;
		return complain(fd, path);
	}
	answer = exchange(fd, request);
	json_decref(request);
	err = take_result(answer, quiet, result);
	json_decref(answer);
	return err;
}

static json_t *page_request(const struct xf_ctl_options *opt, const char *verb,
			    const json_t *cursor)
{
	json_t *request = json_pack("{s:s, s:b}", "verb", verb, "keys", opt->keys);

	if (json_is_integer(cursor))
		json_object_set(request, "cursor", (json_t *)(uintptr_t)cursor);
	return request;
}

static void show_all(const json_t *list, void (*show)(const json_t *element))
{
	json_t *element;
	size_t i;

	json_array_foreach(list, i, element) show(element);
}

int xf_ctl_list(const struct xf_ctl_options *opt, const char *verb, const char *name,
		void (*show)(const json_t *element))
{
	json_t *all = json_array();
	json_t *next = json_null();
	int err;

	do {
		json_t *page = NULL;

		err = xf_ctl_ask(opt, page_request(opt, verb, next), false, &page);
		if (!err && opt->json)
			json_array_extend(all, json_object_get(page, name));
		else if (!err)
			show_all(json_object_get(page, name), show);
		json_decref(next);
		next = json_incref(json_object_get(page, "next"));
		json_decref(page);
	} while (!err && json_is_integer(next));
	if (!err && opt->json)
		xf_ctl_print_json(all);
	json_decref(next);
	json_decref(all);
	return err ? EXIT_FAILURE : EXIT_SUCCESS;
}

int xf_ctl_each(const struct xf_ctl_options *opt, const char *verb, const char *name,
		bool (*see)(void *arg, const json_t *element), void *arg)
{
	json_t *next = json_null();
	bool more = true;
	int err = 0;

	while (!err && more) {
		json_t *page = NULL;
		json_t *element;
		size_t i;

		err = xf_ctl_ask(opt, page_request(opt, verb, next), true, &page);
		json_array_foreach(json_object_get(page, name), i, element) more =
			more && see(arg, element);
		next = json_object_get(page, "next");
		next = more && json_is_integer(next) ? json_incref(next) : NULL;
		more = next != NULL;
		json_decref(page);
	}
	json_decref(next);
	return err;
}
