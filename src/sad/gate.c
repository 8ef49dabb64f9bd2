/*
 * SPIs of our own choosing and the gates that they lead to: larval.c takes gates for ALLOCSPI,
 * link.c opens, shuts and gives them back (docs/decisions/0030).
 *
 * A gate that was given back rests until XF_GATE_RESTING others rest behind it, and so does each
 * SPI of it: a peer that still sends to a deleted SA, or an IKE daemon that still names one, must
 * not meet a stranger. Gates that were never given out go first, while there are any.
 *
 * When all gates have been given back the array shrinks to XF_GATES_KEPT. A gate beyond is taken
 * again only when more than XF_GATES_KEPT - XF_GATE_RESTING were taken since: it has rested too.
 */
#include <stdlib.h>

#include <xf/hash.h>
#include <xf/huge.h>

#include "gate.h"

#define FIRST_COUNT 16u
#define COUNT_MAX (1u << XF_GATE_BITS)

_Static_assert(XF_GATES_KEPT >= 2 * XF_GATE_RESTING, "a gate that was forgotten has rested");

/* Of an odd number modulo 2^32, by Newton's steps: each doubles the bits that are right. */
static uint32_t inverse_of(uint32_t odd)
{
	uint32_t x = odd;

	for (unsigned bits = 3; bits < 32; bits *= 2)
		x *= 2 - odd * x;
	return x;
}

void xf_gates_init(struct xf_gates *gates, const uint64_t seed[2])
{
	static const char label[] = "gates";

	*gates = (struct xf_gates){ 0 };
	for (unsigned i = 0; i < XF_GATE_ROUNDS; i++) {
		const uint64_t own[2] = { seed[0] + i, seed[1] };
		uint64_t secret = xf_hash(own, label, sizeof(label));

		gates->rounds[i].factor = (uint32_t)secret | 1;
		gates->rounds[i].inverse = inverse_of((uint32_t)secret | 1);
		gates->rounds[i].addend = (uint32_t)(secret >> 32);
	}
}

static struct xf_gate_array *current(const struct xf_gates *gates)
{
	return atomic_load_explicit(&gates->array, memory_order_relaxed);
}

static void array_free(struct xf_gate_array *array)
{
	if (array)
		xf_huge_free(array->gates, array->count * sizeof(array->gates[0]));
	free(array);
}

static void array_free_deferred(struct xf_rcu_head *head)
{
	array_free(XF_CONTAINER_OF(head, struct xf_gate_array, rcu));
}

void xf_gates_fini(struct xf_gates *gates)
{
	array_free(current(gates));
}

static struct xf_gate_array *array_new(uint32_t count)
{
	struct xf_gate_array *array = malloc(sizeof(*array));

	if (!array)
		return NULL;
	array->count = count;
	array->gates = xf_huge_alloc(count * sizeof(array->gates[0]));
	if (!array->gates) {
		free(array);
		return NULL;
	}
	return array;
}

static void publish(struct xf_gates *gates, struct xf_gate_array *array)
{
	struct xf_gate_array *old = current(gates);

	atomic_store_explicit(&gates->array, array, memory_order_release);
	if (old)
		xf_rcu_defer(&old->rcu, array_free_deferred);
}

static bool grow(struct xf_gates *gates)
{
	const struct xf_gate_array *old = current(gates);
	uint32_t count = old ? old->count : 0;
	struct xf_gate_array *new;

	if (count == COUNT_MAX)
		return false;
	new = array_new(count ? count * 2 : FIRST_COUNT);
	if (!new)
		return false;
	if (old)
		memcpy(new->gates, old->gates, count * sizeof(new->gates[0]));
	publish(gates, new);
	return true;
}

static uint32_t resting(const struct xf_gates *gates)
{
	return gates->fresh - gates->used;
}

static bool has_fresh(struct xf_gates *gates)
{
	const struct xf_gate_array *array = current(gates);

	return (array && gates->fresh < array->count) || grow(gates);
}

static uint32_t take_rested(struct xf_gates *gates)
{
	uint32_t number = gates->first_free - 1;

	gates->first_free = current(gates)->gates[number].spi;
	return number;
}

uint32_t xf_gate_take(struct xf_gates *gates)
{
	uint32_t number;

	if (resting(gates) <= XF_GATE_RESTING && has_fresh(gates))
		number = gates->fresh++;
	else if (gates->first_free)
		number = take_rested(gates);
	else
		return XF_GATE_NONE;
	gates->used++;
	return number;
}

static void queue(struct xf_gates *gates, struct xf_gate_array *array, uint32_t number)
{
	array->gates[number].spi = 0;
	if (gates->first_free)
		array->gates[gates->last_free - 1].spi = number + 1;
	else
		gates->first_free = number + 1;
	gates->last_free = number + 1;
}

/* Nobody stands anywhere. Without memory for less it stays as it is. */
static void shrink(struct xf_gates *gates)
{
	const struct xf_gate_array *old = current(gates);
	struct xf_gate_array *new = array_new(XF_GATES_KEPT);
	uint32_t next = gates->first_free;

	if (!new)
		return;
	gates->first_free = gates->last_free = 0;
	for (; next; next = old->gates[next - 1].spi) {
		if (next <= XF_GATES_KEPT)
			queue(gates, new, next - 1);
	}
	gates->fresh = gates->fresh < XF_GATES_KEPT ? gates->fresh : XF_GATES_KEPT;
	publish(gates, new);
}

void xf_gate_give(struct xf_gates *gates, uint32_t number)
{
	queue(gates, current(gates), number);
	if (--gates->used == 0 && current(gates)->count > XF_GATES_KEPT)
		shrink(gates);
}

uint32_t xf_gate_spi(const struct xf_gates *gates, uint32_t number, uint32_t choice)
{
	uint32_t x = choice << XF_GATE_BITS | number;

	for (unsigned i = 0; i < XF_GATE_ROUNDS; i++) {
		x = (x + gates->rounds[i].addend) * gates->rounds[i].factor;
		x ^= x >> 16;
	}
	return x;
}

void xf_gate_hand_over(struct xf_gates *gates, uint32_t number, struct xf_sa *sa, bool marked)
{
	atomic_store_explicit(&current(gates)->gates[number].sa,
			      (uintptr_t)sa | (marked ? XF_GATE_MARKED : 0), memory_order_release);
}

void xf_gate_open(struct xf_gates *gates, uint32_t number, const struct xf_sa_id *id,
		  struct xf_sa *sa, bool marked)
{
	struct xf_gate *gate = &current(gates)->gates[number];

	gate->daddr = id->daddr;
	gate->spi = id->spi;
	gate->family = id->family;
	gate->proto = id->proto;
	xf_gate_hand_over(gates, number, sa, marked);
}

void xf_gate_shut(struct xf_gates *gates, uint32_t number)
{
	xf_gate_hand_over(gates, number, NULL, false);
}
