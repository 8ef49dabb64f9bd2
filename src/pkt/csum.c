#include <xf/ip.h>

uint16_t xf_csum_fold(uint64_t sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* Sums are of big-endian 16-bit words, so that results go to the wire with xf_put_be16(). */
uint64_t xf_csum_add(uint64_t sum, const void *data, uint32_t len)
{
	const uint8_t *p = data;

	for (; len >= 4; p += 4, len -= 4)
		sum += xf_get_be32(p);
	if (len >= 2) {
		sum += xf_get_be16(p);
		p += 2;
		len -= 2;
	}
	if (len)
		sum += (uint64_t)*p << 8;
	return sum;
}

uint64_t xf_csum_pseudo(const union xf_addr *saddr, const union xf_addr *daddr, uint16_t family,
			uint8_t proto, uint32_t len)
{
	uint32_t n = family == XF_AF_INET ? 4 : 16;

	return xf_csum_add(xf_csum_add((uint64_t)proto + len, saddr->bytes, n), daddr->bytes, n);
}

void xf_ipv4_set_csum(uint8_t *hdr, uint32_t hdr_len)
{
	xf_put_be16(hdr + 10, 0);
	xf_put_be16(hdr + 10, xf_csum_fold(xf_csum_add(0, hdr, hdr_len)));
}

uint64_t xf_pkt_csum(const struct xf_pkt *pkt, uint32_t off, uint32_t len, uint64_t sum)
{
	bool odd = false;

	for (uint32_t i = 0; i < pkt->nsegs && len > 0; i++) {
		const struct xf_seg *seg = &pkt->segs[i];
		uint32_t skip = xf_min_u32(off, seg->len);
		uint32_t n = xf_min_u32(len, seg->len - skip);
		const uint8_t *data = seg->data + skip;

		off -= skip;
		len -= n;
		/* A segment that starts at an odd offset: its first byte is a low half. */
		if (odd && n > 0) {
			sum += *data++;
			n--;
			odd = false;
		}
		sum = xf_csum_add(sum, data, n);
		if (n & 1)
			odd = true;
	}
	return sum;
}
