/*
 * Every suite through every provider: chains against one piece, providers against each other.
 */
#include "crypto_util.h"

#include <sys/mman.h>

#define LEN_MAX 65536

/* One message: plain text, and what a contiguous encryption made of it. */
struct message {
	struct xf_crypto_op op;
	uint8_t plain[LEN_MAX];
	uint8_t cipher[LEN_MAX];
};

static struct message msg; /* too large for the stack */
static uint8_t got[LEN_MAX];

static void message_make(struct engine *engine, const struct xf_key *key, uint32_t len)
{
	struct xf_seg src = { .data = msg.plain, .len = len };
	struct xf_seg dst = { .data = msg.cipher, .len = len };

	fill(msg.plain, len);
	op_init(&msg.op, key, len);
	msg.op.src = &src;
	msg.op.dst = &dst;
	msg.op.nsrc = msg.op.ndst = 1;
	assert_int_equal(run_one(engine, &msg.op), XF_CRYPTO_OK);
}

/* Run the message through random chains, @encrypt or back, in place or not; all must agree. */
static void through_chains(struct engine *engine, bool encrypt, bool in_place)
{
	const uint8_t *from = encrypt ? msg.plain : msg.cipher;
	const uint8_t *to = encrypt ? msg.cipher : msg.plain;
	struct xf_crypto_op op = msg.op;
	struct chain src, dst;
	uint8_t before[XF_ICV_MAX];

	op_point(&op);
	chain_make(&src, from, op.len, MAX_SEGS);
	chain_make(&dst, NULL, op.len, MAX_SEGS);
	op.encrypt = encrypt;
	op.src = src.segs;
	op.nsrc = src.n;
	op.dst = in_place ? src.segs : dst.segs;
	op.ndst = in_place ? src.n : dst.n;
	memcpy(before, op.icv_mem, sizeof(before));
	if (encrypt)
		memset(op.icv_mem, 0, op.key->suite.icv_len);
	assert_int_equal(run_one(engine, &op), XF_CRYPTO_OK);
	chain_read(in_place ? &src : &dst, got);
	assert_memory_equal(got, to, op.len);
	assert_memory_equal(op.icv_mem, before, sizeof(before));
	if (!in_place) {
		chain_read(&src, got);
		assert_memory_equal(got, from, op.len);
	}
	chain_free(&src);
	chain_free(&dst);
}

static void suite_lengths(struct engine *engine, const struct xf_key *key)
{
	static const uint32_t large[] = { 511, 512, 1400, 4096, 9000, 65520 };
	uint32_t block = key->suite.block_len;

	for (uint32_t i = 0; i <= 100 + XF_ARRAY_SIZE(large); i++) {
		uint32_t len = i <= 100 ? i : large[i - 101];

		if (len % block)
			continue;
		message_make(engine, key, len);
		for (unsigned way = 0; way < 4; way++)
			through_chains(engine, way & 1, way & 2);
	}
}

/* Visit each suite that a usable provider has. */
static void each_suite(void (*visit)(struct engine *engine, const struct xf_key *key))
{
	struct xf_suite suites[MAX_SUITES];
	unsigned n = all_suites(suites);
	unsigned seed = 20171108;

	print_message("# seed %u\n", seed);
	for (unsigned p = 0; xf_crypto_providers()[p]; p++) {
		struct engine engine;
		unsigned had = 0;

		srand(seed);
		if (!engine_open(&engine, xf_crypto_providers()[p]))
			continue;
		for (unsigned i = 0; i < n; i++) {
			struct xf_key *key;

			if (!engine.provider->has(&suites[i]))
				continue;
			key = make_key(&suites[i], engine.provider, i);
			visit(&engine, key);
			xf_key_free(key);
			had++;
		}
		print_message("# %s: %u of %u suites\n", engine.provider->name, had, n);
		assert_true(had > 0);
		engine_close(&engine);
	}
}

static void chains_equal_one_piece(void **state)
{
	(void)state;
	each_suite(suite_lengths);
}

static void expect_forgery(struct engine *engine, struct xf_crypto_op op, const char *what)
{
	struct xf_seg dst = { .data = got, .len = op.len };

	op_point(&op);
	op.dst = &dst;
	if (run_one(engine, &op) != XF_CRYPTO_BAD_ICV)
		fail_msg("a changed %s was not noticed", what);
}

/* A bit changed anywhere that the MAC covers, and in the MAC. */
static void suite_forgeries(struct engine *engine, const struct xf_key *key)
{
	struct xf_seg src = { .data = msg.cipher, .len = 64 };
	struct xf_crypto_op op;

	if (!key->suite.icv_len)
		return;
	for (unsigned round = 0; round < 8; round++) {
		message_make(engine, key, 64);
		op = msg.op;
		op.encrypt = false;
		op.src = &src;
		op.icv_mem[round * 8 % key->suite.icv_len] ^= 1;
		expect_forgery(engine, op, "ICV");
		op = msg.op;
		op.encrypt = false;
		op.src = &src;
		op.aad_mem[op.aad_len - 1 - round % op.aad_len] ^= 0x80;
		expect_forgery(engine, op, "aad");
		op.aad_mem[op.aad_len - 1 - round % op.aad_len] ^= 0x80;
		msg.cipher[below(64)] ^= 4;
		expect_forgery(engine, op, "text");
	}
}

/* One byte of ICV lets one forgery of 256 pass: such suites are not for this test. */
static void suite_forgeries_if_long(struct engine *engine, const struct xf_key *key)
{
	if (key->suite.icv_len >= 8)
		suite_forgeries(engine, key);
}

static void forgeries_are_noticed(void **state)
{
	(void)state;
	each_suite(suite_forgeries_if_long);
}

static void suite_tail(struct engine *engine, const struct xf_key *key)
{
	struct xf_seg src = { .data = msg.cipher, .len = 64 };
	struct xf_crypto_op op;

	if (key->suite.icv_len < 8 || xf_suite_is_aead(&key->suite))
		return;
	do
		message_make(engine, key, 64);
	while (!msg.op.tail_len);
	op = msg.op;
	op.encrypt = false;
	op.src = &src;
	op.tail[3] ^= 1;
	expect_forgery(engine, op, "tail");
	op.tail[3] ^= 1;
	op.tail_len = 0;
	expect_forgery(engine, op, "tail length");
}

static void tail_is_under_the_mac(void **state)
{
	(void)state;
	each_suite(suite_tail);
}

static void suite_short_chain(struct engine *engine, const struct xf_key *key)
{
	uint8_t bytes[64] = { 0 };
	struct xf_seg half = { .data = bytes, .len = 32 };
	struct xf_seg whole = { .data = got, .len = 64 };
	struct xf_crypto_op op;

	op_init(&op, key, 64);
	op.nsrc = op.ndst = 1;
	op.src = &half;
	op.dst = &whole;
	assert_int_equal(run_one(engine, &op), XF_CRYPTO_ERROR);
	op.src = &whole;
	op.dst = &half;
	assert_int_equal(run_one(engine, &op), XF_CRYPTO_ERROR);
}

static void short_chains_are_errors(void **state)
{
	(void)state;
	each_suite(suite_short_chain);
}

/* The source is a page that nobody may write; both ways. */
static void suite_read_only(struct engine *engine, const struct xf_key *key)
{
	uint8_t *page =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct xf_seg src[2] = { { .data = page, .len = 100 }, { .data = page + 100, .len = 92 } };
	struct xf_seg dst = { .data = got, .len = 192 };
	struct xf_crypto_op op;

	assert_ptr_not_equal(page, MAP_FAILED);
	message_make(engine, key, 192);
	for (unsigned way = 0; way < 4; way++) {
		bool encrypt = way & 1;

		op = msg.op;
		op.encrypt = encrypt;
		op.src = src;
		op.nsrc = way & 2 ? 2 : 1;
		src[0].len = way & 2 ? 100 : 192;
		op.dst = &dst;
		assert_int_equal(mprotect(page, 4096, PROT_READ | PROT_WRITE), 0);
		memcpy(page, encrypt ? msg.plain : msg.cipher, 192);
		assert_int_equal(mprotect(page, 4096, PROT_READ), 0);
		assert_int_equal(run_one(engine, &op), XF_CRYPTO_OK);
		assert_memory_equal(got, encrypt ? msg.cipher : msg.plain, 192);
	}
	munmap(page, 4096);
}

static void read_only_sources(void **state)
{
	(void)state;
	each_suite(suite_read_only);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(chains_equal_one_piece), cmocka_unit_test(forgeries_are_noticed),
		cmocka_unit_test(tail_is_under_the_mac),  cmocka_unit_test(short_chains_are_errors),
		cmocka_unit_test(read_only_sources),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
