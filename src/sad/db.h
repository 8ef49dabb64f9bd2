/*
 * db.h - the inside of a SAD, for the files of this folder alone.
 *
 * sad.c changes it; link.c puts SAs into tables and takes them out; lookup.c reads; larval.c makes
 * SAs without keys, expire.c acts on lifetimes, walk.c lists, freeze.c takes SAs out of use.
 * Control thread, except what lookup.c does.
 */
#ifndef XF_SAD_DB_H
#define XF_SAD_DB_H

#include <xf/sad.h>
#include <xf/transform.h>

#include "base/slab.h"
#include "base/wall.h"
#include "gate.h"
#include "key.h"
#include "table.h"
#include "terms.h"

/* An SA in order of arrival; the place of one that went away stays until the next packing. */
struct xf_sad_slot {
	uint64_t id;
	struct xf_sa *sa;
};

/* So many masks of marks are hashed under; SAs with others are told apart one by one. */
#define XF_SAD_MASKS 3

struct xf_sad {
	struct xf_sad_config cfg;
	struct xf_sad_secrets secrets; /* constant */
	struct xf_table tables[XF_SA_TABLES]; /* published by RCU */
	struct xf_seats seats; /* likewise */
	struct xf_gates gates; /* likewise */
	_Atomic uint32_t masks[XF_SAD_MASKS]; /* of marks of SAs; 0 = unused */
	_Atomic uint32_t nmasks; /* there are none from here on */
	_Atomic uint32_t from_anywhere; /* SAs whose source is the wildcard */
	_Atomic uint32_t transforms; /* a bit for each that SAs have which readers may find */
	_Atomic uint32_t transforms_ever; /* and for each that SAs here have had */
	struct xf_slabs slabs; /* has a lock: of SAs */
	struct xf_wall wall; /* atomic; the control thread's */
	_Atomic uint32_t expired; /* SAs that have reached a hard limit, but not left the tables */
	struct xf_event_lost lost; /* atomic: of XF_EVENT_SA */

	/* Control thread. */
	struct xf_terms_table terms;
	uint32_t mask_refs[XF_SAD_MASKS];
	uint32_t of_transform[XF_TRANSFORMS_MAX]; /* SAs, until readers have left them */
	struct xf_heap due;
	struct xf_sad_slot *slots;
	size_t nslots;
	size_t slots_max;
	uint64_t last_id;
	uint64_t changes;
	uint32_t count;
	uint32_t shown_buckets;
	bool sweeping; /* events were lost: through all slots, stands at @sweep_at */
	bool sweep_again; /* some were lost since: once more, when it is through */
	size_t sweep_at;
};

/* IPSEC_PROTO_ANY of the kernel: AH, ESP and IPComp. */
#define XF_SAD_PROTO_IPSEC 255

/* The kernel's xfrm_id_proto_match(). */
bool xf_sad_proto_match(uint8_t proto, uint8_t wanted);

/* --- key.c --- */

/* What seat @number is linked by. */
uint64_t xf_sad_hash_of(const struct xf_table_place *place, uint32_t number);

/* --- link.c --- */

/* Memory for one more SA, so that the functions below cannot fail: 0 or -ENOMEM. */
int xf_sad_reserve_links(struct xf_sad *sad);

/*
 * Give @sa a seat and link it, by all of its configuration but the SPI, which
 * xf_sad_link_spi() does. False: no memory.
 */
bool xf_sad_seat(struct xf_sad *sad, struct xf_sa *sa);

/* Link @sa by its SPI: by the gate of @heir_of (or NULL), whose place it takes, or in tables. */
void xf_sad_link_spi(struct xf_sad *sad, struct xf_sa *sa, struct xf_sa *heir_of);

/* Link @sa by its SPI, which is one of gate @number's. */
void xf_sad_link_gate(struct xf_sad *sad, struct xf_sa *sa, uint32_t number);

/* Take @sa out of all tables; xf_sad_leave() must follow after a grace period. */
void xf_sad_unlink(struct xf_sad *sad, struct xf_sa *sa);
void xf_sad_leave(struct xf_sad *sad, struct xf_sa *sa);

/*
 * Publish @cfg for @sa, and where lookups must see that it differs, another seat: 0 or -ENOMEM.
 */
int xf_sad_reseat(struct xf_sad *sad, struct xf_sa *sa, const struct xf_sa_config *cfg);

/* --- sad.c --- */

/* Is there room for one more, when @leaving SAs go away for it? -ENOSPC with a sentence. */
int xf_sad_check_room(const struct xf_sad *sad, uint32_t leaving, const char **why);

/*
 * Put @sa into the tables without asking whether it may be there, in the place of @heir_of if that
 * is not NULL: 0 or -ENOMEM.
 */
int xf_sad_insert(struct xf_sad *sad, struct xf_sa *sa, struct xf_sa *heir_of);

/* The same, as number @id of those that arrived: no other has that. */
int xf_sad_insert_as(struct xf_sad *sad, struct xf_sa *sa, struct xf_sa *heir_of, uint64_t id);

/* Look at the lifetimes of @sa on the next xf_sad_expire(). */
void xf_sad_reschedule(struct xf_sad *sad, struct xf_sa *sa);

/* Give back memory that SAs which went away have left. */
void xf_sad_trim(struct xf_sad *sad);

/* --- lookup.c --- */

/* Is there an SA in the tables that has expired? Any thread, costs one load. */
static inline bool xf_sad_has_expired(const struct xf_sad *sad)
{
	return atomic_load_explicit(&sad->expired, memory_order_relaxed) != 0;
}

/* Who stands at @gate (NULL is allowed), if that has the key @id; as xf_gate_look(). */
static inline uintptr_t xf_sad_at_gate(const struct xf_gate *gate, const struct xf_sa_id *id)
{
	uintptr_t seen = gate ? xf_gate_look(gate) : 0;

	if (!seen || gate->spi != id->spi || gate->proto != id->proto ||
	    gate->family != id->family || !xf_addr_equal(&gate->daddr, &id->daddr, id->family))
		return 0;
	return seen;
}

/* --- walk.c --- */

/* How many slots hold SAs that came before number @id: where it stands, if it does. */
size_t xf_sad_slots_before(const struct xf_sad *sad, uint64_t id);

/* --- larval.c --- */

/* A larval SA that ACQUIRE number @cfg->seq asked for, or NULL. */
struct xf_sa *xf_sad_larval_by_seq(const struct xf_sad *sad, const struct xf_sa_view *cfg);

/* A larval SA without an SPI that is like @cfg (the kernel's __find_acq_core()), or NULL. */
struct xf_sa *xf_sad_larval_like(const struct xf_sad *sad, const struct xf_sa_view *cfg);

/* The SA that @walk stands on, or NULL. */
static inline struct xf_sa *xf_sad_entry(const struct xf_sad *sad, const struct xf_table_walk *walk)
{
	return walk->number ? xf_seat_at(&sad->seats, walk->number)->sa : NULL;
}

#endif
