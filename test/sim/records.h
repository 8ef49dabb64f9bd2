/*
 * records.h - SAs that are made over netlink on hosts of sim.h, and move from one to another.
 *
 * Tunnel number i carries 10.1.x.y to 10.2.x.y from A to B and back, by SAs of reqid i + 1.
 */
#ifndef XF_TEST_RECORDS_H
#define XF_TEST_RECORDS_H

#include "sim.h"

#include "nl/nl.h"

/* A host's netlink server. */
struct rec_side {
	struct sim_host *host;
	struct xf_nl_server *server;
	struct xf_nl_client *client;
	int err; /* of the last request */
};
void rec_init(struct rec_side *side, struct sim_host *host);
void rec_fini(struct rec_side *side);

enum rec_kind {
	REC_GCM, /* a window of struct xfrm_replay_state */
	REC_GCM_ESN, /* whose numbers pass 2^32 soon */
	REC_CBC, /* IVs of 16 bytes; a long window */
	REC_CHACHA,
	REC_KINDS,
};

struct rec_sa {
	uint32_t spi; /* the key is made from it */
	unsigned tunnel;
	enum rec_kind kind;
	bool reverse; /* from B to A */
};

/* The number before the first one. */
uint64_t rec_start(const struct rec_sa *sa);
unsigned rec_iv_len(const struct rec_sa *sa);

/* NEWSA, for that end of it. */
void rec_add(struct rec_side *side, const struct rec_sa *sa);
struct xf_sa *rec_find_in(const struct rec_side *side, const struct rec_sa *sa);
struct xf_sa *rec_find_out(const struct rec_side *side, const struct rec_sa *sa);

/* Policies out and fwd of a tunnel. */
void rec_add_policies(struct sim *sim, struct sim_host *host, unsigned tunnel, bool b);

/* A packet of @tag from the network of @tunnel. */
struct xf_pkt *rec_packet(struct xf_worker *worker, unsigned tunnel, bool reverse, uint32_t tag);

/* Freeze the @n SAs of @from, and restore them at @to by their records. */
void rec_move(struct rec_side *from, struct rec_side *to, struct xf_sa *const *sas, unsigned n);

/* (SA, IV) pairs that were on the wire. False: @iv was there before. */
struct rec_ivs;
struct rec_ivs *rec_ivs_new(unsigned room);
bool rec_ivs_add(struct rec_ivs *ivs, uint32_t spi, const uint8_t *iv, unsigned iv_len);
void rec_ivs_free(struct rec_ivs *ivs);

#endif
