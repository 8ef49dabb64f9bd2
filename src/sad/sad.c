/*
 * The writer's side. A call first finds out whether it can be done, reserves what memory it needs,
 * and then links and unlinks, which cannot fail: on an error nothing has changed.
 */
#include <errno.h>
#include <stdlib.h>

#include "db.h"
#include "transform.h"

/* As the kernel's: what GETSADINFO shows. Our own tables are of another kind. */
#define BUCKETS_MIN 8
#define BUCKETS_MAX (1024 * 1024)

#define SLOTS_MIN 16

bool xf_sad_proto_match(uint8_t proto, uint8_t wanted)
{
	if (wanted == XF_SAD_PROTO_IPSEC)
		return proto == XF_IPPROTO_AH || proto == XF_IPPROTO_ESP ||
		       proto == XF_IPPROTO_COMP;
	return wanted == 0 || proto == wanted;
}

/* An empty SAD is small. */
struct xf_sad *xf_sad_new(const struct xf_sad_config *cfg)
{
	struct xf_sad *sad = calloc(1, sizeof(*sad));

	if (!sad)
		return NULL;
	sad->cfg = *cfg;
	sad->slabs.object_bytes = XF_SA_BYTES;
	xf_wall_init(&sad->wall, cfg->real_offset_ns);
	sad->shown_buckets = BUCKETS_MIN;
	xf_sad_secrets_init(&sad->secrets, cfg->seed);
	xf_gates_init(&sad->gates, cfg->seed);
	memcpy(sad->terms.seed, cfg->seed, sizeof(sad->terms.seed));
	for (unsigned i = 0; i < XF_SA_TABLES; i++) {
		if (xf_table_init(&sad->tables[i]) == 0)
			continue;
		while (i > 0)
			xf_table_fini(&sad->tables[--i]);
		free(sad);
		return NULL;
	}
	return sad;
}

void xf_sad_step_clock(struct xf_sad *sad, uint64_t now_ns, int64_t real_offset_ns)
{
	xf_wall_step(&sad->wall, now_ns, real_offset_ns);
}

void xf_sad_free(struct xf_sad *sad)
{
	if (!sad)
		return;
	xf_sad_flush(sad, 0);
	xf_rcu_drain();
	xf_slabs_fini(&sad->slabs);
	for (unsigned i = 0; i < XF_SA_TABLES; i++)
		xf_table_fini(&sad->tables[i]);
	xf_gates_fini(&sad->gates);
	xf_seats_fini(&sad->seats);
	xf_heap_fini(&sad->due);
	free(sad->slots);
	free(sad);
}

/* Close the gaps that SAs left when they went away. */
static void pack_slots(struct xf_sad *sad)
{
	size_t n = 0;

	for (size_t i = 0; i < sad->nslots; i++) {
		if (!sad->slots[i].sa)
			continue;
		sad->slots[n++] = sad->slots[i];
	}
	sad->nslots = n;
	sad->sweep_at = 0; /* those that it has not passed may stand before it now */
}

/* Half of the slots or more are gaps: packing costs no more than the removals did. */
static int reserve_slot(struct xf_sad *sad)
{
	size_t max = sad->slots_max ? sad->slots_max * 2 : SLOTS_MIN;
	struct xf_sad_slot *slots;

	if (sad->nslots < sad->slots_max)
		return 0;
	if (sad->slots_max && sad->count <= sad->slots_max / 2) {
		pack_slots(sad);
		return 0;
	}
	slots = realloc(sad->slots, max * sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	sad->slots = slots;
	sad->slots_max = max;
	return 0;
}

/* Three quarters are gaps: half of the memory will do. */
void xf_sad_trim(struct xf_sad *sad)
{
	size_t max = sad->slots_max / 2;
	struct xf_sad_slot *slots;

	xf_heap_trim(&sad->due, sad->count);
	if (max < SLOTS_MIN || sad->count > max / 2)
		return;
	pack_slots(sad);
	slots = realloc(sad->slots, max * sizeof(*slots));
	if (!slots)
		return;
	sad->slots = slots;
	sad->slots_max = max;
}

static int reserve(struct xf_sad *sad)
{
	int err = reserve_slot(sad);

	if (err == 0)
		err = xf_heap_reserve(&sad->due, sad->count + 1);
	return err ? err : xf_sad_reserve_links(sad);
}

unsigned xf_sad_transforms(const struct xf_sad *sad)
{
	return atomic_load_explicit(&sad->transforms, memory_order_relaxed);
}

unsigned xf_sad_transforms_ever(const struct xf_sad *sad)
{
	return atomic_load_explicit(&sad->transforms_ever, memory_order_relaxed);
}

/* Before readers can find the first SA of @transform. */
static void transform_get(struct xf_sad *sad, unsigned transform)
{
	if (sad->of_transform[transform]++)
		return;
	atomic_fetch_or_explicit(&sad->transforms_ever, 1u << transform, memory_order_relaxed);
	atomic_fetch_or_explicit(&sad->transforms, 1u << transform, memory_order_relaxed);
}

/* When no reader can have found the last one. */
static void transform_put(struct xf_sad *sad, unsigned transform)
{
	if (--sad->of_transform[transform] == 0)
		atomic_fetch_and_explicit(&sad->transforms, ~(1u << transform),
					  memory_order_relaxed);
}

int xf_sad_check_room(const struct xf_sad *sad, uint32_t leaving, const char **why)
{
	if (sad->cfg.max_sas == 0 || sad->count - leaving < sad->cfg.max_sas)
		return 0;
	if (why)
		*why = "The SAD holds its maximum of SAs";
	return -ENOSPC;
}

/* Slots are in the order of ids: nearly always this one is the last. */
static void take_slot(struct xf_sad *sad, struct xf_sa *sa)
{
	uint64_t id = sa->links.id;
	size_t place = id > sad->last_id ? sad->nslots : xf_sad_slots_before(sad, id);
	struct xf_sad_slot *slot = &sad->slots[place];

	memmove(slot + 1, slot, (sad->nslots - place) * sizeof(*slot));
	*slot = (struct xf_sad_slot){ id, sa };
	sad->nslots++;
	if (id > sad->last_id)
		sad->last_id = id;
}

int xf_sad_insert_as(struct xf_sad *sad, struct xf_sa *sa, struct xf_sa *heir_of, uint64_t id)
{
	struct xf_sa_links *links = &sa->links;
	int err = reserve(sad);

	if (err)
		return err;
	links->id = id;
	transform_get(sad, sa->transform);
	if (!xf_sad_seat(sad, sa)) {
		transform_put(sad, sa->transform);
		return -ENOMEM;
	}
	if (xf_sa_cfg(sa)->id.spi)
		xf_sad_link_spi(sad, sa, heir_of);
	take_slot(sad, sa);
	sad->count++;
	if (sad->count >= sad->shown_buckets && sad->shown_buckets < BUCKETS_MAX)
		sad->shown_buckets *= 2;
	xf_sad_reschedule(sad, sa);
	return 0;
}

int xf_sad_insert(struct xf_sad *sad, struct xf_sa *sa, struct xf_sa *heir_of)
{
	return xf_sad_insert_as(sad, sa, heir_of, sad->last_id + 1);
}

/* Due at once: the time of the next call tells when it really is. */
void xf_sad_reschedule(struct xf_sad *sad, struct xf_sa *sa)
{
	const struct xf_lifetime *life = &xf_sa_cfg(sa)->terms->life;

	if (xf_sa_get_state(sa) != XF_SA_FROZEN &&
	    (life->soft_add_s || life->hard_add_s || life->soft_use_s || life->hard_use_s))
		xf_heap_set(&sad->due, &sa->links.due, 0);
	else
		xf_heap_del(&sad->due, &sa->links.due);
}

/* The SA that @cfg would collide with (the kernel's __xfrm_state_locate()). */
static struct xf_sa *locate(const struct xf_sad *sad, const struct xf_sa_view *cfg)
{
	uint32_t mark = cfg->terms->mark.v & cfg->terms->mark.m;

	if (xf_sad_proto_match(cfg->id.proto, XF_SAD_PROTO_IPSEC))
		return xf_sad_find_in(sad, &cfg->id, mark);
	return xf_sad_find_by_addr(sad, &cfg->id, &cfg->saddr, mark);
}

/* The larval SA that @cfg is the answer to: it goes away once the answer is there. */
static struct xf_sa *answered_by(const struct xf_sad *sad, const struct xf_sa_view *cfg)
{
	struct xf_sa *larval;

	if (!xf_sad_proto_match(cfg->id.proto, XF_SAD_PROTO_IPSEC))
		return NULL;
	larval = cfg->seq ? xf_sad_larval_by_seq(sad, cfg) : NULL;
	if (larval && xf_sa_cfg(larval)->id.proto == cfg->id.proto &&
	    xf_addr_equal(&xf_sa_cfg(larval)->id.daddr, &cfg->id.daddr, cfg->id.family))
		return larval;
	return xf_sad_larval_like(sad, cfg);
}

/* The kernel's xfrm_state_add(): the question goes only when the answer is in. */
int xf_sad_add(struct xf_sad *sad, struct xf_sa *sa, const char **why)
{
	const struct xf_sa_view *cfg = xf_sa_cfg(sa);
	struct xf_sa *larval;
	int err;

	if (sa->sad != sad)
		return -EINVAL;
	if (locate(sad, cfg))
		return -EEXIST;
	larval = answered_by(sad, cfg);
	err = xf_sad_check_room(sad, larval != NULL, why);
	if (err == 0)
		err = xf_sad_insert(sad, sa, NULL);
	if (err == 0 && larval)
		xf_sad_del(sad, larval);
	return err;
}

/* The kernel's xfrm_state_update(), for an SA with keys. */
static int reconfigure(struct xf_sad *sad, struct xf_sa *old, const struct xf_sa *sa)
{
	const union xf_addr *coaddr = xf_sa_coaddr(sa);
	const struct xf_sa_view *want = xf_sa_cfg(sa);
	const struct xf_sa_terms *wanted = want->terms;
	struct xf_sa_terms *terms;
	struct xf_sa_config cfg;
	int64_t used_ns;
	int err;

	xf_sa_copy_cfg(old, &cfg);
	terms = &cfg.terms;
	if (xf_sa_get_state(old) != XF_SA_VALID || wanted->encap.type != terms->encap.type)
		return -EINVAL;
	terms->encap = wanted->encap;
	if (coaddr) /* but one that has none gets none */
		cfg.coaddr = *coaddr;
	if (!xf_sad_proto_match(cfg.id.proto, XF_SAD_PROTO_IPSEC))
		terms->sel = wanted->sel;
	terms->life = wanted->life;
	if (wanted->set_mark.m || wanted->set_mark.v)
		terms->set_mark = wanted->set_mark;
	if (want->if_id)
		cfg.if_id = want->if_id;
	err = xf_sad_reseat(sad, old, &cfg);
	if (err)
		return err;
	sad->changes++;
	/* Under the new limits it may be dying at once, which is told anew. */
	atomic_store(&old->dying, false);
	xf_sad_reschedule(sad, old);
	if (xf_sa_used_ns(old, &used_ns))
		xf_sa_check_limits(old, xf_sa_form(old), NULL);
	return 0;
}

/* @sa takes the place of the larval SA @old. */
static int replace(struct xf_sad *sad, struct xf_sa *old, struct xf_sa *sa)
{
	int err = xf_sad_insert(sad, sa, old);

	if (err == 0)
		xf_sad_del(sad, old);
	return err;
}

int xf_sad_update(struct xf_sad *sad, struct xf_sa *sa, struct xf_sa **now)
{
	const struct xf_sa_view *cfg = xf_sa_cfg(sa);
	struct xf_sa *old = locate(sad, cfg);
	bool larval = old && xf_sa_get_state(old) == XF_SA_ACQ;
	int err;

	if (sa->sad != sad)
		return -EINVAL;
	/* A larval SA takes any direction when none is given; one with keys keeps its own. */
	if (!old || ((!larval || cfg->dir) && xf_sa_cfg(old)->dir != cfg->dir))
		return -ESRCH;
	err = larval ? replace(sad, old, sa) : reconfigure(sad, old, sa);
	if (err)
		return err;
	*now = larval ? sa : old;
	if (!larval)
		xf_sa_put(sa);
	return 0;
}

/* A reader that found the SA before it was unlinked may have taken a reference by now. */
static void left_table(struct xf_rcu_head *head)
{
	struct xf_sa *sa = XF_CONTAINER_OF(head, struct xf_sa, links.rcu);

	xf_sad_leave(sa->sad, sa);
	transform_put(sa->sad, sa->transform);
	xf_sa_put_unseen(sa);
}

int xf_sad_del(struct xf_sad *sad, struct xf_sa *sa)
{
	struct xf_sa_links *links = &sa->links;

	if (!links->in_tables || sa->sad != sad)
		return -ESRCH;
	if (atomic_exchange(&sa->state, XF_SA_DEAD) == XF_SA_EXPIRED)
		atomic_fetch_sub_explicit(&sad->expired, 1, memory_order_relaxed);
	xf_sad_unlink(sad, sa);
	xf_heap_del(&sad->due, &links->due);
	sad->slots[xf_sad_slots_before(sad, links->id)].sa = NULL;
	sad->count--;
	sad->changes++;
	xf_rcu_defer(&links->rcu, left_table);
	return 0;
}

unsigned xf_sad_flush(struct xf_sad *sad, uint8_t proto)
{
	unsigned n = 0;

	for (size_t i = 0; i < sad->nslots; i++) {
		struct xf_sa *sa = sad->slots[i].sa;

		if (!sa || !xf_sad_proto_match(xf_sa_cfg(sa)->id.proto, proto))
			continue;
		xf_sad_del(sad, sa);
		n++;
	}
	xf_sad_trim(sad);
	return n;
}

void xf_sad_get_info(const struct xf_sad *sad, struct xf_sad_info *out)
{
	out->changes = sad->changes;
	out->count = sad->count;
	out->buckets = sad->shown_buckets;
	out->buckets_max = BUCKETS_MAX;
}
