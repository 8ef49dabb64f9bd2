#include <xf/huge.h>

#include "spd/arena.h"

static uint32_t piece_rules(unsigned piece)
{
	return 1u << (ARENA_FIRST_BITS + piece);
}

/* The number of a piece's first rule: behind those of all pieces before it. */
static uint32_t piece_first(unsigned piece)
{
	return piece_rules(piece);
}

static unsigned piece_of(uint32_t id)
{
	return arena_top(id) - ARENA_FIRST_BITS;
}

static size_t piece_bytes(unsigned piece)
{
	return (size_t)piece_rules(piece) * sizeof(struct rule);
}

static struct rule *own_piece(const struct arena *arena, unsigned piece)
{
	return arena_rule(arena, piece_first(piece));
}

static void set_base(struct arena *arena, unsigned top, uintptr_t base)
{
	atomic_store_explicit(&arena->bases[top], base, memory_order_release);
}

/* @rules are from now on piece @piece. */
static void set_piece(struct arena *arena, unsigned piece, struct rule *rules)
{
	set_base(arena, ARENA_FIRST_BITS + piece, (uintptr_t)rules - piece_bytes(piece));
	/* Numbers that are none come to memory that is there, and may be fetched. */
	for (unsigned top = 0; piece == 0 && top < ARENA_FIRST_BITS; top++)
		set_base(arena, top, (uintptr_t)rules);
}

void xf_spd_arena_init(struct arena *arena)
{
	memset(arena, 0, sizeof(*arena));
}

void xf_spd_arena_fini(struct arena *arena)
{
	for (unsigned i = 0; i < arena->npieces; i++)
		xf_huge_free(own_piece(arena, i), piece_bytes(i));
	xf_spd_arena_init(arena);
}

static bool add_piece(struct arena *arena)
{
	unsigned piece = arena->npieces;
	struct rule *rules;

	if (piece == ARENA_PIECES)
		return false;
	rules = xf_huge_alloc(piece_bytes(piece));
	if (!rules)
		return false;
	arena->free[piece] = RULE_NONE;
	arena->fresh[piece] = 0;
	arena->used[piece] = 0;
	set_piece(arena, piece, rules);
	arena->npieces++;
	return true;
}

uint32_t xf_spd_arena_alloc(struct arena *arena)
{
	unsigned piece = 0;
	uint32_t id;

	while (piece < arena->npieces && arena->used[piece] == piece_rules(piece))
		piece++;
	if (piece == arena->npieces && !add_piece(arena))
		return RULE_NONE;
	id = arena->free[piece];
	if (id != RULE_NONE)
		arena->free[piece] = arena_rule(arena, id)->priority;
	else
		id = piece_first(piece) + arena->fresh[piece]++;
	arena->used[piece]++;
	arena->count++;
	return id;
}

/* Of what is left a quarter more fits into the pieces before: else they would come and go. */
static void drop_pieces(struct arena *arena)
{
	while (arena->npieces > 1) {
		unsigned piece = arena->npieces - 1;
		uint32_t room = piece_rules(piece) - piece_rules(0); /* in those before it */

		if (arena->used[piece] || arena->count > room - room / 4)
			return;
		xf_huge_free(own_piece(arena, piece), piece_bytes(piece));
		arena->npieces--;
	}
}

void xf_spd_arena_free(struct arena *arena, uint32_t id)
{
	unsigned piece = piece_of(id);

	arena_rule(arena, id)->priority = arena->free[piece];
	arena->free[piece] = id;
	arena->used[piece]--;
	arena->count--;
	drop_pieces(arena);
}
