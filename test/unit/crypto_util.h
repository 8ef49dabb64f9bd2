/*
 * crypto_util.h - what the tests of providers share: every suite, random keys, chains, one call.
 *
 * Each segment of a test chain is a heap block of exactly its size, so that a sanitizer sees one
 * byte too many. Threads: one.
 */
#ifndef TEST_CRYPTO_UTIL_H
#define TEST_CRYPTO_UTIL_H

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <xf/crypto.h>

#define MAX_SUITES 160
#define MAX_SEGS 12

/* All suites that the engine knows; returns how many. */
unsigned all_suites(struct xf_suite *out);

uint32_t below(uint32_t n);
void fill(void *p, size_t len);

/* A provider with a context for this thread; false: not usable here. */
struct engine {
	const struct xf_crypto_provider *provider;
	struct xf_crypto_ctx *ctx;
};
bool engine_open(struct engine *engine, const struct xf_crypto_provider *provider);
void engine_close(struct engine *engine);

/* A key of @suite; the bytes come from @seed alone, so that providers can be compared. */
struct xf_key *make_key(const struct xf_suite *suite, const struct xf_crypto_provider *provider,
			unsigned seed);

/* Additional data and ICV are in @op itself: also after it was copied. */
void op_point(struct xf_crypto_op *op);

/* Nonce, aad and tail as ESP has them for the suite of @key, random; no segments yet. */
void op_init(struct xf_crypto_op *op, const struct xf_key *key, uint32_t len);

/* Submit one operation and wait for it. */
enum xf_crypto_status run_one(struct engine *engine, struct xf_crypto_op *op);

/* @len bytes of @data (zeros when NULL) in at most @max_segs random pieces, some of them empty. */
struct chain {
	struct xf_seg segs[MAX_SEGS];
	uint16_t n;
};
void chain_make(struct chain *chain, const uint8_t *data, uint32_t len, unsigned max_segs);
void chain_read(const struct chain *chain, uint8_t *out);
void chain_free(struct chain *chain);

#endif
