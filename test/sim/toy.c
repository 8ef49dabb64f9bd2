#include <stdatomic.h>

#include <xf/shaping.h>

#include "proto/esp.h"
#include "sad/transform.h"
#include "sad/use.h"
#include "toy.h"

/* What shaping has to say of a packet: in the place of its time to live, which is 63. */
#define NOTHING_TO_SAY 63
#define PAIR 200
#define PIECE 100 /* and its index */

static _Atomic unsigned calls;
static bool own_cipher;

unsigned toy_calls(void)
{
	return atomic_exchange(&calls, 0);
}

void toy_set_own_cipher(bool own)
{
	own_cipher = own;
}

/* --- One for one: 8 bytes, and the cipher --- */

/* An own cipher is none: the text stays. */
static enum xf_drop describe(struct xf_transform_op *op, bool encrypt)
{
	struct xf_crypto_op *crypto = &op->crypto;
	int n;

	op->text_off = op->ip->hdr_len + TOY_HDR_LEN;
	crypto->len = op->pkt->len - op->text_off;
	n = xf_pkt_segs(op->pkt, op->text_off, crypto->len, op->src, XF_OP_SEGS);
	if (n < 0 || !xf_pkt_is_own(op->pkt, op->text_off, crypto->len))
		return encrypt ? XF_DROP_OUT_ERROR : XF_DROP_IN_ERROR;
	crypto->key = op->sa->key;
	crypto->user = op;
	crypto->src = crypto->dst = op->src;
	crypto->nsrc = crypto->ndst = (uint16_t)n;
	crypto->aad = crypto->aad_mem;
	crypto->aad_len = crypto->tail_len = 0;
	crypto->icv = crypto->icv_mem;
	crypto->encrypt = encrypt;
	crypto->status = own_cipher ? XF_CRYPTO_OK : XF_CRYPTO_ERROR;
	memset(crypto->nonce, 0, sizeof(crypto->nonce));
	crypto->nonce[XF_NONCE_MAX - 1] = 1;
	op->provider = own_cipher ? XF_CRYPTO_NONE : op->sa->provider;
	return XF_PASS;
}

static enum xf_drop seal(struct xf_transform_op *op, uint64_t now_ns)
{
	enum xf_drop drop = xf_sa_check(op->sa, xf_sa_form(op->sa)->what, true, now_ns, op->events);
	struct xf_sa_numbers numbers;
	uint8_t *hdr, *ip;

	op->dst_pkt = NULL;
	if (drop != XF_PASS)
		return drop;
	hdr = xf_pkt_insert(op->pkt, op->ip->hdr_len, TOY_HDR_LEN);
	if (!hdr)
		return XF_DROP_OUT_NO_BUFFER;
	drop = describe(op, true);
	if (drop == XF_PASS && xf_sa_take_numbers(op->sa, xf_sa_form(op->sa), 1, &numbers) == 0)
		drop = XF_DROP_OUT_STATE_SEQ;
	if (drop != XF_PASS) {
		xf_pkt_remove(op->pkt, op->ip->hdr_len, TOY_HDR_LEN);
		return drop;
	}
	op->number = numbers.first;
	op->seq = numbers.seq;
	hdr[0] = op->ip->proto;
	hdr[1] = op->ip->ttl;
	xf_put_be16(hdr + 2, (uint16_t)numbers.first);
	xf_put_be32(hdr + 4, xf_sa_cfg(op->sa)->id.spi);
	ip = xf_pkt_writable(op->pkt, 0, op->ip->hdr_len);
	ip[8] = NOTHING_TO_SAY; /* here from now on */
	xf_ip_patch(ip, op->ip, op->ip->nexthdr_field, XF_IPPROTO_AH, op->pkt->len);
	xf_sa_count(&op->sa->out, xf_sa_form(op->sa)->what, 1, op->ip->total_len, now_ns);
	return XF_PASS;
}

static void out_prepare(struct xf_transform_op *const *ops, unsigned n, uint64_t now_ns)
{
	atomic_fetch_add(&calls, 1);
	for (unsigned i = 0; i < n; i++)
		ops[i]->drop = seal(ops[i], now_ns);
}

static unsigned out_finish(struct xf_transform_op *const *ops, unsigned n)
{
	unsigned dropped = 0;

	for (unsigned i = 0; i < n; i++) {
		bool ok = ops[i]->crypto.status == XF_CRYPTO_OK;

		ops[i]->drop = ok ? XF_PASS : XF_DROP_OUT_STATE_PROTO;
		dropped += !ok;
	}
	return dropped;
}

static void in_prepare(struct xf_transform_op *const *ops, unsigned n, uint64_t now_ns)
{
	atomic_fetch_add(&calls, 1);
	for (unsigned i = 0; i < n; i++) {
		struct xf_transform_op *op = ops[i];

		op->dst_pkt = NULL;
		op->drop = xf_sa_check(op->sa, xf_sa_form(op->sa)->what, false, now_ns, op->events);
		if (op->drop == XF_PASS)
			op->drop = describe(op, false);
	}
}

static enum xf_drop unseal(struct xf_transform_op *op, uint64_t now_ns)
{
	uint8_t scratch[TOY_HDR_LEN];
	const uint8_t *hdr;
	uint8_t *ip;

	if (op->crypto.status != XF_CRYPTO_OK)
		return XF_DROP_IN_STATE_PROTO;
	if (xf_sa_get_state(op->sa) != XF_SA_VALID)
		return XF_DROP_IN_STATE_INVALID;
	hdr = xf_pkt_peek(op->pkt, op->ip->hdr_len, TOY_HDR_LEN, scratch);
	ip = xf_pkt_writable(op->pkt, 0, op->ip->hdr_len);
	ip[8] = hdr[1];
	xf_ip_patch(ip, op->ip, op->ip->nexthdr_field, hdr[0], op->pkt->len - TOY_HDR_LEN);
	xf_sa_count(&op->sa->in, xf_sa_form(op->sa)->what, 1, op->crypto.len, now_ns);
	if (xf_pkt_remove(op->pkt, op->ip->hdr_len, TOY_HDR_LEN) < 0)
		return XF_DROP_IN_BUFFER;
	return xf_ip_parse(op->pkt, true, op->ip) < 0 ? XF_DROP_IN_HDR : XF_PASS;
}

static void in_finish(struct xf_transform_op *const *ops, unsigned n, uint64_t now_ns)
{
	for (unsigned i = 0; i < n; i++)
		ops[i]->drop = unseal(ops[i], now_ns);
}

static uint32_t inner_mtu(const struct xf_sa *sa, uint32_t outer_mtu, uint16_t inner_family)
{
	(void)sa;
	(void)inner_family;
	return outer_mtu - TOY_HDR_LEN;
}

/* --- Shaping --- */

/* @pkt with the IP header of @like: what is said of it, and its length. */
static void set_header(struct xf_pkt *pkt, uint8_t say)
{
	uint8_t *ip = xf_pkt_writable(pkt, 0, XF_IPV4_HDR_LEN);

	ip[8] = say;
	xf_put_be16(ip + 2, (uint16_t)pkt->len);
	xf_ipv4_set_csum(ip, XF_IPV4_HDR_LEN);
}

static void give(struct xf_shaping *s, struct xf_pkt *pkt)
{
	struct xf_ip_info ip;

	assert_int_equal(xf_ip_parse(pkt, true, &ip), 0);
	s->give(s, pkt, &ip);
}

struct waiting {
	struct xf_pkt *pkt;
	uint64_t until_ns;
};

static void give_waiting(struct xf_shaping *s, struct waiting *w)
{
	give(s, w->pkt);
	w->pkt = NULL;
}

/* Two of one length are joined, so that the middle of a pair is where the second one begins. */
static void join_pairs(struct xf_shaping *s)
{
	struct waiting *w = s->state;

	for (unsigned i = 0; i < s->n; i++) {
		struct xf_pkt *pkt = s->ops[i]->pkt;

		if (w->pkt && w->pkt->len == pkt->len) {
			assert_int_equal(xf_pkt_join(w->pkt, pkt), 0);
			set_header(w->pkt, PAIR);
			give_waiting(s, w);
			continue;
		}
		if (w->pkt)
			give_waiting(s, w);
		w->pkt = pkt;
		w->until_ns = s->now_ns + TOY_WAIT_NS;
	}
	if (w->pkt && (s->must_end || s->now_ns >= w->until_ns))
		give_waiting(s, w);
	if (w->pkt)
		s->due_ns = w->until_ns;
}

static void split_pairs(struct xf_shaping *s)
{
	for (unsigned i = 0; i < s->n; i++) {
		struct xf_pkt *pkt = s->ops[i]->pkt;

		if (s->ops[i]->ip->ttl == PAIR) {
			struct xf_pkt *first = xf_pkt_split_front(pkt, pkt->len / 2);

			assert_non_null(first);
			set_header(first, NOTHING_TO_SAY);
			give(s, first);
		}
		give(s, pkt);
	}
}

/* Piece @index of @pkt: its IP header, and a hundredth of what is behind. */
static struct xf_pkt *piece_of(const struct xf_pkt *pkt, uint32_t index)
{
	uint32_t each = (pkt->len - XF_IPV4_HDR_LEN) / TOY_PIECES;
	struct xf_pkt *piece = xf_pkt_new(pkt->pool, XF_IPV4_HDR_LEN + each);
	uint8_t *p;

	if (!piece)
		return NULL;
	p = xf_pkt_append(piece, XF_IPV4_HDR_LEN + each);
	xf_pkt_copy_out(pkt, 0, p, XF_IPV4_HDR_LEN);
	xf_pkt_copy_out(pkt, XF_IPV4_HDR_LEN + index * each, p + XF_IPV4_HDR_LEN, each);
	xf_pkt_copy_metadata(piece, pkt);
	set_header(piece, (uint8_t)(PIECE + index));
	return piece;
}

static void make_pieces(struct xf_shaping *s)
{
	for (unsigned i = 0; i < s->n; i++) {
		struct xf_pkt *pkt = s->ops[i]->pkt;
		struct xf_pkt *piece;

		for (uint32_t k = 0; k < TOY_PIECES && (piece = piece_of(pkt, k)); k++) {
			if (k % TOY_ROW == 0)
				s->in_a_row(s, TOY_ROW);
			give(s, piece);
		}
		xf_pkt_free(pkt);
	}
}

struct collected {
	struct xf_pkt *whole;
	uint32_t n;
	uint64_t until_ns;
};

static void take_piece(struct xf_shaping *s, struct collected *c, struct xf_transform_op *op)
{
	struct xf_pkt *pkt = op->pkt;
	uint8_t bytes[64];
	uint32_t len = pkt->len - XF_IPV4_HDR_LEN;
	uint8_t *p;

	if (op->ip->ttl != PIECE + c->n) {
		s->drop(s, pkt, XF_DROP_IN_IPTFS);
		return;
	}
	if (c->n++ == 0) {
		c->whole = xf_pkt_new(pkt->pool, 2048);
		assert_non_null(c->whole);
		p = xf_pkt_append(c->whole, XF_IPV4_HDR_LEN);
		xf_pkt_copy_out(pkt, 0, p, XF_IPV4_HDR_LEN);
		xf_pkt_copy_metadata(c->whole, pkt);
		c->until_ns = s->now_ns + TOY_KEEP_NS;
	}
	assert_true(len <= sizeof(bytes));
	xf_pkt_copy_out(pkt, XF_IPV4_HDR_LEN, bytes, len);
	memcpy(xf_pkt_append(c->whole, len), bytes, len);
	xf_pkt_free(pkt);
	if (c->n < TOY_PIECES)
		return;
	set_header(c->whole, NOTHING_TO_SAY);
	give(s, c->whole);
	*c = (struct collected){ 0 };
}

static void collect_pieces(struct xf_shaping *s)
{
	struct collected *c = s->state;

	for (unsigned i = 0; i < s->n; i++)
		take_piece(s, c, s->ops[i]);
	if (c->whole && s->must_end) {
		s->drop(s, c->whole, XF_DROP_IN_IPTFS);
		*c = (struct collected){ 0 };
	} else if (c->whole && s->now_ns >= c->until_ns) {
		set_header(c->whole, NOTHING_TO_SAY);
		give(s, c->whole);
		*c = (struct collected){ 0 };
	}
	if (c->whole)
		s->due_ns = c->until_ns;
}

_Static_assert(sizeof(struct collected) <= XF_SHAPING_STATE &&
		       sizeof(struct waiting) <= XF_SHAPING_STATE,
	       "what is kept fits");

/* --- SAs --- */

struct sim_sa toy_sa(enum toy_kind kind)
{
	return (struct sim_sa){ .proto = XF_IPPROTO_AH,
				.spi = 0x1000 + (uint32_t)kind,
				.reqid = kind,
				.crypt = "rfc3686(ctr(aes))",
				.key_bits = 160,
				.transport = true };
}

void toy_add_way(struct sim *sim, const struct sim_sa *sa, uint32_t outer_reqid,
		 uint8_t outer_proto)
{
	struct sim_policy policy = { .src = "10.0.0.1/32",
				     .dst = "10.0.0.2/32",
				     .reqid = sa->reqid,
				     .tmpl_proto = sa->proto,
				     .outer_reqid = outer_reqid,
				     .outer_proto = outer_proto,
				     .transport = true,
				     .dir = XF_DIR_OUT };

	sim_add_sa_both(sim, sa);
	sim_add_policy(sim, &sim->a, &policy);
	policy.dir = XF_DIR_IN;
	sim_add_policy(sim, &sim->b, &policy);
}

/* --- The tables --- */

static bool is(const struct xf_sa_config *cfg, enum toy_kind kind)
{
	return cfg->id.proto == XF_IPPROTO_AH && cfg->reqid == (uint32_t)kind;
}

static bool takes_plain(const struct xf_sa_config *cfg)
{
	return is(cfg, TOY_PLAIN);
}

static bool takes_pairs(const struct xf_sa_config *cfg)
{
	return is(cfg, TOY_PAIRS);
}

static bool takes_hundred(const struct xf_sa_config *cfg)
{
	return is(cfg, TOY_HUNDRED);
}

void toy_register(void)
{
	static struct xf_transform toys[3] = {
		{ .name = "toy", .takes = takes_plain },
		{ .name = "toy pairs",
		  .takes = takes_pairs,
		  .out_shape = join_pairs,
		  .in_shape = split_pairs },
		{ .name = "toy hundred",
		  .takes = takes_hundred,
		  .out_shape = make_pieces,
		  .in_shape = collect_pieces },
	};

	for (unsigned i = 0; i < XF_ARRAY_SIZE(toys); i++) {
		toys[i].protocol = XF_IPPROTO_AH;
		toys[i].spi = (struct xf_spi_place){ 4, 4, 8 };
		toys[i].out_prepare = out_prepare;
		toys[i].out_finish = out_finish;
		toys[i].in_prepare = in_prepare;
		toys[i].in_finish = in_finish;
		toys[i].inner_mtu = inner_mtu;
		assert_int_equal(xf_transform_register(&toys[i]), 0);
	}
}
