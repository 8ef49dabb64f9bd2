/*
 * On the TUN's way out to the daemon: mark, interface and user of each packet, which the device
 * itself does not pass on and policies ask for. Super-packets keep their vnet header.
 *
 * What gets no header is dropped by the daemon, which has put this program here, and counted; but
 * for what is too large to get one, as long as no policy asks for marks.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>
#include <stddef.h>

#include <bpf/bpf_helpers.h>

#include "tun_meta.h"

const volatile __u32 bypass_mark;
const volatile __u32 capture_mark;

/*
 * Have we sent it? The mark of a packet may be anybody's doing, that of its socket is not. Two come
 * back once: what NAT was asked for (src/port/ask.c), whose socket has both bits, with the source
 * that it got; and what no policy wanted until NAT had changed it, by the backstop
 * (bpf/egress.bpf.c).
 */
static __always_inline bool is_ours(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if ((skb->priority & XF_META_PRIORITY_MASK) == XF_META_PRIORITY_ENCAPSULATED)
		return false;
	sk = sk ? bpf_sk_fullsock(sk) : NULL;
	if (!sk || !(sk->mark & bypass_mark))
		return false;
	if (sk->mark & capture_mark)
		return skb->priority == XF_META_PRIORITY_ASK;
	return sk->priority != XF_META_PRIORITY_SENT_ON ||
	       skb->priority != XF_META_PRIORITY_TRANSLATED;
}

/* By a plain write: it costs less than the checks of bpf_skb_store_bytes(), for each packet. */
static __always_inline bool put_in_front(struct __sk_buff *skb, const struct xf_meta *meta)
{
	struct xf_meta *to = (void *)(long)skb->data;

	if ((void *)(to + 1) > (void *)(long)skb->data_end)
		return false;
	*to = *meta;
	return true;
}

SEC("tc")
int xf_meta(struct __sk_buff *skb)
{
	struct xf_meta meta = {
		.magic = XF_META_MAGIC,
		.mark = skb->mark,
		.iif = skb->ingress_ifindex,
	};

	if (skb->priority == XF_META_PRIORITY_TRANSLATED)
		meta.magic |= XF_META_TRANSLATED;
	if (skb->priority == XF_META_PRIORITY_ASK)
		meta.magic |= XF_META_ASK;
	if (is_ours(skb))
		meta.magic |= XF_META_OURS;
	meta.uid = bpf_get_socket_uid(skb);
	/* While the packet still begins with its IP header; bpf/steer.bpf.c reads it. */
	bpf_get_hash_recalc(skb);
	if (bpf_skb_change_head(skb, sizeof(meta), 0))
		return TC_ACT_OK;
	/* The head is open: without its content the packet would be garbage. */
	return put_in_front(skb, &meta) ? TC_ACT_OK : TC_ACT_SHOT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
