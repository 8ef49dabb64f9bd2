/*
 * Framing: acknowledgements in all forms, several messages in a datagram, dumps with slow readers,
 * notifications that are lost, information messages.
 */
#include "nl_util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void begin_id(struct nl_req *r, uint16_t type, uint16_t flags, uint32_t spi)
{
	struct xfrm_usersa_id id;

	nl_sa_id(&id, spi);
	nl_begin(r, type, flags, &id, sizeof(id));
}

/* Client 0 has extended acknowledgements, client 1 has none. */
static void test_ack_forms(void **state)
{
	struct nl_fixture *f = nl_setup();
	struct xfrm_userpolicy_id id;
	struct nl_req r;

	(void)state;
	nl_policy_id(&id, 3, 1);
	nl_begin(&r, XFRM_MSG_GETPOLICY, 0, &id, sizeof(id));
	nl_send(f, 0, &r);
	assert_int_equal(f->in[0].len[0], 132);
	assert_int_equal(nl_msg(&f->in[0], 0)->nlmsg_flags, NLM_F_ACK_TLVS);
	nl_send(f, 1, &r);
	assert_int_equal(f->in[1].len[0], 100);
	assert_int_equal(nl_msg(&f->in[1], 0)->nlmsg_flags, 0);
	assert_int_equal(nl_msg(&f->in[1], 0)->nlmsg_pid, 1001);
	assert_int_equal(nl_msg(&f->in[1], 0)->nlmsg_seq, 7);
	xf_nl_client_set_options(f->in[0].client, true, true, false);
	nl_send(f, 0, &r);
	assert_int_equal(f->in[0].len[0], 68);
	assert_int_equal(nl_msg(&f->in[0], 0)->nlmsg_flags, NLM_F_ACK_TLVS | NLM_F_CAPPED);
	begin_id(&r, XFRM_MSG_GETSA, 0, 1);
	nl_send(f, 0, &r);
	assert_int_equal(f->in[0].len[0], NL_ACK_LEN);
	assert_int_equal(nl_error(nl_msg(&f->in[0], 0)), -ESRCH);
	nl_teardown(f);
}

/* What is left over behind the attributes is mentioned even when all went well. */
static void test_leftover(void **state)
{
	struct nl_fixture *f = nl_setup();
	uint64_t flags = 0;
	struct nl_req r;

	(void)state;
	nl_begin(&r, XFRM_MSG_FLUSHSA, NLM_F_ACK, &flags, sizeof(flags));
	nl_send(f, 0, &r);
	assert_int_equal(f->in[0].len[0], 80);
	assert_int_equal(nl_msg(&f->in[0], 0)->nlmsg_flags, NLM_F_ACK_TLVS | NLM_F_CAPPED);
	assert_int_equal(nl_error(nl_msg(&f->in[0], 0)), 0);
	assert_string_equal(nl_why(nl_msg(&f->in[0], 0)),
			    "bytes leftover after parsing attributes");
	nl_teardown(f);
}

static int error_of(struct nl_fixture *f, struct nl_req *r)
{
	nl_send(f, 0, r);
	assert_int_equal(f->in[0].n, 1);
	return nl_error(nl_msg(&f->in[0], 0));
}

static void test_types(void **state)
{
	static const uint16_t unknown[] = { 0x29, 0x60, 0xffff, XFRM_MSG_NEWSADINFO };
	struct nl_fixture *f = nl_setup();
	struct nl_req r;

	(void)state;
	for (size_t i = 0; i < XF_ARRAY_SIZE(unknown); i++) {
		nl_begin(&r, unknown[i], 0, NULL, 0);
		assert_int_equal(error_of(f, &r), -EINVAL);
		assert_string_equal(nl_why(nl_msg(&f->in[0], 0)), "");
	}
	for (uint16_t type = XFRM_MSG_BASE; type <= XF_XFRM_MSG_MAX; type++) {
		if (type == XFRM_MSG_FLUSHPOLICY || type == XFRM_MSG_NEWSADINFO)
			continue;
		nl_begin(&r, type, 0, NULL, 0);
		assert_int_equal(error_of(f, &r), -EINVAL);
		assert_string_equal(nl_why(nl_msg(&f->in[0], 0)), "Invalid header length");
	}
	/* No request, or a control message: acknowledged, not read. */
	begin_id(&r, XFRM_MSG_GETSA, NLM_F_ACK, 1);
	r.nlh->nlmsg_flags = NLM_F_ACK;
	assert_int_equal(error_of(f, &r), 0);
	r.nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	r.nlh->nlmsg_type = NLMSG_NOOP;
	assert_int_equal(error_of(f, &r), 0);
	nl_teardown(f);
}

/* SA_DIR and SA_PCPU are refused where they mean nothing. */
static void test_unused_attrs(void **state)
{
	struct nl_fixture *f = nl_setup();
	struct nl_req r;
	uint8_t dir = 1;

	(void)state;
	begin_id(&r, XFRM_MSG_GETSA, 0, 1);
	nl_attr_u32(&r, XF_XFRMA_SA_PCPU, 0);
	assert_int_equal(error_of(f, &r), -EINVAL);
	assert_string_equal(nl_why(nl_msg(&f->in[0], 0)), "Invalid attribute SA_PCPU");
	nl_attr(&r, XF_XFRMA_SA_DIR, &dir, 1);
	assert_int_equal(error_of(f, &r), -EINVAL);
	assert_string_equal(nl_why(nl_msg(&f->in[0], 0)), "Invalid attribute SA_DIR");
	nl_teardown(f);
}

/* Three deletions in one datagram (`ip xfrm state deleteall`), the last one cut short. */
static void test_many_messages(void **state)
{
	struct nl_fixture *f = nl_setup();
	struct xf_sad_info info;
	_Alignas(8) uint8_t buf[512];
	struct nl_req r;
	size_t len = 0;

	(void)state;
	for (uint32_t spi = 0x101; spi <= 0x103; spi++)
		nl_add_sa(f, spi);
	for (uint32_t spi = 0x101; spi <= 0x103; spi++) {
		begin_id(&r, XFRM_MSG_DELSA, 0, spi);
		memcpy(buf + len, r.buf, r.nlh->nlmsg_len);
		len += r.nlh->nlmsg_len;
	}
	nl_forget(&f->in[0]);
	xf_nl_client_request(f->in[0].client, buf, len - 1, NL_NOW);
	assert_int_equal(f->in[0].n, 0);
	xf_sad_get_info(f->sad, &info);
	assert_int_equal(info.count, 1);
	nl_teardown(f);
}

static void start_dump(struct nl_fixture *f, uint16_t type)
{
	struct nl_req r;

	nl_begin(&r, type, NLM_F_DUMP, NULL, 0);
	nl_send(f, 0, &r);
}

/* Messages of @type in all datagrams but the last one, which is NLMSG_DONE alone. */
static unsigned count_dump(const struct nl_inbox *in, uint16_t type)
{
	unsigned n = 0;

	for (unsigned i = 0; i + 1 < in->n; i++) {
		const struct nlmsghdr *nlh = nl_msg(in, i);
		int left = (int)in->len[i];

		assert_true(in->len[i] <= 8192);
		for (; mnl_nlmsg_ok(nlh, left); nlh = mnl_nlmsg_next(nlh, &left), n++) {
			assert_int_equal(nlh->nlmsg_type, type);
			assert_int_equal(nlh->nlmsg_flags, NLM_F_MULTI);
			assert_int_equal(nlh->nlmsg_seq, 7);
			assert_int_equal(nlh->nlmsg_pid, 1000);
		}
		assert_int_equal(left, 0);
	}
	assert_int_equal(nl_msg(in, in->n - 1)->nlmsg_type, NLMSG_DONE);
	assert_int_equal(in->len[in->n - 1], 20);
	return n;
}

#define MANY 300

static void test_dump_slow_reader(void **state)
{
	struct nl_fixture *f = nl_setup();
	struct nl_req r;

	(void)state;
	for (uint32_t i = 0; i < MANY; i++)
		nl_add_sa(f, 0x1000 + i);
	start_dump(f, XFRM_MSG_GETSA);
	assert_int_equal(count_dump(&f->in[0], XFRM_MSG_NEWSA), MANY);
	assert_true(f->in[0].n > 10);
	/* One datagram at a time; other requests go on, a second dump does not. */
	f->in[0].room = 1;
	start_dump(f, XFRM_MSG_GETSA);
	assert_int_equal(f->in[0].n, 1);
	f->in[0].room = -1;
	nl_begin(&r, XFRM_MSG_GETSA, NLM_F_DUMP, NULL, 0);
	xf_nl_client_request(f->in[0].client, r.buf, r.nlh->nlmsg_len, NL_NOW);
	assert_int_equal(f->in[0].n, 2);
	assert_int_equal(nl_error(nl_msg(&f->in[0], 1)), -EBUSY);
	free(f->in[0].data[--f->in[0].n]);
	for (unsigned i = 0; i < 100; i++) {
		f->in[0].room = 1;
		xf_nl_client_writable(f->in[0].client);
	}
	assert_int_equal(count_dump(&f->in[0], XFRM_MSG_NEWSA), MANY);
	nl_teardown(f);
}

/* SAs that go away while a dump waits are left out, the rest is complete and seen once. */
static void test_dump_and_delete(void **state)
{
	struct nl_fixture *f = nl_setup();
	unsigned before, after;
	struct nl_req r;

	(void)state;
	for (uint32_t i = 0; i < MANY; i++)
		nl_add_sa(f, 0x1000 + i);
	f->in[0].room = 1;
	start_dump(f, XFRM_MSG_GETSA);
	f->in[0].room = -1;
	for (uint32_t i = 0; i < MANY / 2; i++) {
		begin_id(&r, XFRM_MSG_DELSA, 0, 0x1000 + i);
		xf_nl_client_request(f->in[1].client, r.buf, r.nlh->nlmsg_len, NL_NOW);
	}
	before = f->in[0].n;
	xf_nl_client_writable(f->in[0].client);
	after = count_dump(&f->in[0], XFRM_MSG_NEWSA);
	assert_int_equal(before, 1);
	/* Newest first: one more datagram was packed before the deletion. */
	assert_true(after >= MANY / 2 && after <= MANY / 2 + 64);
	nl_teardown(f);
}

static void test_dump_policies(void **state)
{
	struct nl_fixture *f = nl_setup();

	(void)state;
	start_dump(f, XFRM_MSG_GETPOLICY);
	assert_int_equal(count_dump(&f->in[0], XFRM_MSG_NEWPOLICY), 0);
	for (unsigned i = 0; i < 100; i++)
		nl_add_policy(f, (uint8_t)(i % 3), (uint8_t)i);
	start_dump(f, XFRM_MSG_GETPOLICY);
	assert_int_equal(count_dump(&f->in[0], XFRM_MSG_NEWPOLICY), 100);
	nl_teardown(f);
}

static unsigned dump_with(struct nl_fixture *f, uint16_t type, const void *data, size_t len)
{
	struct nl_req r;

	nl_begin(&r, XFRM_MSG_GETSA, NLM_F_DUMP, NULL, 0);
	nl_attr(&r, type, data, len);
	nl_send(f, 0, &r);
	return count_dump(&f->in[0], XFRM_MSG_NEWSA);
}

static void test_dump_filters(void **state)
{
	struct xfrm_address_filter filter = { .family = 2, .dplen = 32 };
	struct nl_fixture *f = nl_setup();
	static const uint8_t protos[] = { 50, 51, 255, 0 };
	static const unsigned expected[] = { 1, 0, 1, 1 };

	(void)state;
	nl_add_sa(f, 0x100);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(dump_with(f, XFRMA_PROTO, &protos[i], 1), expected[i]);
	memcpy(&filter.daddr, "\x0a\0\0\2", 4);
	assert_int_equal(dump_with(f, XFRMA_ADDRESS_FILTER, &filter, sizeof(filter)), 1);
	filter.family = 10;
	assert_int_equal(dump_with(f, XFRMA_ADDRESS_FILTER, &filter, sizeof(filter)), 0);
	filter.family = 2;
	memcpy(&filter.daddr, "\x0a\0\0\3", 4);
	assert_int_equal(dump_with(f, XFRMA_ADDRESS_FILTER, &filter, sizeof(filter)), 0);
	filter.dplen = 31;
	assert_int_equal(dump_with(f, XFRMA_ADDRESS_FILTER, &filter, sizeof(filter)), 1);
	filter.dplen = 129;
	assert_int_equal(dump_with(f, XFRMA_ADDRESS_FILTER, &filter, sizeof(filter)), 0);
	assert_int_equal(nl_error(nl_msg(&f->in[0], 0)), -EINVAL);
	nl_teardown(f);
}

/* A wrong attribute ends the dump at once; the kernel's NLMSG_DONE has these 104 bytes. */
static void test_dump_error(void **state)
{
	struct nl_fixture *f = nl_setup();
	struct nl_req r;

	(void)state;
	nl_begin(&r, XFRM_MSG_GETSA, NLM_F_DUMP, NULL, 0);
	nl_attr(&r, XFRMA_PROTO, "", 0);
	nl_send(f, 0, &r);
	assert_int_equal(f->in[0].n, 1);
	assert_int_equal(f->in[0].len[0], 104);
	assert_int_equal(nl_msg(&f->in[0], 0)->nlmsg_type, NLMSG_DONE);
	assert_int_equal(nl_msg(&f->in[0], 0)->nlmsg_flags, NLM_F_MULTI | NLM_F_ACK_TLVS);
	assert_int_equal(nl_error(nl_msg(&f->in[0], 0)), -ERANGE);
	assert_string_equal(nl_why(nl_msg(&f->in[0], 0)), "Attribute failed policy validation");
	nl_teardown(f);
}

/* What a slow listener misses is lost; it is told so before anything else reaches it. */
static void test_overrun(void **state)
{
	struct nl_fixture *f = nl_setup();

	(void)state;
	xf_nl_client_set_groups(f->in[1].client, 1u << (XFRMNLGRP_SA - 1));
	f->in[1].room = 1;
	nl_add_sa(f, 0x100);
	nl_add_sa(f, 0x101);
	nl_add_sa(f, 0x102);
	assert_int_equal(f->in[1].n, 1);
	f->in[1].room = -1;
	xf_nl_client_writable(f->in[1].client);
	nl_add_sa(f, 0x103);
	assert_int_equal(f->in[1].n, 3);
	assert_int_equal(f->in[1].len[1], 0);
	assert_int_equal(nl_msg(&f->in[1], 2)->nlmsg_type, XFRM_MSG_NEWSA);
	nl_add_sa(f, 0x104);
	assert_int_equal(f->in[1].n, 4);
	nl_teardown(f);
}

/* However much happens, a reader that makes no room is tried once: each try is a system call. */
static void test_overrun_is_tried_once(void **state)
{
	struct nl_fixture *f = nl_setup();

	(void)state;
	xf_nl_client_set_groups(f->in[1].client, 1u << (XFRMNLGRP_SA - 1));
	f->in[1].room = 0;
	for (uint32_t i = 0; i < 300; i++) {
		nl_add_sa(f, 0x100 + i);
		nl_forget(&f->in[0]);
	}
	assert_int_equal(f->in[1].tries, 1);
	/* It is asked again when it has made room, and no room is still none. */
	xf_nl_client_writable(f->in[1].client);
	nl_add_sa(f, 0x1000);
	assert_int_equal(f->in[1].tries, 2);
	nl_teardown(f);
}

static void test_overrun_told_when_writable(void **state)
{
	struct nl_fixture *f = nl_setup();

	(void)state;
	xf_nl_client_set_groups(f->in[1].client, 1u << (XFRMNLGRP_SA - 1));
	f->in[1].room = 0;
	nl_add_sa(f, 0x100);
	f->in[1].room = 5;
	xf_nl_client_writable(f->in[1].client);
	xf_nl_client_writable(f->in[1].client);
	assert_int_equal(f->in[1].n, 1);
	assert_int_equal(f->in[1].len[0], 0);
	nl_teardown(f);
}

/* A client whose socket is gone is not asked again. */
static void test_gone(void **state)
{
	struct nl_fixture *f = nl_setup();

	(void)state;
	xf_nl_client_set_groups(f->in[1].client, UINT32_MAX);
	f->in[1].room = 0;
	f->in[1].err = -EPIPE;
	nl_add_sa(f, 0x100);
	f->in[1].room = -1;
	nl_add_sa(f, 0x101);
	xf_nl_client_writable(f->in[1].client);
	assert_int_equal(f->in[1].n, 0);
	nl_teardown(f);
}

static void test_info(void **state)
{
	static const uint8_t sad[] = {
		0xff, 0xff, 0xff, 0xff, 8, 0, 1, 0, 1, 0, 0, 0, 12, 0, 2, 0
	};
	struct nl_fixture *f = nl_setup();
	uint32_t flags = UINT32_MAX;
	struct nl_req r;

	(void)state;
	nl_add_sa(f, 0x100);
	nl_begin(&r, XFRM_MSG_GETSADINFO, 0, &flags, sizeof(flags));
	nl_send(f, 0, &r);
	assert_int_equal(f->in[0].len[0], 40);
	assert_memory_equal(f->in[0].data[0] + NLMSG_HDRLEN, sad, sizeof(sad));
	nl_begin(&r, XFRM_MSG_NEWSPDINFO, NLM_F_ACK, &flags, sizeof(flags));
	nl_attr(&r, XFRMA_SPD_IPV4_HTHRESH, "\x10\x18", 2);
	assert_int_equal(error_of(f, &r), 0);
	nl_attr(&r, XFRMA_SPD_IPV6_HTHRESH, "\x10\x81", 2);
	assert_int_equal(error_of(f, &r), -EINVAL);
	nl_begin(&r, XFRM_MSG_GETSPDINFO, 0, &flags, sizeof(flags));
	nl_send(f, 0, &r);
	assert_int_equal(f->in[0].len[0], 76);
	assert_memory_equal(f->in[0].data[0] + 60, "\6\0\3\0\x10\x18\0\0\6\0\4\0\x80\x80\0", 16);
	nl_teardown(f);
}

/* Blocking by default is refused, as nothing enforces it. */
static void test_default(void **state)
{
	struct nl_fixture *f = nl_setup();
	struct nl_req r;

	(void)state;
	xf_nl_client_set_groups(f->in[1].client, 1u << (XFRMNLGRP_POLICY - 1));
	nl_begin(&r, XFRM_MSG_SETDEFAULT, NLM_F_ACK, "\2\2\2", 4);
	nl_send(f, 0, &r);
	assert_int_equal(nl_error(nl_msg(&f->in[0], 0)), 0);
	assert_int_equal(f->in[1].len[0], 20);
	assert_int_equal(nl_msg(&f->in[1], 0)->nlmsg_seq, 0);
	nl_begin(&r, XFRM_MSG_SETDEFAULT, NLM_F_ACK, "\2\1\2", 4);
	nl_send(f, 0, &r);
	assert_int_equal(nl_error(nl_msg(&f->in[0], 0)), -EOPNOTSUPP);
	nl_begin(&r, XFRM_MSG_GETDEFAULT, 0, "\0\0\0", 4);
	nl_send(f, 0, &r);
	assert_memory_equal(f->in[0].data[0] + NLMSG_HDRLEN, "\2\2\2", 4);
	nl_teardown(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ack_forms),
		cmocka_unit_test(test_leftover),
		cmocka_unit_test(test_types),
		cmocka_unit_test(test_unused_attrs),
		cmocka_unit_test(test_many_messages),
		cmocka_unit_test(test_dump_slow_reader),
		cmocka_unit_test(test_dump_and_delete),
		cmocka_unit_test(test_dump_policies),
		cmocka_unit_test(test_dump_filters),
		cmocka_unit_test(test_dump_error),
		cmocka_unit_test(test_overrun),
		cmocka_unit_test(test_overrun_is_tried_once),
		cmocka_unit_test(test_overrun_told_when_writable),
		cmocka_unit_test(test_gone),
		cmocka_unit_test(test_info),
		cmocka_unit_test(test_default),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
