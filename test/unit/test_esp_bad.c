/*
 * ESP that must be refused: with the right reason, the packet as it was, no sequence number
 * spent, nothing counted that did not happen, every buffer back.
 */
#include "esp_util.h"

static struct xf_transform_op op;

static uint32_t clear_packet(uint16_t family, uint32_t payload_len, uint8_t *out)
{
	struct test_ip ip = { .family = family, .proto = 253, .ttl = 61 };
	uint32_t hdr_len = packets_ip(out, &ip, payload_len);

	packets_fill(out + hdr_len, payload_len);
	return hdr_len + payload_len;
}

/* Open @wire: the reason; a packet refused before the cipher ran must be as it was. */
static enum xf_drop open_wire(struct xf_sa *sa, enum shape shape, const uint8_t *wire, uint32_t len)
{
	struct xf_pkt *pkt = packets_new(esp_pool, shape, wire, len);
	enum xf_drop drop;

	op.crypto.status = 0x77;
	drop = esp_open(sa, pkt, &op);
	if (op.crypto.status == 0x77)
		packets_check(pkt, wire, len);
	xf_pkt_free(pkt);
	packets_unshare();
	packets_pool_check(esp_pool);
	return drop;
}

static uint32_t seal_wire(struct xf_sa *sa, uint32_t payload_len, uint8_t *wire)
{
	uint8_t clear[2000];
	uint32_t len = clear_packet(xf_sa_cfg(sa)->id.family, payload_len, clear);
	struct xf_pkt *pkt = packets_new(esp_pool, SHAPE_OWN, clear, len);

	assert_int_equal(esp_seal(sa, pkt, &op), XF_PASS);
	len = pkt->len;
	xf_pkt_copy_out(pkt, 0, wire, len);
	xf_pkt_free(pkt);
	return len;
}

/* What is inside, once it is authentic: a 40 byte IPv4 packet and four more bytes. */
static void trailers(void **state)
{
	static const struct {
		uint8_t pad_len, next_hdr, first; /* byte of the inner packet */
		enum xf_drop drop;
	} rows[] = {
		{ 2, 4, 0x45, XF_PASS },
		{ 1, 4, 0x45, XF_PASS }, /* a byte of TFC padding */
		{ 0, 4, 0x45, XF_PASS },
		{ 3, 4, 0x45, XF_DROP_IN_HDR }, /* a byte of the packet is missing */
		{ 24, 4, 0x45, XF_DROP_IN_HDR },
		{ 41, 4, 0x45, XF_DROP_IN_HDR }, /* one byte is left */
		{ 42, 4, 0x45, XF_DROP_IN_STATE_PROTO }, /* none */
		{ 43, 4, 0x45, XF_DROP_IN_STATE_PROTO },
		{ 255, 4, 0x45, XF_DROP_IN_STATE_PROTO },
		{ 2, 41, 0x45, XF_DROP_IN_STATE_MODE },
		{ 2, 6, 0x45, XF_DROP_IN_STATE_MODE },
		{ 2, 0, 0x45, XF_DROP_IN_STATE_MODE },
		{ 2, 59, 0x45, XF_DROP_IN_DUMMY },
		{ 255, 59, 0x45, XF_DROP_IN_STATE_PROTO },
		{ 2, 4, 0x65, XF_DROP_IN_HDR }, /* said to be IPv6, and too long then */
		{ 2, 4, 0x44, XF_DROP_IN_HDR },
		{ 2, 4, 0x05, XF_DROP_IN_HDR },
	};

	(void)state;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(rows) * SHAPE_MAX; i++) {
		unsigned row = i % XF_ARRAY_SIZE(rows);
		const struct xf_suite *suite = i & 1 ? &suite_null : &suite_gcm;
		struct xf_sa_config cfg = esp_config(XF_AF_INET, XF_MODE_TUNNEL, suite);
		struct xf_sa *sa = esp_sa(&cfg);
		enum shape shape = (enum shape)(i / XF_ARRAY_SIZE(rows));
		struct xf_lifetime_now now;
		struct xf_sa_stats stats;
		uint8_t text[44] = { 0 }, wire[200];
		uint32_t len;

		clear_packet(XF_AF_INET, 20, text);
		text[0] = rows[row].first;
		text[42] = rows[row].pad_len;
		text[43] = rows[row].next_hdr;
		len = esp_forge(sa, 5, text, sizeof(text), wire);
		print_message("# row %u\n", row);
		assert_int_equal(open_wire(sa, shape, wire, len), rows[row].drop);
		/* It was authentic: nobody may send it again. */
		assert_int_equal(open_wire(sa, shape, wire, len), XF_DROP_IN_STATE_SEQ);
		xf_sa_get_stats(sa, &stats);
		assert_int_equal(stats.integrity_failed, 0);
		assert_int_equal(stats.replay, 1);
		xf_sa_lifetime_now(sa, &now);
		if (rows[row].drop == XF_DROP_IN_STATE_PROTO || rows[row].drop == XF_DROP_IN_DUMMY)
			assert_int_equal(now.packets, 0);
		else
			assert_int_equal(now.bytes, 42 - rows[row].pad_len);
		xf_sa_put(sa);
	}
}

/* IPv6 said to be inside an IPv4 tunnel packet, and the packet is a sound one of the other kind. */
/* The same in transport mode, where any protocol may be inside, but not none. */
static void transport_trailers(void **state)
{
	static const struct {
		uint8_t pad_len, next_hdr;
		enum xf_drop drop;
	} rows[] = {
		{ 2, 17, XF_PASS },
		{ 41, 17, XF_PASS },
		{ 42, 17, XF_DROP_IN_STATE_PROTO }, /* nothing is left */
		{ 43, 17, XF_DROP_IN_STATE_PROTO },
		{ 255, 17, XF_DROP_IN_STATE_PROTO },
		{ 2, 59, XF_DROP_IN_DUMMY },
	};

	(void)state;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(rows) * SHAPE_MAX; i++) {
		unsigned row = i % XF_ARRAY_SIZE(rows);
		struct xf_sa_config cfg = esp_config(XF_AF_INET, XF_MODE_TRANSPORT, &suite_gcm);
		struct xf_sa *sa = esp_sa(&cfg);
		enum shape shape = (enum shape)(i / XF_ARRAY_SIZE(rows));
		uint8_t text[44] = { 0 }, wire[200];
		uint32_t len;

		text[42] = rows[row].pad_len;
		text[43] = rows[row].next_hdr;
		len = esp_forge(sa, 5, text, sizeof(text), wire);
		print_message("# row %u\n", row);
		assert_int_equal(open_wire(sa, shape, wire, len), rows[row].drop);
		xf_sa_put(sa);
	}
}

static void version_and_next_header_must_agree(void **state)
{
	struct xf_sa_config cfg = esp_config(XF_AF_INET, XF_MODE_TUNNEL, &suite_null);
	struct xf_sa *sa = esp_sa(&cfg);

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		uint16_t family = i & 1 ? XF_AF_INET : XF_AF_INET6;
		uint8_t said = i & 2 ? 4 : 41;
		uint8_t text[100], wire[200];
		uint32_t len = clear_packet(family, 18, text);

		text[len++] = 0;
		text[len++] = said;
		len = esp_forge(sa, i + 1, text, len, wire);
		assert_int_equal(open_wire(sa, SHAPE_OWN, wire, len),
				 (family == XF_AF_INET) == (said == 4) ? XF_PASS
								       : XF_DROP_IN_STATE_MODE);
	}
	xf_sa_put(sa);
}

static const struct xf_suite *const suites[] = { &suite_null, &suite_gcm,  &suite_cbc,
						 &suite_ctr,  &suite_gmac, &suite_ccm };

/* Every shorter packet is refused, with or without bytes behind the end that IP gives it. */
static void cut_short(void **state)
{
	(void)state;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(suites) * 2; i++) {
		struct xf_sa_config cfg = esp_config(XF_AF_INET, XF_MODE_TUNNEL, suites[i / 2]);
		uint8_t wire[300];
		uint32_t hdr = i & 1 ? 28 : 20;
		struct xf_sa *sa;
		uint32_t len;

		if (i & 1)
			cfg.terms.encap = (struct xf_encap){ .type = 2, .sport = 9, .dport = 9 };
		sa = esp_sa(&cfg);
		len = seal_wire(sa, 50, wire);
		for (uint32_t end = 20; end < len; end++) {
			enum xf_drop drop;

			xf_put_be16(wire + 2, (uint16_t)end);
			xf_ipv4_set_csum(wire, 20);
			if (i & 1)
				xf_put_be16(wire + 24, (uint16_t)(end - 20));
			drop = open_wire(sa, SHAPE_CHAIN, wire, end & 1 ? end : len);
			assert_int_equal(drop,
					 end < hdr + 8 ? XF_DROP_IN_HDR : XF_DROP_IN_STATE_PROTO);
		}
		xf_sa_put(sa);
	}
}

/* Authentic, but without room for payload: as short as an ICV can still be right for. */
static void too_little_text(void **state)
{
	static const uint8_t text[] = { 0, 4, 0, 4, 0, 4 };

	(void)state;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(suites); i++) {
		struct xf_sa_config cfg = esp_config(XF_AF_INET, XF_MODE_TUNNEL, suites[i]);
		struct xf_sa *sa = esp_sa(&cfg);
		uint8_t wire[200];

		if (suites[i]->block_len == 1) {
			for (uint32_t n = 0; n <= 2; n++) {
				uint32_t len = esp_forge(sa, 1, text, n, wire);

				assert_int_equal(open_wire(sa, SHAPE_OWN, wire, len),
						 XF_DROP_IN_STATE_PROTO);
			}
		}
		xf_sa_put(sa);
	}
}

/*
 * Authentic, but not whole blocks. No cipher makes such a packet, but the MAC covers what is
 * there: NULL encryption with the same authentication key signs it, the IV as its first text.
 */
static void broken_blocks(void **state)
{
	struct xf_sa_config cfg = esp_config(XF_AF_INET, XF_MODE_TUNNEL, &suite_cbc);
	struct xf_sa_config null_cfg;
	struct xf_suite suite = suite_null;
	struct xf_sa *sa = esp_sa(&cfg), *signer;
	uint8_t text[100], wire[200];

	(void)state;
	suite.icv_len = suite_cbc.icv_len;
	null_cfg = esp_config(XF_AF_INET, XF_MODE_TUNNEL, &suite);
	signer = esp_sa(&null_cfg);
	packets_fill(text, sizeof(text));
	for (uint32_t n = 0; n < 70; n++) {
		uint32_t len = esp_forge(signer, n + 1, text, 16 + n, wire);

		op.crypto.status = 0x77;
		assert_int_not_equal(open_wire(sa, SHAPE_CHAIN, wire, len), XF_DROP_IN_STATE_SEQ);
		/* Did the cipher get to see it? */
		assert_int_equal(op.crypto.status == 0x77, n == 0 || n % 16 != 0);
	}
	xf_sa_put(signer);
	xf_sa_put(sa);
}

/*
 * Authentic, and of a length that is no multiple of 4, where the cipher has no blocks: taken, as by
 * the kernel, whose esp_input() asks for more than nothing.
 */
static void odd_text_without_blocks(void **state)
{
	static const struct xf_suite *const without[] = { &suite_gcm, &suite_null, &suite_ctr };

	(void)state;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(without) * 2; i++) {
		struct xf_sa_config cfg = esp_config(XF_AF_INET, XF_MODE_TUNNEL, without[i / 2]);
		struct xf_sa *sa = esp_sa(&cfg);
		uint8_t text[50] = { 0 }, wire[200];

		for (uint32_t n = 42; n <= sizeof(text); n++) {
			uint32_t len;

			clear_packet(XF_AF_INET, 20, text);
			text[n - 2] = (uint8_t)(n - 42);
			text[n - 1] = XF_IPPROTO_IPIP;
			len = esp_forge(sa, n, text, n, wire);
			assert_int_equal(open_wire(sa, i & 1 ? SHAPE_CHAIN : SHAPE_OWN, wire, len),
					 XF_PASS);
		}
		xf_sa_put(sa);
	}
}

/* One bit wrong anywhere from the sequence number to the ICV: not authentic, and not seen. */
static void flipped_bits(void **state)
{
	(void)state;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(suites) * 2; i++) {
		struct xf_sa_config cfg = esp_config(XF_AF_INET, XF_MODE_TUNNEL, suites[i / 2]);
		struct xf_sa_stats stats;
		uint8_t wire[300];
		uint32_t failed = 0;
		struct xf_sa *sa;
		uint32_t len;

		if (i & 1) {
			cfg.flags = XF_SA_ESN;
			cfg.terms.replay_esn_attr = true;
		}
		sa = esp_sa(&cfg);
		len = seal_wire(sa, 30, wire);
		for (uint32_t at = 24; at < len; at++) {
			uint8_t bit = (uint8_t)(1u << packets_below(8));
			enum xf_drop want = XF_DROP_IN_STATE_PROTO;

			if (at == 27 && bit == 1)
				bit = 2; /* number 0 is no number */
			wire[at] ^= bit;
			assert_int_equal(open_wire(sa, (enum shape)(at % SHAPE_MAX), wire, len),
					 want);
			wire[at] ^= bit;
			xf_sa_get_stats(sa, &stats);
			assert_int_equal(stats.integrity_failed, ++failed);
			assert_int_equal(stats.replay + stats.replay_window, 0);
		}
		assert_int_equal(open_wire(sa, SHAPE_OWN, wire, len), XF_PASS);
		xf_sa_put(sa);
	}
}

/* The same packet twice at once: both look new before the cipher, one wins at the commit. */
static void replay_in_flight(void **state)
{
	struct xf_sa_config cfg = esp_config(XF_AF_INET, XF_MODE_TUNNEL, &suite_gcm);
	static struct xf_transform_op ops[2];
	struct xf_sa *sa = esp_sa(&cfg);
	uint8_t wire[300];
	uint32_t len = seal_wire(sa, 30, wire);
	struct xf_pkt *pkts[2];
	struct xf_ip_info ip;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		pkts[i] = packets_new(esp_pool, SHAPE_FOREIGN, wire, len);
		assert_int_equal(xf_ip_parse(pkts[i], true, &ip), 0);
		assert_int_equal(xf_esp_in_prepare(sa, pkts[i], &ip, 0, ESP_NOW, &ops[i]), XF_PASS);
		esp_crypto(&ops[i]);
	}
	assert_int_equal(xf_esp_in_finish(&ops[1], ESP_NOW), XF_PASS);
	assert_int_equal(xf_esp_in_finish(&ops[0], ESP_NOW), XF_DROP_IN_STATE_SEQ);
	xf_pkt_free(pkts[0]);
	xf_pkt_free(pkts[1]);
	packets_unshare();
	xf_sa_put(sa);
}

/* What the SA says against what the packet is, inbound. */
static void sa_refuses_in(void **state)
{
	static const struct {
		uint8_t dir, mode;
		uint16_t encap;
		bool udp_packet;
		enum xf_sa_state state;
		enum xf_drop drop;
	} rows[] = {
		{ XF_SA_DIR_IN, XF_MODE_TUNNEL, 0, false, XF_SA_VALID, XF_PASS },
		{ XF_SA_DIR_IN, XF_MODE_TUNNEL, 2, true, XF_SA_VALID, XF_PASS },
		{ XF_SA_DIR_OUT, XF_MODE_TUNNEL, 0, false, XF_SA_VALID, XF_DROP_IN_STATE_DIR },
		{ 0, XF_MODE_TUNNEL, 2, false, XF_SA_VALID, XF_DROP_IN_STATE_MISMATCH },
		{ 0, XF_MODE_TUNNEL, 0, true, XF_SA_VALID, XF_DROP_IN_STATE_MISMATCH },
		{ 0, XF_MODE_TUNNEL, 0, false, XF_SA_ACQ, XF_DROP_ACQUIRE_ERROR },
		{ 0, XF_MODE_TUNNEL, 0, false, XF_SA_DEAD, XF_DROP_IN_STATE_INVALID },
		{ 0, XF_MODE_ROUTEOPTIMIZATION, 0, false, XF_SA_VALID, XF_DROP_IN_STATE_MODE },
	};

	(void)state;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(rows); i++) {
		struct xf_sa_config cfg = esp_config(XF_AF_INET, XF_MODE_TUNNEL, &suite_gcm);
		struct xf_sa *out, *in;
		uint8_t wire[300];
		uint32_t len;

		if (rows[i].udp_packet)
			cfg.terms.encap.type = 2;
		out = esp_sa(&cfg);
		cfg.terms.encap.type = rows[i].encap;
		cfg.dir = rows[i].dir;
		cfg.mode = rows[i].mode;
		in = esp_sa(&cfg);
		atomic_store(&in->state, rows[i].state);
		len = seal_wire(out, 30, wire);
		print_message("# row %u\n", i);
		assert_int_equal(open_wire(in, SHAPE_MIXED, wire, len), rows[i].drop);
		xf_sa_put(out);
		xf_sa_put(in);
	}
}

/* UDP's length rules over IP's (RFC 768), but it cannot be longer. */
static void udp_lengths(void **state)
{
	struct xf_sa_config cfg = esp_config(XF_AF_INET, XF_MODE_TUNNEL, &suite_gcm);
	struct xf_sa *sa;
	uint8_t wire[400];
	uint32_t len, udp_len;

	(void)state;
	cfg.terms.encap = (struct xf_encap){ .type = 2, .sport = 9, .dport = 9 };
	sa = esp_sa(&cfg);
	len = seal_wire(sa, 30, wire);
	udp_len = len - 20;
	packets_fill(wire + len, 7); /* behind UDP, inside IP */
	xf_put_be16(wire + 2, (uint16_t)(len + 7));
	xf_ipv4_set_csum(wire, 20);
	for (uint32_t said = 0; said <= udp_len + 20; said++) {
		enum xf_drop want = XF_DROP_IN_STATE_PROTO;

		if (said < 16 || said > udp_len + 7)
			want = XF_DROP_IN_HDR;
		if (said == udp_len)
			continue;
		xf_put_be16(wire + 24, (uint16_t)said);
		assert_int_equal(open_wire(sa, SHAPE_OWN, wire, len + 7), want);
	}
	xf_put_be16(wire + 24, (uint16_t)udp_len);
	assert_int_equal(open_wire(sa, SHAPE_OWN, wire, len + 7), XF_PASS);
	xf_sa_put(sa);
}

/* Try to send; when refused, the packet and the SA's numbers must be as they were. */
static enum xf_drop seal_refused(struct xf_sa *sa, struct xf_pool *from, enum shape shape,
				 const uint8_t *clear, uint32_t len)
{
	struct xf_pkt *pkt = packets_new(from, shape, clear, len);
	uint64_t begun = atomic_load(&sa->begun);
	uint64_t packets = atomic_load(&sa->out.packets);
	enum xf_drop drop;

	pkt->mark = 0x1234;
	pkt->family = XF_AF_UNSPEC;
	drop = esp_seal(sa, pkt, &op);
	if (drop != XF_PASS) {
		packets_check(pkt, clear, len);
		assert_int_equal(pkt->mark, 0x1234);
		assert_int_equal(pkt->family, XF_AF_UNSPEC);
		assert_int_equal(atomic_load(&sa->begun), begun);
		assert_int_equal(atomic_load(&sa->out.packets), packets);
	}
	xf_pkt_free(pkt);
	packets_unshare();
	return drop;
}

static void sa_refuses_out(void **state)
{
	static const struct {
		uint8_t dir, mode;
		uint16_t inner;
		uint32_t payload_len;
		bool fragment;
		enum xf_sa_state state;
		enum xf_drop drop;
	} rows[] = {
		{ XF_SA_DIR_OUT, XF_MODE_TUNNEL, XF_AF_INET, 50, true, XF_SA_VALID, XF_PASS },
		{ XF_SA_DIR_IN, XF_MODE_TUNNEL, XF_AF_INET, 50, false, XF_SA_VALID,
		  XF_DROP_OUT_STATE_DIR },
		{ 0, XF_MODE_TUNNEL, XF_AF_INET, 50, false, XF_SA_DEAD, XF_DROP_OUT_STATE_INVALID },
		{ 0, XF_MODE_ROUTEOPTIMIZATION, XF_AF_INET, 50, false, XF_SA_VALID,
		  XF_DROP_OUT_STATE_MODE },
		{ 0, XF_MODE_TRANSPORT, XF_AF_INET, 50, true, XF_SA_VALID, XF_DROP_OUT_STATE_MODE },
		{ 0, XF_MODE_TRANSPORT, XF_AF_INET6, 50, false, XF_SA_VALID,
		  XF_DROP_OUT_STATE_MODE },
		/* 20 + 8 + 8 + 65484 + 2 + 16 is no longer an IPv4 packet, two bytes less is. */
		{ 0, XF_MODE_TUNNEL, XF_AF_INET, 65464, false, XF_SA_VALID, XF_DROP_OUT_ERROR },
		{ 0, XF_MODE_TUNNEL, XF_AF_INET, 65458, false, XF_SA_VALID, XF_PASS },
		{ 0, XF_MODE_TUNNEL, XF_AF_INET6, 65439, false, XF_SA_VALID, XF_DROP_OUT_ERROR },
	};

	(void)state;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(rows); i++) {
		struct xf_sa_config cfg = esp_config(XF_AF_INET, rows[i].mode, &suite_gcm);
		static uint8_t clear[XF_PKT_MAX];
		uint32_t len = clear_packet(rows[i].inner, rows[i].payload_len, clear);
		struct xf_sa *sa;

		if (rows[i].fragment) {
			xf_put_be16(clear + 6, XF_IPV4_MF);
			xf_ipv4_set_csum(clear, 20);
		}
		cfg.dir = rows[i].dir;
		sa = esp_sa(&cfg);
		atomic_store(&sa->state, rows[i].state);
		print_message("# row %u\n", i);
		assert_int_equal(seal_refused(sa, esp_pool, SHAPE_OWN, clear, len), rows[i].drop);
		packets_pool_check(esp_pool);
		xf_sa_put(sa);
	}
}

/* The last number is given out, then none; with ESN 2^32 is nothing special (RFC 4303 s3.3.3). */
static void sequence_runs_out(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2 * SHAPE_MAX; i++) {
		struct xf_sa_config cfg = esp_config(XF_AF_INET, XF_MODE_TRANSPORT, &suite_gcm);
		uint8_t clear[200];
		uint32_t len = clear_packet(XF_AF_INET, 100, clear);
		enum shape shape = (enum shape)(i / 2);
		struct xf_sa *sa;

		if (i & 1) {
			cfg.flags = XF_SA_ESN;
			cfg.terms.replay_esn_attr = true;
		}
		sa = esp_sa(&cfg);
		esp_set_seq(sa, i & 1 ? UINT64_MAX - 1 : UINT32_MAX - 1, 0);
		assert_int_equal(seal_refused(sa, esp_pool, shape, clear, len), XF_PASS);
		assert_int_equal(seal_refused(sa, esp_pool, shape, clear, len),
				 XF_DROP_OUT_STATE_SEQ);
		packets_pool_check(esp_pool);
		xf_sa_put(sa);
	}
}

static void hard_limit(void **state)
{
	struct xf_sa_config cfg = esp_config(XF_AF_INET, XF_MODE_TUNNEL, &suite_gcm);
	uint8_t clear[200], wire[2][300];
	uint32_t len = clear_packet(XF_AF_INET, 100, clear);
	struct xf_sa *out = esp_sa(&cfg), *in;

	(void)state;
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(seal_wire(out, 100, wire[i]), len + 20 + 16 + 4 + 16);
	xf_sa_put(out);
	cfg.terms.life.hard_packets = 1;
	out = esp_sa(&cfg);
	in = esp_sa(&cfg);
	assert_int_equal(seal_refused(out, esp_pool, SHAPE_OWN, clear, len), XF_PASS);
	assert_int_equal(seal_refused(out, esp_pool, SHAPE_OWN, clear, len),
			 XF_DROP_OUT_STATE_EXPIRED);
	assert_int_equal(open_wire(in, SHAPE_OWN, wire[0], len + 56), XF_PASS);
	assert_int_equal(open_wire(in, SHAPE_OWN, wire[1], len + 56), XF_DROP_IN_STATE_EXPIRED);
	xf_sa_put(out);
	xf_sa_put(in);
}

/* A pool that runs dry at every possible step, on both ways. */
static void pool_runs_dry(void **state)
{
	uint8_t clear[200], wire[300];
	uint32_t len = clear_packet(XF_AF_INET, 100, clear), wire_len;
	unsigned refused = 0, passed = 0;

	(void)state;
	for (unsigned i = 0; i < 2 * 3 * 6; i++) {
		uint8_t mode = i & 1 ? XF_MODE_TRANSPORT : XF_MODE_TUNNEL;
		enum shape shape = i / 2 % 3 == 0   ? SHAPE_FOREIGN
				   : i / 2 % 3 == 1 ? SHAPE_SHARED
						    : SHAPE_OWN;
		struct xf_pool_config cfg = { .packets = 1 + i / 6 % 3, .small_bufs = i / 6 };
		struct xf_sa_config sa_cfg = esp_config(XF_AF_INET, mode, &suite_gcm);
		struct xf_sa *sa = esp_sa(&sa_cfg);
		struct xf_pool_stats stats;
		struct xf_pool *small;
		enum xf_drop drop;

		cfg.packets += shape == SHAPE_SHARED;
		cfg.small_bufs += shape != SHAPE_FOREIGN;
		small = xf_pool_new(&cfg);
		drop = seal_refused(sa, small, shape, clear, len);
		assert_true(drop == XF_PASS || drop == XF_DROP_OUT_NO_BUFFER);
		if (drop == XF_PASS)
			passed++;
		else
			refused++;
		wire_len = seal_wire(sa, 100, wire);
		if (shape != SHAPE_SHARED) {
			struct xf_pkt *pkt = packets_new(small, shape, wire, wire_len);

			op.crypto.status = 0x77;
			drop = esp_open(sa, pkt, &op);
			assert_true(drop == XF_PASS || drop == XF_DROP_IN_BUFFER);
			if (op.crypto.status == 0x77)
				packets_check(pkt, wire, wire_len);
			xf_pkt_free(pkt);
			packets_unshare();
		}
		xf_pool_get_stats(small, &stats);
		assert_int_equal(stats.packets_free, cfg.packets);
		assert_int_equal(stats.small_free, cfg.small_bufs);
		xf_pool_free(small);
		xf_sa_put(sa);
	}
	assert_true(refused >= 6 && passed >= 6);
}

/* More pieces than an operation has room to name: then the packet's own list names them. */
static void many_segments(void **state)
{
	static const uint32_t pieces[] = { 0, 1, 2, 3, 4, 5, 60, 130 };
	struct xf_sa_config cfg = esp_config(XF_AF_INET, XF_MODE_TUNNEL, &suite_gcm);
	struct xf_sa *sa = esp_sa(&cfg);
	uint8_t clear[200];

	(void)state;
	for (unsigned k = 0; k < XF_ARRAY_SIZE(pieces); k++) {
		uint32_t len = clear_packet(XF_AF_INET, 40 + pieces[k], clear);
		struct xf_pkt *pkt = packets_new(esp_pool, SHAPE_OWN, clear, len - pieces[k]);

		for (uint32_t i = len - pieces[k]; i < len; i++)
			assert_int_equal(
				xf_pkt_join(pkt, packets_new(esp_pool, SHAPE_OWN, clear + i, 1)),
				0);
		assert_int_equal(pkt->nsegs, 1 + pieces[k]);
		assert_int_equal(esp_seal(sa, pkt, &op), XF_PASS);
		assert_int_equal(esp_open(sa, pkt, &op), XF_PASS);
		packets_check(pkt, clear, len);
		xf_pkt_free(pkt);
		packets_pool_check(esp_pool);
	}
	xf_sa_put(sa);
}

/* A provider that fails, or one that nobody asked: a drop, and no buffer is lost. */
static void provider_fails(void **state)
{
	struct xf_sa_config cfg = esp_config(XF_AF_INET, XF_MODE_TUNNEL, &suite_gcm);
	struct xf_sa *sa = esp_sa(&cfg);
	uint8_t clear[200], wire[300];
	uint32_t len = clear_packet(XF_AF_INET, 100, clear);
	uint32_t wire_len = seal_wire(sa, 100, wire);

	(void)state;
	for (unsigned shape = 0; shape < SHAPE_MAX; shape++) {
		struct xf_pkt *pkt = packets_new(esp_pool, shape, clear, len);
		struct xf_sa_stats stats;
		struct xf_ip_info ip;

		assert_int_equal(xf_ip_parse(pkt, true, &ip), 0);
		assert_int_equal(xf_esp_out_prepare(sa, pkt, &ip, ESP_NOW, &op), XF_PASS);
		assert_int_equal(xf_esp_out_finish(&op), XF_DROP_OUT_STATE_PROTO);
		xf_pkt_free(pkt);
		packets_unshare();
		pkt = packets_new(esp_pool, shape, wire, wire_len);
		assert_int_equal(xf_ip_parse(pkt, true, &ip), 0);
		assert_int_equal(xf_esp_in_prepare(sa, pkt, &ip, 0, ESP_NOW, &op), XF_PASS);
		assert_int_equal(xf_esp_in_finish(&op, ESP_NOW), XF_DROP_IN_STATE_PROTO);
		xf_pkt_free(pkt);
		packets_unshare();
		packets_pool_check(esp_pool);
		xf_sa_get_stats(sa, &stats);
		assert_int_equal(stats.integrity_failed, 0);
	}
	xf_sa_put(sa);
}

/* What stands behind the IP packet's end, such as a link's padding, is not the packet. */
static void bytes_behind_the_end(void **state)
{
	struct xf_sa_config cfg = esp_config(XF_AF_INET, XF_MODE_TUNNEL, &suite_gcm);
	struct xf_sa *sa = esp_sa(&cfg);
	uint8_t clear[200], wire[300];
	uint32_t len = clear_packet(XF_AF_INET, 30, clear), wire_len;
	struct xf_pkt *pkt;

	(void)state;
	packets_fill(clear + len, 20);
	pkt = packets_new(esp_pool, SHAPE_CHAIN, clear, len + 20);
	assert_int_equal(esp_seal(sa, pkt, &op), XF_PASS);
	wire_len = pkt->len;
	assert_int_equal(wire_len, 20 + 16 + 52 + 16);
	xf_pkt_copy_out(pkt, 0, wire, wire_len);
	xf_pkt_free(pkt);
	packets_fill(wire + wire_len, 40);
	pkt = packets_new(esp_pool, SHAPE_CHAIN, wire, wire_len + 40);
	assert_int_equal(esp_open(sa, pkt, &op), XF_PASS);
	packets_check(pkt, clear, len);
	xf_pkt_free(pkt);
	xf_sa_put(sa);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(trailers, esp_setup, esp_teardown),
		cmocka_unit_test_setup_teardown(transport_trailers, esp_setup, esp_teardown),
		cmocka_unit_test_setup_teardown(version_and_next_header_must_agree, esp_setup,
						esp_teardown),
		cmocka_unit_test_setup_teardown(cut_short, esp_setup, esp_teardown),
		cmocka_unit_test_setup_teardown(too_little_text, esp_setup, esp_teardown),
		cmocka_unit_test_setup_teardown(broken_blocks, esp_setup, esp_teardown),
		cmocka_unit_test_setup_teardown(odd_text_without_blocks, esp_setup, esp_teardown),
		cmocka_unit_test_setup_teardown(flipped_bits, esp_setup, esp_teardown),
		cmocka_unit_test_setup_teardown(replay_in_flight, esp_setup, esp_teardown),
		cmocka_unit_test_setup_teardown(sa_refuses_in, esp_setup, esp_teardown),
		cmocka_unit_test_setup_teardown(udp_lengths, esp_setup, esp_teardown),
		cmocka_unit_test_setup_teardown(sa_refuses_out, esp_setup, esp_teardown),
		cmocka_unit_test_setup_teardown(sequence_runs_out, esp_setup, esp_teardown),
		cmocka_unit_test_setup_teardown(hard_limit, esp_setup, esp_teardown),
		cmocka_unit_test_setup_teardown(pool_runs_dry, esp_setup, esp_teardown),
		cmocka_unit_test_setup_teardown(many_segments, esp_setup, esp_teardown),
		cmocka_unit_test_setup_teardown(provider_fails, esp_setup, esp_teardown),
		cmocka_unit_test_setup_teardown(bytes_behind_the_end, esp_setup, esp_teardown),
	};
	int failed;

	xf_read_register();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	xf_read_unregister();
	return failed;
}
