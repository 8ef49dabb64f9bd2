/*
 * transform.h - the table of transforms as the engine's own modules see it (xf/transform.h).
 *
 * Threads: written before the first SA and worker are made, constant from then on.
 */
#ifndef XF_SAD_TRANSFORM_H
#define XF_SAD_TRANSFORM_H

#include <xf/transform.h>

#include "sad/sa.h"

/* RFC 4303 s2; for the tables, which are there before any code runs. */
#define XF_SPI_PLACE_ESP \
	{                \
		0, 4, 8  \
	}

extern const struct xf_transform *xf_transform_table[XF_TRANSFORMS_MAX + 1];

/* By IP's number of a protocol: where its header names the SA. len 0: nobody does it. */
extern struct xf_spi_place xf_spi_places[256];

static inline const struct xf_transform *xf_transform_of(const struct xf_sa *sa)
{
	return xf_transform_table[sa->transform];
}

/*
 * Those that SAs of @sad have, a bit for each number; any thread. What a lookup has found in the
 * same read section has one of them. An SA that was kept by a reference has one of those that SAs
 * of @sad have had at any time.
 */
unsigned xf_sad_transforms(const struct xf_sad *sad);
unsigned xf_sad_transforms_ever(const struct xf_sad *sad);

/* The SPI in a header at @hdr, of which at least hdr_len bytes are there. */
static inline uint32_t xf_spi_read(const uint8_t *hdr, struct xf_spi_place place)
{
	return place.len == 4 ? xf_get_be32(hdr + place.off) : xf_get_be16(hdr + place.off);
}

#endif
