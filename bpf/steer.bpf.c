/*
 * Which of the TUN's queues, and so which worker, takes a packet: that of its flow, whoever sent
 * to the flow last. The device's own steering follows the queue that last wrote to a flow, and
 * would move a flow between workers, in the middle of it, whenever another one delivers.
 *
 * bpf/meta.bpf.c has made the hash before; without it packets that have none share a queue. The
 * device takes the result modulo its queues.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

SEC("socket")
int xf_steer(struct __sk_buff *skb)
{
	/* The upper bits, too: the modulo alone would see the lowest ones. */
	return (int)((skb->hash ^ skb->hash >> 16) & 0x7fff);
}

char _license[] SEC("license") = "Dual BSD/GPL";
