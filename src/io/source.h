/*
 * source.h - many workers, one source: who reads.
 *
 * Sources tell of what arrives once (EPOLLET), to one of the workers that wait (EPOLLEXCLUSIVE).
 * Whoever is told claims the source. The first claim is the one that reads; a worker that finds
 * the source claimed goes on with something else and forgets about it, because whoever gives the
 * source back learns that there were others and looks again. So nobody waits for a reader, nobody
 * is woken in vain by what a reader is just taking, and no arrival is forgotten.
 *
 * Threads: any. What the reader writes is seen by the next one.
 */
#ifndef XF_IO_SOURCE_H
#define XF_IO_SOURCE_H

#include "io/backend.h"

/* True: the caller reads, and gives back what it claimed. False: somebody else does. */
static inline bool xf_source_claim(struct xf_source *source)
{
	return atomic_fetch_add_explicit(&source->claims, 1, memory_order_acq_rel) == 0;
}

/* True: others have claimed it meanwhile, the caller has to look again. */
static inline bool xf_source_give_back(struct xf_source *source)
{
	return atomic_exchange_explicit(&source->claims, 0, memory_order_acq_rel) > 1;
}

#endif
