/*
 * source.h - what packets come from: many workers, a set of sources that changes while they run.
 *
 * A source is a descriptor with the function that reads a batch from it. Sources have places in a
 * set, and places are used again; each time with a new generation. An epoll event carries both in
 * its token, and so does what a worker has noted as ready. Whoever comes to a source by a token of
 * an earlier generation finds nothing: the event was about a source that is gone.
 *
 * Shared sources tell of what arrives once (EPOLLET), to one of the workers that wait
 * (EPOLLEXCLUSIVE). Whoever is told claims the source. The first claim is the one that reads; a
 * worker that finds the source claimed goes on with something else and forgets about it, because
 * whoever gives the source back learns that there were others and looks again. So nobody waits for
 * a reader, nobody is woken in vain by what a reader is just taking, and no arrival is forgotten.
 *
 * Threads: the control thread opens and closes. A worker finds and reads within one read section
 * (xf/rcu.h); what a place held is closed, and the place used again, a grace period after it could
 * be found for the last time. Claims: any thread; what the reader writes is seen by the next one.
 */
#ifndef XF_PORT_SOURCE_H
#define XF_PORT_SOURCE_H

#include <stdatomic.h>

#include <xf/pkt.h>
#include <xf/rcu.h>
#include <xf/turn.h>

struct xf_io;
struct xf_ring;
struct xf_ring_frags;
struct xf_source;

/* A kind of source. Back ends are added as such tables. */
struct xf_backend {
	const char *name;
	/* Does it give captured packets (xf_path_out()), not received ones (xf_path_in())? */
	bool captured;
	/*
	 * Read up to @max packets into @out without blocking. Returns how many were read, or
	 * -errno; what is malformed is dropped and counted here and does not come out. Says in
	 * source->more whether it stopped before the source was empty.
	 */
	int (*receive)(struct xf_io *io, struct xf_source *source, unsigned max,
		       struct xf_pktq *out);
};

extern const struct xf_backend xf_backend_tun;
extern const struct xf_backend xf_backend_raw;
extern const struct xf_backend xf_backend_udp;
extern const struct xf_backend xf_backend_ring;

struct xf_source {
	/* Constant while it is open. Readers of other threads look at fd first. */
	const struct xf_backend *backend;
	_Atomic int fd; /* -1: closed */
	uint32_t index; /* its place, for ever */
	_Atomic uint32_t generation; /* another one each time it is opened; 0: it never was */
	uint8_t proto; /* of raw: what the IPv6 header that it rebuilds says */
	uint16_t port; /* of udp */
	uint16_t family; /* of raw and udp */
	bool segments; /* of udp: the kernel has UDP_SEGMENT */
	const struct xf_ring *ring; /* of ring */
	uint32_t ifindex; /* of tun: that of a link (device.h), else 0 */
	uint32_t if_id; /* of a link */

	/* Workers that want to read; the first of them does. */
	_Atomic uint32_t claims;

	/* The worker that reads. */
	bool more; /* the last batch may not have emptied it */
	unsigned max; /* of udp: messages that are read at once */
	unsigned found; /* messages that the last read brought (rx.c) */
	struct xf_ring_frags *frags; /* of ring */
	uint64_t batches; /* read; the number of a batch is its place in the order */

	/* Whoever delivers. It outlives what is read from: batches may wait to be delivered. */
	struct xf_turn turn;

	/* The control thread: the socket outlives the source until nobody can hold it. */
	struct xf_rcu_head rcu;
	int socket; /* -1: closed too */
	bool closing;
	bool taken; /* the place is somebody's */
	bool passing; /* until the socket is closed, not for ever */
};

/* Places of shared sources, and behind them what each worker has for itself. */
#define XF_SOURCES_MAX 4096

enum xf_source_index {
	XF_SOURCE_RING, /* the first place; each pass begins with it (struct xf_ready) */
	XF_SOURCE_TUN = XF_SOURCES_MAX,
	XF_SOURCE_STOP, /* the eventfd of xf_io_stop() */
	XF_SOURCE_WAKE, /* that of ciphers on other threads */
	XF_SOURCES_END,
};

/* A place that has been used keeps its memory until the set goes. */
struct xf_sources {
	_Atomic(struct xf_source *) at[XF_SOURCES_MAX];
	uint32_t n; /* places that have been used. The control thread's */
};

static inline uint64_t xf_token(uint32_t index, uint32_t generation)
{
	return (uint64_t)generation << 32 | index;
}

static inline uint64_t xf_source_token(const struct xf_source *source)
{
	return xf_token(source->index,
			atomic_load_explicit(&source->generation, memory_order_relaxed));
}

static inline uint32_t xf_token_index(uint64_t token)
{
	return (uint32_t)token;
}

/* The source that @token is about, until the read section ends; NULL: it is gone. */
static inline struct xf_source *xf_sources_find(const struct xf_sources *set, uint64_t token)
{
	struct xf_source *source =
		atomic_load_explicit(&set->at[xf_token_index(token)], memory_order_acquire);
	uint32_t generation = (uint32_t)(token >> 32);

	if (!source ||
	    atomic_load_explicit(&source->generation, memory_order_acquire) != generation)
		return NULL;
	return source;
}

/*
 * A worker's sources that may have packets, each once, in the order in which they became ready;
 * but for the ring, which goes before all others: when it is paused, what is still in it is older
 * than what raw sockets have.
 */
struct xf_ready {
	uint32_t first; /* in @order */
	uint32_t n;
	uint16_t order[XF_SOURCES_END];
	uint32_t generation[XF_SOURCES_END]; /* of those that are ready, else 0 */
};

static inline bool xf_ready_any(const struct xf_ready *ready)
{
	return ready->n || ready->generation[XF_SOURCE_RING];
}

static inline void xf_ready_add(struct xf_ready *ready, uint64_t token)
{
	uint32_t index = xf_token_index(token);
	uint32_t at = ready->first + ready->n;

	if (!ready->generation[index] && index != XF_SOURCE_RING) {
		ready->order[at < XF_SOURCES_END ? at : at - XF_SOURCES_END] = (uint16_t)index;
		ready->n++;
	}
	/* The newest: an event that is told later is about a later source. */
	ready->generation[index] = (uint32_t)(token >> 32);
}

/* The token of source @index, which is not ready any more; of generation 0 when it was not. */
static inline uint64_t xf_ready_clear(struct xf_ready *ready, uint32_t index)
{
	uint64_t token = xf_token(index, ready->generation[index]);

	ready->generation[index] = 0;
	return token;
}

/* The next of the @n, of which there is one. */
static inline uint64_t xf_ready_take(struct xf_ready *ready)
{
	uint32_t index = ready->order[ready->first];

	ready->first = ready->first + 1 < XF_SOURCES_END ? ready->first + 1 : 0;
	ready->n--;
	return xf_ready_clear(ready, index);
}

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
