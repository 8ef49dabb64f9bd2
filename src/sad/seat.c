/*
 * The lowest chunk with a free seat is taken from, so that the upper ones, which are large, become
 * empty when SAs go away, and their memory returns.
 */
#include <stdlib.h>

#include <xf/huge.h>

#include "seat.h"

/*
 * Outbound: no byte is free, and five bits of flags are, for SAs that suit some packets only: those
 * of a worker or a device (offload to a device that the route must lead to).
 * Inbound: the last byte is free, and seven bits beside marked, for what must match but a mark.
 */
_Static_assert(sizeof(struct xf_seat) == XF_CACHE_LINE, "an outbound lookup reads one line");
_Static_assert(sizeof(struct xf_seat_in) == XF_CACHE_LINE / 2, "an inbound one half of one");

static uint32_t chunk_size(unsigned chunk)
{
	return 1u << (chunk + XF_SEAT_FIRST_BITS);
}

/* All three were allocated, or are NULL. */
static void memory_free(struct xf_seat *mem, struct xf_seat_in *ins, struct xf_seat_chain *chains,
			unsigned chunk)
{
	xf_huge_free(mem, chunk_size(chunk) * sizeof(*mem));
	xf_huge_free(ins, chunk_size(chunk) * sizeof(*ins));
	free(chains);
}

/* Most seats have no neighbours: their chains are memory that nobody has touched. */
static bool chunk_new(struct xf_seats *seats, unsigned chunk)
{
	uint32_t size = chunk_size(chunk);
	struct xf_seat *mem = xf_huge_alloc(size * sizeof(*mem));
	struct xf_seat_in *ins = xf_huge_alloc(size * sizeof(*ins));
	struct xf_seat_chain *chains = calloc(size, sizeof(*chains));

	if (!mem || !ins || !chains) {
		memory_free(mem, ins, chains, chunk);
		return false;
	}
	seats->stock[chunk] = (struct xf_seat_stock){ 0 };
	atomic_store_explicit(&seats->chains[chunk], chains, memory_order_release);
	atomic_store_explicit(&seats->ins[chunk], ins, memory_order_release);
	atomic_store_explicit(&seats->chunks[chunk], mem, memory_order_release);
	return true;
}

static void chunk_free(struct xf_seats *seats, unsigned chunk)
{
	memory_free(atomic_load_explicit(&seats->chunks[chunk], memory_order_relaxed),
		    atomic_load_explicit(&seats->ins[chunk], memory_order_relaxed),
		    atomic_load_explicit(&seats->chains[chunk], memory_order_relaxed), chunk);
	atomic_store_explicit(&seats->chains[chunk], NULL, memory_order_relaxed);
	atomic_store_explicit(&seats->ins[chunk], NULL, memory_order_relaxed);
	atomic_store_explicit(&seats->chunks[chunk], NULL, memory_order_relaxed);
}

static bool has_chunk(const struct xf_seats *seats, unsigned chunk)
{
	return atomic_load_explicit(&seats->chunks[chunk], memory_order_relaxed) != NULL;
}

/* A free seat keeps the number of the next one where its SPI was. */
static uint32_t take_from(struct xf_seats *seats, unsigned chunk)
{
	struct xf_seat_stock *stock = &seats->stock[chunk];
	uint32_t number = stock->free;

	if (number)
		stock->free =
			atomic_load_explicit(&xf_seat_at(seats, number)->spi, memory_order_relaxed);
	else
		number = chunk_size(chunk) | stock->fresh++;
	stock->used++;
	return number;
}

uint32_t xf_seat_take(struct xf_seats *seats)
{
	for (unsigned i = 0; i < XF_SEAT_CHUNKS; i++) {
		if (!has_chunk(seats, i) && !chunk_new(seats, i))
			return 0;
		if (seats->stock[i].used < chunk_size(i))
			return take_from(seats, i);
	}
	return 0;
}

/* One chunk is kept at least, so that a single SA that comes and goes costs no allocation. */
void xf_seat_give(struct xf_seats *seats, uint32_t number)
{
	unsigned chunk = xf_seat_chunk(number);
	struct xf_seat_stock *stock = &seats->stock[chunk];

	atomic_store_explicit(&xf_seat_at(seats, number)->spi, stock->free, memory_order_relaxed);
	stock->free = number;
	if (--stock->used == 0 && chunk > 0)
		chunk_free(seats, chunk);
}

void xf_seats_fini(struct xf_seats *seats)
{
	for (unsigned i = 0; i < XF_SEAT_CHUNKS; i++) {
		if (has_chunk(seats, i))
			chunk_free(seats, i);
	}
}
