/* Sums against a byte-by-byte one, at every length and offset: the vector code has many ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "packets.h"

#define LONGEST 2200

static uint8_t data[LONGEST + 64];
static uint8_t copy[LONGEST + 64 + 2];

/* RFC 1071: 16-bit words, an odd last byte padded with zero. */
static uint16_t naive(const uint8_t *p, uint32_t len)
{
	uint32_t sum = 0;

	for (uint32_t i = 0; i < len; i++) {
		sum += i & 1 ? p[i] : (uint32_t)p[i] << 8;
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return (uint16_t)~sum;
}

static void sums_of_every_length_and_offset(void **state)
{
	(void)state;
	packets_fill(data, sizeof(data));
	for (uint32_t len = 0; len <= LONGEST; len += len < 300 ? 1 : 97)
		for (uint32_t off = 0; off<64; off += len> 300 ? 7 : 1)
			assert_int_equal(xf_csum_fold(xf_csum_add(0, data + off, len)),
					 naive(data + off, len));
}

static void a_sum_of_ones_and_of_zeros(void **state)
{
	(void)state;
	memset(data, 0xff, sizeof(data));
	for (uint32_t len = 0; len < 300; len++)
		assert_int_equal(xf_csum_fold(xf_csum_add(0, data, len)), naive(data, len));
	memset(data, 0, sizeof(data));
	assert_int_equal(xf_csum_fold(xf_csum_add(0, data, 100)), 0xffff);
}

/* Longer than the vector code adds at once, of bytes that take its lanes to either end. */
static void long_sums_do_not_overflow(void **state)
{
	static const uint8_t fills[] = { 0x00, 0x7f, 0x80, 0xff };
	const uint32_t len = 3 * 65536 + 5;
	uint8_t *from = malloc(len), *to = malloc(len);

	(void)state;
	assert_true(from && to);
	for (unsigned i = 0; i < XF_ARRAY_SIZE(fills); i++) {
		memset(from, fills[i], len);
		assert_int_equal(xf_csum_fold(xf_csum_add(0, from, len)), naive(from, len));
		assert_int_equal(xf_csum_fold(xf_csum_copy(0, to, from, len)), naive(from, len));
		assert_memory_equal(from, to, len);
	}
	free(from);
	free(to);
}

static void sums_go_on(void **state)
{
	(void)state;
	packets_fill(data, sizeof(data));
	for (uint32_t cut = 0; cut <= 128; cut++) {
		uint64_t first = xf_csum_add(0, data, cut);
		uint64_t second = xf_csum_add(0, data + cut, 129 - cut);

		/* Behind an odd number of bytes high and low change places. */
		if (cut & 1)
			second = xf_csum_swap(second);
		assert_int_equal(xf_csum_fold(first + second), naive(data, 129));
	}
}

static void a_copy_is_summed_and_ends_where_it_should(void **state)
{
	(void)state;
	packets_fill(data, sizeof(data));
	for (uint32_t len = 0; len <= LONGEST; len += len < 300 ? 1 : 97) {
		uint32_t off = len % 37;

		memset(copy, 0xa5, sizeof(copy));
		assert_int_equal(xf_csum_fold(xf_csum_copy(0, copy + 1, data + off, len)),
				 naive(data + off, len));
		assert_memory_equal(copy + 1, data + off, len);
		assert_int_equal(copy[0], 0xa5);
		assert_int_equal(copy[len + 1], 0xa5);
	}
}

static void chains_are_summed_as_one(void **state)
{
	struct xf_pool *pool = packets_pool();

	(void)state;
	for (unsigned round = 0; round < 2000; round++) {
		uint32_t len = 1 + packets_below(1500);
		uint32_t off = packets_below(len);
		uint32_t n = packets_below(len - off + 1);
		struct xf_pkt *pkt = packets_new(pool, SHAPE_CHAIN, data, len);

		assert_int_equal(xf_csum_fold(xf_pkt_csum(pkt, off, n, 0)), naive(data + off, n));
		xf_pkt_free(pkt);
	}
	packets_pool_done(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sums_of_every_length_and_offset),
		cmocka_unit_test(a_sum_of_ones_and_of_zeros),
		cmocka_unit_test(long_sums_do_not_overflow),
		cmocka_unit_test(sums_go_on),
		cmocka_unit_test(a_copy_is_summed_and_ends_where_it_should),
		cmocka_unit_test(chains_are_summed_as_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
