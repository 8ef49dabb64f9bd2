/* Receive slots: how many stand ready for a read, and that nothing is lost between two of them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "port/backend.h"

#define MESSAGES 200

struct rig {
	struct xf_io *io;
	struct xf_source source;
	int peer;
};

static void open_rig(struct rig *rig, uint32_t large_bufs)
{
	const struct xf_pool_config cfg = { .packets = 512,
					    .small_bufs = 256,
					    .large_bufs = large_bufs };
	int fds[2];

	rig->io = calloc(1, sizeof(*rig->io));
	assert_non_null(rig->io);
	rig->io->pool = xf_pool_new(&cfg);
	assert_non_null(rig->io->pool);
	assert_return_code(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
	rig->source = (struct xf_source){ .fd = fds[0] };
	rig->peer = fds[1];
}

static void close_rig(struct rig *rig)
{
	close(rig->source.fd);
	close(rig->peer);
	xf_rx_free(rig->io);
	xf_pool_free(rig->io->pool);
	free(rig->io);
}

static void put(const struct rig *rig, unsigned n)
{
	for (uint8_t i = 0; i < n; i++)
		assert_int_equal(send(rig->peer, &i, 1, MSG_DONTWAIT), 1);
}

/* Slots that have buffers. */
static unsigned filled(const struct rig *rig)
{
	unsigned n = 0;

	for (unsigned i = 0; i < XF_BATCH; i++)
		n += rig->io->rx[i].small != NULL;
	return n;
}

static int read_some(struct rig *rig)
{
	int n = xf_rx_recvmmsg(rig->io, &rig->source, XF_BATCH);

	for (int i = 0; i < n; i++)
		xf_pkt_free(xf_rx_take(rig->io, (unsigned)i, rig->io->rx_msgs[i].msg_len));
	return n;
}

static void one_message_takes_few_slots(void **state)
{
	struct rig rig;

	(void)state;
	open_rig(&rig, XF_BATCH);
	for (int i = 0; i < 10; i++) {
		put(&rig, 1);
		assert_int_equal(read_some(&rig), 1);
		assert_false(rig.source.more);
		assert_in_range(filled(&rig), 1, 8);
	}
	assert_int_equal(read_some(&rig), -EAGAIN);
	assert_false(rig.source.more);
	close_rig(&rig);
}

/* In few reads, the last ones of a whole batch; more is said until all of it was read. */
static void a_burst_is_read_in_growing_batches(void **state)
{
	struct rig rig;
	unsigned got = 0;
	unsigned reads = 0;
	int largest = 0;

	(void)state;
	open_rig(&rig, XF_BATCH);
	put(&rig, MESSAGES);
	do {
		int n = read_some(&rig);

		assert_true(n > 0);
		got += (unsigned)n;
		reads++;
		largest = n > largest ? n : largest;
		assert_true(rig.source.more || got == MESSAGES);
	} while (rig.source.more);
	assert_int_equal(got, MESSAGES);
	assert_int_equal(largest, XF_BATCH);
	assert_in_range(reads, 4, 8);
	close_rig(&rig);
}

/* With fewer buffers than messages the read says that there is more, and goes on later. */
static void an_empty_pool_is_told(void **state)
{
	struct rig rig;

	(void)state;
	open_rig(&rig, 2);
	put(&rig, 3);
	assert_int_equal(xf_rx_recvmmsg(rig.io, &rig.source, XF_BATCH), 2);
	assert_true(rig.source.more);
	assert_int_equal(rig.io->count.rx_no_buffer, 1);
	assert_int_equal(read_some(&rig), 1);
	close_rig(&rig);
}

static void put_long(const struct rig *rig, size_t len)
{
	static const uint8_t zeros[XF_PKT_MAX + 1];

	assert_int_equal(send(rig->peer, zeros, len, MSG_DONTWAIT), len);
}

/* What is longer than a packet can be is counted, and is none; the others keep their order. */
static void raw_sockets_give_whole_packets(void **state)
{
	struct xf_pktq out = { 0 };
	struct xf_pkt *pkt;
	struct rig rig;

	(void)state;
	open_rig(&rig, XF_BATCH);
	rig.source.family = XF_AF_INET;
	put_long(&rig, 100);
	put_long(&rig, XF_PKT_MAX + 1);
	put_long(&rig, XF_PKT_MAX);
	assert_int_equal(xf_backend_raw.receive(rig.io, &rig.source, XF_BATCH, &out), 3);
	assert_int_equal(out.count, 2);
	assert_int_equal(rig.io->count.raw_rx, 3);
	assert_int_equal(rig.io->count.truncated, 1);
	for (unsigned i = 0; i < 2; i++) {
		pkt = xf_pktq_pop(&out);
		assert_int_equal(pkt->len, i ? XF_PKT_MAX : 100);
		assert_int_equal(pkt->family, XF_AF_INET);
		assert_true(pkt->hdr_checked);
		xf_pkt_free(pkt);
	}
	close_rig(&rig);
}

/* An IPv6 socket takes the header off: without the address that it came to there is no packet. */
static void raw_sockets_of_ipv6_need_the_address(void **state)
{
	const struct xf_engine_config engine = { .sad = { .seed = { 1, 2 } },
						 .spd = { .seed = { 1, 2 } } };
	const struct xf_worker_config worker = {
		.pool = { .packets = 8, .small_bufs = 8, .large_bufs = 2 },
	};
	struct xf_engine *e = xf_engine_new(&engine);
	struct xf_pktq out = { 0 };
	struct xf_engine_stats stats;
	struct rig rig;

	(void)state;
	open_rig(&rig, XF_BATCH);
	rig.io->worker = xf_worker_new(e, &worker);
	rig.source.family = XF_AF_INET6;
	put_long(&rig, 100);
	assert_int_equal(xf_backend_raw.receive(rig.io, &rig.source, XF_BATCH, &out), 1);
	assert_int_equal(out.count, 0);
	xf_engine_get_stats(e, &stats);
	assert_int_equal(stats.drops[XF_DROP_IN_HDR], 1);
	xf_worker_free(rig.io->worker);
	close_rig(&rig);
	xf_engine_free(e);
	xf_rcu_drain();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_message_takes_few_slots),
		cmocka_unit_test(a_burst_is_read_in_growing_batches),
		cmocka_unit_test(an_empty_pool_is_told),
		cmocka_unit_test(raw_sockets_give_whole_packets),
		cmocka_unit_test(raw_sockets_of_ipv6_need_the_address),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
