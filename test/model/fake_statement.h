/*
 * fake_statement.h - what rules say of connections and of ICMP, for fake_rule.c: conntrack's
 * matches, NAT.
 */
#ifndef TEST_FAKE_STATEMENT_H
#define TEST_FAKE_STATEMENT_H

#include "fake_rule.h"

enum statement_kind {
	CT_DIRECTION,
	CT_STATUS,
	CT_STATE,
	CT_ZONE,
	CT_SET_ZONE,
	NOTRACK,
	KEEP_SOURCE,
	REWRITE,
	ICMP_TYPE
};

struct statement {
	enum statement_kind kind;
	bool reply; /* CT_DIRECTION; REWRITE: from that way's tuple */
	uint8_t manip; /* CT_STATUS: of what; REWRITE: the tuple's member */
	uint16_t zone;
	bool differs; /* CT_ZONE: "!=" */
	uint16_t family; /* 0: both */
	uint8_t proto; /* REWRITE: the ports of it; 0: the address */
	uint8_t states; /* CT_STATE: one of these bits */
	unsigned types; /* as bits */
};

/* The next words are one: they are taken. */
bool statement_read(struct words *w, struct statement *out);

/* False: it does not match, the rule ends here. */
bool statement_run(const struct statement *statement, struct fake_packet *p);

#endif
