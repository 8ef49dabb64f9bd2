/*
 * Readers. Of several SAs that match, the one that arrived last counts, as in the kernel's chains.
 *
 * All that is compared stands in gates and seats, which are constant. What may change is read of
 * the SA itself, where several suit: which of them is near its end, and when it was added. How many
 * have expired the SAD counts.
 *
 * A batch goes through the same steps for all its packets: buckets, seats, SAs. So a chain of
 * misses takes its time once for the batch, not once for each packet. What is fetched in vain costs
 * a little, and nothing else.
 */
#include "db.h"
#include "use.h"

#define BATCH 64

static const struct xf_seat *seat_at(const struct xf_sad *sad, uint32_t number)
{
	return xf_seat_at(&sad->seats, number);
}

/* --- Inbound --- */

static bool same_peer(const struct xf_sa_id *a, const struct xf_sa_id *b)
{
	return a->family == b->family && a->proto == b->proto &&
	       xf_addr_equal(&a->daddr, &b->daddr, b->family);
}

/* RFC 4301 s4.1, with the kernel's marks: the SA of seat @number, or NULL. */
static inline struct xf_sa *take_in(const struct xf_sad *sad, uint32_t number,
				    const struct xf_sa_id *id, uint32_t mark)
{
	const struct xf_seat_in *seat = xf_seat_in_at(&sad->seats, number);

	if (atomic_load_explicit(&seat->spi, memory_order_relaxed) != id->spi ||
	    seat->family != id->family || seat->proto != id->proto ||
	    !xf_addr_equal(&seat->daddr, &id->daddr, id->family))
		return NULL;
	if (seat->marked && !xf_mark_match(&seat_at(sad, number)->mark, mark))
		return NULL;
	return seat->sa;
}

/* All of one key hang together: what is found alone is alone. */
static struct xf_sa *walk_table(const struct xf_sad *sad, const struct xf_sa_id *id, uint32_t mark,
				uint64_t hash)
{
	struct xf_table_walk walk;
	struct xf_sa *best = NULL;

	xf_table_first(&sad->tables[XF_SA_BY_SPI], XF_SA_BY_SPI, hash, &walk);
	for (; walk.number; xf_table_next(&sad->seats, &walk)) {
		struct xf_sa *sa = take_in(sad, walk.number, id, mark);

		if (sa && !walk.chained)
			return sa;
		if (sa && (!best || sa->links.id > best->links.id))
			best = sa;
	}
	return best;
}

/* Whom @gate leads to, or NULL: then the table must be asked. */
static inline struct xf_sa *find_at_gate(const struct xf_gate *gate, const struct xf_sa_id *id,
					 uint32_t mark)
{
	uintptr_t seen = xf_sad_at_gate(gate, id);
	struct xf_sa *sa = xf_gate_sa(seen);

	if (seen & XF_GATE_MARKED && !xf_mark_match(&xf_sa_cfg(sa)->terms->mark, mark))
		return NULL;
	return sa;
}

struct xf_sa *xf_sad_find_in(const struct xf_sad *sad, const struct xf_sa_id *id, uint32_t mark)
{
	struct xf_sa *sa = find_at_gate(xf_gate_for(&sad->gates, id->spi), id, mark);

	return sa ? sa : walk_table(sad, id, mark, xf_sad_hash_spi(&sad->secrets, id));
}

/* Packets of one SA mostly come together. */
static bool as_before(const struct xf_sa_id *ids, const uint32_t *marks, unsigned i)
{
	return i > 0 && ids[i].spi == ids[i - 1].spi && marks[i] == marks[i - 1] &&
	       same_peer(&ids[i], &ids[i - 1]);
}

/* A lookup in a table, of a batch: how far it is. */
struct way {
	uint64_t hash;
	const struct xf_table_bucket *bucket;
	uint32_t seat; /* the first that may be the one, with XF_TABLE_CHAINED; 0 = none */
	bool in;
	bool more; /* of the buckets not all were looked at */
};

static inline void start_way(const struct xf_sad *sad, enum xf_sa_table which, uint64_t hash,
			     struct way *way)
{
	way->hash = hash;
	way->in = which == XF_SA_BY_SPI;
	way->more = false;
	way->bucket = xf_table_bucket_of(&sad->tables[which], hash);
	__builtin_prefetch(way->bucket);
}

/* True: it may stand in the next bucket, which is on its way. */
static inline bool pass_bucket(const struct xf_sad *sad, struct way *way)
{
	const struct xf_table_bucket *next;

	way->seat = xf_table_peek(way->bucket, way->hash);
	if (way->seat) {
		uint32_t number = way->seat & XF_TABLE_SEAT;

		if (way->in)
			__builtin_prefetch(xf_seat_in_at(&sad->seats, number));
		else
			__builtin_prefetch(seat_at(sad, number));
		return false;
	}
	next = atomic_load_explicit(&way->bucket->next, memory_order_acquire);
	if (!next)
		return false;
	__builtin_prefetch(next);
	way->bucket = next;
	return true;
}

static inline void pass_buckets(const struct xf_sad *sad, struct way *ways, unsigned n)
{
	uint8_t again[BATCH];
	unsigned nagain = 0;

	for (unsigned i = 0; i < n; i++) {
		again[nagain] = (uint8_t)i;
		nagain += pass_bucket(sad, &ways[i]);
	}
	for (unsigned i = 0; i < nagain; i++)
		ways[again[i]].more = pass_bucket(sad, &ways[again[i]]);
}

/* The only seat that @way has led to, or 0: then it takes a walk to find out. */
static inline uint32_t only_seat(const struct way *way)
{
	return way->seat & XF_TABLE_CHAINED ? 0 : way->seat & XF_TABLE_SEAT;
}

/* A batch on its way; only the first of packets that ask the same goes. */
struct batch {
	const struct xf_sad *sad;
	const struct xf_sa_id *ids;
	const uint32_t *marks;
	struct xf_sa **out;
	bool fetch; /* the SAs' lines, for what comes next */
	uint8_t first[BATCH]; /* of those that ask the same, by number in the batch */
	uint8_t at_table[BATCH]; /* those whom no gate leads anywhere */
	unsigned nfirst, ntable;
	const struct xf_gate *gates[BATCH];
	struct way ways[BATCH];
};

static void start_in(struct batch *b, unsigned n)
{
	b->nfirst = b->ntable = 0;
	for (unsigned i = 0; i < n; i++) {
		const struct xf_gate *gate;

		if (as_before(b->ids, b->marks, i))
			continue;
		gate = xf_gate_for(&b->sad->gates, b->ids[i].spi);
		if (gate)
			__builtin_prefetch(gate);
		b->gates[b->nfirst] = gate;
		b->first[b->nfirst++] = (uint8_t)i;
	}
}

/* Each when it is known: of all in a row many would be lost. */
static inline void fetch_found(const struct batch *b, unsigned i)
{
	if (b->fetch && b->out[i])
		xf_sa_fetch(b->out[i], false);
}

static void pass_gates(struct batch *b)
{
	for (unsigned j = 0; j < b->nfirst; j++) {
		unsigned i = b->first[j];

		b->out[i] = find_at_gate(b->gates[j], &b->ids[i], b->marks[i]);
		if (b->out[i]) {
			fetch_found(b, i);
			continue;
		}
		start_way(b->sad, XF_SA_BY_SPI, xf_sad_hash_spi(&b->sad->secrets, &b->ids[i]),
			  &b->ways[b->ntable]);
		b->at_table[b->ntable++] = (uint8_t)i;
	}
}

static void take_seats(struct batch *b)
{
	for (unsigned j = 0; j < b->ntable; j++) {
		const struct way *way = &b->ways[j];
		uint32_t number = only_seat(way);
		unsigned i = b->at_table[j];

		b->out[i] = number ? take_in(b->sad, number, &b->ids[i], b->marks[i]) : NULL;
		if (!b->out[i] && (way->seat || way->more))
			b->out[i] = walk_table(b->sad, &b->ids[i], b->marks[i], way->hash);
		fetch_found(b, i);
	}
}

/* The others get what the one before them got. */
static void repeat(struct batch *b, unsigned n)
{
	for (unsigned j = 0; j < b->nfirst; j++) {
		unsigned end = j + 1 < b->nfirst ? b->first[j + 1] : n;

		for (unsigned i = b->first[j] + 1u; i < end; i++)
			b->out[i] = b->out[i - 1];
	}
}

static void find_some(struct batch *b, unsigned n)
{
	start_in(b, n);
	pass_gates(b);
	pass_buckets(b->sad, b->ways, b->ntable);
	take_seats(b);
	if (b->nfirst < n)
		repeat(b, n);
}

static void find_in(const struct xf_sad *sad, const struct xf_sa_id *ids, const uint32_t *marks,
		    unsigned n, struct xf_sa **out, bool fetch)
{
	struct batch b;

	b.sad = sad;
	b.fetch = fetch;
	for (unsigned i = 0; i < n; i += BATCH) {
		b.ids = ids + i;
		b.marks = marks + i;
		b.out = out + i;
		find_some(&b, xf_min_u32(n - i, BATCH));
	}
}

void xf_sad_find_in_batch(const struct xf_sad *sad, const struct xf_sa_id *ids,
			  const uint32_t *marks, unsigned n, struct xf_sa **out)
{
	find_in(sad, ids, marks, n, out, false);
}

void xf_sad_find_in_to_use(const struct xf_sad *sad, const struct xf_sa_id *ids,
			   const uint32_t *marks, unsigned n, struct xf_sa **out)
{
	find_in(sad, ids, marks, n, out, true);
}

struct xf_sa *xf_sad_find_by_addr(const struct xf_sad *sad, const struct xf_sa_id *id,
				  const union xf_addr *saddr, uint32_t mark)
{
	struct xf_sa *best = NULL;
	struct xf_table_walk walk;

	xf_table_first(&sad->tables[XF_SA_BY_ADDR], XF_SA_BY_ADDR,
		       xf_sad_hash_addr(&sad->secrets, id, saddr), &walk);
	for (; walk.number; xf_table_next(&sad->seats, &walk)) {
		const struct xf_seat *seat = seat_at(sad, walk.number);

		if (seat->family == id->family && seat->proto == id->proto &&
		    xf_addr_equal(&seat->daddr, &id->daddr, id->family) &&
		    xf_addr_equal(&seat->saddr, saddr, id->family) &&
		    xf_mark_match(&seat->mark, mark) &&
		    (!best || seat->sa->links.id > best->links.id))
			best = seat->sa;
	}
	return best;
}

/* --- Outbound --- */

/* What a lookup has met so far. */
struct found {
	bool doubt; /* an SA may have expired that is still in the tables */
	struct xf_sa *best;
	bool larval;
	bool by_flow;
};

/* Of SAs that suit: not dying, then the later time, then the later arrival. */
static bool better(const struct xf_sa *a, const struct xf_sa *b)
{
	bool a_dying = atomic_load_explicit(&a->dying, memory_order_relaxed);
	bool b_dying = atomic_load_explicit(&b->dying, memory_order_relaxed);
	int64_t a_s, b_s;

	if (a_dying != b_dying)
		return b_dying;
	a_s = xf_sa_added_s(a);
	b_s = xf_sa_added_s(b);
	if (a_s != b_s)
		return a_s > b_s;
	return a->links.id > b->links.id;
}

/* Does the SA's own selector take @flow? One that is narrow has a say of its own. */
static bool selects(const struct xf_seat *seat, const struct xf_flow *flow, bool *by_flow)
{
	if (seat->flags & XF_SEAT_V4 && flow->family != XF_AF_INET)
		return false;
	if (seat->flags & XF_SEAT_V6 && flow->family != XF_AF_INET6)
		return false;
	if (!(seat->flags & XF_SEAT_NARROW))
		return true;
	*by_flow = true;
	return xf_selector_match(&xf_sa_cfg(seat->sa)->terms->sel, flow);
}

/* The kernel's xfrm_state_look_at(). */
static void look_at(struct found *found, const struct xf_seat *seat, const struct xf_flow *flow)
{
	struct xf_sa *sa = seat->sa;

	if (seat->flags & XF_SEAT_LARVAL)
		found->larval = true;
	if (seat->flags & (XF_SEAT_LARVAL | XF_SEAT_PCPU))
		return;
	if (found->doubt && xf_sa_get_state(sa) != XF_SA_VALID)
		return;
	if (!selects(seat, flow, &found->by_flow))
		return;
	if (!found->best || (found->best != sa && better(sa, found->best)))
		found->best = sa;
}

/* The conditions of the kernel's xfrm_state_find(), but for the SA's state and selector. */
static bool wanted(const struct xf_seat *seat, const struct xf_sad_query *query,
		   const union xf_addr *saddr)
{
	const struct xf_tmpl *tmpl = query->tmpl;
	uint16_t family = tmpl->id.family;

	return seat->family == family && seat->reqid == tmpl->reqid &&
	       xf_addr_equal(&seat->daddr, query->daddr, family) &&
	       xf_addr_equal(&seat->saddr, saddr, family) &&
	       xf_mark_match(&seat->mark, query->mark) && seat->if_id == query->if_id &&
	       !(seat->flags & XF_SEAT_WILDRECV) && (seat->flags & XF_SEAT_MODE) == tmpl->mode &&
	       seat->proto == tmpl->id.proto &&
	       (tmpl->id.spi == 0 ||
		atomic_load_explicit(&seat->spi, memory_order_relaxed) == tmpl->id.spi);
}

static uint64_t hash_of(const struct xf_sad *sad, const struct xf_sad_query *query,
			const union xf_addr *saddr)
{
	const struct xf_sad_ends ends = { .daddr = query->daddr,
					  .saddr = saddr,
					  .reqid = query->tmpl->reqid,
					  .if_id = query->if_id,
					  .family = (uint8_t)query->tmpl->id.family };

	return xf_sad_hash_ends(&sad->secrets, &ends);
}

/* Where others hang beside one, its state decides as much as theirs. */
static void walk_out(const struct xf_sad *sad, const struct xf_sad_query *query,
		     const union xf_addr *saddr, uint64_t hash, struct found *found)
{
	struct xf_table_walk walk;

	xf_table_first(&sad->tables[XF_SA_BY_ENDS], XF_SA_BY_ENDS, hash, &walk);
	for (; walk.number; xf_table_next(&sad->seats, &walk)) {
		const struct xf_seat *seat = seat_at(sad, walk.number);

		found->doubt |= walk.chained;
		if (wanted(seat, query, saddr))
			look_at(found, seat, query->flow);
	}
}

/* Those that have marks, mask by mask. */
static void walk_marked(const struct xf_sad *sad, const struct xf_sad_query *query,
			const union xf_addr *saddr, uint64_t hash, struct found *found)
{
	uint32_t n = atomic_load_explicit(&sad->nmasks, memory_order_acquire);

	for (uint32_t i = 0; i < n; i++) {
		uint32_t m = atomic_load_explicit(&sad->masks[i], memory_order_relaxed);
		const struct xf_mark mark = { .v = query->mark & m, .m = m };

		if (m)
			walk_out(sad, query, saddr, xf_sad_hash_mark(&sad->secrets, hash, mark),
				 found);
	}
}

/* From any source: only when nothing is between the two ends does such an SA do. */
static void look_from_anywhere(const struct xf_sad *sad, const struct xf_sad_query *query,
			       struct found *found)
{
	static const union xf_addr any;
	uint64_t hash = hash_of(sad, query, &any);

	walk_out(sad, query, &any, hash, found);
	walk_marked(sad, query, &any, hash, found);
}

/*
 * The kernel hashes both ends, so it meets an SA for any source in the second pass only, except
 * where two hashes happen to collide. Here it is the second pass always.
 */
static struct xf_sa *look_out(const struct xf_sad *sad, const struct xf_sad_query *query,
			      uint64_t hash, bool *larval)
{
	struct found found = { .doubt = xf_sad_has_expired(sad) };

	walk_out(sad, query, query->saddr, hash, &found);
	walk_marked(sad, query, query->saddr, hash, &found);
	if (!found.best && !found.larval &&
	    atomic_load_explicit(&sad->from_anywhere, memory_order_relaxed) &&
	    !xf_addr_is_any(query->saddr, query->tmpl->id.family))
		look_from_anywhere(sad, query, &found);
	if (larval)
		*larval = !found.best && found.larval;
	if (query->by_flow && found.by_flow)
		*query->by_flow = true;
	return found.best;
}

struct xf_sa *xf_sad_find_out(const struct xf_sad *sad, const struct xf_sad_query *query,
			      bool *larval)
{
	return look_out(sad, query, hash_of(sad, query, query->saddr), larval);
}

static void begin_out(const struct xf_sad *sad, struct xf_sad_query *const *queries, unsigned n,
		      struct way *ways)
{
	for (unsigned i = 0; i < n; i++)
		start_way(sad, XF_SA_BY_ENDS, hash_of(sad, queries[i], queries[i]->saddr),
			  &ways[i]);
	pass_buckets(sad, ways, n);
}

/* The usual SA: alone between its ends, and nothing but them decides. */
static inline bool is_plain(const struct xf_seat *seat, const struct xf_flow *flow)
{
	unsigned v = flow->family == XF_AF_INET ? XF_SEAT_V4 : XF_SEAT_V6;

	return !(seat->flags & ~(v | XF_SEAT_MODE));
}

static inline struct xf_sa *take_plain(const struct xf_sad *sad, const struct xf_sad_query *query,
				       uint32_t number)
{
	const struct xf_seat *seat = number ? seat_at(sad, number) : NULL;

	if (!seat || !is_plain(seat, query->flow) || !wanted(seat, query, query->saddr))
		return NULL;
	return seat->sa;
}

static inline void find_some_out(const struct xf_sad *sad, struct xf_sad_query *const *queries,
				 unsigned n, struct xf_sa **out, bool *larval, bool fetch)
{
	/* What only a closer look can tell. */
	bool closer =
		xf_sad_has_expired(sad) || atomic_load_explicit(&sad->nmasks, memory_order_acquire);
	struct way ways[BATCH];

	begin_out(sad, queries, n, ways);
	for (unsigned i = 0; i < n; i++) {
		out[i] = closer ? NULL : take_plain(sad, queries[i], only_seat(&ways[i]));
		if (larval)
			larval[i] = false;
		if (!out[i])
			out[i] =
				look_out(sad, queries[i], ways[i].hash, larval ? &larval[i] : NULL);
		if (fetch && out[i])
			xf_sa_fetch(out[i], true);
	}
}

void xf_sad_find_out_batch(const struct xf_sad *sad, struct xf_sad_query *const *queries,
			   unsigned n, struct xf_sa **out, bool *larval)
{
	for (unsigned i = 0; i < n; i += BATCH)
		find_some_out(sad, queries + i, xf_min_u32(n - i, BATCH), out + i,
			      larval ? larval + i : NULL, false);
}

void xf_sad_find_out_to_use(const struct xf_sad *sad, struct xf_sad_query *const *queries,
			    unsigned n, struct xf_sa **out)
{
	for (unsigned i = 0; i < n; i += BATCH)
		find_some_out(sad, queries + i, xf_min_u32(n - i, BATCH), out + i, NULL, true);
}
