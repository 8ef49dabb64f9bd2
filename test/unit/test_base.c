#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <xf/hash.h>
#include <xf/heap.h>

/* Every bit of key and seed counts: flipping one changes the hash, and lengths differ. */
static void hash_depends_on_everything(void **state)
{
	uint64_t seed[2] = { 1, 2 };
	uint8_t key[23] = { 0 };
	uint64_t plain = xf_hash(seed, key, sizeof(key));

	(void)state;
	for (unsigned bit = 0; bit < sizeof(key) * 8; bit++) {
		key[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_true(xf_hash(seed, key, sizeof(key)) != plain);
		key[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	for (unsigned bit = 0; bit < 128; bit++) {
		seed[bit / 64] ^= 1ull << bit % 64;
		assert_true(xf_hash(seed, key, sizeof(key)) != plain);
		seed[bit / 64] ^= 1ull << bit % 64;
	}
	for (size_t len = 0; len < sizeof(key); len++)
		assert_true(xf_hash(seed, key, len) != plain);
	assert_true(xf_hash(seed, key, sizeof(key)) == plain);
}

/*
 * SipHash-1-3 of nothing under the key 00 01 ... 0f, and of the alphabet under the key zero,
 * which is what CPython 3.11 has for hash(b"abc...") with PYTHONHASHSEED=0.
 */
static void hash_is_siphash(void **state)
{
	static const uint64_t zero[2];
	uint64_t seed[2];
	uint8_t bytes[16];

	(void)state;
	for (uint8_t i = 0; i < 16; i++)
		bytes[i] = i;
	memcpy(seed, bytes, 16);
	assert_true(xf_hash(seed, bytes, 0) == 0xabac0158050fc4dcull);
	assert_true(xf_hash(zero, "abcdefghijklmnopqrstuvwxyz", 26) == 0x323ccd2fd30709dfull);
}

static void heap_sorts(void **state)
{
	struct xf_heap heap = { 0 };
	struct xf_heap_node nodes[200] = { 0 };
	bool in[200] = { 0 };

	(void)state;
	print_message("# seed 7\n");
	srand(7);
	assert_int_equal(xf_heap_reserve(&heap, 200), 0);
	for (int step = 0; step < 20000; step++) {
		int i = rand() % 200;
		uint64_t least = UINT64_MAX;
		size_t count = 0;

		if (rand() % 2)
			xf_heap_set(&heap, &nodes[i], (uint64_t)rand() % 1000);
		else
			xf_heap_del(&heap, &nodes[i]);
		in[i] = nodes[i].pos != 0;
		for (int k = 0; k < 200; k++) {
			if (in[k] && nodes[k].due_ns < least)
				least = nodes[k].due_ns;
			count += in[k];
		}
		assert_int_equal(heap.count, count);
		if (count)
			assert_true(xf_heap_first(&heap)->due_ns == least);
		else
			assert_null(xf_heap_first(&heap));
	}
	xf_heap_fini(&heap);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hash_depends_on_everything),
		cmocka_unit_test(hash_is_siphash),
		cmocka_unit_test(heap_sorts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
