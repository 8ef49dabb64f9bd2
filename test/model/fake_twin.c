/*
 * bpf/twin.bpf.c in this process.
 */
#include <string.h>

/* What is written for the kernel is not held to our warnings. */
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#pragma GCC diagnostic ignored "-Wpointer-arith"
#include "twin.bpf.c"

enum { FAMILY4 = 2, FAMILY6 = 10 };

/* All that a program can reach from a packet. */
struct reach {
	struct in_device in_dev;
	struct ipv4_devconf all;
	struct net_device in;
	struct net_device out;
	struct bpf_prog progs[2];
	struct bpf_prog_aux aux[2];
	struct mini_Qdisc miniq;
	struct tcx_entry tcx;
	struct udp_hslot slot;
	struct udp_table table;
	struct net net;
	struct nf_hook_state state;
	struct fake_conn conn;
	struct sock sk;
	struct sk_buff skb;
	struct bpf_nf_ctx ctx;
};

int bpf_dynptr_from_skb(struct sk_buff *skb, __u64 flags, struct bpf_dynptr *out)
{
	(void)skb;
	(void)flags;
	memset(out, 0, sizeof(*out));
	return 0;
}

void *bpf_rdonly_cast(const void *obj, __u32 btf_id)
{
	(void)btf_id;
	return (void *)(uintptr_t)obj;
}

/* What is at the egress of a device. */
static void fill_egress(struct reach *r, const struct fake_seen *seen)
{
	struct bpf_mprog_entry *entry = &r->tcx.bundle.a;

	entry->parent = &r->tcx.bundle;
	for (unsigned i = 0; i < 2 && seen->linked[i]; i++) {
		strcpy(r->aux[i].name, seen->linked[i]);
		r->progs[i].aux = &r->aux[i];
		entry->fp_items[i].prog = &r->progs[i];
	}
	if (seen->filtered)
		r->miniq.filter_list = (struct tcf_proto *)&r->miniq;
	r->tcx.miniq = &r->miniq;
	if (seen->linked[0] || seen->filtered)
		r->out.tcx_egress = entry;
}

static void fill(struct reach *r, const struct fake_seen *seen)
{
	fake_read_from(seen);
	memset(r, 0, sizeof(*r));
	r->in.ifindex = (int)seen->iif;
	r->out.ifindex = (int)seen->oif;
	r->table.hash = &r->slot;
	r->net.ipv4.udp_table = &r->table;
	r->net.ipv4.devconf_all = &r->all;
	r->in.ip_ptr = &r->in_dev;
	fill_egress(r, seen);
	r->skb.mark = seen->mark;
	r->skb.skb_iif = (int)seen->iif;
	r->skb.priority = seen->priority;
	r->sk.sk_mark = seen->socket_mark;
	if (seen->has_socket)
		r->skb.sk = &r->sk;
	r->skb._nfct = fake_conn_fill(&r->conn, seen);
	r->state.pf = seen->six ? FAMILY6 : FAMILY4;
	r->state.in = &r->in;
	r->state.out = &r->out;
	r->state.net = &r->net;
	r->ctx.state = &r->state;
	r->ctx.skb = &r->skb;
}

enum fake_action fake_twin(const struct fake_seen *seen, bool local)
{
	struct reach r;
	int verdict;

	fill(&r, seen);
	r.state.hook = local ? LOCAL_IN : FORWARD;
	fake_run_links(true);
	verdict = xf_twin(&r.ctx);
	fake_run_links(false);
	return verdict == ACCEPT ? FAKE_PASS : FAKE_DROP;
}

enum fake_action fake_twin_out(const struct fake_seen *seen)
{
	struct reach r;
	int verdict;

	fill(&r, seen);
	fake_run_links(true);
	verdict = xf_twin_out(&r.ctx);
	fake_run_links(false);
	return verdict == ACCEPT ? FAKE_PASS : FAKE_DROP;
}
