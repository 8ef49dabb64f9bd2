/*
 * Fragments against bytes in an array: datagrams are cut by a naive cutter, mixed, repeated,
 * overlapped and lost; what comes out is a datagram as it was, or nothing. What xf_frag_cut() cuts
 * is put together again. Every packet is back at the end of every round.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <xf/frag.h>

#include "packets.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ROUNDS 1500
#else
#define ROUNDS 15000
#endif

#define TIMEOUT 1000
#define MAX_FLOCK 500
#define MAX_LEN 4000

struct datagram {
	uint8_t bytes[MAX_LEN + 100];
	uint32_t len;
	uint32_t front; /* header that every fragment has */
	uint32_t nexthdr_field;
	uint16_t family;
	uint32_t id;
	uint32_t largest;
	bool lost; /* a fragment of it never arrives */
	bool overlapped; /* may be given up */
	unsigned out;
};

struct flock {
	struct xf_pkt *pkt[MAX_FLOCK];
	unsigned owner[MAX_FLOCK];
	unsigned n;
};

static struct xf_pool *pool;

static uint32_t below(uint32_t n)
{
	return packets_below(n);
}

/* A datagram with options or two extension headers now and then. */
static void make(struct datagram *d, uint32_t id)
{
	struct test_ip ip = { .family = below(2) ? XF_AF_INET : XF_AF_INET6,
			      .proto = XF_IPPROTO_UDP,
			      .ttl = 64,
			      .tos = (uint8_t)below(256),
			      .id = (uint16_t)id };
	uint32_t payload = 17 + below(below(4) ? 500 : MAX_LEN - 100);
	uint32_t extra = below(3) ? 0 : 8;
	uint32_t hdr_len = ip.family == XF_AF_INET ? 20 : 40;

	memset(d, 0, sizeof(*d));
	d->family = ip.family;
	d->id = id;
	if (extra && ip.family == XF_AF_INET6) {
		ip.proto = XF_IPPROTO_HOPOPTS;
		extra = 24;
	}
	packets_ip(d->bytes, &ip, payload + extra);
	d->nexthdr_field = extra ? 48 : 6;
	if (extra && ip.family == XF_AF_INET6) {
		static const uint8_t hop[8] = { XF_IPPROTO_DSTOPTS, 0, 1, 4 };
		static const uint8_t dst[16] = { XF_IPPROTO_UDP, 1, 1, 12 };

		memcpy(d->bytes + hdr_len, hop, 8);
		memcpy(d->bytes + hdr_len + 8, dst, 16);
	} else if (extra) {
		static const uint8_t options[8] = { 0x83, 3, 4, 7, 3, 5, 1, 0 };

		memcpy(d->bytes + hdr_len, options, 8);
		d->bytes[0] = 0x47;
		xf_ipv4_set_csum(d->bytes, 28);
	}
	d->front = hdr_len + extra;
	d->len = d->front + payload;
	packets_fill(d->bytes + d->front, payload);
}

/* Bytes [@off, @off + @len) of @d's payload as a fragment, into @out. */
static uint32_t fragment(const struct datagram *d, uint32_t off, uint32_t len, uint8_t *out)
{
	bool more = d->front + off + len < d->len;

	memcpy(out, d->bytes, d->front);
	if (d->family == XF_AF_INET) {
		memcpy(out + d->front, d->bytes + d->front + off, len);
		xf_put_be16(out + 2, (uint16_t)(d->front + len));
		xf_put_be16(out + 6, (uint16_t)((more ? XF_IPV4_MF : 0) | off / 8));
		out[8] = off ? (uint8_t)(1 + below(250)) : out[8];
		xf_ipv4_set_csum(out, d->front);
		return d->front + len;
	}
	xf_put_be16(out + 4, (uint16_t)(d->front + 8 + len - 40));
	out[7] = off ? (uint8_t)(1 + below(250)) : out[7];
	out[d->front] = out[d->nexthdr_field];
	out[d->nexthdr_field] = XF_IPPROTO_FRAGMENT;
	out[d->front + 1] = 0;
	xf_put_be16(out + d->front + 2, (uint16_t)(off | more));
	xf_put_be32(out + d->front + 4, d->id);
	memcpy(out + d->front + 8, d->bytes + d->front + off, len);
	return d->front + 8 + len;
}

static void add(struct flock *flock, unsigned owner, const uint8_t *bytes, uint32_t len)
{
	static const enum shape shapes[] = { SHAPE_OWN, SHAPE_CHAIN };
	uint8_t padded[MAX_LEN + 300];
	uint32_t padding = below(4) ? 0 : below(7);

	memcpy(padded, bytes, len);
	packets_fill(padded + len, padding);
	assert_true(flock->n < MAX_FLOCK);
	flock->pkt[flock->n] = packets_new(pool, shapes[below(8) == 0], padded, len + padding);
	flock->owner[flock->n++] = owner;
}

/* All of @d in pieces; some twice, now and then one missing or one that overlaps. */
static void cut(struct datagram *d, unsigned owner, struct flock *flock)
{
	uint32_t payload = d->len - d->front;
	uint32_t step = 8 + below(payload < 600 ? 100 : 700) / 8 * 8;
	uint8_t bytes[MAX_LEN + 200];
	uint32_t lose = UINT32_MAX;
	uint32_t n = 0;

	if (step < payload / 40)
		step = payload / 40 / 8 * 8 + 8;
	if (step >= payload)
		step = payload / 16 * 8;
	if (below(8) == 0)
		lose = below((payload + step - 1) / step);
	for (uint32_t off = 0; off < payload; off += step, n++) {
		uint32_t len = xf_min_u32(step, payload - off);
		uint32_t size = fragment(d, off, len, bytes);

		if (size > d->largest)
			d->largest = size;
		if (n == lose) {
			d->lost = true;
			continue;
		}
		add(flock, owner, bytes, size);
		if (below(10) == 0)
			add(flock, owner, bytes, size);
	}
	if (below(8) == 0 && step > 8 && payload > step + 16) {
		/* Bytes that are not those: half of one fragment and half of the next. */
		uint32_t size = fragment(d, step - 8, 16, bytes);

		packets_fill(bytes + size - 16, 16);
		add(flock, owner, bytes, size);
		d->overlapped = true;
	}
}

static void shuffle(struct flock *flock)
{
	for (unsigned i = flock->n; i > 1; i--) {
		unsigned k = below(i);
		struct xf_pkt *pkt = flock->pkt[k];
		unsigned owner = flock->owner[k];

		flock->pkt[k] = flock->pkt[i - 1];
		flock->owner[k] = flock->owner[i - 1];
		flock->pkt[i - 1] = pkt;
		flock->owner[i - 1] = owner;
	}
}

static void free_all(struct xf_pktq *q)
{
	struct xf_pkt *pkt;

	while ((pkt = xf_pktq_pop(q)))
		xf_pkt_free(pkt);
}

static void feed(struct xf_frag_table *table, struct flock *flock, struct datagram *all)
{
	struct xf_pktq dropped = { .count = 0 };

	for (unsigned i = 0; i < flock->n; i++) {
		struct datagram *d = &all[flock->owner[i]];
		struct xf_pkt *out;
		struct xf_ip_info ip;
		enum xf_drop err;

		assert_int_equal(xf_ip_parse(flock->pkt[i], true, &ip), 0);
		assert_true(ip.is_frag);
		err = xf_frag_in(table, flock->pkt[i], &ip, 0, &out, &dropped);
		assert_true(err == XF_PASS || err == XF_DROP_FRAG_OVERLAP);
		if (err != XF_PASS) {
			assert_null(out);
			xf_pkt_free(flock->pkt[i]);
		}
		if (out) {
			packets_check(out, d->bytes, d->len);
			if (!d->overlapped)
				assert_int_equal(out->mtu, d->largest);
			d->out++;
			xf_pkt_free(out);
		}
		assert_true(d->overlapped || dropped.count == 0);
		free_all(&dropped);
	}
	xf_frag_expire(table, TIMEOUT, &dropped);
	free_all(&dropped);
}

static const struct xf_frag_config config = { .datagrams = 16,
					      .fragments = 128,
					      .bytes = 16 << 20,
					      .timeout_ns = TIMEOUT,
					      .seed = { 1, 2 } };

static void whole_or_nothing(void **state)
{
	static struct datagram all[4];
	struct xf_frag_table *table = xf_frag_new(&config);
	unsigned complete = 0;

	(void)state;
	print_message("# seed 1981\n");
	srand(1981);
	pool = packets_pool();
	for (int round = 0; round < ROUNDS; round++) {
		unsigned n = 1 + below(4);
		struct flock flock = { .n = 0 };

		for (unsigned i = 0; i < n; i++) {
			make(&all[i], (uint32_t)round * 4 + i);
			cut(&all[i], i, &flock);
		}
		shuffle(&flock);
		feed(table, &flock, all);
		for (unsigned i = 0; i < n; i++) {
			/* Twice when all of it was repeated, late. */
			if (!all[i].lost && !all[i].overlapped)
				assert_in_range(all[i].out, 1, 2);
			if (all[i].lost)
				assert_int_equal(all[i].out, 0);
			complete += all[i].out;
		}
		packets_pool_check(pool);
	}
	assert_true(complete > ROUNDS);
	xf_frag_free(table);
	packets_pool_done(pool);
}

/* What is cut fits, says how it belongs together, and makes the same datagram again. */
static void cut_and_join(void **state)
{
	static struct datagram d;
	struct xf_frag_table *table = xf_frag_new(&config);

	(void)state;
	print_message("# seed 8200\n");
	srand(8200);
	pool = packets_pool();
	for (int round = 0; round < ROUNDS; round++) {
		struct flock flock = { .n = 0 };
		struct xf_pktq pieces = { .count = 0 };
		struct xf_ip_info ip;
		struct xf_pkt *pkt;
		uint32_t mtu;
		uint32_t step;

		make(&d, (uint32_t)round + 1);
		mtu = d.front + 16 + (d.len > 1000 ? 200 : 0) + below(1400);
		pkt = packets_new(pool, below(2) ? SHAPE_OWN : SHAPE_CHAIN, d.bytes, d.len);
		assert_int_equal(xf_ip_parse(pkt, true, &ip), 0);
		assert_int_equal(xf_frag_cut(pkt, &ip, mtu, d.id, &pieces), XF_PASS);
		if (d.len <= mtu) {
			assert_int_equal(pieces.count, 1);
			free_all(&pieces);
			continue;
		}
		step = (mtu - d.front - (d.family == XF_AF_INET6 ? 8 : 0)) / 8 * 8;
		assert_int_equal(pieces.count, (d.len - d.front + step - 1) / step);
		while ((pkt = xf_pktq_pop(&pieces))) {
			assert_true(pkt->len <= mtu);
			if (pkt->len > d.largest)
				d.largest = pkt->len;
			flock.pkt[flock.n] = pkt;
			flock.owner[flock.n++] = 0;
		}
		shuffle(&flock);
		feed(table, &flock, &d);
		assert_int_equal(d.out, 1);
		packets_pool_check(pool);
	}
	xf_frag_free(table);
	packets_pool_done(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole_or_nothing),
		cmocka_unit_test(cut_and_join),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
