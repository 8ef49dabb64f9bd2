/*
 * key.h - what the tables hash, and how. Pure.
 *
 * Peers and users choose much of what is in keys, so it is hashed under secrets: NH (RFC 4418 s5.2)
 * with 64-bit words, whose sum of products no two keys of one length share with more than a chance
 * of 2^-64, whoever chose them without the secrets; another product spreads the sum over 64 bits.
 * SipHash took two fifths of an outbound lookup in the cache.
 */
#ifndef XF_SAD_KEY_H
#define XF_SAD_KEY_H

#include "sa.h"

__extension__ typedef unsigned __int128 xf_u128;

struct xf_sad_secrets {
	uint64_t words[8];
};

void xf_sad_secrets_init(struct xf_sad_secrets *secrets, const uint64_t seed[2]);

/* What outbound lookups go by, but for marks. */
struct xf_sad_ends {
	const union xf_addr *daddr, *saddr;
	uint32_t reqid;
	uint32_t if_id;
	uint8_t family;
};

static inline uint64_t xf_sad_finish(const uint64_t *secret, xf_u128 sum)
{
	xf_u128 product =
		(xf_u128)((uint64_t)sum ^ secret[0]) * ((uint64_t)(sum >> 64) ^ secret[1]);

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline xf_u128 xf_sad_nh(const uint64_t *secret, uint64_t a, uint64_t b)
{
	return (xf_u128)(a + secret[0]) * (b + secret[1]);
}

/* The table says what the other words are, so that no key of one is a key of another. */
static inline uint64_t xf_sad_head_of(enum xf_sa_table table, uint16_t family, uint8_t proto,
				      uint32_t number)
{
	return (uint64_t)number << 32 | (uint64_t)table << 24 | (uint64_t)proto << 16 | family;
}

static inline uint64_t xf_sad_hash_one(const struct xf_sad_secrets *secrets, uint64_t head,
				       uint64_t word)
{
	const uint64_t *secret = secrets->words;

	return xf_sad_finish(secret, xf_sad_nh(secret + 2, head, word));
}

/* An IPv4 address is four bytes of the key: what lies behind it in the union is not hashed. */
static inline uint64_t xf_sad_hash_addrs(const struct xf_sad_secrets *secrets, uint64_t head,
					 uint16_t family, const union xf_addr *daddr,
					 const union xf_addr *saddr)
{
	const uint64_t *secret = secrets->words;
	xf_u128 sum;

	if (family == XF_AF_INET)
		return xf_sad_hash_one(secrets, head, (uint64_t)daddr->v4_be << 32 | saddr->v4_be);
	sum = xf_sad_nh(secret + 2, head, daddr->quad[0]) +
	      xf_sad_nh(secret + 4, daddr->quad[1], saddr->quad[0]) +
	      xf_sad_nh(secret + 6, saddr->quad[1], 0);
	return xf_sad_finish(secret, sum);
}

static inline uint64_t xf_sad_hash_spi(const struct xf_sad_secrets *secrets,
				       const struct xf_sa_id *id)
{
	uint64_t head = xf_sad_head_of(XF_SA_BY_SPI, id->family, id->proto, id->spi);
	const uint64_t *secret = secrets->words;

	if (id->family == XF_AF_INET)
		return xf_sad_hash_one(secrets, head, id->daddr.v4_be);
	return xf_sad_finish(secret, xf_sad_nh(secret + 2, head, id->daddr.quad[0]) +
					     xf_sad_nh(secret + 4, id->daddr.quad[1], 0));
}

static inline uint64_t xf_sad_hash_number(const struct xf_sad_secrets *secrets, uint32_t spi,
					  uint8_t proto)
{
	return xf_sad_hash_one(secrets, xf_sad_head_of(XF_SA_BY_NUMBER, 0, proto, spi), 0);
}

static inline uint64_t xf_sad_hash_seq(const struct xf_sad_secrets *secrets, uint32_t seq)
{
	return xf_sad_hash_one(secrets, xf_sad_head_of(XF_SA_BY_SEQ, 0, 0, seq), 0);
}

static inline uint64_t xf_sad_hash_addr(const struct xf_sad_secrets *secrets,
					const struct xf_sa_id *id, const union xf_addr *saddr)
{
	return xf_sad_hash_addrs(secrets, xf_sad_head_of(XF_SA_BY_ADDR, id->family, id->proto, 0),
				 id->family, &id->daddr, saddr);
}

static inline uint64_t xf_sad_hash_answer(const struct xf_sad_secrets *secrets,
					  const struct xf_sa_id *id, const union xf_addr *saddr,
					  uint32_t reqid)
{
	return xf_sad_hash_addrs(secrets,
				 xf_sad_head_of(XF_SA_BY_ANSWER, id->family, id->proto, reqid),
				 id->family, &id->daddr, saddr);
}

/* Most have no interface and no mark, and pay for neither. */
static inline uint64_t xf_sad_hash_ends(const struct xf_sad_secrets *secrets,
					const struct xf_sad_ends *ends)
{
	uint64_t head = xf_sad_head_of(XF_SA_BY_ENDS, ends->family, 0, ends->reqid);
	uint64_t of_ends = xf_sad_hash_addrs(secrets, head, ends->family, ends->daddr, ends->saddr);

	return ends->if_id ? xf_sad_hash_one(secrets, of_ends, ends->if_id) : of_ends;
}

static inline uint64_t xf_sad_hash_mark(const struct xf_sad_secrets *secrets, uint64_t ends,
					struct xf_mark mark)
{
	return xf_sad_hash_one(secrets, ends, (uint64_t)mark.v << 32 | mark.m);
}

#endif
