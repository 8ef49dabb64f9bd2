/*
 * The workers' loop over sources that come and go: in which order they are read, and that none is
 * read that is gone, or not read that has something.
 *
 * Sources are eventfds. What the test does in between, as control thread or as another worker, it
 * does while one of them is being read.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <cmocka.h>

#include "io_rig.h"

#define MANY 300
#define ROUNDS 10000

static struct rig {
	struct xf_engine *engine;
	struct xf_io_shared *shared;
	struct xf_io *io;
	struct xf_source *victim;
	char log[4 * MANY]; /* names of what was read */
	unsigned n;
	unsigned reads[MANY];
} rig;

/* What a source is called is in its port. */
static bool is(const struct xf_source *source, char name)
{
	return source->port == (uint16_t)name;
}

static void note(const struct xf_source *source)
{
	assert_true(rig.n < sizeof(rig.log) - 1);
	rig.log[rig.n++] = (char)source->port;
}

/* It has something. */
static void arrive(const struct xf_source *source)
{
	assert_return_code(eventfd_write(source->socket, 1), 0);
}

static void open_as(struct xf_source *source, char name, const struct xf_backend *backend)
{
	source->backend = backend;
	source->port = (uint16_t)name;
	source->socket = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_return_code(source->socket, 0);
	assert_int_equal(xf_shared_open(rig.shared, source), 0);
}

static struct xf_source *add(char name, const struct xf_backend *backend)
{
	struct xf_source *source = xf_shared_get_source(rig.shared);

	assert_non_null(source);
	open_as(source, name, backend);
	return source;
}

static void setup(void)
{
	memset(&rig, 0, sizeof(rig));
	rig.engine = rig_engine();
	rig.shared = rig_shared();
	rig.io = rig_io(rig.engine, rig.shared);
}

static void run(void)
{
	xf_io_run(rig.io);
	rig.log[rig.n] = '\0';
}

static void teardown(void)
{
	xf_io_free(rig.io);
	xf_io_shared_free(rig.shared);
	xf_engine_free(rig.engine);
}

/* A batch from each in turn; 'z' has one batch, and is the end. */
static int read_three(struct xf_io *io, struct xf_source *source, unsigned max, struct xf_pktq *out)
{
	(void)max;
	(void)out;
	note(source);
	source->more = ++rig.reads[source->index] < 3 && !is(source, 'z');
	if (is(source, 'z'))
		xf_io_stop(io);
	return -EAGAIN;
}

static const struct xf_backend three = { .name = "three", .receive = read_three };

static void none_waits_until_another_one_is_empty(void **state)
{
	struct xf_source *a, *b, *c;

	(void)state;
	setup();
	a = add('a', &three);
	b = add('b', &three);
	c = add('c', &three);
	arrive(b);
	arrive(c);
	arrive(a);
	arrive(add('z', &three));
	run();
	/* The loop ends when it looks for events the next time. */
	assert_string_equal(rig.log, "bcaz");
	teardown();
}

/* 'y' wakes 'z' when the others have been read to their end. */
static int read_then_end(struct xf_io *io, struct xf_source *source, unsigned max,
			 struct xf_pktq *out)
{
	int n = read_three(io, source, max, out);

	if (rig.n == 9)
		arrive(rig.victim);
	return n;
}

static const struct xf_backend until_end = { .name = "until", .receive = read_then_end };

static void each_pass_reads_all_and_the_ring_first(void **state)
{
	struct xf_source *a, *b;

	(void)state;
	setup();
	a = add('a', &until_end);
	b = add('b', &until_end);
	rig.victim = add('z', &until_end);
	open_as(rig.shared->ring, 'R', &until_end);
	arrive(b);
	arrive(a);
	arrive(rig.shared->ring);
	run();
	assert_string_equal(rig.log, "RbaRbaRbaz");
	teardown();
}

/* While 'a' is read 'b', which is to be read next, goes, and 'c' gets its place. */
static int read_and_replace(struct xf_io *io, struct xf_source *source, unsigned max,
			    struct xf_pktq *out)
{
	(void)max;
	(void)out;
	note(source);
	if (is(source, 'a')) {
		xf_shared_close(rig.shared, rig.victim);
		xf_rcu_drain();
		assert_int_equal(rig.victim->socket, -1);
		open_as(rig.victim, 'c', source->backend);
	} else {
		xf_io_stop(io);
	}
	return -EAGAIN;
}

static const struct xf_backend replacing = { .name = "replacing", .receive = read_and_replace };

static void what_was_told_of_a_source_that_is_gone_is_forgotten(void **state)
{
	(void)state;
	setup();
	arrive(add('a', &replacing));
	rig.victim = add('b', &replacing);
	arrive(rig.victim);
	arrive(add('z', &replacing));
	run();
	assert_string_equal(rig.log, "az");
	teardown();
}

/*
 * While 'a' is read it is closed and opened again as it was, and another worker hears of what has
 * arrived in between, but finds it claimed.
 */
static int read_and_reopen(struct xf_io *io, struct xf_source *source, unsigned max,
			   struct xf_pktq *out)
{
	(void)max;
	(void)out;
	note(source);
	if (is(source, 'z')) {
		xf_io_stop(io);
	} else if (rig.n == 1) {
		int socket = source->socket;

		xf_shared_close(rig.shared, source);
		assert_int_equal(xf_shared_open(rig.shared, source), 0);
		assert_int_equal(source->socket, socket);
		assert_false(xf_source_claim(source));
		/* What was told to the other worker is not told again. */
		assert_return_code(eventfd_read(socket, &(eventfd_t){ 0 }), 0);
		xf_rcu_drain();
		assert_int_equal(source->socket, socket);
		arrive(rig.victim);
	}
	return -EAGAIN;
}

static const struct xf_backend reopening = { .name = "reopening", .receive = read_and_reopen };

static void a_claim_is_not_lost_when_a_source_is_opened_again(void **state)
{
	(void)state;
	setup();
	rig.victim = add('z', &reopening);
	arrive(add('a', &reopening));
	run();
	assert_string_equal(rig.log, "aaz");
	teardown();
}

/* More than one call of epoll_wait() tells of: all are read, once for each arrival. */
static int read_one_of_many(struct xf_io *io, struct xf_source *source, unsigned max,
			    struct xf_pktq *out)
{
	(void)max;
	(void)out;
	rig.reads[source->port]++;
	if (++rig.n == MANY)
		xf_io_stop(io);
	return -EAGAIN;
}

static const struct xf_backend many = { .name = "many", .receive = read_one_of_many };

static void hundreds_are_read_and_places_are_used_again(void **state)
{
	struct xf_source *sources[MANY];
	uint32_t places;

	(void)state;
	setup();
	for (unsigned i = 0; i < MANY; i++) {
		sources[i] = add('m', &many);
		sources[i]->port = (uint16_t)i;
		arrive(sources[i]);
	}
	places = rig.shared->sources.n;
	run();
	for (unsigned i = 0; i < MANY; i++)
		assert_int_equal(rig.reads[i], 1);
	for (unsigned i = 0; i < ROUNDS; i++) {
		struct xf_source *source = sources[i * 7 % MANY];
		int socket = source->socket;

		xf_shared_close(rig.shared, source);
		assert_true(eventfd_write(socket, 1) == 0);
		xf_rcu_drain();
		assert_int_equal(eventfd_write(socket, 1), -1);
		open_as(source, 'm', &many);
	}
	assert_int_equal(rig.shared->sources.n, places);
	teardown();
}

/* The order survives the end of the list, and nothing is in it twice. */
static void the_list_of_ready_sources_goes_round(void **state)
{
	struct xf_ready *ready = calloc(1, sizeof(*ready));
	uint32_t next = 0;

	(void)state;
	assert_non_null(ready);
	for (uint32_t i = 0; i < 3 * XF_SOURCES_END; i++) {
		uint32_t index = 1 + i % (XF_SOURCES_MAX - 1);

		xf_ready_add(ready, xf_token(index, i + 1));
		xf_ready_add(ready, xf_token(index, i + 2));
		if (i < 1000)
			continue;
		assert_int_equal(ready->n, 1001);
		assert_true(xf_ready_take(ready) ==
			    xf_token(1 + next % (XF_SOURCES_MAX - 1), next + 2));
		next++;
	}
	free(ready);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(none_waits_until_another_one_is_empty),
		cmocka_unit_test(each_pass_reads_all_and_the_ring_first),
		cmocka_unit_test(what_was_told_of_a_source_that_is_gone_is_forgotten),
		cmocka_unit_test(a_claim_is_not_lost_when_a_source_is_opened_again),
		cmocka_unit_test(hundreds_are_read_and_places_are_used_again),
		cmocka_unit_test(the_list_of_ready_sources_goes_round),
	};

	return cmocka_run_group_tests_name("io_loop", tests, NULL, NULL);
}
