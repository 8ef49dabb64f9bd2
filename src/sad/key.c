#include <xf/hash.h>

#include "db.h"

void xf_sad_secrets_init(struct xf_sad_secrets *secrets, const uint64_t seed[2])
{
	static const char label[] = "tables";

	for (unsigned i = 0; i < XF_ARRAY_SIZE(secrets->words); i++) {
		const uint64_t own[2] = { seed[0] + i, seed[1] };

		secrets->words[i] = xf_hash(own, label, sizeof(label));
	}
}

static uint64_t hash_seat_ends(const struct xf_sad *sad, const struct xf_seat *seat)
{
	const struct xf_sad_ends ends = { .daddr = &seat->daddr,
					  .saddr = &seat->saddr,
					  .reqid = seat->reqid,
					  .if_id = seat->if_id,
					  .family = seat->family };
	uint64_t of_ends = xf_sad_hash_ends(&sad->secrets, &ends);

	if (seat->flags >> XF_SEAT_MASK_SHIFT)
		return xf_sad_hash_mark(&sad->secrets, of_ends, seat->mark);
	return of_ends;
}

uint64_t xf_sad_hash_of(const struct xf_table_place *place, uint32_t number)
{
	const struct xf_sad *sad = XF_CONTAINER_OF(place->seats, struct xf_sad, seats);
	const struct xf_seat *seat = xf_seat_at(place->seats, number);
	const struct xf_sa_id id = {
		.daddr = seat->daddr,
		.spi = atomic_load_explicit(&seat->spi, memory_order_relaxed),
		.family = seat->family,
		.proto = seat->proto,
	};

	switch (place->which) {
	case XF_SA_BY_SPI:
		return xf_sad_hash_spi(&sad->secrets, &id);
	case XF_SA_BY_NUMBER:
		return xf_sad_hash_number(&sad->secrets, id.spi, id.proto);
	case XF_SA_BY_ADDR:
		return xf_sad_hash_addr(&sad->secrets, &id, &seat->saddr);
	case XF_SA_BY_SEQ:
		return xf_sad_hash_seq(&sad->secrets, xf_sa_cfg(seat->sa)->seq);
	case XF_SA_BY_ANSWER:
		return xf_sad_hash_answer(&sad->secrets, &id, &seat->saddr, seat->reqid);
	default:
		return hash_seat_ends(sad, seat);
	}
}
