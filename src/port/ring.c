#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <bpf/bpf.h>

/* What bpftool writes is not held to our warnings. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#include "ring.skel.h"
#pragma GCC diagnostic pop

#include "host/pins.h"
#include "host/quiet.h"
#include "port/backend.h"
#include "port/ring.h"
#include "port/ring_frags.h"

#include "esp_ring.h"
#include "tc_filter.h"

#define DEVICES_MAX 16

struct device {
	uint32_t ifindex;
	int link_fd;
	const char *why; /* it has no link */
	bool wanted;
};

struct xf_ring {
	/* Constant after xf_ring_new(). */
	struct ring *skel;
	uint8_t *head; /* a page with our place, one with the kernel's, the data twice */
	size_t page;
	struct xf_pins pins; /* where the backstop's links are */

	/* Control thread. */
	struct xf_rtnl rtnl;
	struct device devices[DEVICES_MAX];
	unsigned n;
	uint32_t round; /* value of the pairs in force */
	unsigned pairs;
};

static unsigned long *consumer(const struct xf_ring *ring)
{
	return (unsigned long *)(void *)ring->head;
}

/* A record's header, as the kernel has it: length with two flags, and four bytes for itself. */
static uint32_t *record_at(const struct xf_ring *ring, unsigned long at)
{
	return (uint32_t *)(void *)(ring->head + 2 * ring->page + at % XF_RING_BYTES);
}

static struct xf_pkt *copy_record(struct xf_io *io, const struct xf_ring_record *record)
{
	struct xf_pkt *pkt = xf_pkt_new(io->pool, record->len);

	if (!pkt)
		return NULL;
	memcpy(xf_pkt_append(pkt, record->len), record->data, record->len);
	pkt->family = XF_AF_INET;
	pkt->hdr_checked = true; /* by the program that took it */
	pkt->iif = record->iif;
	pkt->mark = record->mark;
	return pkt;
}

static bool is_fragment(const struct xf_ring_record *record)
{
	return xf_get_be16(record->data + 6) & XF_RING_FRAGMENT;
}

/* False: the pool is empty. */
static bool take_record(struct xf_io *io, struct xf_source *source,
			const struct xf_ring_record *record, struct xf_pktq *out)
{
	struct xf_pkt *pkt = copy_record(io, record);

	if (!pkt)
		return false;
	if (is_fragment(record))
		pkt = xf_ring_frags_take(io, source->frags, pkt);
	if (pkt)
		xf_pktq_push(out, pkt);
	return true;
}

/* Up to @max records, as far as they are complete. False: the pool is empty. */
static bool read_records(struct xf_io *io, struct xf_source *source, unsigned max,
			 struct xf_pktq *out)
{
	const struct xf_ring *ring = source->ring;
	unsigned long *producer = (unsigned long *)(void *)(ring->head + ring->page);
	unsigned long end = __atomic_load_n(producer, __ATOMIC_ACQUIRE);
	unsigned long at = *consumer(ring);
	bool room = true;

	for (unsigned n = 0; n < max && at < end; n++) {
		uint32_t *header = record_at(ring, at);
		uint32_t len = __atomic_load_n(header, __ATOMIC_ACQUIRE);

		if (len & BPF_RINGBUF_BUSY_BIT)
			break;
		if (!(len & BPF_RINGBUF_DISCARD_BIT))
			room = take_record(io, source, (const void *)(header + 2), out);
		if (!room)
			break;
		len &= ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);
		at += (len + BPF_RINGBUF_HDR_SZ + 7) & ~7u;
	}
	/* Before the look at what has come meanwhile: who finds us caught up wakes us. */
	__atomic_store_n(consumer(ring), at, __ATOMIC_SEQ_CST);
	return room;
}

static int ring_receive(struct xf_io *io, struct xf_source *source, unsigned max,
			struct xf_pktq *out)
{
	const struct xf_ring *ring = source->ring;
	const unsigned long *producer = (unsigned long *)(void *)(ring->head + ring->page);
	bool room = read_records(io, source, max, out);

	source->more = __atomic_load_n(producer, __ATOMIC_SEQ_CST) != *consumer(ring);
	xf_count(&io->count.ring_rx, out->count);
	if (out->count)
		xf_packet_received(io->cfg.packet, io->now_ns, xf_worker_events(io->worker));
	if (room)
		return (int)out->count;
	xf_count(&io->count.rx_no_buffer, 1);
	return -ENOBUFS;
}

const struct xf_backend xf_backend_ring = { .name = "ring", .receive = ring_receive };

/* The daemon's own lets ESP pass. */
static int note_filter(const struct nlmsghdr *msg, void *arg)
{
	const struct tcmsg *tcm = mnl_nlmsg_get_payload(msg);
	bool *found = arg;

	if (msg->nlmsg_type == RTM_NEWTFILTER && tcm->tcm_info >> 16 != XF_TC_PRIORITY)
		*found = true;
	else if (msg->nlmsg_type == RTM_NEWTFILTER)
		*found |= tcm->tcm_handle != 0 && tcm->tcm_handle != XF_TC_HANDLE;
	return MNL_CB_OK;
}

/* True, also when nobody can say. No such queueing discipline: no filters. */
static bool has_filters(struct xf_ring *ring, uint32_t ifindex)
{
	struct nlmsghdr *msg =
		xf_rtnl_start_tc(&ring->rtnl, RTM_GETTFILTER, NLM_F_DUMP, (int)ifindex,
				 TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS));
	bool found = false;
	int err;

	err = xf_rtnl_talk(&ring->rtnl, msg, note_filter, &found);
	return found || (err && err != -EINVAL && err != -ENOENT);
}

static void detach(struct device *device)
{
	if (device->link_fd >= 0)
		close(device->link_fd);
	device->link_fd = -1;
}

static uint32_t id_of(int link)
{
	struct xf_tcx_info info = { .id = 0 };

	if (link >= 0)
		xf_tcx_info(link, &info);
	return info.id;
}

/* That of the backstop's program, which lets ESP pass; 0: there is none. */
static uint32_t backstop_link(const struct xf_ring *ring, uint32_t ifindex)
{
	int link = xf_pins_get(&ring->pins, ifindex, XF_TCX_INGRESS);
	uint32_t id = id_of(link);

	if (link >= 0)
		close(link);
	return id;
}

/* Why a device cannot have our link; NULL: it may. */
static const char *device_refusal(struct xf_ring *ring, struct device *device)
{
	uint32_t own = id_of(device->link_fd);
	uint32_t backstop = backstop_link(ring, device->ifindex);
	struct xf_tcx_seen seen;

	if (xf_tcx_query(device->ifindex, XF_TCX_INGRESS, &seen) < 0)
		return "this kernel has no tcx";
	for (unsigned i = 0; i < seen.n; i++)
		if (!seen.link[i] || (seen.link[i] != own && seen.link[i] != backstop))
			return "another program is at tcx ingress of the device";
	/* The device has gone, and our link with it; or each packet meets the backstop first. */
	if (!seen.n || seen.link[0] != own)
		detach(device);
	if (has_filters(ring, device->ifindex))
		return "there are filters at tc ingress of the device";
	return NULL;
}

static void attach(struct xf_ring *ring, struct device *device)
{
	device->why = device_refusal(ring, device);
	if (device->why)
		detach(device);
	if (device->why || device->link_fd >= 0)
		return;
	device->link_fd = xf_tcx_link(device->ifindex, XF_TCX_INGRESS,
				      bpf_program__fd(ring->skel->progs.xf_ring));
	if (device->link_fd < 0)
		device->why = "this kernel has no tcx";
}

/* The device, its link as it can be had; NULL: there are too many. */
static const struct device *want_device(struct xf_ring *ring, uint32_t ifindex)
{
	struct device *device = ring->devices;

	while (device < ring->devices + ring->n && device->ifindex != ifindex)
		device++;
	if (device == ring->devices + DEVICES_MAX)
		return NULL;
	if (device == ring->devices + ring->n) {
		*device = (struct device){ .ifindex = ifindex, .link_fd = -1 };
		ring->n++;
	}
	if (!device->wanted)
		attach(ring, device);
	device->wanted = true;
	return device;
}

void xf_ring_pause(struct xf_ring *ring)
{
	__atomic_store_n(&ring->skel->bss->on, 0, __ATOMIC_SEQ_CST);
}

void xf_ring_begin(struct xf_ring *ring)
{
	ring->round++;
	ring->pairs = 0;
	for (unsigned i = 0; i < ring->n; i++)
		ring->devices[i].wanted = false;
}

const char *xf_ring_want(struct xf_ring *ring, uint32_t ifindex, const union xf_addr *saddr,
			 const union xf_addr *daddr)
{
	const struct device *device = want_device(ring, ifindex);
	const struct xf_ring_pair pair = { ifindex, saddr->v4_be, daddr->v4_be };

	if (!device)
		return "there are too many devices";
	if (device->why)
		return device->why;
	if (bpf_map__update_elem(ring->skel->maps.pairs, &pair, sizeof(pair), &ring->round,
				 sizeof(ring->round), BPF_ANY))
		return "there are too many peers";
	ring->pairs++;
	return NULL;
}

/* What was not wanted again goes. A key that is deleted takes its place in the walk along. */
static void sweep_pairs(struct xf_ring *ring)
{
	const struct bpf_map *map = ring->skel->maps.pairs;
	struct xf_ring_pair key;
	struct xf_ring_pair next;
	bool has_key = false;
	uint32_t round;

	while (bpf_map__get_next_key(map, has_key ? &key : NULL, &next, sizeof(next)) == 0) {
		if (bpf_map__lookup_elem(map, &next, sizeof(next), &round, sizeof(round), 0) == 0 &&
		    round != ring->round && bpf_map__delete_elem(map, &next, sizeof(next), 0) == 0)
			continue;
		key = next;
		has_key = true;
	}
}

void xf_ring_end(struct xf_ring *ring)
{
	sweep_pairs(ring);
	for (unsigned i = 0; i < ring->n;) {
		if (ring->devices[i].wanted) {
			i++;
			continue;
		}
		detach(&ring->devices[i]);
		ring->devices[i] = ring->devices[--ring->n];
	}
	__atomic_store_n(&ring->skel->bss->on, ring->pairs > 0, __ATOMIC_SEQ_CST);
}

/* Our place, which we write, and behind it what only the kernel writes. */
static int map_ring(struct xf_ring *ring)
{
	size_t rest = ring->page + 2ul * XF_RING_BYTES;
	int fd = xf_ring_fd(ring);
	uint8_t *all = mmap(NULL, ring->page + rest, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (all == MAP_FAILED)
		return -errno;
	ring->head = all;
	if (mmap(all, ring->page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
		    MAP_FAILED ||
	    mmap(all + ring->page, rest, PROT_READ, MAP_SHARED | MAP_FIXED, fd,
		 (off_t)ring->page) == MAP_FAILED)
		return -errno;
	return 0;
}

int xf_ring_new(const struct xf_io_names *names, struct xf_ring **out, struct xf_io_error *error)
{
	struct xf_ring *ring = calloc(1, sizeof(*ring));
	libbpf_print_fn_t print;
	int err;

	if (!ring)
		return xf_io_fail(error, -ENOMEM, "cannot make a ring to receive from");
	print = xf_libbpf_quiet();
	ring->page = (size_t)sysconf(_SC_PAGESIZE);
	xf_pins_init(&ring->pins, names->bpffs);
	ring->skel = ring__open_and_load();
	err = ring->skel ? map_ring(ring) : -errno;
	libbpf_set_print(print);
	if (err)
		xf_io_fail(error, err, "cannot make a ring to receive from");
	else
		err = xf_rtnl_open(&ring->rtnl, error);
	if (err) {
		xf_ring_free(ring);
		return err;
	}
	*out = ring;
	return 0;
}

void xf_ring_free(struct xf_ring *ring)
{
	if (!ring)
		return;
	for (unsigned i = 0; i < ring->n; i++)
		detach(&ring->devices[i]);
	xf_rtnl_close(&ring->rtnl);
	if (ring->head)
		munmap(ring->head, 2 * ring->page + 2ul * XF_RING_BYTES);
	if (ring->skel)
		ring__destroy(ring->skel);
	free(ring);
}

int xf_ring_fd(const struct xf_ring *ring)
{
	return bpf_map__fd(ring->skel->maps.ring);
}

uint64_t xf_ring_full(const struct xf_ring *ring)
{
	return __atomic_load_n(&ring->skel->bss->full, __ATOMIC_RELAXED);
}
