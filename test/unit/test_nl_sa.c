/*
 * SAs over netlink: what goes in comes out again, lookups, ALLOCSPI, events, AE.
 */
#include <setjmp.h>
#include <stdarg.h>

#include "nl_util.h"

#include <cmocka.h>

#define SA_HDR sizeof(struct xfrm_usersa_info)

static const struct nlmsghdr *get_sa(struct nl_fixture *f, uint32_t spi)
{
	struct xfrm_usersa_id id;
	struct nl_req r;

	nl_sa_id(&id, spi);
	nl_begin(&r, XFRM_MSG_GETSA, 0, &id, sizeof(id));
	nl_send(f, 0, &r);
	return nl_msg(&f->in[0], 0);
}

static int change(struct nl_fixture *f, uint16_t type, uint32_t spi)
{
	struct xfrm_usersa_id id;
	struct nl_req r;

	nl_sa_id(&id, spi);
	nl_begin(&r, type, NLM_F_ACK, &id, sizeof(id));
	nl_send(f, 0, &r);
	return nl_error(nl_msg(&f->in[0], f->in[0].n - 1));
}

/* An SA with every attribute there is. */
struct whole_sa {
	struct xfrm_usersa_info info;
	struct {
		struct xfrm_replay_state_esn esn;
		uint32_t bmp[2];
	} replay;
	struct xfrm_encap_tmpl encap;
	struct xfrm_mark mark;
	uint8_t coaddr[16];
	uint8_t dir;
};

static void init_whole(struct whole_sa *sa)
{
	*sa = (struct whole_sa){
		.replay = { .esn = { .bmp_len = 2, .seq = 40, .replay_window = 64 },
			    .bmp = { 5, 128 } },
		.encap = { .encap_type = 2, .encap_sport = 0x9411 },
		.mark = { 0xff12, 0xff },
		.coaddr = { 1, 2, 3, 4 },
		.dir = XF_SA_DIR_IN,
	};
	nl_sa_info(&sa->info, 0xabcd);
	sa->info.sel.family = XF_AF_INET6;
	sa->info.sel.prefixlen_s = 64;
	sa->info.sel.dport = 0x1234;
	sa->info.sel.ifindex = 3;
	sa->info.lft.soft_byte_limit = 77;
	sa->info.lft.hard_use_expires_seconds = 99;
	sa->info.seq = 42;
	sa->info.flags = XF_SA_NOECN | XF_SA_AF_UNSPEC;
}

/* Neither in order nor once each, and one unknown: the last one wins. */
static void put_whole(struct nl_req *r, const struct whole_sa *sa)
{
	nl_begin(r, XFRM_MSG_NEWSA, NLM_F_ACK, &sa->info, sizeof(sa->info));
	nl_attr(r, XF_XFRMA_SA_DIR, &sa->dir, 1);
	nl_attr_alg(r, XFRMA_ALG_AUTH, "sha256", 256);
	nl_attr_alg(r, XFRMA_ALG_CRYPT, "aes", 128);
	nl_attr_u32(r, XFRMA_IF_ID, 1);
	nl_attr_u32(r, XFRMA_IF_ID, 9);
	nl_attr(r, 1000, "unknown", 8);
	nl_attr_u32(r, XFRMA_TFCPAD, 1400);
	nl_attr_u32(r, XFRMA_SET_MARK, 6);
	nl_attr_u32(r, XFRMA_SA_EXTRA_FLAGS, 4);
	nl_attr_u32(r, XF_XFRMA_SA_PCPU, 0);
	nl_attr(r, XFRMA_ENCAP, &sa->encap, sizeof(sa->encap));
	nl_attr(r, XFRMA_COADDR, sa->coaddr, sizeof(sa->coaddr));
	nl_attr(r, XFRMA_MARK, &sa->mark, sizeof(sa->mark));
	nl_attr(r, XFRMA_REPLAY_ESN_VAL, &sa->replay, sizeof(sa->replay));
}

static void assert_order(const struct nlmsghdr *reply)
{
	static const uint16_t order[] = { XFRMA_SA_EXTRA_FLAGS, XFRMA_COADDR,
					  XFRMA_ALG_AUTH,	XFRMA_ALG_AUTH_TRUNC,
					  XFRMA_ALG_CRYPT,	XFRMA_ENCAP,
					  XFRMA_TFCPAD,		XFRMA_MARK,
					  XFRMA_SET_MARK,	XFRMA_SET_MARK_MASK,
					  XFRMA_REPLAY_ESN_VAL, XFRMA_IF_ID,
					  XF_XFRMA_SA_PCPU,	XF_XFRMA_SA_DIR };
	const struct nlattr *attr = NULL;
	unsigned i = 0;

	while ((attr = nl_next(reply, SA_HDR, attr))) {
		assert_true(i < XF_ARRAY_SIZE(order));
		assert_int_equal(mnl_attr_get_type(attr), order[i++]);
	}
	assert_int_equal(i, XF_ARRAY_SIZE(order));
}

static const void *payload(const struct nlmsghdr *reply, uint16_t type)
{
	return mnl_attr_get_payload(nl_find(reply, SA_HDR, type));
}

static void assert_whole(const struct nlmsghdr *reply, const struct whole_sa *sa)
{
	struct xfrm_usersa_info got;

	memcpy(&got, mnl_nlmsg_get_payload(reply), sizeof(got));
	assert_int_equal(got.curlft.add_time, NL_REAL_OFFSET + 1000);
	got.curlft.add_time = 0;
	assert_memory_equal(&got, &sa->info, sizeof(got));
	assert_memory_equal(payload(reply, XFRMA_REPLAY_ESN_VAL), &sa->replay, sizeof(sa->replay));
	assert_memory_equal(payload(reply, XFRMA_ENCAP), &sa->encap, sizeof(sa->encap));
	assert_string_equal(payload(reply, XFRMA_ALG_AUTH_TRUNC), "hmac(sha256)");
	assert_int_equal(((const uint32_t *)payload(reply, XFRMA_ALG_AUTH_TRUNC))[17], 96);
	assert_string_equal(payload(reply, XFRMA_ALG_CRYPT), "cbc(aes)");
	assert_int_equal(*(const uint32_t *)payload(reply, XFRMA_IF_ID), 9);
	assert_int_equal(*(const uint32_t *)payload(reply, XFRMA_SET_MARK_MASK), UINT32_MAX);
	assert_int_equal(*(const uint32_t *)payload(reply, XFRMA_MARK), 0x12);
}

/* Every attribute of an SA, in the kernel's order, byte for byte as it was given. */
static void test_round_trip(void **state)
{
	struct nl_fixture *f = nl_setup();
	struct xfrm_usersa_id id;
	struct whole_sa sa;
	struct nl_req r;

	(void)state;
	init_whole(&sa);
	put_whole(&r, &sa);
	nl_send(f, 0, &r);
	assert_string_equal(nl_why(nl_msg(&f->in[0], 0)), "");
	assert_int_equal(nl_error(nl_msg(&f->in[0], 0)), 0);
	assert_int_equal(f->sa_changes, 1);
	/* The mark of GETSA is what the SA's is compared with. */
	nl_sa_id(&id, 0xabcd);
	nl_begin(&r, XFRM_MSG_GETSA, 0, &id, sizeof(id));
	nl_attr(&r, XFRMA_MARK, &sa.mark, sizeof(sa.mark));
	nl_send(f, 0, &r);
	assert_int_equal(nl_msg(&f->in[0], 0)->nlmsg_type, XFRM_MSG_NEWSA);
	assert_order(nl_msg(&f->in[0], 0));
	assert_whole(nl_msg(&f->in[0], 0), &sa);
	nl_teardown(f);
}

/* The largest message: every attribute, the longest key, the widest window. */
static void add_largest(struct nl_fixture *f, uint32_t spi)
{
	struct xfrm_replay_state_esn esn = { .bmp_len = 128, .replay_window = 4096 };
	struct whole_sa sa;
	struct nl_req r;

	init_whole(&sa);
	xf_put_be32(&sa.info.id.spi, spi);
	put_whole(&r, &sa);
	nl_attr_alg(&r, XFRMA_ALG_AUTH, "sha256", 2048);
	nl_attr_alg(&r, XFRMA_ALG_CRYPT, "aes", 256);
	nl_attr(&r, XFRMA_REPLAY_ESN_VAL, &esn, sizeof(esn));
	nl_send(f, 0, &r);
	assert_int_equal(nl_error(nl_msg(&f->in[0], 0)), 0);
}

static void test_largest(void **state)
{
	struct nl_fixture *f = nl_setup();
	unsigned found = 0;
	struct nl_req r;

	(void)state;
	xf_nl_client_set_groups(f->in[1].client, UINT32_MAX);
	for (uint32_t spi = 0x100; spi < 0x120; spi++)
		add_largest(f, spi);
	assert_int_equal(f->in[1].n, 0x20);
	nl_begin(&r, XFRM_MSG_GETSA, NLM_F_DUMP, NULL, 0);
	nl_send(f, 0, &r);
	for (unsigned i = 0; i + 1 < f->in[0].n; i++) {
		assert_true(f->in[0].len[i] <= 8192);
		found += (unsigned)(f->in[0].len[i] / nl_msg(&f->in[0], i)->nlmsg_len);
	}
	assert_int_equal(found, 0x20);
	nl_teardown(f);
}

/* The selector takes the SA's family unless AF_UNSPEC says that it has none. */
static void test_selector_family(void **state)
{
	struct nl_fixture *f = nl_setup();
	const struct xfrm_usersa_info *got;
	const struct nlattr *attr;
	const struct nlmsghdr *reply;
	struct xfrm_usersa_info info;
	struct nl_req r;

	(void)state;
	nl_add_sa(f, 0x100);
	reply = get_sa(f, 0x100);
	got = mnl_nlmsg_get_payload(reply);
	assert_int_equal(got->sel.family, XF_AF_INET);
	attr = nl_find(reply, SA_HDR, XFRMA_ALG_AEAD);
	assert_int_equal(mnl_attr_get_payload_len(attr), 72 + 20);
	assert_int_equal(((const uint8_t *)mnl_attr_get_payload(attr))[72 + 19], 20);
	nl_sa_info(&info, 0x101);
	info.flags = XF_SA_AF_UNSPEC;
	nl_begin(&r, XFRM_MSG_NEWSA, 0, &info, sizeof(info));
	nl_attr_aead(&r, 160, 128);
	nl_send(f, 0, &r);
	got = mnl_nlmsg_get_payload(get_sa(f, 0x101));
	assert_int_equal(got->sel.family, XF_AF_UNSPEC);
	reply = get_sa(f, 0x100);
	assert_non_null(nl_find(reply, SA_HDR, XFRMA_REPLAY_VAL));
	nl_teardown(f);
}

/* An SA that was given none of the flags shows no attribute, as one without it. */
static void test_no_extra_flags(void **state)
{
	struct nl_fixture *f = nl_setup();
	struct xfrm_usersa_info info;
	struct nl_req r;

	(void)state;
	for (uint32_t flags = 0; flags < 3; flags++) {
		nl_sa_info(&info, 0x100 + flags);
		nl_begin(&r, XFRM_MSG_NEWSA, 0, &info, sizeof(info));
		nl_attr_u32(&r, XFRMA_SA_EXTRA_FLAGS, flags);
		nl_attr_aead(&r, 160, 128);
		nl_send(f, 0, &r);
		assert_int_equal(nl_find(get_sa(f, 0x100 + flags), SA_HDR, XFRMA_SA_EXTRA_FLAGS) !=
					 NULL,
				 flags != 0);
	}
	nl_teardown(f);
}

static void test_lookup_errors(void **state)
{
	struct nl_fixture *f = nl_setup();
	struct xfrm_usersa_info info;
	struct xfrm_usersa_id id;
	struct nl_req r;

	(void)state;
	nl_add_sa(f, 0x100);
	nl_sa_info(&info, 0x100);
	nl_begin(&r, XFRM_MSG_NEWSA, NLM_F_ACK, &info, sizeof(info));
	nl_attr_aead(&r, 160, 128);
	nl_send(f, 0, &r);
	assert_int_equal(nl_error(nl_msg(&f->in[0], 0)), -EEXIST);
	r.nlh->nlmsg_type = XFRM_MSG_UPDSA;
	nl_send(f, 0, &r);
	assert_int_equal(nl_error(nl_msg(&f->in[0], 0)), 0);
	((struct xfrm_usersa_info *)(void *)(r.buf + NLMSG_HDRLEN))->id.spi = 1;
	nl_send(f, 0, &r);
	assert_int_equal(nl_error(nl_msg(&f->in[0], 0)), -ESRCH);
	assert_int_equal(change(f, XFRM_MSG_GETSA, 0x101), -ESRCH);
	assert_int_equal(change(f, XFRM_MSG_DELSA, 0x100), 0);
	assert_int_equal(change(f, XFRM_MSG_DELSA, 0x100), -ESRCH);
	/* Without an SPI the source address says which. */
	nl_sa_id(&id, 0);
	id.proto = XF_IPPROTO_ROUTING;
	nl_begin(&r, XFRM_MSG_DELSA, NLM_F_ACK, &id, sizeof(id));
	nl_send(f, 0, &r);
	assert_int_equal(nl_error(nl_msg(&f->in[0], 0)), -EINVAL);
	nl_attr(&r, XFRMA_SRCADDR, &id.daddr, sizeof(id.daddr));
	nl_send(f, 0, &r);
	assert_int_equal(nl_error(nl_msg(&f->in[0], 0)), -ESRCH);
	nl_teardown(f);
}

static void alloc_spi(struct nl_fixture *f, uint32_t min, uint32_t max, uint16_t flags)
{
	struct xfrm_userspi_info info = { .min = min, .max = max };
	struct nl_req r;

	nl_sa_info(&info.info, 0);
	nl_begin(&r, XFRM_MSG_ALLOCSPI, flags, &info, sizeof(info));
	nl_send(f, 0, &r);
}

/* Lengths, flags and values are those of a 6.18 kernel; SPIs below 256 are its own business. */
static void test_alloc_spi(void **state)
{
	struct nl_fixture *f = nl_setup();
	const struct xfrm_usersa_info *info;

	(void)state;
	alloc_spi(f, 5, 5, NLM_F_ACK);
	assert_int_equal(f->in[0].n, 2);
	assert_int_equal(f->in[0].len[0], 256);
	assert_int_equal(f->in[0].len[1], NL_ACK_LEN);
	assert_int_equal(nl_msg(&f->in[0], 1)->nlmsg_flags, NLM_F_CAPPED);
	assert_int_equal(nl_msg(&f->in[0], 0)->nlmsg_flags, 0);
	assert_int_equal(nl_msg(&f->in[0], 0)->nlmsg_pid, 1000);
	info = mnl_nlmsg_get_payload(nl_msg(&f->in[0], 0));
	assert_int_equal(xf_get_be32(&info->id.spi), 5);
	assert_int_equal(info->sel.family, 0);
	assert_int_equal(info->sel.prefixlen_d, 32);
	assert_int_equal(info->lft.hard_add_expires_seconds, 30);
	alloc_spi(f, 5, 5, 0);
	assert_int_equal(f->in[0].len[0], 312);
	assert_int_equal(nl_error(nl_msg(&f->in[0], 0)), -ENOENT);
	assert_string_equal(nl_why(nl_msg(&f->in[0], 0)),
			    "No SPI available in the requested range");
	alloc_spi(f, 6, 5, 0);
	assert_int_equal(f->in[0].len[0], 304);
	assert_int_equal(nl_error(nl_msg(&f->in[0], 0)), -EINVAL);
	assert_int_equal(change(f, XFRM_MSG_GETSA, 5), 0);
	nl_teardown(f);
}

/* The kernel lets NEWSA install any SPI, 0 to 255 included. */
static void test_reserved_spis(void **state)
{
	struct nl_fixture *f = nl_setup();
	struct xf_sad_info info;

	(void)state;
	nl_add_sa(f, 0);
	nl_add_sa(f, 1);
	nl_add_sa(f, 255);
	xf_sad_get_info(f->sad, &info);
	assert_int_equal(info.count, 3);
	assert_int_equal(change(f, XFRM_MSG_GETSA, 0), -ESRCH);
	assert_int_equal(change(f, XFRM_MSG_GETSA, 1), 0);
	nl_teardown(f);
}

static void test_events(void **state)
{
	struct nl_fixture *f = nl_setup();
	struct xfrm_usersa_flush flush = { .proto = 0 };
	struct nl_req r;

	(void)state;
	xf_nl_client_set_groups(f->in[1].client, 1u << (XFRMNLGRP_SA - 1));
	nl_add_sa(f, 0x100);
	assert_int_equal(f->in[1].n, 1);
	assert_int_equal(nl_msg(&f->in[1], 0)->nlmsg_type, XFRM_MSG_NEWSA);
	assert_int_equal(nl_msg(&f->in[1], 0)->nlmsg_seq, 7);
	assert_int_equal(nl_msg(&f->in[1], 0)->nlmsg_pid, 0);
	assert_int_equal(change(f, XFRM_MSG_DELSA, 0x100), 0);
	assert_int_equal(nl_msg(&f->in[1], 1)->nlmsg_type, XFRM_MSG_DELSA);
	assert_non_null(nl_find(nl_msg(&f->in[1], 1), sizeof(struct xfrm_usersa_id), XFRMA_SA));
	alloc_spi(f, 5, 5, 0);
	assert_int_equal(f->in[1].n, 2);
	nl_begin(&r, XFRM_MSG_FLUSHSA, NLM_F_ACK, &flush, sizeof(flush));
	nl_send(f, 0, &r);
	nl_send(f, 0, &r); /* empty: acknowledged, no event */
	assert_int_equal(nl_error(nl_msg(&f->in[0], 0)), 0);
	assert_int_equal(f->in[1].n, 3);
	assert_int_equal(f->in[1].len[2], 20);
	assert_int_equal(f->in[2].n, 0);
	nl_teardown(f);
}

/* DELSA of a larval SA: 284 bytes, as the kernel's. */
static void test_del_larval_event(void **state)
{
	struct nl_fixture *f = nl_setup();

	(void)state;
	xf_nl_client_set_groups(f->in[1].client, UINT32_MAX);
	alloc_spi(f, 5, 5, 0);
	assert_int_equal(change(f, XFRM_MSG_DELSA, 5), 0);
	assert_int_equal(f->in[1].n, 1);
	assert_int_equal(f->in[1].len[0], 284);
	nl_teardown(f);
}

static int send_expire(struct nl_fixture *f, uint32_t spi, uint8_t hard)
{
	struct xfrm_user_expire expire = { .hard = hard };
	struct nl_req r;

	nl_sa_info(&expire.state, spi);
	nl_begin(&r, XFRM_MSG_EXPIRE, NLM_F_ACK, &expire, sizeof(expire));
	nl_send(f, 0, &r);
	return nl_error(nl_msg(&f->in[0], 0));
}

static void test_expire(void **state)
{
	struct nl_fixture *f = nl_setup();
	const struct xfrm_user_expire *event;

	(void)state;
	xf_nl_client_set_groups(f->in[1].client, 1u << (XFRMNLGRP_EXPIRE - 1));
	assert_int_equal(send_expire(f, 0x100, 1), -ENOENT);
	nl_add_sa(f, 0x100);
	assert_int_equal(send_expire(f, 0x100, 0), 0);
	assert_int_equal(change(f, XFRM_MSG_GETSA, 0x100), 0);
	assert_int_equal(send_expire(f, 0x100, 1), 0);
	assert_int_equal(change(f, XFRM_MSG_GETSA, 0x100), -ESRCH);
	assert_int_equal(f->in[1].n, 2);
	event = mnl_nlmsg_get_payload(nl_msg(&f->in[1], 1));
	assert_int_equal(event->hard, 1);
	assert_int_equal(nl_msg(&f->in[1], 1)->nlmsg_seq, 0);
	alloc_spi(f, 5, 5, 0);
	assert_int_equal(send_expire(f, 5, 1), -EINVAL);
	assert_string_equal(nl_why(nl_msg(&f->in[0], 0)), "SA must be in VALID state");
	nl_teardown(f);
}

static void ae(struct nl_fixture *f, uint16_t type, uint16_t flags,
	       const struct xfrm_replay_state *replay)
{
	struct xfrm_aevent_id id = { .flags = XFRM_AE_RTHR | XFRM_AE_ETHR };
	struct nl_req r;

	nl_sa_id(&id.sa_id, 0x100);
	nl_begin(&r, type, flags, &id, sizeof(id));
	r.nlh->nlmsg_pid = 4711;
	if (replay)
		nl_attr(&r, XFRMA_REPLAY_VAL, replay, sizeof(*replay));
	nl_send(f, 0, &r);
}

static void test_ae(void **state)
{
	struct xfrm_replay_state replay = { .oseq = 17 };
	struct nl_fixture *f = nl_setup();
	const struct nlattr *attr;

	(void)state;
	xf_nl_client_set_groups(f->in[1].client, 1u << (XFRMNLGRP_AEVENTS - 1));
	nl_add_sa(f, 0x100);
	ae(f, XFRM_MSG_NEWAE, NLM_F_ACK, NULL);
	assert_string_equal(nl_why(nl_msg(&f->in[0], 0)), "Missing required attribute for AE");
	ae(f, XFRM_MSG_NEWAE, NLM_F_ACK, &replay);
	assert_string_equal(nl_why(nl_msg(&f->in[0], 0)), "NLM_F_REPLACE flag is required");
	ae(f, XFRM_MSG_NEWAE, NLM_F_ACK | NLM_F_REPLACE, &replay);
	assert_int_equal(nl_error(nl_msg(&f->in[0], 0)), 0);
	assert_int_equal(f->in[1].n, 1);
	ae(f, XFRM_MSG_GETAE, 0, NULL);
	assert_int_equal(f->in[0].len[0], 132);
	assert_int_equal(nl_msg(&f->in[0], 0)->nlmsg_type, XFRM_MSG_NEWAE);
	assert_int_equal(nl_msg(&f->in[0], 0)->nlmsg_pid, 4711);
	attr = nl_find(nl_msg(&f->in[0], 0), sizeof(struct xfrm_aevent_id), XFRMA_REPLAY_VAL);
	assert_memory_equal(mnl_attr_get_payload(attr), &replay, sizeof(replay));
	nl_teardown(f);
}

/* The window's bitmap can be loaded, but not resized. */
static void test_ae_esn(void **state)
{
	struct {
		struct xfrm_replay_state_esn esn;
		uint32_t bmp[2];
	} replay = { .esn = { .bmp_len = 2, .replay_window = 64 } };
	struct xfrm_replay_state_esn two = { .bmp_len = 2, .replay_window = 64 };
	struct xfrm_aevent_id id = { .flags = 0 };
	struct nl_fixture *f = nl_setup();
	struct xfrm_usersa_info info;
	struct nl_req r;

	(void)state;
	nl_sa_info(&info, 0x100);
	info.flags = XF_SA_ESN;
	nl_begin(&r, XFRM_MSG_NEWSA, NLM_F_ACK, &info, sizeof(info));
	nl_attr_aead(&r, 160, 128);
	nl_attr(&r, XFRMA_REPLAY_ESN_VAL, &replay, sizeof(replay));
	nl_send(f, 0, &r);
	assert_int_equal(nl_error(nl_msg(&f->in[0], 0)), 0);

	replay.esn.seq_hi = 1;
	replay.esn.seq = 9;
	replay.esn.oseq = 4;
	replay.bmp[0] = 0x100;
	nl_sa_id(&id.sa_id, 0x100);
	nl_begin(&r, XFRM_MSG_NEWAE, NLM_F_ACK | NLM_F_REPLACE, &id, sizeof(id));
	nl_attr(&r, XFRMA_REPLAY_ESN_VAL, &replay, sizeof(replay));
	nl_send(f, 0, &r);
	assert_int_equal(nl_error(nl_msg(&f->in[0], 0)), 0);
	assert_memory_equal(payload(get_sa(f, 0x100), XFRMA_REPLAY_ESN_VAL), &replay,
			    sizeof(replay));
	replay.esn.bmp_len = 1;
	nl_begin(&r, XFRM_MSG_NEWAE, NLM_F_ACK | NLM_F_REPLACE, &id, sizeof(id));
	nl_attr(&r, XFRMA_REPLAY_ESN_VAL, &replay, sizeof(replay));
	nl_send(f, 0, &r);
	assert_string_equal(nl_why(nl_msg(&f->in[0], 0)),
			    "New ESN size doesn't match the existing SA's ESN size");
	nl_attr(&r, XFRMA_REPLAY_ESN_VAL, &two, sizeof(two));
	nl_send(f, 0, &r);
	assert_string_equal(nl_why(nl_msg(&f->in[0], 0)), "ESN attribute is too short");
	nl_teardown(f);
}

/* What GETSA shows goes back into NEWSA as it is (charon moves SAs so), both hash attributes. */
static void test_copy_back(void **state)
{
	struct nl_fixture *f = nl_setup();
	const struct nlmsghdr *shown;
	_Alignas(8) uint8_t first[4096];
	struct xfrm_usersa_id id;
	struct whole_sa sa;
	struct nl_req r;

	(void)state;
	init_whole(&sa);
	put_whole(&r, &sa);
	nl_send(f, 0, &r);
	nl_sa_id(&id, 0xabcd);
	nl_begin(&r, XFRM_MSG_GETSA, 0, &id, sizeof(id));
	nl_attr(&r, XFRMA_MARK, &sa.mark, sizeof(sa.mark));
	nl_send(f, 0, &r);
	shown = nl_msg(&f->in[0], 0);
	/* Of the two hash attributes the one with a truncation length counts. */
	*((uint32_t *)(uintptr_t)payload(shown, XFRMA_ALG_AUTH_TRUNC) + 17) = 128;
	memcpy(first, shown, shown->nlmsg_len);
	r.nlh->nlmsg_type = XFRM_MSG_DELSA;
	nl_send(f, 0, &r);
	memcpy(r.buf, first, ((const struct nlmsghdr *)(const void *)first)->nlmsg_len);
	r.nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	nl_send(f, 0, &r);
	assert_int_equal(nl_error(nl_msg(&f->in[0], 0)), 0);
	nl_begin(&r, XFRM_MSG_GETSA, 0, &id, sizeof(id));
	nl_attr(&r, XFRMA_MARK, &sa.mark, sizeof(sa.mark));
	nl_send(f, 0, &r);
	assert_memory_equal(f->in[0].data[0], first, f->in[0].len[0]);
	nl_teardown(f);
}

/* Lifetimes that ran out by themselves: port and sequence number 0, larval SAs count as hard. */
static void test_expired_by_time(void **state)
{
	static const uint8_t hard[] = { 0, 1, 1 };
	struct nl_fixture *f = nl_setup();
	struct xf_sa_id id = { .spi = 0x100, .family = XF_AF_INET, .proto = XF_IPPROTO_ESP };
	struct xf_sa *sa;

	(void)state;
	xf_nl_client_set_groups(f->in[1].client, 1u << (XFRMNLGRP_EXPIRE - 1));
	nl_add_sa(f, 0x100);
	memcpy(&id.daddr, "\x0a\0\0\2", 4);
	sa = xf_sad_find_in(f->sad, &id, 0);
	assert_non_null(sa);
	xf_nl_sa_expired(f->server, sa, XF_SA_EVENT_SOFT_EXPIRE);
	xf_nl_sa_expired(f->server, sa, XF_SA_EVENT_HARD_EXPIRE);
	xf_nl_sa_expired(f->server, sa, XF_SA_EVENT_LARVAL_EXPIRE);
	assert_int_equal(f->in[1].n, 3);
	for (unsigned i = 0; i < 3; i++) {
		const struct xfrm_user_expire *event = mnl_nlmsg_get_payload(nl_msg(&f->in[1], i));

		assert_int_equal(event->hard, hard[i]);
		assert_int_equal(nl_msg(&f->in[1], i)->nlmsg_pid, 0);
	}
	nl_teardown(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_largest),
		cmocka_unit_test(test_selector_family),
		cmocka_unit_test(test_no_extra_flags),
		cmocka_unit_test(test_lookup_errors),
		cmocka_unit_test(test_alloc_spi),
		cmocka_unit_test(test_reserved_spis),
		cmocka_unit_test(test_events),
		cmocka_unit_test(test_del_larval_event),
		cmocka_unit_test(test_expire),
		cmocka_unit_test(test_ae),
		cmocka_unit_test(test_ae_esn),
		cmocka_unit_test(test_copy_back),
		cmocka_unit_test(test_expired_by_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
