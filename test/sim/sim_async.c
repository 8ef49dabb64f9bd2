/*
 * A cipher that answers late, in any order and with failures, beside one that answers at once:
 * what comes out is the same, byte for byte and in the same order, out and in; what failed is
 * missing, and nothing else. SAs that go while packets are under way take nothing along.
 */
#include <stdlib.h>

#include "late.h"
#include "sim.h"
#include "supers.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SUPERS 3000
#else
#define SUPERS 100000
#endif

/* Packets as bytes, in their order. */
#define LOG_PACKETS 8192

struct log {
	unsigned n;
	uint32_t len[LOG_PACKETS];
	uint8_t *bytes[LOG_PACKETS];
};

static struct sim now, late;
static uint8_t bytes[SUPER_LEN_MAX];

static void keep(struct log *log, struct xf_pktq *q)
{
	struct xf_pkt *pkt;

	while ((pkt = xf_pktq_pop(q))) {
		assert_true(log->n < LOG_PACKETS);
		log->len[log->n] = pkt->len;
		log->bytes[log->n] = malloc(pkt->len);
		xf_pkt_copy_out(pkt, 0, log->bytes[log->n++], pkt->len);
		xf_pkt_free(pkt);
	}
}

static void forget(struct log *log)
{
	while (log->n > 0)
		free(log->bytes[--log->n]);
}

static void same(const struct log *a, const struct log *b)
{
	assert_int_equal(a->n, b->n);
	for (unsigned i = 0; i < a->n; i++) {
		assert_int_equal(a->len[i], b->len[i]);
		assert_memory_equal(a->bytes[i], b->bytes[i], a->len[i]);
	}
}

/* One super-packet or plain packet, the same for both, from behind A to behind B. */
static void make(struct super *s)
{
	do
		supers_random(s, packets_below(8) ? 3000 : 20000);
	while (supers_count(s) > 40 || s->gso_size > 1300);
	s->df = false;
}

static struct xf_pkt *load(struct sim_host *host, const struct super *s, bool whole)
{
	uint32_t len = supers_write(s, bytes);
	struct xf_pkt *pkt;
	uint32_t off = s->family == XF_AF_INET ? 12 : 8;
	static const char *const ends[2][2] = { { "192.168.1.9", "192.168.2.9" },
						{ "2001:db8:1::9", "2001:db8:2::9" } };

	for (int i = 0; i < 2; i++) {
		union xf_addr addr = sim_addr(ends[s->family != XF_AF_INET][i]);
		uint32_t n = s->family == XF_AF_INET ? 4 : 16;

		memcpy(bytes + off + (uint32_t)i * n, addr.bytes, n);
	}
	if (s->family == XF_AF_INET)
		xf_ipv4_set_csum(bytes, XF_IPV4_HDR_LEN);
	pkt = xf_pkt_new(xf_worker_pool(host->worker), len);
	assert_non_null(pkt);
	memcpy(xf_pkt_append(pkt, len), bytes, len);
	if (whole)
		supers_mark(s, pkt);
	return pkt;
}

static void poll_all(struct sim *sim, struct sim_host *host, struct xf_path_result *res)
{
	while (xf_path_waiting(host->worker))
		xf_path_poll(host->worker, sim->now_ns, res);
}

/* A seeded byte of the wire decides which operations fail: the same for both engines. */
static bool fails(const struct xf_crypto_op *op)
{
	return op->nonce[11] % 13 == 3;
}

/* IPv6 is protected by a cipher that answers at once, and still overtakes nothing. */
static void add_second_tunnel(struct sim *sim, uint8_t flags)
{
	const struct xf_crypto_provider *provider = sim->provider;
	struct sim_sa sa = { .spi = 0x3000, .reqid = 2, .flags = flags, .replay_window = 2048 };
	struct sim_policy policy = { .src = "2001:db8:1::9", .dst = "2001:db8:2::9", .reqid = 2 };

	sim->provider = &xf_provider_openssl;
	sim_add_sa_both(sim, &sa);
	policy.dir = XF_DIR_OUT;
	sim_add_policy(sim, &sim->a, &policy);
	policy.dir = XF_DIR_FWD;
	sim_add_policy(sim, &sim->b, &policy);
	sim->provider = provider;
}

static uint64_t inner_bytes; /* of all packets that went out since then */

static void open_both(uint16_t encap_port, uint8_t flags)
{
	struct sim_sa like = { .encap_port = encap_port, .flags = flags, .replay_window = 2048 };

	sim_init(&now, 7);
	xf_read_unregister();
	sim_init(&late, 7); /* registers the same thread again */
	now.provider = &xf_provider_openssl;
	late.provider = &late_provider;
	add_second_tunnel(&now, flags);
	add_second_tunnel(&late, flags);
	sim_add_tunnel(&now, &like);
	sim_add_tunnel(&late, &like);
	late_set_chance(100);
	late_set_failing(NULL);
	inner_bytes = 0;
}

static void close_both(void)
{
	late_set_chance(100);
	sim_fini(&late);
	xf_read_register();
	sim_fini(&now);
}

/* A few packets out of both; how they differ in time must not show. Returns the super-packets. */
static unsigned send_round(struct log *want, struct log *got)
{
	struct xf_path_result res_now = { 0 };
	struct xf_path_result res_late = { 0 };
	unsigned n = 1 + packets_below(6);
	unsigned supers = 0;

	for (unsigned i = 0; i < n; i++) {
		struct xf_pktq q = { .count = 0 };
		struct super s;
		bool whole = packets_below(8);
		unsigned seed = (unsigned)rand();
		struct xf_pkt *pkt;

		make(&s);
		if (!whole)
			s.payload_len = xf_min_u32(s.payload_len, 1200);
		supers += whole && supers_count(&s) > 1;
		srand(seed);
		xf_pktq_push(&q, load(&now.a, &s, whole));
		xf_path_out(now.a.worker, &q, now.now_ns, &res_now);
		srand(seed);
		pkt = load(&late.a, &s, whole);
		inner_bytes += s.payload_len + (uint64_t)(pkt->len - s.payload_len) *
						       (whole ? supers_count(&s) : 1);
		xf_pktq_push(&q, pkt);
		xf_path_out(late.a.worker, &q, late.now_ns, &res_late);
		if (packets_below(2))
			xf_path_poll(late.a.worker, late.now_ns, &res_late);
		keep(got, &res_late.wire);
	}
	poll_all(&late, &late.a, &res_late);
	keep(want, &res_now.wire);
	keep(got, &res_late.wire);
	return supers;
}

/* Those of @log whose cipher would have failed are left out; the IV says which. */
static void leave_out_failed(struct log *log)
{
	unsigned n = 0;

	for (unsigned i = 0; i < log->n; i++) {
		const uint8_t *esp = log->bytes[i] + 20;

		if (xf_get_be32(esp) == 0x1000 && esp[15] % 13 == 3) {
			free(log->bytes[i]);
			continue;
		}
		log->bytes[n] = log->bytes[i];
		log->len[n++] = log->len[i];
	}
	log->n = n;
}

static struct log want, got;

static void late_and_shuffled_is_the_same_out(void **state)
{
	struct xf_engine_stats stats;
	unsigned supers = 0;

	(void)state;
	open_both(0, XF_SA_ESN);
	while (supers < SUPERS) {
		late_set_chance(5 + packets_below(96));
		supers += send_round(&want, &got);
		same(&want, &got);
		forget(&want);
		forget(&got);
	}
	assert_true(late_shuffled() > SUPERS);
	assert_int_equal(sim_all_drops(&late.a), 0);
	xf_engine_get_stats(late.a.engine, &stats);
	assert_int_equal(stats.out_bytes, inner_bytes);
	close_both();
}

static void failures_are_missing_and_nothing_else(void **state)
{
	unsigned failed = 0;

	(void)state;
	open_both(0, XF_SA_ESN);
	late_set_failing(fails);
	for (unsigned round = 0; round < SUPERS / 30; round++) {
		late_set_chance(20 + packets_below(81));
		send_round(&want, &got);
		failed += want.n;
		leave_out_failed(&want);
		failed -= want.n;
		same(&want, &got);
		forget(&want);
		forget(&got);
	}
	assert_true(failed > 0);
	assert_int_equal(sim_drops(&late.a, XF_DROP_OUT_STATE_PROTO), failed);
	assert_int_equal(sim_all_drops(&late.a), failed);
	close_both();
}

static struct xf_pkt *copy(struct sim_host *to, const struct log *log, unsigned i)
{
	struct xf_pkt *pkt = xf_pkt_new(xf_worker_pool(to->worker), log->len[i]);

	assert_non_null(pkt);
	memcpy(xf_pkt_append(pkt, log->len[i]), log->bytes[i], log->len[i]);
	return pkt;
}

/* The same wire into both; lost, repeated and exchanged packets among them. */
static void receive_round(const struct log *wire, struct log *in_now, struct log *in_late)
{
	struct xf_path_result res_now = { 0 };
	struct xf_path_result res_late = { 0 };

	for (unsigned i = 0; i < wire->n;) {
		struct xf_pktq q_now = { .count = 0 };
		struct xf_pktq q_late = { .count = 0 };
		unsigned n = 1 + packets_below(30);

		for (; n > 0 && i < wire->n; n--, i++) {
			unsigned k = packets_below(20) ? i : packets_below(wire->n);

			xf_pktq_push(&q_now, copy(&now.b, wire, k));
			xf_pktq_push(&q_late, copy(&late.b, wire, k));
		}
		xf_path_in(now.b.worker, &q_now, now.now_ns, &res_now);
		xf_path_in(late.b.worker, &q_late, late.now_ns, &res_late);
		if (packets_below(2))
			xf_path_poll(late.b.worker, late.now_ns, &res_late);
		keep(in_late, &res_late.deliver);
	}
	poll_all(&late, &late.b, &res_late);
	keep(in_now, &res_now.deliver);
	keep(in_late, &res_late.deliver);
}

static void late_and_shuffled_is_the_same_in(void **state)
{
	static struct log in_now, in_late;
	unsigned delivered = 0;

	(void)state;
	open_both(0, XF_SA_ESN);
	for (unsigned round = 0; round < SUPERS / 30; round++) {
		late_set_chance(100);
		send_round(&want, &got);
		late_set_chance(5 + packets_below(96));
		receive_round(&want, &in_now, &in_late);
		same(&in_now, &in_late);
		delivered += in_late.n;
		forget(&want);
		forget(&got);
		forget(&in_now);
		forget(&in_late);
	}
	assert_true(delivered > SUPERS / 30);
	assert_int_equal(sim_drops(&now.b, XF_DROP_IN_STATE_SEQ),
			 sim_drops(&late.b, XF_DROP_IN_STATE_SEQ));
	close_both();
}

/* As much as is let in waits; the rest is dropped and counted, and what waited comes out. */
static void what_may_wait_is_bounded(void **state)
{
	struct xf_path_result res = { 0 };
	unsigned sent = 0;
	unsigned out;

	(void)state;
	open_both(0, 0);
	late_set_chance(0);
	while (!xf_path_busy(late.a.worker)) {
		struct xf_pktq q = { .count = 0 };
		struct sim_udp udp = { .src = "192.168.1.9", .dst = "192.168.2.9", .len = 100 };

		xf_pktq_push(&q, sim_udp(&late.a, &udp));
		xf_path_out(late.a.worker, &q, late.now_ns, &res);
		sent++;
	}
	assert_int_equal(sim_all_drops(&late.a), 0);
	for (unsigned i = 0; i < 100; i++, sent++) {
		struct xf_pktq q = { .count = 0 };
		struct sim_udp udp = { .src = "192.168.1.9", .dst = "192.168.2.9", .len = 100 };

		xf_pktq_push(&q, sim_udp(&late.a, &udp));
		xf_path_out(late.a.worker, &q, late.now_ns, &res);
	}
	assert_int_equal(res.wire.count, 0);
	late_set_chance(100);
	poll_all(&late, &late.a, &res);
	out = sim_drain(&res.wire);
	assert_true(out > 8);
	assert_int_equal(out + sim_drops(&late.a, XF_DROP_OUT_NO_BUFFER), sent);
	close_both();
}

/* Outbound what was begun leaves; inbound an SA that has gone takes nothing more. */
static void an_sa_goes_while_packets_are_under_way(void **state)
{
	(void)state;
	for (unsigned round = 0; round < SUPERS / 100; round++) {
		struct sim_udp udp = { .src = "192.168.1.9", .dst = "192.168.2.9", .len = 100 };
		struct xf_path_result res = { 0 };
		struct xf_pktq q = { .count = 0 };
		bool inbound = round % 2;
		struct sim_host *host = inbound ? &late.b : &late.a;
		unsigned n = 1 + packets_below(100);

		open_both(0, 0);
		for (unsigned i = 0; i < n; i++)
			xf_pktq_push(&q, sim_udp(&late.a, &udp));
		if (inbound) {
			xf_path_out(late.a.worker, &q, late.now_ns, &late.a.out);
			poll_all(&late, &late.a, &late.a.out);
			keep(&want, &late.a.out.wire);
			for (unsigned i = 0; i < want.n; i++)
				xf_pktq_push(&q, copy(&late.b, &want, i));
			forget(&want);
		}
		late_set_chance(0);
		if (inbound)
			xf_path_in(host->worker, &q, late.now_ns, &res);
		else
			xf_path_out(host->worker, &q, late.now_ns, &res);
		assert_true(xf_path_waiting(host->worker));
		xf_sad_flush(xf_engine_sad(host->engine), 0);
		xf_rcu_drain();
		late_set_chance(50);
		poll_all(&late, host, &res);
		assert_int_equal(res.wire.count, inbound ? 0 : n);
		assert_int_equal(sim_drops(host, XF_DROP_IN_STATE_INVALID), inbound ? n : 0);
		assert_int_equal(sim_drain(&res.deliver), 0);
		sim_drain(&res.wire);
		close_both();
	}
}

/* The worker ends while a provider still has its packets. */
static void the_end_comes_while_packets_are_under_way(void **state)
{
	struct xf_pktq q = { .count = 0 };
	struct xf_path_result res = { 0 };
	struct sim_udp udp = { .src = "192.168.1.9", .dst = "192.168.2.9", .len = 100 };

	(void)state;
	open_both(0, 0);
	late_set_chance(0);
	for (unsigned i = 0; i < 100; i++)
		xf_pktq_push(&q, sim_udp(&late.a, &udp));
	xf_path_out(late.a.worker, &q, late.now_ns, &res);
	assert_true(xf_path_waiting(late.a.worker));
	xf_worker_free(late.a.worker);
	xf_engine_free(late.a.engine);
	sim_host_again(&late, &late.a);
	close_both();
}

static int setup(void **state)
{
	(void)state;
	srand(20261124);
	return xf_crypto_register(&late_provider);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(late_and_shuffled_is_the_same_out),
		cmocka_unit_test(failures_are_missing_and_nothing_else),
		cmocka_unit_test(late_and_shuffled_is_the_same_in),
		cmocka_unit_test(what_may_wait_is_bounded),
		cmocka_unit_test(an_sa_goes_while_packets_are_under_way),
		cmocka_unit_test(the_end_comes_while_packets_are_under_way),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
