/*
 * Policies over netlink: what goes in comes out again, what is refused, names, events.
 */
#include "nl_util.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define POLICY_HDR sizeof(struct xfrm_userpolicy_info)

/* GETPOLICY or DELPOLICY; the errno of the last datagram, 0 for an answer. */
static int name_policy(struct nl_fixture *f, uint16_t type, const struct xfrm_userpolicy_id *id)
{
	struct nl_req r;

	nl_begin(&r, type, NLM_F_ACK, id, sizeof(*id));
	nl_send(f, 0, &r);
	return nl_error(nl_msg(&f->in[0], f->in[0].n - 1));
}

static int policy_error(struct nl_fixture *f, const struct nl_req *r)
{
	nl_send(f, 0, r);
	assert_int_equal(f->in[0].n, 1);
	return nl_error(nl_msg(&f->in[0], 0));
}

struct fault {
	const char *what;
	int err;
	const char *why;
	uint8_t dir, share, action, prefix, type;
	uint16_t family;
	uint32_t index;
	unsigned tmpls;
	uint16_t tmpl_family;
	uint8_t tmpl_mode, tmpl_proto, tmpl_optional;
};

#define TMPLS(n, protocol) .dir = 1, .family = 2, .tmpls = (n), .tmpl_proto = (protocol)
#define TMPL TMPLS(1, 50)

static const struct fault faults[] = {
	{ "share", -EINVAL, "Invalid policy share", .family = 2, .share = 4 },
	{ "action", -EINVAL, "Invalid policy action", .family = 2, .action = 2 },
	{ "family", -EINVAL, "Invalid selector family", .family = 0 },
	{ "prefix 33", -EINVAL, "Invalid prefix length in selector (must be <= 32 for IPv4)",
	  .family = 2, .prefix = 33 },
	{ "prefix 129", -EINVAL, "Invalid prefix length in selector (must be <= 128 for IPv6)",
	  .family = 10, .prefix = 129 },
	{ "direction", -EINVAL, "Invalid policy direction", .family = 2, .dir = 3 },
	{ "index of another direction", -EINVAL, "Policy index doesn't match direction",
	  .family = 2, .dir = 1, .index = 8 },
	{ "type", -EINVAL, "Invalid policy type", .family = 2, .type = 2 },
	{ "seven templates", -EINVAL, "Template count must be <= XFRM_MAX_DEPTH (6)", TMPLS(7, 50),
	  .tmpl_mode = 1 },
	{ "optional tunnel out", -EINVAL,
	  "Mode in optional template not allowed in outbound policy", TMPL, .tmpl_mode = 1,
	  .tmpl_optional = 1 },
	{ "mode 6", -EINVAL, "Mode in template must be < XFRM_MODE_MAX (6)", TMPL, .tmpl_mode = 6 },
	{ "family change in transport mode", -EINVAL,
	  "Mode in template doesn't support a family change", TMPL, .tmpl_family = 10 },
	{ "template family", -EINVAL, "Invalid family in template", TMPL, .tmpl_mode = 1,
	  .tmpl_family = 3 },
	{ "template protocol", -EINVAL, "Invalid XFRM protocol in template", TMPLS(1, 17),
	  .tmpl_mode = 1 },
};

static void build(struct nl_req *r, const struct fault *fault)
{
	struct xfrm_userpolicy_type type = { .type = fault->type };
	struct xfrm_userpolicy_info info;
	struct xfrm_user_tmpl tmpl[7];

	nl_policy_info(&info, fault->dir, 0);
	info.sel.family = fault->family;
	info.sel.prefixlen_s = fault->prefix;
	info.share = fault->share;
	info.action = fault->action;
	info.index = fault->index;
	nl_begin(r, XFRM_MSG_NEWPOLICY, NLM_F_ACK, &info, sizeof(info));
	nl_attr(r, XFRMA_POLICY_TYPE, &type, sizeof(type));
	for (unsigned i = 0; i < fault->tmpls; i++) {
		nl_tmpl(&tmpl[i]);
		tmpl[i].family = fault->tmpl_family;
		tmpl[i].mode = fault->tmpl_mode;
		tmpl[i].id.proto = fault->tmpl_proto;
		tmpl[i].optional = fault->tmpl_optional;
	}
	if (fault->tmpls)
		nl_attr(r, XFRMA_TMPL, tmpl, fault->tmpls * sizeof(tmpl[0]));
}

static void test_faults(void **state)
{
	struct nl_fixture *f = nl_setup();
	struct xf_spd_info info;
	struct nl_req r;

	(void)state;
	for (size_t i = 0; i < XF_ARRAY_SIZE(faults); i++) {
		const struct nlmsghdr *ack;
		int err;

		build(&r, &faults[i]);
		err = policy_error(f, &r);
		ack = nl_msg(&f->in[0], 0);
		if (err != faults[i].err || strcmp(nl_why(ack), faults[i].why) != 0)
			fail_msg("%s: %d \"%s\"", faults[i].what, err, nl_why(ack));
	}
	xf_spd_get_info(f->spd, &info);
	assert_int_equal(info.count[0] + info.count[1] + info.count[2], 0);
	assert_int_equal(f->spd_changes, 0);
	nl_teardown(f);
}

/* A template protects what the one before it made: behind an IPv6 tunnel that is IPv6. */
static void test_template_chain(void **state)
{
	struct nl_fixture *f = nl_setup();
	struct xfrm_userpolicy_info info;
	struct xfrm_user_tmpl tmpl[2];
	struct nl_req r;

	(void)state;
	nl_policy_info(&info, XF_DIR_OUT, 1);
	nl_tmpl(&tmpl[0]);
	nl_tmpl(&tmpl[1]);
	tmpl[0].family = XF_AF_INET6;
	tmpl[1].mode = XF_MODE_TRANSPORT;
	nl_begin(&r, XFRM_MSG_NEWPOLICY, NLM_F_ACK, &info, sizeof(info));
	nl_attr(&r, XFRMA_TMPL, tmpl, sizeof(tmpl));
	assert_int_equal(policy_error(f, &r), -EINVAL);
	assert_string_equal(nl_why(nl_msg(&f->in[0], 0)),
			    "Mode in template doesn't support a family change");
	tmpl[1].family = XF_AF_INET6;
	nl_attr(&r, XFRMA_TMPL, tmpl, sizeof(tmpl));
	assert_int_equal(policy_error(f, &r), 0);
	nl_teardown(f);
}

static void test_round_trip(void **state)
{
	struct nl_fixture *f = nl_setup();
	struct xfrm_userpolicy_type type = { .type = XF_POLICY_SUB };
	struct xfrm_mark mark = { 0x112, 0xff };
	struct xfrm_userpolicy_info info, got;
	struct xfrm_userpolicy_id id;
	struct xfrm_user_tmpl tmpl[2];
	const struct nlmsghdr *reply;
	const struct nlattr *attr;
	struct nl_req r;

	(void)state;
	nl_policy_info(&info, XF_DIR_OUT, 3);
	info.sel.sport = 0x5000;
	info.sel.sport_mask = 0x0f00;
	info.sel.dport_mask = 0x00f0;
	info.priority = 77;
	info.flags = XF_POLICY_LOCALOK | XF_POLICY_ICMP;
	info.lft.hard_add_expires_seconds = 50;
	nl_tmpl(&tmpl[0]);
	nl_tmpl(&tmpl[1]);
	tmpl[0].family = XF_AF_INET6;
	tmpl[1].family = 0; /* stands for the policy's own */
	tmpl[1].optional = 0;
	nl_begin(&r, XFRM_MSG_NEWPOLICY, NLM_F_ACK, &info, sizeof(info));
	nl_attr(&r, XFRMA_TMPL, tmpl, sizeof(tmpl));
	nl_attr(&r, XFRMA_POLICY_TYPE, &type, sizeof(type));
	nl_attr(&r, XFRMA_MARK, &mark, sizeof(mark));
	nl_attr_u32(&r, XFRMA_IF_ID, 4);
	assert_int_equal(policy_error(f, &r), 0);
	assert_int_equal(f->spd_changes, 1);

	id = (struct xfrm_userpolicy_id){ .sel = info.sel, .dir = XF_DIR_OUT };
	nl_begin(&r, XFRM_MSG_GETPOLICY, 0, &id, sizeof(id));
	nl_attr(&r, XFRMA_POLICY_TYPE, &type, sizeof(type));
	nl_attr(&r, XFRMA_MARK, &mark, sizeof(mark));
	nl_attr_u32(&r, XFRMA_IF_ID, 4);
	nl_send(f, 0, &r);
	reply = nl_msg(&f->in[0], 0);
	assert_int_equal(reply->nlmsg_type, XFRM_MSG_NEWPOLICY);
	memcpy(&got, mnl_nlmsg_get_payload(reply), sizeof(got));
	assert_int_equal(got.index & 7, XF_DIR_OUT);
	assert_int_equal(got.curlft.add_time, NL_REAL_OFFSET + 1000);
	got.index = 0;
	got.curlft.add_time = 0;
	assert_memory_equal(&got, &info, sizeof(info));
	attr = nl_find(reply, POLICY_HDR, XFRMA_TMPL);
	tmpl[1].family = XF_AF_INET;
	assert_memory_equal(mnl_attr_get_payload(attr), tmpl, sizeof(tmpl));
	attr = nl_find(reply, POLICY_HDR, XFRMA_MARK);
	assert_int_equal(mnl_attr_get_u32(attr), 0x12);
	attr = nl_find(reply, POLICY_HDR, XFRMA_POLICY_TYPE);
	assert_int_equal(mnl_attr_get_payload_len(attr), 6);
	assert_int_equal(mnl_attr_get_u8(attr), XF_POLICY_SUB);
	assert_non_null(nl_find(reply, POLICY_HDR, XFRMA_IF_ID));
	nl_teardown(f);
}

/* The numbers are those of the kernel's replies: lengths, errno, index of the first policy. */
static void test_names(void **state)
{
	struct nl_fixture *f = nl_setup();
	struct xfrm_userpolicy_id id;
	uint32_t index;

	(void)state;
	nl_add_policy(f, XF_DIR_OUT, 1);
	nl_policy_id(&id, XF_DIR_OUT, 1);
	assert_int_equal(name_policy(f, XFRM_MSG_GETPOLICY, &id), 0);
	assert_int_equal(f->in[0].n, 2);
	assert_int_equal(f->in[0].len[0], 264);
	assert_int_equal(nl_msg(&f->in[0], 0)->nlmsg_pid, 1000);
	index = ((const struct xfrm_userpolicy_info *)mnl_nlmsg_get_payload(nl_msg(&f->in[0], 0)))
			->index;
	nl_policy_id(&id, XF_DIR_OUT, 2);
	assert_int_equal(name_policy(f, XFRM_MSG_GETPOLICY, &id), -ENOENT);
	nl_policy_id(&id, XF_DIR_IN, 1);
	assert_int_equal(name_policy(f, XFRM_MSG_DELPOLICY, &id), -ENOENT);
	nl_policy_id(&id, 3, 1);
	assert_int_equal(name_policy(f, XFRM_MSG_GETPOLICY, &id), -EINVAL);
	id = (struct xfrm_userpolicy_id){ .index = index, .dir = XF_DIR_IN };
	assert_int_equal(name_policy(f, XFRM_MSG_DELPOLICY, &id), -ENOENT);
	id.dir = XF_DIR_OUT;
	assert_int_equal(name_policy(f, XFRM_MSG_DELPOLICY, &id), 0);
	assert_int_equal(name_policy(f, XFRM_MSG_DELPOLICY, &id), -ENOENT);
	assert_int_equal(f->spd_changes, 2);
	nl_teardown(f);
}

static void test_new_and_update(void **state)
{
	struct nl_fixture *f = nl_setup();
	struct xfrm_userpolicy_info info;
	struct nl_req r;

	(void)state;
	nl_policy_info(&info, XF_DIR_IN, 1);
	nl_begin(&r, XFRM_MSG_NEWPOLICY, NLM_F_ACK, &info, sizeof(info));
	assert_int_equal(policy_error(f, &r), 0);
	assert_int_equal(policy_error(f, &r), -EEXIST);
	r.nlh->nlmsg_type = XFRM_MSG_UPDPOLICY;
	assert_int_equal(policy_error(f, &r), 0);
	info.sel.prefixlen_d = 17;
	nl_begin(&r, XFRM_MSG_UPDPOLICY, NLM_F_ACK, &info, sizeof(info));
	assert_int_equal(policy_error(f, &r), 0);
	nl_attr(&r, XFRMA_OFFLOAD_DEV, "\1\0\0\0\4\0\0", 8);
	assert_int_equal(policy_error(f, &r), -EINVAL);
	nl_teardown(f);
}

static void flush(struct nl_fixture *f)
{
	struct nl_req r;

	nl_begin(&r, XFRM_MSG_FLUSHPOLICY, NLM_F_ACK, NULL, 0);
	assert_int_equal(policy_error(f, &r), 0);
}

static void test_events(void **state)
{
	static const size_t lengths[] = { 264, 332, 264, 28 };
	static const uint16_t types[] = { XFRM_MSG_NEWPOLICY, XFRM_MSG_DELPOLICY,
					  XFRM_MSG_NEWPOLICY, XFRM_MSG_FLUSHPOLICY };
	struct nl_fixture *f = nl_setup();
	struct xfrm_userpolicy_id id;

	(void)state;
	xf_nl_client_set_groups(f->in[1].client, 1u << (XFRMNLGRP_POLICY - 1));
	xf_nl_client_set_groups(f->in[2].client, ~(1u << (XFRMNLGRP_POLICY - 1)));
	nl_add_policy(f, XF_DIR_OUT, 1);
	nl_policy_id(&id, XF_DIR_OUT, 1);
	assert_int_equal(name_policy(f, XFRM_MSG_DELPOLICY, &id), 0);
	nl_add_policy(f, XF_DIR_OUT, 1);
	flush(f);
	flush(f); /* empty: no event */
	assert_int_equal(f->in[1].n, XF_ARRAY_SIZE(lengths));
	for (unsigned i = 0; i < f->in[1].n; i++) {
		assert_int_equal(f->in[1].len[i], lengths[i]);
		assert_int_equal(nl_msg(&f->in[1], i)->nlmsg_type, types[i]);
		assert_int_equal(nl_msg(&f->in[1], i)->nlmsg_seq, 7);
		assert_int_equal(nl_msg(&f->in[1], i)->nlmsg_pid, 0);
	}
	assert_non_null(nl_find(nl_msg(&f->in[1], 1), sizeof(id), XFRMA_POLICY));
	/* A policy that was named by its selector is told of by its selector. */
	assert_memory_equal(mnl_nlmsg_get_payload(nl_msg(&f->in[1], 1)), &id, sizeof(id));
	assert_int_equal(f->in[2].n, 0);
	nl_teardown(f);
}

static void test_polexpire(void **state)
{
	struct nl_fixture *f = nl_setup();
	struct xfrm_user_polexpire expire = { .hard = 1 };
	struct xfrm_userpolicy_id id;
	struct nl_req r;

	(void)state;
	xf_nl_client_set_groups(f->in[1].client, 1u << (XFRMNLGRP_EXPIRE - 1));
	nl_policy_info(&expire.pol, XF_DIR_FWD, 1);
	nl_begin(&r, XFRM_MSG_POLEXPIRE, NLM_F_ACK, &expire, sizeof(expire));
	assert_int_equal(policy_error(f, &r), -ENOENT);
	nl_add_policy(f, XF_DIR_FWD, 1);
	assert_int_equal(policy_error(f, &r), 0);
	assert_int_equal(f->in[1].n, 1);
	assert_int_equal(nl_msg(&f->in[1], 0)->nlmsg_type, XFRM_MSG_POLEXPIRE);
	nl_policy_id(&id, XF_DIR_FWD, 1);
	assert_int_equal(name_policy(f, XFRM_MSG_GETPOLICY, &id), -ENOENT);
	nl_teardown(f);
}

/* pluto's probe, and what the kernel says to lists that are wrong. */
static void test_migrate(void **state)
{
	struct xfrm_user_migrate list[2] = { { .proto = 50, .old_family = 2, .new_family = 2 } };
	struct nl_fixture *f = nl_setup();
	struct xfrm_userpolicy_id id;
	struct nl_req r;

	(void)state;
	nl_policy_id(&id, XF_DIR_OUT, 1);
	nl_begin(&r, XFRM_MSG_MIGRATE, 0, &id, sizeof(id));
	assert_int_equal(policy_error(f, &r), -EINVAL);
	nl_attr(&r, XFRMA_MIGRATE, list, sizeof(list[0]));
	assert_int_equal(policy_error(f, &r), -EINVAL);
	assert_string_equal(nl_why(nl_msg(&f->in[0], 0)),
			    "Addresses in the MIGRATE attribute's list cannot be null");
	memset(&list[0].new_daddr, 1, sizeof(list[0].new_daddr));
	memset(&list[0].new_saddr, 1, sizeof(list[0].new_saddr));
	list[1] = list[0];
	nl_attr(&r, XFRMA_MIGRATE, list, sizeof(list));
	assert_int_equal(policy_error(f, &r), -EINVAL);
	nl_attr(&r, XFRMA_MIGRATE, list, sizeof(list[0]));
	assert_int_equal(policy_error(f, &r), -ENOENT);
	assert_string_equal(nl_why(nl_msg(&f->in[0], 0)), "Target policy not found");
	id.sel.family = 0;
	nl_begin(&r, XFRM_MSG_MIGRATE, 0, &id, sizeof(id));
	nl_attr(&r, XFRMA_MIGRATE, list, sizeof(list[0]));
	assert_int_equal(policy_error(f, &r), -EAFNOSUPPORT);
	assert_string_equal(nl_why(nl_msg(&f->in[0], 0)), "Target policy not found");
	nl_teardown(f);
}

static void put_policy(struct nl_req *r, uint16_t flags, uint8_t third_byte, size_t *len)
{
	struct xfrm_userpolicy_info info;
	struct nl_req one;

	nl_policy_info(&info, XF_DIR_OUT, third_byte);
	nl_begin(&one, XFRM_MSG_NEWPOLICY, flags, &info, sizeof(info));
	memcpy(r->buf + *len, one.buf, one.nlh->nlmsg_len);
	*len += NLMSG_ALIGN(one.nlh->nlmsg_len);
}

/* Of many requests the SPD's watcher hears once, but before anybody is told of the first. */
static void test_many_at_once(void **state)
{
	struct nl_fixture *f = nl_setup();
	struct nl_req r;
	size_t len = 0;

	(void)state;
	for (uint8_t i = 0; i < 20; i++)
		put_policy(&r, i == 19 ? NLM_F_ACK : 0, i, &len);
	xf_nl_client_request(f->in[0].client, r.buf, len, NL_NOW);
	assert_int_equal(f->in[0].n, 1);
	assert_int_equal(f->in[0].spd_changes, 1);
	assert_int_equal(f->spd_changes, 1);
	/* The same again fails, each by itself, and changes nothing. */
	xf_nl_client_request(f->in[0].client, r.buf, len, NL_NOW);
	assert_int_equal(f->in[0].n, 21);
	assert_int_equal(f->spd_changes, 1);
	/* Nobody asks to be told: in force it is all the same. */
	len = 0;
	put_policy(&r, 0, 20, &len);
	put_policy(&r, 0, 21, &len);
	xf_nl_client_request(f->in[0].client, r.buf, len, NL_NOW);
	assert_int_equal(f->spd_changes, 2);
	/* A listener is told of each. */
	xf_nl_client_set_groups(f->in[1].client, 1u << (XFRMNLGRP_POLICY - 1));
	len = 0;
	put_policy(&r, 0, 22, &len);
	put_policy(&r, 0, 23, &len);
	xf_nl_client_request(f->in[0].client, r.buf, len, NL_NOW);
	assert_int_equal(f->in[1].n, 2);
	assert_int_equal(f->in[1].spd_changes, 4);
	nl_teardown(f);
}

/* A request for policy @third_byte with @ntmpl templates: its error. */
static int ask(struct nl_fixture *f, uint16_t type, uint8_t third_byte, unsigned ntmpl)
{
	struct xfrm_userpolicy_info info;
	struct xfrm_user_tmpl tmpl[2];
	struct xfrm_userpolicy_id id;
	struct nl_req r;

	nl_policy_info(&info, XF_DIR_OUT, third_byte);
	nl_policy_id(&id, XF_DIR_OUT, third_byte);
	nl_tmpl(&tmpl[0]);
	nl_tmpl(&tmpl[1]);
	if (type == XFRM_MSG_DELPOLICY)
		nl_begin(&r, type, NLM_F_ACK, &id, sizeof(id));
	else if (type == XFRM_MSG_FLUSHPOLICY)
		nl_begin(&r, type, NLM_F_ACK, "", 0);
	else
		nl_begin(&r, type, NLM_F_ACK, &info, sizeof(info));
	if (ntmpl)
		nl_attr(&r, XFRMA_TMPL, tmpl, ntmpl * sizeof(tmpl[0]));
	nl_forget(&f->in[0]);
	nl_send(f, 0, &r);
	return nl_error(nl_msg(&f->in[0], f->in[0].n - 1));
}

static int expire_hard(struct nl_fixture *f, uint8_t third_byte)
{
	struct xfrm_user_polexpire expire;
	struct nl_req r;

	memset(&expire, 0, sizeof(expire));
	nl_policy_info(&expire.pol, XF_DIR_OUT, third_byte);
	expire.hard = 1;
	nl_begin(&r, XFRM_MSG_POLEXPIRE, NLM_F_ACK, &expire, sizeof(expire));
	nl_forget(&f->in[0]);
	nl_send(f, 0, &r);
	return nl_error(nl_msg(&f->in[0], f->in[0].n - 1));
}

/* Before a change it is asked for, with what it adds to a dump. */
static void test_reserve(void **state)
{
	struct nl_fixture *f = nl_setup();
	size_t one;

	(void)state;
	xf_nl_client_set_groups(f->in[1].client, 1u << (XFRMNLGRP_POLICY - 1));
	assert_int_equal(ask(f, XFRM_MSG_NEWPOLICY, 1, 1), 0);
	one = f->reserved_more;
	/* As long as the event. */
	assert_int_equal(NLMSG_ALIGN(nl_msg(&f->in[1], 0)->nlmsg_len), one);
	assert_int_equal(ask(f, XFRM_MSG_UPDPOLICY, 1, 1), 0);
	assert_int_equal(f->reserved_more, 0);
	assert_int_equal(ask(f, XFRM_MSG_UPDPOLICY, 1, 2), 0);
	assert_int_equal(f->reserved_more, sizeof(struct xfrm_user_tmpl));
	assert_int_equal(ask(f, XFRM_MSG_UPDPOLICY, 1, 0), 0);
	assert_int_equal(f->reserved_more, 0);
	assert_int_equal(ask(f, XFRM_MSG_NEWPOLICY, 2, 0), 0);
	assert_int_equal(f->reserved_more,
			 one - sizeof(struct xfrm_user_tmpl) - sizeof(struct nlattr));
	assert_int_equal(ask(f, XFRM_MSG_DELPOLICY, 2, 0), 0);
	assert_int_equal(f->reserved_more, 0);
	assert_int_equal(f->reserves, 6);
	nl_teardown(f);
}

/* What is refused changes nothing and is told to nobody but who asked. */
static void test_refused(void **state)
{
	static const uint16_t types[] = { XFRM_MSG_NEWPOLICY, XFRM_MSG_UPDPOLICY,
					  XFRM_MSG_DELPOLICY, XFRM_MSG_FLUSHPOLICY };
	struct nl_fixture *f = nl_setup();
	struct xf_spd_info info;
	unsigned changes;

	(void)state;
	assert_int_equal(ask(f, XFRM_MSG_NEWPOLICY, 1, 1), 0);
	xf_nl_client_set_groups(f->in[1].client, ~0u);
	changes = f->spd_changes;
	f->refuse = -ENOSPC;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(types); i++) {
		assert_int_equal(ask(f, types[i], i ? 1 : 2, 1), -ENOSPC);
		assert_string_equal(nl_why(nl_msg(&f->in[0], 0)), "refused by the test");
	}
	assert_int_equal(expire_hard(f, 1), -ENOSPC);
	/* An error of its own comes first. */
	assert_int_equal(ask(f, XFRM_MSG_NEWPOLICY, 1, 1), -EEXIST);
	assert_int_equal(ask(f, XFRM_MSG_DELPOLICY, 9, 0), -ENOENT);
	assert_int_equal(f->spd_changes, changes);
	assert_int_equal(f->in[1].n, 0);
	xf_spd_get_info(f->spd, &info);
	assert_int_equal(info.count[XF_DIR_OUT], 1);
	nl_teardown(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_faults),	       cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_template_chain), cmocka_unit_test(test_names),
		cmocka_unit_test(test_new_and_update), cmocka_unit_test(test_events),
		cmocka_unit_test(test_polexpire),      cmocka_unit_test(test_migrate),
		cmocka_unit_test(test_many_at_once),   cmocka_unit_test(test_reserve),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
