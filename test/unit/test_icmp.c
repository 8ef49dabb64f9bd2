#include <errno.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <xf/icmp.h>
#include <xf/transform.h>

#include "packets.h"

static struct xf_pool *pool;

/* An IP packet with @len bytes of @proto behind the header, the first ones from @l4. */
static struct xf_pkt *packet(const struct test_ip *ip, const uint8_t *l4, uint32_t l4_len,
			     uint32_t len, enum shape shape)
{
	static uint8_t bytes[4096];
	uint32_t hdr_len = packets_ip(bytes, ip, len);

	packets_fill(bytes + hdr_len, len);
	memcpy(bytes + hdr_len, l4, l4_len);
	return packets_new(pool, shape, bytes, hdr_len + len);
}

static const uint8_t udp[8] = { 0x11, 0x94, 0x11, 0x94 };

/* What comes back about @pkt, or NULL; @pkt is freed. */
static struct xf_pkt *too_big(struct xf_pkt *pkt, uint32_t mtu)
{
	struct xf_ip_info ip;
	struct xf_pkt *out = (struct xf_pkt *)1;
	union xf_addr to;

	assert_int_equal(xf_ip_parse(pkt, false, &ip), 0);
	xf_icmp_too_big(pkt, &ip, mtu, &out, &to);
	if (out) {
		assert_int_equal(out->family, ip.family);
		assert_true(xf_addr_equal(&to, &ip.saddr, ip.family));
	}
	xf_pkt_free(pkt);
	return out;
}

static void makes_too_big(void **state)
{
	static const struct {
		uint16_t family;
		uint32_t payload, quoted;
	} cases[] = {
		{ XF_AF_INET, 8, 28 },	     { XF_AF_INET, 528, 548 },
		{ XF_AF_INET, 529, 548 },    { XF_AF_INET, 1480, 548 },
		{ XF_AF_INET6, 8, 48 },	     { XF_AF_INET6, 1192, 1232 },
		{ XF_AF_INET6, 1193, 1232 }, { XF_AF_INET6, 1460, 1232 },
	};

	(void)state;
	pool = packets_pool();
	for (size_t i = 0; i < XF_ARRAY_SIZE(cases); i++) {
		for (unsigned shape = 0; shape < SHAPE_MAX; shape++) {
			struct test_ip ip = { .family = cases[i].family, .proto = XF_IPPROTO_UDP };
			struct xf_pkt *pkt = packet(&ip, udp, 8, cases[i].payload, shape);
			uint8_t want[2048];
			uint8_t got[2048];
			struct xf_pkt *reply;

			xf_pkt_copy_out(pkt, 0, want, cases[i].quoted);
			reply = too_big(pkt, 1400);
			packets_unshare();
			assert_non_null(reply);
			assert_int_equal(reply->len, 8 + cases[i].quoted);
			xf_pkt_copy_out(reply, 0, got, reply->len);
			assert_memory_equal(got + 8, want, cases[i].quoted);
			if (ip.family == XF_AF_INET) {
				assert_int_equal(xf_get_be16(got), 0x0304);
				assert_int_equal(xf_get_be32(got + 4), 1400);
				assert_int_equal(xf_csum_fold(xf_csum_add(0, got, reply->len)), 0);
			} else {
				assert_int_equal(xf_get_be32(got), 0x02000000);
				assert_int_equal(xf_get_be32(got + 4), 1400);
			}
			xf_pkt_free(reply);
		}
	}
	packets_pool_done(pool);
}

static void keeps_silent(void **state)
{
	static const struct {
		struct test_ip ip;
		uint8_t type;
		bool answers;
	} cases[] = {
		{ { .family = XF_AF_INET, .proto = XF_IPPROTO_ICMP }, 8, true },
		{ { .family = XF_AF_INET, .proto = XF_IPPROTO_ICMP }, 0, true },
		{ { .family = XF_AF_INET, .proto = XF_IPPROTO_ICMP }, 3, false },
		{ { .family = XF_AF_INET, .proto = XF_IPPROTO_ICMP }, 4, false },
		{ { .family = XF_AF_INET, .proto = XF_IPPROTO_ICMP }, 5, false },
		{ { .family = XF_AF_INET, .proto = XF_IPPROTO_ICMP }, 11, false },
		{ { .family = XF_AF_INET, .proto = XF_IPPROTO_ICMP }, 12, false },
		/* The other family's number is just a protocol. */
		{ { .family = XF_AF_INET, .proto = XF_IPPROTO_ICMPV6 }, 3, true },
		{ { .family = XF_AF_INET6, .proto = XF_IPPROTO_ICMPV6 }, 128, true },
		{ { .family = XF_AF_INET6, .proto = XF_IPPROTO_ICMPV6 }, 127, false },
		{ { .family = XF_AF_INET6, .proto = XF_IPPROTO_ICMPV6 }, 2, false },
		{ { .family = XF_AF_INET6, .proto = XF_IPPROTO_ICMPV6 }, 137, false },
		{ { .family = XF_AF_INET, .proto = 17, .saddr = "0.0.0.0" }, 0, false },
		{ { .family = XF_AF_INET, .proto = 17, .saddr = "224.0.0.1" }, 0, false },
		{ { .family = XF_AF_INET, .proto = 17, .saddr = "255.255.255.255" }, 0, false },
		{ { .family = XF_AF_INET, .proto = 17, .daddr = "239.1.1.1" }, 0, false },
		{ { .family = XF_AF_INET, .proto = 17, .daddr = "255.255.255.255" }, 0, false },
		{ { .family = XF_AF_INET6, .proto = 17, .saddr = "::" }, 0, false },
		{ { .family = XF_AF_INET6, .proto = 17, .saddr = "ff02::1" }, 0, false },
		{ { .family = XF_AF_INET6, .proto = 17, .daddr = "ff02::1" }, 0, true },
	};

	(void)state;
	pool = packets_pool();
	for (size_t i = 0; i < XF_ARRAY_SIZE(cases); i++) {
		uint8_t l4[8] = { cases[i].type };
		struct xf_pkt *reply = too_big(packet(&cases[i].ip, l4, 8, 100, SHAPE_OWN), 1000);

		assert_int_equal(reply != NULL, cases[i].answers);
		xf_pkt_free(reply);
	}
	packets_pool_done(pool);
}

static void only_about_the_first_fragment(void **state)
{
	struct test_ip ip = { .family = XF_AF_INET, .proto = XF_IPPROTO_UDP };
	struct xf_pkt *pkt;
	struct xf_pkt *reply;

	(void)state;
	pool = packets_pool();
	pkt = packet(&ip, udp, 8, 100, SHAPE_OWN);
	xf_put_be16(xf_pkt_writable(pkt, 6, 2), 1);
	assert_null(too_big(pkt, 1000));
	pkt = packet(&ip, udp, 8, 100, SHAPE_OWN);
	xf_put_be16(xf_pkt_writable(pkt, 6, 2), XF_IPV4_MF);
	reply = too_big(pkt, 1000);
	assert_non_null(reply);
	xf_pkt_free(reply);
	packets_pool_done(pool);
}

/* An ICMP error: @icmp's 8 bytes, then @quote. Checksum right. */
static struct xf_pkt *icmp_error(uint16_t family, const uint8_t *icmp, const uint8_t *quote,
				 uint32_t quote_len)
{
	bool v4 = family == XF_AF_INET;
	struct test_ip ip = { .family = family, .proto = v4 ? XF_IPPROTO_ICMP : XF_IPPROTO_ICMPV6 };
	uint8_t bytes[2048];
	uint32_t hdr_len = packets_ip(bytes, &ip, 8 + quote_len);
	struct xf_pkt *pkt;
	struct xf_ip_info info;
	uint64_t sum = 0;

	memcpy(bytes + hdr_len, icmp, 8);
	memset(bytes + hdr_len + 2, 0, 2);
	memcpy(bytes + hdr_len + 8, quote, quote_len);
	pkt = packets_new(pool, SHAPE_OWN, bytes, hdr_len + 8 + quote_len);
	assert_int_equal(xf_ip_parse(pkt, true, &info), 0);
	if (!v4)
		sum = xf_csum_pseudo(&info.saddr, &info.daddr, family, ip.proto, 8 + quote_len);
	xf_put_be16(xf_pkt_writable(pkt, hdr_len + 2, 2),
		    xf_csum_fold(xf_pkt_csum(pkt, hdr_len, 8 + quote_len, sum)));
	return pkt;
}

static int read_and_free(struct xf_pkt *pkt, struct xf_icmp_error *out)
{
	struct xf_ip_info ip;
	int err;

	assert_int_equal(xf_ip_parse(pkt, true, &ip), 0);
	err = xf_icmp_read(pkt, &ip, out);
	xf_pkt_free(pkt);
	return err;
}

static const uint8_t frag_needed[8] = { 3, 4, 0, 0, 0, 0, 0x05, 0x14 };
static const uint8_t packet_too_big[8] = { 2, 0, 0, 0, 0, 0, 0x05, 0x14 };
static const uint8_t esp[12] = { 0xc0, 0, 0, 0x99, 0, 0, 0, 7, 1, 2, 3, 4 };

static void reads_errors_about_esp(void **state)
{
	static const uint16_t families[] = { XF_AF_INET, XF_AF_INET6 };
	uint8_t udp_esp[20] = { 0x11, 0x94, 0xf0, 0x01 };

	(void)state;
	memcpy(udp_esp + 8, esp, 12);
	pool = packets_pool();
	for (int i = 0; i < 2; i++) {
		const uint8_t *icmp = i ? packet_too_big : frag_needed;
		struct test_ip ip = { .family = families[i], .proto = XF_IPPROTO_ESP };
		struct xf_icmp_error err;
		uint8_t quote[200];
		uint32_t len = packets_ip(quote, &ip, 1400); /* much longer than what is quoted */

		memcpy(quote + len, esp, 12);
		assert_int_equal(read_and_free(icmp_error(families[i], icmp, quote, len + 7), &err),
				 -EINVAL);
		assert_int_equal(read_and_free(icmp_error(families[i], icmp, quote, len + 8), &err),
				 0);
		assert_true(err.too_big && err.mtu == 1300 && err.spi == 0xc0000099);
		assert_int_equal(err.proto, XF_IPPROTO_ESP);
		assert_int_equal(err.sa_proto, XF_IPPROTO_ESP);
		assert_int_equal(err.family, families[i]);
		assert_int_equal(err.saddr.bytes[i ? 15 : 3], 1);
		assert_int_equal(err.daddr.bytes[i ? 15 : 3], 2);

		ip.proto = XF_IPPROTO_UDP;
		packets_ip(quote, &ip, 1400);
		memcpy(quote + len, udp_esp, 20);
		assert_int_equal(read_and_free(icmp_error(families[i], icmp, quote, len + 8), &err),
				 0);
		assert_true(err.spi == 0 && err.sport == 4500 && err.dport == 0xf001);
		assert_int_equal(
			read_and_free(icmp_error(families[i], icmp, quote, len + 12), &err), 0);
		assert_true(err.spi == 0xc0000099 && err.proto == XF_IPPROTO_UDP);
		assert_int_equal(err.sa_proto, XF_IPPROTO_ESP);
		memset(quote + len + 8, 0, 4); /* IKE */
		assert_int_equal(
			read_and_free(icmp_error(families[i], icmp, quote, len + 12), &err),
			-ENOENT);

		ip.proto = XF_IPPROTO_TCP;
		packets_ip(quote, &ip, 1400);
		assert_int_equal(
			read_and_free(icmp_error(families[i], icmp, quote, len + 12), &err),
			-ENOENT);
		assert_int_equal(read_and_free(icmp_error(families[i], icmp, quote, len - 1), &err),
				 -EINVAL);
		quote[0] ^= 0x70;
		assert_int_equal(
			read_and_free(icmp_error(families[i], icmp, quote, len + 12), &err),
			-EINVAL);
	}
	packets_pool_done(pool);
}

/* Of what has its SPI elsewhere, once a transform of it is there. */
static void reads_errors_about_other_transforms(void **state)
{
	static const struct xf_transform ah = { .name = "ah",
						.protocol = XF_IPPROTO_AH,
						.spi = { 4, 4, 12 } };
	struct test_ip ip = { .family = XF_AF_INET, .proto = XF_IPPROTO_AH };
	const uint8_t hdr[8] = { 17, 4, 0, 0, 0xc0, 0, 0, 0x98 };
	struct xf_icmp_error err;
	uint8_t quote[200];
	uint32_t len = packets_ip(quote, &ip, 1400);

	(void)state;
	pool = packets_pool();
	memcpy(quote + len, hdr, sizeof(hdr));
	assert_int_equal(read_and_free(icmp_error(XF_AF_INET, frag_needed, quote, len + 8), &err),
			 -ENOENT);
	assert_int_equal(xf_transform_register(&ah), 0);
	assert_int_equal(read_and_free(icmp_error(XF_AF_INET, frag_needed, quote, len + 8), &err),
			 0);
	assert_int_equal(err.spi, 0xc0000098);
	assert_int_equal(err.proto, XF_IPPROTO_AH);
	assert_int_equal(err.sa_proto, XF_IPPROTO_AH);
	assert_int_equal(read_and_free(icmp_error(XF_AF_INET, frag_needed, quote, len + 7), &err),
			 -EINVAL);
	packets_pool_done(pool);
}

static void reads_other_messages(void **state)
{
	static const struct {
		uint16_t family;
		uint8_t type, code;
		int err;
		bool too_big;
	} cases[] = {
		{ XF_AF_INET, 3, 4, 0, true },	      { XF_AF_INET, 3, 1, 0, false },
		{ XF_AF_INET, 11, 0, 0, false },      { XF_AF_INET, 0, 0, -ENOENT, false },
		{ XF_AF_INET, 8, 4, -ENOENT, false }, { XF_AF_INET6, 2, 0, 0, true },
		{ XF_AF_INET6, 1, 4, 0, false },      { XF_AF_INET6, 128, 0, -ENOENT, false },
	};

	(void)state;
	pool = packets_pool();
	for (size_t i = 0; i < XF_ARRAY_SIZE(cases); i++) {
		struct test_ip ip = { .family = cases[i].family, .proto = XF_IPPROTO_ESP };
		uint8_t icmp[8] = { cases[i].type, cases[i].code };
		uint8_t quote[100];
		uint32_t len = packets_ip(quote, &ip, 100);
		struct xf_icmp_error err;
		struct xf_pkt *pkt;

		memcpy(quote + len, esp, 12);
		assert_int_equal(
			read_and_free(icmp_error(cases[i].family, icmp, quote, len + 12), &err),
			cases[i].err);
		assert_int_equal(err.too_big, cases[i].too_big);
		/* One bit wrong anywhere in it, and nothing is believed. */
		pkt = icmp_error(cases[i].family, icmp, quote, len + 12);
		*xf_pkt_writable(pkt, pkt->len - 1, 1) ^= 1;
		assert_int_equal(read_and_free(pkt, &err), -EINVAL);
	}
	packets_pool_done(pool);
}

/* Bytes behind the IP packet's end are not part of the quote. */
static void ignores_padding(void **state)
{
	struct test_ip ip = { .family = XF_AF_INET, .proto = XF_IPPROTO_ESP };
	uint8_t quote[100];
	uint32_t len = packets_ip(quote, &ip, 100);
	struct xf_icmp_error err;
	struct xf_pkt *pkt;

	(void)state;
	pool = packets_pool();
	memcpy(quote + len, esp, 12);
	pkt = icmp_error(XF_AF_INET, frag_needed, quote, len + 4);
	memcpy(xf_pkt_append(pkt, 8), esp + 4, 8);
	assert_int_equal(read_and_free(pkt, &err), -EINVAL);
	packets_pool_done(pool);
}

/* The quoted IPv6 packet has extension headers, and may be a fragment. */
static void reads_through_extension_headers(void **state)
{
	struct test_ip ip = { .family = XF_AF_INET6, .proto = XF_IPPROTO_HOPOPTS };
	uint8_t quote[100] = { 0 };
	struct xf_icmp_error err;

	(void)state;
	pool = packets_pool();
	packets_ip(quote, &ip, 1000);
	quote[40] = XF_IPPROTO_DSTOPTS;
	quote[41] = 1; /* 16 bytes */
	quote[56] = XF_IPPROTO_FRAGMENT;
	quote[64] = XF_IPPROTO_ESP;
	quote[67] = 1; /* the first one */
	memcpy(quote + 72, esp, 8);
	assert_int_equal(read_and_free(icmp_error(XF_AF_INET6, packet_too_big, quote, 80), &err),
			 0);
	assert_int_equal(err.spi, 0xc0000099);
	for (uint32_t len = 40; len < 80; len++)
		assert_int_equal(
			read_and_free(icmp_error(XF_AF_INET6, packet_too_big, quote, len), &err),
			-EINVAL);
	quote[67] = 8;
	assert_int_equal(read_and_free(icmp_error(XF_AF_INET6, packet_too_big, quote, 80), &err),
			 -ENOENT);
	packets_pool_done(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(makes_too_big),
		cmocka_unit_test(keeps_silent),
		cmocka_unit_test(only_about_the_first_fragment),
		cmocka_unit_test(reads_errors_about_esp),
		cmocka_unit_test(reads_errors_about_other_transforms),
		cmocka_unit_test(reads_other_messages),
		cmocka_unit_test(ignores_padding),
		cmocka_unit_test(reads_through_extension_headers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
