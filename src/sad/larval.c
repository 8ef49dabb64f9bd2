/*
 * Larval SAs: an SPI and addresses, keys to follow by UPDSA (ALLOCSPI).
 *
 * Where the kernel draws at random as often as the range is long, and may miss a number that is
 * free, this finds one if there is one.
 */
#include <errno.h>

#include "db.h"

/* Random picks before the search through the range: enough unless the range is nearly full. */
#define RANDOM_PICKS 32

static bool is_larval(const struct xf_sa *sa, const struct xf_sa_config *cfg,
		      const struct xf_sa_config *like)
{
	return xf_sa_get_state(sa) == XF_SA_ACQ && cfg->pcpu == like->pcpu &&
	       xf_mark_match(&cfg->mark, like->mark.v & like->mark.m);
}

/* A number from ACQUIRE names the question, whatever else the answer says. */
struct xf_sa *xf_sad_larval_by_seq(const struct xf_sad *sad, const struct xf_sa_config *cfg)
{
	struct xf_table_walk walk;
	struct xf_sa *sa;

	xf_table_first(&sad->tables[XF_SA_BY_SEQ], xf_sad_hash_seq(sad, cfg->seq), &walk);
	for (; (sa = xf_sad_entry(&walk, XF_SA_BY_SEQ)); xf_table_next(&walk)) {
		const struct xf_sa_config *has = xf_sa_cfg(sa);

		if (has->seq == cfg->seq && is_larval(sa, has, cfg))
			return sa;
	}
	return NULL;
}

/* if_id is not compared: the kernel does not. */
struct xf_sa *xf_sad_larval_like(const struct xf_sad *sad, const struct xf_sa_config *cfg)
{
	uint16_t family = cfg->id.family;
	struct xf_table_walk walk;
	struct xf_sa *sa;

	xf_table_first(&sad->tables[XF_SA_BY_ENDS],
		       xf_sad_hash_ends(sad, &cfg->id, &cfg->saddr, cfg->reqid), &walk);
	for (; (sa = xf_sad_entry(&walk, XF_SA_BY_ENDS)); xf_table_next(&walk)) {
		const struct xf_sa_config *has = xf_sa_cfg(sa);

		if (is_larval(sa, has, cfg) && has->id.spi == 0 && has->reqid == cfg->reqid &&
		    has->mode == cfg->mode && has->id.family == family &&
		    has->id.proto == cfg->id.proto &&
		    xf_addr_equal(&has->id.daddr, &cfg->id.daddr, family) &&
		    xf_addr_equal(&has->saddr, &cfg->saddr, family))
			return sa;
	}
	return NULL;
}

/* The kernel's verify_spi_info(). */
static int check_range(uint8_t proto, uint32_t min, uint32_t max, const char **why)
{
	const char *sentence = NULL;

	if (!xf_sad_proto_match(proto, XF_SAD_PROTO_IPSEC))
		sentence = "Invalid protocol, must be one of AH, ESP, IPCOMP";
	else if (proto == XF_IPPROTO_COMP && max >= 0x10000)
		sentence = "IPCOMP SPI must be <= 65535";
	else if (min > max)
		sentence = "Invalid SPI range: min > max";
	if (sentence && why)
		*why = sentence;
	return sentence ? -EINVAL : 0;
}

/* Selected by its addresses alone, with no family, as the kernel's dump shows a larval SA. */
static void larval_config(const struct xf_sad *sad, const struct xf_sa_config *want,
			  struct xf_sa_config *cfg)
{
	uint8_t bits = xf_addr_bits(want->id.family);

	*cfg = (struct xf_sa_config){
		.id = want->id,
		.saddr = want->saddr,
		.sel = { .daddr = want->id.daddr,
			 .saddr = want->saddr,
			 .prefixlen_d = bits,
			 .prefixlen_s = bits },
		.mark = want->mark,
		.life = { .soft_bytes = XF_INF,
			  .hard_bytes = XF_INF,
			  .soft_packets = XF_INF,
			  .hard_packets = XF_INF,
			  .hard_add_s = sad->cfg.larval_lifetime_s },
		.if_id = want->if_id,
		.reqid = want->reqid,
		.pcpu = want->pcpu,
		.mode = want->mode,
	};
	cfg->id.spi = 0;
}

static int larval_new(struct xf_sad *sad, const struct xf_spi_request *req, struct xf_sa **out,
		      const char **why)
{
	struct xf_sa_config cfg;
	struct xf_sa *sa;
	int err = xf_sad_check_room(sad, 0, why);

	if (err)
		return err;
	larval_config(sad, req->cfg, &cfg);
	err = xf_sa_new(&cfg, NULL, XF_SA_ACQ, NULL, req->now_ns, &sa);
	if (err)
		return err;
	err = xf_sad_insert(sad, sa);
	if (err) {
		xf_sa_put(sa);
		return err;
	}
	*out = sa;
	return 0;
}

static int find_or_make(struct xf_sad *sad, const struct xf_spi_request *req, struct xf_sa **out,
			const char **why)
{
	const struct xf_sa_config *cfg = req->cfg;
	struct xf_sa *sa = cfg->seq ? xf_sad_larval_by_seq(sad, cfg) : NULL;

	if (sa && !xf_addr_equal(&xf_sa_cfg(sa)->id.daddr, &cfg->id.daddr, cfg->id.family))
		sa = NULL;
	if (!sa)
		sa = xf_sad_larval_like(sad, cfg);
	if (!sa)
		return larval_new(sad, req, out, why);
	*out = sa;
	return 0;
}

/* An SPI is taken for all addresses at once, as in the kernel from 6.17 on. */
static bool is_free(const struct xf_sad *sad, uint32_t spi, uint8_t proto)
{
	struct xf_table_walk walk;
	struct xf_sa *sa;

	if (spi == 0)
		return false;
	xf_table_first(&sad->tables[XF_SA_BY_NUMBER], xf_sad_hash_number(sad, spi, proto), &walk);
	for (; (sa = xf_sad_entry(&walk, XF_SA_BY_NUMBER)); xf_table_next(&walk)) {
		if (xf_sa_cfg(sa)->id.spi == spi && xf_sa_cfg(sa)->id.proto == proto)
			return false;
	}
	return true;
}

/* 64 bits, so that no number of a range of 32 is noticeably likelier than another. */
static uint32_t random_spi(const struct xf_sad *sad, uint32_t min, uint64_t range)
{
	uint64_t number;

	sad->cfg.random(sad->cfg.arg, &number, sizeof(number));
	return min + (uint32_t)(number % range);
}

/* A free SPI, or 0. Of count + 2 neighbours one is free, unless the range ends before. */
static uint32_t pick_spi(const struct xf_sad *sad, const struct xf_spi_request *req, uint8_t proto)
{
	uint64_t range = (uint64_t)req->max - req->min + 1;
	uint64_t tries = sad->count + 2ull < range ? sad->count + 2ull : range;
	uint32_t start = random_spi(sad, req->min, range);

	for (unsigned i = 0; i < RANDOM_PICKS; i++) {
		uint32_t spi = random_spi(sad, req->min, range);

		if (is_free(sad, spi, proto))
			return spi;
	}
	for (uint64_t i = 0; i < tries; i++) {
		uint32_t spi = req->min + (uint32_t)((start - req->min + i) % range);

		if (is_free(sad, spi, proto))
			return spi;
	}
	return 0;
}

/* An ACQUIRE's larval SA may have its SPI already, which stays, and a protocol of its own. */
static int give_spi(struct xf_sad *sad, struct xf_sa *sa, const struct xf_spi_request *req,
		    const char **why)
{
	struct xf_sa_config cfg = *xf_sa_cfg(sa);

	if (req->cfg->dir)
		cfg.dir = req->cfg->dir;
	if (cfg.id.spi)
		return xf_sa_reconfigure(sa, &cfg);
	cfg.id.spi = pick_spi(sad, req, cfg.id.proto);
	if (cfg.id.spi == 0) {
		if (why)
			*why = "No SPI available in the requested range";
		return -ENOENT;
	}
	return xf_sad_set_spi(sad, sa, &cfg);
}

int xf_sad_alloc_spi(struct xf_sad *sad, const struct xf_spi_request *req, struct xf_sa **out,
		     const char **why)
{
	struct xf_sa *sa = NULL;
	int err = check_range(req->cfg->id.proto, req->min, req->max, why);

	if (err == 0)
		err = find_or_make(sad, req, &sa, why);
	if (err == 0)
		err = give_spi(sad, sa, req, why);
	if (err == 0)
		*out = sa;
	return err;
}
