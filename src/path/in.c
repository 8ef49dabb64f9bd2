/*
 * The way in: in.h has the files that a batch goes through, stage by stage, and this one parses
 * what was received. xf_path_in() is called by whoever moves a worker's packets.
 */
#include "path/in.h"

static void parse_outer(struct xf_in *in, struct xf_flight *f, struct xf_slot *s)
{
	enum xf_drop err;

	if (xf_ip_parse(s->pkt, !s->pkt->hdr_checked, &s->ip) < 0) {
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
	err = xf_in_find_spi(f, s);
	if (err != XF_PASS)
		xf_slot_drop(in->worker, s, err, NULL);
}

static struct xf_group *open_batch(struct xf_worker *worker, const struct xf_path_ticket *ticket)
{
	struct xf_group *batch;

	/* At once, but for a caller who went on though the worker is busy. */
	while (!(batch = xf_group_get(worker)))
		xf_order_take_back(worker);
	batch->turn = ticket->turn;
	batch->ticket.first = ticket->number;
	batch->ticket.end = ticket->number + 1;
	batch->exit = XF_EXIT_DELIVER;
	worker->batches++;
	batch->parts = 1; /* while more may come */
	return batch;
}

void xf_path_in_ordered(struct xf_worker *worker, struct xf_pktq *packets,
			const struct xf_path_ticket *ticket, uint64_t now_ns,
			struct xf_path_result *res)
{
	struct xf_in in = { .worker = worker, .res = res, .now_ns = now_ns };
	struct xf_group *batch;

	xf_order_take_back(worker);
	xf_read_begin();
	batch = ticket ? open_batch(worker, ticket) : NULL;
	while (packets->count) {
		struct xf_flight *f = xf_flight_get(worker);

		if (!f) {
			xf_path_drop(worker, xf_pktq_pop(packets), XF_DROP_IN_BUFFER, NULL);
			continue;
		}
		while (f->n < XF_BATCH && packets->count)
			parse_outer(&in, f, xf_flight_add(f, xf_pktq_pop(packets)));
		xf_in_go(&in, f, batch);
	}
	if (batch)
		xf_in_part_done(&in, batch);
	else
		xf_in_flush(&in, &res->deliver);
	xf_read_end();
	xf_path_end(worker);
}

void xf_path_in(struct xf_worker *worker, struct xf_pktq *packets, uint64_t now_ns,
		struct xf_path_result *res)
{
	xf_path_in_ordered(worker, packets, NULL, now_ns, res);
}
