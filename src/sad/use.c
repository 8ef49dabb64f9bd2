/*
 * What a worker does to an SA for each packet: sequence number, limits, window, counters.
 *
 * Several workers use one SA at once. Counters are relaxed atomics: a limit may be passed by the
 * packets that are under way when it is reached, never missed. Only the window has a lock.
 */
#include "sad/db.h"
#include "sad/use.h"

/*
 * RFC 4303 s3.3.3. A plain add could pass the limit before anyone notices, and numbers would then
 * start again from the beginning.
 */
unsigned xf_sa_take_shared(struct xf_sa *sa, const struct xf_sa_form *form, unsigned n,
			   struct xf_sa_numbers *out)
{
	uint64_t begun = atomic_load_explicit(&sa->begun, memory_order_relaxed);
	uint64_t offset = atomic_load_explicit(&sa->seq_offset, memory_order_relaxed);
	uint64_t limit = form->what & XF_FORM_MAY_WRAP ? UINT64_MAX : UINT32_MAX;
	uint64_t take;

	do {
		uint64_t last = begun + offset;

		take = last < limit ? limit - last : 0;
		if (take > n)
			take = n;
		if (take == 0)
			return 0;
	} while (!atomic_compare_exchange_weak_explicit(
		&sa->begun, &begun, begun + take, memory_order_relaxed, memory_order_relaxed));
	out->first = begun;
	out->seq = begun + offset + 1;
	return (unsigned)take;
}

/* The bit is what counts; who sets the first one tells. */
static void want_attention(struct xf_sa *sa, enum xf_sa_attention why, struct xf_event_ring *events)
{
	const struct xf_event event = { .kind = XF_EVENT_SA, .sa = sa->links.id };

	if (atomic_fetch_or_explicit(&sa->attention, why, memory_order_acq_rel))
		return;
	xf_event_tell(events, &event, &sa->sad->lost);
}

/* From now on lookups pass @sa over where there is another one. */
static void expire(struct xf_sa *sa, struct xf_event_ring *events)
{
	uint8_t valid = XF_SA_VALID;

	if (!atomic_compare_exchange_strong(&sa->state, &valid, XF_SA_EXPIRED))
		return;
	atomic_fetch_add_explicit(&sa->sad->expired, 1, memory_order_relaxed);
	want_attention(sa, XF_SA_HARD_HIT, events);
}

static uint64_t sum(const _Atomic uint64_t *in, const _Atomic uint64_t *out)
{
	return atomic_load_explicit(in, memory_order_relaxed) +
	       atomic_load_explicit(out, memory_order_relaxed);
}

/* Whoever makes the step from valid to expired, or to dying, is the one that tells. */
bool xf_sa_check_limits(struct xf_sa *sa, const struct xf_sa_form *form,
			struct xf_event_ring *events)
{
	const struct xf_lifetime *life = &xf_form_terms(form)->life;
	uint64_t bytes, packets;

	if (!(form->what & XF_FORM_MORE))
		return true;
	bytes = sum(&sa->in.bytes, &sa->out.bytes);
	packets = sum(&sa->in.packets, &sa->out.packets);
	if (bytes >= life->hard_bytes || packets >= life->hard_packets) {
		expire(sa, events);
		return false;
	}
	if ((bytes >= life->soft_bytes || packets >= life->soft_packets) &&
	    !atomic_load_explicit(&sa->dying, memory_order_relaxed) &&
	    !atomic_exchange(&sa->dying, true))
		want_attention(sa, XF_SA_SOFT_HIT, events);
	return true;
}

/* Whoever is first sets it; afterwards the line stays shared between the workers. */
static void note_use(struct xf_sa *sa, uint64_t now_ns)
{
	uint64_t none = 0;

	if (atomic_load_explicit(&sa->used, memory_order_relaxed) == 0)
		atomic_compare_exchange_strong_explicit(&sa->used, &none, now_ns ? now_ns : 1,
							memory_order_relaxed, memory_order_relaxed);
}

static enum xf_drop not_valid(enum xf_sa_state state, bool out)
{
	if (out)
		return XF_DROP_OUT_STATE_INVALID;
	return state == XF_SA_ACQ ? XF_DROP_ACQUIRE_ERROR : XF_DROP_IN_STATE_INVALID;
}

enum xf_drop xf_sa_check_closer(struct xf_sa *sa, bool out, uint64_t now_ns,
				struct xf_event_ring *events)
{
	const struct xf_sa_form *form = xf_sa_form(sa);
	enum xf_sa_state state = xf_sa_get_state(sa);

	if (form->what & (out ? XF_FORM_ONLY_IN : XF_FORM_ONLY_OUT))
		return out ? XF_DROP_OUT_STATE_DIR : XF_DROP_IN_STATE_DIR;
	if (state != XF_SA_VALID)
		return not_valid(state, out);
	note_use(sa, now_ns);
	if (!xf_sa_check_limits(sa, form, events))
		return out ? XF_DROP_OUT_STATE_EXPIRED : XF_DROP_IN_STATE_EXPIRED;
	return XF_PASS;
}

bool xf_sa_limits_are_far(struct xf_sa *sa, const struct xf_sa_form *form, unsigned n,
			  uint64_t bytes)
{
	const struct xf_lifetime *life = &xf_form_terms(form)->life;
	uint64_t now_bytes = sum(&sa->in.bytes, &sa->out.bytes) + bytes;
	uint64_t now_packets = sum(&sa->in.packets, &sa->out.packets) + n;

	if (now_bytes >= life->hard_bytes || now_packets >= life->hard_packets)
		return false;
	return atomic_load_explicit(&sa->dying, memory_order_relaxed) ||
	       (now_bytes < life->soft_bytes && now_packets < life->soft_packets);
}

/* A reason has the first tally that it finds free, whoever asks: so none has two. */
void xf_sa_count_drop(struct xf_sa *sa, enum xf_drop reason)
{
	const uint64_t first = (uint64_t)reason << XF_SA_TALLY_SHIFT;

	for (unsigned i = 0; i < XF_SA_TALLIES; i++) {
		_Atomic uint64_t *tally = &sa->tallies[i];
		uint64_t seen = atomic_load_explicit(tally, memory_order_relaxed);

		if (seen == 0 && atomic_compare_exchange_strong_explicit(tally, &seen, first + 1,
									 memory_order_relaxed,
									 memory_order_relaxed))
			return;
		if (seen >> XF_SA_TALLY_SHIFT != reason)
			continue;
		atomic_fetch_add_explicit(tally, 1, memory_order_relaxed);
		return;
	}
	atomic_fetch_add_explicit(&sa->other_drops, 1, memory_order_relaxed);
}

/* A zero is neither late nor seen. */
enum xf_drop xf_sa_refuse(struct xf_sa *sa, uint64_t seq)
{
	uint64_t top = __atomic_load_n(&sa->replay->top, __ATOMIC_RELAXED);

	if (seq == 0)
		return XF_DROP_IN_STATE_SEQ;
	if (seq < top && top - seq >= sa->replay->reach)
		atomic_fetch_add_explicit(&sa->stat_replay_window, 1, memory_order_relaxed);
	else
		atomic_fetch_add_explicit(&sa->stat_replay, 1, memory_order_relaxed);
	return XF_DROP_IN_STATE_SEQ;
}

void xf_sa_get_replay_state(struct xf_sa *sa, struct xf_sa_replay_state *out)
{
	const struct xf_sa_view *cfg = xf_sa_cfg(sa);

	memset(out, 0, sizeof(*out));
	out->seq_out = atomic_load_explicit(&sa->begun, memory_order_relaxed) +
		       atomic_load_explicit(&sa->seq_offset, memory_order_relaxed);
	if (!(cfg->flags & XF_SA_ESN))
		out->seq_out = (uint32_t)out->seq_out;
	xf_spin_lock(&sa->replay_lock);
	out->seq_in = sa->replay->top;
	if (cfg->terms->replay_esn_attr) {
		out->nwords = (sa->replay->window + 31u) / 32;
		xf_replay_store(sa->replay, out->bmp, out->nwords);
	} else {
		out->bitmap = xf_replay_store32(sa->replay);
	}
	xf_spin_unlock(&sa->replay_lock);
}

void xf_sa_set_replay_state(struct xf_sa *sa, const struct xf_sa_replay_state *state)
{
	atomic_store_explicit(&sa->seq_offset,
			      state->seq_out -
				      atomic_load_explicit(&sa->begun, memory_order_relaxed),
			      memory_order_relaxed);
	xf_spin_lock(&sa->replay_lock);
	if (xf_sa_cfg(sa)->terms->replay_esn_attr)
		xf_replay_load(sa->replay, state->seq_in, state->bmp, state->nwords);
	else
		xf_replay_load32(sa->replay, (uint32_t)state->seq_in, state->bitmap);
	xf_spin_unlock(&sa->replay_lock);
}
