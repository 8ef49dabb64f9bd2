/*
 * fake_term.h - what rules of fake_nft.h read of a packet, for fake_rule.c.
 */
#ifndef TEST_FAKE_TERM_H
#define TEST_FAKE_TERM_H

#include "fake_rule.h"

/* A field of a packet, or of its connection, under a mask. */
struct term {
	uint8_t what; /* see fake_term.c */
	enum type type;
	unsigned side; /* destination? */
	unsigned way; /* of a connection: reply? */
	unsigned off, len; /* of the transport header, in bytes */
	uint8_t mask[FAKE_FIELD];
};

/* "ip saddr . meta l4proto . th dport & 0xff00", each into one of @terms; returns how many. */
unsigned term_read_all(struct words *w, struct term terms[FAKE_FIELDS]);

/* "tcp flags & (syn | ack) ==": its right side is read by term_read_flags(). */
bool term_read_flags_of_tcp(struct words *w, struct term *term);
uint32_t term_read_flags(struct words *w);

/* "exthdr frag exists" */
void term_is_piece(struct term *term);
bool term_has_no_right_side(const struct term *term);

/* False: the packet has no such field. */
bool term_load_all(const struct term *terms, unsigned n, const struct fake_packet *p,
		   uint8_t key[FAKE_KEY]);

#endif
