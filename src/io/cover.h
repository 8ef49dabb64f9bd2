/*
 * cover.h - the destinations of policies, as few cells as will do: for what catches too much rather
 * than too little, however many policies there are.
 *
 * A cell is a prefix whose length is one of a few (so that sets of the kernel can be hash tables,
 * one for each length), with a count of policies: one more policy is mostly a count and nothing
 * else. When there are too many cells of a family, all become coarser.
 *
 * Where cells stand in the kernel is a bit each; a cell that came or went is pending until whoever
 * keeps the kernel in step has dealt with it. Control thread.
 */
#ifndef XF_IO_COVER_H
#define XF_IO_COVER_H

#include <xf/addr.h>

/* Cells of one family, at most. */
#define XF_COVER_MAX 32768
/* Lengths of cells, longest first: see xf_cover_len(). */
#define XF_COVER_LENS 9

enum xf_cell_at { XF_CELL_IN_SETS = 1, XF_CELL_IN_TRIE = 2 };

struct xf_cell {
	union xf_addr addr;
	uint32_t count; /* policies; 0: it goes away */
	uint8_t six; /* IPv6? */
	uint8_t rung; /* its length is xf_cover_len(six, rung) */
	uint8_t at; /* enum xf_cell_at */
	bool pending;
	struct xf_cell *next; /* of the hash table */
	struct xf_cell *next_pending;
};

struct xf_cover_family {
	uint32_t policies;
	uint32_t cells; /* with policies */
	uint32_t at_rung[XF_COVER_LENS]; /* those of each length */
	uint8_t finest; /* rung: longer prefixes are cut to it */
};

struct xf_cover {
	struct xf_cover_family family[2]; /* IPv4, IPv6 */
	struct xf_cell **buckets;
	size_t size; /* of them, a power of two */
	size_t count; /* cells, those that go away too */
	struct xf_cell *pending;
	bool failed; /* for want of memory something is missing */
};

void xf_cover_fini(struct xf_cover *cover);

/* Bits of a cell; the last rung of a family is 0. */
uint8_t xf_cover_len(bool six, unsigned rung);

/* A policy that selects @sel came or went. */
void xf_cover_change(struct xf_cover *cover, const struct xf_selector *sel, bool there);

/* Could cells be finer than they are, because few policies are left? */
bool xf_cover_is_too_coarse(const struct xf_cover *cover);

/* Start anew, as fine as can be: the caller tells of all policies again. */
void xf_cover_restart(struct xf_cover *cover);

/* Rungs in use, as bits. */
uint32_t xf_cover_rungs(const struct xf_cover *cover, bool six);

/* The kernel has lost what stood @where: cells with policies are pending again. */
void xf_cover_lost(struct xf_cover *cover, enum xf_cell_at where);

/* Visit all cells that have policies. */
void xf_cover_each(const struct xf_cover *cover, void (*visit)(void *arg, struct xf_cell *cell),
		   void *arg);

/* All that is pending stands where its count says: forget cells that are nowhere. */
void xf_cover_settled(struct xf_cover *cover);

#endif
