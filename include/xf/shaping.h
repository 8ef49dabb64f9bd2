/*
 * shaping.h - transforms that make other packets of those that they are given: N of 1, 1 of N.
 *
 * That is a step of its own: outbound before prepare, inbound behind finish. What comes out of it
 * goes on as any packet, one for one through the cipher, any number of packets from one call.
 *
 * Who owns what. The packets that a call brings are the transform's from then on. Each it gives
 * back, maybe as a part of another (xf_pkt_join()), drops, or holds: a packet that is made of N is
 * one packet with all their bytes, so whoever drops it has freed all N. What it holds, it keeps in
 * @state, which the path keeps for it as long as it asks for another call. There is one for a
 * worker, a way, an SA and what the packets are still to go through, so nothing is locked, and it
 * has references to all these SAs. An SA that leaves its SAD, or a worker that ends, has one last
 * call: then whatever is given back is dropped and counted.
 *
 * Order. Packets go on in the order in which they are given back. They take their numbers then, in
 * prepare: what is held has none, and holds nobody up.
 *
 * Threads: all of it is one worker's. Times are the engine's clock.
 */
#ifndef XF_SHAPING_H
#define XF_SHAPING_H

#include <xf/transform.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Of a transform's own, from call to call. */
#define XF_SHAPING_STATE 128

struct xf_shaping {
	struct xf_sa *sa;
	/* Packets of @sa, in their order: op->pkt, op->ip, and inbound op->seq. None: a time has
	 * come that was asked for. */
	struct xf_transform_op *const *ops;
	unsigned n;
	uint64_t now_ns;
	void *state; /* XF_SHAPING_STATE bytes, zero at first */
	/* Nothing may be held over the end of this call: all state is lost. */
	bool must_end;
	/* Set by the transform: call again at this time, or with the next packets, and keep @state
	 * until then. UINT64_MAX, as it is before each call: there is none to keep. */
	uint64_t due_ns;

	/* @pkt goes on, @ip is its parse: outbound what prepare will find, inbound of an IP packet.
	 * Metadata are the transform's to copy (xf_pkt_copy_metadata()). */
	void (*give)(struct xf_shaping *s, struct xf_pkt *pkt, const struct xf_ip_info *ip);
	/* Outbound: the next @n that are given, at most XF_BATCH, are prepared together, so that no
	 * other worker's number comes between theirs. */
	void (*in_a_row)(struct xf_shaping *s, unsigned n);
	/* Free @pkt, and count it for worker and SA. */
	void (*drop)(struct xf_shaping *s, struct xf_pkt *pkt, enum xf_drop reason);
};

#ifdef __cplusplus
}
#endif

#endif
