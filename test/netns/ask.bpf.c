// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * For programs_spd.c, which runs it over the maps of the backstop: what policies of the direction
 * cb[0] say to a packet, as an enum answer.
 */
#include "egress.bpf.c"

SEC("tc")
int xf_ask(struct __sk_buff *skb)
{
	struct flow flow = { .ports = false };
	__u32 zero = 0;
	const struct xf_bpf_config *cfg = bpf_map_lookup_elem(&config, &zero);
	__u32 dir = skb->cb[0];

	if (!cfg || !read_flow(skb, &flow) || dir > DIR_FWD)
		return -1;
	flow.mark = mark_of(cfg, skb->mark);
	return ask_policies(cfg, &flow, dir, false);
}
