/*
 * seat.h - what lookups compare of each SA, in dense arrays, by number.
 *
 * An SA in a SAD has a seat. Lookups decide by seats and touch an SA only when they have found it.
 * Inbound ones need half a cache line of it, which stands apart: the denser, the more of it is in
 * the caches.
 * Seats lie in chunks that double, so that they never move; the numbers begin at the size of the
 * first chunk, which makes a number's highest bit name its chunk. No seat is number 0.
 *
 * One writer; readers inside an RCU section. A seat is constant from before it is linked in a
 * table until a grace period after it was taken out, but for its SPI.
 */
#ifndef XF_SAD_SEAT_H
#define XF_SAD_SEAT_H

#include <stdatomic.h>

#include <xf/addr.h>

#include "sa.h"

/* The SA's mode, as a template must have it. */
#define XF_SEAT_MODE 7u
/* Of the SA's own selector: its family, and whether it takes less than all of that. */
#define XF_SEAT_V4 (1u << 3)
#define XF_SEAT_V6 (1u << 4)
#define XF_SEAT_NARROW (1u << 5)
#define XF_SEAT_WILDRECV (1u << 6)
#define XF_SEAT_PCPU (1u << 7)
#define XF_SEAT_LARVAL (1u << 8)
/* Which of the SAD's masks its mark was hashed under; 0 = none. */
#define XF_SEAT_MASK_SHIFT 14

struct xf_seat {
	_Alignas(XF_CACHE_LINE) struct xf_sa *sa;
	union xf_addr daddr;
	union xf_addr saddr;
	_Atomic uint32_t spi; /* 0 = none yet: ALLOCSPI gives a larval SA one later */
	uint32_t reqid;
	uint32_t if_id;
	struct xf_mark mark;
	uint8_t family;
	uint8_t proto;
	uint16_t flags; /* XF_SEAT_... */
};

/* What inbound lookups compare. */
struct xf_seat_in {
	_Alignas(32) struct xf_sa *sa;
	union xf_addr daddr;
	_Atomic uint32_t spi; /* likewise */
	uint8_t family;
	uint8_t proto;
	bool marked; /* the mark must match too */
};

/* Its neighbours of the same key, by table; undefined where there are none. */
struct xf_seat_chain {
	_Atomic uint32_t next[XF_SA_TABLES];
	uint32_t prev[XF_SA_TABLES];
};

#define XF_SEAT_FIRST_BITS 6
/* 268 million SAs: the bits above a number in 32 are for tables. */
#define XF_SEAT_BITS 28
#define XF_SEAT_CHUNKS (XF_SEAT_BITS - XF_SEAT_FIRST_BITS)

/* How a chunk's seats are given out. */
struct xf_seat_stock {
	uint32_t used;
	uint32_t fresh; /* so many were given out at least once */
	uint32_t free; /* the first of a list of others, or 0 */
};

struct xf_seats {
	_Atomic(struct xf_seat *) chunks[XF_SEAT_CHUNKS];
	_Atomic(struct xf_seat_in *) ins[XF_SEAT_CHUNKS];
	_Atomic(struct xf_seat_chain *) chains[XF_SEAT_CHUNKS];
	struct xf_seat_stock stock[XF_SEAT_CHUNKS]; /* writer */
};

/* A free seat, or 0: no memory. Its contents are undefined. */
uint32_t xf_seat_take(struct xf_seats *seats);

/* Give @number back, when no reader can see it any more. */
void xf_seat_give(struct xf_seats *seats, uint32_t number);

void xf_seats_fini(struct xf_seats *seats);

static inline unsigned xf_seat_chunk(uint32_t number)
{
	return 31u - (unsigned)__builtin_clz(number) - XF_SEAT_FIRST_BITS;
}

static inline uint32_t xf_seat_place(uint32_t number, unsigned chunk)
{
	return number ^ 1u << (chunk + XF_SEAT_FIRST_BITS);
}

static inline struct xf_seat *xf_seat_at(const struct xf_seats *seats, uint32_t number)
{
	unsigned chunk = xf_seat_chunk(number);

	return atomic_load_explicit(&seats->chunks[chunk], memory_order_acquire) +
	       xf_seat_place(number, chunk);
}

static inline struct xf_seat_in *xf_seat_in_at(const struct xf_seats *seats, uint32_t number)
{
	unsigned chunk = xf_seat_chunk(number);

	return atomic_load_explicit(&seats->ins[chunk], memory_order_acquire) +
	       xf_seat_place(number, chunk);
}

static inline struct xf_seat_chain *xf_seat_chain_at(const struct xf_seats *seats, uint32_t number)
{
	unsigned chunk = xf_seat_chunk(number);

	return atomic_load_explicit(&seats->chains[chunk], memory_order_acquire) +
	       xf_seat_place(number, chunk);
}

#endif
