/*
 * transform.h - what an SA does to packets: the table through which src/path calls ESP and others.
 *
 * A transform is chosen once per SA, by number, when the SA is made. Each way is two halves around
 * the cipher: prepare describes the cipher's work, the path has it done, now or later, and finish
 * acts on its status. The path calls once for all operations of a batch that have one transform,
 * in the order of their packets, whose SAs may be many. Packets of other transforms are taken
 * apart before, so that a transform never looks for its own.
 *
 * Who owns what. A packet belongs to the path, before prepare and after, dropped or not; a
 * transform changes it in place. It frees none and counts none: it says why in op->drop, and the
 * path frees the packet and counts, for the worker and for the SA. op->dst_pkt is the transform's
 * from prepare to finish; when a worker ends in between, the path frees it.
 *
 * Order. An outbound packet that passes prepare has taken a number of its SA (op->number), and no
 * other has: numbers are what orders packets among workers, so a number that nobody brings out
 * holds up all that come behind it. Packets of one SA are prepared in the order in which they are
 * to leave. Of an SA whose state is not valid, prepare takes no number, and finish moves no window.
 *
 * Threads: a packet and its operation belong to one thread, SAs are shared, read inside an RCU
 * section or with a reference. The table is constant. Lengths are bytes.
 */
#ifndef XF_TRANSFORM_H
#define XF_TRANSFORM_H

#include <xf/ip.h>
#include <xf/sa.h>

#ifdef __cplusplus
extern "C" {
#endif

/* So many, the one that refuses everything included. */
#define XF_TRANSFORMS_MAX 16

#define XF_OP_SEGS 4

struct xf_sa_form; /* what each packet asks of a configuration: inside the engine */
struct xf_shaping; /* xf/shaping.h */
struct xf_event_ring; /* xf/event.h */

/*
 * One packet between prepare and finish. Must not move: crypto points into it. A packet whose
 * prepare passed must be finished, with crypto.status XF_CRYPTO_ERROR when nobody did the work.
 * What nearly every packet needs stands in four lines: two here, two at the front of crypto.
 */
struct xf_transform_op {
	struct xf_crypto_op crypto; /* filled by prepare; crypto.user is the operation itself */
	void *user; /* the caller's */

	/* Given by the caller. Inbound @ip is of the outer packet, and after finish of the packet
	 * that came out; it must stay where it is meanwhile. */
	struct xf_sa *sa __attribute__((aligned(XF_CACHE_LINE)));
	struct xf_pkt *pkt;
	struct xf_ip_info *ip;
	uint64_t number; /* outbound: of the SA's packets, in the order in which they must leave */
	uint64_t seq;
	struct xf_pkt *dst_pkt; /* where the text goes when it may not be written in place */
	uint8_t *gap; /* outbound: what was opened for headers, and behind */
	uint8_t *tail;

	/* A usual packet needs no line behind this one. */
	uint32_t udp_len; /* inbound, given: 8 with a UDP header before the transform's, else 0 */
	enum xf_drop drop; /* what prepare or finish has to say of this packet */
	bool usual; /* inbound: in one piece, decrypted in place */
	/* Set by prepare: the cipher's place in xf_crypto_providers(), mostly sa->provider.
	 * XF_CRYPTO_NONE: nothing is left to be done, or somebody else does it; the path goes on
	 * to finish with the status that prepare has set. */
	uint8_t provider;

	/* The transform's own: the path does not look at it. */
	uint32_t udp_off; /* in the packet; 0 = no UDP header */
	uint32_t hdr_off;
	uint32_t text_off;
	struct xf_seg src[XF_OP_SEGS]; /* of the text, when it has no more */
	struct xf_seg dst;
	uint32_t gap_off; /* outbound: where the headers were inserted */
	uint32_t payload_len; /* outbound: what of the packet is protected */
	uint32_t tfc_len;
	uint32_t pad_len;
	uint32_t tail_len;

	/* Given by the caller once, when it makes operations: its worker's ring, or NULL. */
	struct xf_event_ring *events;
};

/* Of a header, no more is read to find the SA, and of one that an ICMP error quotes. */
#define XF_SPI_HDR_MAX 12
#define XF_SPI_QUOTED_MAX 8

/* Where a protocol's header names the SA: within XF_SPI_QUOTED_MAX. */
struct xf_spi_place {
	uint8_t off;
	uint8_t len; /* 2 or 4; 0: the protocol has no SPI, or nobody does it */
	uint8_t hdr_len; /* a packet with less of the header is malformed */
};

struct xf_transform {
	const char *name;
	uint8_t protocol; /* IP's number of it: of its SAs, and in front of its header */
	struct xf_spi_place spi; /* the same for all transforms of a protocol */

	/* Is it for SAs like @cfg? Asked once per SA; the one that was registered last is asked
	 * first. */
	bool (*takes)(const struct xf_sa_config *cfg);

	/* The control thread has an SA made, or changed to @cfg: fill in what is the transform's
	 * own of @form; the rest is there, what is not filled in is zero. NULL: nothing is. */
	void (*make_form)(const struct xf_sa_view *cfg, struct xf_sa_form *form);

	/*
	 * Outbound, first half: op->pkt is a whole IP packet, no super-packet, its checksums
	 * complete, op->ip its parse. Each op->drop is set. A packet that is not XF_PASS is as it
	 * was, and has no number. One may pass unchanged (RFC 3173 s2.2), with a number and without
	 * a cipher.
	 */
	void (*out_prepare)(struct xf_transform_op *const *ops, unsigned n, uint64_t now_ns);
	/* Second half: op->pkt is a complete IP packet. Each op->drop is set; returns how many are
	 * not XF_PASS. */
	unsigned (*out_finish)(struct xf_transform_op *const *ops, unsigned n);

	/* Inbound, first half: op->pkt is a whole outer IP packet, op->ip its parse with this
	 * protocol's header at ip->l4_off, or op->udp_len behind. What can be checked before the
	 * cipher is (RFC 4301 s5.2 steps 1 to 3); each op->drop is set. */
	void (*in_prepare)(struct xf_transform_op *const *ops, unsigned n, uint64_t now_ns);
	/* Second half, and the replay window's: op->pkt is what was inside, op->ip its parse. Each
	 * op->drop is set. */
	void (*in_finish)(struct xf_transform_op *const *ops, unsigned n, uint64_t now_ns);

	/* The largest inner packet of @inner_family whose outer one is at most @outer_mtu; 0:
	 * nothing fits. */
	uint32_t (*inner_mtu)(const struct xf_sa *sa, uint32_t outer_mtu, uint16_t inner_family);

	/* Outbound before prepare, inbound behind finish, packets may become more or fewer, and
	 * wait. NULL: each stays one. */
	void (*out_shape)(struct xf_shaping *s);
	void (*in_shape)(struct xf_shaping *s);
};

/* The one of SAs that no other takes: it refuses each packet with STATE_PROTO. */
extern const struct xf_transform xf_transform_none;
extern const struct xf_transform xf_transform_esp; /* xf/esp.h */

/*
 * Add a transform: before the first SA and worker, from the thread that makes these.
 *   -EEXIST  it is there    -ENOSPC
 *   -EINVAL  the SPI stands where nobody looks, or elsewhere for its protocol
 */
int xf_transform_register(const struct xf_transform *transform);

/* All of them by number, ended by NULL; number 0 is xf_transform_none. */
const struct xf_transform *const *xf_transforms(void);

/* The number of the one for SAs like @cfg. */
unsigned xf_transform_for(const struct xf_sa_config *cfg);

#ifdef __cplusplus
}
#endif

#endif
