#include <xf/base.h>

void xf_wipe(void *p, size_t len)
{
	memset(p, 0, len);
	__asm__ volatile("" : : "r"(p) : "memory");
}

bool xf_equal_const_time(const void *a, const void *b, size_t len)
{
	const uint8_t *p = a;
	const uint8_t *q = b;
	uint64_t diff = 0;

	for (; len >= sizeof(uint64_t); len -= sizeof(uint64_t)) {
		uint64_t x, y;

		memcpy(&x, p, sizeof(x));
		memcpy(&y, q, sizeof(y));
		diff |= x ^ y;
		/* Nothing is known of it here, so that no compiler leaves early. */
		__asm__ volatile("" : "+r"(diff));
		p += sizeof(x);
		q += sizeof(y);
	}
	while (len--)
		diff |= (uint64_t)(*p++ ^ *q++);
	return diff == 0;
}
