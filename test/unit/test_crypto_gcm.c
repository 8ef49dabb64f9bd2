/*
 * AES-GCM through every provider against OpenSSL: what the tests of all suites do not reach. Every
 * short length, long ones at random, additional data of any length, chains against guard pages,
 * batches in which keys, lengths, layouts and directions are mixed, and forgeries among them.
 */
#include "crypto_util.h"

#include <sys/mman.h>

#define BATCH_MAX 64
#define TEXT_MAX 65536
#define SHORT_MAX 700 /* around here the kernels of providers change */
#define PAGE 4096

static struct engine reference; /* OpenSSL */

/* A packet: what goes in, what must come out. */
struct frame {
	struct xf_crypto_op op;
	struct xf_key *key;
	struct xf_key *ref_key;
	struct chain src;
	struct chain dst;
	uint8_t *plain; /* TEXT_MAX each */
	uint8_t *cipher;
	uint8_t icv[XF_ICV_MAX];
	uint8_t nonce[XF_NONCE_MAX]; /* before a forgery, as is @aad */
	uint8_t aad[XF_AAD_MAX];
	bool forged;
};

static struct frame frames[BATCH_MAX];
static uint8_t got[TEXT_MAX];

static struct xf_suite random_suite(void)
{
	return (struct xf_suite){ .cipher = XF_CIPHER_AES_GCM,
				  .cipher_key_len = (uint16_t)(16 + 8 * below(3)),
				  .salt_len = 4,
				  .iv_len = 8,
				  .block_len = 1,
				  .icv_len = (uint8_t)(8 + 4 * below(3)) };
}

/* Mostly ESP's additional data, now and then any. */
static uint8_t random_aad_len(void)
{
	if (below(3))
		return below(2) ? 8 : 12;
	return (uint8_t)below(XF_AAD_MAX + 1);
}

static void frame_new_keys(struct frame *frame, const struct xf_crypto_provider *provider)
{
	struct xf_suite suite = random_suite();
	unsigned seed = below(1000);

	frame->key = make_key(&suite, provider, seed);
	frame->ref_key = make_key(&suite, reference.provider, seed);
}

static void frame_free_keys(struct frame *frame)
{
	xf_key_free(frame->key);
	xf_key_free(frame->ref_key);
}

/* Text, additional data and nonce, and what OpenSSL makes of them. */
static void frame_fill(struct frame *frame, uint32_t len)
{
	struct xf_seg src = { .data = frame->plain, .len = len };
	struct xf_seg dst = { .data = frame->cipher, .len = len };
	struct xf_crypto_op op;

	op_init(&frame->op, frame->key, len);
	frame->op.aad_len = random_aad_len();
	fill(frame->op.aad_mem, frame->op.aad_len);
	fill(frame->plain, len);
	op = frame->op;
	op_point(&op);
	op.key = frame->ref_key;
	op.src = &src;
	op.dst = &dst;
	op.nsrc = op.ndst = 1;
	assert_int_equal(run_one(&reference, &op), XF_CRYPTO_OK);
	memcpy(frame->icv, op.icv_mem, sizeof(frame->icv));
	memcpy(frame->nonce, op.nonce, sizeof(frame->nonce));
	memcpy(frame->aad, op.aad_mem, sizeof(frame->aad));
}

/* Change one bit of what decryption looks at. */
static void forge(struct frame *frame)
{
	struct xf_crypto_op *op = &frame->op;
	uint8_t bit = (uint8_t)(1u << below(8));
	unsigned what = below(4);

	frame->forged = true;
	if (what == 0 && op->aad_len) {
		op->aad_mem[below(op->aad_len)] ^= bit;
	} else if (what == 1) {
		op->nonce[below(12)] ^= bit;
	} else if (what == 2 && op->len) {
		uint32_t at = below(op->len);
		unsigned i = 0;

		while (at >= frame->src.segs[i].len)
			at -= frame->src.segs[i++].len;
		frame->src.segs[i].data[at] ^= bit;
	} else {
		op->icv_mem[below(op->key->suite.icv_len)] ^= bit;
	}
}

/* Lay the text out, in at most @max_segs pieces each side. */
static void frame_load(struct frame *frame, unsigned max_segs, bool forgeries)
{
	struct xf_crypto_op *op = &frame->op;
	bool in_place = below(2);

	op->encrypt = below(2);
	op_point(op);
	memcpy(op->nonce, frame->nonce, sizeof(op->nonce));
	memcpy(op->aad_mem, frame->aad, sizeof(op->aad_mem));
	chain_make(&frame->src, op->encrypt ? frame->plain : frame->cipher, op->len, max_segs);
	chain_make(&frame->dst, NULL, op->len, max_segs);
	op->src = frame->src.segs;
	op->nsrc = frame->src.n;
	op->dst = in_place ? frame->src.segs : frame->dst.segs;
	op->ndst = in_place ? frame->src.n : frame->dst.n;
	op->status = 0xff;
	op->user = frame;
	memset(op->icv_mem, 0, sizeof(op->icv_mem));
	if (!op->encrypt)
		memcpy(op->icv_mem, frame->icv, op->key->suite.icv_len);
	frame->forged = false;
	if (forgeries && !op->encrypt && below(3) == 0)
		forge(frame);
}

static void check_icv(const struct frame *frame)
{
	const struct xf_crypto_op *op = &frame->op;
	uint8_t len = op->key->suite.icv_len;

	assert_memory_equal(op->icv_mem, frame->icv, len);
	if (!op->encrypt)
		return;
	for (unsigned i = len; i < XF_ICV_MAX; i++)
		assert_int_equal(op->icv_mem[i], 0);
}

static void frame_check(struct frame *frame)
{
	const struct xf_crypto_op *op = &frame->op;
	bool in_place = op->dst == op->src;

	if (frame->forged) {
		assert_int_equal(op->status, XF_CRYPTO_BAD_ICV);
	} else {
		assert_int_equal(op->status, XF_CRYPTO_OK);
		check_icv(frame);
		chain_read(in_place ? &frame->src : &frame->dst, got);
		assert_memory_equal(got, op->encrypt ? frame->cipher : frame->plain, op->len);
		chain_read(&frame->src, got);
		if (!in_place)
			assert_memory_equal(got, op->encrypt ? frame->plain : frame->cipher,
					    op->len);
	}
	chain_free(&frame->src);
	chain_free(&frame->dst);
	frame->op.user = NULL;
}

/* Submit @n frames together and check all that comes back. */
static void run_batch(struct engine *engine, unsigned n)
{
	struct xf_crypto_op *ops[BATCH_MAX], *done[BATCH_MAX];
	unsigned taken = 0, got_back = 0;

	for (unsigned i = 0; i < n; i++)
		ops[i] = &frames[i].op;
	while (taken < n)
		taken += engine->provider->submit(engine->ctx, ops + taken, n - taken);
	while (got_back < n) {
		unsigned some = engine->provider->complete(engine->ctx, done, BATCH_MAX);

		for (unsigned i = 0; i < some; i++) {
			assert_non_null(done[i]->user);
			frame_check(done[i]->user);
		}
		got_back += some;
	}
}

/* Visit each provider that has AES-GCM here. */
static void each_engine(void (*visit)(struct engine *engine))
{
	const struct xf_suite suite = random_suite();
	unsigned seed = 4106;

	print_message("# seed %u\n", seed);
	for (unsigned p = 0; xf_crypto_providers()[p]; p++) {
		struct engine engine;

		srand(seed);
		if (!engine_open(&engine, xf_crypto_providers()[p]))
			continue;
		if (engine.provider->has(&suite))
			visit(&engine);
		engine_close(&engine);
	}
}

/* Four of the same length make a group, the fifth is left over; one piece or a chain each. */
static void short_lengths(struct engine *engine)
{
	for (uint32_t len = 0; len <= SHORT_MAX; len++) {
		unsigned n = len % 5 + 1;

		for (unsigned i = 0; i < n; i++) {
			frame_new_keys(&frames[i], engine->provider);
			frame_fill(&frames[i], len);
		}
		for (unsigned way = 0; way < 4; way++) {
			for (unsigned i = 0; i < n; i++)
				frame_load(&frames[i], way < 2 ? 1 : MAX_SEGS, way & 1);
			run_batch(engine, n);
		}
		for (unsigned i = 0; i < n; i++)
			frame_free_keys(&frames[i]);
	}
}

static void every_short_length(void **state)
{
	(void)state;
	each_engine(short_lengths);
}

static uint32_t random_len(void)
{
	static const uint32_t common[] = { 20, 68, 68, 132, 260, 580, 1404, 1404 };

	if (below(2))
		return common[below(XF_ARRAY_SIZE(common))];
	if (below(20) == 0)
		return below(TEXT_MAX + 1);
	return below(2) ? below(400) : below(9200);
}

static void mixed(struct engine *engine)
{
	for (unsigned round = 0; round < 60; round++) {
		unsigned n = 1 + below(BATCH_MAX);

		for (unsigned i = 0; i < n; i++) {
			frame_new_keys(&frames[i], engine->provider);
			frame_fill(&frames[i], random_len());
		}
		for (unsigned way = 0; way < 4; way++) {
			for (unsigned i = 0; i < n; i++)
				frame_load(&frames[i], below(2) ? 1 : MAX_SEGS, way & 1);
			run_batch(engine, n);
		}
		for (unsigned i = 0; i < n; i++)
			frame_free_keys(&frames[i]);
	}
}

static void mixed_batches(void **state)
{
	(void)state;
	each_engine(mixed);
}

/* The largest IP packet: counters pass 255 blocks, and 4,095. */
static void largest(struct engine *engine)
{
	for (unsigned i = 0; i < 6; i++) {
		frame_new_keys(&frames[0], engine->provider);
		frame_fill(&frames[0], TEXT_MAX - i);
		for (unsigned way = 0; way < 4; way++) {
			frame_load(&frames[0], way & 1 ? MAX_SEGS : 1, false);
			run_batch(engine, 1);
		}
		frame_free_keys(&frames[0]);
	}
}

static void largest_texts(void **state)
{
	(void)state;
	each_engine(largest);
}

/*
 * Three places that end, or begin, at a page that nobody may touch; the one of a source may only be
 * read then.
 */
#define PLACES 3
#define PLACE_SIZE (4 * PAGE)

static uint8_t *places_new(void)
{
	uint8_t *map = mmap(NULL, PLACES * (PLACE_SIZE + PAGE) + PAGE, PROT_NONE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(map, MAP_FAILED);
	return map;
}

static void places_protect(uint8_t *map, int prot)
{
	for (unsigned i = 0; i < PLACES; i++)
		assert_int_equal(mprotect(map + PAGE + i * (PLACE_SIZE + PAGE), PLACE_SIZE, prot),
				 0);
}

/* Cut @len into up to @max segments, each in a place of its own and against one of its ends. */
static unsigned cut(uint8_t *map, uint32_t len, unsigned max, struct xf_seg *segs)
{
	unsigned n = 1 + below(max);

	for (unsigned i = 0; i < n; i++) {
		uint8_t *place = map + PAGE + i * (PLACE_SIZE + PAGE);
		uint32_t part = i + 1 == n ? len
				: below(2) ? below(len + 1)
					   : below(70) % (len + 1);

		segs[i] = (struct xf_seg){ .data = below(2) ? place : place + PLACE_SIZE - part,
					   .len = part };
		len -= part;
	}
	return n;
}

static void copy_segs(const struct xf_seg *segs, unsigned n, uint8_t *bytes, bool out)
{
	for (unsigned i = 0; i < n; i++) {
		memcpy(out ? bytes : segs[i].data, out ? segs[i].data : bytes, segs[i].len);
		bytes += segs[i].len;
	}
}

/* The same operation so many times in a batch, as providers do several packets together. */
static void run_copies(struct engine *engine, const struct xf_crypto_op *op, unsigned n)
{
	static struct xf_crypto_op copies[BATCH_MAX];
	struct xf_crypto_op *ops[BATCH_MAX];

	for (unsigned i = 0; i < n; i++) {
		copies[i] = *op;
		copies[i].icv = copies[i].icv_mem;
		copies[i].status = 0xff;
		ops[i] = &copies[i];
	}
	assert_int_equal(engine->provider->submit(engine->ctx, ops, n), n);
	for (unsigned got_back = 0; got_back < n;)
		got_back += engine->provider->complete(engine->ctx, ops + got_back, n - got_back);
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(copies[i].status, XF_CRYPTO_OK);
		assert_memory_equal(copies[i].icv_mem, op->icv_mem, op->key->suite.icv_len);
	}
}

static void guarded_round(struct engine *engine, uint8_t *from, uint8_t *to, struct frame *frame)
{
	struct xf_crypto_op *op = &frame->op;
	struct xf_seg src[PLACES], dst[PLACES];
	bool one_piece = below(2);

	op->encrypt = below(2);
	op->src = src;
	op->dst = dst;
	op->nsrc = (uint16_t)cut(from, op->len, one_piece ? 1 : PLACES, src);
	op->ndst = (uint16_t)cut(to, op->len, one_piece ? 1 : PLACES, dst);
	memcpy(op->icv_mem, frame->icv, sizeof(op->icv_mem));
	places_protect(from, PROT_READ | PROT_WRITE);
	copy_segs(src, op->nsrc, op->encrypt ? frame->plain : frame->cipher, false);
	places_protect(from, PROT_READ);
	run_copies(engine, op, 1 + below(6));
	copy_segs(dst, op->ndst, got, true);
	assert_memory_equal(got, op->encrypt ? frame->cipher : frame->plain, op->len);
}

/* The additional data ends at a page that nobody may touch, too. */
static void guarded(struct engine *engine)
{
	uint8_t *from = places_new(), *to = places_new(), *beside = places_new();
	struct frame *frame = &frames[0];
	uint8_t *end = beside + PAGE + PLACE_SIZE;

	places_protect(to, PROT_READ | PROT_WRITE);
	places_protect(beside, PROT_READ | PROT_WRITE);
	for (unsigned i = 0; i < 1500; i++) {
		frame_new_keys(frame, engine->provider);
		frame_fill(frame, below(3) ? below(600) : below(3 * PAGE));
		frame->op.aad = end - frame->op.aad_len;
		memcpy(end - frame->op.aad_len, frame->op.aad_mem, frame->op.aad_len);
		guarded_round(engine, from, to, frame);
		frame_free_keys(frame);
	}
	munmap(from, PLACES * (PLACE_SIZE + PAGE) + PAGE);
	munmap(to, PLACES * (PLACE_SIZE + PAGE) + PAGE);
	munmap(beside, PLACES * (PLACE_SIZE + PAGE) + PAGE);
}

static void nothing_beside_any_segment(void **state)
{
	(void)state;
	each_engine(guarded);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_short_length),
		cmocka_unit_test(mixed_batches),
		cmocka_unit_test(largest_texts),
		cmocka_unit_test(nothing_beside_any_segment),
	};
	int failed;

	for (unsigned i = 0; i < BATCH_MAX; i++) {
		frames[i].plain = malloc(TEXT_MAX);
		frames[i].cipher = malloc(TEXT_MAX);
	}
	engine_open(&reference, &xf_provider_openssl);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	engine_close(&reference);
	for (unsigned i = 0; i < BATCH_MAX; i++) {
		free(frames[i].plain);
		free(frames[i].cipher);
	}
	return failed;
}
