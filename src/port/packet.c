#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <xf/rcu.h>

#include "host/rtnl.h"
#include "port/backend.h"
#include "port/packet.h"

/* Slots of the index: never more than a quarter full. */
#define INDEX_SLOTS (4 * XF_PACKET_DESTS_MAX)
/* However much changes, everything is looked up so often at most; meanwhile raw sockets send. */
#define SETTLE_NS (XF_NSEC_PER_SEC / 20)
#define DUE_NS XF_NSEC_PER_SEC
/* A destination that nothing was sent to for so long may have to make room. */
#define IDLE_NS (60 * XF_NSEC_PER_SEC)

struct dest {
	struct xf_hop_key key;
	struct xf_hop hop;
	const char *why; /* no hop; NULL: there is one */
};

/* Constant once published, but for the hops' due_ns. */
struct table {
	struct xf_rcu_head rcu;
	bool blocked; /* by a firewall: there are no hops */
	bool full; /* of destinations in use */
	unsigned n;
	uint16_t index[INDEX_SLOTS]; /* of a destination, plus one */
	struct dest dests[XF_PACKET_DESTS_MAX];
};

_Static_assert(sizeof(struct xf_hop_key) <= XF_EVENT_DATA_BYTES, "a question is an event");

struct xf_packet {
	/* Constant after xf_packet_new(). */
	enum xf_native mode;
	int epoll_fd;
	int timer_fd; /* of what had to settle */
	struct mnl_socket *monitor;

	/* Published by RCU; NULL while it is not to be relied on. */
	_Atomic(struct table *) table;

	/* Written by workers, and by the control thread. */
	_Atomic bool asking; /* a question is under way: one at a time */
	struct xf_event_lost lost; /* maybe that one */
	_Atomic uint64_t full_ns; /* when a full table may be asked for more again */
	_Atomic uint64_t received_ns; /* when what allows the ring is looked at again */

	/* Control thread. */
	struct xf_rtnl rtnl;
	struct xf_firewall *firewall;
	struct {
		struct xf_hop_key key;
		struct xf_hop_facts facts;
	} dests[XF_PACKET_DESTS_MAX];
	unsigned n;
	bool crowded; /* there was no room for another one */
	bool grown; /* there is one that the table does not have */
	bool stale; /* something has changed since all of it was looked up, ... */
	uint64_t asked_ns; /* which was then */
	struct xf_firewall_why blocked;
	struct xf_ring *ring; /* NULL: none, because of ... */
	struct xf_io_error no_ring;
	unsigned by_ring;
	const char *why_no_ring; /* of the first that is not */
};

static uint32_t hash_key(const struct xf_hop_key *key)
{
	uint64_t v = key->mark;

	v = (v ^ key->saddr.quad[0] ^ key->saddr.quad[1]) * 0x9e3779b97f4a7c15ull;
	v = (v ^ v >> 32 ^ key->daddr.quad[0] ^ key->daddr.quad[1]) * 0xff51afd7ed558ccdull;
	return (uint32_t)(v >> 32);
}

static bool same_key(const struct xf_hop_key *a, const struct xf_hop_key *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

static struct dest *find(struct table *table, const struct xf_hop_key *key)
{
	for (uint32_t i = hash_key(key);; i++) {
		uint16_t at = table->index[i % INDEX_SLOTS];

		if (!at)
			return NULL;
		if (same_key(&table->dests[at - 1].key, key))
			return &table->dests[at - 1];
	}
}

/* When another question is under way, the next packet asks again. */
static void ask(struct xf_packet *packet, struct xf_event_ring *events,
		const struct xf_hop_key *key)
{
	struct xf_event event = { .kind = XF_EVENT_NEXT_HOP };

	if (atomic_exchange(&packet->asking, true))
		return;
	memcpy(event.data, key, sizeof(*key));
	xf_event_tell(events, &event, &packet->lost);
}

static void tell_of_use(struct xf_packet *packet, struct xf_event_ring *events)
{
	xf_event_tell(events, &(struct xf_event){ .kind = XF_EVENT_HOPS_USED }, &packet->lost);
}

/* True once a second. */
static bool is_due(_Atomic uint64_t *at_ns, uint64_t now_ns)
{
	uint64_t due_ns = atomic_load_explicit(at_ns, memory_order_relaxed);

	return now_ns >= due_ns && atomic_compare_exchange_strong(at_ns, &due_ns, now_ns + DUE_NS);
}

struct xf_hop *xf_packet_find(struct xf_packet *packet, const struct xf_hop_key *key,
			      uint64_t now_ns, struct xf_event_ring *events)
{
	struct table *table = atomic_load_explicit(&packet->table, memory_order_acquire);
	struct dest *dest;

	if (!table || table->blocked)
		return NULL;
	dest = find(table, key);
	if (!dest) {
		if (!table->full || is_due(&packet->full_ns, now_ns))
			ask(packet, events, key);
		return NULL;
	}
	if (!dest->why)
		return &dest->hop;
	/* Says that it is in use. */
	is_due(&dest->hop.due_ns, now_ns);
	return NULL;
}

bool xf_packet_due(struct xf_packet *packet, struct xf_hop *hop, uint64_t now_ns,
		   struct xf_event_ring *events)
{
	if (!is_due(&hop->due_ns, now_ns))
		return false;
	tell_of_use(packet, events);
	return true;
}

void xf_packet_received(struct xf_packet *packet, uint64_t now_ns, struct xf_event_ring *events)
{
	if (is_due(&packet->received_ns, now_ns))
		tell_of_use(packet, events);
}

static void free_table(struct xf_rcu_head *head)
{
	free(XF_CONTAINER_OF(head, struct table, rcu));
}

static void publish(struct xf_packet *packet, struct table *table)
{
	struct table *old = atomic_exchange_explicit(&packet->table, table, memory_order_acq_rel);

	if (old)
		xf_rcu_defer(&old->rcu, free_table);
}

static const char *refusal(const struct xf_packet *packet, const struct xf_hop_facts *facts)
{
	return *packet->blocked.output ? packet->blocked.output : xf_hop_refusal(facts);
}

/* Destination @i of what is known, into @table. Its turn to be due stays as it was in @old. */
static void add_dest(const struct xf_packet *packet, unsigned i, struct table *table,
		     struct table *old)
{
	const struct xf_hop_facts *facts = &packet->dests[i].facts;
	struct dest *dest = &table->dests[table->n++];
	const struct dest *before = old ? find(old, &packet->dests[i].key) : NULL;
	uint32_t at;

	dest->key = packet->dests[i].key;
	dest->why = refusal(packet, facts);
	dest->hop.ifindex = facts->ifindex;
	dest->hop.mtu = facts->mtu;
	memcpy(dest->hop.lladdr, facts->lladdr, sizeof(dest->hop.lladdr));
	if (before)
		dest->hop.due_ns = before->hop.due_ns;
	for (at = hash_key(&dest->key) % INDEX_SLOTS; table->index[at]; at = (at + 1) % INDEX_SLOTS)
		;
	table->index[at] = (uint16_t)table->n;
}

static bool same_table(const struct table *a, const struct table *b)
{
	if (!a || a->n != b->n || a->full != b->full || a->blocked != b->blocked)
		return false;
	for (unsigned i = 0; i < a->n; i++) {
		const struct dest *x = &a->dests[i];
		const struct dest *y = &b->dests[i];

		if (!same_key(&x->key, &y->key) || x->why != y->why ||
		    x->hop.ifindex != y->hop.ifindex || x->hop.mtu != y->hop.mtu ||
		    memcmp(x->hop.lladdr, y->hop.lladdr, sizeof(x->hop.lladdr)) != 0)
			return false;
	}
	return true;
}

static const char *want_ring(struct xf_packet *packet, const struct xf_hop_key *key,
			     const struct xf_hop_facts *facts)
{
	const char *why = refusal(packet, facts);

	if (why)
		return why;
	if (key->family != XF_AF_INET)
		return "the ring is for IPv4";
	if (facts->master)
		return "the device belongs to another one";
	return xf_ring_want(packet->ring, facts->ifindex, &key->daddr, &key->saddr);
}

/* Receive from whom we send to, where nobody else judges what is received. */
static void build_ring(struct xf_packet *packet)
{
	bool blocked = *packet->blocked.input;

	packet->by_ring = 0;
	packet->why_no_ring = blocked ? packet->blocked.input : NULL;
	if (!packet->ring)
		return;
	xf_ring_begin(packet->ring);
	for (unsigned i = 0; !blocked && i < packet->n; i++) {
		const char *why = want_ring(packet, &packet->dests[i].key, &packet->dests[i].facts);

		packet->by_ring += !why;
		if (why && !packet->why_no_ring)
			packet->why_no_ring = why;
	}
	xf_ring_end(packet->ring);
}

/* Without memory there is no table, and raw sockets send. */
static void build(struct xf_packet *packet)
{
	struct table *table = calloc(1, sizeof(*table));
	struct table *old = atomic_load(&packet->table);

	if (table) {
		for (unsigned i = 0; i < packet->n; i++)
			add_dest(packet, i, table, old);
		table->full = packet->crowded;
		table->blocked = *packet->blocked.output;
	}
	if (table && same_table(old, table))
		free(table);
	else
		publish(packet, table);
	build_ring(packet);
}

static void look_up_all(struct xf_packet *packet, uint64_t now_ns)
{
	packet->asked_ns = now_ns;
	packet->stale = false;
	packet->blocked = (struct xf_firewall_why){ .output = "" };
	if (packet->mode == XF_NATIVE_AUTO)
		xf_firewall_look(packet->firewall, &packet->blocked);
	for (unsigned i = 0; i < packet->n; i++)
		xf_hop_ask(&packet->rtnl, &packet->dests[i].key, &packet->dests[i].facts);
}

/* Forget destinations that nobody sends to any more. */
static void make_room(struct xf_packet *packet, uint64_t now_ns)
{
	struct table *table = atomic_load(&packet->table);
	unsigned kept = 0;

	for (unsigned i = 0; table && i < packet->n; i++) {
		const struct dest *dest = find(table, &packet->dests[i].key);

		if (dest && dest->hop.due_ns + IDLE_NS > now_ns)
			packet->dests[kept++] = packet->dests[i];
	}
	packet->n = kept;
	packet->crowded = kept == XF_PACKET_DESTS_MAX;
}

static bool is_known(const struct xf_packet *packet, const struct xf_hop_key *key)
{
	for (unsigned i = 0; i < packet->n; i++)
		if (same_key(&packet->dests[i].key, key))
			return true;
	return false;
}

/* A worker's question becomes a destination. */
static void add_wanted(struct xf_packet *packet, const struct xf_hop_key *key, uint64_t now_ns)
{
	atomic_store(&packet->asking, false);
	if (is_known(packet, key))
		return;
	packet->grown = true;
	if (packet->n == XF_PACKET_DESTS_MAX)
		make_room(packet, now_ns);
	if (packet->crowded)
		return;
	packet->dests[packet->n].key = *key;
	xf_hop_ask(&packet->rtnl, key, &packet->dests[packet->n++].facts);
}

void xf_packet_take(struct xf_packet *packet, const struct xf_event *event, uint64_t now_ns)
{
	struct xf_hop_key key;

	if (event->kind != XF_EVENT_NEXT_HOP)
		return;
	memcpy(&key, event->data, sizeof(key));
	add_wanted(packet, &key, now_ns);
}

bool xf_packet_has_lost(struct xf_packet *packet)
{
	if (!xf_event_lost_take(&packet->lost))
		return false;
	atomic_store(&packet->asking, false);
	return true;
}

struct neigh {
	const struct nlattr *dst;
};

static int neigh_attr(const struct nlattr *attr, void *arg)
{
	struct neigh *neigh = arg;

	if (mnl_attr_get_type(attr) == NDA_DST)
		neigh->dst = attr;
	return MNL_CB_OK;
}

/* What is known of one neighbour has changed, often no more than its state: those that go there
 * are looked up again. There may be thousands of neighbours that are nothing to us. */
static bool see_neighbour(struct xf_packet *packet, const struct nlmsghdr *msg)
{
	const struct ndmsg *ndm = mnl_nlmsg_get_payload(msg);
	struct neigh neigh = { 0 };
	union xf_addr dst;
	bool found = false;

	mnl_attr_parse(msg, sizeof(*ndm), neigh_attr, &neigh);
	if (!neigh.dst || (ndm->ndm_family != AF_INET && ndm->ndm_family != AF_INET6) ||
	    mnl_attr_get_payload_len(neigh.dst) * 8 != xf_addr_bits(ndm->ndm_family))
		return false;
	xf_addr_load(&dst, mnl_attr_get_payload(neigh.dst), ndm->ndm_family);
	for (unsigned i = 0; i < packet->n; i++) {
		struct xf_hop_facts *facts = &packet->dests[i].facts;

		if (facts->ifindex != (uint32_t)ndm->ndm_ifindex ||
		    facts->via_family != ndm->ndm_family ||
		    !xf_addr_equal(&facts->via, &dst, ndm->ndm_family))
			continue;
		xf_hop_ask(&packet->rtnl, &packet->dests[i].key, facts);
		found = true;
	}
	return found;
}

struct changes {
	struct xf_packet *packet;
	bool some; /* known anew already */
	bool all;
};

static int note_change(const struct nlmsghdr *msg, void *arg)
{
	struct changes *changes = arg;

	if (msg->nlmsg_type == RTM_NEWNEIGH || msg->nlmsg_type == RTM_DELNEIGH)
		changes->some |= see_neighbour(changes->packet, msg);
	else
		changes->all = true;
	return MNL_CB_OK;
}

static void read_monitor(struct changes *changes)
{
	for (;;) {
		uint8_t buf[XF_RTNL_BUF] __attribute__((aligned(8)));
		ssize_t len = mnl_socket_recvfrom(changes->packet->monitor, buf, sizeof(buf));

		if (len >= 0)
			mnl_cb_run(buf, (size_t)len, 0, 0, note_change, changes);
		else if (errno == ENOBUFS || errno == ENOSPC)
			changes->all = true; /* nobody knows what was lost */
		else if (errno != EINTR)
			return;
	}
}

static void set_timer(struct xf_packet *packet, uint64_t ns)
{
	const struct itimerspec when = { .it_value.tv_nsec = (long)ns };

	timerfd_settime(packet->timer_fd, 0, &when, NULL);
}

static void drain(int fd)
{
	uint64_t count;

	while (read(fd, &count, sizeof(count)) < 0 && errno == EINTR)
		;
}

void xf_packet_dispatch(struct xf_packet *packet, uint64_t now_ns)
{
	uint64_t age_ns = now_ns - packet->asked_ns;
	struct changes changes = { .packet = packet };

	drain(packet->timer_fd);
	read_monitor(&changes);
	changes.all |= xf_firewall_dispatch(packet->firewall);
	if (changes.all)
		publish(packet, NULL);
	if (changes.all && packet->ring)
		xf_ring_pause(packet->ring);
	packet->stale |= changes.all;
	if (packet->stale && age_ns < SETTLE_NS) {
		set_timer(packet, SETTLE_NS - age_ns);
		return;
	}
	if (packet->stale || age_ns >= DUE_NS / 2)
		look_up_all(packet, now_ns);
	else if (!changes.some && !packet->grown)
		return;
	packet->grown = false;
	build(packet);
}

void xf_packet_get_status(struct xf_packet *packet, struct xf_packet_status *out)
{
	*out = (struct xf_packet_status){ .mode = packet->mode, .dests = packet->n };
	for (unsigned i = 0; i < packet->n; i++) {
		const char *why = refusal(packet, &packet->dests[i].facts);

		if (!why)
			out->by_packet++;
		else if (!*out->why)
			snprintf(out->why, sizeof(out->why), "%s", why);
	}
	if (!packet->n)
		snprintf(out->why, sizeof(out->why), "%s", packet->blocked.output);
	out->by_ring = packet->by_ring;
	snprintf(out->why_no_ring, sizeof(out->why_no_ring), "%s",
		 !packet->ring	       ? packet->no_ring.text
		 : packet->why_no_ring ? packet->why_no_ring
				       : "");
}

static int open_monitor(struct xf_packet *packet)
{
	static const int groups[] = {
		RTNLGRP_LINK,	    RTNLGRP_NEIGH,	RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR,
		RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV4_RULE,   RTNLGRP_IPV6_RULE,
		RTNLGRP_TC,	    RTNLGRP_NEXTHOP,
	};
	int rcvbuf = XF_RTNL_EVENT_BYTES;

	packet->monitor = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (!packet->monitor || mnl_socket_bind(packet->monitor, 0, MNL_SOCKET_AUTOPID) < 0)
		return -errno;
	setsockopt(mnl_socket_get_fd(packet->monitor), SOL_SOCKET, SO_RCVBUF, &rcvbuf,
		   sizeof(rcvbuf));
	/* An older kernel lacks the last of them, and then what it would tell of. */
	for (unsigned i = 0; i < XF_ARRAY_SIZE(groups); i++)
		if (mnl_socket_setsockopt(packet->monitor, NETLINK_ADD_MEMBERSHIP,
					  (void *)(uintptr_t)&groups[i], sizeof(groups[i])) < 0 &&
		    groups[i] != RTNLGRP_NEXTHOP)
			return -errno;
	return 0;
}

static int watch_all(struct xf_packet *packet)
{
	const int fds[] = {
		packet->timer_fd,
		mnl_socket_get_fd(packet->monitor),
		xf_firewall_fd(packet->firewall),
	};

	for (unsigned i = 0; i < XF_ARRAY_SIZE(fds); i++) {
		struct epoll_event event = { .events = EPOLLIN };

		if (epoll_ctl(packet->epoll_fd, EPOLL_CTL_ADD, fds[i], &event) < 0)
			return -errno;
	}
	return 0;
}

static int open_all(struct xf_packet *packet, struct xf_io_error *error)
{
	int err;

	packet->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	packet->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (packet->epoll_fd < 0 || packet->timer_fd < 0)
		return xf_io_fail(error, -errno, "cannot watch neighbours");
	err = open_monitor(packet);
	if (err)
		return xf_io_fail(error, err, "cannot watch neighbours");
	err = xf_rtnl_open(&packet->rtnl, error);
	if (!err)
		err = xf_firewall_new(&packet->firewall, error);
	if (err)
		return err;
	err = watch_all(packet);
	return err ? xf_io_fail(error, err, "cannot watch neighbours") : 0;
}

int xf_packet_new(const struct xf_io_names *names, enum xf_native mode, struct xf_packet **out,
		  struct xf_io_error *error)
{
	struct xf_packet *packet = calloc(1, sizeof(*packet));
	int err;

	if (!packet)
		return xf_io_fail(error, -ENOMEM, "cannot watch neighbours");
	packet->mode = mode;
	err = open_all(packet, error);
	if (err) {
		xf_packet_free(packet);
		return err;
	}
	if (xf_ring_new(names, &packet->ring, &packet->no_ring))
		packet->ring = NULL;
	/* What changes from here on is told by the monitors. */
	look_up_all(packet, 0);
	build(packet);
	*out = packet;
	return 0;
}

/* 0: it was not opened. */
static void close_fd(int fd)
{
	if (fd > 0)
		close(fd);
}

void xf_packet_free(struct xf_packet *packet)
{
	if (!packet)
		return;
	if (packet->monitor)
		mnl_socket_close(packet->monitor);
	xf_ring_free(packet->ring);
	xf_firewall_free(packet->firewall);
	xf_rtnl_close(&packet->rtnl);
	close_fd(packet->epoll_fd);
	close_fd(packet->timer_fd);
	free(atomic_load(&packet->table));
	free(packet);
}

int xf_packet_fd(const struct xf_packet *packet)
{
	return packet->epoll_fd;
}

const struct xf_ring *xf_packet_ring(const struct xf_packet *packet)
{
	return packet->ring;
}
