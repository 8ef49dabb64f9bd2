/* Requests on the control socket, one function a verb. */
#include <errno.h>
#include <stdlib.h>

#include "control.h"
#include "daemon/log.h"

/* SAs or policies in one answer: neither memory nor the time of other clients without bound. */
#define PAGE_DEFAULT 256
#define PAGE_MAX 1024

struct page {
	json_t *list;
	size_t left;
	bool keys;
	uint64_t now_ns;
};

/* The request's "cursor" and "limit", checked. */
static const char *read_page(const json_t *request, struct page *page, uint64_t *cursor)
{
	const json_t *at = json_object_get(request, "cursor");
	const json_t *limit = json_object_get(request, "limit");

	if (at && !json_is_integer(at))
		return "\"cursor\" must be a number";
	if (limit && (json_integer_value(limit) < 1 || json_integer_value(limit) > PAGE_MAX))
		return "\"limit\" must be a number from 1 to 1024";
	*cursor = (uint64_t)json_integer_value(at);
	page->left = limit ? (size_t)json_integer_value(limit) : PAGE_DEFAULT;
	page->list = json_array();
	page->keys = json_is_true(json_object_get(request, "keys"));
	page->now_ns = xf_clock_ns();
	return NULL;
}

static json_t *finish_page(const char *name, struct page *page, bool more, uint64_t cursor)
{
	return json_pack("{s:o, s:o}", name, page->list, "next",
			 more ? json_integer((json_int_t)cursor) : json_null());
}

static bool add_sa(void *arg, struct xf_sa *sa)
{
	struct page *page = arg;

	json_array_append_new(page->list, xf_show_sa(sa, page->keys, page->now_ns));
	return --page->left > 0;
}

static bool add_policy(void *arg, struct xf_policy *policy)
{
	struct page *page = arg;

	json_array_append_new(page->list, xf_show_policy(policy));
	return --page->left > 0;
}

static const char *answer_sa(struct xf_answers *answers, const json_t *request, json_t **result)
{
	struct page page;
	uint64_t cursor;
	const char *error = read_page(request, &page, &cursor);
	bool more;

	if (error)
		return error;
	more = xf_sad_walk(xf_engine_sad(answers->shown.engine), &cursor, add_sa, &page);
	*result = finish_page("sas", &page, more, cursor);
	return NULL;
}

static const char *answer_policy(struct xf_answers *answers, const json_t *request, json_t **result)
{
	struct page page;
	uint64_t cursor;
	const char *error = read_page(request, &page, &cursor);
	bool more;

	if (error)
		return error;
	more = xf_spd_walk(xf_engine_spd(answers->shown.engine), &cursor, add_policy, &page);
	*result = finish_page("policies", &page, more, cursor);
	return NULL;
}

static const char *answer_status(struct xf_answers *answers, const json_t *request, json_t **result)
{
	(void)request;
	*result = xf_show_status(&answers->shown);
	return NULL;
}

static const char *answer_stats(struct xf_answers *answers, const json_t *request, json_t **result)
{
	(void)request;
	*result = xf_show_stats(answers->shown.engine, &answers->shown.ports);
	return NULL;
}

static const char *answer_release(struct xf_answers *answers, const json_t *request,
				  json_t **result)
{
	static struct xf_io_error error;

	(void)request;
	xf_log(XF_LOG_NOTICE, "asked to release: stopping, traffic flows in clear from now on");
	answers->released = true;
	if (answers->release(answers->arg, &error)) {
		xf_log(XF_LOG_ERROR, "protection could not be taken away: %s", error.text);
		return error.text;
	}
	*result = json_object();
	return NULL;
}

/* Each returns NULL and *@result, or one sentence. */
static const struct {
	const char *name;
	const char *(*answer)(struct xf_answers *answers, const json_t *request, json_t **result);
} verbs[] = {
	{ "status", answer_status }, { "sa", answer_sa },	    { "policy", answer_policy },
	{ "stats", answer_stats },   { "release", answer_release },
};

static const char *dispatch(struct xf_answers *answers, const json_t *request, json_t **result)
{
	const char *name = json_string_value(json_object_get(request, "verb"));

	if (!json_is_object(request))
		return "the request is not a JSON object";
	if (!name)
		return "the request has no \"verb\"";
	if (answers->released)
		return "xfrmd is stopping";
	for (size_t i = 0; i < XF_ARRAY_SIZE(verbs); i++) {
		if (!strcmp(verbs[i].name, name))
			return verbs[i].answer(answers, request, result);
	}
	return "there is no such verb";
}

/* jansson does not wipe what it frees: keys are overwritten in their place before. */
static void wipe_keys(json_t *result)
{
	static const char *const kinds[] = { "aead", "crypt", "auth" };
	json_t *sa;
	size_t i;

	json_array_foreach(json_object_get(result, "sas"), i, sa)
	{
		for (size_t k = 0; k < XF_ARRAY_SIZE(kinds); k++) {
			const json_t *key = json_object_get(json_object_get(sa, kinds[k]), "key");

			if (key)
				xf_wipe((void *)(uintptr_t)json_string_value(key),
					json_string_length(key));
		}
	}
}

/* "<json>\n" without copies on the way. */
static char *to_line(const json_t *answer)
{
	size_t len = json_dumpb(answer, NULL, 0, JSON_COMPACT);
	char *line = len ? malloc(len + 2) : NULL;

	if (!line)
		return NULL;
	json_dumpb(answer, line, len, JSON_COMPACT);
	memcpy(line + len, "\n", 2);
	return line;
}

char *xf_control_answer(struct xf_answers *answers, const char *text, size_t len)
{
	json_error_t where;
	json_t *result = NULL;
	json_t *request;
	json_t *answer;
	const char *error;
	char *line;

	request = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);
	error = request ? dispatch(answers, request, &result) : "the request is not valid JSON";
	if (error)
		answer = json_pack("{s:b, s:s}", "ok", false, "error", error);
	else
		answer = json_pack("{s:b, s:o}", "ok", true, "result", result);
	line = to_line(answer);
	wipe_keys(result);
	json_decref(request);
	json_decref(answer);
	return line;
}
