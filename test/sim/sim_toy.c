/*
 * Transforms that are not ESP go through src/path (toy.h): one for one, two to one and back, one
 * to a hundred and back, with packets held until the tick; with a cipher that answers at once,
 * late, or not at all; dropped, deleted and mixed with ESP. What comes out is what went in.
 */
#include "late.h"
#include "sim.h"
#include "toy.h"

#define PACKETS 400

static struct sim sim;

static void begin(const struct xf_crypto_provider *provider)
{
	sim_init(&sim, 11);
	sim.provider = provider;
	late_set_chance(50);
	late_set_failing(NULL);
	toy_set_own_cipher(false);
	toy_calls();
}

static void begin_with(enum toy_kind kind, const struct xf_crypto_provider *provider)
{
	struct sim_sa sa = toy_sa(kind);

	begin(provider);
	toy_add_way(&sim, &sa, 0, 0);
}

static struct sim_udp datagram(uint32_t tag, uint32_t len)
{
	return (struct sim_udp){ .src = "10.0.0.1", .dst = "10.0.0.2", .len = len, .tag = tag };
}

static void poll_all(struct sim_host *host, struct xf_path_result *res)
{
	while (xf_path_waiting(host->worker))
		xf_path_poll(host->worker, sim.now_ns, res);
}

/* Packets @first to @first + @n, of @len bytes; what A sends is in sim.a.out. */
static void send(uint32_t first, unsigned n, uint32_t len)
{
	struct xf_pktq q = { .count = 0 };

	for (uint32_t i = 0; i < n; i++) {
		struct sim_udp udp = datagram(first + i, len);

		xf_pktq_push(&q, sim_udp(&sim.a, &udp));
	}
	xf_path_out(sim.a.worker, &q, sim.now_ns, &sim.a.out);
	poll_all(&sim.a, &sim.a.out);
}

static uint64_t tick(struct sim_host *host, struct xf_path_result *res)
{
	uint64_t next = xf_path_tick(host->worker, sim.now_ns, res);

	poll_all(host, res);
	return next;
}

/* All that A has sent to B, and what came of it, to sim.b.in. */
static void carry(void)
{
	struct xf_path_result before = sim.b.in;

	sim.b.in = (struct xf_path_result){ 0 };
	sim_carry(&sim, &sim.a, &sim.b);
	poll_all(&sim.b, &sim.b.in);
	xf_pktq_append(&before.deliver, &sim.b.in.deliver);
	sim.b.in = before;
}

/* Of what A has sent, the first @n. */
static void lose_all_but(unsigned n)
{
	struct xf_pktq kept = { .count = 0 };

	while (n--)
		xf_pktq_push(&kept, xf_pktq_pop(&sim.a.out.wire));
	sim_drain(&sim.a.out.wire);
	xf_pktq_append(&sim.a.out.wire, &kept);
}

/* B has delivered packets @first to @first + @n, as they were, and no other. */
static void check(uint32_t first, unsigned n, uint32_t len)
{
	assert_int_equal(sim.b.in.deliver.count, n);
	for (uint32_t i = 0; i < n; i++) {
		struct sim_udp udp = datagram(first + i, len);
		struct xf_pkt *want = sim_udp(&sim.a, &udp);
		struct xf_pkt *got = xf_pktq_pop(&sim.b.in.deliver);
		uint8_t a[2048], b[2048];

		assert_int_equal(got->len, len);
		xf_pkt_copy_out(want, 0, a, len);
		xf_pkt_copy_out(got, 0, b, len);
		assert_memory_equal(a, b, len);
		xf_pkt_free(want);
		xf_pkt_free(got);
	}
}

static const struct xf_crypto_provider *const providers[] = { &xf_provider_openssl, &late_provider,
							      NULL };

/* --- There and back --- */

static void eight_bytes_are_added_and_removed(void **state)
{
	(void)state;
	for (unsigned k = 0; k < 3; k++) {
		const struct xf_crypto_provider *provider = providers[k];

		begin_with(TOY_PLAIN, provider ? provider : &xf_provider_openssl);
		toy_set_own_cipher(!provider);
		send(0, PACKETS / 2, 200);
		assert_int_equal(sim.a.out.wire.count, PACKETS / 2);
		for (struct xf_pkt *pkt = sim.a.out.wire.head; pkt; pkt = pkt->next) {
			uint8_t bytes[36];

			assert_int_equal(pkt->len, 208);
			xf_pkt_copy_out(pkt, 0, bytes, sizeof(bytes));
			assert_int_equal(bytes[9], XF_IPPROTO_AH);
			/* Ciphered, but where nobody was asked to. */
			assert_int_equal(xf_get_be16(bytes + 32) == 200 - 20, !provider);
		}
		carry();
		check(0, PACKETS / 2, 200);
		sim_fini(&sim);
	}
}

static void two_become_one_and_two_again(void **state)
{
	(void)state;
	for (unsigned k = 0; k < 2; k++) {
		begin_with(TOY_PAIRS, providers[k]);
		send(0, PACKETS / 2, 120);
		assert_int_equal(sim.a.out.wire.count, PACKETS / 4);
		assert_int_equal(sim.a.out.wire.head->len, 2 * 120 + 8);
		carry();
		check(0, PACKETS / 2, 120);
		sim_fini(&sim);
	}
}

/* Of an odd number the last one waits for the tick, over calls, and is overtaken by none. */
static void the_last_one_waits_for_the_tick(void **state)
{
	uint64_t until_ns;

	(void)state;
	for (unsigned k = 0; k < 2; k++) {
		begin_with(TOY_PAIRS, providers[k]);
		send(0, 71, 120);
		assert_int_equal(sim.a.out.wire.count, 35);
		until_ns = sim.now_ns + TOY_WAIT_NS;
		sim.now_ns += TOY_WAIT_NS - 1;
		assert_int_equal(tick(&sim.a, &sim.a.out), until_ns);
		assert_int_equal(sim.a.out.wire.count, 35);
		sim.now_ns++;
		assert_int_equal(tick(&sim.a, &sim.a.out), UINT64_MAX);
		assert_int_equal(sim.a.out.wire.count, 36);
		assert_int_equal(sim.a.out.wire.tail->len, 128);
		/* And one that the next call brings a second one for. */
		send(71, 1, 120);
		assert_int_equal(sim.a.out.wire.count, 36);
		send(72, 1, 120);
		assert_int_equal(sim.a.out.wire.count, 37);
		sim.now_ns += TOY_WAIT_NS;
		assert_int_equal(tick(&sim.a, &sim.a.out), UINT64_MAX);
		assert_int_equal(sim.a.out.wire.count, 37);
		carry();
		check(0, 73, 120);
		sim_fini(&sim);
	}
}

/* More than a batch of one packet; and of a hundred, in two batches and more, one. */
static void one_becomes_a_hundred_and_one_again(void **state)
{
	(void)state;
	for (unsigned k = 0; k < 2; k++) {
		begin_with(TOY_HUNDRED, providers[k]);
		send(0, 3, 1020);
		/* Twelve rows, and two find room in a flight. */
		assert_int_equal(toy_calls(), 6);
		assert_int_equal(sim.a.out.wire.count, 300);
		assert_int_equal(sim.a.out.wire.head->len, 20 + 8 + 10);
		carry();
		check(0, 3, 1020);
		assert_int_equal(sim_all_drops(&sim.a) + sim_all_drops(&sim.b), 0);
		sim_fini(&sim);
	}
}

/* --- What is lost --- */

static uint8_t victim;

static bool fails(const struct xf_crypto_op *op)
{
	return op->encrypt && op->len >= 100 && op->src[0].data[4] == victim;
}

/* A packet of two that is dropped has freed two, and counts as one. */
static void a_drop_frees_all_that_it_was_made_of(void **state)
{
	const struct xf_sa *sa;

	(void)state;
	begin_with(TOY_PAIRS, &late_provider);
	victim = 0;
	late_set_failing(fails);
	send(0, 64, 120);
	assert_int_equal(sim.a.out.wire.count, 0);
	assert_int_equal(sim_drops(&sim.a, XF_DROP_OUT_STATE_PROTO), 32);
	sim_fini(&sim);

	/* Nothing has a number any more. */
	begin(&xf_provider_openssl);
	sa = NULL;
	{
		struct sim_sa like = toy_sa(TOY_PAIRS);
		struct xf_sa_replay_state last = { .seq_out = UINT32_MAX - 10 };
		struct xf_sa_id id = { .daddr = sim.b.addr4,
				       .spi = like.spi,
				       .proto = XF_IPPROTO_AH,
				       .family = XF_AF_INET };

		toy_add_way(&sim, &like, 0, 0);
		xf_read_begin();
		sa = xf_sad_find_in(xf_engine_sad(sim.a.engine), &id, 0);
		assert_non_null(sa);
		xf_sa_set_replay_state((struct xf_sa *)(uintptr_t)sa, &last);
		xf_read_end();
	}
	send(0, 64, 120);
	assert_int_equal(sim_drain(&sim.a.out.wire), 10);
	assert_int_equal(sim_drops(&sim.a, XF_DROP_OUT_STATE_SEQ), 22);
	sim_fini(&sim);
}

/* Flights are few while a cipher keeps them: what finds none is dropped and counted. */
static void what_finds_no_flight_is_counted(void **state)
{
	const struct xf_worker_config cfg = {
		.pool = { .packets = 4096, .small_bufs = 4096, .large_bufs = 4 }
	};
	struct xf_path_result res = { 0 };
	struct xf_worker *worker;
	unsigned sent;

	(void)state;
	begin_with(TOY_HUNDRED, &late_provider);
	late_set_chance(0);
	worker = xf_worker_new(sim.a.engine, &cfg);
	assert_non_null(worker);
	/* The first one has two flights, and each of the others waits in one. */
	for (sent = 0; sent < 23; sent++) {
		struct sim_udp udp = datagram(sent, 1020);
		struct xf_pktq q = { .count = 0 };

		xf_pktq_push(&q, sim_udp_from(worker, &udp));
		xf_path_out(worker, &q, sim.now_ns, &res);
	}
	assert_int_equal(res.wire.count, 0);
	assert_int_equal(sim_all_drops(&sim.a), 0);
	late_set_chance(50);
	while (xf_path_waiting(worker))
		xf_path_poll(worker, sim.now_ns, &res);
	assert_true(sim_drops(&sim.a, XF_DROP_OUT_NO_BUFFER) > 0);
	assert_int_equal(sim_all_drops(&sim.a), sim_drops(&sim.a, XF_DROP_OUT_NO_BUFFER));
	assert_int_equal(res.wire.count + sim_all_drops(&sim.a), 100 * sent);
	sim_drain(&res.wire);
	xf_worker_free(worker);
	sim_fini(&sim);
}

/* The SA goes while it holds packets, out and in: they are dropped with the next tick. */
static void an_sa_goes_while_it_holds_packets(void **state)
{
	(void)state;
	for (unsigned k = 0; k < 2; k++) {
		begin_with(TOY_PAIRS, providers[k]);
		send(0, 1, 120);
		assert_true(xf_sad_flush(xf_engine_sad(sim.a.engine), 0) > 0);
		xf_rcu_drain();
		assert_int_equal(sim_all_drops(&sim.a), 0);
		assert_int_equal(tick(&sim.a, &sim.a.out), UINT64_MAX);
		xf_rcu_drain();
		assert_int_equal(sim.a.out.wire.count, 0);
		assert_int_equal(sim_drops(&sim.a, XF_DROP_OUT_STATE_INVALID), 1);
		sim_fini(&sim);

		begin_with(TOY_HUNDRED, providers[k]);
		send(0, 1, 1020);
		lose_all_but(40);
		carry();
		xf_sad_flush(xf_engine_sad(sim.b.engine), 0);
		xf_rcu_drain();
		assert_int_equal(tick(&sim.b, &sim.b.in), UINT64_MAX);
		assert_int_equal(sim.b.in.deliver.count, 0);
		assert_int_equal(sim_drops(&sim.b, XF_DROP_IN_IPTFS), 1);
		sim_fini(&sim);
	}
}

/* The SA goes while its packets are set aside behind a cipher that has not answered. */
static void an_sa_goes_while_packets_are_set_aside(void **state)
{
	struct xf_pktq q = { .count = 0 };
	struct sim_sa plain = toy_sa(TOY_PLAIN), pairs = toy_sa(TOY_PAIRS);

	(void)state;
	begin(&late_provider);
	sim_add_sa_both(&sim, &pairs);
	toy_add_way(&sim, &plain, TOY_PAIRS, XF_IPPROTO_AH);
	late_set_chance(0);
	for (uint32_t i = 0; i < 100; i++) {
		struct sim_udp udp = datagram(i, 120);

		xf_pktq_push(&q, sim_udp(&sim.a, &udp));
	}
	xf_path_out(sim.a.worker, &q, sim.now_ns, &sim.a.out);
	xf_sad_flush(xf_engine_sad(sim.a.engine), 0);
	xf_rcu_drain();
	late_set_chance(50);
	poll_all(&sim.a, &sim.a.out);
	tick(&sim.a, &sim.a.out);
	assert_int_equal(sim.a.out.wire.count, 0);
	assert_int_equal(sim_drops(&sim.a, XF_DROP_OUT_STATE_INVALID), 50);
	sim_fini(&sim);
}

/* The same of packets that wait for nothing but the others of their flight. */
static void an_sa_goes_while_its_packets_wait_for_others(void **state)
{
	struct xf_pktq q = { .count = 0 };
	struct sim_sa plain = toy_sa(TOY_PLAIN), pairs = toy_sa(TOY_PAIRS);
	struct sim_policy policy = { .src = "10.0.0.1/32",
				     .dst = "10.0.0.2/32",
				     .reqid = TOY_PLAIN,
				     .tmpl_proto = XF_IPPROTO_AH,
				     .transport = true,
				     .proto = XF_IPPROTO_UDP,
				     .dport = 1,
				     .dir = XF_DIR_OUT };

	(void)state;
	begin(&late_provider);
	sim_add_sa_both(&sim, &plain);
	sim_add_policy(&sim, &sim.a, &policy);
	toy_add_way(&sim, &pairs, 0, 0);
	late_set_chance(0);
	for (uint32_t i = 0; i < XF_BATCH; i++) {
		struct sim_udp udp = datagram(i, 120);

		udp.dport = i % 2;
		xf_pktq_push(&q, sim_udp(&sim.a, &udp));
	}
	xf_path_out(sim.a.worker, &q, sim.now_ns, &sim.a.out);
	assert_true(xf_path_waiting(sim.a.worker));
	xf_sad_flush(xf_engine_sad(sim.a.engine), 0);
	xf_rcu_drain();
	late_set_chance(50);
	poll_all(&sim.a, &sim.a.out);
	assert_int_equal(sim_drain(&sim.a.out.wire), XF_BATCH / 2);
	assert_int_equal(sim_drops(&sim.a, XF_DROP_OUT_STATE_INVALID), XF_BATCH / 4);
	sim_fini(&sim);
}

/* The worker ends while it holds packets. */
static void the_worker_ends_while_packets_are_held(void **state)
{
	(void)state;
	for (unsigned k = 0; k < 2; k++) {
		struct xf_engine_stats stats;

		begin_with(TOY_PAIRS, providers[k]);
		send(0, 1, 120);
		xf_worker_free(sim.a.worker);
		xf_engine_get_stats(sim.a.engine, &stats);
		assert_int_equal(stats.drops[XF_DROP_OUT_STATE_INVALID], 1);
		xf_engine_free(sim.a.engine);
		sim_host_again(&sim, &sim.a);
		sim_fini(&sim);
	}
}

/* What a tick gives inbound is delivered: pieces of which the rest has not come. */
static void what_is_left_is_delivered_by_the_tick(void **state)
{
	(void)state;
	for (unsigned k = 0; k < 2; k++) {
		begin_with(TOY_HUNDRED, providers[k]);
		send(0, 1, 1020);
		lose_all_but(60);
		carry();
		assert_int_equal(tick(&sim.b, &sim.b.in), sim.now_ns + TOY_KEEP_NS);
		assert_int_equal(sim.b.in.deliver.count, 0);
		sim.now_ns += TOY_KEEP_NS;
		assert_int_equal(tick(&sim.b, &sim.b.in), UINT64_MAX);
		assert_int_equal(sim.b.in.deliver.count, 1);
		assert_int_equal(sim.b.in.deliver.head->len, 20 + 60 * 10);
		sim_drain(&sim.b.in.deliver);
		assert_int_equal(sim_all_drops(&sim.b), 0);
		sim_fini(&sim);
	}
}

/* Who sends too much is told what this transform lets fit. */
static void the_mtu_is_the_transforms(void **state)
{
	struct sim_udp udp = datagram(0, 1493);
	uint8_t mtu[2];

	(void)state;
	begin_with(TOY_PLAIN, &xf_provider_openssl);
	udp.df = true;
	sim_out(&sim, &sim.a, sim_udp(&sim.a, &udp));
	assert_int_equal(sim.a.out.wire.count, 0);
	assert_int_equal(sim.a.out.reply.count, 1);
	xf_pkt_copy_out(sim.a.out.reply.head, 6, mtu, sizeof(mtu));
	assert_int_equal(xf_get_be16(mtu), 1492);
	sim_drain(&sim.a.out.reply);
	udp.len = 1492;
	sim_out(&sim, &sim.a, sim_udp(&sim.a, &udp));
	assert_int_equal(sim_drain(&sim.a.out.wire), 1);
	sim_fini(&sim);
}

/* --- Mixed --- */

/* ESP and a toy of one SPI take turns, packet by packet: each is called once for a batch. */
static void each_is_called_once_for_a_batch(void **state)
{
	struct sim_sa sa = toy_sa(TOY_PLAIN),
		      esp = { .spi = sa.spi, .reqid = 7, .transport = true };
	struct sim_policy policy = { .src = "10.0.0.1/32",
				     .dst = "10.0.0.2/32",
				     .reqid = 7,
				     .transport = true,
				     .proto = XF_IPPROTO_UDP,
				     .dport = 1,
				     .dir = XF_DIR_OUT };

	(void)state;
	for (unsigned k = 0; k < 2; k++) {
		struct xf_pktq q = { .count = 0 };

		begin(providers[k]);
		sim_add_sa_both(&sim, &esp);
		policy.dir = XF_DIR_OUT;
		sim_add_policy(&sim, &sim.a, &policy);
		policy.dir = XF_DIR_IN;
		sim_add_policy(&sim, &sim.b, &policy);
		toy_add_way(&sim, &sa, 0, 0);
		for (uint32_t i = 0; i < XF_BATCH; i++) {
			struct sim_udp udp = datagram(i, 200);

			udp.dport = i % 2;
			xf_pktq_push(&q, sim_udp(&sim.a, &udp));
		}
		xf_path_out(sim.a.worker, &q, sim.now_ns, &sim.a.out);
		poll_all(&sim.a, &sim.a.out);
		assert_int_equal(toy_calls(), 1);
		assert_int_equal(sim.a.out.wire.count, XF_BATCH);
		carry();
		assert_int_equal(toy_calls(), 1);
		assert_int_equal(sim.b.in.deliver.count, XF_BATCH);
		for (uint32_t i = 0; i < XF_BATCH; i++) {
			struct xf_pkt *pkt = xf_pktq_pop(&sim.b.in.deliver);
			uint8_t bytes[32];

			xf_pkt_copy_out(pkt, 0, bytes, sizeof(bytes));
			assert_int_equal(bytes[9], XF_IPPROTO_UDP);
			assert_int_equal(xf_get_be16(bytes + 22), i % 2);
			assert_int_equal(xf_get_be32(bytes + 28), i);
			xf_pkt_free(pkt);
		}
		assert_int_equal(sim_all_drops(&sim.b), 0);
		sim_fini(&sim);
	}
}

/*
 * The outer SA was the last of its transform, and goes while the inner one's cipher has not
 * answered: it is still its own transform that refuses the packets, not the one that is left.
 */
static void an_sa_that_has_gone_keeps_its_transform(void **state)
{
	struct sim_sa inner = toy_sa(TOY_PLAIN),
		      outer = { .spi = 0x88, .reqid = 8, .transport = true };
	struct xf_pktq q = { .count = 0 };

	(void)state;
	begin(&late_provider);
	sim_add_sa_both(&sim, &outer);
	toy_add_way(&sim, &inner, outer.reqid, XF_IPPROTO_ESP);
	late_set_chance(0);
	for (uint32_t i = 0; i < XF_BATCH; i++) {
		struct sim_udp udp = datagram(i, 120);

		xf_pktq_push(&q, sim_udp(&sim.a, &udp));
	}
	xf_path_out(sim.a.worker, &q, sim.now_ns, &sim.a.out);
	assert_int_equal(toy_calls(), 1);
	xf_sad_flush(xf_engine_sad(sim.a.engine), XF_IPPROTO_ESP);
	xf_rcu_drain();
	late_set_chance(50);
	poll_all(&sim.a, &sim.a.out);
	assert_int_equal(toy_calls(), 0);
	assert_int_equal(sim.a.out.wire.count, 0);
	assert_int_equal(sim_drops(&sim.a, XF_DROP_OUT_STATE_INVALID), XF_BATCH);
	sim_fini(&sim);
}

/* Two SAs in a row, or one twice: shaping as the inner one, as the outer one, as both. */
static void shaping_is_where_its_sa_stands(void **state)
{
	static const struct {
		enum toy_kind inner, outer; /* 0: ESP */
		unsigned n;
		uint32_t len;
		unsigned wire;
		uint32_t wire_len; /* 0: not looked at */
	} rows[] = {
		{ TOY_PAIRS, 0, 100, 120, 50, 0 },
		{ TOY_PLAIN, TOY_PAIRS, 100, 120, 50, 2 * (120 + 8) + 8 },
		{ TOY_PAIRS, TOY_HUNDRED, 2, 506, 100, 20 + (2 * 506 + 8 - 20) / 100 + 8 },
		{ TOY_HUNDRED, TOY_PAIRS, 2, 520, 100, 2 * (20 + 5 + 8) + 8 },
		{ TOY_PLAIN, TOY_PLAIN, 100, 120, 100, 120 + 8 + 8 },
		{ TOY_PAIRS, TOY_PAIRS, 100, 120, 25, 2 * (2 * 120 + 8) + 8 },
		/* 96 by fours, two that are left of pairs, and the last one. */
		{ TOY_PAIRS, TOY_PAIRS, 99, 120, 24 + 1 + 1, 2 * (2 * 120 + 8) + 8 },
	};

	(void)state;
	for (unsigned i = 0; i < 2 * XF_ARRAY_SIZE(rows); i++) {
		unsigned n = rows[i / 2].n;
		struct sim_sa inner = toy_sa(rows[i / 2].inner), outer = toy_sa(rows[i / 2].outer);
		uint32_t len = rows[i / 2].len;

		print_message("# row %u, provider %u\n", i / 2, i % 2);
		begin(providers[i % 2]);
		if (!rows[i / 2].outer)
			outer = (struct sim_sa){ .spi = 0x88, .reqid = 8, .transport = true };
		if (outer.spi != inner.spi)
			sim_add_sa_both(&sim, &outer);
		toy_add_way(&sim, &inner, outer.reqid, outer.proto ? outer.proto : XF_IPPROTO_ESP);
		send(0, n, len);
		for (unsigned k = 0; k < 2; k++) {
			sim.now_ns += TOY_WAIT_NS;
			tick(&sim.a, &sim.a.out);
		}
		assert_int_equal(sim.a.out.wire.count, rows[i / 2].wire);
		if (rows[i / 2].wire_len)
			assert_int_equal(sim.a.out.wire.head->len, rows[i / 2].wire_len);
		carry();
		check(0, n, len);
		assert_int_equal(sim_all_drops(&sim.a) + sim_all_drops(&sim.b), 0);
		sim_fini(&sim);
	}
}

/* Each of many SAs holds one packet, until no hold is left: then they go at once. */
static void with_no_hold_left_nothing_waits(void **state)
{
	unsigned n = 0;

	(void)state;
	begin(&xf_provider_openssl);
	for (uint32_t i = 0; i < 300; i++) {
		struct sim_sa sa = toy_sa(TOY_PAIRS);
		struct sim_udp udp = datagram(i, 100);
		struct sim_policy policy = { .src = "10.0.0.1/32",
					     .dst = "10.0.0.2/32",
					     .reqid = TOY_PAIRS,
					     .tmpl_proto = XF_IPPROTO_AH,
					     .transport = true,
					     .proto = XF_IPPROTO_UDP,
					     .dport = (uint16_t)(i + 1),
					     .priority = i,
					     .dir = XF_DIR_OUT };

		sa.spi = 0x2000 + i;
		sa.if_id = i;
		policy.if_id = i;
		udp.dport = (uint16_t)(i + 1);
		sim_add_sa_both(&sim, &sa);
		sim_add_policy(&sim, &sim.a, &policy);
		{
			struct xf_pktq q = { .count = 0 };
			struct xf_pkt *pkt = sim_udp(&sim.a, &udp);

			pkt->if_id = i;
			xf_pktq_push(&q, pkt);
			xf_path_out(sim.a.worker, &q, sim.now_ns, &sim.a.out);
		}
		n += sim.a.out.wire.count;
		sim_drain(&sim.a.out.wire);
	}
	assert_int_equal(n, 300 - 256);
	assert_int_equal(sim_all_drops(&sim.a), 0);
	sim.now_ns += TOY_WAIT_NS;
	assert_int_equal(tick(&sim.a, &sim.a.out), UINT64_MAX);
	assert_int_equal(sim_drain(&sim.a.out.wire), 256);
	sim_fini(&sim);
}

static int setup(void **state)
{
	(void)state;
	toy_register();
	return xf_crypto_register(&late_provider);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(eight_bytes_are_added_and_removed),
		cmocka_unit_test(two_become_one_and_two_again),
		cmocka_unit_test(the_last_one_waits_for_the_tick),
		cmocka_unit_test(one_becomes_a_hundred_and_one_again),
		cmocka_unit_test(a_drop_frees_all_that_it_was_made_of),
		cmocka_unit_test(what_finds_no_flight_is_counted),
		cmocka_unit_test(an_sa_goes_while_it_holds_packets),
		cmocka_unit_test(an_sa_goes_while_packets_are_set_aside),
		cmocka_unit_test(an_sa_goes_while_its_packets_wait_for_others),
		cmocka_unit_test(the_worker_ends_while_packets_are_held),
		cmocka_unit_test(what_is_left_is_delivered_by_the_tick),
		cmocka_unit_test(the_mtu_is_the_transforms),
		cmocka_unit_test(each_is_called_once_for_a_batch),
		cmocka_unit_test(an_sa_that_has_gone_keeps_its_transform),
		cmocka_unit_test(shaping_is_where_its_sa_stands),
		cmocka_unit_test(with_no_hold_left_nothing_waits),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
