/*
 * esp.h - what the files of the ESP transform share; nothing outside src/proto includes it.
 */
#ifndef XF_PROTO_ESP_H
#define XF_PROTO_ESP_H

#include <xf/esp.h>

#include "sad/sa.h"

/* Padding length and next header, in front of the ICV (RFC 4303 s2). */
#define XF_ESP_TRAILER_LEN 2u

/* What is encrypted is a multiple of that, whatever the cipher (RFC 4303 s2.4). */
#define XF_ESP_ALIGN 4u

/* A form's own flags. Free: 2 bits, one of them for BEET. */
enum xf_esp_own {
	XF_ESP_TUNNEL = 1 << 0,
	XF_ESP_TRANSPORT = 1 << 1,
	XF_ESP_PLAIN = 1 << 2, /* a nonce of 4 and 8 bytes; of the packet, the MAC covers no IV */
	XF_ESP_NOECN = 1 << 3,
	XF_ESP_ENCAP_DSCP = 1 << 4,
	XF_ESP_DECAP_DSCP = 1 << 5,
};

/* The transform's part of a form (xf/transform.h). */
void xf_esp_make_form(const struct xf_sa_view *cfg, struct xf_sa_form *form);

/* What names the packet @ip describes in the trailer, when it is tunnelled. */
static inline uint8_t xf_esp_tunnelled(const struct xf_ip_info *ip)
{
	return ip->family == XF_AF_INET ? XF_IPPROTO_IPIP : XF_IPPROTO_IPV6;
}

/* Zeros behind a tunnelled packet of @inner_len bytes that hide its length (RFC 4303 s2.7). */
uint32_t xf_esp_tfc_len(const struct xf_sa *sa, uint32_t inner_len, uint64_t now_ns);

/*
 * Fill AAD, tail and nonce of op->crypto from op->seq and the @iv of the wire, for SAs whose form
 * is not plain, or where the ESP header is not in one piece.
 */
void xf_esp_crypto_fill_odd(struct xf_transform_op *op, const uint8_t *iv);

/*
 * The ESP header as AEADs authenticate it: with ESN the high half of the number is between SPI and
 * low half (RFC 4106 s5, RFC 4309 s5, RFC 7634 s2.1), which is no bytes of the packet in a row.
 * Words as wide as they are read later: no store is waited for.
 */
static inline void xf_esp_fill_aad(struct xf_transform_op *op, const uint8_t *esp, unsigned what)
{
	struct xf_crypto_op *crypto = &op->crypto;
	uint64_t words[2];
	uint32_t spi;

	crypto->aad = esp;
	crypto->aad_len = XF_ESP_HDR_LEN;
	if (XF_LIKELY(!(what & XF_FORM_ESN)))
		return;
	memcpy(&spi, esp, sizeof(spi));
	words[0] = spi | (uint64_t)__builtin_bswap32((uint32_t)(op->seq >> 32)) << 32;
	words[1] = __builtin_bswap32((uint32_t)op->seq);
	memcpy(crypto->aad_mem, words, sizeof(words));
	crypto->aad = crypto->aad_mem;
	crypto->aad_len = XF_ESP_HDR_LEN + 4;
}

/*
 * AAD, nonce, key and direction where the form is plain; text and ICV are the caller's. @esp: ESP
 * header and 8 bytes of IV, or what stands there, in one piece in the packet.
 */
static inline void xf_esp_crypto_fill_plain(struct xf_transform_op *op, const uint8_t *esp,
					    unsigned what, bool encrypt)
{
	struct xf_crypto_op *crypto = &op->crypto;
	uint64_t words[2];
	uint64_t iv;

	op->provider = op->sa->provider;
	crypto->key = op->sa->key;
	crypto->user = op;
	crypto->encrypt = encrypt;
	crypto->status = XF_CRYPTO_ERROR; /* until a provider says better */
	crypto->tail_len = 0;
	xf_esp_fill_aad(op, esp, what);
	memcpy(&iv, esp + XF_ESP_HDR_LEN, sizeof(iv));
	words[0] = op->sa->salt | iv << 32;
	words[1] = iv >> 32;
	memcpy(crypto->nonce, words, sizeof(words));
}

/* For any form. */
static inline void xf_esp_crypto_fill(struct xf_transform_op *op, const struct xf_sa_form *form,
				      const uint8_t *esp, bool encrypt)
{
	xf_esp_crypto_fill_plain(op, esp, form->what, encrypt);
	if (XF_UNLIKELY(!(form->own & XF_ESP_PLAIN)))
		xf_esp_crypto_fill_odd(op, esp + XF_ESP_HDR_LEN);
}

/*
 * Choose where the cipher of @op writes: over the text when that is ours alone, else to fresh
 * memory with @spare bytes behind (crypt is the copy). 0, -ENOBUFS, or -EMSGSIZE: too many
 * segments.
 */
int xf_esp_target(struct xf_transform_op *op, uint32_t spare);

/* The @len bytes at @text are in one piece of @buf, which the packet has for itself: in place. */
static inline void xf_esp_in_place(struct xf_transform_op *op, uint8_t *text, uint32_t len,
				   struct xf_buf *buf)
{
	op->src[0].data = text;
	op->src[0].len = len;
	op->src[0].buf = buf;
	op->crypto.src = op->crypto.dst = op->src;
	op->crypto.nsrc = op->crypto.ndst = 1;
	op->crypto.len = len;
}

/* Put what was written to fresh memory in the place of the old text. 0 or -ENOBUFS. */
int xf_esp_put_text(struct xf_transform_op *op);

/*
 * Transport mode: the headers at @hdr, described by @ip, belong to a packet of @len bytes now, in
 * which the byte at @field names @proto.
 */
void xf_ip_patch(uint8_t *hdr, const struct xf_ip_info *ip, uint32_t field, uint8_t proto,
		 uint32_t len);

/* An IPv4 header without options that was at @from, likewise: nothing is read that was written. */
static inline void xf_ipv4_patch_to(uint8_t *to, const uint8_t *from, uint8_t proto, uint32_t len)
{
	uint32_t first = (xf_get_be32(from) & 0xffff0000u) | (len & 0xffff);
	uint32_t second = xf_get_be32(from + 4);
	uint32_t third = (xf_get_be32(from + 8) & 0xff000000u) | (uint32_t)proto << 16;
	uint32_t saddr = xf_get_be32(from + 12), daddr = xf_get_be32(from + 16);
	uint64_t sum = (uint64_t)first + second + third + saddr + daddr;

	xf_put_be32(to, first);
	xf_put_be32(to + 4, second);
	xf_put_be32(to + 8, third | xf_csum_fold(sum));
	xf_put_be32(to + 12, saddr);
	xf_put_be32(to + 16, daddr);
}

/* What stands in front of ESP in transport mode, and what it is to say. */
struct xf_ip_front {
	uint32_t len; /* of these headers */
	uint32_t field; /* the byte that names what is behind them */
	uint8_t proto;
};

/* Move @front, described by @ip, from @from to @to, which may overlap, and patch it for a packet of
 * @len bytes. */
static inline void xf_ip_move(uint8_t *to, const uint8_t *from, const struct xf_ip_info *ip,
			      struct xf_ip_front front, uint32_t len)
{
	if (XF_LIKELY(ip->family == XF_AF_INET && front.len == XF_IPV4_HDR_LEN)) {
		xf_ipv4_patch_to(to, from, front.proto, len);
		return;
	}
	memmove(to, from, front.len);
	xf_ip_patch(to, ip, front.field, front.proto, len);
}

/*
 * The traffic class of a packet that leaves a tunnel whose outer one was @outer.
 * As xfrm4_remove_tunnel_encap(): CE moves to an inner packet that is ECN capable. One that is
 * not keeps its 00, where RFC 6040 s4.2 would drop it.
 */
static inline uint8_t xf_tunnel_decap_tos(unsigned own, uint8_t outer, uint8_t inner)
{
	uint8_t tos = inner;

	if (XF_LIKELY(!(own & XF_ESP_DECAP_DSCP) && (outer & XF_ECN_MASK) != XF_ECN_CE))
		return inner;
	if (own & XF_ESP_DECAP_DSCP)
		tos = (outer & (uint8_t)~XF_ECN_MASK) | (inner & XF_ECN_MASK);
	if (!(own & XF_ESP_NOECN) && (outer & XF_ECN_MASK) == XF_ECN_CE && (inner & XF_ECN_MASK))
		tos |= XF_ECN_CE;
	return tos;
}

/* Change the traffic class of the packet that @ip describes. 0 or -ENOBUFS. */
int xf_tunnel_set_tos(struct xf_pkt *pkt, struct xf_ip_info *ip, uint8_t tos);

/* Fill in the checksum of the UDP header at @off of @pkt, an IPv6 packet. 0 or -ENOBUFS. */
int xf_udp_set_csum6(struct xf_pkt *pkt, uint32_t off);

#endif
