/*
 * db.h - the inside of a SAD, for the files of this folder alone.
 *
 * sad.c changes the tables, lookup.c reads them, larval.c makes SAs without keys, expire.c acts on
 * lifetimes, walk.c lists. Control thread, except what lookup.c does.
 */
#ifndef XF_SAD_DB_H
#define XF_SAD_DB_H

#include "sa.h"

/* An SA in order of arrival; the place of one that went away stays until the next packing. */
struct xf_sad_slot {
	uint64_t id;
	struct xf_sa *sa;
};

struct xf_sad {
	struct xf_sad_config cfg;
	struct xf_table tables[XF_SA_TABLES]; /* published by RCU */
	struct xf_sa_stack stack; /* atomic */

	/* Control thread. */
	struct xf_heap due;
	struct xf_sad_slot *slots;
	size_t nslots;
	size_t slots_max;
	uint64_t last_id;
	uint32_t count;
};

/* IPSEC_PROTO_ANY of the kernel: AH, ESP and IPComp. */
#define XF_SAD_PROTO_IPSEC 255

/* The kernel's xfrm_id_proto_match(). */
bool xf_sad_proto_match(uint8_t proto, uint8_t wanted);

/* Hashes of the tables' keys; XF_SA_BY_ADDR leaves reqid out, XF_SA_BY_ENDS the protocol. */
uint64_t xf_sad_hash_spi(const struct xf_sad *sad, const struct xf_sa_id *id);
uint64_t xf_sad_hash_number(const struct xf_sad *sad, uint32_t spi, uint8_t proto);
uint64_t xf_sad_hash_seq(const struct xf_sad *sad, uint32_t seq);
uint64_t xf_sad_hash_ends(const struct xf_sad *sad, const struct xf_sa_id *id,
			  const union xf_addr *saddr, uint32_t reqid);
uint64_t xf_sad_hash_addr(const struct xf_sad *sad, const struct xf_sa_id *id,
			  const union xf_addr *saddr);

/* The SA whose link of @table @walk stands on. */
static inline struct xf_sa *xf_sad_entry(const struct xf_table_walk *walk, enum xf_sa_table table)
{
	if (!walk->link)
		return NULL;
	return XF_CONTAINER_OF(walk->link, struct xf_sa, links.table[table]);
}

/* Is there room for one more, when @leaving SAs go away for it? -ENOSPC with a sentence. */
int xf_sad_check_room(const struct xf_sad *sad, uint32_t leaving, const char **why);

/* Put @sa into the tables without asking whether it may be there: 0 or -ENOMEM. */
int xf_sad_insert(struct xf_sad *sad, struct xf_sa *sa);

/* Publish @cfg, which gives a larval SA its SPI, and link it by that. 0 or -ENOMEM. */
int xf_sad_set_spi(struct xf_sad *sad, struct xf_sa *sa, const struct xf_sa_config *cfg);

/* Look at the lifetimes of @sa on the next xf_sad_expire(). */
void xf_sad_reschedule(struct xf_sad *sad, struct xf_sa *sa);

/* A larval SA that ACQUIRE number @cfg->seq asked for, or NULL. */
struct xf_sa *xf_sad_larval_by_seq(const struct xf_sad *sad, const struct xf_sa_config *cfg);

/* A larval SA without an SPI that is like @cfg (the kernel's __find_acq_core()), or NULL. */
struct xf_sa *xf_sad_larval_like(const struct xf_sad *sad, const struct xf_sa_config *cfg);

#endif
