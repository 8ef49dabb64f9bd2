/*
 * arena.h - rules in few large pieces of memory, named by 32-bit numbers.
 *
 * Piece k holds 64 << k rules, whose numbers start there too: so a number's highest bit tells its
 * piece, a handful of pointers reaches all rules, and small databases stay small. Free places in
 * the first pieces are used first, and the last piece is given back when nothing is left in it.
 *
 * Threads: the control thread allocates and frees; readers find rules between. A rule that
 * readers could see is freed after a grace period.
 */
#ifndef XF_SPD_ARENA_H
#define XF_SPD_ARENA_H

#include "spd/rule.h"

#define ARENA_FIRST_BITS 6
#define ARENA_PIECES 25
#define ARENA_BASES (ARENA_FIRST_BITS + ARENA_PIECES)

struct arena {
	/* By the highest bit of a number: where rule 0 would stand beside the piece's others. */
	_Atomic uintptr_t bases[ARENA_BASES];

	/* Control thread. */
	uint32_t free[ARENA_PIECES]; /* a list in the free rules themselves */
	uint32_t fresh[ARENA_PIECES]; /* never used from here on */
	uint32_t used[ARENA_PIECES];
	uint32_t npieces;
	uint32_t count;
};

void xf_spd_arena_init(struct arena *arena);
void xf_spd_arena_fini(struct arena *arena);

/* A rule's number, or RULE_NONE without memory. */
uint32_t xf_spd_arena_alloc(struct arena *arena);
void xf_spd_arena_free(struct arena *arena, uint32_t id);

/* The number of the highest bit of @id. */
static inline unsigned arena_top(uint32_t id)
{
	return 31u - (unsigned)__builtin_clz(id | 1);
}

/* Also for a number that is none (any more): then what comes out must not be looked at. */
static inline struct rule *arena_rule(const struct arena *arena, uint32_t id)
{
	uintptr_t base = atomic_load_explicit(&arena->bases[arena_top(id)], memory_order_acquire);

	return (struct rule *)(base + (uintptr_t)id * sizeof(struct rule));
}

#endif
