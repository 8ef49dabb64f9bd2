/*
 * The way in: parse, find the SA, check, decrypt, decapsulate, as often as SAs are nested; then
 * the policies, then delivery. A batch goes stage by stage.
 */
#include "path/worker.h"

struct in {
	struct xf_worker *worker;
	struct xf_path_result *res;
	uint64_t now_ns;
	unsigned n;
};

/* What the slot holds while it is on its way in. */
struct esp_place {
	bool esp; /* there is an ESP header to work on */
	uint32_t spi;
	uint32_t udp_len; /* 8 when it stands behind a UDP header */
};

static enum xf_drop find_esp(const struct xf_slot *s, struct esp_place *place)
{
	uint8_t scratch[XF_ESP_HDR_LEN];
	uint32_t off = s->ip.l4_off;
	const uint8_t *esp;

	if (s->ip.proto == XF_IPPROTO_UDP && s->pkt->encap_dport) {
		off += XF_UDP_HDR_LEN;
		place->udp_len = XF_UDP_HDR_LEN;
	} else if (s->ip.proto != XF_IPPROTO_ESP) {
		return XF_DROP_IN_HDR;
	}
	if (off > s->pkt->len)
		return XF_DROP_IN_HDR;
	esp = xf_pkt_peek(s->pkt, off, xf_min_u32(sizeof(scratch), s->pkt->len - off), scratch);
	if (place->udp_len) {
		switch (xf_udp_classify(esp, s->pkt->len - off)) {
		case XF_UDP_KEEPALIVE:
			return XF_DROP_IN_KEEPALIVE;
		case XF_UDP_IKE:
			return XF_DROP_IN_IKE;
		case XF_UDP_SHORT:
			return XF_DROP_IN_HDR;
		case XF_UDP_ESP:
			break;
		}
	}
	if (s->pkt->len - off < XF_ESP_HDR_LEN)
		return XF_DROP_IN_HDR;
	place->spi = xf_get_be32(esp);
	place->esp = true;
	return XF_PASS;
}

static void parse_outer(struct in *in, struct xf_slot *s, struct esp_place *place)
{
	enum xf_drop err;

	if (xf_ip_parse(s->pkt, true, &s->ip) < 0) {
		xf_slot_drop(in->worker, s, XF_DROP_IN_HDR, NULL);
		return;
	}
	xf_pkt_trim_back(s->pkt, s->pkt->len - s->ip.total_len);
	s->pkt->family = s->ip.family;
	if (s->ip.is_frag)
		xf_path_reassemble(in->worker, in->worker->frags_in, s, in->now_ns);
	if (!s->pkt)
		return;
	if (s->ip.proto == XF_IPPROTO_ICMP || s->ip.proto == XF_IPPROTO_ICMPV6) {
		xf_path_icmp(in->worker, s, in->now_ns);
		return;
	}
	err = find_esp(s, place);
	if (err != XF_PASS)
		xf_slot_drop(in->worker, s, err, NULL);
}

/* Find the SAs of all slots with an ESP header, in one batch; the others keep NULL. */
static void find_sas(struct in *in, const struct esp_place *places)
{
	struct xf_sa_id ids[XF_BATCH];
	uint32_t marks[XF_BATCH];
	struct xf_sa *sas[XF_BATCH];
	uint8_t index[XF_BATCH];
	unsigned n = 0;

	for (unsigned i = 0; i < in->n; i++) {
		const struct xf_slot *s = &in->worker->slots[i];

		in->worker->slots[i].bundle[0] = NULL;
		if (!s->pkt || !places[i].esp)
			continue;
		ids[n] = (struct xf_sa_id){ .daddr = s->ip.daddr,
					    .spi = places[i].spi,
					    .proto = XF_IPPROTO_ESP,
					    .family = s->ip.family };
		marks[n] = s->pkt->mark;
		index[n++] = (uint8_t)i;
	}
	xf_sad_find_in_batch(in->worker->engine->sad, ids, marks, n, sas);
	for (unsigned i = 0; i < n; i++)
		in->worker->slots[index[i]].bundle[0] = sas[i];
}

static enum xf_drop prepare(struct in *in, struct xf_slot *s, const struct esp_place *place,
			    struct xf_esp_op *op)
{
	if (!s->bundle[0])
		return XF_DROP_IN_NO_STATES;
	if (s->pkt->sp_len == XF_MAX_DEPTH)
		return XF_DROP_IN_BUFFER;
	return xf_esp_in_prepare(s->bundle[0], s->pkt, &s->ip, place->udp_len, in->now_ns, op);
}

/* After decapsulation @s->ip is the inner packet's parse: is that ESP for this host again? */
static void look_inside(struct in *in, struct xf_slot *s, struct esp_place *place)
{
	const struct xf_env *env = &in->worker->engine->env;

	*place = (struct esp_place){ .esp = false };
	s->pkt->encap_sport = 0;
	s->pkt->encap_dport = 0;
	if (s->ip.proto == XF_IPPROTO_ESP && !s->ip.is_frag &&
	    env->is_local(env->arg, &s->ip.daddr, s->ip.family)) {
		enum xf_drop err = find_esp(s, place);

		if (err != XF_PASS)
			xf_slot_drop(in->worker, s, err, s->bundle[0]);
	}
}

/* One level of ESP off every slot that has one. Returns how many had. */
static unsigned unwrap(struct in *in, struct esp_place *places)
{
	struct xf_worker *w = in->worker;
	struct xf_esp_op *ops[XF_BATCH];
	unsigned n = 0;

	find_sas(in, places);
	for (unsigned i = 0; i < in->n; i++) {
		struct xf_slot *s = &w->slots[i];
		enum xf_drop err;

		if (!s->pkt || !places[i].esp)
			continue;
		err = prepare(in, s, &places[i], &w->ops[i]);
		if (err != XF_PASS)
			xf_slot_drop(w, s, err, s->bundle[0]);
		else
			ops[n++] = &w->ops[i];
	}
	xf_path_crypto(w, ops, n);
	for (unsigned i = 0; i < n; i++) {
		unsigned k = (unsigned)(ops[i] - w->ops);
		struct xf_slot *s = &w->slots[k];
		enum xf_drop err = xf_esp_in_finish(ops[i], in->now_ns);

		s->pkt = ops[i]->pkt;
		if (err != XF_PASS) {
			xf_slot_drop(w, s, err, s->bundle[0]);
			continue;
		}
		s->pkt->sp[s->pkt->sp_len++] = s->bundle[0];
		s->ip = ops[i]->ip;
		look_inside(in, s, &places[k]);
	}
	return n;
}

/*
 * The SAs that a fragment came through, as a number: fragments of one datagram must have come the
 * same way, or clear text could be mixed into what a peer has protected.
 */
static uint64_t realm_of(const struct xf_pkt *pkt)
{
	uint64_t realm = pkt->sp_len;

	for (unsigned i = 0; i < pkt->sp_len; i++) {
		const struct xf_sa_id *id = &xf_sa_cfg(pkt->sp[i])->id;

		realm = (realm ^ id->spi ^ id->daddr.quad[0] ^ id->daddr.quad[1]) *
			0x9e3779b97f4a7c15ull;
		realm ^= realm >> 32;
	}
	return realm;
}

/*
 * A fragment from inside a tunnel is put together first where a policy could want ports. The
 * whole datagram has the SAs of the fragment that came last: no fragment that waits keeps any.
 */
static void make_whole(struct in *in, struct xf_slot *s)
{
	struct xf_pkt *last = s->pkt;
	struct xf_sa *sp[XF_MAX_DEPTH];
	uint8_t sp_len = last->sp_len;

	memcpy(sp, last->sp, sizeof(sp));
	last->realm = realm_of(last);
	last->sp_len = 0;
	xf_path_reassemble(in->worker, in->worker->frags_inner, s, in->now_ns);
	if (!s->pkt)
		return;
	memcpy(s->pkt->sp, sp, sizeof(sp));
	s->pkt->sp_len = sp_len;
	xf_ip_flow(s->pkt, &s->ip, false, &s->flow);
}

static void deliver(struct in *in, struct xf_slot *s)
{
	const struct xf_engine *engine = in->worker->engine;
	enum xf_policy_dir dir = XF_DIR_FWD;
	enum xf_drop err;

	xf_ip_flow(s->pkt, &s->ip, false, &s->flow);
	if (engine->env.is_local(engine->env.arg, &s->ip.daddr, s->ip.family))
		dir = XF_DIR_IN;
	if (s->ip.is_frag && xf_spd_wants_whole(engine->spd, dir, &s->flow))
		make_whole(in, s);
	if (!s->pkt)
		return;
	err = xf_path_policy_check(in->worker, s, dir, in->now_ns);
	if (err != XF_PASS) {
		xf_slot_drop(in->worker, s, err, s->bundle[0]);
		return;
	}
	xf_count(&in->worker->count.in_packets, 1);
	xf_count(&in->worker->count.in_bytes, s->ip.total_len);
	xf_pktq_push(&in->res->deliver, s->pkt);
	s->pkt = NULL;
}

static void in_batch(struct in *in)
{
	struct esp_place places[XF_BATCH] = { { .esp = false } };

	for (unsigned i = 0; i < in->n; i++)
		parse_outer(in, &in->worker->slots[i], &places[i]);
	while (unwrap(in, places) > 0)
		;
	for (unsigned i = 0; i < in->n; i++)
		if (in->worker->slots[i].pkt)
			deliver(in, &in->worker->slots[i]);
}

void xf_path_in(struct xf_worker *worker, struct xf_pktq *in, uint64_t now_ns,
		struct xf_path_result *res)
{
	struct in batch = { .worker = worker, .res = res, .now_ns = now_ns };

	xf_read_begin();
	while (in->count) {
		for (batch.n = 0; batch.n < XF_BATCH && in->count; batch.n++)
			xf_slot_load(&worker->slots[batch.n], xf_pktq_pop(in));
		in_batch(&batch);
	}
	xf_read_end();
	xf_path_end(worker);
}
