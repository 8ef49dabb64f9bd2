/*
 * The table of transforms, and which of them an SA has. xf_sa_new() asks it once; src/path calls
 * through it.
 */
#include <errno.h>

#include "sad/transform.h"

/* ESP's stands here at once, so that an SA can be made without any preparation. */
const struct xf_transform *xf_transform_table[XF_TRANSFORMS_MAX + 1] = { &xf_transform_none,
									 &xf_transform_esp };

struct xf_spi_place xf_spi_places[256] = { [XF_IPPROTO_ESP] = XF_SPI_PLACE_ESP };

static unsigned count(void)
{
	unsigned n = 0;

	while (xf_transform_table[n])
		n++;
	return n;
}

/* What is there already stays as it is. */
static bool place_fits(const struct xf_transform *transform)
{
	const struct xf_spi_place *taken = &xf_spi_places[transform->protocol];
	const struct xf_spi_place *spi = &transform->spi;
	unsigned end = spi->off + spi->len;

	if ((spi->len != 2 && spi->len != 4) || end > XF_SPI_QUOTED_MAX || end > spi->hdr_len ||
	    spi->hdr_len > XF_SPI_HDR_MAX)
		return false;
	return taken->len == 0 || memcmp(taken, spi, sizeof(*spi)) == 0;
}

int xf_transform_register(const struct xf_transform *transform)
{
	unsigned n = count();

	for (unsigned i = 0; i < n; i++)
		if (xf_transform_table[i] == transform)
			return -EEXIST;
	if (n == XF_TRANSFORMS_MAX)
		return -ENOSPC;
	if (!place_fits(transform))
		return -EINVAL;
	xf_spi_places[transform->protocol] = transform->spi;
	xf_transform_table[n] = transform;
	return 0;
}

const struct xf_transform *const *xf_transforms(void)
{
	return xf_transform_table;
}

unsigned xf_transform_for(const struct xf_sa_config *cfg)
{
	unsigned n = count() - 1;

	while (n > 0 && !xf_transform_table[n]->takes(cfg))
		n--;
	return n;
}
