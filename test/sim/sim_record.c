/*
 * 10,000 SAs of a gateway move to another one, each at its own moment, while all of them carry
 * packets both ways, late ones and repeated ones among them. The peer notices nothing.
 */
#include <stdio.h>
#include <stdlib.h>

#include <xf/freeze.h>

#include "late.h"
#include "records.h"

#include "nl/record.h"
#include "nl/record_format.h"
#include "sad/use.h"

#define TUNNELS 4500
#define NEWER 1000 /* tunnels that have a second SA out, which lookups take */
#define SAS (2 * TUNNELS + NEWER)
#define SPI_FIRST 1000
#define STEPS 2000
#define EACH_STEP 16 /* packets, each way */
#define KEPT 8 /* received packets that may come late, or again; less than any window */
#define FRAME_MAX 160
#define ESP_OFF 20

struct frame {
	uint32_t len; /* 0: none yet */
	bool accepted;
	uint8_t bytes[FRAME_MAX];
};

struct sa {
	struct rec_sa cfg;
	struct xf_sa *was; /* in the first gateway, from the beginning */
	unsigned moves_at;
	bool moved;
	uint64_t numbered; /* by the first gateway, when it moved */
	uint64_t sent;
	uint64_t out_id; /* of the SA that packets of its tunnel and way get */
};

static struct sim sim;
static struct sim_host second;
static struct rec_side a1, a2, b;
static struct sa sas[SAS]; /* the first ones out, then in, then the newer ones out */
static struct frame frames[TUNNELS][KEPT];
static unsigned nframes[TUNNELS];
static struct rec_ivs *ivs;
static unsigned refused, accepted, late, repeated;

static struct sa *out_sa(unsigned tunnel)
{
	return tunnel < NEWER ? &sas[2 * TUNNELS + tunnel] : &sas[tunnel];
}

static struct sa *in_sa(unsigned tunnel)
{
	return &sas[TUNNELS + tunnel];
}

static void make_sas(void)
{
	for (unsigned i = 0; i < SAS; i++) {
		struct sa *sa = &sas[i];

		sa->cfg = (struct rec_sa){ .spi = SPI_FIRST + i,
					   .tunnel = i % TUNNELS,
					   .kind = i % REC_KINDS,
					   .reverse = i >= TUNNELS && i < 2 * TUNNELS };
		sa->moves_at = sim_random(&sim, STEPS);
		rec_add(&a1, &sa->cfg);
		rec_add(&b, &sa->cfg);
		sa->was = rec_find_in(&a1, &sa->cfg);
		assert_non_null(sa->was);
	}
}

static uint64_t id_of(struct xf_sa *sa)
{
	struct xf_sa_origin origin;

	assert_non_null(sa);
	xf_sa_get_origin(sa, &origin);
	return origin.id;
}

static void begin(void)
{
	sim_init(&sim, 1);
	sim_host_again(&sim, &second);
	rec_init(&a1, &sim.a);
	rec_init(&a2, &second);
	rec_init(&b, &sim.b);
	for (unsigned i = 0; i < TUNNELS; i++) {
		rec_add_policies(&sim, &sim.a, i, false);
		rec_add_policies(&sim, &second, i, false);
		rec_add_policies(&sim, &sim.b, i, true);
	}
	make_sas();
	for (unsigned i = 0; i < SAS; i++)
		sas[i].out_id = id_of(rec_find_out(&a1, &sas[i].cfg));
	ivs = rec_ivs_new(2 * STEPS * EACH_STEP);
}

static void drain(struct sim_host *host)
{
	sim_drain(&host->out.wire);
	sim_drain(&host->in.deliver);
}

static void end(void)
{
	drain(&sim.a);
	drain(&sim.b);
	drain(&second);
	rec_fini(&a1);
	rec_fini(&a2);
	rec_fini(&b);
	rec_ivs_free(ivs);
	xf_worker_free(second.worker);
	xf_engine_free(second.engine);
	sim_fini(&sim);
}

/* --- Out --- */

/* What @from has sent: the next number of an SA that it has, an IV of its own, and the peer can
 * read it. */
static void check_sent(struct sim_host *from, bool first)
{
	uint8_t esp[8 + 16];
	struct sa *sa;

	assert_int_equal(from->out.wire.count, 1);
	xf_pkt_copy_out(from->out.wire.head, ESP_OFF, esp, sizeof(esp));
	sa = &sas[xf_get_be32(esp) - SPI_FIRST];
	assert_int_equal(sa->moved, !first);
	assert_int_equal(xf_get_be32(esp + 4), (uint32_t)(rec_start(&sa->cfg) + ++sa->sent));
	assert_true(rec_ivs_add(ivs, sa->cfg.spi, esp + 8, rec_iv_len(&sa->cfg)));
	sim_carry(&sim, from, b.host);
	assert_int_equal(b.host->in.deliver.count, 1);
}

/* What is sent where an SA was is dropped, and takes no number of it; an older SA that is still
 * there may do. */
static void try_where_it_was(const struct sa *sa)
{
	sim_out(&sim, a1.host, rec_packet(a1.host->worker, sa->cfg.tunnel, false, 0));
	if (a1.host->out.wire.count)
		check_sent(a1.host, true);
	else
		refused++;
	assert_int_equal(atomic_load(&sa->was->begun), sa->numbered);
}

static void send_one(unsigned tunnel)
{
	struct sa *sa = out_sa(tunnel);
	struct sim_host *from = sa->moved ? a2.host : a1.host;
	uint64_t sent = sa->sent;

	sim_out(&sim, from, rec_packet(from->worker, tunnel, false, 0));
	check_sent(from, !sa->moved);
	assert_int_equal(sa->sent, sent + 1);
	if (sa->moved && sim_random(&sim, 4) == 0)
		try_where_it_was(sa);
}

/* --- In --- */

static struct frame *next_frame(unsigned tunnel)
{
	struct frame *frame = &frames[tunnel][nframes[tunnel]++ % KEPT];
	struct xf_pkt *pkt;

	sim_out(&sim, b.host, rec_packet(b.host->worker, tunnel, true, nframes[tunnel]));
	pkt = xf_pktq_pop(&b.host->out.wire);
	assert_non_null(pkt);
	assert_true(pkt->len <= FRAME_MAX);
	frame->len = pkt->len;
	frame->accepted = false;
	xf_pkt_copy_out(pkt, 0, frame->bytes, pkt->len);
	xf_pkt_free(pkt);
	return frame;
}

static unsigned receive(struct sim_host *host, const struct frame *frame)
{
	struct xf_pkt *pkt = xf_pkt_new(xf_worker_pool(b.host->worker), frame->len);

	assert_non_null(pkt);
	memcpy(xf_pkt_append(pkt, frame->len), frame->bytes, frame->len);
	sim_in(&sim, host, pkt);
	return host->in.deliver.count;
}

/* Once, wherever its SA is; again never. */
static void receive_one(unsigned tunnel)
{
	const struct sa *sa = in_sa(tunnel);
	struct frame *newest = next_frame(tunnel), *frame = newest;

	if (sim_random(&sim, 2) == 0)
		frame = &frames[tunnel][sim_random(&sim, KEPT)];
	if (frame->len == 0)
		return;
	if (sa->moved && sim_random(&sim, 8) == 0) {
		assert_int_equal(receive(a1.host, frame), 0);
		refused++;
	}
	late += frame != newest && !frame->accepted;
	repeated += frame->accepted;
	accepted += !frame->accepted;
	assert_int_equal(receive(sa->moved ? a2.host : a1.host, frame), !frame->accepted);
	frame->accepted = true;
}

/* --- Moving --- */

static void compare_windows(struct xf_sa *was, struct xf_sa *is)
{
	uint64_t top = was->replay->top;

	assert_int_equal(was->replay->top, is->replay->top);
	assert_int_equal(was->replay->reach, is->replay->reach);
	for (uint64_t back = 0; back < was->replay->reach + 10u && back < top; back++)
		assert_int_equal(xf_replay_check(was->replay, top - back),
				 xf_replay_check(is->replay, top - back));
	assert_int_equal(xf_replay_check(is->replay, top + 1), XF_PASS);
}

static void compare(struct xf_sa *was, struct xf_sa *is)
{
	struct xf_sa_replay_state replay[2];
	struct xf_lifetime_now life[2];
	struct xf_sa_origin origin[2];

	xf_sa_get_replay_state(was, &replay[0]);
	xf_sa_get_replay_state(is, &replay[1]);
	assert_memory_equal(&replay[0], &replay[1], sizeof(replay[0]));
	xf_sa_lifetime_now(was, &life[0]);
	xf_sa_lifetime_now(is, &life[1]);
	assert_memory_equal(&life[0], &life[1], sizeof(life[0]));
	xf_sa_get_origin(was, &origin[0]);
	xf_sa_get_origin(is, &origin[1]);
	assert_int_equal(origin[0].id, origin[1].id);
	assert_memory_equal(origin[0].seed, origin[1].seed, XF_IVGEN_SEED);
	assert_int_equal(atomic_load(&was->begun), atomic_load(&is->begun));
	assert_int_equal(xf_sa_last_used_s(was), xf_sa_last_used_s(is));
	compare_windows(was, is);
}

/* All whose moment has come, in one grace period. */
static void move_some(unsigned step)
{
	struct xf_sa *moving[SAS];
	unsigned numbers[SAS];
	unsigned n = 0;

	for (unsigned i = 0; i < SAS; i++) {
		if (sas[i].moves_at != step)
			continue;
		numbers[n] = i;
		moving[n++] = sas[i].was;
	}
	if (n == 0)
		return;
	rec_move(&a1, &a2, moving, n);
	for (unsigned i = 0; i < n; i++) {
		struct sa *sa = &sas[numbers[i]];

		sa->moved = true;
		sa->numbered = atomic_load(&sa->was->begun);
		compare(sa->was, rec_find_in(&a2, &sa->cfg));
	}
}

static bool note_id(void *arg, struct xf_sa *sa)
{
	uint64_t **next = arg;

	*(*next)++ = id_of(sa);
	return true;
}

static void compare_lookups(void)
{
	static uint64_t ids[2][SAS];
	uint64_t cursor[2] = { 0 }, *next[2] = { ids[0], ids[1] };

	for (unsigned i = 0; i < SAS; i++) {
		assert_int_equal(id_of(rec_find_in(&a1, &sas[i].cfg)),
				 id_of(rec_find_in(&a2, &sas[i].cfg)));
		assert_int_equal(id_of(rec_find_out(&a2, &sas[i].cfg)), sas[i].out_id);
		assert_int_equal(atomic_load(&sas[i].was->begun), sas[i].numbered);
	}
	for (unsigned i = 0; i < 2; i++)
		assert_false(xf_sad_walk(xf_engine_sad((i ? a2 : a1).host->engine), &cursor[i],
					 note_id, &next[i]));
	assert_memory_equal(ids[0], ids[1], sizeof(ids[0]));
}

static void sas_move_under_load(void **state)
{
	(void)state;
	begin();
	for (unsigned step = 0; step < STEPS; step++) {
		sim.now_ns += XF_NSEC_PER_SEC / 50;
		for (unsigned i = 0; i < EACH_STEP; i++) {
			send_one(sim_random(&sim, TUNNELS));
			receive_one(sim_random(&sim, TUNNELS));
		}
		move_some(step);
	}
	compare_lookups();
	for (unsigned i = 0; i < TUNNELS; i++) {
		send_one(i);
		receive_one(i);
	}
	print_message("# %u received, %u late, %u again; %u refused where they were\n", accepted,
		      late, repeated, refused);
	assert_true(late > 500 && repeated > 500 && refused > 500);
	end();
}

/* --- What a cipher has when an SA is frozen --- */

static void poll(struct sim_host *host, struct xf_path_result *res)
{
	while (xf_path_waiting(host->worker))
		xf_path_poll(host->worker, sim.now_ns, res);
}

/* From the network behind A, or behind B. */
static void send_from(struct sim_host *host, unsigned n)
{
	bool from_b = host == &sim.b;
	const struct sim_udp udp = { .src = from_b ? "192.168.2.9" : "192.168.1.9",
				     .dst = from_b ? "192.168.1.9" : "192.168.2.9",
				     .len = 100 };
	struct xf_pktq q = { .count = 0 };

	for (unsigned i = 0; i < n; i++)
		xf_pktq_push(&q, sim_udp(host, &udp));
	xf_path_out(host->worker, &q, sim.now_ns, &host->out);
}

static void second_has_policies(void)
{
	struct sim_policy policy = { .src = "192.168.1.0/24", .dst = "192.168.2.0/24" };

	policy.dir = XF_DIR_OUT;
	sim_add_policy(&sim, &second, &policy);
	policy = (struct sim_policy){
		.src = policy.dst, .dst = policy.src, .reverse = true, .dir = XF_DIR_FWD
	};
	sim_add_policy(&sim, &second, &policy);
}

/* @n frames with numbers from @first on have left. */
static void numbers_left(struct xf_pktq *q, unsigned n, uint32_t first)
{
	struct xf_pkt *pkt;
	uint8_t seq[4];

	assert_int_equal(q->count, n);
	for (; (pkt = xf_pktq_pop(q)); first++) {
		xf_pkt_copy_out(pkt, ESP_OFF + 4, seq, sizeof(seq));
		assert_int_equal(xf_get_be32(seq), first);
		xf_pkt_free(pkt);
	}
}

/* Three frames of B's, as often as they are asked for. */
static struct frame three[3];

static void receive_three(struct sim_host *host)
{
	for (unsigned i = 0; i < 3; i++)
		receive(host, &three[i]);
}

static void keep_three(void)
{
	struct xf_pkt *pkt;

	send_from(&sim.b, 3);
	poll(&sim.b, &sim.b.out);
	for (unsigned i = 0; i < 3; i++) {
		pkt = xf_pktq_pop(&sim.b.out.wire);
		assert_true(pkt && pkt->len <= FRAME_MAX);
		three[i].len = pkt->len;
		xf_pkt_copy_out(pkt, 0, three[i].bytes, pkt->len);
		xf_pkt_free(pkt);
	}
}

/* Numbers that were given stay given, and leave; what is not decrypted yet counts for nothing. */
static void what_a_cipher_has(void **state)
{
	const struct sim_sa like = { .replay_window = 64 };
	const struct rec_sa out = { .spi = 0x1000 }, in = { .spi = 0x2000, .reverse = true };
	struct xf_sa *moving[2];
	uint64_t dropped;

	(void)state;
	sim_init(&sim, 1);
	sim.provider = &late_provider;
	sim_host_again(&sim, &second);
	sim_add_tunnel(&sim, &like);
	second_has_policies();
	rec_init(&a1, &sim.a);
	rec_init(&a2, &second);
	keep_three();
	late_set_chance(0);
	send_from(&sim.a, 3);
	receive_three(&sim.a);
	assert_int_equal(sim.a.out.wire.count, 0);
	moving[0] = rec_find_in(&a1, &out);
	moving[1] = rec_find_in(&a1, &in);
	rec_move(&a1, &a2, moving, 2);
	dropped = sim_drops(&sim.a, XF_DROP_IN_STATE_INVALID);
	late_set_chance(100);
	poll(&sim.a, &sim.a.out);
	numbers_left(&sim.a.out.wire, 3, 1);
	assert_int_equal(sim.a.out.deliver.count, 0);
	assert_int_equal(sim_drops(&sim.a, XF_DROP_IN_STATE_INVALID), dropped + 3);
	assert_int_equal(moving[1]->replay->top, 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(receive(&second, &three[i]), 1);
	send_from(&second, 2);
	numbers_left(&second.out.wire, 2, 4);
	drain(&sim.b);
	drain(&second);
	rec_fini(&a1);
	rec_fini(&a2);
	xf_worker_free(second.worker);
	xf_engine_free(second.engine);
	sim_fini(&sim);
}

/* The rest stays where it is. */
static void an_unknown_version_is_refused(void **state)
{
	const struct rec_sa cfg = { .spi = 77, .kind = REC_CBC };
	static uint8_t record[XF_NL_RECORD_MAX];
	const uint32_t version = XF_NL_RECORD_VERSION + 1;
	const char *why;
	struct xf_sa *sa;
	size_t len;

	(void)state;
	sim_init(&sim, 1);
	rec_init(&a1, &sim.a);
	rec_init(&b, &sim.b);
	rec_add(&a1, &cfg);
	sa = rec_find_in(&a1, &cfg);
	assert_int_equal(xf_sad_freeze(xf_engine_sad(sim.a.engine), &sa, 1), 1);
	assert_int_equal(xf_nl_record_write(sa, record, sizeof(record), &len), 0);
	memcpy(record + offsetof(struct xf_nl_record_head, version), &version, sizeof(version));
	assert_int_equal(xf_nl_restore(b.server, record, len, &why), -EPROTO);
	assert_string_equal(why, "The record is of a version that is not known here");
	assert_null(rec_find_in(&b, &cfg));
	rec_fini(&a1);
	rec_fini(&b);
	sim_fini(&sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sas_move_under_load),
		cmocka_unit_test(what_a_cipher_has),
		cmocka_unit_test(an_unknown_version_is_refused),
	};

	xf_crypto_register(&late_provider);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
