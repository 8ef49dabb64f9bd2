/*
 * cells.h - what sets of the kernel hold, each element once, with a count of the policies that want
 * it there: one more policy is mostly a count and nothing else.
 *
 * Where cells stand in the kernel is a bit each; a cell that came or went is pending until whoever
 * keeps the kernel in step has dealt with it. Control thread.
 */
#ifndef XF_CAPTURE_CELLS_H
#define XF_CAPTURE_CELLS_H

#include <xf/addr.h>

enum xf_cell_at { XF_CELL_IN_SETS = 1, XF_CELL_IN_TRIE = 2 };

/* What packets are compared with: zeros where an address is shorter, or something not asked for. */
struct xf_cell_key {
	union xf_addr addr[2];
	uint32_t mark;
	uint16_t port[2];
	uint32_t proto;
	uint32_t set; /* which; its owner knows */
};

_Static_assert(sizeof(struct xf_cell_key) == 48, "it is compared and hashed as a whole");

struct xf_cell {
	struct xf_cell_key key;
	uint32_t count; /* policies; 0: it goes away */
	uint8_t at; /* enum xf_cell_at */
	bool pending;
	struct xf_cell *next; /* of the hash table */
	struct xf_cell *next_pending;
};

/* All zero is an empty one. */
struct xf_cells {
	struct xf_cell **buckets;
	size_t size; /* of them, a power of two */
	size_t count; /* cells, those that go away too */
	struct xf_cell *pending;
};

void xf_cells_fini(struct xf_cells *cells);

/* Room for so many; where there is none, tables grow as they do without. */
void xf_cells_reserve(struct xf_cells *cells, size_t count);

/* Room for one more. xf_cells_count() moves no cell, so that it may be called for each of them. */
void xf_cells_grow(struct xf_cells *cells);

/*
 * @n policies more, or fewer, want the cell @key. 1: it is there now; -1: it is not any more; 0:
 * neither is new. -ENOMEM.
 */
int xf_cells_count(struct xf_cells *cells, const struct xf_cell_key *key, uint32_t n, bool there);

/* Nobody wants any cell any more. */
void xf_cells_empty(struct xf_cells *cells);

/* Visit all cells that somebody wants. */
void xf_cells_each(const struct xf_cells *cells, void (*visit)(void *arg, struct xf_cell *cell),
		   void *arg);

/* Visit those that stand @where, those that go away too. */
void xf_cells_standing(const struct xf_cells *cells, enum xf_cell_at where,
		       void (*visit)(void *arg, const struct xf_cell *cell), void *arg);

/* The kernel has lost what stood @where: all cells are pending again. */
void xf_cells_lost(struct xf_cells *cells, enum xf_cell_at where);

/* What is pending comes in groups of one set each, the number of which is below @sets. */
void xf_cells_group(struct xf_cells *cells, uint32_t sets);

/* Forget cells that nobody wants and that stand nowhere, the pending ones too. */
void xf_cells_sweep(struct xf_cells *cells);

/* All that is pending stands where its count says: forget cells that are nowhere. */
void xf_cells_settled(struct xf_cells *cells);

/* Bits of @addr behind the first @bits become zero, those behind an IPv4 address too. */
void xf_cell_mask(union xf_addr *addr, uint8_t bits);

#endif
