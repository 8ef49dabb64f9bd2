/* Counters that lists describe: descriptors, sums over workers, JSON. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "capture/nft/tables.h"
#include "daemon/control/show.h"
#include "path/worker.h"
#include "port/backend.h"

/* Groups whose descriptors together are all words of one struct, the first ones left out. */
struct subject {
	const struct xf_counter_group *groups[2];
	size_t unused_words;
	size_t size;
};

static const struct subject subjects[] = {
	/* XF_PASS is no drop. */
	{ { &xf_drop_counters, &xf_engine_counters }, 1, sizeof(struct xf_engine_stats) },
	{ { &xf_io_counters }, 0, sizeof(struct xf_io_stats) },
	{ { &xf_capture_counters }, 0, sizeof(struct xf_capture_counts) },
	{ { &xf_clients_counters }, 0, sizeof(struct xf_clients_stats) },
};

#define WORDS_MAX 128

static void check_text(const struct xf_counter_desc *desc)
{
	assert_non_null(desc->name);
	assert_true(desc->name[0] && !desc->name[strcspn(desc->name, " \t\n\"\\-.")]);
	assert_true(desc->unit && desc->unit[0]);
	assert_true(desc->help && desc->help[0]);
	assert_true(desc->help[strlen(desc->help) - 1] != '.');
	assert_true(desc->kind == XF_KIND_COUNTER || desc->kind == XF_KIND_GAUGE);
}

static void every_word_has_one_descriptor(void **unused)
{
	(void)unused;
	for (size_t s = 0; s < XF_ARRAY_SIZE(subjects); s++) {
		const struct subject *subject = &subjects[s];
		unsigned described[WORDS_MAX] = { 0 };

		assert_true(subject->size <= sizeof(uint64_t) * WORDS_MAX);
		for (size_t g = 0; g < XF_ARRAY_SIZE(subject->groups) && subject->groups[g]; g++) {
			for (size_t i = 0; i < subject->groups[g]->n; i++) {
				size_t offset = subject->groups[g]->descs[i].offset;

				assert_int_equal(offset % sizeof(uint64_t), 0);
				assert_true(offset < subject->size);
				described[offset / sizeof(uint64_t)]++;
			}
		}
		for (size_t i = 0; i < subject->size / sizeof(uint64_t); i++)
			assert_int_equal(described[i], i >= subject->unused_words);
	}
}

static void check_apart(const struct xf_counter_desc *a, const struct xf_counter_desc *b)
{
	assert_string_not_equal(a->name, b->name);
	assert_true(strcmp(a->unit, b->unit) != 0 || strcmp(a->help, b->help) != 0);
}

static void each_counter_is_told_from_others(void **unused)
{
	(void)unused;
	for (size_t s = 0; s < XF_ARRAY_SIZE(subjects); s++) {
		for (size_t g = 0; g < 2 && subjects[s].groups[g]; g++) {
			const struct xf_counter_group *group = subjects[s].groups[g];

			for (size_t i = 0; i < group->n; i++) {
				check_text(&group->descs[i]);
				for (size_t k = 0; k < i; k++)
					check_apart(&group->descs[i], &group->descs[k]);
			}
		}
	}
}

/* A number for each word of each worker that tells both. */
static uint64_t mark(size_t word, unsigned worker)
{
	return (word + 1) << 20 << 8 * worker;
}

static struct xf_worker *new_worker(struct xf_engine *engine)
{
	const struct xf_worker_config cfg = {
		.pool = { .packets = 8, .small_bufs = 8, .large_bufs = 2 },
	};
	struct xf_worker *worker = xf_worker_new(engine, &cfg);

	assert_non_null(worker);
	return worker;
}

static void fill(void *counters, size_t size, unsigned worker)
{
	_Atomic uint64_t *words = counters;

	for (size_t i = 0; i < size / sizeof(uint64_t); i++)
		atomic_store(&words[i], mark(i, worker));
}

static void check_words(const void *sums, size_t first, size_t size, unsigned workers)
{
	const uint64_t *words = sums;

	for (size_t i = first; i < size / sizeof(uint64_t); i++) {
		uint64_t want = 0;

		for (unsigned k = 0; k < workers; k++)
			want += mark(i, k);
		assert_int_equal(words[i], want);
	}
}

/* The word of XF_PASS is nobody's and stays 0. */
static void check_sums(struct xf_engine *engine, unsigned workers)
{
	struct xf_engine_stats stats;

	xf_engine_get_stats(engine, &stats);
	assert_int_equal(stats.drops[XF_PASS], 0);
	check_words(&stats, 1, sizeof(stats), workers);
}

/* Those of workers that have gone stay in the sum. */
static void engine_sums_its_workers(void **unused)
{
	const struct xf_engine_config cfg = { .sad = { .seed = { 1, 2 } },
					      .spd = { .seed = { 1, 2 } } };
	struct xf_engine *engine = xf_engine_new(&cfg);
	struct xf_worker *workers[3];

	(void)unused;
	assert_non_null(engine);
	for (unsigned i = 0; i < 3; i++) {
		workers[i] = new_worker(engine);
		fill(&workers[i]->count, sizeof(workers[i]->count), i);
		check_sums(engine, i + 1);
	}
	for (unsigned i = 0; i < 3; i++) {
		xf_worker_free(workers[(i + 1) % 3]);
		check_sums(engine, 3);
	}
	xf_engine_free(engine);
	xf_rcu_drain();
}

/* Two workers, and what is counted for both of them. */
static void io_sums_workers_and_what_they_share(void **unused)
{
	static struct xf_io io[2];
	static struct xf_source ring;
	static struct xf_io_shared shared = { .ring = &ring };
	struct xf_io_stats sums = { 0 };
	struct xf_io_queues queues = { 0 };

	(void)unused;
	io[1].tun.marks = io[1].tun.supers = io[0].tun.supers = true;
	for (unsigned i = 0; i < 2; i++) {
		fill(&io[i].count, sizeof(io[i].count), i);
		xf_io_add_stats(&io[i], &sums);
		check_words(&sums, 0, sizeof(sums), i + 1);
		xf_io_add_queue(&io[i], &queues);
	}
	fill(&shared.count, sizeof(shared.count), 2);
	xf_io_shared_add_stats(&shared, &sums);
	check_words(&sums, 0, sizeof(sums), 3);
	assert_int_equal(queues.marks, 1);
	assert_int_equal(queues.supers, 2);
	assert_int_equal(queues.udp_supers, 0);
	assert_int_equal(queues.steered, 0);
}

static int count_in_table(void *arg, struct xf_capture_counts *out)
{
	(void)arg;
	fill(out, sizeof(*out), 1);
	return 0;
}

static int lose_table(void *arg, struct xf_capture_counts *out)
{
	count_in_table(arg, out);
	return -ENOENT;
}

static void replace_table(struct xf_capture *capture)
{
	char *script = xf_tables_in_place_of_old(capture, false, strdup("\n"));

	assert_non_null(script);
	free(script);
}

/* What a table has counted that is replaced, or has gone, stays in the sum; once. */
static void capture_keeps_what_tables_have_counted(void **unused)
{
	struct xf_capture_ops ops = { .nft_counters = lose_table };
	static struct xf_capture capture;
	struct xf_capture_stats stats;

	(void)unused;
	capture.ops = &ops;
	capture.nft = true;
	fill(&capture.count, sizeof(capture.count), 0);
	replace_table(&capture);
	check_words(&capture.count, 0, sizeof(capture.count), 1);
	ops.nft_counters = count_in_table;
	replace_table(&capture);
	check_words(&capture.count, 0, sizeof(capture.count), 2);
	assert_int_equal(xf_capture_get_stats(&capture, &stats), 0);
	for (size_t i = 0; i < sizeof(stats.count) / sizeof(uint64_t); i++)
		assert_int_equal(((const uint64_t *)(const void *)&stats.count)[i],
				 mark(i, 0) + 2 * mark(i, 1));
}

/* By the names of members, as this file has them: what a descriptor says is not asked. */
static void engine_members_have_their_names(void **unused)
{
	struct xf_engine_stats stats = { .out_packets = 1, .in_bytes = 2, .mss_clamped = 3 };
	json_t *shown;
	json_t *drops;

	(void)unused;
	stats.drops[XF_DROP_IN_ERROR] = 4;
	stats.drops[XF_DROP_IN_NOT_FORWARDED] = UINT64_MAX / 2;
	shown = xf_show_counters(&xf_engine_counters, &stats);
	drops = xf_show_counters(&xf_drop_counters, &stats);
	assert_int_equal(json_integer_value(json_object_get(shown, "out_packets")), 1);
	assert_int_equal(json_integer_value(json_object_get(shown, "in_bytes")), 2);
	assert_int_equal(json_integer_value(json_object_get(shown, "mss_clamped")), 3);
	assert_int_equal(json_integer_value(json_object_get(drops, "XfrmInError")), 4);
	assert_int_equal(json_integer_value(json_object_get(drops, "XfrmdInNotForwarded")),
			 UINT64_MAX / 2);
	json_decref(shown);
	json_decref(drops);
}

/* Programs read these, in this order; others may stand between them. */
static const char promised[] =
	"xfrm_stat XfrmInError XfrmInBufferError XfrmInHdrError XfrmInNoStates "
	"XfrmInStateProtoError XfrmInStateModeError XfrmInStateSeqError XfrmInStateExpired "
	"XfrmInStateMismatch XfrmInStateInvalid XfrmInTmplMismatch XfrmInNoPols "
	"XfrmInPolBlock XfrmInPolError XfrmOutError XfrmOutBundleGenError "
	"XfrmOutBundleCheckError XfrmOutNoStates XfrmOutStateProtoError "
	"XfrmOutStateModeError XfrmOutStateSeqError XfrmOutStateExpired XfrmOutPolBlock "
	"XfrmOutPolDead XfrmOutPolError XfrmFwdHdrError XfrmOutStateInvalid "
	"XfrmAcquireError XfrmOutStateDirError XfrmInStateDirError XfrmInIptfsError "
	"XfrmOutNoQueueSpace XfrmdOutHdrError XfrmdOutTooBig XfrmdOutNoBuffer "
	"XfrmdOutSendError XfrmdInKeepalive XfrmdInIkeUnclaimed XfrmdInDummy "
	"XfrmdInDeliverError XfrmdFragHdrError XfrmdFragOverlap XfrmdFragTimeout "
	"XfrmdFragLimit XfrmdIcmpIgnored XfrmdOutLoop XfrmdInNotForwarded "
	"engine out_packets out_bytes in_packets in_bytes clear_packets lin_copies "
	"payload_bytes_copied csum_copies gro_supers gro_joined mss_clamped "
	"io tun_rx tun_tx tun_rx_supers tun_tx_supers raw_rx raw_tx udp_rx udp_rx_calls "
	"udp_tx udp_tx_calls packet_tx ring_rx ring_full clear_tx nat_tx reply_tx "
	"send_errors truncated rx_no_buffer udp_in_use wakeups "
	"capture captured plaintext_dropped blocked_dropped misrouted_dropped nat_dropped "
	"conntrack_deleted backstop_dropped backstop_captured twin_dropped "
	"clients now accepted refused requests ";

/* Each descriptor has its member in the JSON, with its value and in its place. */
static void check_shown(const struct xf_counter_group *group, const uint64_t *words)
{
	json_t *shown = xf_show_counters(group, words);
	const char *name;
	json_t *value;
	size_t i = 0;

	assert_int_equal(json_object_size(shown), group->n);
	json_object_foreach(shown, name, value)
	{
		assert_string_equal(name, group->descs[i].name);
		assert_int_equal(json_integer_value(value),
				 mark(group->descs[i].offset / sizeof(uint64_t), 0));
		i++;
	}
	json_decref(shown);
}

/* @next, behind @name where that comes next. */
static const char *skip_promised(const char *next, const char *name)
{
	size_t len = strlen(name);

	return strncmp(next, name, len) == 0 && next[len] == ' ' ? next + len + 1 : next;
}

static void json_has_each_name_in_order(void **unused)
{
	uint64_t words[WORDS_MAX];
	const char *next = promised;

	(void)unused;
	for (size_t i = 0; i < WORDS_MAX; i++)
		words[i] = mark(i, 0);
	for (size_t s = 0; s < XF_ARRAY_SIZE(subjects); s++) {
		for (size_t g = 0; g < 2 && subjects[s].groups[g]; g++) {
			const struct xf_counter_group *group = subjects[s].groups[g];

			check_shown(group, words);
			next = skip_promised(next, group->name);
			for (size_t i = 0; i < group->n; i++)
				next = skip_promised(next, group->descs[i].name);
		}
	}
	if (*next)
		fail_msg("missing, or not in its place: %s", next);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_word_has_one_descriptor),
		cmocka_unit_test(each_counter_is_told_from_others),
		cmocka_unit_test(engine_sums_its_workers),
		cmocka_unit_test(io_sums_workers_and_what_they_share),
		cmocka_unit_test(capture_keeps_what_tables_have_counted),
		cmocka_unit_test(engine_members_have_their_names),
		cmocka_unit_test(json_has_each_name_in_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
