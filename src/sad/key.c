/*
 * What the tables hash, and how. Peers and users choose much of what is in keys, so it is hashed
 * under secrets: NH (RFC 4418 s5.2) with 64-bit words, whose sum of products no two keys of one
 * length share with more than a chance of 2^-64, whoever chose them without the secrets; another
 * product spreads the sum over 64 bits. A third of the time of SipHash, of which a lookup in the
 * cache would consist else.
 */
#include <xf/hash.h>

#include "db.h"

__extension__ typedef unsigned __int128 u128;

void xf_sad_secrets_init(struct xf_sad_secrets *secrets, const uint64_t seed[2])
{
	static const char label[] = "tables";

	for (unsigned i = 0; i < XF_ARRAY_SIZE(secrets->words); i++) {
		const uint64_t own[2] = { seed[0] + i, seed[1] };

		secrets->words[i] = xf_hash(own, label, sizeof(label));
	}
}

static inline uint64_t finish(const uint64_t *secret, u128 sum)
{
	u128 product = (u128)((uint64_t)sum ^ secret[0]) * ((uint64_t)(sum >> 64) ^ secret[1]);

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline u128 nh(const uint64_t *secret, uint64_t a, uint64_t b)
{
	return (u128)(a + secret[0]) * (b + secret[1]);
}

/* The table says what the other words are, so that no key of one is a key of another. */
static inline uint64_t head_of(enum xf_sa_table table, uint16_t family, uint8_t proto,
			       uint32_t number)
{
	return (uint64_t)number << 32 | (uint64_t)table << 24 | (uint64_t)proto << 16 | family;
}

static inline uint64_t hash_one(const struct xf_sad *sad, uint64_t head, uint64_t word)
{
	const uint64_t *secret = sad->secrets.words;

	return finish(secret, nh(secret + 2, head, word));
}

/* An IPv4 address is four bytes of the key: what lies behind it in the union is not hashed. */
static inline uint64_t hash(const struct xf_sad *sad, uint64_t head, uint16_t family,
			    const union xf_addr *daddr, const union xf_addr *saddr)
{
	const uint64_t *secret = sad->secrets.words;
	u128 sum;

	if (family == XF_AF_INET)
		return hash_one(sad, head, (uint64_t)daddr->v4_be << 32 | saddr->v4_be);
	sum = nh(secret + 2, head, daddr->quad[0]) +
	      nh(secret + 4, daddr->quad[1], saddr->quad[0]) + nh(secret + 6, saddr->quad[1], 0);
	return finish(secret, sum);
}

uint64_t xf_sad_hash_spi(const struct xf_sad *sad, const struct xf_sa_id *id)
{
	uint64_t head = head_of(XF_SA_BY_SPI, id->family, id->proto, id->spi);
	const uint64_t *secret = sad->secrets.words;

	if (id->family == XF_AF_INET)
		return hash_one(sad, head, id->daddr.v4_be);
	return finish(secret, nh(secret + 2, head, id->daddr.quad[0]) +
				      nh(secret + 4, id->daddr.quad[1], 0));
}

uint64_t xf_sad_hash_number(const struct xf_sad *sad, uint32_t spi, uint8_t proto)
{
	return hash_one(sad, head_of(XF_SA_BY_NUMBER, 0, proto, spi), 0);
}

uint64_t xf_sad_hash_seq(const struct xf_sad *sad, uint32_t seq)
{
	return hash_one(sad, head_of(XF_SA_BY_SEQ, 0, 0, seq), 0);
}

uint64_t xf_sad_hash_addr(const struct xf_sad *sad, const struct xf_sa_id *id,
			  const union xf_addr *saddr)
{
	return hash(sad, head_of(XF_SA_BY_ADDR, id->family, id->proto, 0), id->family, &id->daddr,
		    saddr);
}

uint64_t xf_sad_hash_answer(const struct xf_sad *sad, const struct xf_sa_id *id,
			    const union xf_addr *saddr, uint32_t reqid)
{
	return hash(sad, head_of(XF_SA_BY_ANSWER, id->family, id->proto, reqid), id->family,
		    &id->daddr, saddr);
}

/* Most have no interface and no mark, and pay for neither. */
uint64_t xf_sad_hash_ends(const struct xf_sad *sad, const struct xf_sad_ends *ends)
{
	uint64_t head = head_of(XF_SA_BY_ENDS, ends->family, 0, ends->reqid);
	uint64_t of_ends = hash(sad, head, ends->family, ends->daddr, ends->saddr);

	return ends->if_id ? hash_one(sad, of_ends, ends->if_id) : of_ends;
}

uint64_t xf_sad_hash_mark(const struct xf_sad *sad, uint64_t ends, struct xf_mark mark)
{
	return hash_one(sad, ends, (uint64_t)mark.v << 32 | mark.m);
}

static uint64_t hash_seat_ends(const struct xf_sad *sad, const struct xf_seat *seat)
{
	const struct xf_sad_ends ends = { .daddr = &seat->daddr,
					  .saddr = &seat->saddr,
					  .reqid = seat->reqid,
					  .if_id = seat->if_id,
					  .family = seat->family };
	uint64_t of_ends = xf_sad_hash_ends(sad, &ends);

	if (seat->flags >> XF_SEAT_MASK_SHIFT)
		return xf_sad_hash_mark(sad, of_ends, seat->mark);
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
		return xf_sad_hash_spi(sad, &id);
	case XF_SA_BY_NUMBER:
		return xf_sad_hash_number(sad, id.spi, id.proto);
	case XF_SA_BY_ADDR:
		return xf_sad_hash_addr(sad, &id, &seat->saddr);
	case XF_SA_BY_SEQ:
		return xf_sad_hash_seq(sad, xf_sa_cfg(seat->sa)->seq);
	case XF_SA_BY_ANSWER:
		return xf_sad_hash_answer(sad, &id, &seat->saddr, seat->reqid);
	default:
		return hash_seat_ends(sad, seat);
	}
}
