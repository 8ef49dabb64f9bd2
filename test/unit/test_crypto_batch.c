/*
 * Batches of packets as ESP lays them out, through every provider, against one packet at a time
 * through OpenSSL: keys, suites, sizes and places mixed.
 */
#include "crypto_util.h"

#include <sys/mman.h>

#define BATCH_MAX 64
#define TEXT_MAX 1440

static struct xf_suite suites[MAX_SUITES];
static unsigned nsuites;
static struct engine reference; /* OpenSSL */

/* One packet: in pooled memory [aad | text | room for tail and ICV], and what it must become. */
struct frame {
	struct xf_crypto_op op;
	struct xf_key *key;
	struct xf_key *ref_key;
	struct xf_pkt *pkt;
	struct xf_pkt *out; /* the same as @pkt: in place */
	struct xf_seg src;
	struct xf_seg dst;
	bool bare; /* something else than the aad stands in front of the text */
	uint8_t plain[TEXT_MAX];
	uint8_t cipher[TEXT_MAX];
	uint8_t icv[XF_ICV_MAX];
};

static struct frame frames[BATCH_MAX];

static struct xf_pool *new_pool(void)
{
	const struct xf_pool_config cfg = { .packets = 2 * BATCH_MAX, .small_bufs = 2 * BATCH_MAX };
	struct xf_pool *pool = xf_pool_new(&cfg);

	assert_non_null(pool);
	return pool;
}

/* aad or other bytes, text, and 64 bytes behind it that nobody may change. */
static struct xf_seg lay_out(struct xf_pkt *pkt, const struct frame *frame, const uint8_t *text)
{
	const struct xf_crypto_op *op = &frame->op;
	uint8_t *p = xf_pkt_append(pkt, op->aad_len + op->len + 64);

	assert_non_null(p);
	memset(p, 0x5a, op->aad_len);
	if (!frame->bare)
		memcpy(p, op->aad_mem, op->aad_len);
	memcpy(p + op->aad_len, text, op->len);
	memset(p + op->aad_len + op->len, 0xa5, 64);
	return (struct xf_seg){ .data = p + op->aad_len, .len = op->len, .buf = pkt->segs[0].buf };
}

static void check_around(const struct xf_seg *seg, const struct frame *frame)
{
	const struct xf_crypto_op *op = &frame->op;

	for (unsigned i = 0; i < op->aad_len; i++)
		assert_int_equal(seg->data[(int)i - op->aad_len],
				 frame->bare ? 0x5a : op->aad_mem[i]);
	for (unsigned i = 0; i < 64; i++)
		assert_int_equal(seg->data[op->len + i], 0xa5);
}

static void make_reference(struct frame *frame)
{
	struct xf_seg src = { .data = frame->plain, .len = frame->op.len };
	struct xf_seg dst = { .data = frame->cipher, .len = frame->op.len };
	struct xf_crypto_op op = frame->op;

	op_point(&op);
	op.key = frame->ref_key;
	op.src = &src;
	op.dst = &dst;
	op.nsrc = op.ndst = 1;
	assert_int_equal(run_one(&reference, &op), XF_CRYPTO_OK);
	memcpy(frame->icv, op.icv_mem, sizeof(frame->icv));
}

static void frame_make(struct frame *frame, const struct xf_crypto_provider *provider,
		       unsigned suite)
{
	unsigned seed = below(1000);
	uint32_t block = suites[suite].block_len;

	frame->key = make_key(&suites[suite], provider, seed);
	frame->ref_key = make_key(&suites[suite], reference.provider, seed);
	op_init(&frame->op, frame->key, block * (1 + below(TEXT_MAX / block)));
	fill(frame->plain, frame->op.len);
	make_reference(frame);
}

/* Put the packet into pooled memory, to be encrypted or decrypted. */
static void frame_load(struct frame *frame, struct xf_pool *pool, bool encrypt, bool in_place)
{
	struct xf_crypto_op *op = &frame->op;

	frame->pkt = xf_pkt_new(pool, TEXT_MAX + 160);
	frame->bare = below(4) == 0;
	frame->src = lay_out(frame->pkt, frame, encrypt ? frame->plain : frame->cipher);
	frame->out = frame->pkt;
	frame->dst = frame->src;
	if (!in_place) {
		frame->out = xf_pkt_new(pool, TEXT_MAX + 160);
		frame->dst = lay_out(frame->out, frame, encrypt ? frame->cipher : frame->plain);
		memset(frame->dst.data, 0, op->len);
	}
	op->src = &frame->src;
	op->dst = in_place ? &frame->src : &frame->dst;
	op->nsrc = op->ndst = 1;
	op->encrypt = encrypt;
	op->status = 0xff;
	op->user = frame;
	memset(op->icv_mem, 0, sizeof(op->icv_mem));
	if (!encrypt)
		memcpy(op->icv_mem, frame->icv, sizeof(op->icv_mem));
}

static void frame_check(struct frame *frame)
{
	const struct xf_crypto_op *op = &frame->op;
	bool in_place = frame->out == frame->pkt;

	assert_int_equal(op->status, XF_CRYPTO_OK);
	assert_memory_equal(op->dst->data, op->encrypt ? frame->cipher : frame->plain, op->len);
	assert_memory_equal(op->icv_mem, frame->icv, op->key->suite.icv_len);
	check_around(op->dst, frame);
	if (!in_place) {
		check_around(op->src, frame);
		assert_memory_equal(op->src->data, op->encrypt ? frame->plain : frame->cipher,
				    op->len);
		xf_pkt_free(frame->out);
	}
	xf_pkt_free(frame->pkt);
	frame->op.user = NULL;
}

static void run_batch(struct engine *engine, struct xf_pool *pool, unsigned n, unsigned way)
{
	struct xf_crypto_op *ops[BATCH_MAX];
	struct xf_crypto_op *done[BATCH_MAX];
	unsigned taken = 0;

	for (unsigned i = 0; i < n; i++) {
		frame_load(&frames[i], pool, way & 1, way & 2);
		ops[i] = &frames[i].op;
	}
	while (taken < n)
		taken += engine->provider->submit(engine->ctx, ops + taken, n - taken);
	for (unsigned got = 0; got < n;) {
		unsigned some = engine->provider->complete(engine->ctx, done, 1 + below(BATCH_MAX));

		for (unsigned i = 0; i < some; i++) {
			assert_non_null(done[i]->user);
			frame_check(done[i]->user);
		}
		got += some;
	}
	assert_int_equal(engine->provider->complete(engine->ctx, done, BATCH_MAX), 0);
}

/* A suite that @engine has; every third batch is of one suite, so that lanes fill. */
static unsigned pick_suite(const struct engine *engine, unsigned wanted)
{
	while (!engine->provider->has(&suites[wanted % nsuites]))
		wanted++;
	return wanted % nsuites;
}

static void random_batches(struct engine *engine)
{
	struct xf_pool *pool = new_pool();

	for (unsigned round = 0; round < 3 * nsuites; round++) {
		unsigned n = 1 + round % BATCH_MAX;
		bool same = round % 3 == 0;

		for (unsigned i = 0; i < n; i++)
			frame_make(&frames[i], engine->provider,
				   pick_suite(engine, same ? round / 3 : below(nsuites)));
		for (unsigned way = 0; way < 4; way++)
			run_batch(engine, pool, n, way);
		for (unsigned i = 0; i < n; i++) {
			xf_key_free(frames[i].key);
			xf_key_free(frames[i].ref_key);
		}
	}
	xf_pool_free(pool);
}

static void each_engine(void (*visit)(struct engine *engine))
{
	unsigned seed = 4303;

	print_message("# seed %u\n", seed);
	for (unsigned p = 0; xf_crypto_providers()[p]; p++) {
		struct engine engine;

		srand(seed);
		if (!engine_open(&engine, xf_crypto_providers()[p]))
			continue;
		visit(&engine);
		engine_close(&engine);
	}
}

static void batches_equal_the_reference(void **state)
{
	(void)state;
	each_engine(random_batches);
}

/* Two pages between two that nobody may touch. */
struct guarded {
	uint8_t *map;
	uint8_t *mem;
};
#define GUARDED_SIZE 8192

static struct guarded guarded_new(void)
{
	struct guarded area;

	area.map = mmap(NULL, GUARDED_SIZE + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(area.map, MAP_FAILED);
	area.mem = area.map + 4096;
	assert_int_equal(mprotect(area.mem, GUARDED_SIZE, PROT_READ | PROT_WRITE), 0);
	return area;
}

/* aad and text against the page at the end, or the one in front. */
static struct xf_seg against_guard(struct guarded *area, struct xf_buf *buf,
				   const struct xf_crypto_op *op, bool at_end)
{
	uint32_t whole = op->aad_len + op->len;
	uint8_t *start = at_end ? area->mem + GUARDED_SIZE - whole : area->mem;

	*buf = (struct xf_buf){ .mem = area->mem, .size = GUARDED_SIZE, .refs = 1 };
	memcpy(start, op->aad_mem, op->aad_len);
	return (struct xf_seg){ .data = start + op->aad_len, .len = op->len, .buf = buf };
}

static void guarded_run(struct engine *engine, struct guarded *areas, struct frame *frame,
			unsigned way)
{
	struct xf_crypto_op *op = &frame->op;
	struct xf_buf bufs[2];
	struct xf_seg src = against_guard(&areas[0], &bufs[0], op, way & 2);
	struct xf_seg dst = against_guard(&areas[1], &bufs[1], op, way & 4);

	op->encrypt = way & 1;
	op->src = &src;
	op->dst = &dst;
	op->nsrc = op->ndst = 1;
	memcpy(src.data, op->encrypt ? frame->plain : frame->cipher, op->len);
	memcpy(op->icv_mem, frame->icv, sizeof(op->icv_mem));
	assert_int_equal(run_one(engine, op), XF_CRYPTO_OK);
	assert_memory_equal(dst.data, op->encrypt ? frame->cipher : frame->plain, op->len);
}

/* No byte beside the text is read or written, however the library likes its blocks. */
static void guarded_suites(struct engine *engine)
{
	struct guarded areas[2] = { guarded_new(), guarded_new() };
	struct frame *frame = &frames[0];

	for (unsigned i = 0; i < 40 * nsuites; i++) {
		frame_make(frame, engine->provider, pick_suite(engine, i));
		for (unsigned way = 0; way < 8; way++)
			guarded_run(engine, areas, frame, way);
		xf_key_free(frame->key);
		xf_key_free(frame->ref_key);
	}
	munmap(areas[0].map, GUARDED_SIZE + 8192);
	munmap(areas[1].map, GUARDED_SIZE + 8192);
}

static void nothing_beside_the_text(void **state)
{
	(void)state;
	each_engine(guarded_suites);
}

/* In place, in a buffer of our own that ends with the text; in front there is room, or none. */
static void tight_run(struct engine *engine, struct guarded *area, struct frame *frame,
		      struct xf_pool *pool)
{
	struct xf_crypto_op *op = &frame->op;
	uint32_t room = below(2) ? op->aad_len : 0;
	bool at_end = room || below(2);
	uint8_t *start = at_end ? area->mem + GUARDED_SIZE - room - op->len : area->mem;
	struct xf_buf buf = { .mem = start, .size = room + op->len, .refs = 1, .home = pool };
	struct xf_seg seg = { .data = start + room, .len = op->len, .buf = &buf };

	memset(start, 0x5a, room);
	memcpy(seg.data, frame->plain, op->len);
	op->encrypt = true;
	op->src = op->dst = &seg;
	op->nsrc = op->ndst = 1;
	assert_int_equal(run_one(engine, op), XF_CRYPTO_OK);
	assert_memory_equal(seg.data, frame->cipher, op->len);
	for (uint32_t i = 0; i < room; i++)
		assert_int_equal(start[i], 0x5a);
}

static void tight_suites(struct engine *engine)
{
	struct xf_pool *pool = new_pool();
	struct guarded area = guarded_new();
	struct frame *frame = &frames[0];

	for (unsigned i = 0; i < 20 * nsuites; i++) {
		frame_make(frame, engine->provider, pick_suite(engine, i));
		tight_run(engine, &area, frame, pool);
		xf_key_free(frame->key);
		xf_key_free(frame->ref_key);
	}
	munmap(area.map, GUARDED_SIZE + 8192);
	xf_pool_free(pool);
}

static void buffers_without_room(void **state)
{
	(void)state;
	each_engine(tight_suites);
}

/* With a tail, in a page that cannot be written: @buf says that it is not ours alone. */
static void read_only_run(struct engine *engine, struct guarded *area, const struct xf_buf *like,
			  struct frame *frame)
{
	struct xf_crypto_op *op = &frame->op;
	static uint8_t text[TEXT_MAX];
	struct xf_seg dst = { .data = text, .len = op->len };
	struct xf_buf buf;
	struct xf_seg src;

	assert_int_equal(mprotect(area->mem, GUARDED_SIZE, PROT_READ | PROT_WRITE), 0);
	src = against_guard(area, &buf, op, false);
	if (below(2))
		memset(area->mem, 0x5a, op->aad_len);
	memcpy(src.data, frame->cipher, op->len);
	memcpy(op->icv_mem, frame->icv, sizeof(op->icv_mem));
	buf.home = like->home;
	buf.refs = like->refs;
	assert_int_equal(mprotect(area->mem, GUARDED_SIZE, PROT_READ), 0);
	op->encrypt = false;
	op->src = &src;
	op->dst = &dst;
	op->nsrc = op->ndst = 1;
	assert_int_equal(run_one(engine, op), XF_CRYPTO_OK);
	assert_memory_equal(text, frame->plain, op->len);
}

static void shared_suites(struct engine *engine)
{
	struct xf_pool *pool = new_pool();
	const struct xf_buf shared = { .home = pool, .refs = 2 };
	const struct xf_buf foreign = { .home = NULL, .refs = 1 };
	struct guarded area = guarded_new();
	struct frame *frame = &frames[0];

	for (unsigned i = 0; i < 4 * nsuites; i++) {
		frame_make(frame, engine->provider, pick_suite(engine, i));
		read_only_run(engine, &area, &shared, frame);
		read_only_run(engine, &area, &foreign, frame);
		xf_key_free(frame->key);
		xf_key_free(frame->ref_key);
	}
	munmap(area.map, GUARDED_SIZE + 8192);
	xf_pool_free(pool);
}

static void shared_memory_is_not_written(void **state)
{
	(void)state;
	each_engine(shared_suites);
}

/* More than fits: what is not taken stays the caller's, and is taken later. */
static void overfull(struct engine *engine)
{
	enum { MANY = 1000 };
	static struct xf_crypto_op many[MANY];
	struct xf_crypto_op *ops[MANY];
	struct xf_crypto_op *done[100];
	uint8_t text[16] = { 0 };
	struct xf_seg seg = { .data = text, .len = sizeof(text) };
	struct xf_key *key = make_key(&suites[0], engine->provider, 1);
	unsigned taken = 0, got = 0;

	for (unsigned i = 0; i < MANY; i++) {
		op_init(&many[i], key, sizeof(text));
		many[i].src = many[i].dst = &seg;
		many[i].nsrc = many[i].ndst = 1;
		ops[i] = &many[i];
	}
	taken = engine->provider->submit(engine->ctx, ops, MANY);
	assert_in_range(taken, 1, MANY - 1);
	assert_int_equal(engine->provider->submit(engine->ctx, ops + taken, MANY - taken), 0);
	while (got < MANY) {
		unsigned n = engine->provider->complete(engine->ctx, done, 100);

		for (unsigned i = 0; i < n; i++)
			assert_ptr_equal(done[i], &many[got + i]);
		got += n;
		taken += engine->provider->submit(engine->ctx, ops + taken, MANY - taken);
	}
	xf_key_free(key);
}

static void full_ring(void **state)
{
	(void)state;
	each_engine(overfull);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(batches_equal_the_reference),
		cmocka_unit_test(nothing_beside_the_text),
		cmocka_unit_test(buffers_without_room),
		cmocka_unit_test(shared_memory_is_not_written),
		cmocka_unit_test(full_ring),
	};
	int failed;

	nsuites = all_suites(suites);
	engine_open(&reference, &xf_provider_openssl);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	engine_close(&reference);
	return failed;
}
