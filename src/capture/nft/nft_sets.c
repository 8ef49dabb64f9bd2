/*
 * Names of sets and what they hold, and the steps from what they hold to what they should;
 * nft_follow.c and ruleset.c call it.
 */
#include <stdio.h>

#include "capture/nft/nft_sets.h"

void xf_nft_set_of_cover(struct xf_nft_set *out, const struct xf_cover *cover, bool six,
			 unsigned rung)
{
	uint8_t bits = xf_cover_len(six, rung);

	*out = (struct xf_nft_set){ .six = six, .n = 1, .side = { "daddr" }, .bits = { bits } };
	snprintf(out->name, sizeof(out->name), "dst%c_%u_%x", six ? '6' : '4', bits, cover->round);
}

void xf_nft_set_of_sieve(struct xf_nft_set *out, const struct xf_sieve *sieve, unsigned kind)
{
	static const char *const sides[] = { "saddr", "daddr" };
	static const char *const dirs[] = {
		[XF_DIR_IN] = "in", [XF_DIR_OUT] = "out", [XF_DIR_FWD] = "fwd"
	};
	const struct xf_sieve_kind *of = &sieve->kinds[kind];
	char mark[sizeof("mffffffff_")] = "";
	char upper[sizeof("p_ffff_ffff_")] = "";

	*out = (struct xf_nft_set){
		.six = of->six,
		.pieces = of->pieces,
		.mark_mask = of->mark_mask,
		.proto = of->proto,
		.port_mask = { of->port_mask[0], of->port_mask[1] },
	};
	for (uint8_t i = 0; i < 2; i++) {
		if (!of->bits[i])
			continue;
		out->side[out->n] = sides[i];
		out->bits[out->n] = of->bits[i];
		out->from[out->n++] = i;
	}
	if (of->mark_mask)
		snprintf(mark, sizeof(mark), "m%x_", of->mark_mask);
	if (of->proto)
		snprintf(upper, sizeof(upper), "%c_%x_%x_", of->pieces ? 'f' : 'p',
			 of->port_mask[0], of->port_mask[1]);
	snprintf(out->name, sizeof(out->name), "%s%c_%u_%u_%s%s%s%u_%x", dirs[sieve->dir],
		 of->six ? '6' : '4', of->bits[0], of->bits[1], mark, upper, of->blocks ? "b_" : "",
		 of->segment, sieve->round);
}

static bool differs(const struct xf_cell *cell, bool there)
{
	return there == (cell->count != 0) && there != ((cell->at & XF_CELL_IN_SETS) != 0);
}

static int change(const struct xf_capture_ops *ops, void *arg, const struct xf_nft_set *set,
		  struct xf_cell *cell)
{
	cell->at ^= XF_CELL_IN_SETS;
	return ops->nft_element(arg, set, &cell->key, cell->count != 0);
}

/* Is @cell of the set that was named for @named? */
static bool has_name(const struct xf_cell *named, const struct xf_cell *cell)
{
	return named && named->key.set == cell->key.set;
}

int xf_nft_sets_cover(const struct xf_capture_ops *ops, void *arg, struct xf_cover *cover,
		      bool there)
{
	const struct xf_cell *named = NULL;
	struct xf_nft_set set;
	int err = 0;

	xf_cells_group(&cover->cells, 2 * XF_COVER_LENS);
	for (struct xf_cell *cell = cover->cells.pending; cell && !err; cell = cell->next_pending) {
		if (!differs(cell, there))
			continue;
		if (!has_name(named, cell))
			xf_nft_set_of_cover(&set, cover, xf_cover_six(&cell->key),
					    xf_cover_rung(&cell->key));
		named = cell;
		err = change(ops, arg, &set, cell);
	}
	return err ? err : ops->nft_commit(arg);
}

int xf_nft_sets_sift(const struct xf_capture_ops *ops, void *arg, struct xf_sieve *sieve,
		     bool there)
{
	const struct xf_cell *named = NULL;
	struct xf_nft_set set;
	int err = 0;

	xf_cells_group(&sieve->cells, sieve->nkinds);
	for (struct xf_cell *cell = sieve->cells.pending; cell && !err; cell = cell->next_pending) {
		if (!differs(cell, there))
			continue;
		if (!has_name(named, cell))
			xf_nft_set_of_sieve(&set, sieve, cell->key.set);
		named = cell;
		err = change(ops, arg, &set, cell);
	}
	return err ? err : ops->nft_commit(arg);
}

/* --- what stands in the sets --- */

struct digest {
	const struct xf_capture_ops *ops;
	const struct xf_cover *cover; /* or ... */
	const struct xf_sieve *sieve;
	uint64_t sum;
};

static void digest_cell(void *arg, const struct xf_cell *cell)
{
	struct digest *digest = arg;
	struct xf_nft_set set;

	if (digest->cover)
		xf_nft_set_of_cover(&set, digest->cover, xf_cover_six(&cell->key),
				    xf_cover_rung(&cell->key));
	else
		xf_nft_set_of_sieve(&set, digest->sieve, cell->key.set);
	digest->sum += digest->ops->nft_element_digest(&set, &cell->key);
}

uint64_t xf_nft_sets_cover_digest(const struct xf_capture_ops *ops, const struct xf_cover *cover)
{
	struct digest digest = { .ops = ops, .cover = cover };

	xf_cells_standing(&cover->cells, XF_CELL_IN_SETS, digest_cell, &digest);
	return digest.sum;
}

uint64_t xf_nft_sets_sieve_digest(const struct xf_capture_ops *ops, const struct xf_sieve *sieve)
{
	struct digest digest = { .ops = ops, .sieve = sieve };

	xf_cells_standing(&sieve->cells, XF_CELL_IN_SETS, digest_cell, &digest);
	return digest.sum;
}
