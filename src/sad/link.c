/*
 * Readers may find an SA by one table and not yet, or no longer, by another; every lookup uses one
 * table, so that is nothing to them. An SA whose seat changes is linked by the new one before it
 * leaves the old one: lookups that meet both meet the same SA.
 */
#include <errno.h>
#include <stdlib.h>

#include "db.h"

#define BIT(table) (1u << (table))
#define TABLES (BIT(XF_SA_TABLES) - 1)
#define GATES ((2u << XF_GATE_BITS) - 1)

/* An SA's links have room for these. */
_Static_assert(XF_SA_TABLES == 6 && XF_GATE_BITS == 22, "as wide as in struct xf_sa_links");

int xf_sad_reserve_links(struct xf_sad *sad)
{
	int err = 0;

	for (unsigned i = 0; i < XF_SA_TABLES && err == 0; i++)
		err = xf_table_reserve(&sad->tables[i]);
	return err;
}

/* --- Masks of marks --- */

static void count_masks(struct xf_sad *sad)
{
	uint32_t n = XF_SAD_MASKS;

	while (n > 0 && sad->mask_refs[n - 1] == 0)
		n--;
	atomic_store_explicit(&sad->nmasks, n, memory_order_release);
}

/* The number of @mask among those that are hashed under, from 1; 0 = it is not. */
static unsigned mask_get(struct xf_sad *sad, uint32_t mask)
{
	unsigned free = XF_SAD_MASKS;

	if (mask == 0)
		return 0;
	for (unsigned i = XF_SAD_MASKS; i-- > 0;) {
		if (sad->mask_refs[i] == 0)
			free = i;
		else if (atomic_load_explicit(&sad->masks[i], memory_order_relaxed) == mask)
			return sad->mask_refs[i]++, i + 1;
	}
	if (free == XF_SAD_MASKS)
		return 0;
	atomic_store_explicit(&sad->masks[free], mask, memory_order_relaxed);
	sad->mask_refs[free] = 1;
	count_masks(sad);
	return free + 1;
}

static void mask_put(struct xf_sad *sad, unsigned number)
{
	if (number == 0 || --sad->mask_refs[number - 1] > 0)
		return;
	atomic_store_explicit(&sad->masks[number - 1], 0, memory_order_relaxed);
	count_masks(sad);
}

/* --- Seats --- */

static bool narrow(const struct xf_selector *sel)
{
	return sel->prefixlen_d || sel->prefixlen_s || sel->proto || sel->ifindex ||
	       sel->dport_mask || sel->sport_mask || sel->user;
}

/* But for the mask's number, and whether it is larval. */
static unsigned flags_of(const struct xf_sa_view *cfg)
{
	unsigned flags = cfg->mode & XF_SEAT_MODE;

	if (cfg->terms->sel.family)
		flags |= cfg->terms->sel.family == XF_AF_INET ? XF_SEAT_V4 : XF_SEAT_V6;
	if (cfg->terms->sel.family && narrow(&cfg->terms->sel))
		flags |= XF_SEAT_NARROW;
	if (cfg->flags & XF_SA_WILDRECV)
		flags |= XF_SEAT_WILDRECV;
	if (cfg->terms->pcpu != UINT32_MAX)
		flags |= XF_SEAT_PCPU;
	return flags;
}

static void set_addr(union xf_addr *to, const union xf_addr *from, uint16_t family)
{
	*to = (union xf_addr){ { 0 } };
	memcpy(to, from, family == XF_AF_INET ? 4 : 16);
}

static void fill_in(struct xf_seat_in *in, struct xf_sa *sa, const struct xf_sa_view *cfg)
{
	in->sa = sa;
	set_addr(&in->daddr, &cfg->id.daddr, cfg->id.family);
	atomic_store_explicit(&in->spi, cfg->id.spi, memory_order_relaxed);
	in->family = (uint8_t)cfg->id.family;
	in->proto = cfg->id.proto;
	in->marked = cfg->terms->mark.m;
}

static void fill(struct xf_sad *sad, uint32_t number, struct xf_sa *sa)
{
	const struct xf_sa_view *cfg = xf_sa_cfg(sa);
	struct xf_seat *seat = xf_seat_at(&sad->seats, number);

	fill_in(xf_seat_in_at(&sad->seats, number), sa, cfg);
	seat->sa = sa;
	set_addr(&seat->daddr, &cfg->id.daddr, cfg->id.family);
	set_addr(&seat->saddr, &cfg->saddr, cfg->id.family);
	atomic_store_explicit(&seat->spi, cfg->id.spi, memory_order_relaxed);
	seat->reqid = cfg->reqid;
	seat->if_id = cfg->if_id;
	seat->mark = cfg->terms->mark;
	seat->family = (uint8_t)cfg->id.family;
	seat->proto = cfg->id.proto;
	seat->flags =
		(uint16_t)(flags_of(cfg) | mask_get(sad, cfg->terms->mark.m) << XF_SEAT_MASK_SHIFT);
	if (xf_sa_get_state(sa) == XF_SA_ACQ)
		seat->flags |= XF_SEAT_LARVAL;
	if (xf_addr_is_any(&seat->saddr, seat->family))
		atomic_fetch_add(&sad->from_anywhere, 1);
}

/* What lookups need not look for any more. */
static void forget(struct xf_sad *sad, const struct xf_seat *seat)
{
	mask_put(sad, seat->flags >> XF_SEAT_MASK_SHIFT);
	if (xf_addr_is_any(&seat->saddr, seat->family))
		atomic_fetch_sub(&sad->from_anywhere, 1);
}

static struct xf_table_place place_in(const struct xf_sad *sad, enum xf_sa_table table)
{
	return (struct xf_table_place){ .seats = &sad->seats,
					.which = table,
					.hash = xf_sad_hash_of };
}

static void link_seat(struct xf_sad *sad, uint32_t number, unsigned tables)
{
	for (unsigned i = 0; i < XF_SA_TABLES; i++) {
		const struct xf_table_place place = place_in(sad, i);

		if (tables >> i & 1)
			xf_table_add(&sad->tables[i], &place, xf_sad_hash_of(&place, number),
				     number);
	}
}

static void unlink_seat(struct xf_sad *sad, uint32_t number, unsigned tables)
{
	for (unsigned i = 0; i < XF_SA_TABLES; i++) {
		const struct xf_table_place place = place_in(sad, i);

		if (tables >> i & 1)
			xf_table_del(&sad->tables[i], &place, xf_sad_hash_of(&place, number),
				     number);
	}
}

static void link_in(struct xf_sad *sad, struct xf_sa *sa, unsigned tables)
{
	link_seat(sad, sa->links.seat, tables);
	sa->links.in_tables |= tables & TABLES;
}

static void unlink_from(struct xf_sad *sad, struct xf_sa *sa, unsigned tables)
{
	unlink_seat(sad, sa->links.seat, tables);
	sa->links.in_tables &= ~tables & TABLES;
}

/* A larval SA that got its keys is another SA: nothing becomes or ceases to be larval. */
static unsigned tables_of(const struct xf_sa *sa, const struct xf_sa_view *cfg)
{
	bool larval = xf_sa_get_state(sa) == XF_SA_ACQ;
	unsigned tables = BIT(XF_SA_BY_ENDS);

	if (!xf_sad_proto_match(cfg->id.proto, XF_SAD_PROTO_IPSEC))
		tables |= BIT(XF_SA_BY_ADDR);
	if (larval && cfg->seq)
		tables |= BIT(XF_SA_BY_SEQ);
	if (larval && !cfg->id.spi)
		tables |= BIT(XF_SA_BY_ANSWER);
	return tables;
}

bool xf_sad_seat(struct xf_sad *sad, struct xf_sa *sa)
{
	sa->links.seat = xf_seat_take(&sad->seats);
	if (!sa->links.seat)
		return false;
	fill(sad, sa->links.seat, sa);
	link_in(sad, sa, tables_of(sa, xf_sa_cfg(sa)));
	return true;
}

/* --- SPIs --- */

static bool behind_gate(const struct xf_sa *sa)
{
	return sa->links.gate && !(sa->links.in_tables & BIT(XF_SA_BY_SPI));
}

/*
 * Behind a gate there is room for one. Somebody chose its SPI for the same peer by hand, with
 * another mark: from now on they are told apart in the tables, and the gate stays shut.
 */
static void make_room(struct xf_sad *sad, struct xf_sa *there)
{
	link_in(sad, there, BIT(XF_SA_BY_SPI) | BIT(XF_SA_BY_NUMBER));
	xf_gate_shut(&sad->gates, there->links.gate - 1);
}

static void got_spi(struct xf_sad *sad, struct xf_sa *sa)
{
	uint32_t seat = sa->links.seat, spi = xf_sa_cfg(sa)->id.spi;

	atomic_store_explicit(&xf_seat_at(&sad->seats, seat)->spi, spi, memory_order_relaxed);
	atomic_store_explicit(&xf_seat_in_at(&sad->seats, seat)->spi, spi, memory_order_relaxed);
	unlink_from(sad, sa, sa->links.in_tables & BIT(XF_SA_BY_ANSWER));
}

/* Where protocols have no SPI, the heir of an SA may have another one all the same. */
void xf_sad_link_spi(struct xf_sad *sad, struct xf_sa *sa, struct xf_sa *heir_of)
{
	const struct xf_sa_view *cfg = xf_sa_cfg(sa);
	const struct xf_gate *gate = xf_gate_for(&sad->gates, cfg->id.spi);
	struct xf_sa *there = xf_gate_sa(xf_sad_at_gate(gate, &cfg->id));

	got_spi(sad, sa);
	if (there && there == heir_of) {
		sa->links.gate = there->links.gate;
		there->links.gate = 0;
		xf_gate_hand_over(&sad->gates, sa->links.gate - 1, sa, cfg->terms->mark.m);
		return;
	}
	if (there)
		make_room(sad, there);
	link_in(sad, sa, BIT(XF_SA_BY_SPI) | BIT(XF_SA_BY_NUMBER));
}

void xf_sad_link_gate(struct xf_sad *sad, struct xf_sa *sa, uint32_t number)
{
	const struct xf_sa_view *cfg = xf_sa_cfg(sa);

	got_spi(sad, sa);
	sa->links.gate = (number + 1) & GATES;
	xf_gate_open(&sad->gates, number, &cfg->id, sa, cfg->terms->mark.m);
}

void xf_sad_unlink(struct xf_sad *sad, struct xf_sa *sa)
{
	if (behind_gate(sa))
		xf_gate_shut(&sad->gates, sa->links.gate - 1);
	unlink_from(sad, sa, sa->links.in_tables);
	forget(sad, xf_seat_at(&sad->seats, sa->links.seat));
}

void xf_sad_leave(struct xf_sad *sad, struct xf_sa *sa)
{
	xf_seat_give(&sad->seats, sa->links.seat);
	if (sa->links.gate)
		xf_gate_give(&sad->gates, sa->links.gate - 1);
}

/* --- Another seat for the same SA --- */

struct left_seat {
	struct xf_rcu_head rcu;
	struct xf_sad *sad;
	uint32_t number;
};

static void give_left(struct xf_rcu_head *head)
{
	struct left_seat *left = XF_CONTAINER_OF(head, struct left_seat, rcu);

	xf_seat_give(&left->sad->seats, left->number);
	free(left);
}

/* Lookups that were between the two seats find the SA by either. */
static void change_seat(struct xf_sad *sad, struct xf_sa *sa, uint32_t number)
{
	struct xf_sa_links *links = &sa->links;
	const struct xf_seat *old = xf_seat_at(&sad->seats, links->seat);

	fill(sad, number, sa);
	link_seat(sad, number, links->in_tables);
	unlink_seat(sad, links->seat, links->in_tables);
	forget(sad, old);
	links->seat = number;
}

static bool looks_the_same(const struct xf_sa_view *a, const struct xf_sa_view *b)
{
	return a->if_id == b->if_id && flags_of(a) == flags_of(b);
}

int xf_sad_reseat(struct xf_sad *sad, struct xf_sa *sa, const struct xf_sa_config *cfg)
{
	const struct xf_sa_view want = xf_sa_view_of(cfg, &cfg->terms);
	struct left_seat *left;
	uint32_t number;
	int err = xf_sad_reserve_links(sad);

	if (err || looks_the_same(xf_sa_cfg(sa), &want))
		return err ? err : xf_sa_reconfigure(sa, cfg);
	left = malloc(sizeof(*left));
	number = left ? xf_seat_take(&sad->seats) : 0;
	err = number ? xf_sa_reconfigure(sa, cfg) : -ENOMEM;
	if (err) {
		if (number)
			xf_seat_give(&sad->seats, number);
		free(left);
		return err;
	}
	*left = (struct left_seat){ .sad = sad, .number = sa->links.seat };
	change_seat(sad, sa, number);
	xf_rcu_defer(&left->rcu, give_left);
	return 0;
}
