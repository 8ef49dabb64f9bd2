/*
 * Threads that start without privileges: workers (threads.c), crypto threads, greeters.
 */
#include <errno.h>
#include <semaphore.h>
#include <stdlib.h>

#include "thread.h"

/* On the starter's stack: it waits until the thread has told. */
struct start {
	const struct xf_thread_config *cfg;
	int err;
	sem_t told;
};

/* malloc() asks the system for the number of processors before a thread's first arena; later it
 * could not: that is in a file. */
static void touch_memory(void)
{
	void *volatile mem = malloc(1);

	free(mem);
}

static void *run(void *arg)
{
	struct start *start = arg;
	const struct xf_thread_config cfg = *start->cfg;
	int err = cfg.prepare ? cfg.prepare(cfg.arg) : 0;

	touch_memory();
	if (!err)
		err = xf_privs_enter(cfg.role);
	start->err = err;
	sem_post(&start->told);
	if (!err)
		cfg.run(cfg.arg);
	return NULL;
}

int xf_thread_start(const struct xf_thread_config *cfg, pthread_t *out)
{
	struct start start = { .cfg = cfg };
	int err;

	if (sem_init(&start.told, 0, 0))
		return -errno;
	err = -pthread_create(out, NULL, run, &start);
	if (!err) {
		pthread_setname_np(*out, cfg->name);
		while (sem_wait(&start.told) && errno == EINTR)
			;
		err = start.err;
		if (err)
			pthread_join(*out, NULL);
	}
	sem_destroy(&start.told);
	return err;
}
