/*
 * The way out: out.h has the files that a batch goes through, stage by stage, and this one takes it
 * through them. xf_path_out() is called by whoever moves a worker's packets.
 *
 * A super-packet is parsed and looked up once; the packets that are cut from it take over what was
 * found out about it.
 */
#include "path/out.h"

/* Conntrack answers for a whole datagram, too. */
static bool is_wanted_whole(const struct xf_out *o, const struct xf_slot *s,
			    const struct xf_flow *flow)
{
	return s->pkt->ask || xf_ip_frag_hides_proto(s->pkt, &s->ip) ||
	       xf_spd_wants_whole(o->worker->engine->spd, XF_DIR_OUT, flow);
}

static void parse(struct xf_out *o, struct xf_slot *s, struct xf_flow *flow)
{
	if (xf_ip_parse(s->pkt, false, &s->ip) < 0) {
		xf_slot_drop(o->worker, s, XF_DROP_OUT_HDR, NULL);
		return;
	}
	xf_pkt_trim_back(s->pkt, s->pkt->len - s->ip.total_len);
	s->pkt->family = s->ip.family;
	xf_ip_flow(s->pkt, &s->ip, false, flow);
	if (!s->ip.is_frag || !is_wanted_whole(o, s, flow))
		return;
	xf_path_reassemble(o->worker, o->worker->frags_out, s, o->now_ns);
	if (s->pkt)
		xf_ip_flow(s->pkt, &s->ip, false, flow);
}

static void parse_all(struct xf_out *o, struct xf_flight *f)
{
	struct xf_flow *flows = o->worker->flows;
	unsigned n = 0;

	for (unsigned i = 0; i < f->n; i++) {
		parse(o, &f->slots[i], &flows[n]);
		if (!f->slots[i].pkt)
			continue;
		if (n != i)
			f->slots[n] = f->slots[i];
		n++;
	}
	f->n = n;
}

static void find_policies(struct xf_out *o, struct xf_flight *f, struct xf_policy **policies)
{
	struct xf_worker *w = o->worker;
	uint32_t lens[XF_BATCH];

	xf_spd_lookup_to_use(w->engine->spd, XF_DIR_OUT, w->flows, f->n, policies);
	for (unsigned i = 0; i < f->n; i++)
		lens[i] = f->slots[i].pkt->asked ? 0 : f->slots[i].pkt->len;
	xf_path_count_policies(w, policies, lens, f->n, o->now_ns);
}

static void out_batch(struct xf_out *o, struct xf_flight *f)
{
	struct xf_policy *policies[XF_BATCH];

	parse_all(o, f);
	find_policies(o, f, policies);
	xf_out_apply_policies(o, f, policies);
	if (xf_out_check_fit(o, f))
		xf_out_cut(o, f);
	else
		xf_out_go(o, f);
}

void xf_path_out(struct xf_worker *worker, struct xf_pktq *in, uint64_t now_ns,
		 struct xf_path_result *res)
{
	struct xf_out o = { .worker = worker, .res = res, .now_ns = now_ns };

	xf_order_take_back(worker);
	xf_read_begin();
	while (in->count) {
		struct xf_flight *f = xf_flight_get(worker);

		if (!f) {
			xf_path_drop(worker, xf_pktq_pop(in), XF_DROP_OUT_NO_BUFFER, NULL);
			continue;
		}
		while (f->n < XF_BATCH && in->count)
			xf_flight_add(f, xf_pktq_pop(in));
		out_batch(&o, f);
	}
	xf_read_end();
	xf_path_end(worker);
}
