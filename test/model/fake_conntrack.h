/*
 * fake_conntrack.h - connection tracking and NAT as the kernel has them: entries with two tuples,
 * decided once for a connection. Of UDP and TCP only; what else there is has no entry.
 */
#ifndef TEST_FAKE_CONNTRACK_H
#define TEST_FAKE_CONNTRACK_H

#include <xf/spd.h>

#include "capture/nat/conntrack.h"

#include "fake_nft.h"

struct fake_tuple {
	union xf_addr addr[2]; /* source, destination */
	uint16_t port[2];
	uint16_t family;
	uint8_t proto;
};

/* What NAT changes: the source (postrouting, input) or the destination (prerouting, output). */
enum fake_manip { FAKE_SRC, FAKE_DST };

struct fake_entry {
	struct fake_tuple way[2]; /* original, reply */
	uint16_t zone; /* of the original direction; of the other it is 0 */
	bool decided[2];
	bool changed[2];
	bool clashed; /* it got another port, since answers would look like those of others */
	bool confirmed;
	bool replied; /* a packet of the reply direction was seen */
	bool closed; /* one that ends a connection was */
	const char *masqueraded; /* by which device, or NULL */
	struct fake_entry *next;
};

/* A packet's place in it. */
struct fake_track {
	struct fake_entry *entry; /* NULL: not tracked */
	bool reply;
	bool untracked; /* rules say so */
	bool keep_source; /* likewise, in a nat chain */
	uint16_t zone; /* likewise */
};

struct fake_conntrack {
	struct fake_entry *entries;
	unsigned n;
};

void fake_conntrack_flush(struct fake_conntrack *ct);

/* Begin and end of a packet's way through the host: what is not confirmed is forgotten. */
void fake_conntrack_in(struct fake_conntrack *ct, struct fake_packet *p);
void fake_conntrack_confirm(struct fake_conntrack *ct, struct fake_track *track);
void fake_conntrack_end(struct fake_track *track);
/* The entry is taken away while a packet of it is on its way. */
void fake_conntrack_kill(struct fake_conntrack *ct, struct fake_track *track);

/* Decide once; @to NULL: the address that it has. @port 0: likewise. */
void fake_conntrack_bind(const struct fake_conntrack *ct, struct fake_entry *entry,
			 enum fake_manip manip, const union xf_addr *to, uint16_t port);
/* Do to @p what was decided. */
void fake_conntrack_translate(enum fake_manip manip, struct fake_packet *p);

/* The kernel's part of xf_conntrack_clean(): entries as messages, and these deleted. */
uint64_t fake_conntrack_clean(struct fake_conntrack *ct, const struct xf_conntrack_changes *changes,
			      const struct xf_spd *spd);

#endif
