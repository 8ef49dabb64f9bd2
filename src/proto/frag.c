#include <stdlib.h>

#include <xf/frag.h>
#include <xf/hash.h>

/* One fragment that waits; the first keeps its headers, the others are payload alone. */
struct piece {
	struct piece *next;
	struct xf_pkt *pkt;
	uint64_t cost;
	uint32_t off;
	uint32_t end;
};

/* What the fragments of one datagram have in common (RFC 791 s2.3, RFC 8200 s4.5), and what they
 * came through. */
struct key {
	union xf_addr saddr;
	union xf_addr daddr;
	uint64_t realm;
	uint32_t id;
	uint16_t family;
	uint16_t proto; /* IPv4 only */
};

struct datagram {
	struct datagram *hash_next;
	struct datagram *older;
	struct datagram *younger;
	struct key key;
	struct piece *pieces; /* ascending, without overlap */
	uint64_t deadline_ns;
	uint32_t count;
	uint32_t have; /* bytes of payload */
	uint32_t end; /* of the furthest piece */
	uint32_t data_off; /* of the first one: length of its headers */
	bool has_last;
	uint8_t ecn; /* one bit for each code point seen */
	uint32_t max_size; /* largest fragment, and largest with DF */
	uint32_t max_df_size;
};

struct xf_frag_table {
	struct xf_frag_config cfg;
	struct datagram *datagrams; /* memory */
	struct piece *pieces;
	struct datagram *free_datagrams; /* by hash_next */
	struct piece *free_pieces; /* by next */
	struct datagram **buckets;
	uint32_t mask;
	struct datagram *oldest;
	struct datagram *youngest;
	uint64_t bytes;
};

struct xf_frag_table *xf_frag_new(const struct xf_frag_config *cfg)
{
	struct xf_frag_table *table = calloc(1, sizeof(*table));
	size_t pieces = (size_t)cfg->datagrams * cfg->fragments;
	uint32_t buckets = 1;

	if (!table || pieces == 0) {
		free(table);
		return NULL;
	}
	while (buckets < cfg->datagrams)
		buckets *= 2;
	table->cfg = *cfg;
	table->mask = buckets - 1;
	table->buckets = calloc(buckets, sizeof(struct datagram *));
	table->datagrams = calloc((size_t)cfg->datagrams + 1, sizeof(struct datagram));
	table->pieces = calloc(pieces + 1, sizeof(struct piece));
	if (!table->buckets || !table->datagrams || !table->pieces) {
		xf_frag_free(table);
		return NULL;
	}
	for (uint32_t i = 0; i < cfg->datagrams; i++) {
		table->datagrams[i].hash_next = table->free_datagrams;
		table->free_datagrams = &table->datagrams[i];
	}
	for (size_t i = 0; i < pieces; i++) {
		table->pieces[i].next = table->free_pieces;
		table->free_pieces = &table->pieces[i];
	}
	return table;
}

/* A fragment keeps whole buffers occupied, however short it is. */
static uint64_t cost_of(const struct xf_pkt *pkt)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < pkt->nsegs; i++)
		bytes += pkt->segs[i].buf->size;
	return bytes;
}

static struct datagram **bucket_of(struct xf_frag_table *table, const struct key *key)
{
	return &table->buckets[xf_hash(table->cfg.seed, key, sizeof(*key)) & table->mask];
}

static void unlink_age(struct xf_frag_table *table, struct datagram *d)
{
	if (d->older)
		d->older->younger = d->younger;
	else
		table->oldest = d->younger;
	if (d->younger)
		d->younger->older = d->older;
	else
		table->youngest = d->older;
}

static void remove_datagram(struct xf_frag_table *table, struct datagram *d)
{
	struct datagram **p = bucket_of(table, &d->key);

	while (*p != d)
		p = &(*p)->hash_next;
	*p = d->hash_next;
	unlink_age(table, d);
	d->hash_next = table->free_datagrams;
	table->free_datagrams = d;
}

static struct xf_pkt *take_piece(struct xf_frag_table *table, struct datagram *d)
{
	struct piece *piece = d->pieces;
	struct xf_pkt *pkt = piece->pkt;

	d->pieces = piece->next;
	table->bytes -= piece->cost;
	piece->next = table->free_pieces;
	table->free_pieces = piece;
	return pkt;
}

static void drop_datagram(struct xf_frag_table *table, struct datagram *d, struct xf_pktq *dropped)
{
	while (d->pieces)
		xf_pktq_push(dropped, take_piece(table, d));
	remove_datagram(table, d);
}

void xf_frag_free(struct xf_frag_table *table)
{
	struct xf_pktq held = { .count = 0 };
	struct xf_pkt *pkt;

	if (!table)
		return;
	while (table->oldest)
		drop_datagram(table, table->oldest, &held);
	while ((pkt = xf_pktq_pop(&held)))
		xf_pkt_free(pkt);
	free(table->buckets);
	free(table->datagrams);
	free(table->pieces);
	free(table);
}

uint64_t xf_frag_expire(struct xf_frag_table *table, uint64_t now_ns, struct xf_pktq *dropped)
{
	while (table->oldest && table->oldest->deadline_ns <= now_ns)
		drop_datagram(table, table->oldest, dropped);
	return table->oldest ? table->oldest->deadline_ns : UINT64_MAX;
}

static struct datagram *find(struct xf_frag_table *table, const struct key *key)
{
	struct datagram *d = *bucket_of(table, key);

	while (d && memcmp(&d->key, key, sizeof(*key)) != 0)
		d = d->hash_next;
	return d;
}

/* A new datagram; the oldest makes room when there is none. */
static struct datagram *create(struct xf_frag_table *table, const struct key *key, uint64_t now_ns,
			       struct xf_pktq *dropped)
{
	struct datagram **bucket = bucket_of(table, key);
	struct datagram *d;

	if (!table->free_datagrams)
		drop_datagram(table, table->oldest, dropped);
	d = table->free_datagrams;
	table->free_datagrams = d->hash_next;
	memset(d, 0, sizeof(*d));
	d->key = *key;
	d->deadline_ns = now_ns + table->cfg.timeout_ns;
	d->hash_next = *bucket;
	*bucket = d;
	d->older = table->youngest;
	if (d->older)
		d->older->younger = d;
	else
		table->oldest = d;
	table->youngest = d;
	return d;
}

static void make_key(const struct xf_ip_info *ip, uint64_t realm, struct key *key)
{
	memset(key, 0, sizeof(*key));
	key->saddr = ip->saddr;
	key->daddr = ip->daddr;
	key->realm = realm;
	key->id = ip->frag_id;
	key->family = ip->family;
	key->proto = ip->family == XF_AF_INET ? ip->proto : 0;
}

static struct datagram *find_or_create(struct xf_frag_table *table, const struct key *key,
				       uint64_t now_ns, struct xf_pktq *dropped)
{
	struct datagram *d = find(table, key);

	if (d && d->deadline_ns <= now_ns) {
		drop_datagram(table, d, dropped);
		d = NULL;
	}
	return d ? d : create(table, key, now_ns, dropped);
}

/* Where the payload of a fragment is, in its packet and in the datagram. */
struct extent {
	uint32_t data_off;
	uint32_t off;
	uint32_t end;
};

/* RFC 791 lets a fragment that is not the last be shortened to a multiple of 8, RFC 8200 not. */
static bool measure(const struct xf_ip_info *ip, struct extent *x)
{
	bool v4 = ip->family == XF_AF_INET;
	uint32_t front;

	x->data_off = v4 ? ip->hdr_len : ip->frag_hdr_off + XF_IPV6_FRAG_HDR_LEN;
	x->off = ip->frag_off;
	x->end = x->off + ip->total_len - x->data_off;
	if (ip->more_frags && x->end % 8) {
		if (!v4)
			return false;
		x->end &= ~7u;
	}
	/* What the length field of the whole one covers beside the payload. */
	front = v4 ? ip->hdr_len : x->data_off - XF_IPV6_FRAG_HDR_LEN - XF_IPV6_HDR_LEN;
	return x->end > x->off && front + x->end <= UINT16_MAX;
}

/* Does the end of @x agree with what is known of the datagram's end? */
static bool end_agrees(const struct datagram *d, const struct extent *x, bool more)
{
	if (!more)
		return x->end >= d->end && (!d->has_last || x->end == d->end);
	return !d->has_last || x->end <= d->end;
}

enum fit { FIT, DUPLICATE, OVERLAP };

/*
 * RFC 5722 with erratum 3089: bytes that are there already are ignored, anything else that overlaps
 * ends the datagram. *@at is where a piece that fits belongs.
 */
static enum fit fit(struct datagram *d, const struct extent *x, struct piece ***at)
{
	struct piece **p = &d->pieces;
	uint32_t covered = x->off;

	while (*p && (*p)->end <= x->off)
		p = &(*p)->next;
	*at = p;
	if (!*p || (*p)->off >= x->end)
		return FIT;
	for (struct piece *piece = *p; piece && piece->off <= covered; piece = piece->next)
		covered = piece->end;
	return covered >= x->end ? DUPLICATE : OVERLAP;
}

static void insert(struct xf_frag_table *table, struct datagram *d, struct piece **at,
		   const struct extent *x, struct xf_pkt *pkt)
{
	struct piece *piece = table->free_pieces;

	table->free_pieces = piece->next;
	xf_pkt_trim_back(pkt, pkt->len - (x->data_off + x->end - x->off));
	if (x->off > 0)
		xf_pkt_trim_front(pkt, x->data_off);
	else
		d->data_off = x->data_off;
	*piece = (struct piece){
		.next = *at, .pkt = pkt, .cost = cost_of(pkt), .off = x->off, .end = x->end
	};
	*at = piece;
	table->bytes += piece->cost;
	d->count++;
	d->have += x->end - x->off;
	if (x->end > d->end)
		d->end = x->end;
}

/* What else of a fragment's header counts for the whole. */
static void note_header(struct datagram *d, const struct xf_ip_info *ip)
{
	d->ecn |= (uint8_t)(1 << (ip->tos & XF_ECN_MASK));
	if (!ip->more_frags)
		d->has_last = true;
	if (ip->total_len > d->max_size)
		d->max_size = ip->total_len;
	if (ip->family == XF_AF_INET && ip->df && ip->total_len > d->max_df_size)
		d->max_df_size = ip->total_len;
}

/* RFC 3168 s5.3, the kernel's ip_frag_ecn_table: Not-ECT mixes with nothing, CE wins over ECT. */
static bool ecn_of(const struct datagram *d, uint8_t *or_tos)
{
	*or_tos = d->ecn & 1 << XF_ECN_CE ? XF_ECN_CE : 0;
	return !(d->ecn & 1) || d->ecn == 1;
}

static bool restore_v4(const struct datagram *d, struct xf_pkt *head, uint8_t or_tos)
{
	uint32_t hdr_len = d->data_off;
	uint8_t *hdr = xf_pkt_writable(head, 0, hdr_len);

	if (!hdr || hdr_len + d->end > UINT16_MAX)
		return false;
	hdr[1] |= or_tos;
	xf_put_be16(hdr + 2, (uint16_t)(hdr_len + d->end));
	xf_put_be16(hdr + 6, d->max_df_size == d->max_size ? XF_IPV4_DF : 0);
	xf_ipv4_set_csum(hdr, hdr_len);
	return true;
}

/* The byte that names the fragment header at @frag_off. */
static uint32_t frag_nexthdr_field(const struct xf_pkt *head, uint32_t frag_off)
{
	uint32_t field = 6;
	uint32_t off = XF_IPV6_HDR_LEN;
	uint8_t scratch[2];

	while (off < frag_off) {
		const uint8_t *hdr = xf_pkt_peek(head, off, 2, scratch);

		field = off;
		off += hdr ? (hdr[1] + 1u) * 8 : frag_off;
	}
	return field;
}

static bool restore_v6(const struct datagram *d, struct xf_pkt *head, uint8_t or_tos)
{
	uint32_t frag_off = d->data_off - XF_IPV6_FRAG_HDR_LEN;
	uint32_t payload_len = frag_off - XF_IPV6_HDR_LEN + d->end;
	uint8_t next;
	uint8_t *p;

	xf_pkt_copy_out(head, frag_off, &next, 1);
	p = xf_pkt_writable(head, frag_nexthdr_field(head, frag_off), 1);
	if (!p || payload_len > UINT16_MAX)
		return false;
	*p = next;
	p = xf_pkt_writable(head, 0, XF_IPV6_HDR_LEN);
	if (!p)
		return false;
	p[1] |= (uint8_t)(or_tos << 4);
	xf_put_be16(p + 4, (uint16_t)payload_len);
	return xf_pkt_remove(head, frag_off, XF_IPV6_FRAG_HDR_LEN) == 0;
}

/* All bytes are there: make the datagram of them, or drop everything (NULL) without buffers. */
static struct xf_pkt *complete(struct xf_frag_table *table, struct datagram *d,
			       struct xf_pktq *dropped)
{
	struct xf_pkt *head = take_piece(table, d);
	uint8_t or_tos;
	bool ok = ecn_of(d, &or_tos);

	if (ok && d->key.family == XF_AF_INET)
		ok = restore_v4(d, head, or_tos);
	else if (ok)
		ok = restore_v6(d, head, or_tos);
	while (ok && d->pieces) {
		struct xf_pkt *pkt = take_piece(table, d);

		ok = xf_pkt_join(head, pkt) == 0;
		if (!ok)
			xf_pktq_push(dropped, pkt);
	}
	head->mtu = d->max_size;
	if (!ok)
		xf_pktq_push(dropped, head);
	drop_datagram(table, d, dropped);
	return ok ? head : NULL;
}

enum xf_drop xf_frag_in(struct xf_frag_table *table, struct xf_pkt *pkt,
			const struct xf_ip_info *ip, uint64_t now_ns, struct xf_pkt **out,
			struct xf_pktq *dropped)
{
	struct datagram *d;
	struct piece **at;
	struct extent x;
	struct key key;
	enum fit fits;

	*out = NULL;
	if (!measure(ip, &x))
		return XF_DROP_FRAG_HDR;
	if (cost_of(pkt) > table->cfg.bytes)
		return XF_DROP_FRAG_LIMIT;
	while (table->bytes + cost_of(pkt) > table->cfg.bytes)
		drop_datagram(table, table->oldest, dropped);
	make_key(ip, pkt->realm, &key);
	d = find_or_create(table, &key, now_ns, dropped);
	fits = fit(d, &x, &at);
	if (fits == DUPLICATE)
		return XF_DROP_FRAG_OVERLAP;
	if (fits == OVERLAP || !end_agrees(d, &x, ip->more_frags)) {
		drop_datagram(table, d, dropped);
		return fits == OVERLAP ? XF_DROP_FRAG_OVERLAP : XF_DROP_FRAG_HDR;
	}
	if (d->count == table->cfg.fragments) {
		drop_datagram(table, d, dropped);
		return XF_DROP_FRAG_LIMIT;
	}
	insert(table, d, at, &x, pkt);
	note_header(d, ip);
	if (d->has_last && d->have == d->end)
		*out = complete(table, d, dropped);
	return XF_PASS;
}
