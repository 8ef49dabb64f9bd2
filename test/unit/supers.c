#include "supers.h"

static uint32_t ip_len(uint16_t family)
{
	return family == XF_AF_INET ? 20 : 40;
}

static uint32_t l4_len(const struct super *s)
{
	return s->proto == XF_IPPROTO_TCP ? 20 + s->options_len : 8;
}

void supers_random(struct super *s, uint32_t payload_max)
{
	*s = (struct super){ .family = packets_below(2) ? XF_AF_INET : XF_AF_INET6,
			     .proto = packets_below(3) ? XF_IPPROTO_TCP : XF_IPPROTO_UDP,
			     .tos = (uint8_t)packets_below(256),
			     .ttl = (uint8_t)(1 + packets_below(255)),
			     .df = packets_below(2),
			     .id = (uint16_t)packets_below(65536),
			     .sport = (uint16_t)packets_below(65536),
			     .dport = (uint16_t)packets_below(65536),
			     .seq = packets_below(2) ? 0xfffff000u + packets_below(8192)
						     : packets_below(1u << 30),
			     .ack = packets_below(1u << 30),
			     .window = (uint16_t)packets_below(65536),
			     .flow_label = packets_below(1u << 20) };
	s->flags = (uint8_t)(0x10 | (packets_below(2) ? 0x08 : 0) | (packets_below(4) ? 0 : 0x01) |
			     (packets_below(4) ? 0 : 0x80) | (packets_below(4) ? 0 : 0x40));
	s->options_len = packets_below(3) ? 12 : 4 * packets_below(11);
	s->gso_size = packets_below(4) ? 500 + packets_below(1000) : 1 + packets_below(200);
	s->payload_len = 1 + packets_below(payload_max);
	if (s->payload_len > 60 * s->gso_size)
		s->payload_len = 1 + packets_below(60 * s->gso_size);
}

/* RFC 1071, byte by byte. */
static uint32_t add(uint32_t sum, const uint8_t *p, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++)
		sum += i & 1 ? p[i] : (uint32_t)p[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static uint32_t pseudo(const uint8_t *ip, uint32_t l4, uint8_t proto, uint32_t len)
{
	uint8_t tail[4] = { (uint8_t)(len >> 8), (uint8_t)len, 0, proto };
	uint32_t sum = l4 == 20 ? add(0, ip + 12, 8) : add(0, ip + 8, 32);

	return add(sum, tail, 4);
}

static void write_l4(const struct super *s, uint8_t *l4)
{
	xf_put_be16(l4, s->sport);
	xf_put_be16(l4 + 2, s->dport);
	if (s->proto == XF_IPPROTO_UDP) {
		xf_put_be16(l4 + 4, (uint16_t)(8 + s->payload_len));
		return;
	}
	xf_put_be32(l4 + 4, s->seq);
	xf_put_be32(l4 + 8, s->ack);
	l4[12] = (uint8_t)((20 + s->options_len) / 4 << 4);
	l4[13] = s->flags;
	xf_put_be16(l4 + 14, s->window);
	xf_put_be16(l4 + 18, 0);
	packets_fill(l4 + 20, s->options_len);
}

uint32_t supers_write(const struct super *s, uint8_t *out)
{
	uint32_t l4 = ip_len(s->family);
	uint32_t len = l4_len(s) + s->payload_len;
	struct test_ip ip = { .family = s->family,
			      .proto = s->proto,
			      .tos = s->tos,
			      .ttl = s->ttl,
			      .df = s->df,
			      .id = s->id,
			      .flow_label = s->flow_label };

	packets_ip(out, &ip, len);
	write_l4(s, out + l4);
	xf_put_be16(out + l4 + (s->proto == XF_IPPROTO_TCP ? 16 : 6),
		    (uint16_t)pseudo(out, l4, s->proto, len));
	packets_fill(out + l4 + l4_len(s), s->payload_len);
	return l4 + len;
}

uint32_t supers_count(const struct super *s)
{
	return (s->payload_len + s->gso_size - 1) / s->gso_size;
}

void supers_sum(uint8_t *p, uint32_t len)
{
	uint32_t l4 = p[0] >> 4 == 4 ? 20 : 40;
	bool tcp = (l4 == 20 ? p[9] : p[6]) == XF_IPPROTO_TCP;
	uint8_t *field = p + l4 + (tcp ? 16 : 6);
	uint16_t csum;

	if (l4 == 20) {
		xf_put_be16(p + 10, 0);
		xf_put_be16(p + 10, (uint16_t)~add(0, p, 20));
	}
	xf_put_be16(field, 0);
	csum = (uint16_t)~add(pseudo(p, l4, tcp ? 6 : 17, len - l4), p + l4, len - l4);
	xf_put_be16(field, (uint16_t)(csum || tcp ? csum : 0xffff));
}

uint32_t supers_cut_bytes(const uint8_t *whole, uint32_t len, uint32_t gso_size, uint32_t i,
			  uint8_t *out)
{
	uint32_t l4 = whole[0] >> 4 == 4 ? 20 : 40;
	bool tcp = (l4 == 20 ? whole[9] : whole[6]) == XF_IPPROTO_TCP;
	uint32_t hdr = l4 + (tcp ? (whole[l4 + 12] >> 4) * 4u : 8);
	uint32_t off = i * gso_size;
	uint32_t n = xf_min_u32(gso_size, len - hdr - off);
	bool last = hdr + off + n == len;

	memcpy(out, whole, hdr);
	memcpy(out + hdr, whole + hdr + off, n);
	if (l4 == 20) {
		xf_put_be16(out + 2, (uint16_t)(hdr + n));
		xf_put_be16(out + 4, (uint16_t)(xf_get_be16(whole + 4) + i));
	} else {
		xf_put_be16(out + 4, (uint16_t)(hdr + n - 40));
	}
	if (tcp) {
		xf_put_be32(out + l4 + 4, xf_get_be32(whole + l4 + 4) + off);
		if (i > 0)
			out[l4 + 13] &= 0x7f;
		if (!last)
			out[l4 + 13] &= (uint8_t)~0x09;
	} else {
		xf_put_be16(out + l4 + 4, (uint16_t)(8 + n));
	}
	supers_sum(out, hdr + n);
	return hdr + n;
}

uint32_t supers_cut(const struct super *s, const uint8_t *whole, uint32_t i, uint8_t *out)
{
	return supers_cut_bytes(whole, ip_len(s->family) + l4_len(s) + s->payload_len, s->gso_size,
				i, out);
}

uint32_t supers_route(uint8_t *p, uint32_t len)
{
	uint8_t *route = p + 40;

	memmove(route + SUPERS_ROUTE_LEN, route, len - 40);
	memset(route, 0, SUPERS_ROUTE_LEN);
	route[0] = p[6];
	route[1] = SUPERS_ROUTE_LEN / 8 - 1;
	route[2] = 2; /* RFC 6275 s6.4.1 */
	route[3] = 1;
	memcpy(route + 8, p + 24, 16);
	p[6] = 43;
	p[24 + 15] ^= 0x55;
	xf_put_be16(p + 4, (uint16_t)(xf_get_be16(p + 4) + SUPERS_ROUTE_LEN));
	return len + SUPERS_ROUTE_LEN;
}

void supers_mark(const struct super *s, struct xf_pkt *pkt)
{
	pkt->gso_type = XF_GSO_UDP;
	if (s->proto == XF_IPPROTO_TCP)
		pkt->gso_type = s->family == XF_AF_INET ? XF_GSO_TCP4 : XF_GSO_TCP6;
	pkt->gso_size = (uint16_t)s->gso_size;
	/* CWR goes with the first packet whether the sender says so or not. */
	pkt->gso_ecn = s->proto == XF_IPPROTO_TCP && (s->flags & 0x80) && packets_below(2);
	pkt->csum_start = (uint16_t)ip_len(s->family);
	pkt->csum_offset = s->proto == XF_IPPROTO_TCP ? 16 : 6;
}
