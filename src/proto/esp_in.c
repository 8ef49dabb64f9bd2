/*
 * Inbound, every mode alike up to the last step:
 *
 *   | IP | [UDP] | ESP | IV | text: payload, [TFC,] padding, length, next header | ICV |
 *
 *   1. check the SA, then the lengths              (RFC 4303 s3.4.2)
 *   2. guess the 64-bit sequence number, check it  (s3.4.3)
 *   3. describe the work to the cipher             (s3.4.4)
 *      --- the cipher decrypts, in place or to fresh memory ---
 *   4. believe the ICV, commit the sequence number
 *   5. read the trailer, cut off ICV and padding
 *   6. tunnel: cut off all headers; transport: close the gap between IP and payload
 */
#include <errno.h>

#include "pkt/l4.h"
#include "pkt/widen.h"
#include "proto/runs.h"
#include "proto/esp.h"

static enum xf_drop check_sa(struct xf_sa *sa, struct xf_sa_brief form, uint64_t now_ns,
			     struct xf_event_ring *events)
{
	enum xf_drop drop = xf_sa_check(sa, form.what, false, now_ns, events);

	if (drop != XF_PASS)
		return drop;
	if (!(form.own & (XF_ESP_TUNNEL | XF_ESP_TRANSPORT)))
		return XF_DROP_IN_STATE_MODE;
	return XF_PASS;
}

/* Where ESP ends: by the IP header, and by the UDP header when there is one. 0: it cannot be. */
static uint32_t esp_end(const struct xf_pkt *pkt, const struct xf_ip_info *ip, uint32_t udp_len)
{
	uint32_t room = ip->total_len - ip->l4_off;
	uint8_t scratch[XF_UDP_HDR_LEN];
	const uint8_t *udp;
	uint32_t len;

	if (ip->is_frag || ip->total_len < ip->l4_off || room < udp_len + XF_ESP_HDR_LEN)
		return 0;
	if (udp_len == 0)
		return ip->total_len;
	udp = xf_pkt_peek(pkt, ip->l4_off, sizeof(scratch), scratch);
	if (!udp)
		return 0;
	len = xf_get_be16(udp + 4);
	return len >= udp_len + XF_ESP_HDR_LEN && len <= room ? ip->l4_off + len : 0;
}

/* Step 1, lengths: IV, trailer and ICV must be there, and whole blocks for a block cipher. */
static enum xf_drop measure(struct xf_transform_op *op, const struct xf_sa_form *form)
{
	uint32_t end = esp_end(op->pkt, op->ip, op->udp_len);
	uint32_t fixed = XF_ESP_HDR_LEN + form->iv_len + form->icv_len;

	if (end == 0)
		return XF_DROP_IN_HDR;
	op->udp_off = op->udp_len ? op->ip->l4_off : 0;
	op->hdr_off = op->ip->l4_off + op->udp_len;
	if (end - op->hdr_off < fixed + XF_ESP_TRAILER_LEN)
		return XF_DROP_IN_STATE_PROTO;
	op->text_off = op->hdr_off + XF_ESP_HDR_LEN + form->iv_len;
	op->crypto.len = end - op->hdr_off - fixed;
	if (form->align_mask >= XF_ESP_ALIGN && op->crypto.len & form->align_mask)
		return XF_DROP_IN_STATE_PROTO;
	return XF_PASS;
}

/* Step 3. @esp: ESP header and IV, in one piece in the packet unless it is @copy. */
static enum xf_drop describe(struct xf_transform_op *op, const struct xf_sa_form *form,
			     const uint8_t *esp, const uint8_t *copy)
{
	struct xf_crypto_op *crypto = &op->crypto;
	struct xf_pkt *pkt = op->pkt;
	uint32_t icv_off = op->text_off + crypto->len;
	int err = 0;

	if (XF_LIKELY(xf_pkt_is_own_piece(pkt)))
		xf_esp_in_place(op, pkt->segs[0].data + op->text_off, crypto->len,
				pkt->segs[0].buf);
	else
		err = xf_esp_target(op, 0);
	if (err)
		return err == -ENOBUFS ? XF_DROP_IN_BUFFER : XF_DROP_IN_ERROR;
	/* Is compared, not written. */
	crypto->icv =
		(uint8_t *)(uintptr_t)xf_pkt_peek(pkt, icv_off, form->icv_len, crypto->icv_mem);
	xf_esp_crypto_fill(op, form, esp, false);
	if (XF_UNLIKELY(esp == copy))
		xf_esp_crypto_fill_odd(op, esp + XF_ESP_HDR_LEN);
	return XF_PASS;
}

static enum xf_drop prepare_odd(struct xf_sa *sa, struct xf_transform_op *op)
{
	const struct xf_sa_form *form = xf_sa_form(sa);
	uint8_t copy[XF_ESP_HDR_LEN + XF_IV_MAX];
	const uint8_t *esp;
	enum xf_drop drop;

	op->usual = false;
	if (XF_UNLIKELY(xf_form_udp_len(form->what) != op->udp_len))
		return XF_DROP_IN_STATE_MISMATCH;
	drop = measure(op, form);
	if (drop != XF_PASS)
		return drop;
	esp = xf_pkt_peek(op->pkt, op->hdr_off, XF_ESP_HDR_LEN + form->iv_len, copy);
	op->seq = xf_sa_infer_seq(sa, xf_get_be32(esp + 4));
	drop = xf_sa_replay_check(sa, op->seq);
	return drop == XF_PASS ? describe(op, form, esp, copy) : drop;
}

/*
 * Steps 1 to 3 for what nearly all are: AES-GCM or ChaCha20 in one piece that is ours alone, and
 * nothing behind its end. False: prepare_odd() must say; nothing that it needs was
 * changed.
 */
static inline bool prepare_usual(struct xf_sa *sa, struct xf_sa_brief form,
				 struct xf_transform_op *op)
{
	uint32_t fixed = XF_ESP_HDR_LEN + sizeof(uint64_t) + form.icv_len;
	const struct xf_pkt *pkt = op->pkt;
	const struct xf_seg *seg = &pkt->segs[0];
	const struct xf_ip_info *ip = op->ip;
	uint32_t udp_len = xf_form_udp_len(form.what);
	uint32_t off = ip->l4_off;
	uint8_t *esp, *text;
	uint32_t len;

	if (!(form.own & XF_ESP_PLAIN) || op->udp_len != udp_len || !xf_pkt_is_own_piece(pkt) ||
	    pkt->len != ip->total_len || ip->is_frag ||
	    off + udp_len + fixed + XF_ESP_TRAILER_LEN > pkt->len)
		return false;
	if (udp_len && xf_get_be16(seg->data + off + 4) != pkt->len - off)
		return false;
	off += udp_len;
	esp = seg->data + off;
	text = esp + XF_ESP_HDR_LEN + sizeof(uint64_t);
	len = pkt->len - off - fixed;
	op->text_off = (uint32_t)(text - seg->data);
	op->seq = xf_sa_infer_seq(sa, xf_get_be32(esp + 4));
	op->drop = xf_sa_replay_check(sa, op->seq);
	xf_esp_in_place(op, text, len, seg->buf);
	op->crypto.icv = text + len;
	xf_esp_crypto_fill_plain(op, esp, form.what, false);
	op->usual = true;
	return true;
}

void xf_esp_in_prepare_run(struct xf_sa *sa, struct xf_transform_op *const *ops, unsigned n,
			   uint64_t now_ns)
{
	struct xf_sa_brief form = xf_sa_brief(sa);
	enum xf_drop drop = check_sa(sa, form, now_ns, ops[0]->events);

	for (unsigned i = 0; i < n; i++) {
		struct xf_transform_op *op = ops[i];

		op->sa = sa;
		op->dst_pkt = NULL;
		if (XF_UNLIKELY(drop != XF_PASS))
			op->drop = drop;
		else if (XF_UNLIKELY(!prepare_usual(sa, form, op)))
			op->drop = prepare_odd(sa, op);
	}
}

void xf_esp_in_prepare_batch(struct xf_transform_op *const *ops, unsigned n, uint64_t now_ns)
{
	xf_runs_each(ops, n, false, now_ns, xf_esp_in_prepare_run);
}

enum xf_drop xf_esp_in_prepare(struct xf_sa *sa, struct xf_pkt *pkt, struct xf_ip_info *ip,
			       uint32_t udp_len, uint64_t now_ns, struct xf_transform_op *op)
{
	op->pkt = pkt;
	op->ip = ip;
	op->udp_len = udp_len;
	xf_esp_in_prepare_run(sa, &op, 1, now_ns);
	return op->drop;
}

/* The SA may have gone while the cipher worked (the kernel's xfrm_input(), resumed). */
static bool is_gone(struct xf_transform_op *const *ops, unsigned n)
{
	if (XF_LIKELY(xf_sa_get_state(ops[0]->sa) == XF_SA_VALID))
		return false;
	for (unsigned i = 0; i < n; i++)
		ops[i]->drop = XF_DROP_IN_STATE_INVALID;
	return true;
}

/* Are all authentic, and does each follow the one before? */
static bool are_in_order(struct xf_transform_op *const *ops, unsigned n)
{
	uint64_t first = ops[0]->seq;

	for (unsigned i = 0; i < n; i++)
		if (ops[i]->crypto.status != XF_CRYPTO_OK || ops[i]->seq != first + i)
			return false;
	return true;
}

static void believe_each(struct xf_sa *sa, struct xf_transform_op *const *ops, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct xf_transform_op *op = ops[i];

		op->drop = XF_DROP_IN_STATE_PROTO;
		if (XF_LIKELY(op->crypto.status == XF_CRYPTO_OK))
			op->drop = xf_sa_replay_commit(sa, op->seq);
		else if (op->crypto.status == XF_CRYPTO_BAD_ICV)
			atomic_fetch_add(&sa->stat_integrity, 1);
	}
}

/* Step 4, for all of a run while its window is locked once. What was prepared has passed so far. */
static void believe(struct xf_transform_op *const *ops, unsigned n)
{
	struct xf_sa *sa = ops[0]->sa;

	if (is_gone(ops, n))
		return;
	xf_sa_window_lock(sa);
	if (!are_in_order(ops, n) || !xf_sa_replay_commit_next(sa, ops[0]->seq, n))
		believe_each(sa, ops, n);
	xf_sa_window_unlock(sa);
}

/* Step 5. As the kernel's esp_remove_trailer(): no payload at all is garbage. */
static enum xf_drop cut_trailer(struct xf_transform_op *op, uint8_t *next_hdr)
{
	uint32_t end = op->text_off + op->crypto.len;
	struct xf_pkt *pkt = op->pkt;
	uint8_t scratch[XF_ESP_TRAILER_LEN];
	const uint8_t *trailer;
	uint32_t cut;

	/* Wherever that was decrypted to: afterwards the packet ends with the text. */
	if (XF_UNLIKELY(op->dst_pkt != NULL) && xf_esp_put_text(op) < 0)
		return XF_DROP_IN_BUFFER;
	trailer = xf_pkt_peek(pkt, end - XF_ESP_TRAILER_LEN, sizeof(scratch), scratch);
	cut = XF_ESP_TRAILER_LEN + trailer[0];
	if (cut >= op->crypto.len)
		return XF_DROP_IN_STATE_PROTO;
	*next_hdr = trailer[1];
	if (*next_hdr == XF_IPPROTO_NONE)
		return XF_DROP_IN_DUMMY;
	xf_pkt_trim_back(pkt, pkt->len - end + cut);
	return XF_PASS;
}

/* Step 6: what follows the IP packet inside is TFC padding (RFC 4303 s2.7). */
static inline enum xf_drop show_inner(struct xf_transform_op *op, unsigned own, uint8_t next_hdr)
{
	uint8_t outer_tos = op->ip->tos;
	struct xf_pkt *pkt = op->pkt;
	uint8_t tos;

	if (xf_ip_parse(pkt, true, op->ip) < 0)
		return XF_DROP_IN_HDR;
	if (next_hdr != xf_esp_tunnelled(op->ip))
		return XF_DROP_IN_STATE_MODE;
	if (XF_UNLIKELY(pkt->len != op->ip->total_len))
		xf_pkt_trim_back(pkt, pkt->len - op->ip->total_len);
	tos = xf_tunnel_decap_tos(own, outer_tos, op->ip->tos);
	if (XF_UNLIKELY(tos != op->ip->tos) && xf_tunnel_set_tos(pkt, op->ip, tos) < 0)
		return XF_DROP_IN_BUFFER;
	return XF_PASS;
}

static bool is_tunnelled(uint8_t next_hdr)
{
	return next_hdr == XF_IPPROTO_IPIP || next_hdr == XF_IPPROTO_IPV6;
}

static enum xf_drop leave_tunnel(struct xf_transform_op *op, unsigned own, uint8_t next_hdr)
{
	if (!is_tunnelled(next_hdr))
		return XF_DROP_IN_STATE_MODE;
	xf_pkt_trim_front(op->pkt, op->text_off);
	return show_inner(op, own, next_hdr);
}

static enum xf_drop leave_transport(struct xf_transform_op *op, uint8_t next_hdr)
{
	const struct xf_ip_info *ip = op->ip;
	uint32_t off = ip->l4_off;
	uint8_t *hdr;

	if (xf_pkt_remove(op->pkt, off, op->text_off - off) < 0)
		return XF_DROP_IN_BUFFER;
	hdr = xf_pkt_writable(op->pkt, 0, off);
	if (!hdr)
		return XF_DROP_IN_BUFFER;
	xf_ip_patch(hdr, ip, ip->l4_nexthdr_field, next_hdr, op->pkt->len);
	return xf_ip_parse(op->pkt, false, op->ip) < 0 ? XF_DROP_IN_HDR : XF_PASS;
}

/*
 * Behind a NAT the addresses are others than those that the checksum of TCP or UDP was computed
 * with. The kernel takes it as checked, since the ICV vouches for what is inside (RFC 3948 s3.1.2,
 * esp_input_done2()); a TUN has no word for that, so the checksum is left to be completed, over the
 * addresses as they are now. A UDP datagram without one has none (RFC 768).
 */
static enum xf_drop renew_csum(struct xf_transform_op *op)
{
	const struct xf_ip_info *ip = op->ip;
	bool tcp = ip->proto == XF_IPPROTO_TCP;
	uint16_t at = tcp ? TCP_CSUM : UDP_CSUM;
	uint32_t len = ip->total_len - ip->l4_off;
	uint8_t *field;
	uint64_t sum;

	if ((!tcp && ip->proto != XF_IPPROTO_UDP) || len < (tcp ? TCP_HDR_LEN : XF_UDP_HDR_LEN))
		return XF_PASS;
	field = xf_pkt_writable(op->pkt, ip->l4_off + at, 2);
	if (!field)
		return XF_DROP_IN_BUFFER;
	if (!tcp && xf_get_be16(field) == 0)
		return XF_PASS;
	sum = xf_csum_pseudo(&ip->saddr, &ip->daddr, ip->family, ip->proto, len);
	xf_put_be16(field, (uint16_t)~xf_csum_fold(sum));
	op->pkt->csum_start = (uint16_t)ip->l4_off;
	op->pkt->csum_offset = at;
	return XF_PASS;
}

/* Steps 5 and 6. */
static enum xf_drop unwrap(struct xf_transform_op *op, uint64_t *bytes)
{
	const struct xf_sa_form *form = xf_sa_form(op->sa);
	uint8_t next_hdr = XF_IPPROTO_NONE;
	enum xf_drop drop = op->drop;

	if (drop == XF_PASS)
		drop = cut_trailer(op, &next_hdr);
	if (XF_UNLIKELY(op->dst_pkt != NULL)) {
		xf_pkt_free(op->dst_pkt);
		op->dst_pkt = NULL;
	}
	if (drop != XF_PASS)
		return drop;
	*bytes += op->pkt->len - op->text_off;
	op->pkt->mark = xf_form_mark(form, op->pkt->mark);
	drop = form->outer_len ? leave_tunnel(op, form->own, next_hdr)
			       : leave_transport(op, next_hdr);
	if (drop == XF_PASS && form->what & XF_FORM_UDP && !form->outer_len)
		drop = renew_csum(op);
	op->pkt->family = op->ip->family;
	return drop;
}

/* Of a packet in one piece that is cut behind its text: what is between header and text goes. */
static enum xf_drop leave_transport_usual(struct xf_transform_op *op, uint8_t next_hdr)
{
	const struct xf_ip_info *ip = op->ip;
	struct xf_pkt *pkt = op->pkt;
	struct xf_seg *seg = &pkt->segs[0];
	const struct xf_ip_front front = { ip->l4_off, ip->l4_nexthdr_field, next_hdr };
	uint32_t gap = op->text_off - front.len;
	uint8_t *from = seg->data;

	seg->data += gap;
	seg->len -= gap;
	pkt->len -= gap;
	xf_ip_move(seg->data, from, ip, front, pkt->len);
	return xf_ip_parse(pkt, false, op->ip) < 0 ? XF_DROP_IN_HDR : XF_PASS;
}

/* The same for a packet in one piece. */
static inline enum xf_drop unwrap_usual(struct xf_transform_op *op, struct xf_sa_brief form,
					uint64_t *bytes)
{
	struct xf_pkt *pkt = op->pkt;
	struct xf_seg *seg = &pkt->segs[0];
	const uint8_t *trailer = seg->data + op->text_off + op->crypto.len - XF_ESP_TRAILER_LEN;
	uint32_t cut = XF_ESP_TRAILER_LEN + trailer[0];
	uint8_t next_hdr = trailer[1];
	enum xf_drop drop;

	if (XF_UNLIKELY(cut >= op->crypto.len || next_hdr == XF_IPPROTO_NONE ||
			(form.own & XF_ESP_TUNNEL && !is_tunnelled(next_hdr))))
		return unwrap(op, bytes);
	*bytes += op->crypto.len - cut;
	if (XF_UNLIKELY(form.what & XF_FORM_MORE))
		pkt->mark = xf_form_mark(xf_sa_form(op->sa), pkt->mark);
	if (XF_LIKELY(form.own & XF_ESP_TUNNEL)) {
		seg->data += op->text_off;
		seg->len = pkt->len = op->crypto.len - cut;
		drop = show_inner(op, form.own, next_hdr);
	} else {
		seg->len = pkt->len = op->text_off + op->crypto.len - cut;
		drop = leave_transport_usual(op, next_hdr);
		if (XF_UNLIKELY(op->udp_len) && drop == XF_PASS)
			drop = renew_csum(op);
	}
	pkt->family = op->ip->family;
	return drop;
}

void xf_esp_in_finish_run(struct xf_transform_op *const *ops, unsigned n, uint64_t now_ns)
{
	struct xf_sa *sa = ops[0]->sa;
	struct xf_sa_brief form = xf_sa_brief(sa);
	unsigned accepted = 0;
	uint64_t bytes = 0;

	believe(ops, n);
	for (unsigned i = 0; i < n; i++) {
		uint64_t before = bytes;

		if (XF_LIKELY(ops[i]->drop == XF_PASS && ops[i]->usual))
			ops[i]->drop = unwrap_usual(ops[i], form, &bytes);
		else
			ops[i]->drop = unwrap(ops[i], &bytes);
		accepted += bytes != before;
	}
	if (accepted)
		xf_sa_count(&sa->in, form.what, accepted, bytes, now_ns);
}

void xf_esp_in_finish_batch(struct xf_transform_op *const *ops, unsigned n, uint64_t now_ns)
{
	for (unsigned i = 0, len; i < n; i += len) {
		len = xf_runs_len(ops + i, n - i);
		xf_esp_in_finish_run(ops + i, len, now_ns);
	}
}

enum xf_drop xf_esp_in_finish(struct xf_transform_op *op, uint64_t now_ns)
{
	xf_esp_in_finish_run(&op, 1, now_ns);
	return op->drop;
}
