/*
 * The SAD against a list that is searched from end to end. Keys come from a small space, so that
 * collisions, ties and larval SAs with their answers are common; the rules are written down here a
 * second time, as plainly as they can be.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <sad/use.h>

#include "../unit/sas.h"

#define S XF_NSEC_PER_SEC
#define MOST 300
#define RING 2
#define BATCH 80 /* more than the SAD takes at once */
#define NONE UINT64_MAX

/* What the list knows of an SA; the oldest comes first. */
struct entry {
	struct xf_sa *sa;
	struct xf_sa_config cfg;
	bool larval;
	bool dying;
	bool expired;
	bool told; /* that it is dying */
	uint64_t packets;
	uint64_t add_ns, use_ns;
};

struct world {
	struct xf_sad *sad;
	struct xf_event_ring *ring; /* as a worker's */
	unsigned told; /* by it */
	struct entry list[MOST + 1];
	unsigned n;
	uint64_t now_ns;
	uint64_t cursor;
	uint64_t dumped_id; /* of the last entry the dump showed */
	unsigned done[16];
};

static uint64_t rng;

static uint32_t below(uint32_t n)
{
	return (uint32_t)(sas_random(&rng) % n);
}

/* --- the list --- */

static unsigned index_of(const struct world *w, const struct xf_sa *sa)
{
	unsigned i = 0;

	while (i < w->n && w->list[i].sa != sa)
		i++;
	return i;
}

static void forget(struct world *w, unsigned i)
{
	w->n--;
	memmove(&w->list[i], &w->list[i + 1], (w->n - i) * sizeof(w->list[0]));
}

static void remember(struct world *w, struct xf_sa *sa, const struct xf_sa_config *cfg, bool larval)
{
	w->list[w->n++] =
		(struct entry){ .sa = sa, .cfg = *cfg, .larval = larval, .add_ns = w->now_ns };
}

static bool is_ipsec(uint8_t proto)
{
	return proto == XF_IPPROTO_ESP || proto == XF_IPPROTO_AH || proto == XF_IPPROTO_COMP;
}

static bool same(const union xf_addr *a, const union xf_addr *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

static int m_find_in(const struct world *w, const struct xf_sa_id *id, uint32_t mark)
{
	for (int i = (int)w->n - 1; i >= 0; i--) {
		const struct xf_sa_config *cfg = &w->list[i].cfg;

		if (cfg->id.spi && cfg->id.spi == id->spi && cfg->id.proto == id->proto &&
		    cfg->id.family == id->family && same(&cfg->id.daddr, &id->daddr) &&
		    (mark & cfg->terms.mark.m) == cfg->terms.mark.v)
			return i;
	}
	return -1;
}

static int m_find_by_addr(const struct world *w, const struct xf_sa_id *id,
			  const union xf_addr *saddr, uint32_t mark)
{
	for (int i = (int)w->n - 1; i >= 0; i--) {
		const struct xf_sa_config *cfg = &w->list[i].cfg;

		if (!is_ipsec(id->proto) && cfg->id.proto == id->proto &&
		    cfg->id.family == id->family && same(&cfg->id.daddr, &id->daddr) &&
		    same(&cfg->saddr, saddr) && (mark & cfg->terms.mark.m) == cfg->terms.mark.v)
			return i;
	}
	return -1;
}

static int m_locate(const struct world *w, const struct xf_sa_config *cfg)
{
	uint32_t mark = cfg->terms.mark.v & cfg->terms.mark.m;

	return is_ipsec(cfg->id.proto) ? m_find_in(w, &cfg->id, mark)
				       : m_find_by_addr(w, &cfg->id, &cfg->saddr, mark);
}

static int m_larval_by_seq(const struct world *w, const struct xf_sa_config *cfg)
{
	for (int i = (int)w->n - 1; cfg->seq && i >= 0; i--) {
		const struct entry *e = &w->list[i];

		if (e->larval && e->cfg.seq == cfg->seq && e->cfg.terms.pcpu == cfg->terms.pcpu &&
		    (cfg->terms.mark.v & cfg->terms.mark.m & e->cfg.terms.mark.m) ==
			    e->cfg.terms.mark.v)
			return i;
	}
	return -1;
}

static int m_larval_like(const struct world *w, const struct xf_sa_config *cfg)
{
	for (int i = (int)w->n - 1; i >= 0; i--) {
		const struct entry *e = &w->list[i];

		if (e->larval && e->cfg.id.spi == 0 && e->cfg.terms.pcpu == cfg->terms.pcpu &&
		    (cfg->terms.mark.v & cfg->terms.mark.m & e->cfg.terms.mark.m) ==
			    e->cfg.terms.mark.v &&
		    e->cfg.reqid == cfg->reqid && e->cfg.mode == cfg->mode &&
		    e->cfg.id.proto == cfg->id.proto && e->cfg.id.family == cfg->id.family &&
		    same(&e->cfg.id.daddr, &cfg->id.daddr) && same(&e->cfg.saddr, &cfg->saddr))
			return i;
	}
	return -1;
}

/* Does entry @i suit the question, from @saddr? */
static bool suits(const struct entry *e, const struct xf_sad_query *q, const union xf_addr *saddr)
{
	const struct xf_sa_config *cfg = &e->cfg;

	return cfg->id.family == q->tmpl->id.family && cfg->reqid == q->tmpl->reqid &&
	       (q->mark & cfg->terms.mark.m) == cfg->terms.mark.v && cfg->if_id == q->if_id &&
	       !(cfg->flags & XF_SA_WILDRECV) && same(&cfg->id.daddr, q->daddr) &&
	       same(&cfg->saddr, saddr) && cfg->mode == q->tmpl->mode &&
	       cfg->id.proto == q->tmpl->id.proto &&
	       (!q->tmpl->id.spi || q->tmpl->id.spi == cfg->id.spi);
}

static bool better(const struct entry *a, const struct entry *b)
{
	if (a->dying != b->dying)
		return !a->dying;
	return a->add_ns / S > b->add_ns / S;
}

static int m_find_out(const struct world *w, const struct xf_sad_query *q, bool *larval)
{
	static const union xf_addr any;
	int best = -1;

	*larval = false;
	for (unsigned pass = 0; pass < 2 && best < 0 && !*larval; pass++) {
		for (int i = (int)w->n - 1; i >= 0; i--) {
			const struct entry *e = &w->list[i];

			if (!suits(e, q, pass ? &any : q->saddr))
				continue;
			if (e->larval && best < 0)
				*larval = true;
			if (e->larval || e->expired || e->cfg.terms.pcpu != UINT32_MAX ||
			    (e->cfg.terms.sel.family &&
			     (e->cfg.terms.sel.family != q->flow->family ||
			      !xf_selector_match(&e->cfg.terms.sel, q->flow))))
				continue;
			if (best < 0 || better(e, &w->list[best]))
				best = i;
		}
	}
	if (best >= 0)
		*larval = false;
	return best;
}

/* --- random things --- */

static const uint8_t protos[] = { XF_IPPROTO_ESP, XF_IPPROTO_ESP,  XF_IPPROTO_ESP,
				  XF_IPPROTO_AH,  XF_IPPROTO_COMP, XF_IPPROTO_ROUTING };

/* Of more masks than the SAD hashes under. */
static struct xf_mark random_mark(void)
{
	static const struct xf_mark marks[] = { { 0, 0 }, { 0, 0 }, { 0, 0 },
						{ 1, 1 }, { 2, 3 }, { 6, 3 },
						{ 0, 4 }, { 7, 7 }, { 1, UINT32_MAX } };

	return marks[below(XF_ARRAY_SIZE(marks))];
}

static void random_lifetime(struct xf_lifetime *life)
{
	uint64_t *limits[] = { &life->soft_add_s, &life->hard_add_s, &life->soft_use_s,
			       &life->hard_use_s };

	for (unsigned i = 0; i < XF_ARRAY_SIZE(limits); i++)
		*limits[i] = below(4) ? 0 : 1 + below(60);
	life->soft_packets = below(4) ? XF_INF : below(6);
	life->hard_packets = below(4) ? XF_INF : 3 + below(8);
}

static struct xf_sa_config random_config(void)
{
	struct xf_sa_config cfg =
		sas_config((uint8_t)below(3), (uint8_t)(1 + below(3)), 1 + below(8));

	cfg.id.proto = protos[below(XF_ARRAY_SIZE(protos))];
	if (below(4) == 0)
		cfg.id.family = XF_AF_INET6;
	cfg.terms.mark = random_mark();
	cfg.reqid = below(2);
	cfg.if_id = below(4) == 0;
	cfg.mode = below(4) ? XF_MODE_TUNNEL : (uint8_t)below(5);
	cfg.dir = (uint8_t)(below(6) ? 0 : 1 + below(2));
	cfg.seq = below(3);
	cfg.flags = below(8) ? 0 : XF_SA_WILDRECV;
	cfg.terms.pcpu = below(8) ? UINT32_MAX : 1;
	cfg.terms.encap.type = below(4) ? 0 : 2;
	if (below(4) == 0)
		cfg.terms.sel = (struct xf_selector){ .family = XF_AF_INET,
						      .daddr = sas_addr(101),
						      .prefixlen_d = 32 };
	else if (below(6) == 0)
		cfg.terms.sel.family = below(2) ? XF_AF_INET : XF_AF_INET6;
	random_lifetime(&cfg.terms.life);
	return cfg;
}

static void normal_mark(struct xf_sa_config *cfg)
{
	cfg->terms.mark.v &= cfg->terms.mark.m;
}

/* What is asked for, or added: half the time something that is like an SA of the list. */
static struct xf_sa_config random_or_known(const struct world *w)
{
	struct xf_sa_config cfg = random_config(), known;

	if (!w->n || below(2))
		return cfg;
	known = w->list[below(w->n)].cfg;
	if (below(2))
		known.id.spi = cfg.id.spi;
	if (below(4) == 0)
		known.terms.mark = cfg.terms.mark;
	known.seq = cfg.seq;
	known.terms.life = cfg.terms.life;
	return known;
}

/* --- operations: the real one and the list's verdict must agree --- */

static void do_add(struct world *w)
{
	struct xf_sa_config cfg = random_or_known(w);
	bool larval = below(4) == 0;
	struct xf_sa *sa;
	int err, gone = -1;

	if (larval && below(2))
		cfg.id.spi = 0;
	sa = larval ? sas_new_larval(w->sad, &cfg, w->now_ns) : sas_new(w->sad, &cfg, w->now_ns);
	err = xf_sad_add(w->sad, sa, NULL);
	if (m_locate(w, &cfg) >= 0) {
		assert_int_equal(err, -EEXIST);
		xf_sa_put(sa);
		return;
	}
	assert_int_equal(err, 0);
	if (is_ipsec(cfg.id.proto)) {
		gone = m_larval_by_seq(w, &cfg);
		if (gone >= 0 && (w->list[gone].cfg.id.proto != cfg.id.proto ||
				  !same(&w->list[gone].cfg.id.daddr, &cfg.id.daddr)))
			gone = -1;
		if (gone < 0)
			gone = m_larval_like(w, &cfg);
	}
	if (gone >= 0)
		forget(w, (unsigned)gone);
	normal_mark(&cfg);
	remember(w, sa, &cfg, larval);
}

static void do_del(struct world *w)
{
	unsigned i = w->n ? below(w->n) : 0;

	if (!w->n)
		return;
	assert_int_equal(xf_sad_del(w->sad, w->list[i].sa), 0);
	forget(w, i);
}

static void limits_after_update(struct entry *e)
{
	e->dying = false;
	e->told = false;
	if (!e->use_ns)
		return;
	if (e->packets >= e->cfg.terms.life.hard_packets)
		e->expired = true;
	else if (e->packets >= e->cfg.terms.life.soft_packets)
		e->dying = true;
}

static void do_update(struct world *w)
{
	struct xf_sa_config cfg = random_or_known(w);
	struct xf_sa *sa = sas_new(w->sad, &cfg, w->now_ns), *now = NULL;
	int err = xf_sad_update(w->sad, sa, &now), i = m_locate(w, &cfg);
	struct entry *e = &w->list[i < 0 ? 0 : i];

	if (i < 0 || (e->larval ? cfg.dir && cfg.dir != e->cfg.dir : cfg.dir != e->cfg.dir)) {
		assert_int_equal(err, -ESRCH);
	} else if (e->larval) {
		assert_int_equal(err, 0);
		assert_ptr_equal(now, sa);
		forget(w, (unsigned)i);
		normal_mark(&cfg);
		remember(w, sa, &cfg, false);
	} else if (e->expired || cfg.terms.encap.type != e->cfg.terms.encap.type) {
		assert_int_equal(err, -EINVAL);
	} else {
		assert_int_equal(err, 0);
		assert_ptr_equal(now, e->sa);
		e->cfg.terms.life = cfg.terms.life;
		if (cfg.if_id)
			e->cfg.if_id = cfg.if_id;
		if (!is_ipsec(cfg.id.proto))
			e->cfg.terms.sel = cfg.terms.sel;
		limits_after_update(e);
	}
	if (err)
		xf_sa_put(sa);
}

static bool m_spi_free(const struct world *w, uint32_t spi, uint8_t proto)
{
	for (unsigned i = 0; i < w->n; i++) {
		if (w->list[i].cfg.id.spi == spi && w->list[i].cfg.id.proto == proto)
			return false;
	}
	return spi != 0;
}

static void m_make_larval(struct world *w, const struct xf_sa_config *like)
{
	struct xf_sa_config cfg = sas_config(0, 1, 0);

	cfg.id = like->id;
	cfg.id.spi = 0;
	cfg.saddr = like->saddr;
	cfg.terms.mark = like->terms.mark;
	normal_mark(&cfg);
	cfg.reqid = like->reqid;
	cfg.if_id = like->if_id;
	cfg.mode = like->mode;
	cfg.terms.pcpu = like->terms.pcpu;
	cfg.terms.life.hard_add_s = 30;
	remember(w, NULL, &cfg, true);
}

/* A larval SA that got no SPI is not handed out: its address is taken from the dump's first. */
static bool take_newest(void *arg, struct xf_sa *sa)
{
	*(struct xf_sa **)arg = sa;
	return false;
}

static void do_alloc(struct world *w)
{
	struct xf_sa_config cfg = random_config();
	bool wide = cfg.id.proto != XF_IPPROTO_COMP && below(2);
	uint32_t min = wide ? 0xc0000000 : below(10);
	uint32_t max = wide ? 0xcfffffff : min + below(6);
	const struct xf_spi_request req = {
		.cfg = &cfg, .min = min, .max = max, .now_ns = w->now_ns
	};
	struct xf_sa *sa = NULL;
	int err = xf_sad_alloc_spi(w->sad, &req, &sa, NULL), i;
	bool room = false;
	uint64_t cursor = 0;

	if (!is_ipsec(cfg.id.proto)) {
		assert_int_equal(err, -EINVAL);
		return;
	}
	i = m_larval_by_seq(w, &cfg);
	if (i >= 0 && !same(&w->list[i].cfg.id.daddr, &cfg.id.daddr))
		i = -1;
	if (i < 0)
		i = m_larval_like(w, &cfg);
	if (i < 0) {
		i = (int)w->n;
		m_make_larval(w, &cfg);
		xf_sad_walk(w->sad, &cursor, take_newest, &w->list[i].sa);
	}
	/* An SA that is found by the number of its ACQUIRE may be of another protocol. */
	for (uint32_t spi = min; spi <= max && !room; spi++)
		room |= m_spi_free(w, spi, w->list[i].cfg.id.proto);
	assert_int_equal(err, w->list[i].cfg.id.spi || room ? 0 : -ENOENT);
	if (err)
		return;
	assert_ptr_equal(sa, w->list[i].sa);
	if (w->list[i].cfg.id.spi == 0) {
		w->list[i].cfg.id.spi = xf_sa_cfg(sa)->id.spi;
		assert_in_range(w->list[i].cfg.id.spi, min, max);
	}
	if (cfg.dir)
		w->list[i].cfg.dir = cfg.dir;
}

/* What one packet of either way asks. */
struct ask {
	struct xf_sa_config cfg;
	struct xf_tmpl tmpl;
	struct xf_flow flow;
	struct xf_sad_query query;
	bool by_flow;
};

static void make_ask(const struct world *w, struct ask *ask)
{
	ask->cfg = random_or_known(w);
	if (below(8) == 0)
		ask->cfg.id.daddr = sas_addr((uint8_t)(1 + below(3)));
	ask->tmpl = (struct xf_tmpl){ .id = { .family = ask->cfg.id.family,
					      .proto = ask->cfg.id.proto,
					      .spi = below(3) ? 0 : ask->cfg.id.spi },
				      .reqid = ask->cfg.reqid,
				      .mode = ask->cfg.mode };
	ask->flow = (struct xf_flow){ .family = below(8) ? XF_AF_INET : XF_AF_INET6,
				      .daddr = sas_addr((uint8_t)(101 + below(2))) };
	ask->query = (struct xf_sad_query){ .tmpl = &ask->tmpl,
					    .saddr = &ask->cfg.saddr,
					    .daddr = &ask->cfg.id.daddr,
					    .flow = &ask->flow,
					    .mark = below(8),
					    .if_id = ask->cfg.if_id };
	ask->by_flow = false;
	if (below(2))
		ask->query.by_flow = &ask->by_flow;
}

static struct xf_sa *at(const struct world *w, int i)
{
	return i < 0 ? NULL : w->list[i].sa;
}

/* The selector of @e has a say in @ask, from @saddr: it must be told. */
static bool has_a_say(const struct entry *e, const struct ask *ask)
{
	return suits(e, &ask->query, ask->query.saddr) && !e->larval && !e->expired &&
	       e->cfg.terms.pcpu == UINT32_MAX && e->cfg.terms.sel.prefixlen_d &&
	       e->cfg.terms.sel.family == ask->flow.family;
}

static void check_out(struct world *w, const struct ask *ask, const struct xf_sa *sa, bool larval)
{
	bool m_larval;
	int best = m_find_out(w, &ask->query, &m_larval);

	assert_ptr_equal(sa, at(w, best));
	assert_int_equal(larval, m_larval);
	for (unsigned i = 0; i < w->n && ask->query.by_flow; i++) {
		if (has_a_say(&w->list[i], ask))
			assert_true(ask->by_flow);
	}
	w->done[15] += best >= 0;
}

static void do_find(struct world *w)
{
	uint32_t mark = below(8);
	struct ask ask;
	struct xf_sa *sa;
	bool larval;

	make_ask(w, &ask);
	assert_ptr_equal(xf_sad_find_in(w->sad, &ask.cfg.id, mark),
			 at(w, m_find_in(w, &ask.cfg.id, mark)));
	assert_ptr_equal(xf_sad_find_by_addr(w->sad, &ask.cfg.id, &ask.cfg.saddr, mark),
			 at(w, m_find_by_addr(w, &ask.cfg.id, &ask.cfg.saddr, mark)));
	sa = xf_sad_find_out(w->sad, &ask.query, &larval);
	check_out(w, &ask, sa, larval);
}

/* Of each packet a few, so that there are runs. */
static void do_find_batch(struct world *w)
{
	static struct ask asks[BATCH];
	struct xf_sad_query *queries[BATCH];
	struct xf_sa_id ids[BATCH];
	uint32_t marks[BATCH];
	struct xf_sa *in[BATCH], *out[BATCH];
	unsigned n = 1 + below(BATCH);
	bool larval[BATCH];

	for (unsigned i = 0; i < n; i++) {
		make_ask(w, &asks[i]);
		queries[i] = &asks[i].query;
		ids[i] = asks[i].cfg.id;
		marks[i] = below(8);
		if (i > 0 && below(3) == 0) {
			ids[i] = ids[i - 1];
			marks[i] = below(4) ? marks[i - 1] : marks[i];
		}
	}
	xf_sad_find_in_batch(w->sad, ids, marks, n, in);
	xf_sad_find_out_batch(w->sad, queries, n, out, larval);
	for (unsigned i = 0; i < n; i++) {
		assert_ptr_equal(in[i], at(w, m_find_in(w, &ids[i], marks[i])));
		check_out(w, &asks[i], out[i], larval[i]);
	}
}

static void do_flush(struct world *w)
{
	static const uint8_t which[] = { 0, 255, XF_IPPROTO_AH, XF_IPPROTO_COMP,
					 XF_IPPROTO_ROUTING };
	uint8_t proto = which[below(30) ? 2 + below(3) : below(2)];
	unsigned n = 0;

	for (unsigned i = w->n; i-- > 0;) {
		uint8_t has = w->list[i].cfg.id.proto;

		if (proto == 0 || has == proto || (proto == 255 && is_ipsec(has))) {
			forget(w, i);
			n++;
		}
	}
	assert_int_equal(xf_sad_flush(w->sad, proto), n);
}

/* Dump a part, beside the list's own idea of what comes next. */
struct dump {
	struct world *w;
	unsigned left;
};

static int m_next(const struct world *w, uint64_t before_id)
{
	for (int i = (int)w->n - 1; i >= 0; i--) {
		if (w->list[i].sa->links.id < before_id)
			return i;
	}
	return -1;
}

static bool dump_one(void *arg, struct xf_sa *sa)
{
	struct dump *dump = arg;
	struct world *w = dump->w;

	assert_ptr_equal(sa, at(w, m_next(w, w->dumped_id)));
	w->dumped_id = sa->links.id;
	return --dump->left > 0;
}

static void do_walk(struct world *w)
{
	struct dump dump = { .w = w, .left = 1 + below(20) };

	if (!xf_sad_walk(w->sad, &w->cursor, dump_one, &dump)) {
		assert_int_equal(m_next(w, w->dumped_id), -1);
		w->cursor = 0;
		w->dumped_id = NONE;
	}
}

static void do_use(struct world *w)
{
	struct entry *e = &w->list[w->n ? below(w->n) : 0];
	enum xf_drop drop;

	if (!w->n || e->larval || e->cfg.dir == XF_SA_DIR_IN)
		return;
	drop = xf_sa_check(e->sa, xf_sa_form(e->sa)->what, true, w->now_ns, w->ring);
	if (e->expired) {
		assert_int_equal(drop, XF_DROP_OUT_STATE_INVALID);
		return;
	}
	if (!e->use_ns)
		e->use_ns = w->now_ns;
	if (e->packets >= e->cfg.terms.life.hard_packets) {
		e->expired = true;
		assert_int_equal(drop, XF_DROP_OUT_STATE_EXPIRED);
		return;
	}
	if (e->packets >= e->cfg.terms.life.soft_packets)
		e->dying = true;
	assert_int_equal(drop, XF_PASS);
	xf_sa_count(&e->sa->out, 0, 1, 100, w->now_ns);
	e->packets++;
}

/* --- time --- */

static bool over(const struct world *w, uint64_t since_ns, uint64_t limit_s)
{
	return limit_s && since_ns && w->now_ns >= since_ns + limit_s * S;
}

static void on_event(void *arg, struct xf_sa *sa, enum xf_sa_event event)
{
	struct world *w = arg;
	unsigned i = index_of(w, sa);
	struct entry *e = &w->list[i];
	const struct xf_lifetime *life = &e->cfg.terms.life;

	assert_int_not_equal(i, w->n);
	if (event == XF_SA_EVENT_SOFT_EXPIRE) {
		assert_true(over(w, e->add_ns, life->soft_add_s) ||
			    over(w, e->use_ns, life->soft_use_s) ||
			    e->packets >= life->soft_packets || e->dying);
		assert_false(e->told);
		e->dying = true;
		e->told = true;
		w->done[13]++;
		return;
	}
	assert_true(e->expired || over(w, e->add_ns, life->hard_add_s) ||
		    over(w, e->use_ns, life->hard_use_s));
	assert_int_equal(event, e->larval ? XF_SA_EVENT_LARVAL_EXPIRE : XF_SA_EVENT_HARD_EXPIRE);
	forget(w, i);
	w->done[14]++;
}

static void attend(void *arg, const struct xf_event *event)
{
	xf_sad_attend(arg, event->sa);
}

/* The ring is small: most of what is told was lost. */
static void do_expire(struct world *w)
{
	uint64_t next;

	w->now_ns += below(3 * S) + below(2) * 4 * S;
	w->told += xf_event_take(w->ring, attend, w->sad);
	next = xf_sad_expire(w->sad, w->now_ns, on_event, w);
	assert_true(next > w->now_ns);
	for (unsigned i = 0; i < w->n; i++) {
		const struct entry *e = &w->list[i];
		const struct xf_lifetime *life = &e->cfg.terms.life;

		assert_false(e->expired || over(w, e->add_ns, life->hard_add_s) ||
			     over(w, e->use_ns, life->hard_use_s));
		assert_true(e->dying || !(over(w, e->add_ns, life->soft_add_s) ||
					  over(w, e->use_ns, life->soft_use_s)));
		assert_int_equal(atomic_load(&e->sa->dying), e->dying);
		assert_int_equal(e->told, e->dying);
		if (life->hard_add_s)
			assert_true(next <= e->add_ns + life->hard_add_s * S);
		if (life->hard_use_s && e->use_ns)
			assert_true(next <= e->use_ns + life->hard_use_s * S);
	}
}

static void step(struct world *w)
{
	static void (*const all[])(struct world *) = { do_add,	  do_del,	do_update, do_alloc,
						       do_find,	  do_flush,	do_walk,   do_use,
						       do_expire, do_find_batch };
	static const uint8_t weights[] = { 24, 8, 8, 12, 19, 1, 8, 16, 3, 1 };
	struct xf_sad_info info;
	unsigned i = 0, at_most = below(100);

	if (w->n >= MOST)
		do_flush(w);
	while (at_most >= weights[i])
		at_most -= weights[i++];
	if (w->n < MOST)
		all[i](w);
	w->done[i]++;
	if (below(64) == 0)
		xf_rcu_drain();
	xf_sad_get_info(w->sad, &info);
	assert_int_equal(info.count, w->n);
}

static unsigned all_steps = 10000000 / MODEL_DIVISOR;

static void agrees_with_a_list(void **state)
{
	const unsigned rounds = 2000 / MODEL_DIVISOR, steps = all_steps / rounds;
	unsigned done[16] = { 0 }, told = 0;

	(void)state;
	rng = sas_seed(4301);
	for (unsigned round = 0; round < rounds; round++) {
		struct world *w = calloc(1, sizeof(*w));

		w->sad = sas_sad(0);
		w->ring = xf_event_ring_new(RING, &(struct xf_event_wake){ 0 });
		assert_non_null(w->ring);
		w->now_ns = 100 * S;
		w->dumped_id = NONE;
		for (unsigned i = 0; i < steps; i++)
			step(w);
		for (unsigned i = 0; i < 16; i++)
			done[i] += w->done[i];
		told += w->told;
		xf_event_ring_free(w->ring);
		xf_sad_free(w->sad);
		free(w);
	}
	print_message("# %u steps; %u SAs chosen, %u soft and %u hard limits told; %u events\n",
		      rounds * steps, done[15], done[13], done[14], told);
	assert_true(told > rounds * steps / 1000);
	assert_true(done[15] > rounds * steps / 100);
	assert_true(done[13] > rounds * steps / 1000);
	assert_true(done[14] > rounds * steps / 1000);
}

/* model_sad [STEPS] */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(agrees_with_a_list),
	};

	if (argc > 1)
		all_steps = (unsigned)strtoul(argv[1], NULL, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
