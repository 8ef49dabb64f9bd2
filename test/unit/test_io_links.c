/*
 * Hundreds of TUNs, read by two workers in turn, while some of them go and others come.
 *
 * Every packet tells which device it was sent by and its place there, and leaves by an SA of that
 * device alone: so what was lost, what has overtaken, and what was taken for another device's is
 * seen at the other end. All of it in a network namespace of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <dirent.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <cmocka.h>

#include "port/device.h"
#include "io_rig.h"
#include "sas.h"
#include "tun_meta.h"

#define WORKERS 2
#define LINKS 300
#define STAYING 200
#define CHANGES 60 /* each takes some devices away and adds as many */
#define AT_ONCE 3
#define BURST_MAX 100 /* a TUN holds 500 */
#define SPI 0x1000u
/* A packet in the receiver's buffer, with what the kernel adds. */
#define ROOM 1024
/* Only when something is lost for ever. */
#define FOREVER_MS 120000

#define LEN (XF_IPV4_HDR_LEN + XF_UDP_HDR_LEN + sizeof(struct tag))

/* What a packet says of itself. */
struct tag {
	uint32_t id;
	uint32_t instance;
	uint32_t number;
};

struct link {
	/* The control thread's. */
	uint64_t number; /* as xf_device_add() has it */
	int ifindex;
	/* Whoever sends. */
	uint32_t instance;
	uint32_t sent;
	uint32_t got;
	bool leaving; /* nobody waits for the rest */
};

/* What is asked of the control thread, or was done by it. */
enum phase { REMOVE, REMOVED, ADD, ADDED, END };

static struct bed {
	struct xf_engine *engine;
	struct xf_io_shared *shared;
	struct xf_io *io[WORKERS];
	pthread_t threads[WORKERS];
	struct link links[LINKS + 1]; /* the last has no policy */
	uint32_t last_seq[LINKS];
	unsigned under_way, most; /* packets that were sent and not received yet */
	unsigned burst;
	uint32_t changing[AT_ONCE];
	_Atomic enum phase phase;
	int to_tuns;
	int from_wire;
	uint64_t rng;
} bed;

static uint32_t draw(uint32_t below)
{
	return (uint32_t)(sas_random(&bed.rng) % below);
}

static struct xf_lifetime no_end(void)
{
	return (struct xf_lifetime){ .soft_bytes = XF_INF,
				     .hard_bytes = XF_INF,
				     .soft_packets = XF_INF,
				     .hard_packets = XF_INF };
}

static union xf_addr near_end(void)
{
	union xf_addr addr = { 0 };

	xf_addr_load(&addr, "\x7f\0\0\1", XF_AF_INET);
	return addr;
}

static union xf_addr far_end(void)
{
	union xf_addr addr = { 0 };

	xf_addr_load(&addr, "\x7f\0\0\2", XF_AF_INET);
	return addr;
}

/* NULL encryption: what is carried can be read on the wire. */
static void add_sa(uint32_t id)
{
	static const uint8_t key_bytes[XF_AUTH_KEY_MAX] = { 1, 2, 3 };
	static const uint8_t seed[XF_IVGEN_SEED];
	struct xf_suite_request req = {
		.crypt = xf_alg_find(XF_ALG_CRYPT, "ecb(cipher_null)", 0),
		.auth = xf_alg_find(XF_ALG_AUTH, "hmac(sha256)", 0),
		.auth_key_bits = 256,
	};
	struct xf_sa_config cfg = {
		.id = { .daddr = far_end(),
			.spi = SPI + id,
			.proto = XF_IPPROTO_ESP,
			.family = XF_AF_INET },
		.saddr = near_end(),
		.reqid = id + 1,
		.mode = XF_MODE_TUNNEL,
		.if_id = id + 1,
		.terms = { .life = no_end(), .pcpu = UINT32_MAX },
	};
	struct xf_sad *sad = xf_engine_sad(bed.engine);
	struct xf_key *key;
	struct xf_sa *sa;

	assert_int_equal(xf_suite_build(&req, &cfg.terms.suite), 0);
	assert_int_equal(xf_key_new(&cfg.terms.suite, NULL, key_bytes, key_bytes, &key), 0);
	sa = xf_sa_new(sad, &cfg, key, XF_SA_VALID, seed, 1);
	assert_non_null(sa);
	assert_int_equal(xf_sad_add(sad, sa, NULL), 0);
}

static void add_policy(uint32_t id, uint32_t ifindex)
{
	struct xf_policy_config cfg = {
		.dir = XF_DIR_OUT,
		.if_id = id + 1,
		.ntmpl = 1,
		.sel = { .family = XF_AF_INET, .ifindex = ifindex },
		.life = no_end(),
		.tmpl[0] = { .id = { .daddr = far_end(),
				     .proto = XF_IPPROTO_ESP,
				     .family = XF_AF_INET },
			     .saddr = near_end(),
			     .reqid = id + 1,
			     .mode = XF_MODE_TUNNEL,
			     .aalgos = UINT32_MAX,
			     .ealgos = UINT32_MAX,
			     .calgos = UINT32_MAX },
	};
	struct xf_policy *policy;

	assert_int_equal(xf_spd_insert(xf_engine_spd(bed.engine), &cfg, true, 1, &policy), 0);
}

static int bring_up(const char *name)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = { .ifr_flags = IFF_UP };

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	assert_return_code(ioctl(fd, SIOCSIFFLAGS, &ifr), errno);
	assert_return_code(ioctl(fd, SIOCGIFINDEX, &ifr), errno);
	close(fd);
	return ifr.ifr_ifindex;
}

static void add_link(uint32_t id)
{
	struct ifreq ifr = { .ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR };
	struct link *link = &bed.links[id];
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	struct xf_port_device device = { .if_id = id + 1 };
	struct xf_io_error error;

	assert_return_code(fd, errno);
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "link%u", id);
	assert_return_code(ioctl(fd, TUNSETIFF, &ifr), errno);
	link->ifindex = bring_up(ifr.ifr_name);
	device.ifindex = (uint32_t)link->ifindex;
	assert_int_equal(xf_device_add(bed.shared, fd, &device, &error), 0);
	link->number = device.link;
}

static void *run_worker(void *arg)
{
	xf_io_run(arg);
	return NULL;
}

static void add_worker(unsigned i)
{
	bed.io[i] = rig_io(bed.engine, bed.shared);
	bed.io[i]->tx4.family = XF_AF_INET;
	bed.io[i]->tx4.fds[XF_TX_WIRE] =
		socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_RAW);
	assert_return_code(bed.io[i]->tx4.fds[XF_TX_WIRE], errno);
	assert_int_equal(pthread_create(&bed.threads[i], NULL, run_worker, bed.io[i]), 0);
}

static void open_sockets(void)
{
	const int one = 1;
	int bytes = 4 << 20;
	socklen_t len = sizeof(bytes);

	bed.to_tuns = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_return_code(bed.to_tuns, errno);
	assert_return_code(
		setsockopt(bed.to_tuns, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one)), errno);
	bed.from_wire = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, XF_IPPROTO_ESP);
	assert_return_code(bed.from_wire, errno);
	/* Not everybody may have so much. */
	setsockopt(bed.from_wire, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
	assert_return_code(getsockopt(bed.from_wire, SOL_SOCKET, SO_RCVBUF, &bytes, &len), errno);
	bed.most = (unsigned)bytes / ROOM / 2;
	bed.burst = xf_min_u32(BURST_MAX, bed.most / 8);
}

static void setup(uint32_t links)
{
	memset(&bed, 0, sizeof(bed));
	bed.rng = sas_seed(20261130);
	bring_up("lo");
	open_sockets();
	bed.engine = rig_engine();
	bed.shared = rig_shared();
	for (uint32_t id = 0; id < links; id++) {
		add_sa(id);
		add_policy(id, 0);
	}
	/* Half of them are there when the workers begin. */
	for (uint32_t id = 0; id < links / 2; id++)
		add_link(id);
	for (unsigned i = 0; i < WORKERS; i++)
		add_worker(i);
	for (uint32_t id = links / 2; id < links; id++)
		add_link(id);
}

static void stop_workers(void)
{
	for (unsigned i = 0; i < WORKERS; i++)
		xf_io_stop(bed.io[i]);
	for (unsigned i = 0; i < WORKERS; i++)
		pthread_join(bed.threads[i], NULL);
}

static void teardown(void)
{
	for (unsigned i = 0; i < WORKERS; i++)
		xf_io_free(bed.io[i]);
	xf_io_shared_free(bed.shared);
	xf_engine_free(bed.engine);
	xf_rcu_drain();
	close(bed.to_tuns);
	close(bed.from_wire);
}

static unsigned count_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* --- packets --- */

static void make_packet(uint32_t id, uint8_t pkt[LEN])
{
	const struct link *link = &bed.links[id];
	const struct tag tag = { id, link->instance, link->sent };

	memset(pkt, 0, LEN);
	pkt[0] = 0x45;
	xf_put_be16(pkt + 2, LEN);
	pkt[8] = 64;
	pkt[9] = XF_IPPROTO_UDP;
	memcpy(pkt + 12, "\xc0\0\2\1\xc6\x33\x64\1", 8);
	xf_ipv4_set_csum(pkt, XF_IPV4_HDR_LEN);
	xf_put_be16(pkt + XF_IPV4_HDR_LEN + 4, XF_UDP_HDR_LEN + sizeof(tag));
	memcpy(pkt + XF_IPV4_HDR_LEN + XF_UDP_HDR_LEN, &tag, sizeof(tag));
}

static void send_bytes(uint32_t id, const uint8_t *bytes, size_t len)
{
	const struct sockaddr_ll to = { .sll_family = AF_PACKET,
					.sll_protocol = htons(ETH_P_IP),
					.sll_ifindex = bed.links[id].ifindex };

	assert_int_equal(sendto(bed.to_tuns, bytes, len, 0, (const void *)&to, sizeof(to)), len);
}

static void send_one(uint32_t id)
{
	uint8_t pkt[LEN];

	make_packet(id, pkt);
	send_bytes(id, pkt, sizeof(pkt));
	bed.links[id].sent++;
	bed.under_way++;
}

/* By the SA of the device that it was sent by, the next one of that device. */
static void check_received(const uint8_t *esp, const struct tag *tag)
{
	uint32_t id = xf_get_be32(esp) - SPI;
	uint32_t seq = xf_get_be32(esp + 4);
	struct link *link = &bed.links[id];

	assert_true(id < LINKS);
	assert_int_equal(tag->id, id);
	assert_int_equal(tag->instance, link->instance);
	assert_int_equal(tag->number, link->got);
	assert_int_equal(seq, bed.last_seq[id] + 1);
	bed.last_seq[id] = seq;
	link->got++;
	bed.under_way -= !link->leaving;
}

static void receive_all(void)
{
	uint8_t pkt[256];
	ssize_t len;

	while ((len = recv(bed.from_wire, pkt, sizeof(pkt), 0)) > 0) {
		const uint8_t *esp = pkt + XF_IPV4_HDR_LEN;
		struct tag tag;

		assert_true(len > (ssize_t)(XF_IPV4_HDR_LEN + 8 + LEN));
		memcpy(&tag, esp + 8 + LEN - sizeof(tag), sizeof(tag));
		check_received(esp, &tag);
	}
}

static void wait_until_under_way(unsigned most)
{
	struct pollfd readable = { .fd = bed.from_wire, .events = POLLIN };

	receive_all();
	while (bed.under_way > most) {
		assert_int_equal(poll(&readable, 1, FOREVER_MS), 1);
		receive_all();
	}
}

/* On any device that does not just leave, mostly a packet or two, sometimes many. */
static void send_some(void)
{
	for (unsigned i = 0; i < LINKS; i++) {
		uint32_t id = draw(LINKS);
		uint32_t n = draw(20) ? 1 + draw(3) : bed.burst;
		const struct link *link = &bed.links[id];

		wait_until_under_way(bed.most - bed.burst);
		while (n-- && !link->leaving && link->sent - link->got < 2 * bed.burst)
			send_one(id);
	}
}

/* --- devices come and go --- */

static void remove_links(uint64_t gone[AT_ONCE])
{
	for (unsigned i = 0; i < AT_ONCE; i++) {
		gone[i] = bed.links[bed.changing[i]].number;
		assert_int_equal(xf_device_remove(bed.shared, gone[i]), 0);
		assert_int_equal(xf_device_remove(bed.shared, gone[i]), -ENOENT);
	}
	xf_rcu_drain();
}

/* In another order, so that places and descriptors change hands; numbers do not. */
static void add_links(const uint64_t gone[AT_ONCE])
{
	for (unsigned i = AT_ONCE; i-- > 0;)
		add_link(bed.changing[i]);
	for (unsigned i = 0; i < AT_ONCE; i++)
		assert_int_equal(xf_device_remove(bed.shared, gone[i]), -ENOENT);
}

static void *control(void *arg)
{
	uint64_t gone[AT_ONCE];
	enum phase phase;

	(void)arg;
	while ((phase = atomic_load(&bed.phase)) != END) {
		if (phase == REMOVE) {
			remove_links(gone);
			atomic_store(&bed.phase, REMOVED);
		} else if (phase == ADD) {
			add_links(gone);
			atomic_store(&bed.phase, ADDED);
		}
		sched_yield();
	}
	return NULL;
}

static void begin_change(void)
{
	uint32_t first = draw(LINKS - STAYING);

	for (uint32_t i = 0; i < AT_ONCE; i++) {
		uint32_t id = STAYING + (first + i * 7) % (LINKS - STAYING);
		struct link *link = &bed.links[id];

		while (link->sent - link->got < bed.burst)
			send_one(id);
		bed.under_way -= link->sent - link->got;
		link->leaving = true;
		bed.changing[i] = id;
	}
	atomic_store(&bed.phase, REMOVE);
}

/* What was on its way through a worker has arrived; what comes now is of a new device. */
static void forget_links(void)
{
	receive_all();
	for (unsigned i = 0; i < AT_ONCE; i++) {
		struct link *link = &bed.links[bed.changing[i]];

		link->instance++;
		link->sent = 0;
		link->got = 0;
	}
	atomic_store(&bed.phase, ADD);
}

static void change_links(void)
{
	begin_change();
	while (atomic_load(&bed.phase) != REMOVED)
		send_some();
	forget_links();
	while (atomic_load(&bed.phase) != ADDED)
		send_some();
	for (unsigned i = 0; i < AT_ONCE; i++)
		bed.links[bed.changing[i]].leaving = false;
}

static uint64_t drops(enum xf_drop reason)
{
	struct xf_engine_stats stats;

	xf_engine_get_stats(bed.engine, &stats);
	return stats.drops[reason];
}

static void two_workers_read_hundreds_that_come_and_go(void **state)
{
	unsigned descriptors = count_descriptors();
	struct xf_io_stats stats[WORKERS] = { { .tun_rx = 0 } };
	uint64_t sent = 0;
	uint32_t places;
	pthread_t thread;

	(void)state;
	setup(LINKS);
	places = bed.shared->sources.n;
	atomic_store(&bed.phase, ADDED);
	assert_int_equal(pthread_create(&thread, NULL, control, NULL), 0);
	for (unsigned i = 0; i < CHANGES; i++)
		change_links();
	send_some();
	wait_until_under_way(0);
	atomic_store(&bed.phase, END);
	pthread_join(thread, NULL);
	for (uint32_t id = 0; id < STAYING; id++)
		sent += bed.links[id].sent;
	stop_workers();
	for (unsigned i = 0; i < WORKERS; i++) {
		xf_io_add_stats(bed.io[i], &stats[i]);
		print_message("# worker %u read %lu packets\n", i, stats[i].tun_rx);
	}
	print_message("# %lu by those that stay\n", sent);
	assert_int_equal(stats[0].send_errors + stats[1].send_errors, 0);
	assert_int_equal(bed.shared->sources.n, places);
	for (int reason = 1; reason < XF_DROP_MAX; reason++)
		assert_true(reason == XF_DROP_OUT_LINK || drops((enum xf_drop)reason) == 0);
	teardown();
	assert_int_equal(count_descriptors(), descriptors);
}

/*
 * No policy: it stays here, and is counted, though a device that captures would send it on. And
 * what is in front of packets that our programs have seen is not believed of others.
 */
static void what_a_link_gets_never_leaves_in_clear(void **state)
{
	const struct xf_meta meta = { .magic = XF_META_MAGIC };
	uint8_t forged[sizeof(meta) + LEN];
	struct xf_io_stats stats = { .clear_tx = 0 };
	uint64_t before;

	(void)state;
	setup(2);
	before = drops(XF_DROP_OUT_LINK);
	add_link(LINKS);
	for (unsigned i = 0; i < BURST_MAX; i++)
		send_one(LINKS);
	while (drops(XF_DROP_OUT_LINK) + drops(XF_DROP_OUT_SEND) < before + BURST_MAX)
		sched_yield();
	assert_int_equal(drops(XF_DROP_OUT_SEND), 0);
	before = drops(XF_DROP_OUT_HDR);
	memcpy(forged, &meta, sizeof(meta));
	make_packet(0, forged + sizeof(meta));
	send_bytes(0, forged, sizeof(forged));
	while (drops(XF_DROP_OUT_HDR) == before && recv(bed.from_wire, forged, 1, 0) < 0)
		sched_yield();
	assert_int_equal(drops(XF_DROP_OUT_HDR), before + 1);
	stop_workers();
	for (unsigned i = 0; i < WORKERS; i++)
		xf_io_add_stats(bed.io[i], &stats);
	assert_int_equal(stats.clear_tx, 0);
	teardown();
}

/* A policy may be for what leaves by one interface: the link's is it. */
static void policies_know_the_interface(void **state)
{
	(void)state;
	setup(2);
	add_sa(2);
	add_link(2);
	add_policy(2, (uint32_t)bed.links[1].ifindex);
	send_one(2);
	while (bed.under_way && !drops(XF_DROP_OUT_LINK))
		receive_all();
	assert_int_equal(bed.links[2].got, 0);
	bed.links[2].sent = 0;
	bed.under_way = 0;
	add_policy(2, (uint32_t)bed.links[2].ifindex);
	send_one(2);
	while (bed.under_way && drops(XF_DROP_OUT_LINK) == 1)
		receive_all();
	assert_int_equal(bed.links[2].got, 1);
	/* Not one of ours: places behind the links' are each worker's own. */
	assert_int_equal(xf_device_remove(bed.shared, xf_token(XF_SOURCE_TUN, 1)), -ENOENT);
	assert_int_equal(xf_device_remove(bed.shared, UINT64_MAX), -ENOENT);
	stop_workers();
	teardown();
}

/* The kernel itself says nothing on these devices then. */
static void quieten(void)
{
	int fd = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY | O_CLOEXEC);

	if (fd >= 0 && write(fd, "1", 1) == 1)
		close(fd);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_workers_read_hundreds_that_come_and_go),
		cmocka_unit_test(what_a_link_gets_never_leaves_in_clear),
		cmocka_unit_test(policies_know_the_interface),
	};

	(void)argc;
	rig_enter_namespace(argv[0]);
	quieten();
	return cmocka_run_group_tests_name("io_links", tests, NULL, NULL);
}
