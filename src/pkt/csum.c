#include <xf/ip.h>

/*
 * A one's complement sum is the same whatever the byte order that it is made in, but for an
 * exchange of its two bytes at the end (RFC 1071 s2 (B)). So words are added as they lie in
 * memory, 32 bits at a time into 64, which the compiler turns into vector code; the variant for
 * this CPU is chosen when the program is loaded, before ThreadSanitizer is there to watch.
 */
#if defined(__x86_64__) && !defined(__clang__) && !defined(__SANITIZE_THREAD__)
#define FOR_EACH_CPU __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FOR_EACH_CPU
#endif

typedef uint32_t __attribute__((aligned(1), may_alias)) word;

FOR_EACH_CPU static uint64_t add_words(const word *from, uint32_t n)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < n; i++)
		sum += from[i];
	return sum;
}

FOR_EACH_CPU static uint64_t copy_words(word *restrict to, const word *restrict from, uint32_t n)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < n; i++) {
		to[i] = from[i];
		sum += from[i];
	}
	return sum;
}

/* What is left behind the last whole word, as the sum has it: padded with a zero. */
static uint64_t add_rest(const uint8_t *p, uint32_t len)
{
	uint8_t rest[4] = { 0 };
	uint32_t native;

	memcpy(rest, p, len);
	memcpy(&native, rest, sizeof(native));
	return native;
}

/* From the order in memory to that of the wire. At most 17 bits. */
static uint64_t to_wire(uint64_t native)
{
	uint8_t bytes[2];
	uint16_t folded = (uint16_t)~xf_csum_fold(native);

	memcpy(bytes, &folded, sizeof(bytes));
	return xf_get_be16(bytes);
}

/* Headers are short: a call of the vector code costs more than it saves. */
#define SHORT_BYTES 40

static uint64_t add_short(const uint8_t *p, uint32_t words)
{
	uint64_t native = 0;

	for (; words > 0; words--, p += sizeof(word))
		native += *(const word *)(const void *)p;
	return native;
}

uint64_t xf_csum_add(uint64_t sum, const void *data, uint32_t len)
{
	const uint8_t *p = data;
	uint32_t words = len / sizeof(word);
	uint64_t native = len <= SHORT_BYTES ? add_short(data, words) : add_words(data, words);

	if (len % sizeof(word))
		native += add_rest(p + words * sizeof(word), len % sizeof(word));
	return sum + to_wire(native);
}

uint64_t xf_csum_copy(uint64_t sum, void *dst, const void *src, uint32_t len)
{
	uint32_t words = len / sizeof(word);
	uint32_t done = words * (uint32_t)sizeof(word);
	uint64_t native = copy_words(dst, src, words);

	if (len > done) {
		native += add_rest((const uint8_t *)src + done, len - done);
		memcpy((uint8_t *)dst + done, (const uint8_t *)src + done, len - done);
	}
	return sum + to_wire(native);
}

uint64_t xf_csum_swap(uint64_t sum)
{
	uint16_t folded = (uint16_t)~xf_csum_fold(sum);

	return (uint16_t)(folded << 8 | folded >> 8);
}

uint64_t xf_csum_pseudo(const union xf_addr *saddr, const union xf_addr *daddr, uint16_t family,
			uint8_t proto, uint32_t len)
{
	uint32_t n = family == XF_AF_INET ? 4 : 16;

	return xf_csum_add(xf_csum_add((uint64_t)proto + len, saddr->bytes, n), daddr->bytes, n);
}

/* The sum stays in memory's order, as it was made: written so, it is right. */
void xf_ipv4_set_csum(uint8_t *hdr, uint32_t hdr_len)
{
	uint16_t csum = 0;

	memcpy(hdr + 10, &csum, sizeof(csum));
	csum = xf_csum_fold(add_short(hdr, hdr_len / sizeof(word)));
	memcpy(hdr + 10, &csum, sizeof(csum));
}

uint64_t xf_pkt_csum(const struct xf_pkt *pkt, uint32_t off, uint32_t len, uint64_t sum)
{
	bool odd = false;

	for (uint32_t i = 0; i < pkt->nsegs && len > 0; i++) {
		const struct xf_seg *seg = &pkt->segs[i];
		uint32_t skip = xf_min_u32(off, seg->len);
		uint32_t n = xf_min_u32(len, seg->len - skip);
		uint64_t part;

		off -= skip;
		len -= n;
		if (n == 0)
			continue;
		/* In a segment that starts at an odd offset, high and low bytes change places. */
		part = xf_csum_add(0, seg->data + skip, n);
		sum += odd ? xf_csum_swap(part) : part;
		odd ^= n & 1;
	}
	return sum;
}
