/*
 * in.h - the way in, in the order in which a batch goes through its files:
 *
 *   in.c          parse the outer packets
 *   in_flight.c   the rounds: find the SA, transform and cipher, look inside
 *   in_policy.c   what the policies, and the SAs' own selectors, say of what came out
 *   in_deliver.c  join what passes, and deliver it in its turn
 *
 * Each hands all packets on at once. A worker's thread, in a read section.
 */
#ifndef XF_PATH_IN_H
#define XF_PATH_IN_H

#include "path/worker.h"

struct xf_in {
	struct xf_worker *worker;
	struct xf_path_result *res;
	uint64_t now_ns;
	struct xf_flight *filling; /* takes what was shaped */
	struct xf_group *batch; /* that it is a part of, or NULL */
};

/* Is there a transform's header in @s, of @f? */
static inline enum xf_drop xf_in_find_spi(struct xf_flight *f, struct xf_slot *s)
{
	enum xf_drop err = xf_spi_find(s->pkt, &s->ip, &s->spi);

	s->has_spi = err == XF_PASS;
	f->ahead += s->has_spi;
	return err;
}

/* @f, a part of @batch or NULL, goes through its rounds and on. Consumes @f. */
void xf_in_go(struct xf_in *in, struct xf_flight *f, struct xf_group *batch);

/* Ask policies about the packets of @f: the verdict of each is in s->err. Some leave: they wait for
 * their other fragments, or may not be forwarded. */
void xf_in_ask_policies(struct xf_in *in, struct xf_flight *f);

/* What passes goes on its way, in the order in which it came; the rest is dropped. */
void xf_in_deliver(struct xf_in *in, struct xf_flight *f);

/* One part of @batch less to wait for; with the last one it is complete. */
void xf_in_part_done(struct xf_in *in, struct xf_group *batch);

/* Nothing is held over the end of a call, or of a batch: what is joined came together. */
void xf_in_flush(struct xf_in *in, struct xf_pktq *to);

#endif
