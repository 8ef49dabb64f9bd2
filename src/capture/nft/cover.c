#include <errno.h>

#include "capture/nft/cover.h"

static const uint8_t lens[2][XF_COVER_LENS] = {
	{ 32, 28, 24, 20, 16, 12, 8, 4, 0 },
	{ 128, 64, 56, 48, 40, 32, 24, 16, 0 },
};

uint8_t xf_cover_len(bool six, unsigned rung)
{
	return lens[six][rung];
}

void xf_cover_fini(struct xf_cover *cover)
{
	xf_cells_fini(&cover->cells);
	*cover = (struct xf_cover){ .failed = false };
}

/* @n policies more, or fewer, in the cell of @addr at @rung. */
static void count(struct xf_cover *cover, const struct xf_cell_key *key, uint32_t n, bool there)
{
	struct xf_cover_family *family = &cover->family[xf_cover_six(key)];
	int change = xf_cells_count(&cover->cells, key, n, there);

	if (change == -ENOMEM)
		cover->failed = true;
	if (change != 1 && change != -1)
		return;
	family->cells += (uint32_t)change;
	family->at_rung[xf_cover_rung(key)] += (uint32_t)change;
}

static struct xf_cell_key make_key(const union xf_addr *addr, bool six, unsigned rung)
{
	struct xf_cell_key key = { .addr = { *addr },
				   .set = (uint16_t)(six * XF_COVER_LENS + rung) };

	xf_cell_mask(&key.addr[0], lens[six][rung]);
	return key;
}

/* Cells of a family that are longer than its finest rung allows become parts of shorter ones. */
static void cut_cell(void *arg, struct xf_cell *cell)
{
	struct xf_cover *cover = arg;
	bool six = xf_cover_six(&cell->key);
	uint8_t finest = cover->family[six].finest;
	struct xf_cell_key key = make_key(&cell->key.addr[0], six, finest);

	if (xf_cover_rung(&cell->key) >= finest)
		return;
	count(cover, &key, cell->count, true);
	count(cover, &cell->key, cell->count, false);
}

static void coarsen(struct xf_cover *cover, bool six)
{
	struct xf_cover_family *family = &cover->family[six];

	while (family->cells > XF_COVER_MAX && family->finest < XF_COVER_LENS - 1) {
		family->finest++;
		xf_cells_each(&cover->cells, cut_cell, cover);
		xf_cells_sweep(&cover->cells);
	}
}

static void change(struct xf_cover *cover, const struct xf_selector *sel, bool six, bool there)
{
	struct xf_cover_family *family = &cover->family[six];
	uint8_t bits = sel->family ? sel->prefixlen_d : 0;
	unsigned rung = family->finest;
	struct xf_cell_key key;

	while (lens[six][rung] > bits)
		rung++;
	key = make_key(&sel->daddr, six, rung);
	if (there)
		xf_cells_grow(&cover->cells);
	family->policies += there ? 1u : -1u;
	count(cover, &key, 1, there);
	if (family->cells > XF_COVER_MAX)
		coarsen(cover, six);
}

void xf_cover_change(struct xf_cover *cover, const struct xf_selector *sel, bool there)
{
	if (sel->family != XF_AF_INET6)
		change(cover, sel, false, there);
	if (sel->family != XF_AF_INET)
		change(cover, sel, true, there);
}

bool xf_cover_is_too_coarse(const struct xf_cover *cover)
{
	for (unsigned six = 0; six < 2; six++) {
		const struct xf_cover_family *family = &cover->family[six];

		if (family->finest > 0 && family->policies < XF_COVER_MAX / 4)
			return true;
	}
	return cover->failed;
}

void xf_cover_restart(struct xf_cover *cover)
{
	xf_cells_empty(&cover->cells);
	memset(cover->family, 0, sizeof(cover->family));
	cover->failed = false;
}

uint32_t xf_cover_rungs(const struct xf_cover *cover, bool six)
{
	uint32_t rungs = 0;

	for (unsigned i = 0; i < XF_COVER_LENS; i++)
		rungs |= (uint32_t)(cover->family[six].at_rung[i] != 0) << i;
	return rungs;
}
