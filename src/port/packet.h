/*
 * packet.h - where packet sockets (AF_PACKET) may send: a table of destinations and next hops.
 *
 * A raw socket makes the kernel look up route and neighbour for each packet and takes it through
 * every netfilter hook. Where the answers are known beforehand a packet socket does without: the
 * frame on the wire is the same. It is used only for destinations in this table, and a hop is in
 * it only while the kernel itself would send there at once and no firewall looks at what is sent.
 * The table is emptied when anything that it came from changes, and made anew.
 *
 * Once a second one packet of each destination takes the raw socket nevertheless: neighbours are
 * confirmed by the kernel, which must see them used, connection tracking sees the flow alive, and
 * this is when what tells of no changes (iptables) is looked at again.
 *
 * Threads: the control thread owns it; xf_packet_find() and xf_packet_due() are the workers',
 * which use what they found until they are quiescent. A worker never waits for an answer: what
 * is not in the table is asked for, and goes another way meanwhile.
 */
#ifndef XF_PORT_PACKET_H
#define XF_PORT_PACKET_H

#include <stdatomic.h>

#include <xf/event.h>

#include "host/firewall.h"
#include "host/hop.h"
#include "port/ring.h"

/* How native packets (those no UDP socket takes) leave. */
enum xf_native {
	XF_NATIVE_AUTO, /* by packet sockets where that is safe; received by the ring likewise */
	XF_NATIVE_PACKET, /* also past firewalls */
	XF_NATIVE_RAW, /* by raw sockets only */
};

#define XF_PACKET_DESTS_MAX 256

/* Constant but for due_ns. */
struct xf_hop {
	uint32_t ifindex;
	uint32_t mtu;
	uint8_t lladdr[8]; /* six of them */
	_Atomic uint64_t due_ns; /* when a packet shall take the raw socket again */
};

struct xf_packet;

int xf_packet_new(const struct xf_io_names *names, enum xf_native mode, struct xf_packet **out,
		  struct xf_io_error *error);
void xf_packet_free(struct xf_packet *packet); /* NULL is allowed */

/* A descriptor that is readable when xf_packet_dispatch() has work. */
int xf_packet_fd(const struct xf_packet *packet);

/* Take XF_EVENT_NEXT_HOP or _HOPS_USED, by which workers tell. xf_packet_dispatch() must follow. */
void xf_packet_take(struct xf_packet *packet, const struct xf_event *event, uint64_t now_ns);

/* True, once: such events were lost, and xf_packet_dispatch() must follow. The next packet asks
 * again. */
bool xf_packet_has_lost(struct xf_packet *packet);

/* Follow what has changed, answer what workers have asked for. Does not block. */
void xf_packet_dispatch(struct xf_packet *packet, uint64_t now_ns);

/* The hop for packets of @key; NULL: there is none, or not yet. @events: the worker's, here and
 * below. */
struct xf_hop *xf_packet_find(struct xf_packet *packet, const struct xf_hop_key *key,
			      uint64_t now_ns, struct xf_event_ring *events);

/* Is it time for a packet to take the raw socket? Says so once a second for each hop. */
bool xf_packet_due(struct xf_packet *packet, struct xf_hop *hop, uint64_t now_ns,
		   struct xf_event_ring *events);

/* A worker has received from the ring: once a second this has the rules looked at again. */
void xf_packet_received(struct xf_packet *packet, uint64_t now_ns, struct xf_event_ring *events);

struct xf_packet_status {
	enum xf_native mode;
	unsigned dests; /* that packets were sent to */
	unsigned by_packet; /* of these, those with a hop */
	char why[XF_FIREWALL_WHY_MAX]; /* the others have none; "": all have one */
	unsigned by_ring; /* received from by the ring */
	char why_no_ring[sizeof(struct xf_io_error)]; /* the others are not; "": all are */
};
/* What is received ahead of IP input comes from here; NULL: this kernel has none. */
const struct xf_ring *xf_packet_ring(const struct xf_packet *packet);

void xf_packet_get_status(struct xf_packet *packet, struct xf_packet_status *out);

#endif
