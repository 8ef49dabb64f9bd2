/*
 * arena.h - rules in few large pieces of memory, named by 32-bit numbers.
 *
 * Piece k holds 64 << k rules, so that a handful of pointers reaches all of them and small
 * databases stay small. Free places in the first pieces are used first, and the last piece is
 * given back when nothing is left in it.
 *
 * Threads: the control thread allocates and frees; readers find rules between. A rule that
 * readers could see is freed after a grace period.
 */
#ifndef XF_SPD_ARENA_H
#define XF_SPD_ARENA_H

#include "spd/rule.h"

#define ARENA_PIECES 25
#define ARENA_FIRST_BITS 6

struct arena {
	_Atomic(struct rule *) pieces[ARENA_PIECES];

	/* Control thread. */
	uint32_t free[ARENA_PIECES]; /* a list in the free rules themselves */
	uint32_t fresh[ARENA_PIECES]; /* never used from here on */
	uint32_t used[ARENA_PIECES];
	uint32_t npieces;
	uint32_t count;
};

void arena_init(struct arena *arena);
void arena_fini(struct arena *arena);

/* A rule's number, or RULE_NONE without memory. */
uint32_t arena_alloc(struct arena *arena);
void arena_free(struct arena *arena, uint32_t id);

/* Should what is in the last piece move, so that it can be given back? Then one rule of it. */
uint32_t arena_stray(const struct arena *arena);

static inline unsigned arena_piece(uint32_t id)
{
	return 31u - (unsigned)__builtin_clz(id + (1u << ARENA_FIRST_BITS)) - ARENA_FIRST_BITS;
}

/* Also for a number that is none any more: then what comes out must not be looked at. */
static inline struct rule *arena_rule(const struct arena *arena, uint32_t id)
{
	unsigned piece = arena_piece(id);
	struct rule *rules = atomic_load_explicit(&arena->pieces[piece], memory_order_acquire);

	uint32_t at = id + (1u << ARENA_FIRST_BITS) - (1u << (ARENA_FIRST_BITS + piece));

	return (struct rule *)((uintptr_t)rules + (uintptr_t)at * sizeof(struct rule));
}

#endif
