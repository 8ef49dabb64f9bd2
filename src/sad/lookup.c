/*
 * Readers. Within one key the newest SA comes first, as in the kernel's chains.
 *
 * A configuration is read through xf_sa_cfg() once for each SA and then used: UPDSA may publish
 * another one in between. What the hashes are made of never changes, but for the SPI of a larval
 * SA, which is linked by it after it was published.
 */
#include <xf/hash.h>

#include "db.h"

/* One key for all tables: what a table does not look at stays zero. No padding. */
struct key {
	union xf_addr daddr;
	union xf_addr saddr;
	uint32_t number; /* SPI, reqid or seq */
	uint16_t family;
	uint8_t proto;
	uint8_t table;
};

/* What lies behind an IPv4 address in the union must not get into the hash. */
static void set_addr(union xf_addr *to, const union xf_addr *from, uint16_t family)
{
	memcpy(to, from, family == XF_AF_INET ? 4 : 16);
}

uint64_t xf_sad_hash_spi(const struct xf_sad *sad, const struct xf_sa_id *id)
{
	struct key key = {
		.number = id->spi, .family = id->family, .proto = id->proto, .table = XF_SA_BY_SPI
	};

	set_addr(&key.daddr, &id->daddr, id->family);
	return xf_hash(sad->cfg.seed, &key, sizeof(key));
}

uint64_t xf_sad_hash_number(const struct xf_sad *sad, uint32_t spi, uint8_t proto)
{
	struct key key = { .number = spi, .proto = proto, .table = XF_SA_BY_NUMBER };

	return xf_hash(sad->cfg.seed, &key, sizeof(key));
}

uint64_t xf_sad_hash_seq(const struct xf_sad *sad, uint32_t seq)
{
	struct key key = { .number = seq, .table = XF_SA_BY_SEQ };

	return xf_hash(sad->cfg.seed, &key, sizeof(key));
}

uint64_t xf_sad_hash_ends(const struct xf_sad *sad, const struct xf_sa_id *id,
			  const union xf_addr *saddr, uint32_t reqid)
{
	struct key key = { .number = reqid, .family = id->family, .table = XF_SA_BY_ENDS };

	set_addr(&key.daddr, &id->daddr, id->family);
	set_addr(&key.saddr, saddr, id->family);
	return xf_hash(sad->cfg.seed, &key, sizeof(key));
}

uint64_t xf_sad_hash_addr(const struct xf_sad *sad, const struct xf_sa_id *id,
			  const union xf_addr *saddr)
{
	struct key key = { .family = id->family, .proto = id->proto, .table = XF_SA_BY_ADDR };

	set_addr(&key.daddr, &id->daddr, id->family);
	set_addr(&key.saddr, saddr, id->family);
	return xf_hash(sad->cfg.seed, &key, sizeof(key));
}

static bool same_peer(const struct xf_sa_id *a, const struct xf_sa_id *b)
{
	return a->family == b->family && a->proto == b->proto &&
	       xf_addr_equal(&a->daddr, &b->daddr, b->family);
}

#define BATCH 64
/* Of an SA and of its configuration, from the front: what lookups and the transform read. */
#define SA_LINES 3
#define CFG_LINES 6

static void fetch(const void *p, unsigned lines)
{
	for (unsigned i = 0; i < lines; i++)
		__builtin_prefetch((const uint8_t *)p + i * XF_CACHE_LINE);
}

/*
 * Buckets, then entries, then what they point to: a chain of misses takes its time once for the
 * batch, not once for each packet. What is fetched in vain costs a little, and nothing else.
 */
static void warm(const struct xf_sad *sad, enum xf_sa_table which, const uint64_t *hashes,
		 unsigned n)
{
	const struct xf_table *table = &sad->tables[which];
	const struct xf_sa *sas[BATCH];
	unsigned found = 0;

	for (unsigned i = 0; i < n; i++)
		xf_table_fetch(table, hashes[i]);
	for (unsigned i = 0; i < n; i++) {
		struct xf_table_link *link = xf_table_peek(table, hashes[i]);

		if (!link)
			continue;
		sas[found] = XF_CONTAINER_OF(link, struct xf_sa, links.table[which]);
		__builtin_prefetch(link);
		fetch(sas[found], SA_LINES);
		__builtin_prefetch(&sas[found]->cfg);
		__builtin_prefetch(&sas[found++]->begun);
	}
	for (unsigned i = 0; i < found; i++) {
		fetch(xf_sa_cfg(sas[i]), CFG_LINES);
		fetch(xf_sa_key(sas[i]), SA_LINES);
		__builtin_prefetch(sas[i]->replay);
	}
}

/* The lines of the SAs themselves first, because they point to the others. */
void xf_sad_fetch(struct xf_sa *const *sas, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (!sas[i] || (i > 0 && sas[i] == sas[i - 1]))
			continue;
		__builtin_prefetch(sas[i]);
		__builtin_prefetch(&sas[i]->begun, 1);
		__builtin_prefetch(&sas[i]->first_cfg.form);
		__builtin_prefetch(&sas[i]->first_cfg.form.soft_bytes);
	}
	for (unsigned i = 0; i < n; i++) {
		if (!sas[i] || (i > 0 && sas[i] == sas[i - 1]))
			continue;
		__builtin_prefetch(sas[i]->key);
		__builtin_prefetch(sas[i]->replay);
	}
}

/* RFC 4301 s4.1, with the kernel's marks: of several that match, the one that was added last. */
static struct xf_sa *find_in(const struct xf_sad *sad, const struct xf_sa_id *id, uint32_t mark,
			     uint64_t hash)
{
	struct xf_table_walk walk;
	struct xf_sa *sa;

	xf_table_first(&sad->tables[XF_SA_BY_SPI], hash, &walk);
	for (; (sa = xf_sad_entry(&walk, XF_SA_BY_SPI)); xf_table_next(&walk)) {
		const struct xf_sa_config *cfg = xf_sa_cfg(sa);

		if (cfg->id.spi == id->spi && same_peer(&cfg->id, id) &&
		    xf_mark_match(&cfg->mark, mark))
			return sa;
	}
	return NULL;
}

struct xf_sa *xf_sad_find_in(const struct xf_sad *sad, const struct xf_sa_id *id, uint32_t mark)
{
	return find_in(sad, id, mark, xf_sad_hash_spi(sad, id));
}

/* Packets of one SA mostly come together. */
static bool as_before(const struct xf_sa_id *ids, const uint32_t *marks, unsigned i)
{
	return i > 0 && marks[i] == marks[i - 1] && ids[i].spi == ids[i - 1].spi &&
	       same_peer(&ids[i], &ids[i - 1]);
}

static void find_some(const struct xf_sad *sad, const struct xf_sa_id *ids, const uint32_t *marks,
		      unsigned n, struct xf_sa **out)
{
	uint64_t hashes[BATCH];
	unsigned differ = 0;

	for (unsigned i = 0; i < n; i++)
		if (!as_before(ids, marks, i))
			hashes[differ++] = xf_sad_hash_spi(sad, &ids[i]);
	if (differ > 1)
		warm(sad, XF_SA_BY_SPI, hashes, differ);
	differ = 0;
	for (unsigned i = 0; i < n; i++)
		out[i] = as_before(ids, marks, i)
				 ? out[i - 1]
				 : find_in(sad, &ids[i], marks[i], hashes[differ++]);
}

void xf_sad_find_in_batch(const struct xf_sad *sad, const struct xf_sa_id *ids,
			  const uint32_t *marks, unsigned n, struct xf_sa **out)
{
	for (unsigned i = 0; i < n; i += BATCH)
		find_some(sad, ids + i, marks + i, xf_min_u32(n - i, BATCH), out + i);
}

struct xf_sa *xf_sad_find_by_addr(const struct xf_sad *sad, const struct xf_sa_id *id,
				  const union xf_addr *saddr, uint32_t mark)
{
	struct xf_table_walk walk;
	struct xf_sa *sa;

	xf_table_first(&sad->tables[XF_SA_BY_ADDR], xf_sad_hash_addr(sad, id, saddr), &walk);
	for (; (sa = xf_sad_entry(&walk, XF_SA_BY_ADDR)); xf_table_next(&walk)) {
		const struct xf_sa_config *cfg = xf_sa_cfg(sa);

		if (same_peer(&cfg->id, id) && xf_addr_equal(&cfg->saddr, saddr, id->family) &&
		    xf_mark_match(&cfg->mark, mark))
			return sa;
	}
	return NULL;
}

/* What xf_sad_find_out() has met so far. */
struct found {
	struct xf_sa *best;
	uint64_t add_s;
	bool dying;
	bool larval;
	bool by_flow;
};

/* A selector that takes every packet of its family: the kernel's default. */
static bool takes_all(const struct xf_selector *sel)
{
	return !sel->prefixlen_d && !sel->prefixlen_s && !sel->proto && !sel->ifindex &&
	       !sel->dport_mask && !sel->sport_mask && !sel->user;
}

/* The kernel's xfrm_state_look_at(); of two equal ones the newest, first in the chain, stays. */
static void look_at(struct found *found, struct xf_sa *sa, const struct xf_sa_config *cfg,
		    const struct xf_flow *flow)
{
	enum xf_sa_state state = xf_sa_get_state(sa);
	struct xf_lifetime_now now;
	bool dying;

	if (state == XF_SA_ACQ && !found->best)
		found->larval = true;
	if (state != XF_SA_VALID || cfg->pcpu != UINT32_MAX)
		return;
	if (cfg->sel.family && cfg->sel.family != flow->family)
		return;
	if (cfg->sel.family && !takes_all(&cfg->sel)) {
		found->by_flow = true;
		if (!xf_selector_match(&cfg->sel, flow))
			return;
	}
	dying = atomic_load_explicit(&sa->dying, memory_order_relaxed);
	xf_sa_lifetime_now(sa, &now);
	if (found->best &&
	    (found->dying < dying || (found->dying == dying && found->add_s >= now.add_s)))
		return;
	found->best = sa;
	found->dying = dying;
	found->add_s = now.add_s;
}

/* The conditions of the kernel's xfrm_state_find(), but for the SA's state and selector. */
static bool wanted(const struct xf_sa_config *cfg, const struct xf_sad_query *query,
		   const union xf_addr *saddr)
{
	const struct xf_tmpl *tmpl = query->tmpl;
	uint16_t family = tmpl->id.family;

	return cfg->id.family == family && cfg->reqid == tmpl->reqid &&
	       xf_mark_match(&cfg->mark, query->mark) && cfg->if_id == query->if_id &&
	       !(cfg->flags & XF_SA_WILDRECV) &&
	       xf_addr_equal(&cfg->id.daddr, query->daddr, family) &&
	       xf_addr_equal(&cfg->saddr, saddr, family) && cfg->mode == tmpl->mode &&
	       cfg->id.proto == tmpl->id.proto &&
	       (tmpl->id.spi == 0 || cfg->id.spi == tmpl->id.spi);
}

static uint64_t hash_of(const struct xf_sad *sad, const struct xf_sad_query *query,
			const union xf_addr *saddr)
{
	const struct xf_sa_id id = { .daddr = *query->daddr, .family = query->tmpl->id.family };

	return xf_sad_hash_ends(sad, &id, saddr, query->tmpl->reqid);
}

void xf_sad_warm_out(const struct xf_sad *sad, struct xf_sad_query *const *queries, unsigned n)
{
	uint64_t hashes[BATCH];

	n = xf_min_u32(n, BATCH);
	for (unsigned i = 0; i < n; i++)
		hashes[i] = queries[i]->hash = hash_of(sad, queries[i], queries[i]->saddr);
	warm(sad, XF_SA_BY_ENDS, hashes, n);
}

static void look_between(const struct xf_sad *sad, const struct xf_sad_query *query,
			 const union xf_addr *saddr, struct found *found)
{
	bool hashed = query->hash && saddr == query->saddr;
	struct xf_table_walk walk;
	struct xf_sa *sa;

	xf_table_first(&sad->tables[XF_SA_BY_ENDS],
		       hashed ? query->hash : hash_of(sad, query, saddr), &walk);
	for (; (sa = xf_sad_entry(&walk, XF_SA_BY_ENDS)); xf_table_next(&walk)) {
		const struct xf_sa_config *cfg = xf_sa_cfg(sa);

		if (wanted(cfg, query, saddr))
			look_at(found, sa, cfg, query->flow);
	}
}

/*
 * The kernel hashes both ends, so it meets an SA for any source in the second pass only, except
 * where two hashes happen to collide. Here it is the second pass always.
 */
struct xf_sa *xf_sad_find_out(const struct xf_sad *sad, const struct xf_sad_query *query,
			      bool *larval)
{
	static const union xf_addr any;
	struct found found = { 0 };

	look_between(sad, query, query->saddr, &found);
	/* Only when nothing is between the two ends does an SA from anywhere do. */
	if (!found.best && !found.larval && !xf_addr_is_any(query->saddr, query->tmpl->id.family))
		look_between(sad, query, &any, &found);
	if (larval)
		*larval = !found.best && found.larval;
	if (query->by_flow && found.by_flow)
		*query->by_flow = true;
	return found.best;
}

void xf_sad_find_out_batch(const struct xf_sad *sad, struct xf_sad_query *const *queries,
			   unsigned n, struct xf_sa **out, bool *larval)
{
	for (unsigned i = 0; i < n; i += BATCH)
		xf_sad_warm_out(sad, queries + i, xf_min_u32(n - i, BATCH));
	for (unsigned i = 0; i < n; i++)
		out[i] = xf_sad_find_out(sad, queries[i], larval ? &larval[i] : NULL);
}
