#include "order_log.h"

#include <stdlib.h>

#define WINDOW 32
#define FLOWS_MAX 64

bool order_log_init(struct order_log *log, uint32_t room)
{
	*log = (struct order_log){ .room = room };
	log->words = calloc(room, sizeof(*log->words));
	log->bursts = calloc(room, sizeof(*log->bursts));
	return log->words && log->bursts;
}

void order_log_fini(struct order_log *log)
{
	free(log->words);
	free(log->bursts);
}

/* A peer's window, without the engine's code: bit i is top - i. */
struct peer {
	uint32_t top;
	uint32_t seen;
};

static bool peer_takes(struct peer *peer, uint32_t seq)
{
	uint32_t ahead = seq - peer->top;
	uint32_t behind = peer->top - seq;

	if (seq > peer->top) {
		peer->seen = ahead < WINDOW ? peer->seen << ahead | 1 : 1;
		peer->top = seq;
		return true;
	}
	if (behind >= WINDOW || peer->seen >> behind & 1)
		return false;
	peer->seen |= 1u << behind;
	return true;
}

struct check {
	struct order_found *found;
	struct peer peer;
	uint32_t flows;
	uint32_t last_of[FLOWS_MAX]; /* number + 1; [0]: of all */
};

static void check_burst(struct check *check, const uint32_t *words, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		uint32_t flow = check->flows ? words[i] / ORDER_RUN % check->flows : 0;
		uint32_t *last = &check->last_of[flow];
		bool down = words[i] + 1 <= *last;

		*last = words[i] + 1;
		if (check->flows) {
			check->found->reordered += down;
			continue;
		}
		check->found->inversions += down;
		check->found->window_drops += !peer_takes(&check->peer, words[i]);
	}
	check->found->packets += count;
}

/* The log whose next burst was begun first, or NULL. */
static struct order_log *earliest(struct order_log *logs, const uint32_t *at, unsigned n)
{
	struct order_log *best = NULL;

	for (unsigned i = 0; i < n; i++) {
		if (at[i] == logs[i].nbursts)
			continue;
		if (!best ||
		    logs[i].bursts[at[i]].begin_ns < best->bursts[at[best - logs]].begin_ns)
			best = &logs[i];
	}
	return best;
}

void order_check(struct order_log *logs, unsigned n, uint32_t flows, struct order_found *found)
{
	struct check check = { .found = found, .flows = flows };
	uint32_t at[8] = { 0 };
	uint64_t end_ns = 0;
	struct order_log *log;

	while ((log = earliest(logs, at, n))) {
		const struct burst *burst = &log->bursts[at[log - logs]++];

		found->overlaps += burst->begin_ns < end_ns;
		end_ns = burst->end_ns;
		check_burst(&check, log->words + burst->first, burst->count);
	}
	for (unsigned i = 0; i < n; i++)
		logs[i].nwords = logs[i].nbursts = 0;
}
