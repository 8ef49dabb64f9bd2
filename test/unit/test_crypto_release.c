/*
 * What is left of a key in libcrypto's memory when it has been released: nothing, whoever of the
 * providers has used it, and also when it goes while its contexts are at work with another one.
 */
#include "crypto_util.h"

#include <openssl/crypto.h>
#include <signal.h>
#include <sys/mman.h>

#define LEN 64u
#define PAGE 4096u
#define NEEDLE 16u
#define VEIL 0xa5

/* --- all that libcrypto has on the heap --- */

struct block {
	struct block *next;
	struct block **at;
	size_t size;
	size_t spare; /* what follows is aligned as malloc() does it */
};

static struct block *blocks;

static void *counted_malloc(size_t size, const char *file, int line)
{
	struct block *block = malloc(sizeof(*block) + size);

	(void)file, (void)line;
	if (!block)
		return NULL;
	*block = (struct block){ .next = blocks, .at = &blocks, .size = size };
	if (blocks)
		blocks->at = &block->next;
	blocks = block;
	return block + 1;
}

static void counted_free(void *mem, const char *file, int line)
{
	struct block *block;

	(void)file, (void)line;
	if (!mem)
		return;
	block = (struct block *)mem - 1;
	*block->at = block->next;
	if (block->next)
		block->next->at = block->at;
	free(block);
}

static void *counted_realloc(void *mem, size_t size, const char *file, int line)
{
	const struct block *block = mem ? (const struct block *)mem - 1 : NULL;
	void *moved = counted_malloc(size, file, line);

	if (block && moved)
		memcpy(moved, mem, size < block->size ? size : block->size);
	if (moved)
		counted_free(mem, file, line);
	return moved;
}

/* --- memory of keys: some of it is given back in a signal handler --- */

static struct {
	_Alignas(64) uint8_t mem[1 << 16];
	size_t used;
	unsigned live;
} vault;

static void *vault_alloc(void *arg, size_t size)
{
	uint8_t *mem = vault.mem + vault.used;

	(void)arg;
	vault.used += (size + 63) & ~(size_t)63;
	assert_in_range(vault.used, 0, sizeof(vault.mem));
	vault.live++;
	return mem;
}

static void vault_free(void *arg, void *mem, size_t size)
{
	(void)arg, (void)mem, (void)size;
	if (--vault.live == 0)
		vault.used = 0;
}

/* --- a key that is nowhere in clear but where it has to be --- */

struct secret {
	struct xf_key *key;
	uint8_t veiled[NEEDLE]; /* how it begins */
};

static void secret_make(struct secret *secret, const struct xf_suite *suite,
			const struct xf_crypto_provider *provider)
{
	uint8_t cipher_key[XF_CIPHER_KEY_MAX + XF_SALT_MAX];
	uint8_t auth_key[XF_AUTH_KEY_MAX];

	fill(cipher_key, sizeof(cipher_key));
	fill(auth_key, sizeof(auth_key));
	for (unsigned i = 0; i < NEEDLE; i++)
		secret->veiled[i] = cipher_key[i] ^ VEIL;
	assert_int_equal(xf_key_new(suite, provider, cipher_key, auth_key, &secret->key), 0);
	xf_wipe(cipher_key, sizeof(cipher_key));
}

static bool is_at(const uint8_t *mem, const struct secret *secret)
{
	unsigned i = 0;

	while (i < NEEDLE && (mem[i] ^ VEIL) == secret->veiled[i])
		i++;
	return i == NEEDLE;
}

/* How often libcrypto has it. */
static unsigned count(const struct secret *secret)
{
	unsigned n = 0;

	for (struct block *block = blocks; block; block = block->next) {
		const uint8_t *mem = (const uint8_t *)(block + 1);

		for (size_t i = 0; i + NEEDLE <= block->size; i++)
			n += is_at(mem + i, secret);
	}
	return n;
}

/* Both ways, in pieces: what a library for whole packets leaves to libcrypto is among them. */
static void use(struct engine *engine, const struct xf_key *key)
{
	struct xf_crypto_op op;
	struct chain clear, cipher;

	op_init(&op, key, LEN);
	chain_make(&clear, NULL, LEN, 4);
	chain_make(&cipher, NULL, LEN, 4);
	for (unsigned encrypt = 2; encrypt-- > 0;) {
		const struct chain *src = encrypt ? &clear : &cipher;
		const struct chain *dst = encrypt ? &cipher : &clear;

		op.encrypt = encrypt;
		op.src = src->segs;
		op.nsrc = src->n;
		op.dst = dst->segs;
		op.ndst = dst->n;
		assert_int_equal(run_one(engine, &op), XF_CRYPTO_OK);
	}
	chain_free(&clear);
	chain_free(&cipher);
}

#ifdef __x86_64__
#define HAS_AES_NI __builtin_cpu_supports("aes")
#else
#define HAS_AES_NI false
#endif

/* Is the schedule of @suite known to begin with the key itself? */
static bool begins_with_key(const struct xf_suite *suite)
{
	return suite->cipher == XF_CIPHER_CHACHA20_POLY1305 || HAS_AES_NI;
}

static void released(struct engine *engine, const struct xf_suite *suite)
{
	bool openssl = engine->provider == &xf_provider_openssl;
	struct secret secret;

	if (!engine->provider->has(suite) || !suite->cipher_key_len)
		return;
	secret_make(&secret, suite, engine->provider);
	for (unsigned i = 0; i < 4; i++)
		use(engine, secret.key);
	if (openssl && begins_with_key(suite))
		assert_true(count(&secret) > 0);
	xf_key_free(secret.key);
	assert_int_equal(count(&secret), 0);
}

static void nothing_is_left(void **state)
{
	struct xf_suite suites[MAX_SUITES];
	unsigned n = all_suites(suites);

	(void)state;
	for (unsigned p = 0; xf_crypto_providers()[p]; p++) {
		struct engine engine;

		if (!engine_open(&engine, xf_crypto_providers()[p]))
			continue;
		for (unsigned i = 0; i < n; i++)
			released(&engine, &suites[i]);
		engine_close(&engine);
	}
}

/* --- while its contexts are at work --- */

static struct {
	struct xf_key *key; /* goes when the page is read first */
	uint8_t *page;
} trap;

/* In the middle of an operation, so that it is as if another thread did it. */
static void spring(int number)
{
	(void)number;
	xf_key_free(trap.key);
	trap.key = NULL;
	mprotect(trap.page, PAGE, PROT_READ | PROT_WRITE);
}

static const struct xf_suite chacha = { .cipher = XF_CIPHER_CHACHA20_POLY1305,
					.cipher_key_len = 32,
					.salt_len = 4,
					.iv_len = 8,
					.block_len = 1,
					.icv_len = 16 };
static const struct xf_suite gcm = { .cipher = XF_CIPHER_AES_GCM,
				     .cipher_key_len = 16,
				     .salt_len = 4,
				     .iv_len = 8,
				     .block_len = 1,
				     .icv_len = 16 };

static void run_page(struct engine *engine, struct xf_crypto_op *op, uint8_t *out)
{
	struct xf_seg src = { .data = trap.page, .len = LEN };
	struct xf_seg dst = { .data = out, .len = LEN };

	op->src = &src;
	op->dst = &dst;
	op->nsrc = op->ndst = 1;
	assert_int_equal(run_one(engine, op), XF_CRYPTO_OK);
}

static void one_goes_while_another_is_used(void **state)
{
	struct sigaction act = { .sa_handler = spring };
	struct sigaction before;
	struct engine engine;
	struct secret goes, stays;
	struct xf_crypto_op op;
	uint8_t out[2][LEN];

	(void)state;
	assert_true(engine_open(&engine, &xf_provider_openssl));
	secret_make(&goes, &chacha, engine.provider);
	secret_make(&stays, &gcm, engine.provider);
	use(&engine, goes.key);
	op_init(&op, stays.key, LEN);
	trap.key = goes.key;
	trap.page = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(trap.page, MAP_FAILED);
	assert_int_equal(sigaction(SIGSEGV, &act, &before), 0);
	run_page(&engine, &op, out[0]);
	sigaction(SIGSEGV, &before, NULL);
	assert_null(trap.key);
	assert_int_equal(count(&goes), 0);
	run_page(&engine, &op, out[1]);
	assert_memory_equal(out[0], out[1], LEN);
	munmap(trap.page, PAGE);
	xf_key_free(stays.key);
	engine_close(&engine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_left),
		cmocka_unit_test(one_goes_while_another_is_used),
	};

	const struct xf_secret_ops ops = { .alloc = vault_alloc, .free = vault_free };

	xf_secret_set_ops(&ops);
	/* Before libcrypto has asked for memory. */
	if (!CRYPTO_set_mem_functions(counted_malloc, counted_realloc, counted_free))
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
