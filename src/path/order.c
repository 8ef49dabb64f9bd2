/*
 * Several workers, one order: the packets of an SA leave in the order of their numbers, received
 * batches are delivered in the order in which they came, and no worker waits for another.
 *
 * Numbers are taken when packets are prepared, so the cipher's work is done in parallel and in any
 * order. A group that is ready too early is parked in its turn; whoever leaves before it gets it
 * along and sends its packets too, be they another worker's. Such packets are freed by the
 * worker whose they are, and so are groups and flights.
 */
#include <stdlib.h>

#include "path/worker.h"

/* Groups that are looked at for one that the next may follow: mostly it is the last. */
#define LOOK_BACK 4

static struct xf_group *group_of(struct xf_ticket *ticket)
{
	return XF_CONTAINER_OF(ticket, struct xf_group, ticket);
}

bool xf_order_open(struct xf_worker *worker)
{
	worker->groups = aligned_alloc(XF_CACHE_LINE, XF_GROUPS * sizeof(*worker->groups));
	if (!worker->groups)
		return false;
	memset(worker->groups, 0, XF_GROUPS * sizeof(*worker->groups));
	for (unsigned i = 0; i < XF_GROUPS; i++) {
		worker->groups[i].worker = worker;
		worker->groups[i].next = worker->free_groups;
		worker->free_groups = &worker->groups[i];
	}
	worker->ngroups = XF_GROUPS;
	return true;
}

/* No worker runs any more: what is parked will not leave. */
void xf_order_close(struct xf_worker *worker)
{
	for (unsigned i = 0; worker->groups && i < XF_GROUPS; i++)
		if (worker->groups[i].held)
			xf_sa_put(worker->groups[i].sa);
	free(worker->groups);
}

struct xf_group *xf_group_get(struct xf_worker *worker)
{
	struct xf_group *group = worker->free_groups;

	if (!group)
		return NULL;
	worker->free_groups = group->next;
	worker->ngroups--;
	group->packets = (struct xf_pktq){ .count = 0 };
	group->flight = NULL;
	group->next = NULL;
	return group;
}

/* In the group's own worker: it is free, and its flight too when it was the last one. */
static void come_home(struct xf_group *group)
{
	struct xf_worker *worker = group->worker;
	struct xf_flight *f = group->flight;

	group->next = worker->free_groups;
	worker->free_groups = group;
	worker->ngroups++;
	worker->batches -= group->exit == XF_EXIT_DELIVER;
	if (f)
		xf_flight_release(f);
}

void xf_order_take_back(struct xf_worker *worker)
{
	struct xf_group *group;

	if (!worker->ordered)
		return;
	xf_pool_enter(worker->pool);
	if (atomic_load_explicit(&worker->gone, memory_order_relaxed) == NULL)
		return;
	group = atomic_exchange_explicit(&worker->gone, NULL, memory_order_acquire);
	while (group) {
		struct xf_group *next = group->next;

		come_home(group);
		group = next;
	}
}

/* As packets come back (pool.c): pushed by any worker, taken all at once by its own. */
static void send_home(struct xf_group *group)
{
	struct xf_worker *worker = group->worker;
	struct xf_group *top = atomic_load_explicit(&worker->gone, memory_order_relaxed);

	do {
		group->next = top;
	} while (!atomic_compare_exchange_weak_explicit(
		&worker->gone, &top, group, memory_order_seq_cst, memory_order_relaxed));
	if (atomic_load(&worker->starving) && atomic_exchange(&worker->starving, false) &&
	    worker->wake.fn)
		worker->wake.fn(worker->wake.arg);
}

static void move_packets(struct xf_group *group, struct xf_path_result *res)
{
	xf_pktq_append(group->exit == XF_EXIT_WIRE ? &res->wire : &res->deliver, &group->packets);
}

/* It is @group's turn: its packets leave with @res, by the hand of @worker. */
static void take_along(struct xf_worker *worker, struct xf_group *group, struct xf_path_result *res)
{
	move_packets(group, res);
	group->next = worker->my_turn;
	worker->my_turn = group;
}

static void leave(struct xf_worker *worker, struct xf_group *group)
{
	if (group->held)
		xf_sa_put(group->sa);
	group->held = false;
	group->sa = NULL;
	if (group->worker == worker)
		come_home(group);
	else
		send_home(group);
}

/*
 * What comes right behind packets of the same turn that leave with the same result leaves with
 * them: else each flight of a large packet would be sent by itself.
 */
static bool follow(struct xf_group *group, struct xf_path_result *res)
{
	struct xf_worker *worker = group->worker;
	struct xf_group *before = worker->my_turn;

	for (unsigned i = 0; before && i < LOOK_BACK; i++, before = before->next) {
		if (before->turn != group->turn)
			continue;
		if (before->ticket.end != group->ticket.first)
			return false;
		before->ticket.end = group->ticket.end;
		move_packets(group, res);
		leave(worker, group);
		return true;
	}
	return false;
}

/*
 * A group whose turn it is leaves in the read section that has found its SA. One that may wait
 * holds a reference: of an SA that all workers write, no more than that is worth two writes.
 */
static void hold(struct xf_group *group)
{
	if (!group->sa || group->held)
		return;
	xf_sa_get(group->sa);
	group->held = true;
}

void xf_order_hold(struct xf_flight *f)
{
	for (struct xf_group *group = f->groups; group; group = group->sibling)
		hold(group);
}

void xf_group_enter(struct xf_group *group, struct xf_path_result *res)
{
	if (follow(group, res))
		return;
	/* Before it is parked: then it is another worker's to put. */
	if (!xf_turn_has_come(group->turn, &group->ticket))
		hold(group);
	if (xf_turn_enter(group->turn, &group->ticket))
		take_along(group->worker, group, res);
}

bool xf_path_sent(struct xf_worker *worker, struct xf_path_result *res)
{
	struct xf_group *group = worker->my_turn;

	worker->my_turn = NULL;
	xf_order_take_back(worker);
	while (group) {
		struct xf_group *next = group->next;
		struct xf_ticket *ticket = xf_turn_leave(group->turn, &group->ticket);

		leave(worker, group);
		if (ticket)
			take_along(worker, group_of(ticket), res);
		group = next;
	}
	return worker->my_turn != NULL;
}

/* Does @op come right behind those of @group? */
static bool belongs(const struct xf_group *group, const struct xf_transform_op *op)
{
	return group && group->sa == op->sa && group->ticket.end == op->number;
}

static struct xf_group *new_group(struct xf_flight *f, const struct xf_transform_op *op)
{
	struct xf_group *group = xf_group_get(f->worker);

	group->sa = op->sa;
	group->turn = &op->sa->turn;
	group->exit = XF_EXIT_WIRE;
	group->flight = f;
	group->sibling = NULL;
	group->ticket.first = op->number;
	group->ticket.end = op->number;
	if (f->last_group)
		f->last_group->sibling = group;
	else
		f->groups = group;
	f->last_group = group;
	f->reasons++;
	return group;
}

void xf_order_begin(struct xf_flight *f)
{
	struct xf_group *group = NULL;

	for (unsigned i = 0; i < f->nops; i++) {
		struct xf_transform_op *op = f->round_ops[i];

		if (!belongs(group, op))
			group = new_group(f, op);
		group->ticket.end++;
		f->slots[op - f->ops].group = group;
	}
}

/* Groups of SAs that are not the last ones of their packets have none, and leave all the same. */
void xf_order_emit(struct xf_flight *f, struct xf_path_result *res)
{
	struct xf_group *group = f->groups;

	f->groups = NULL;
	f->last_group = NULL;
	while (group) {
		/* Once it has entered, another worker may send it home. */
		struct xf_group *next = group->sibling;

		xf_group_enter(group, res);
		group = next;
	}
}
