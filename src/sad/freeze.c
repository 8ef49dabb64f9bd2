/*
 * SAs out of use, for whoever takes over. A worker asks for the state of an SA before it takes
 * numbers of it, and again before it commits to its window, each time inside of the read section in
 * which it does so: so a state that says no and a grace period are enough, and packets pay nothing.
 */
#include <errno.h>

#include <xf/freeze.h>

#include "db.h"

/* Ids go on from the highest one, and must not come to their end. */
#define ID_MAX (UINT64_MAX / 2)

/* Whoever is first wins: a worker may just find that a limit is reached. */
static bool step_state(struct xf_sa *sa, enum xf_sa_state from, enum xf_sa_state to)
{
	uint8_t was = (uint8_t)from;

	return atomic_compare_exchange_strong(&sa->state, &was, (uint8_t)to);
}

static void nothing(struct xf_rcu_head *head)
{
	(void)head;
}

static void wait_for_workers(void)
{
	struct xf_rcu_head head;

	xf_rcu_defer(&head, nothing);
	xf_rcu_drain();
}

/* A soft limit that a worker has met and nobody has told of is told by whoever goes on. */
static void forget_untold(struct xf_sa *sa)
{
	if (xf_sa_get_state(sa) == XF_SA_FROZEN && atomic_exchange(&sa->attention, 0))
		atomic_store(&sa->dying, false);
}

unsigned xf_sad_freeze(struct xf_sad *sad, struct xf_sa *const *sas, unsigned n)
{
	unsigned frozen = 0;

	for (unsigned i = 0; i < n; i++) {
		if (!step_state(sas[i], XF_SA_VALID, XF_SA_FROZEN))
			continue;
		xf_sad_reschedule(sad, sas[i]);
		frozen++;
	}
	if (frozen)
		wait_for_workers();
	for (unsigned i = 0; frozen && i < n; i++)
		forget_untold(sas[i]);
	return frozen;
}

void xf_sad_thaw(struct xf_sad *sad, struct xf_sa *sa)
{
	if (step_state(sa, XF_SA_FROZEN, XF_SA_VALID))
		xf_sad_reschedule(sad, sa);
}

static bool is_same(const struct xf_sa_view *a, const struct xf_sa_view *b)
{
	const struct xf_mark *a_mark = &a->terms->mark, *b_mark = &b->terms->mark;

	return a->id.spi == b->id.spi && a->id.proto == b->id.proto &&
	       a->id.family == b->id.family &&
	       xf_addr_equal(&a->id.daddr, &b->id.daddr, a->id.family) && a_mark->v == b_mark->v &&
	       a_mark->m == b_mark->m;
}

/*
 * SAs whose marks overlap could be added in one order and not in another, so what xf_sad_add() asks
 * would refuse some that stood side by side.
 */
static bool key_is_taken(const struct xf_sad *sad, const struct xf_sa_view *cfg)
{
	const struct xf_gate *gate = xf_gate_for(&sad->gates, cfg->id.spi);
	struct xf_sa *sa = xf_gate_sa(xf_sad_at_gate(gate, &cfg->id));
	struct xf_table_walk walk;

	if (sa && is_same(xf_sa_cfg(sa), cfg))
		return true;
	xf_table_first(&sad->tables[XF_SA_BY_SPI], XF_SA_BY_SPI,
		       xf_sad_hash_spi(&sad->secrets, &cfg->id), &walk);
	for (; (sa = xf_sad_entry(sad, &walk)); xf_table_next(&sad->seats, &walk))
		if (is_same(xf_sa_cfg(sa), cfg))
			return true;
	return false;
}

static bool id_is_taken(const struct xf_sad *sad, uint64_t id)
{
	size_t place = xf_sad_slots_before(sad, id);

	return place < sad->nslots && sad->slots[place].id == id && sad->slots[place].sa;
}

static int refuse(int err, const char *sentence, const char **why)
{
	*why = sentence;
	return err;
}

int xf_sad_restore(struct xf_sad *sad, struct xf_sa *sa, uint64_t id, const char **why)
{
	int err;

	if (sa->sad != sad)
		return refuse(-EINVAL, "The SA was made for another SAD", why);
	if (id == 0 || id > ID_MAX)
		return refuse(-EINVAL, "The number of the SA is not one", why);
	if (id_is_taken(sad, id))
		return refuse(-EEXIST, "The number of the SA is taken", why);
	if (key_is_taken(sad, xf_sa_cfg(sa)))
		return refuse(-EEXIST, "There is an SA with the same SPI, destination and mark",
			      why);
	err = xf_sad_check_room(sad, 0, why);
	if (err)
		return err;
	err = xf_sad_insert_as(sad, sa, NULL, id);
	return err ? refuse(err, "There is no memory for the SA", why) : 0;
}
