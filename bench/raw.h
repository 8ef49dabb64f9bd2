/*
 * raw.h - the cipher without anything around it: what ESP's cost is held against.
 *
 * AES-128-GCM on one piece of memory, in place, 8 bytes of associated data, 16 of tag, by a direct
 * call of the library that the engine's preferred provider uses. One thread.
 */
#ifndef BENCH_RAW_H
#define BENCH_RAW_H

#include <stdbool.h>
#include <stdint.h>

struct raw;

extern const char *const raw_name;

/* NULL: the library does not run here. */
struct raw *raw_new(const uint8_t key[16]);
void raw_free(struct raw *raw);
void raw_seal(struct raw *raw, uint8_t *text, uint32_t len, const uint8_t nonce[12]);
void raw_open(struct raw *raw, uint8_t *text, uint32_t len, const uint8_t nonce[12]);

#endif
