/*
 * transform.h - what the files of the ESP transform share; nothing outside src/proto includes it.
 */
#ifndef XF_PROTO_TRANSFORM_H
#define XF_PROTO_TRANSFORM_H

#include <xf/esp.h>

#include "sad/sa.h"

/* Padding length and next header, in front of the ICV (RFC 4303 s2). */
#define XF_ESP_TRAILER_LEN 2u
/* The kernel's sysctl defaults ip_default_ttl and hop_limit. */
#define XF_TUNNEL_TTL 64
/* No IPv6 link is narrower (RFC 8200 s5). */
#define XF_IPV6_MIN_MTU 1280
/* Assumed of a path that nobody told us about. */
#define XF_PATH_MTU_DEFAULT 1500

/* What mode, encapsulation and suite put around a packet. */
struct xf_esp_layout {
	uint32_t outer_len; /* of a new IP header; 0 in transport mode */
	uint32_t udp_len;
	uint32_t iv_len;
	uint32_t icv_len;
	uint32_t align; /* of payload, padding and trailer together; a power of two */
};

void xf_esp_layout(const struct xf_sa_config *cfg, struct xf_esp_layout *out);

/* From the first byte that is added to the first that is encrypted. */
static inline uint32_t xf_esp_gap_len(const struct xf_esp_layout *lay)
{
	return lay->outer_len + lay->udp_len + XF_ESP_HDR_LEN + lay->iv_len;
}

/* Zeros behind a tunnelled packet of @inner_len bytes that hide its length (RFC 4303 s2.7). */
uint32_t xf_esp_tfc_len(const struct xf_sa *sa, const struct xf_sa_config *cfg, uint32_t inner_len,
			uint64_t now_ns);

/*
 * Fill key, AAD, tail and nonce of op->crypto from op->seq and the @iv of the wire; its text,
 * direction and ICV are the caller's.
 */
void xf_esp_crypto_fill(struct xf_esp_op *op, const struct xf_sa_config *cfg, const uint8_t *iv);

/*
 * Choose where the cipher of @op writes: over the text when that is ours alone, else to fresh
 * memory with @spare bytes behind (crypt is the copy). 0, -ENOBUFS, or -EMSGSIZE: too many
 * segments.
 */
int xf_esp_target(struct xf_esp_op *op, uint32_t spare);

/* Put what was written to fresh memory in the place of the old text. 0 or -ENOBUFS. */
int xf_esp_put_text(struct xf_esp_op *op);

/*
 * Transport mode: the headers at @hdr, described by @ip, belong to a packet of @len bytes now, in
 * which the byte at @field names @proto.
 */
void xf_ip_patch(uint8_t *hdr, const struct xf_ip_info *ip, uint32_t field, uint8_t proto,
		 uint32_t len);

/* The outer header of a tunnel: what it says beside the SA's addresses. */
struct xf_tunnel_hdr {
	uint32_t payload_len; /* everything behind the outer IP header */
	uint16_t id; /* IPv4, used when DF is clear */
	uint8_t proto; /* of what follows it */
};

/* Write it for the packet that @inner describes, as the kernel's xfrm4_tunnel_encap_add(). */
void xf_tunnel_write(uint8_t *hdr, const struct xf_sa_config *cfg, const struct xf_ip_info *inner,
		     const struct xf_tunnel_hdr *what);

/* The traffic class of a packet that leaves a tunnel whose outer one was @outer. */
uint8_t xf_tunnel_decap_tos(const struct xf_sa_config *cfg, uint8_t outer, uint8_t inner);

/* Change the traffic class of the packet that @ip describes. 0 or -ENOBUFS. */
int xf_tunnel_set_tos(struct xf_pkt *pkt, struct xf_ip_info *ip, uint8_t tos);

/* Write a UDP header with checksum 0 for @len bytes behind it (RFC 3948 s2.1). */
void xf_udp_write(uint8_t *hdr, const struct xf_encap *encap, uint32_t len);

/* Fill in the checksum of the UDP header at @off of @pkt, an IPv6 packet. 0 or -ENOBUFS. */
int xf_udp_set_csum6(struct xf_pkt *pkt, uint32_t off);

/* The kernel's xfrm_smark_get(): the mark after an SA that sets it. */
static inline uint32_t xf_sa_mark(const struct xf_sa_config *cfg, uint32_t mark)
{
	return (cfg->set_mark.v & cfg->set_mark.m) | (mark & ~cfg->set_mark.m);
}

#endif
