/*
 * freeze.h - SAs out of use, and what they have counted as values, so that another SAD goes on
 * where this one ended.
 *
 * The order is: xf_sad_freeze(), then read, then restore elsewhere. From the moment that a frozen
 * SA is restored, nobody may thaw it where it came from: two SAs with one key and one seed would
 * give the same IVs to different packets.
 *
 * Threads: control thread; workers may use the SAs meanwhile. The writer's calls may wait for a
 * grace period: never call them inside a read section. Lengths are bytes. Functions return 0 or
 * -errno; a sentence for the user goes to *@why and is a constant.
 */
#ifndef XF_FREEZE_H
#define XF_FREEZE_H

#include <xf/sad.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Take those of the @n SAs out of use that are valid, all in one grace period: on return no worker
 * numbers or accepts a packet by them, nor has one such under way. Packets with numbers that a
 * cipher still has may leave later. Lookups find them as before, but where another SA suits;
 * packets that get one are dropped as STATE_INVALID, and nothing about it is told. Returns how
 * many are frozen now; larval, expired and dead ones stay as they are.
 */
unsigned xf_sad_freeze(struct xf_sad *sad, struct xf_sa *const *sas, unsigned n);

/* Into use again, or for the first time: xf_sad_expire() is to be called. Nothing where @sa is not
 * frozen. */
void xf_sad_thaw(struct xf_sad *sad, struct xf_sa *sa);

/*
 * Insert @sa, which was made in state FROZEN, as the one that arrived as number @id, in any order;
 * in that of the numbers it costs least. As xf_sad_add() otherwise, but that no larval SA goes
 * for it, and only one of the same key and mark is in its way.
 *   -EEXIST  the number or the key is taken
 *   -EINVAL  there is no such number, or @sa was made for another SAD
 *   -ENOSPC  the table holds its maximum       -ENOMEM
 */
int xf_sad_restore(struct xf_sad *sad, struct xf_sa *sa, uint64_t id, const char **why);

/*
 * What an SA counts, as values: sequence number and IVs, packets and bytes, times, statistics, path
 * MTU. A table says where in a block each of them stands, so that versions whose structs differ
 * understand each other; numbers of fields keep their meaning, and are never given again.
 */
enum xf_sa_live_number {
	XF_SA_LIVE_BEGUN = 1, /* packets that were numbered: the next IV's number */
	XF_SA_LIVE_SEQ_OFFSET, /* what is added for the last sequence number */
	XF_SA_LIVE_OUT, /* bytes, packets, time of the last one */
	XF_SA_LIVE_IN,
	XF_SA_LIVE_USED,
	XF_SA_LIVE_ADDED,
	XF_SA_LIVE_TALLIES, /* of drops, by reason */
	XF_SA_LIVE_OTHER_DROPS,
	XF_SA_LIVE_STAT_REPLAY_WINDOW,
	XF_SA_LIVE_STAT_REPLAY,
	XF_SA_LIVE_STAT_INTEGRITY,
	XF_SA_LIVE_LEARNED_UNTIL,
	XF_SA_LIVE_REASONS, /* how many reasons for drops there are: else they mean others */
	XF_SA_LIVE_ROUTE_MTU,
	XF_SA_LIVE_LEARNED_MTU,
	XF_SA_LIVE_DYING, /* the soft limit was told */
};
struct xf_sa_live_field {
	uint16_t field; /* enum xf_sa_live_number */
	uint16_t size;
	uint32_t offset; /* in the block */
};
#define XF_SA_LIVE_FIELDS 16
#define XF_SA_LIVE_BYTES 152

/* Of a frozen SA, into a table of XF_SA_LIVE_FIELDS and a block of XF_SA_LIVE_BYTES; and its
 * window, up to XF_REPLAY_SAVED_MAX bytes: how many. */
void xf_sa_live_save(const struct xf_sa *sa, struct xf_sa_live_field *table, uint8_t *values);
size_t xf_sa_window_save(struct xf_sa *sa, uint8_t *out);

/*
 * Set all of it in @sa, which is frozen and in no SAD yet. -EINVAL: a number is missing, not known,
 * of another size, or none that an SA can have; @sa is to be put then.
 */
struct xf_sa_live {
	const struct xf_sa_live_field *table;
	const uint8_t *values;
	const uint8_t *window;
	size_t nfields, values_len, window_len;
};
int xf_sa_live_load(struct xf_sa *sa, const struct xf_sa_live *live, const char **why);

/* Which one it is, where it stands, what its IVs are made from (secret). */
struct xf_sa_origin {
	uint64_t id; /* of its arrival in the SAD, from 1 */
	uint64_t slot; /* place in memory: no two SAs of a SAD have the same */
	uint8_t seed[XF_IVGEN_SEED]; /* salt and key; zero for a larval SA */
};
void xf_sa_get_origin(struct xf_sa *sa, struct xf_sa_origin *out);

#ifdef __cplusplus
}
#endif

#endif
