/*
 * base.h - what every module needs: wire integers, small helpers.
 *
 * Threads: everything here is pure. Units: lengths are bytes. Integers are in host byte order
 * except where a name ends in _be.
 */
#ifndef XF_BASE_H
#define XF_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#define XF_CACHE_LINE 64
#define XF_NSEC_PER_SEC 1000000000ull

#define XF_ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define XF_LIKELY(x) __builtin_expect(!!(x), 1)
#define XF_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define XF_CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define XF_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
/* A function that each caller has a copy of, made for its constant arguments. */
#define XF_INLINE static inline __attribute__((always_inline))

/* Wire integers: unaligned, big endian. */
static inline uint16_t xf_get_be16(const void *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return __builtin_bswap16(v);
}

static inline uint32_t xf_get_be32(const void *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return __builtin_bswap32(v);
}

static inline uint64_t xf_get_be64(const void *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return __builtin_bswap64(v);
}

static inline void xf_put_be16(void *p, uint16_t v)
{
	v = __builtin_bswap16(v);
	memcpy(p, &v, sizeof(v));
}

static inline void xf_put_be32(void *p, uint32_t v)
{
	v = __builtin_bswap32(v);
	memcpy(p, &v, sizeof(v));
}

static inline void xf_put_be64(void *p, uint64_t v)
{
	v = __builtin_bswap64(v);
	memcpy(p, &v, sizeof(v));
}

static inline uint32_t xf_min_u32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* @v rounded up to a multiple of @align, which is a power of two. */
static inline uint32_t xf_align_up(uint32_t v, uint32_t align)
{
	return (v + align - 1) & ~(align - 1);
}

/* Overwrite @len bytes at @p with zeros; the compiler does not leave this out. */
void xf_wipe(void *p, size_t len);

/* Compare in a time that does not depend on the contents: true when equal. */
bool xf_equal_const_time(const void *a, const void *b, size_t len);

#ifdef __cplusplus
}
#endif

#endif
