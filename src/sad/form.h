/*
 * form.h - what each packet asks of an SA's configuration, worked out once, when it is published.
 *
 * A form stands in front of the configuration that it was made from: one pointer names both, and
 * they are replaced together. Constant from then on. Lengths are bytes.
 */
#ifndef XF_SAD_FORM_H
#define XF_SAD_FORM_H

#include <xf/rcu.h>
#include <xf/sa.h>

/* The longest outer IP header, UDP header, SPI. */
#define XF_FORM_HDR_MAX (40 + 8 + 4)

struct xf_sa_form {
	/* What stands in front of the sequence number, zero where packets differ: the outer IP
	 * header of a tunnel, the UDP header, the SPI. */
	uint8_t hdr[XF_FORM_HDR_MAX];
	uint8_t outer_len; /* of that IP header; 0 in transport mode */
	uint8_t udp_len;
	uint8_t iv_len;
	uint8_t icv_len;
	uint8_t gap_len; /* from the first byte that is added to the first that is encrypted */
	uint8_t align_mask; /* payload, padding and trailer together: a power of two, less one */
	uint8_t block_mask; /* of the cipher: its block length, less one */
	uint8_t salt_len;
	uint8_t mode;
	uint8_t flags; /* enum xf_sa_flag */
	/* A nonce of 4 and 8 bytes, and a MAC over SPI and sequence number as they stand. */
	bool plain;

	/* The second line. */
	_Alignas(XF_CACHE_LINE) uint64_t soft_bytes;
	uint64_t hard_bytes;
	uint64_t soft_packets;
	uint64_t hard_packets;
	uint64_t last_seq; /* that may be handed out, counted in 64 bits */
	struct xf_mark set_mark;
	uint32_t hdr_sum; /* of the words of the outer IPv4 header, as hdr has them */
	uint32_t tfc_pad;
	uint16_t family; /* of the outer addresses */
	uint8_t dir;
	uint8_t proto;
	uint8_t encap_type; /* 0: none */
	uint8_t dscp_mask; /* what the outer header takes of the inner traffic class */
	bool takes_all; /* the SA's own selector says nothing */
};

_Static_assert(sizeof(struct xf_sa_form) == 2 * XF_CACHE_LINE, "a form is two cache lines");

/* A published configuration, with its form. */
struct xf_sa_config_box {
	struct xf_sa_form form;
	struct xf_sa_config cfg;
	struct xf_rcu_head rcu; /* until its readers have left it */
};

static inline const struct xf_sa_form *xf_form_of(const struct xf_sa_config *cfg)
{
	return &XF_CONTAINER_OF(cfg, struct xf_sa_config_box, cfg)->form;
}

/* The form of @cfg. */
void xf_form_make(const struct xf_sa_config *cfg, struct xf_sa_form *out);

#endif
