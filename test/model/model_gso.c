/*
 * Super-packets against a naive cutter: what xf_gso_next() cuts is what it cuts, byte for byte,
 * however the bytes lie in memory. What xf_gro_push() joins, cut again, is the packets that came,
 * in the order of each flow: none lost, none twice, whatever was reordered, lost or damaged.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <cmocka.h>

#include <xf/gro.h>
#include <xf/gso.h>

#include "supers.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ROUNDS 1000
#else
#define ROUNDS 20000
#endif

static struct xf_pool *pool;
static uint8_t whole[SUPER_LEN_MAX + 1];
static uint8_t part[SUPER_LEN_MAX + 1];

static void check_cut(const struct super *s, struct xf_pkt *pkt)
{
	struct xf_ip_info ip;
	struct xf_gso_cut cut;
	struct xf_pkt *piece;
	uint32_t n = 0;

	supers_mark(s, pkt);
	pkt->mark = 77;
	assert_int_equal(xf_ip_parse(pkt, true, &ip), 0);
	assert_int_equal(xf_gso_begin(&cut, pkt, &ip), 0);
	assert_int_equal(cut.count, supers_count(s));
	while ((piece = xf_gso_next(&cut))) {
		uint32_t len = supers_cut(s, whole, n++, part);

		packets_check(piece, part, len);
		assert_true(len <= xf_gso_packet_len(pkt, &ip));
		assert_int_equal(piece->mark, 77);
		assert_int_equal(piece->gso_type, XF_GSO_NONE);
		assert_int_equal(piece->csum_start, 0);
		xf_pkt_free(piece);
	}
	assert_int_equal(n, supers_count(s));
	xf_pkt_free(pkt);
}

static void cuts_as_the_naive_cutter(void **state)
{
	(void)state;
	pool = packets_pool();
	for (unsigned round = 0; round < ROUNDS; round++) {
		struct super s;
		uint32_t len;

		supers_random(&s, packets_below(8) ? 20000 : 65000);
		len = supers_write(&s, whole);
		check_cut(&s, packets_new(pool, (enum shape)packets_below(SHAPE_MAX), whole, len));
		packets_unshare();
		packets_pool_check(pool);
	}
	packets_pool_done(pool);
}

static void check_routed(const struct super *s, struct xf_pkt *pkt)
{
	struct xf_ip_info ip;
	struct xf_gso_cut cut;

	supers_mark(s, pkt);
	pkt->csum_start += SUPERS_ROUTE_LEN;
	assert_int_equal(xf_ip_parse(pkt, true, &ip), 0);
	assert_int_equal(xf_gso_begin(&cut, pkt, &ip), 0);
	for (uint32_t i = 0; i < supers_count(s); i++) {
		uint32_t len = supers_route(part, supers_cut(s, whole, i, part));
		struct xf_pkt *piece = xf_gso_next(&cut);

		assert_non_null(piece);
		packets_check(piece, part, len);
		xf_pkt_free(piece);
	}
	assert_null(xf_gso_next(&cut));
	xf_pkt_free(pkt);
}

/* RFC 8200 s8.1: the sum is that for the last destination, which is not in the IPv6 header. */
static void cuts_behind_a_routing_header(void **state)
{
	static uint8_t routed[SUPER_LEN_MAX + 1];

	(void)state;
	pool = packets_pool();
	for (unsigned round = 0; round < ROUNDS / 10; round++) {
		struct super s;
		uint32_t len;

		supers_random(&s, packets_below(8) ? 20000 : 65000);
		s.family = XF_AF_INET6;
		len = supers_write(&s, whole);
		memcpy(routed, whole, len);
		len = supers_route(routed, len);
		check_routed(&s,
			     packets_new(pool, (enum shape)packets_below(SHAPE_MAX), routed, len));
		packets_unshare();
		packets_pool_check(pool);
	}
	packets_pool_done(pool);
}

/* Memory that a write would fault on. */
static void cuts_from_memory_that_cannot_be_written(void **state)
{
	uint8_t *mem =
		mmap(NULL, 128 << 10, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	assert_true(mem != MAP_FAILED);
	pool = packets_pool();
	for (unsigned round = 0; round < ROUNDS / 100; round++) {
		struct super s;
		uint32_t len;

		assert_int_equal(mprotect(mem, 128 << 10, PROT_READ | PROT_WRITE), 0);
		supers_random(&s, 60000);
		len = supers_write(&s, whole);
		memcpy(mem, whole, len);
		assert_int_equal(mprotect(mem, 128 << 10, PROT_READ), 0);
		check_cut(&s, packets_new(pool, SHAPE_FOREIGN, mem, len));
		packets_unshare();
	}
	packets_pool_done(pool);
	munmap(mem, 128 << 10);
}

/* --- Joining --- */

#define FLOWS_MAX 40
#define PACKETS_MAX 60

/* What a flow sent, in the order in which it came, and how much of it has come out again. */
struct flow {
	struct super super;
	uint8_t *bytes[PACKETS_MAX];
	uint32_t len[PACKETS_MAX];
	unsigned n;
	unsigned sent;
	unsigned out;
};

static struct flow flows[FLOWS_MAX];
static unsigned nflows;
static unsigned joined;

static void make_flow(struct flow *f, unsigned number)
{
	struct super *s = &f->super;

	f->n = f->sent = f->out = 0;
	supers_random(s, 20000);
	if (s->payload_len > PACKETS_MAX * s->gso_size)
		s->payload_len = PACKETS_MAX * s->gso_size;
	s->sport = (uint16_t)number; /* each flow its own */
	supers_write(s, whole);
	for (uint32_t i = 0; i < supers_count(s); i++) {
		f->len[f->n] = supers_cut(s, whole, i, part);
		f->bytes[f->n] = malloc(f->len[f->n]);
		memcpy(f->bytes[f->n], part, f->len[f->n]);
		f->n++;
	}
}

static void lose(struct flow *f, unsigned i)
{
	free(f->bytes[i]);
	memmove(&f->bytes[i], &f->bytes[i + 1], (f->n - i - 1) * sizeof(f->bytes[0]));
	memmove(&f->len[i], &f->len[i + 1], (f->n - i - 1) * sizeof(f->len[0]));
	f->n--;
}

/* A field of the headers that says something else than in its neighbours, with sums that fit. */
static void change_field(uint8_t *bytes, uint32_t len)
{
	static const uint8_t of_ip4[] = { 1, 4, 5, 6, 8 }; /* TOS, id, DF, TTL */
	static const uint8_t of_ip6[] = { 1, 2, 3, 7 }; /* class and label, hop limit */
	static const uint8_t of_l4[] = { 4, 5, 7, 8, 11, 13, 13, 14, 15, 19, 20, 31 };
	bool v4 = bytes[0] >> 4 == 4;
	uint32_t l4 = v4 ? 20 : 40;
	bool tcp = (v4 ? bytes[9] : bytes[6]) == XF_IPPROTO_TCP;
	uint32_t at = v4 ? of_ip4[packets_below(5)] : of_ip6[packets_below(4)];

	if (tcp && packets_below(2))
		at = l4 + of_l4[packets_below(XF_ARRAY_SIZE(of_l4))];
	if (at < len && at != 6)
		bytes[at] ^= (uint8_t)(1u << packets_below(8));
	else if (at == 6)
		bytes[at] ^= 0x40;
	supers_sum(bytes, len);
}

/* What networks do to packets: lose, exchange, damage, change a field. */
static void harm(struct flow *f)
{
	unsigned i = packets_below(f->n);
	unsigned k = packets_below(f->n);
	uint8_t *bytes = f->bytes[i];
	uint32_t len = f->len[i];

	switch (packets_below(4)) {
	case 0:
		lose(f, i);
		break;
	case 1:
		f->bytes[i] = f->bytes[k];
		f->len[i] = f->len[k];
		f->bytes[k] = bytes;
		f->len[k] = len;
		break;
	case 2:
		bytes[len - 1] ^= 1;
		break;
	default:
		change_field(bytes, len);
		break;
	}
}

static unsigned flow_of(const uint8_t *bytes)
{
	return xf_get_be16(bytes + (bytes[0] >> 4 == 4 ? 20 : 40));
}

static void came_out(const uint8_t *bytes, uint32_t len)
{
	struct flow *f = &flows[flow_of(bytes)];

	assert_true(f->out < f->sent);
	assert_int_equal(len, f->len[f->out]);
	assert_memory_equal(bytes, f->bytes[f->out], len);
	f->out++;
}

static void check_out(struct xf_pktq *out)
{
	struct xf_pkt *pkt;

	while ((pkt = xf_pktq_pop(out))) {
		uint32_t len = pkt->len;
		uint32_t hdr_len;

		assert_int_equal(xf_pkt_copy_out(pkt, 0, whole, len), 0);
		if (!pkt->gso_type) {
			came_out(whole, len);
			xf_pkt_free(pkt);
			continue;
		}
		hdr_len = pkt->csum_start + (pkt->gso_type == XF_GSO_UDP
						     ? 8u
						     : (whole[pkt->csum_start + 12] >> 4) * 4u);
		for (uint32_t i = 0; hdr_len + i * pkt->gso_size < len; i++, joined++)
			came_out(part, supers_cut_bytes(whole, len, pkt->gso_size, i, part));
		xf_pkt_free(pkt);
	}
}

static void push(struct xf_gro *gro, struct flow *f, struct xf_pktq *out)
{
	struct xf_pkt *pkt = packets_new(pool, packets_below(4) ? SHAPE_OWN : SHAPE_CHAIN,
					 f->bytes[f->sent], f->len[f->sent]);
	struct xf_ip_info ip;

	if (xf_ip_parse(pkt, false, &ip) < 0) {
		xf_pkt_free(pkt);
		lose(f, f->sent);
		return;
	}
	f->sent++;
	xf_gro_push(gro, pkt, &ip, out);
	check_out(out);
}

static bool any_left(void)
{
	for (unsigned i = 0; i < nflows; i++)
		if (flows[i].sent < flows[i].n)
			return true;
	return false;
}

static void join_round(struct xf_gro *gro)
{
	struct xf_pktq out = { .count = 0 };

	nflows = 1 + packets_below(packets_below(4) ? 4 : FLOWS_MAX);
	for (unsigned i = 0; i < nflows; i++) {
		make_flow(&flows[i], i);
		for (unsigned k = packets_below(4); k-- > 1 && flows[i].n > 1;)
			harm(&flows[i]);
	}
	while (any_left()) {
		struct flow *f = &flows[packets_below(nflows)];

		for (unsigned run = 1 + packets_below(20); run > 0 && f->sent < f->n; run--)
			push(gro, f, &out);
		if (packets_below(30) == 0) {
			xf_gro_flush(gro, &out);
			check_out(&out);
		}
	}
	xf_gro_flush(gro, &out);
	check_out(&out);
	for (unsigned i = 0; i < nflows; i++) {
		assert_int_equal(flows[i].out, flows[i].n);
		for (unsigned k = 0; k < flows[i].n; k++)
			free(flows[i].bytes[k]);
	}
}

static void what_is_joined_cuts_to_what_came(void **state)
{
	struct xf_gro *gro = xf_gro_new(XF_GRO_TCP | XF_GRO_UDP);
	struct xf_gro_stats stats;

	(void)state;
	pool = packets_pool();
	joined = 0;
	for (unsigned round = 0; round < ROUNDS / 10; round++) {
		join_round(gro);
		packets_pool_check(pool);
	}
	xf_gro_get_stats(gro, &stats);
	assert_int_equal(stats.joined, joined);
	assert_true(joined > stats.packets / 4); /* most of it was joined */
	xf_gro_free(gro);
	packets_pool_done(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cuts_as_the_naive_cutter),
		cmocka_unit_test(cuts_behind_a_routing_header),
		cmocka_unit_test(cuts_from_memory_that_cannot_be_written),
		cmocka_unit_test(what_is_joined_cuts_to_what_came),
	};

	srand(20261124);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
