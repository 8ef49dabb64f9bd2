/*
 * Runs of packets of one SA: what comes of them is what comes of the same packets one by one, which
 * lie in memory in another way so that none goes the short way. Inbound out of order, seen before
 * and damaged ones too.
 */
#include "esp_util.h"

#define RUN 6
#define ROOM 4096

/* The bytes of RUN packets, how they lie in memory, and what became of each. */
struct run {
	uint8_t bytes[RUN][ROOM];
	uint32_t len[RUN];
	enum shape shape[RUN];
	enum xf_drop drop[RUN];
};

static struct xf_transform_op ops[RUN];
static struct xf_ip_info ips[RUN];
static uint8_t large[ROOM];

static void take_up(const struct run *run, unsigned i)
{
	ops[i].pkt = packets_new(esp_pool, run->shape[i], run->bytes[i], run->len[i]);
	ops[i].ip = &ips[i];
	ops[i].udp_len = 0;
	assert_int_equal(xf_ip_parse(ops[i].pkt, true, &ips[i]), 0);
	if (ips[i].proto == XF_IPPROTO_UDP)
		ops[i].udp_len = XF_UDP_HDR_LEN;
}

/* Buffers of a pool lie side by side: what runs over the end of one would not be seen otherwise. */
static void check_room(const struct xf_pkt *pkt)
{
	for (uint32_t i = 0; i < pkt->nsegs; i++) {
		const struct xf_seg *seg = &pkt->segs[i];

		if (!seg->buf->home)
			continue;
		assert_true(seg->data >= seg->buf->mem);
		assert_true(seg->data + seg->len <= seg->buf->mem + seg->buf->size);
	}
}

static void lay_down(struct run *run, unsigned i)
{
	check_room(ops[i].pkt);
	run->drop[i] = ops[i].drop;
	run->len[i] = ops[i].pkt->len;
	assert_true(run->len[i] <= ROOM);
	xf_pkt_copy_out(ops[i].pkt, 0, run->bytes[i], run->len[i]);
	xf_pkt_free(ops[i].pkt);
}

/* Operations [@from, @from + @n) as one run of @sa. */
static void seal(struct xf_sa *sa, unsigned from, unsigned n)
{
	struct xf_transform_op *run[RUN] = { NULL };

	for (unsigned i = 0; i < n; i++)
		run[i] = &ops[from + i];
	xf_esp_out_prepare_run(sa, run, n, ESP_NOW);
	for (unsigned i = 0; i < n; i++) {
		if (run[i]->drop != XF_PASS)
			continue;
		esp_crypto(run[i]);
		assert_int_equal(xf_esp_out_finish(run[i]), XF_PASS);
	}
}

static void open(struct xf_sa *sa, unsigned from, unsigned n)
{
	struct xf_transform_op *run[RUN] = { NULL };
	unsigned ready = 0;

	for (unsigned i = 0; i < n; i++)
		run[i] = &ops[from + i];
	xf_esp_in_prepare_run(sa, run, n, ESP_NOW);
	for (unsigned i = 0; i < n; i++) {
		if (run[i]->drop != XF_PASS)
			continue;
		esp_crypto(run[i]);
		run[ready++] = run[i];
	}
	if (ready)
		xf_esp_in_finish_run(run, ready, ESP_NOW);
}

/* All of @run through @sa in runs of @length. */
static void through(struct run *run, struct xf_sa *sa, unsigned length,
		    void (*work)(struct xf_sa *sa, unsigned from, unsigned n))
{
	for (unsigned from = 0; from < RUN; from += length) {
		for (unsigned i = from; i < from + length; i++)
			take_up(run, i);
		work(sa, from, length);
		for (unsigned i = from; i < from + length; i++)
			lay_down(run, i);
	}
}

static void check_same(const struct run *a, const struct run *b)
{
	for (unsigned i = 0; i < RUN; i++) {
		assert_int_equal(a->drop[i], b->drop[i]);
		assert_int_equal(a->len[i], b->len[i]);
		/* What was refused may have been decrypted. */
		if (a->drop[i] == XF_PASS)
			assert_memory_equal(a->bytes[i], b->bytes[i], a->len[i]);
	}
}

static void check_same_counts(const struct xf_sa *a, const struct xf_sa *b)
{
	struct xf_lifetime_now x, y;

	xf_sa_lifetime_now(a, &x);
	xf_sa_lifetime_now(b, &y);
	assert_int_equal(x.packets, y.packets);
	assert_int_equal(x.bytes, y.bytes);
}

static void fill_run(struct run *run, uint16_t family, enum shape shape)
{
	for (unsigned i = 0; i < RUN; i++) {
		uint32_t payload =
			packets_below(6) ? 1 + packets_below(400) : 2500 + packets_below(999);
		struct test_ip ip = { .family = family,
				      .proto = 253,
				      .ttl = 61,
				      .tos = (uint8_t)packets_below(256),
				      .df = packets_below(2),
				      .id = 9 };
		uint32_t hdr_len = packets_ip(run->bytes[i], &ip, payload);

		run->len[i] = hdr_len + payload;
		packets_fill(run->bytes[i] + hdr_len, payload);
		/* Bytes behind its end, as of Ethernet's padding: none of them is protected. */
		if (packets_below(4) == 0) {
			packets_fill(run->bytes[i] + run->len[i], 9);
			run->len[i] += 9;
		}
		run->shape[i] = shape;
	}
}

static void set_shapes(struct run *run, enum shape shape)
{
	for (unsigned i = 0; i < RUN; i++)
		run->shape[i] = shape;
}

/* One with bytes behind its end, one that says it is a fragment. */
static void mislabel(struct run *run)
{
	unsigned longer = packets_below(RUN);
	uint8_t *hdr = run->bytes[packets_below(RUN)];

	packets_fill(run->bytes[longer] + run->len[longer], 7);
	run->len[longer] += 7;
	if (hdr[0] == 0x45) {
		xf_put_be16(hdr + 6, XF_IPV4_MF);
		xf_ipv4_set_csum(hdr, XF_IPV4_HDR_LEN);
	}
}

/* In another order, one again in the place of another, one damaged. */
static void disturb(struct run *run)
{
	static struct run was;
	unsigned turn = packets_below(RUN);
	unsigned damaged = packets_below(RUN);

	was = *run;
	for (unsigned i = 0; i < RUN; i++) {
		unsigned from = (i + turn) % RUN;

		memcpy(run->bytes[i], was.bytes[from], was.len[from]);
		run->len[i] = was.len[from];
	}
	run->bytes[damaged][run->len[damaged] - 1] ^= 4;
	memcpy(run->bytes[1], run->bytes[4], run->len[4]);
	run->len[1] = run->len[4];
}

/* Twins have the same IVs. */
static void make_twins(const struct xf_sa_config *cfg, struct xf_sa *twins[2])
{
	unsigned seed = (unsigned)rand();

	for (unsigned i = 0; i < 2; i++) {
		srand(seed);
		twins[i] = esp_sa(cfg);
	}
}

static void one_cell(const struct xf_sa_config *cfg, uint16_t inner, enum shape shape)
{
	static struct run run, each;
	struct xf_sa *out[2], *in[2];

	make_twins(cfg, out);
	make_twins(cfg, in);
	for (unsigned round = 0; round < 6; round++) {
		fill_run(&run, inner, shape);
		if (round % 3 == 1)
			run.shape[packets_below(RUN)] = SHAPE_CHAIN;
		each = run;
		set_shapes(&each, SHAPE_CHAIN);
		through(&run, out[0], RUN, seal);
		through(&each, out[1], 1, seal);
		check_same(&run, &each);
		check_same_counts(out[0], out[1]);
		if (round % 2)
			disturb(&run);
		if (round > 2)
			mislabel(&run);
		each = run;
		set_shapes(&each, SHAPE_CHAIN);
		through(&run, in[0], RUN, open);
		through(&each, in[1], 1, open);
		/* A run is looked at as a whole before one of it is believed; the verdict is the
		 * same in the end, as the window is asked again. */
		check_same(&run, &each);
		check_same_counts(in[0], in[1]);
	}
	for (unsigned i = 0; i < 2; i++) {
		xf_sa_put(out[i]);
		xf_sa_put(in[i]);
	}
	packets_pool_check(esp_pool);
}

static void as_one_by_one(void **state)
{
	static const uint16_t families[] = { XF_AF_INET, XF_AF_INET6 };
	static const enum shape shapes[] = { SHAPE_OWN, SHAPE_LENT, SHAPE_MIXED };
	const struct xf_suite *suites[] = { &suite_gcm, &suite_cbc, &suite_ctr, &suite_gmac };
	unsigned cells = 0;

	(void)state;
	for (unsigned k = 0; k < XF_ARRAY_SIZE(suites) * 48; k++) {
		uint16_t outer = families[k & 1];
		uint8_t mode = k & 2 ? XF_MODE_TUNNEL : XF_MODE_TRANSPORT;
		uint16_t inner = mode == XF_MODE_TUNNEL ? families[k >> 2 & 1] : outer;
		struct xf_sa_config cfg = esp_config(outer, mode, suites[k / 48]);

		if (k & 8)
			cfg.terms.encap =
				(struct xf_encap){ .type = 2, .sport = 4500, .dport = 4500 };
		one_cell(&cfg, inner, shapes[k / 16 % 3]);
		cells++;
	}
	print_message("# %u cells\n", cells);
}

/* The last number is taken by a packet in the middle of a run. */
static void to_the_last_number(void **state)
{
	struct xf_sa_config cfg = esp_config(XF_AF_INET, XF_MODE_TUNNEL, &suite_gcm);
	static struct run run, before;
	struct xf_sa *sa = esp_sa(&cfg);

	(void)state;
	esp_set_seq(sa, UINT32_MAX - 2, 0);
	fill_run(&run, XF_AF_INET, SHAPE_OWN);
	for (unsigned i = 0; i < RUN; i++)
		run.len[i] = xf_get_be16(run.bytes[i] + 2);
	before = run;
	through(&run, sa, RUN, seal);
	for (unsigned i = 0; i < RUN; i++) {
		assert_int_equal(run.drop[i], i < 2 ? XF_PASS : XF_DROP_OUT_STATE_SEQ);
		if (i < 2)
			assert_int_equal(xf_get_be32(run.bytes[i] + 24), UINT32_MAX - 1 + i);
		else
			assert_memory_equal(run.bytes[i], before.bytes[i], before.len[i]);
	}
	xf_sa_put(sa);
}

/* A first piece of ours in a buffer that is too small for the whole. */
static void no_room_behind_the_first(void **state)
{
	struct xf_sa_config cfg = esp_config(XF_AF_INET, XF_MODE_TUNNEL, &suite_gcm);
	struct test_ip ip = { .family = XF_AF_INET, .proto = 253, .ttl = 61 };
	struct xf_sa *out = esp_sa(&cfg), *in = esp_sa(&cfg);
	uint32_t len = packets_ip(large, &ip, 3000) + 3000;
	struct xf_pkt *pkt = xf_pkt_new(esp_pool, 40);

	(void)state;
	packets_fill(large + XF_IPV4_HDR_LEN, 3000);
	memcpy(xf_pkt_append(pkt, 40), large, 40);
	assert_int_equal(
		xf_pkt_join(pkt, packets_new(esp_pool, SHAPE_FOREIGN, large + 40, len - 40)), 0);
	assert_int_equal(esp_seal(out, pkt, &ops[0]), XF_PASS);
	check_room(pkt);
	packets_unshare();
	assert_int_equal(esp_open(in, pkt, &ops[0]), XF_PASS);
	packets_check(pkt, large, len);
	xf_pkt_free(pkt);
	xf_sa_put(out);
	xf_sa_put(in);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(as_one_by_one, esp_setup, esp_teardown),
		cmocka_unit_test_setup_teardown(to_the_last_number, esp_setup, esp_teardown),
		cmocka_unit_test_setup_teardown(no_room_behind_the_first, esp_setup, esp_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
