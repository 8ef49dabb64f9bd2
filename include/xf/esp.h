/*
 * esp.h - the ESP transform (RFC 4303): headers, padding, IVs, UDP encapsulation.
 *
 * Each way is two halves around the cipher: prepare fills a crypto operation, the caller has it
 * done (now or later), finish acts on its status. Every check comes before the first write: a
 * packet that is not XF_PASS is as the caller left it, and no sequence number was spent.
 *
 * Threads: a packet and its operation belong to one thread; SAs are shared, read inside an
 * RCU section or with a reference. Lengths are bytes.
 */
#ifndef XF_ESP_H
#define XF_ESP_H

#include <xf/transform.h>

#ifdef __cplusplus
extern "C" {
#endif

#define XF_ESP_HDR_LEN 8u /* SPI and sequence number */

/*
 * Outbound, first half, of a run of packets with one SA: op->pkt is a whole IP packet, op->ip its
 * parse; bytes behind its end are cut off. Adds what the SA's mode adds (RFC 4303 s3.3; tunnel
 * header fields as the kernel: DSCP and ECN by RFC 6040, DF, TTL, flow label), trailer, ESP header,
 * IV, UDP header; takes one sequence number and one IV for each packet, in their order. op->drop:
 *   XF_DROP_OUT_STATE_SEQ      the sequence number would wrap (RFC 4303 s3.3.3)
 *   XF_DROP_OUT_STATE_EXPIRED  a hard limit is reached
 *   XF_DROP_OUT_STATE_MODE     the mode cannot take this packet: a fragment or another family in
 *                              transport mode
 *   XF_DROP_OUT_NO_BUFFER      the pool is empty
 *   XF_DROP_OUT_ERROR          larger than an IP packet can be
 */
void xf_esp_out_prepare_run(struct xf_sa *sa, struct xf_transform_op *const *ops, unsigned n,
			    uint64_t now_ns);

/*
 * Outbound, second half, after the cipher: op->pkt is a complete IP packet.
 * XF_DROP_OUT_STATE_PROTO: the provider failed.
 */
enum xf_drop xf_esp_out_finish(struct xf_transform_op *op);

/*
 * Inbound, first half, of a run of packets with one SA: op->pkt is a whole outer IP packet, op->ip
 * its parse with the ESP header (or, with op->udp_len 8, the UDP header before it) at ip->l4_off.
 * Checks what is known before the cipher (RFC 4303 s3.4.3): state, encapsulation, lengths, replay.
 * Ports are not compared, as in the kernel: a NAT may have moved them. A UDP checksum is not looked
 * at: the ICV says more. op->drop:
 *   XF_DROP_IN_HDR             cut short, or lengths that cannot be
 *   XF_DROP_IN_STATE_MISMATCH  the SA wants UDP encapsulation and there is none, or reverse
 *   XF_DROP_IN_STATE_PROTO     too short for this SA's IV, padding and ICV
 *   XF_DROP_IN_STATE_SEQ       replay    XF_DROP_IN_STATE_DIR  an outbound SA
 *   XF_DROP_IN_BUFFER          the pool is empty
 *   those of xf_sa_check()
 */
void xf_esp_in_prepare_run(struct xf_sa *sa, struct xf_transform_op *const *ops, unsigned n,
			   uint64_t now_ns);

/*
 * Inbound, second half, of a run of packets with one SA: ICV verdict, replay commit, padding and
 * next header, decapsulation; op->pkt is the inner IP packet (transport mode: the packet without
 * ESP, header fixed) and op->ip its parse. Checksums of TCP and UDP are not verified or changed,
 * not even where a NAT broke them in transport mode (RFC 3948 s3.1.2): like the kernel, believe
 * the ICV. Counts in the SA: bytes, packets, integrity_failed, replay. op->drop:
 *   XF_DROP_IN_STATE_PROTO  wrong ICV, or a bad trailer   XF_DROP_IN_STATE_SEQ  replay
 *   XF_DROP_IN_DUMMY        next header 59 (RFC 4303 s2.6): not an error
 *   XF_DROP_IN_STATE_MODE   what is inside does not fit the mode
 *   XF_DROP_IN_HDR          the IP header inside is malformed
 *   XF_DROP_IN_BUFFER       the pool is empty
 */
void xf_esp_in_finish_run(struct xf_transform_op *const *ops, unsigned n, uint64_t now_ns);

/* The same for packets whose op->sa says whose they are, in their order: run by run, with what the
 * SAs need fetched ahead. xf_esp_out_finish_batch() returns how many may not go on. */
void xf_esp_out_prepare_batch(struct xf_transform_op *const *ops, unsigned n, uint64_t now_ns);
unsigned xf_esp_out_finish_batch(struct xf_transform_op *const *ops, unsigned n);
void xf_esp_in_prepare_batch(struct xf_transform_op *const *ops, unsigned n, uint64_t now_ns);
void xf_esp_in_finish_batch(struct xf_transform_op *const *ops, unsigned n, uint64_t now_ns);

/* Runs of one packet; what the run functions leave in op->drop is returned. */
enum xf_drop xf_esp_out_prepare(struct xf_sa *sa, struct xf_pkt *pkt, struct xf_ip_info *ip,
				uint64_t now_ns, struct xf_transform_op *op);
enum xf_drop xf_esp_in_prepare(struct xf_sa *sa, struct xf_pkt *pkt, struct xf_ip_info *ip,
			       uint32_t udp_len, uint64_t now_ns, struct xf_transform_op *op);
enum xf_drop xf_esp_in_finish(struct xf_transform_op *op, uint64_t now_ns);

/*
 * The largest inner packet whose outer one is at most @outer_mtu: the kernel's
 * xfrm_state_mtu() seen from the inner packet. 0: nothing fits. With IPv6 inside or outside it is
 * never below 1280: then the outer packet is one that may be cut.
 */
uint32_t xf_esp_inner_mtu(const struct xf_sa *sa, uint32_t outer_mtu, uint16_t inner_family);

/*
 * SPI and kind of what arrived on a UDP encapsulation port (RFC 3948): an ESP packet, an IKE
 * message (4 zero bytes) or a keepalive (one byte 0xff). SHORT is none of these.
 */
enum xf_udp_kind { XF_UDP_ESP, XF_UDP_IKE, XF_UDP_KEEPALIVE, XF_UDP_SHORT };
enum xf_udp_kind xf_udp_classify(const uint8_t *payload, uint32_t len);

#ifdef __cplusplus
}
#endif

#endif
