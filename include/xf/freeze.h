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
 * cipher still has may leave later. Lookups find them as before; their packets are dropped as
 * STATE_INVALID, and nothing about them is told. Returns how many are frozen now; larval, expired
 * and dead ones stay as they are.
 */
unsigned xf_sad_freeze(struct xf_sad *sad, struct xf_sa *const *sas, unsigned n);

/* Into use again, or for the first time: xf_sad_expire() is to be called. Nothing where @sa is not
 * frozen. */
void xf_sad_thaw(struct xf_sad *sad, struct xf_sa *sa);

/*
 * Insert @sa, which was made in state FROZEN, as the one that arrived as number @id, in any order;
 * in that of the numbers it costs least. As xf_sad_add() otherwise, but that no larval SA goes
 * for it, and only one of the same key and mark is in its way.
 *   -EEXIST  the number or the key is taken    -EINVAL  there is no such number
 *   -ENOSPC  the table holds its maximum       -ENOMEM
 */
int xf_sad_restore(struct xf_sad *sad, struct xf_sa *sa, uint64_t id, const char **why);

/* Which one it is, where it stands, what its IVs are made from (secret). */
struct xf_sa_origin {
	uint64_t id; /* of its arrival in the SAD, from 1 */
	uint64_t slot; /* place in memory: no two SAs of a process have the same */
	uint8_t seed[XF_IVGEN_SEED]; /* salt and key; zero for a larval SA */
};
void xf_sa_get_origin(struct xf_sa *sa, struct xf_sa_origin *out);

#ifdef __cplusplus
}
#endif

#endif
