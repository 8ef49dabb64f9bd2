/*
 * Larval SAs: an SPI and addresses, keys to follow by UPDSA (ALLOCSPI).
 *
 * Where the kernel draws at random as often as the range is long, and may miss a number that is
 * free, this finds one if there is one. Of a large range it is one that leads to its SA (gate.h),
 * of a small one any.
 */
#include <errno.h>

#include "db.h"

/* Random picks before the search through the range: enough unless the range is nearly full. */
#define RANDOM_PICKS 32

/* Of fewer numbers a gate has too few to count on one. */
#define GATE_RANGE_MIN (1u << 24)

static bool is_larval(const struct xf_sa *sa, const struct xf_sa_view *cfg,
		      const struct xf_sa_view *like)
{
	return xf_sa_get_state(sa) == XF_SA_ACQ && cfg->terms->pcpu == like->terms->pcpu &&
	       xf_mark_match(&cfg->terms->mark, like->terms->mark.v & like->terms->mark.m);
}

/* A number from ACQUIRE names the question, whatever else the answer says. */
struct xf_sa *xf_sad_larval_by_seq(const struct xf_sad *sad, const struct xf_sa_view *cfg)
{
	struct xf_table_walk walk;
	struct xf_sa *sa;

	xf_table_first(&sad->tables[XF_SA_BY_SEQ], XF_SA_BY_SEQ,
		       xf_sad_hash_seq(&sad->secrets, cfg->seq), &walk);
	for (; (sa = xf_sad_entry(sad, &walk)); xf_table_next(&sad->seats, &walk)) {
		const struct xf_sa_view *has = xf_sa_cfg(sa);

		if (has->seq == cfg->seq && is_larval(sa, has, cfg))
			return sa;
	}
	return NULL;
}

/* if_id is not compared: the kernel does not. */
struct xf_sa *xf_sad_larval_like(const struct xf_sad *sad, const struct xf_sa_view *cfg)
{
	uint16_t family = cfg->id.family;
	struct xf_table_walk walk;
	struct xf_sa *sa;

	xf_table_first(&sad->tables[XF_SA_BY_ANSWER], XF_SA_BY_ANSWER,
		       xf_sad_hash_answer(&sad->secrets, &cfg->id, &cfg->saddr, cfg->reqid), &walk);
	for (; (sa = xf_sad_entry(sad, &walk)); xf_table_next(&sad->seats, &walk)) {
		const struct xf_sa_view *has = xf_sa_cfg(sa);

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

static uint32_t lifetime_s(const struct xf_sad_config *cfg)
{
	return cfg->larval_lifetime ? cfg->larval_lifetime(cfg->arg) : cfg->larval_lifetime_s;
}

/* Selected by its addresses alone, with no family, as the kernel's dump shows a larval SA. */
static void larval_config(const struct xf_sad *sad, const struct xf_sa_config *want,
			  struct xf_sa_config *cfg)
{
	uint8_t bits = xf_addr_bits(want->id.family);

	*cfg = (struct xf_sa_config){
		.id = want->id,
		.saddr = want->saddr,
		.if_id = want->if_id,
		.reqid = want->reqid,
		.mode = want->mode,
		.terms = { .sel = { .daddr = want->id.daddr,
				    .saddr = want->saddr,
				    .prefixlen_d = bits,
				    .prefixlen_s = bits },
			   .mark = want->terms.mark,
			   .life = { .soft_bytes = XF_INF,
				     .hard_bytes = XF_INF,
				     .soft_packets = XF_INF,
				     .hard_packets = XF_INF,
				     .hard_add_s = lifetime_s(&sad->cfg) },
			   .pcpu = want->terms.pcpu },
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
	sa = xf_sa_new(sad, &cfg, NULL, XF_SA_ACQ, NULL, req->now_ns);
	if (!sa)
		return -ENOMEM;
	err = xf_sad_insert(sad, sa, NULL);
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
	const struct xf_sa_view want = xf_sa_view_of(req->cfg, &req->cfg->terms);
	struct xf_sa *sa = want.seq ? xf_sad_larval_by_seq(sad, &want) : NULL;

	if (sa && !xf_addr_equal(&xf_sa_cfg(sa)->id.daddr, &want.id.daddr, want.id.family))
		sa = NULL;
	if (!sa)
		sa = xf_sad_larval_like(sad, &want);
	if (!sa)
		return larval_new(sad, req, out, why);
	*out = sa;
	return 0;
}

static bool number_is_free(const struct xf_sad *sad, uint32_t spi, uint8_t proto)
{
	struct xf_table_walk walk;
	struct xf_sa *sa;

	xf_table_first(&sad->tables[XF_SA_BY_NUMBER], XF_SA_BY_NUMBER,
		       xf_sad_hash_number(&sad->secrets, spi, proto), &walk);
	for (; (sa = xf_sad_entry(sad, &walk)); xf_table_next(&sad->seats, &walk)) {
		if (xf_sa_cfg(sa)->id.spi == spi && xf_sa_cfg(sa)->id.proto == proto)
			return false;
	}
	return true;
}

/* An SPI is taken for all addresses at once, as in the kernel from 6.17 on. */
static bool is_free(const struct xf_sad *sad, uint32_t spi, uint8_t proto)
{
	const struct xf_gate *gate = xf_gate_for(&sad->gates, spi);

	if (spi == 0)
		return false;
	if (gate && xf_gate_look(gate) && gate->spi == spi && gate->proto == proto)
		return false;
	return number_is_free(sad, spi, proto);
}

/* 64 bits, so that no number of a range of 32 is noticeably likelier than another. */
static uint32_t random_below(const struct xf_sad *sad, uint64_t limit)
{
	uint64_t number;

	sad->cfg.random(sad->cfg.arg, &number, sizeof(number));
	return (uint32_t)(number % limit);
}

/* A free SPI, or 0. Of count + 2 neighbours one is free, unless the range ends before. */
static uint32_t pick_spi(const struct xf_sad *sad, const struct xf_spi_request *req, uint8_t proto)
{
	uint64_t range = (uint64_t)req->max - req->min + 1;
	uint64_t tries = sad->count + 2ull < range ? sad->count + 2ull : range;
	uint32_t start = random_below(sad, range);

	for (unsigned i = 0; i < RANDOM_PICKS; i++) {
		uint32_t spi = req->min + random_below(sad, range);

		if (is_free(sad, spi, proto))
			return spi;
	}
	for (uint64_t i = 0; i < tries; i++) {
		uint32_t spi = req->min + (uint32_t)((start + i) % range);

		if (is_free(sad, spi, proto))
			return spi;
	}
	return 0;
}

/*
 * Of the 1,024 SPIs of a gate, from a random one on, the first that is in the range: of any 2^28
 * numbers 64 on average. 0: none of them.
 */
static uint32_t pick_behind(const struct xf_sad *sad, const struct xf_spi_request *req,
			    uint8_t proto, uint32_t gate)
{
	uint32_t start = random_below(sad, XF_GATE_CHOICES);

	for (uint32_t i = 0; i < XF_GATE_CHOICES; i++) {
		uint32_t choice = (start + i) % XF_GATE_CHOICES;
		uint32_t spi = xf_gate_spi(&sad->gates, gate, choice);

		if (spi && spi >= req->min && spi <= req->max && number_is_free(sad, spi, proto))
			return spi;
	}
	return 0;
}

/* False: no gate, or none of its numbers is in the range. */
static bool give_gate(struct xf_sad *sad, struct xf_sa *sa, const struct xf_spi_request *req,
		      struct xf_sa_config *cfg)
{
	uint32_t gate;

	if ((uint64_t)req->max - req->min + 1 < GATE_RANGE_MIN)
		return false;
	gate = xf_gate_take(&sad->gates);
	if (gate == XF_GATE_NONE)
		return false;
	cfg->id.spi = pick_behind(sad, req, cfg->id.proto, gate);
	if (cfg->id.spi && xf_sa_reconfigure(sa, cfg) == 0) {
		xf_sad_link_gate(sad, sa, gate);
		return true;
	}
	cfg->id.spi = 0;
	xf_gate_give(&sad->gates, gate);
	return false;
}

/* An ACQUIRE's larval SA may have its SPI already, which stays, and a protocol of its own. */
static int give_spi(struct xf_sad *sad, struct xf_sa *sa, const struct xf_spi_request *req,
		    const char **why)
{
	struct xf_sa_config cfg;
	int err;

	xf_sa_copy_cfg(sa, &cfg);
	if (req->cfg->dir)
		cfg.dir = req->cfg->dir;
	if (cfg.id.spi)
		return xf_sa_reconfigure(sa, &cfg);
	if (give_gate(sad, sa, req, &cfg))
		return 0;
	cfg.id.spi = pick_spi(sad, req, cfg.id.proto);
	if (cfg.id.spi == 0) {
		if (why)
			*why = "No SPI available in the requested range";
		return -ENOENT;
	}
	err = xf_sad_reserve_links(sad);
	if (err == 0)
		err = xf_sa_reconfigure(sa, &cfg);
	if (err == 0)
		xf_sad_link_spi(sad, sa, NULL);
	return err;
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
