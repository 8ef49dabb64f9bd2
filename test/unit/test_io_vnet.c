/* What a TUN device says of a packet, and what we say to it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "port/tun/vnet.h"
#include "supers.h"

#define CSUM VIRTIO_NET_HDR_F_NEEDS_CSUM
#define ECN VIRTIO_NET_HDR_GSO_ECN
#define LEN 200

static struct xf_pool *pool;
static uint8_t bytes[SUPER_LEN_MAX];

struct row {
	struct virtio_net_hdr vnet;
	uint32_t skip;
	bool ok;
};

static const struct row rows[] = {
	{ { .flags = 0 }, 0, true },
	{ { .flags = CSUM, .csum_start = 20, .csum_offset = 16 }, 0, true },
	{ { .flags = CSUM, .csum_start = 36, .csum_offset = 16 }, 16, true },
	{ { .flags = CSUM, .csum_start = 20, .csum_offset = 6, .gso_type = 5, .gso_size = 1 },
	  0,
	  true },
	{ { .flags = CSUM,
	    .csum_start = 20,
	    .csum_offset = 16,
	    .gso_type = 1 | ECN,
	    .gso_size = 9 },
	  0,
	  true },
	/* The field is the last that fits, and one that does not. */
	{ { .flags = CSUM, .csum_start = LEN - 8, .csum_offset = 6 }, 0, true },
	{ { .flags = CSUM, .csum_start = LEN - 8, .csum_offset = 7 }, 0, false },
	{ { .flags = CSUM, .csum_start = 65535, .csum_offset = 65535 }, 0, false },
	/* In front of the packet. */
	{ { .flags = CSUM, .csum_start = 16, .csum_offset = 16 }, 16, false },
	{ { .flags = CSUM, .csum_start = 0, .csum_offset = 16 }, 0, false },
	/* No size, no checksum, types that nobody asked for: UDP fragments, TCP over nothing. */
	{ { .flags = CSUM, .csum_start = 20, .csum_offset = 16, .gso_type = 1 }, 0, false },
	{ { .gso_type = 1, .gso_size = 100 }, 0, false },
	{ { .flags = CSUM, .csum_start = 20, .csum_offset = 16, .gso_type = 3, .gso_size = 9 },
	  0,
	  false },
	{ { .flags = CSUM, .csum_start = 20, .csum_offset = 16, .gso_type = 2, .gso_size = 9 },
	  0,
	  false },
	{ { .flags = CSUM, .csum_start = 20, .csum_offset = 16, .gso_type = ECN, .gso_size = 9 },
	  0,
	  true },
};

static struct xf_pkt *packet(uint32_t len)
{
	struct xf_pkt *pkt = xf_pkt_new(pool, len);

	assert_non_null(pkt);
	memcpy(xf_pkt_append(pkt, len), bytes, len);
	return pkt;
}

static void what_is_read(void **state)
{
	(void)state;
	pool = packets_pool();
	for (unsigned i = 0; i < XF_ARRAY_SIZE(rows); i++) {
		const struct virtio_net_hdr *vnet = &rows[i].vnet;
		struct xf_pkt *pkt = packet(LEN);

		assert_int_equal(xf_vnet_read(vnet, rows[i].skip, pkt), rows[i].ok);
		if (rows[i].ok) {
			bool partial = vnet->flags & CSUM;

			assert_int_equal(pkt->csum_start,
					 partial ? vnet->csum_start - rows[i].skip : 0);
			assert_int_equal(pkt->gso_type, vnet->gso_type & ~ECN);
			assert_int_equal(pkt->gso_size, pkt->gso_type ? vnet->gso_size : 0);
			assert_int_equal(pkt->gso_ecn, (vnet->gso_type & ECN) != 0);
		}
		xf_pkt_free(pkt);
	}
	packets_pool_done(pool);
}

/* What is written is read again as it was, with the headers' length that the kernel wants. */
static void there_and_back(void **state)
{
	(void)state;
	pool = packets_pool();
	for (unsigned i = 0; i < 2000; i++) {
		struct virtio_net_hdr vnet;
		struct super s;
		struct xf_pkt *pkt;
		struct xf_pkt *again;
		uint32_t l4;

		supers_random(&s, 2000);
		pkt = packet(supers_write(&s, bytes));
		supers_mark(&s, pkt);
		pkt->gso_ecn = packets_below(2);
		xf_vnet_write(pkt, &vnet);
		l4 = s.family == XF_AF_INET ? 20 : 40;
		assert_int_equal(vnet.hdr_len,
				 l4 + (s.proto == XF_IPPROTO_UDP ? 8 : 20 + s.options_len));
		again = packet(pkt->len);
		assert_true(xf_vnet_read(&vnet, 0, again));
		assert_int_equal(again->gso_type, pkt->gso_type);
		assert_int_equal(again->gso_size, pkt->gso_size);
		assert_int_equal(again->gso_ecn, pkt->gso_ecn);
		assert_int_equal(again->csum_start, pkt->csum_start);
		assert_int_equal(again->csum_offset, pkt->csum_offset);
		xf_pkt_free(pkt);
		xf_pkt_free(again);
	}
	packets_pool_done(pool);
}

static void a_plain_packet_says_nothing(void **state)
{
	static const struct virtio_net_hdr nothing;
	struct virtio_net_hdr vnet;
	struct xf_pkt *pkt;

	(void)state;
	pool = packets_pool();
	pkt = packet(LEN);
	xf_vnet_write(pkt, &vnet);
	assert_memory_equal(&vnet, &nothing, sizeof(vnet));
	xf_pkt_free(pkt);
	packets_pool_done(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_read),
		cmocka_unit_test(there_and_back),
		cmocka_unit_test(a_plain_packet_says_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
