/*
 * cover.h - the destinations of policies, as few cells as will do: for what catches too much rather
 * than too little, however many policies there are.
 *
 * A cell is a prefix whose length is one of a few, so that sets of the kernel can be hash tables,
 * one for each length. When there are too many cells of a family, all become coarser. Control
 * thread.
 */
#ifndef XF_CAPTURE_COVER_H
#define XF_CAPTURE_COVER_H

#include "capture/nft/cells.h"

/* Cells of one family, at most. */
#define XF_COVER_MAX 32768
/* Lengths of cells, longest first: see xf_cover_len(). */
#define XF_COVER_LENS 9

struct xf_cover_family {
	uint32_t policies;
	uint32_t cells; /* with policies */
	uint32_t at_rung[XF_COVER_LENS]; /* those of each length */
	uint8_t finest; /* rung: longer prefixes are cut to it */
};

struct xf_cover {
	struct xf_cover_family family[2]; /* IPv4, IPv6 */
	struct xf_cells cells; /* of one address; the set is family and rung */
	bool failed; /* for want of memory something is missing */
	/* Its sets in nftables, one for each length. */
	uint16_t round; /* in their names, as a sieve's */
	bool made; /* in the kernel */
	uint32_t ruled[2]; /* rungs that the rules in force look into */
};

void xf_cover_fini(struct xf_cover *cover);

static inline bool xf_cover_six(const struct xf_cell_key *key)
{
	return key->set >= XF_COVER_LENS;
}

static inline unsigned xf_cover_rung(const struct xf_cell_key *key)
{
	return key->set % XF_COVER_LENS;
}

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

#endif
