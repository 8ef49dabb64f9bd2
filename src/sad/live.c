/*
 * What an SA counts, to values and back. A worker may still count drops while it is read, so all of
 * it is read as the atomics that it is; what orders packets was read behind a grace period.
 */
#include <errno.h>

#include <xf/freeze.h>

#include "sad/sa.h"

/* The block. */
struct values {
	uint64_t begun, seq_offset;
	uint64_t out[3], in[3];
	uint64_t used, added;
	uint64_t tallies[XF_SA_TALLIES], other_drops;
	uint32_t stat_replay_window, stat_replay, stat_integrity;
	uint32_t learned_until_s;
	uint32_t reasons;
	uint16_t route_mtu, learned_mtu;
	uint8_t dying;
	uint8_t unused[7];
};
_Static_assert(sizeof(struct values) == XF_SA_LIVE_BYTES, "as the header says");
_Static_assert(sizeof(struct xf_sa_use) == 3 * sizeof(uint64_t), "three counters");

/* A row of the table: where it is in an SA, and in the block. */
struct row {
	uint16_t field;
	uint16_t size;
	uint16_t unit; /* what is read at once; 0: it is in no SA */
	uint16_t from;
	uint16_t to;
};

#define SIZE_OF(member) sizeof(((struct values *)0)->member)
#define ROW(name, member, bytes)                                                           \
	{                                                                                  \
		XF_SA_LIVE_##name, SIZE_OF(member), bytes, offsetof(struct xf_sa, member), \
			offsetof(struct values, member)                                    \
	}

static const struct row rows[XF_SA_LIVE_FIELDS] = {
	ROW(BEGUN, begun, 8),
	ROW(SEQ_OFFSET, seq_offset, 8),
	ROW(OUT, out, 8),
	ROW(IN, in, 8),
	ROW(USED, used, 8),
	ROW(ADDED, added, 8),
	ROW(TALLIES, tallies, 8),
	ROW(OTHER_DROPS, other_drops, 8),
	ROW(STAT_REPLAY_WINDOW, stat_replay_window, 4),
	ROW(STAT_REPLAY, stat_replay, 4),
	ROW(STAT_INTEGRITY, stat_integrity, 4),
	ROW(LEARNED_UNTIL, learned_until_s, 4),
	{ XF_SA_LIVE_REASONS, SIZE_OF(reasons), 0, 0, offsetof(struct values, reasons) },
	ROW(ROUTE_MTU, route_mtu, 2),
	ROW(LEARNED_MTU, learned_mtu, 2),
	ROW(DYING, dying, 1),
};

#define LOAD(type, at) \
	atomic_load_explicit((const _Atomic type *)(const void *)(at), memory_order_relaxed)
#define STORE(type, at, value) \
	atomic_store_explicit((_Atomic type *)(void *)(at), (type)(value), memory_order_relaxed)

static uint64_t read_unit(const uint8_t *at, unsigned unit)
{
	switch (unit) {
	case 8:
		return LOAD(uint64_t, at);
	case 4:
		return LOAD(uint32_t, at);
	case 2:
		return LOAD(uint16_t, at);
	default:
		return LOAD(uint8_t, at);
	}
}

static void write_unit(uint8_t *at, unsigned unit, uint64_t value)
{
	switch (unit) {
	case 8:
		STORE(uint64_t, at, value);
		break;
	case 4:
		STORE(uint32_t, at, value);
		break;
	case 2:
		STORE(uint16_t, at, value);
		break;
	default:
		STORE(uint8_t, at, value);
	}
}

static void values_of(const struct xf_sa *sa, struct values *v)
{
	memset(v, 0, sizeof(*v));
	for (unsigned i = 0; i < XF_SA_LIVE_FIELDS; i++) {
		const uint8_t *from = (const uint8_t *)sa + rows[i].from;
		uint8_t *to = (uint8_t *)v + rows[i].to;

		for (unsigned off = 0; rows[i].unit && off < rows[i].size; off += rows[i].unit)
			write_unit(to + off, rows[i].unit, read_unit(from + off, rows[i].unit));
	}
}

void xf_sa_live_save(const struct xf_sa *sa, struct xf_sa_live_field *table, uint8_t *values)
{
	struct values v;

	values_of(sa, &v);
	v.used = xf_sa_time_elsewhere(sa, v.used);
	v.added = xf_sa_time_elsewhere(sa, v.added);
	v.reasons = XF_DROP_MAX;
	for (unsigned i = 0; i < XF_SA_LIVE_FIELDS; i++)
		table[i] = (struct xf_sa_live_field){ rows[i].field, rows[i].size, rows[i].to };
	memcpy(values, &v, sizeof(v));
}

size_t xf_sa_window_save(struct xf_sa *sa, uint8_t *out)
{
	size_t len;

	xf_spin_lock(&sa->replay_lock);
	len = xf_replay_save(sa->replay, out);
	xf_spin_unlock(&sa->replay_lock);
	return len;
}

static const struct xf_sa_live_field *find(const struct xf_sa_live *live, unsigned field)
{
	for (size_t i = 0; i < live->nfields; i++)
		if (live->table[i].field == field)
			return &live->table[i];
	return NULL;
}

/* As many rows as ours, and each of ours there: then none is of another kind, or there twice. */
static bool gather(const struct xf_sa_live *live, struct values *v)
{
	memset(v, 0, sizeof(*v));
	if (live->nfields != XF_SA_LIVE_FIELDS)
		return false;
	for (unsigned i = 0; i < XF_SA_LIVE_FIELDS; i++) {
		const struct xf_sa_live_field *field = find(live, rows[i].field);

		if (!field || field->size != rows[i].size || field->offset > live->values_len ||
		    field->size > live->values_len - field->offset)
			return false;
		memcpy((uint8_t *)v + rows[i].to, live->values + field->offset, field->size);
	}
	return true;
}

/* Nanoseconds of a clock that began with the machine, or seconds of the wall clock. */
static bool is_time(uint64_t time)
{
	if (time & XF_SA_WALL)
		return (time & ~XF_SA_WALL) <= XF_SA_WALL_S_MASK;
	return time < XF_SA_WALL / 2;
}

static bool are_possible(const struct values *v)
{
	if (!is_time(v->used) || !is_time(v->added) || v->out[2] >= XF_SA_WALL / 2 ||
	    v->in[2] >= XF_SA_WALL / 2 || v->dying > 1)
		return false;
	for (unsigned i = 0; i < XF_SA_TALLIES; i++)
		if (v->tallies[i] >> XF_SA_TALLY_SHIFT >= v->reasons)
			return false;
	return true;
}

/* Of a version with other reasons: how many, but not why. */
static void forget_reasons(struct values *v)
{
	for (unsigned i = 0; i < XF_SA_TALLIES; i++) {
		v->other_drops += v->tallies[i] & XF_SA_TALLY_MASK;
		v->tallies[i] = 0;
	}
}

static void set_values(struct xf_sa *sa, const struct values *v)
{
	for (unsigned i = 0; i < XF_SA_LIVE_FIELDS; i++) {
		const uint8_t *from = (const uint8_t *)v + rows[i].to;
		uint8_t *to = (uint8_t *)sa + rows[i].from;

		for (unsigned off = 0; rows[i].unit && off < rows[i].size; off += rows[i].unit)
			write_unit(to + off, rows[i].unit, read_unit(from + off, rows[i].unit));
	}
	/* Packets with lower numbers leave elsewhere. */
	sa->turn.now = v->begun;
}

int xf_sa_live_load(struct xf_sa *sa, const struct xf_sa_live *live, const char **why)
{
	struct values v;

	*why = "The numbers of the SA are not those that this version knows";
	if (!gather(live, &v))
		return -EINVAL;
	*why = "The numbers of the SA are none that an SA can have";
	if (!are_possible(&v) || !xf_replay_restore(sa->replay, live->window, live->window_len))
		return -EINVAL;
	*why = NULL;
	if (v.reasons != XF_DROP_MAX)
		forget_reasons(&v);
	v.used = xf_sa_time_here(sa, v.used);
	v.added = xf_sa_time_here(sa, v.added);
	v.route_mtu = xf_sa_clamp_mtu(sa, v.route_mtu);
	v.learned_mtu = xf_sa_clamp_mtu(sa, v.learned_mtu);
	set_values(sa, &v);
	return 0;
}
