/*
 * Each worker's ring of events: transforms and whoever moves the worker's packets tell by it, the
 * control thread takes from all of them. engine.c opens and closes it with the worker.
 */
#include "path/worker.h"

bool xf_path_open_events(struct xf_worker *worker, unsigned size)
{
	const struct xf_env *env = &worker->engine->env;
	const struct xf_event_wake wake = { .fn = env->wake, .arg = env->arg };

	worker->events = xf_event_ring_new(size ? size : XF_WORKER_EVENTS, &wake);
	return worker->events != NULL;
}

struct xf_event_ring *xf_worker_events(struct xf_worker *worker)
{
	return worker->events;
}

struct taking {
	struct xf_sad *sad;
	void (*fn)(void *arg, const struct xf_event *event);
	void *arg;
};

static void take(void *arg, const struct xf_event *event)
{
	const struct taking *taking = arg;

	if (event->kind == XF_EVENT_SA)
		xf_sad_attend(taking->sad, event->sa);
	else if (taking->fn)
		taking->fn(taking->arg, event);
}

void xf_engine_take_events(struct xf_engine *engine,
			   void (*fn)(void *arg, const struct xf_event *event), void *arg)
{
	struct taking taking = { .sad = engine->sad, .fn = fn, .arg = arg };

	for (struct xf_worker *w = engine->workers; w; w = w->next)
		xf_event_take(w->events, take, &taking);
}

/* SAs outlive the worker: what it has told of them is acted on. */
void xf_path_close_events(struct xf_worker *worker)
{
	struct taking taking = { .sad = worker->engine->sad };

	if (worker->events)
		xf_event_take(worker->events, take, &taking);
	xf_event_ring_free(worker->events);
}
