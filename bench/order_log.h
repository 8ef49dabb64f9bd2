/*
 * order_log.h - in which order packets left, whichever thread sent them.
 *
 * Each thread writes down what it sends, without a lock and without a shared cache line: a word
 * of each packet, and for each burst when sending it began and ended. Afterwards the bursts of all
 * threads are put in the order of their times. What stood in two bursts at the same time may have
 * left in any order: such bursts overlap, and are counted.
 *
 * A log belongs to one thread while it writes, then to whoever checks. Times are nanoseconds of
 * a clock that all cores share.
 */
#ifndef BENCH_ORDER_LOG_H
#define BENCH_ORDER_LOG_H

#include <stdbool.h>
#include <stdint.h>

struct burst {
	uint64_t begin_ns;
	uint64_t end_ns;
	uint32_t first; /* of its words */
	uint32_t count;
};

struct order_log {
	uint32_t *words;
	struct burst *bursts;
	uint32_t nwords;
	uint32_t nbursts;
	uint32_t room; /* for words, and for bursts */
};

/* What was wrong; sums over all checks. */
struct order_found {
	uint64_t packets;
	uint64_t inversions; /* a number that is not above the one before it */
	uint64_t window_drops; /* by a receiver with a replay window of 32 (RFC 4303 A2) */
	uint64_t overlaps; /* bursts */
	uint64_t reordered; /* within inner flows */
};

bool order_log_init(struct order_log *log, uint32_t room);
void order_log_fini(struct order_log *log);

static inline void order_log_begin(struct order_log *log, uint64_t now_ns)
{
	log->bursts[log->nbursts] = (struct burst){ .begin_ns = now_ns, .first = log->nwords };
}

static inline void order_log_word(struct order_log *log, uint32_t word)
{
	log->words[log->nwords++] = word;
}

static inline void order_log_end(struct order_log *log, uint64_t now_ns)
{
	struct burst *burst = &log->bursts[log->nbursts++];

	burst->end_ns = now_ns;
	burst->count = log->nwords - burst->first;
}

/* Of inner flows, which take turns: so many packets of one, then of the next one. */
#define ORDER_RUN 16

/*
 * Empty @n logs, whose words are sequence numbers of one SA (@flows 0), or numbers of packets that
 * must count up within each of @flows inner flows.
 */
void order_check(struct order_log *logs, unsigned n, uint32_t flows, struct order_found *found);

#endif
