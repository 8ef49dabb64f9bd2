/*
 * toy.h - three transforms for tests, which come through the same door as ESP: of AH's protocol
 * number, and with its place of the SPI.
 *
 *   | IP | 8 bytes: protocol behind, count or index, number (16 bits), SPI | text |
 *
 * Text is ciphered by AES-CTR with one nonce for all: for tests alone. IPv4, transport mode, UDP.
 */
#ifndef XF_TEST_TOY_H
#define XF_TEST_TOY_H

#include "sim.h"

/* By the reqid of its SA. */
enum toy_kind {
	TOY_PLAIN = 10, /* a packet is a packet */
	TOY_PAIRS = 11, /* two are one; the second is waited for */
	TOY_HUNDRED = 12, /* one is a hundred, and their hundred one again */
};

#define TOY_HDR_LEN 8u
#define TOY_PIECES 100u
#define TOY_ROW 25u /* so many of them are prepared together */
#define TOY_WAIT_NS 5000000ull /* for a second packet */
#define TOY_KEEP_NS XF_NSEC_PER_SEC /* pieces of one packet */

void toy_register(void);

/* An SA from A to B. */
struct sim_sa toy_sa(enum toy_kind kind);

/* @sa on both hosts, a policy out at A and one in at B; with @outer_reqid of two templates. */
void toy_add_way(struct sim *sim, const struct sim_sa *sa, uint32_t outer_reqid,
		 uint8_t outer_proto);

/* Calls of prepare, outbound and inbound, since the last call of this. One thread. */
unsigned toy_calls(void);

/* From now on prepare does the cipher's work itself and leaves none to be done. */
void toy_set_own_cipher(bool own);

#endif
