/*
 * pkt_test.h - what tests do with packets, and no packet path does.
 *
 * Threads: as pkt.h.
 */
#ifndef XF_PKT_PKT_TEST_H
#define XF_PKT_PKT_TEST_H

#include <xf/pkt.h>

/* A packet over @len bytes of foreign memory, which must outlive it and is never written. */
struct xf_pkt *xf_pkt_attach(struct xf_pool *pool, const void *data, uint32_t len,
			     struct xf_buf *foreign);

/* Make the packet one segment; counted in lin_copies. 0 or -ENOBUFS. */
int xf_pkt_linearize(struct xf_pkt *pkt);

#endif
