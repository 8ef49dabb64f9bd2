/*
 * Every mode shares every line below. The mode decides only where the gap for the headers opens
 * and how wide it is:
 *
 *   tunnel     |<- gap: outer IP, [UDP,] ESP, IV ->| IP | payload |<- tail ->|
 *   transport  | IP |<- gap: [UDP,] ESP, IV ->|          payload  |<- tail ->|
 *
 * The tail is TFC padding, padding, its length, next header, ICV. Steps, each for all packets of a
 * run before the next one:
 *   1. check the SA                                 (nothing is changed)
 *   2. check the packet, open gap and tail, find the cipher's target (undone when it must not be)
 *   3. take the sequence numbers                    (the last step that can fail)
 *   4. take IVs, write headers and tail, describe the work to the cipher
 */
#include <errno.h>

#include "pkt/widen.h"
#include "proto/outer.h"
#include "proto/runs.h"

/* The packets of one SA that are worked on. */
struct run {
	struct xf_sa *sa;
	const struct xf_sa_form *form;
	struct xf_transform_op *const *ops;
	unsigned n;
	uint64_t now_ns;
};

/* RFC 4303 s3.1: fragments are tunnelled, but transport mode takes whole datagrams only. */
static bool mode_takes(const struct xf_sa_form *form, const struct xf_ip_info *ip)
{
	if (XF_LIKELY(form->own & XF_ESP_TUNNEL))
		return true;
	return form->own & XF_ESP_TRANSPORT && ip->family == xf_form_family(form) && !ip->is_frag;
}

/* The packet's new shape, whose last byte is the ICV's (RFC 4303 s2.4, s2.7). */
static void plan(const struct run *run, struct xf_transform_op *op)
{
	const struct xf_sa_form *form = run->form;
	uint32_t bare;

	op->gap_off = form->outer_len ? 0 : op->ip->ah_esp_off;
	op->payload_len = op->ip->total_len - op->gap_off;
	op->tfc_len = 0;
	if (XF_UNLIKELY(form->what & XF_FORM_MORE))
		op->tfc_len = xf_esp_tfc_len(run->sa, op->payload_len, run->now_ns);
	bare = op->payload_len + op->tfc_len + XF_ESP_TRAILER_LEN;
	op->pad_len = -bare & form->align_mask;
	op->tail_len = op->tfc_len + op->pad_len + XF_ESP_TRAILER_LEN + form->icv_len;
	op->text_off = op->gap_off + form->gap_len;
	op->hdr_off = op->text_off - form->iv_len - XF_ESP_HDR_LEN;
	op->udp_off = form->what & XF_FORM_UDP ? op->hdr_off - XF_UDP_HDR_LEN : 0;
	op->crypto.len = bare + op->pad_len;
}

static bool is_too_long(const struct xf_transform_op *op, const struct xf_sa_form *form)
{
	uint32_t len = op->ip->total_len + form->gap_len + op->tail_len;

	return len > UINT16_MAX + (form->what & XF_FORM_IPV6 ? XF_IPV6_HDR_LEN : 0u);
}

static void close_room(struct xf_transform_op *op, const struct xf_sa_form *form)
{
	xf_pkt_free(op->dst_pkt);
	op->dst_pkt = NULL;
	if (op->tail)
		xf_pkt_trim_back(op->pkt, op->tail_len);
	if (op->gap)
		xf_pkt_remove(op->pkt, op->gap_off, form->gap_len);
}

/* On an error, what was opened is for close_room(). */
static enum xf_drop open_elsewhere(struct xf_transform_op *op, const struct xf_sa_form *form)
{
	int err;

	op->tail = NULL;
	op->gap = xf_pkt_insert(op->pkt, op->gap_off, form->gap_len);
	if (!op->gap)
		return XF_DROP_OUT_NO_BUFFER;
	op->tail = xf_pkt_append(op->pkt, op->tail_len);
	if (!op->tail)
		return XF_DROP_OUT_NO_BUFFER;
	err = xf_esp_target(op, form->icv_len);
	if (err)
		return err == -ENOBUFS ? XF_DROP_OUT_NO_BUFFER : XF_DROP_OUT_ERROR;
	/* The tail is opened in one piece, so the ICV does not straddle segments. */
	op->crypto.icv = op->dst_pkt ? op->dst.data + op->crypto.len
				     : op->tail + op->tail_len - form->icv_len;
	return XF_PASS;
}

/* Step 2. A tunnelled packet in one piece with room around it is what nearly all are. */
static enum xf_drop open_packet(const struct run *run, struct xf_transform_op *op)
{
	const struct xf_sa_form *form = run->form;
	enum xf_drop drop;

	op->dst_pkt = NULL;
	if (!mode_takes(form, op->ip))
		return XF_DROP_OUT_STATE_MODE;
	plan(run, op);
	if (is_too_long(op, form))
		return XF_DROP_OUT_ERROR;
	if (XF_UNLIKELY(op->pkt->len > op->ip->total_len))
		xf_pkt_trim_back(op->pkt, op->pkt->len - op->ip->total_len);
	if (XF_LIKELY(op->gap_off == 0 &&
		      xf_pkt_widen(op->pkt, form->gap_len, op->tail_len, &op->gap, &op->tail))) {
		xf_esp_in_place(op, op->gap + op->text_off, op->crypto.len, op->pkt->segs[0].buf);
		op->crypto.icv = op->tail + op->tail_len - form->icv_len;
		return XF_PASS;
	}
	drop = open_elsewhere(op, form);
	if (drop != XF_PASS)
		close_room(op, form);
	return drop;
}

static unsigned open_all(const struct run *run)
{
	unsigned ready = 0;

	for (unsigned i = 0; i < run->n; i++) {
		struct xf_transform_op *op = run->ops[i];

		op->sa = run->sa;
		op->drop = open_packet(run, op);
		ready += op->drop == XF_PASS;
	}
	return ready;
}

/* An id that SAs do not share and that comes again after 65,536 packets only (RFC 6864 s4.2). */
static uint16_t ipv4_id(const struct xf_sa *sa, uint64_t seq)
{
	return (uint16_t)(seq + (sa->ivgen.salt * 0x9e3779b97f4a7c15ull >> 48));
}

/* To @gap, of a packet that has @len bytes from there on. */
static inline void write_headers(const struct run *run, struct xf_transform_op *op, uint8_t *gap,
				 uint32_t len)
{
	const struct xf_sa_form *form = run->form;
	uint8_t *p = xf_outer_write(gap, form, op->ip, len, ipv4_id(run->sa, op->seq));

	xf_put_be32(p, (uint32_t)op->seq);
	if (XF_LIKELY(form->iv_len == sizeof(uint64_t))) {
		uint64_t iv = xf_ivgen_iv8(&run->sa->ivgen, op->number);

		memcpy(p + 4, &iv, sizeof(iv));
	} else {
		xf_ivgen_iv(&run->sa->ivgen, op->number, p + 4, form->iv_len);
	}
	xf_esp_crypto_fill(op, form, p - 4, true);
}

static uint8_t next_hdr(const struct xf_transform_op *op, const struct xf_sa_form *form)
{
	uint8_t scratch;

	if (XF_LIKELY(form->outer_len))
		return xf_esp_tunnelled(op->ip);
	return *xf_pkt_peek(op->pkt, op->ip->nexthdr_field, 1, &scratch);
}

/* Up to 6 bytes of padding, its length, next header: in one word, whatever the length. */
static void write_short_tail(uint8_t *p, uint32_t pad_len, uint8_t next)
{
	uint32_t shift = pad_len * 8;
	uint64_t padding = 0x060504030201 & ((1ull << shift) - 1);
	uint64_t word = padding | (uint64_t)(pad_len | (uint32_t)next << 8) << shift;

	memcpy(p, &word, sizeof(word));
}

static void write_tail(const struct xf_transform_op *op, const struct xf_sa_form *form,
		       uint8_t next)
{
	uint8_t *p = op->tail;

	/* What is too much of the word is where the ICV will be. */
	if (XF_LIKELY(op->pad_len <= 6 && form->icv_len >= 8 && !op->tfc_len)) {
		write_short_tail(p, op->pad_len, next);
		return;
	}
	memset(p, 0, op->tfc_len);
	p += op->tfc_len;
	for (uint32_t i = 0; i < op->pad_len; i++)
		*p++ = (uint8_t)(i + 1);
	p[0] = (uint8_t)op->pad_len;
	p[1] = next;
}

/* What the header that stays in front names in transport mode. */
static inline uint8_t named_proto(const struct xf_sa_form *form)
{
	return form->what & XF_FORM_UDP ? XF_IPPROTO_UDP : XF_IPPROTO_ESP;
}

static void patch_header(const struct xf_transform_op *op, const struct xf_sa_form *form)
{
	xf_ip_patch(op->gap - op->gap_off, op->ip, op->ip->nexthdr_field, named_proto(form),
		    op->pkt->len);
}

/* Step 4. */
static void write_packet(const struct run *run, struct xf_transform_op *op)
{
	const struct xf_sa_form *form = run->form;
	uint8_t next = next_hdr(op, form);

	if (XF_UNLIKELY(!form->outer_len))
		patch_header(op, form);
	write_headers(run, op, op->gap, op->pkt->len - op->gap_off);
	write_tail(op, form, next);
	op->pkt->family = xf_form_family(form);
	op->pkt->mark = xf_form_mark(form, op->pkt->mark);
}

/* Steps 3 and 4 for the @ready packets that step 2 has passed. */
static void number_and_write(const struct run *run, unsigned ready)
{
	struct xf_sa_numbers numbers = { 0 };
	unsigned taken = ready ? xf_sa_take_numbers(run->sa, run->form, ready, &numbers) : 0;
	unsigned used = 0;
	uint64_t bytes = 0;

	for (unsigned i = 0; i < run->n; i++) {
		struct xf_transform_op *op = run->ops[i];

		if (XF_UNLIKELY(op->drop != XF_PASS))
			continue;
		if (XF_UNLIKELY(used == taken)) {
			op->drop = XF_DROP_OUT_STATE_SEQ;
			close_room(op, run->form);
			continue;
		}
		op->number = numbers.first + used;
		op->seq = xf_sa_seq(run->form, numbers.seq + used++);
		write_packet(run, op);
		bytes += op->payload_len;
	}
	if (taken)
		xf_sa_count(&run->sa->out, run->form->what, taken, bytes, run->now_ns);
}

/* --- The usual: AES-GCM or ChaCha20; packets in one piece with room around them --- */

static inline bool is_usual_form(const struct xf_sa_form *form)
{
	return form->own & XF_ESP_PLAIN && !(form->what & XF_FORM_MORE);
}

/* What stays in front of ESP. Each mode has a copy of what asks: tunnels pay for none of it. */
static inline uint32_t front_len(const struct xf_transform_op *op, bool transport)
{
	return transport ? op->ip->ah_esp_off : 0;
}

static inline bool is_usual(const struct xf_transform_op *op, const struct xf_sa_form *form,
			    bool transport)
{
	uint32_t tail_max = form->align_mask + XF_ESP_TRAILER_LEN + form->icv_len;
	const struct xf_pkt *pkt = op->pkt;

	return (!transport || mode_takes(form, op->ip)) && pkt->nsegs == 1 &&
	       pkt->len == op->ip->total_len && pkt->len + form->gap_len + tail_max <= UINT16_MAX &&
	       xf_pkt_has_room(pkt, form->gap_len, tail_max);
}

/* @bytes: what of the packets is protected. */
XF_INLINE bool are_usual(const struct run *run, bool transport, uint64_t *bytes)
{
	bool all = is_usual_form(run->form);

	*bytes = 0;
	for (unsigned i = 0; all && i < run->n; i++) {
		all = is_usual(run->ops[i], run->form, transport);
		*bytes += run->ops[i]->pkt->len - front_len(run->ops[i], transport);
	}
	return all;
}

/* Steps 2 and 4 in one. */
XF_INLINE void write_usual(const struct run *run, struct xf_transform_op *op, bool transport)
{
	const struct xf_sa_form *form = run->form;
	struct xf_pkt *pkt = op->pkt;
	struct xf_seg *seg = &pkt->segs[0];
	uint32_t front = front_len(op, transport);
	uint32_t payload_len = pkt->len - front;
	uint32_t bare = payload_len + XF_ESP_TRAILER_LEN;
	uint32_t pad_len = -bare & form->align_mask;
	uint32_t text_len = bare + pad_len;
	uint8_t *text = seg->data + front;
	uint32_t len = front + form->gap_len + text_len + form->icv_len;
	uint8_t next = xf_esp_tunnelled(op->ip);

	if (transport) {
		const struct xf_ip_front headers = { front, op->ip->nexthdr_field,
						     named_proto(form) };

		next = seg->data[headers.field];
		xf_ip_move(seg->data - form->gap_len, seg->data, op->ip, headers, len);
	}
	write_short_tail(text + payload_len, pad_len, next);
	xf_esp_in_place(op, text, text_len, seg->buf);
	seg->data -= form->gap_len;
	seg->len = len;
	op->crypto.icv = text + text_len;
	pkt->len = len;
	op->dst_pkt = NULL;
	op->udp_off =
		form->what & XF_FORM_UDP ? front + form->outer_len : 0; /* one of the two is 0 */
	write_headers(run, op, text - form->gap_len, len - front);
	pkt->family = xf_form_family(form);
}

/* Numbers and counters are on one cache line, which other workers want: all of it at once. */
XF_INLINE void number_and_write_usual(const struct run *run, bool transport, uint64_t bytes)
{
	struct xf_sa_numbers numbers = { 0 };
	unsigned taken = xf_sa_take_numbers(run->sa, run->form, run->n, &numbers);

	for (unsigned i = taken; i < run->n; i++) {
		run->ops[i]->sa = run->sa;
		run->ops[i]->dst_pkt = NULL;
		run->ops[i]->drop = XF_DROP_OUT_STATE_SEQ;
		bytes -= run->ops[i]->pkt->len - front_len(run->ops[i], transport);
	}
	if (taken)
		xf_sa_count(&run->sa->out, run->form->what, taken, bytes, run->now_ns);
	for (unsigned i = 0; i < taken; i++) {
		struct xf_transform_op *op = run->ops[i];

		op->sa = run->sa;
		op->drop = XF_PASS;
		op->number = numbers.first + i;
		op->seq = xf_sa_seq(run->form, numbers.seq + i);
		write_usual(run, op, transport);
	}
}

/* False: not all of the run is usual, and nothing was done. */
XF_INLINE bool go_usual(const struct run *run, bool transport)
{
	uint64_t bytes;

	if (!are_usual(run, transport, &bytes))
		return false;
	number_and_write_usual(run, transport, bytes);
	return true;
}

static uint64_t bytes_of(const struct run *run)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < run->n; i++)
		bytes += run->ops[i]->ip->total_len;
	return bytes;
}

/* Near a limit each packet is checked by itself, so that it is the right one that meets it. */
void xf_esp_out_prepare_run(struct xf_sa *sa, struct xf_transform_op *const *ops, unsigned n,
			    uint64_t now_ns)
{
	struct run run = { sa, xf_sa_form(sa), ops, n, now_ns };
	enum xf_drop drop;

	if (XF_UNLIKELY(run.form->what & XF_FORM_MORE) && n > 1 &&
	    !xf_sa_limits_are_far(sa, run.form, n, bytes_of(&run))) {
		for (unsigned i = 0; i < n; i++)
			xf_esp_out_prepare_run(sa, &ops[i], 1, now_ns);
		return;
	}
	drop = xf_sa_check(sa, run.form->what, true, now_ns, ops[0]->events);
	if (XF_LIKELY(drop == XF_PASS)) {
		if (!(run.form->outer_len ? go_usual(&run, false) : go_usual(&run, true)))
			number_and_write(&run, open_all(&run));
		return;
	}
	for (unsigned i = 0; i < n; i++) {
		ops[i]->sa = sa;
		ops[i]->drop = drop;
	}
}

void xf_esp_out_prepare_batch(struct xf_transform_op *const *ops, unsigned n, uint64_t now_ns)
{
	xf_runs_each(ops, n, true, now_ns, xf_esp_out_prepare_run);
}

enum xf_drop xf_esp_out_prepare(struct xf_sa *sa, struct xf_pkt *pkt, struct xf_ip_info *ip,
				uint64_t now_ns, struct xf_transform_op *op)
{
	op->pkt = pkt;
	op->ip = ip;
	xf_esp_out_prepare_run(sa, &op, 1, now_ns);
	return op->drop;
}

/* Of what was not written in place, or needs a sum over all of it. */
static enum xf_drop finish_odd(struct xf_transform_op *op)
{
	if (op->dst_pkt && xf_esp_put_text(op) < 0) {
		xf_pkt_free(op->dst_pkt);
		op->dst_pkt = NULL;
		return XF_DROP_OUT_NO_BUFFER;
	}
	if (op->udp_off && op->pkt->family == XF_AF_INET6 &&
	    xf_udp_set_csum6(op->pkt, op->udp_off) < 0)
		return XF_DROP_OUT_NO_BUFFER;
	return XF_PASS;
}

static enum xf_drop cipher_failed(struct xf_transform_op *op)
{
	xf_pkt_free(op->dst_pkt);
	op->dst_pkt = NULL;
	return XF_DROP_OUT_STATE_PROTO;
}

unsigned xf_esp_out_finish_batch(struct xf_transform_op *const *ops, unsigned n)
{
	unsigned dropped = 0;

	for (unsigned i = 0; i < n; i++) {
		struct xf_transform_op *op = ops[i];

		op->drop = XF_PASS;
		if (XF_UNLIKELY(op->crypto.status != XF_CRYPTO_OK))
			op->drop = cipher_failed(op);
		else if (op->dst_pkt || op->udp_off)
			op->drop = finish_odd(op);
		dropped += op->drop != XF_PASS;
	}
	return dropped;
}

enum xf_drop xf_esp_out_finish(struct xf_transform_op *op)
{
	xf_esp_out_finish_batch(&op, 1);
	return op->drop;
}
