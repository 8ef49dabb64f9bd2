/*
 * hash.h - a seeded hash for tables whose keys an outsider chooses.
 *
 * SipHash-1-3 (Aumasson, Bernstein): without the seed nobody can aim keys at one bucket. Pure.
 */
#ifndef XF_HASH_H
#define XF_HASH_H

#include <xf/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Hash @len bytes at @data. Padding inside of a struct must be zero. */
uint64_t xf_hash(const uint64_t seed[2], const void *data, size_t len);

#ifdef __cplusplus
}
#endif

#endif
