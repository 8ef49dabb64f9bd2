/*
 * Entries of connection tracking against policies: what is read of them, and which must go.
 */
#include <errno.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <netinet/in.h> /* before Linux's headers */
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>

#include "capture/nat/conntrack.h"
#include "capture/nat/nat.h"

struct fixture {
	struct xf_spd *spd;
	struct xf_conntrack_changes changes;
	uint8_t buf[1024] __attribute__((aligned(8)));
};

static int set_up(void **state)
{
	const struct xf_spd_config cfg = { .seed = { 1, 2 } };
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->spd = xf_spd_new(&cfg);
	assert_non_null(f->spd);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	xf_spd_free(f->spd);
	free(f);
	return 0;
}

static struct xf_policy_config make(const char *saddr, const char *daddr, uint8_t len)
{
	struct xf_policy_config cfg = {
		.dir = XF_DIR_OUT,
		.ntmpl = 1,
		.life = { XF_INF, XF_INF, XF_INF, XF_INF, 0, 0, 0, 0 },
		.sel = { .prefixlen_s = len, .prefixlen_d = len },
	};

	cfg.sel.family = (uint16_t)xf_addr_parse(saddr, &cfg.sel.saddr);
	xf_addr_parse(daddr, &cfg.sel.daddr);
	return cfg;
}

static void insert(struct fixture *f, const struct xf_policy_config *cfg)
{
	struct xf_policy *policy;

	assert_int_equal(xf_spd_insert(f->spd, cfg, true, 0, &policy), 0);
}

struct ends {
	const char *src;
	const char *dst;
	uint16_t sport;
	uint16_t dport;
};

static void put_tuple(struct nlmsghdr *msg, uint16_t type, const struct ends *ends, uint16_t zone)
{
	struct nlattr *tuple = mnl_attr_nest_start(msg, type);
	struct nlattr *part = mnl_attr_nest_start(msg, CTA_TUPLE_IP);
	union xf_addr src, dst;
	bool six = xf_addr_parse(ends->src, &src) == XF_AF_INET6;

	xf_addr_parse(ends->dst, &dst);
	mnl_attr_put(msg, six ? CTA_IP_V6_SRC : CTA_IP_V4_SRC, six ? 16 : 4, src.bytes);
	mnl_attr_put(msg, six ? CTA_IP_V6_DST : CTA_IP_V4_DST, six ? 16 : 4, dst.bytes);
	mnl_attr_nest_end(msg, part);
	part = mnl_attr_nest_start(msg, CTA_TUPLE_PROTO);
	mnl_attr_put_u8(msg, CTA_PROTO_NUM, IPPROTO_UDP);
	mnl_attr_put_u16(msg, CTA_PROTO_SRC_PORT, htons(ends->sport));
	mnl_attr_put_u16(msg, CTA_PROTO_DST_PORT, htons(ends->dport));
	mnl_attr_nest_end(msg, part);
	if (zone)
		mnl_attr_put_u16(msg, CTA_TUPLE_ZONE, htons(zone));
	mnl_attr_nest_end(msg, tuple);
}

static struct nlmsghdr *message_in(struct fixture *f, uint8_t family, const struct ends *original,
				   const struct ends *reply, uint32_t status, uint16_t zone)
{
	struct nlmsghdr *msg = mnl_nlmsg_put_header(f->buf);
	struct nfgenmsg *gen = mnl_nlmsg_put_extra_header(msg, sizeof(*gen));

	gen->nfgen_family = family;
	put_tuple(msg, CTA_TUPLE_ORIG, original, zone);
	put_tuple(msg, CTA_TUPLE_REPLY, reply, 0);
	mnl_attr_put_u32(msg, CTA_STATUS, htonl(status));
	mnl_attr_put_u32(msg, CTA_ID, htonl(77));
	mnl_attr_put_u16(msg, CTA_ZONE, htons(5));
	return msg;
}

static struct nlmsghdr *message(struct fixture *f, uint8_t family, const struct ends *original,
				const struct ends *reply, uint32_t status)
{
	return message_in(f, family, original, reply, status, 0);
}

/* A flow of 10.1.0.1:1000 to 10.2.0.2:53, masqueraded or not. */
static struct xf_conntrack_entry flow(struct fixture *f, bool snat)
{
	const struct ends original = { "10.1.0.1", "10.2.0.2", 1000, 53 };
	const struct ends reply = { "10.2.0.2", snat ? "192.0.2.1" : "10.1.0.1", 53, 1000 };
	struct xf_conntrack_entry entry;
	const struct nlmsghdr *msg =
		message(f, AF_INET, &original, &reply, IPS_CONFIRMED | (snat ? IPS_SRC_NAT : 0));

	assert_int_equal(xf_conntrack_parse(msg, &entry), 0);
	return entry;
}

/* Where it goes to is what destination NAT made of it. */
static void reads(void **state)
{
	struct fixture *f = *state;
	const struct ends original = { "2001:db8::1", "2001:db8::2", 1000, 80 };
	const struct ends reply = { "fd00::3", "2001:db8::1", 8080, 1000 };
	struct xf_conntrack_entry entry;
	struct nlmsghdr *msg = message(f, AF_INET6, &original, &reply, IPS_DST_NAT);
	union xf_addr want;

	assert_int_equal(xf_conntrack_parse(msg, &entry), 0);
	assert_int_equal(entry.flow.family, XF_AF_INET6);
	xf_addr_parse("fd00::3", &want);
	assert_memory_equal(entry.flow.daddr.bytes, want.bytes, 16);
	xf_addr_parse("2001:db8::1", &want);
	assert_memory_equal(entry.flow.saddr.bytes, want.bytes, 16);
	assert_int_equal(entry.flow.sport, 1000);
	assert_int_equal(entry.flow.dport, 8080);
	assert_int_equal(entry.flow.proto, IPPROTO_UDP);
	assert_false(entry.source_changed);
	assert_int_equal(entry.id_be, htonl(77));
	assert_int_equal(entry.zone_be, htons(5));
	assert_true(entry.tuple_len > 0);
	msg = message(f, AF_UNIX, &original, &reply, 0);
	assert_int_equal(xf_conntrack_parse(msg, &entry), -EINVAL);
	/* Cut short, anywhere: nothing is read behind the end. */
	msg = message(f, AF_INET6, &original, &reply, 0);
	for (uint32_t len = NLMSG_HDRLEN; len < NLMSG_HDRLEN + 120; len += 4) {
		msg->nlmsg_len = len;
		assert_int_equal(xf_conntrack_parse(msg, &entry), -EINVAL);
	}
}

/* A strict policy: an entry with NAT goes when it is there, one without when it has gone. */
static void strict_comes_and_goes(void **state)
{
	struct fixture *f = *state;
	struct xf_policy_config cfg = make("10.1.0.0", "10.2.0.0", 16);
	struct xf_conntrack_entry with = flow(f, true);
	struct xf_conntrack_entry without = flow(f, false);

	xf_conntrack_note(&f->changes, &cfg, false);
	assert_false(xf_conntrack_contradicts(&with, &f->changes, f->spd));
	assert_true(xf_conntrack_contradicts(&without, &f->changes, f->spd));
	/* Another one protects it still, or again. */
	insert(f, &cfg);
	assert_true(xf_conntrack_contradicts(&with, &f->changes, f->spd));
	assert_false(xf_conntrack_contradicts(&without, &f->changes, f->spd));
}

/* What is given another source of the same policy stays as long as both are selected. */
static void within(void **state)
{
	struct fixture *f = *state;
	const struct ends original = { "10.1.0.1", "10.2.0.2", 1000, 53 };
	const struct ends reply = { "10.2.0.2", "10.1.9.9", 53, 2000 };
	struct xf_policy_config before = make("10.1.0.1", "10.2.0.0", 32);
	struct xf_policy_config after = make("10.1.9.9", "10.2.0.2", 32);
	struct xf_policy_config both = make("10.1.0.0", "10.2.0.0", 16);
	struct xf_conntrack_entry entry;
	const struct nlmsghdr *msg =
		message_in(f, AF_INET, &original, &reply, IPS_SRC_NAT, XF_NAT_ZONE_WITHIN);

	assert_int_equal(xf_conntrack_parse(msg, &entry), 0);
	assert_int_equal(entry.changed.sport, 2000);
	before.sel.prefixlen_d = 16;
	after.sel.sport = 2000;
	after.sel.sport_mask = UINT16_MAX;
	after.sel.proto = IPPROTO_UDP;
	insert(f, &before);
	insert(f, &after);
	xf_conntrack_note(&f->changes, &before, true);
	assert_false(xf_conntrack_contradicts(&entry, &f->changes, f->spd));
	/* Another has gone that had both. */
	xf_conntrack_note(&f->changes, &both, false);
	assert_false(xf_conntrack_contradicts(&entry, &f->changes, f->spd));
	entry.within = false;
	assert_true(xf_conntrack_contradicts(&entry, &f->changes, f->spd));
}

/* One of the two selects it no longer. */
static void within_no_more(void **state)
{
	struct fixture *f = *state;
	const struct ends original = { "10.1.0.1", "10.2.0.2", 1000, 53 };
	const struct ends reply = { "10.2.0.2", "10.1.9.9", 53, 2000 };
	struct xf_policy_config cfgs[] = { make("10.1.0.1", "10.2.0.2", 32),
					   make("10.1.9.9", "10.2.0.2", 32) };
	struct xf_conntrack_entry entry;
	struct xf_policy *policies[2];
	const struct nlmsghdr *msg =
		message_in(f, AF_INET, &original, &reply, IPS_SRC_NAT, XF_NAT_ZONE_WITHIN);

	assert_int_equal(xf_conntrack_parse(msg, &entry), 0);
	for (unsigned gone = 0; gone < 2; gone++) {
		struct xf_conntrack_changes changes = { .any = false };

		for (unsigned i = 0; i < 2; i++)
			assert_int_equal(xf_spd_insert(f->spd, &cfgs[i], true, 0, &policies[i]), 0);
		assert_false(xf_conntrack_contradicts(&entry, &changes, f->spd));
		xf_spd_del(f->spd, policies[gone]);
		/* Not yet told of: it may be of marks, which an entry does not have. */
		assert_false(xf_conntrack_contradicts(&entry, &changes, f->spd));
		xf_conntrack_note(&changes, &cfgs[gone], false);
		assert_true(xf_conntrack_contradicts(&entry, &changes, f->spd));
		xf_spd_del(f->spd, policies[!gone]);
	}
}

/* Nothing that has not changed is touched: others' flows keep what they have. */
static void others_stay(void **state)
{
	struct fixture *f = *state;
	struct xf_policy_config cfg = make("10.1.0.0", "10.3.0.0", 16);
	struct xf_conntrack_entry with = flow(f, true);
	struct xf_conntrack_entry without = flow(f, false);

	insert(f, &cfg);
	xf_conntrack_note(&f->changes, &cfg, true);
	xf_conntrack_note(&f->changes, &cfg, false);
	assert_false(xf_conntrack_contradicts(&with, &f->changes, f->spd));
	assert_false(xf_conntrack_contradicts(&without, &f->changes, f->spd));
}

/* One that allows opens when it comes; and a mark is not known of an entry. */
static void allows_and_marks(void **state)
{
	struct fixture *f = *state;
	struct xf_policy_config allow = make("10.1.0.0", "10.2.0.0", 16);
	struct xf_policy_config marked = make("10.1.0.0", "10.2.0.0", 16);
	struct xf_conntrack_entry with = flow(f, true);
	struct xf_conntrack_entry without = flow(f, false);

	allow.ntmpl = 0;
	insert(f, &allow);
	xf_conntrack_note(&f->changes, &allow, true);
	assert_true(xf_conntrack_contradicts(&without, &f->changes, f->spd));
	assert_false(xf_conntrack_contradicts(&with, &f->changes, f->spd));
	marked.mark = (struct xf_mark){ 7, 7 };
	insert(f, &marked);
	xf_conntrack_note(&f->changes, &marked, true);
	assert_true(xf_conntrack_contradicts(&with, &f->changes, f->spd));
}

/* Many at once become a few that cover them. */
static void many(void **state)
{
	struct fixture *f = *state;
	struct xf_conntrack_entry without = flow(f, false);
	struct xf_policy_config cfg = make("10.1.0.0", "10.9.0.0", 24);

	for (unsigned i = 0; i < XF_CONNTRACK_CHANGES_MAX + 2; i++)
		xf_conntrack_note(&f->changes, &cfg, false);
	assert_false(xf_conntrack_contradicts(&without, &f->changes, f->spd));
	cfg = make("10.1.1.0", "10.2.0.0", 24);
	xf_conntrack_note(&f->changes, &cfg, false);
	assert_int_equal(f->changes.rest[0].prefixlen_s, 23);
	assert_int_equal(f->changes.rest[0].prefixlen_d, 12);
	assert_false(f->changes.has_rest[1]);
	assert_true(xf_conntrack_contradicts(&without, &f->changes, f->spd));
}

static void times(void **state)
{
	struct fixture *f = *state;
	struct xf_policy_config cfg = make("10.1.0.0", "10.2.0.0", 16);
	uint64_t first, due;

	assert_int_equal(xf_conntrack_due(&f->changes), UINT64_MAX);
	xf_conntrack_noted(&f->changes, 5);
	assert_int_equal(xf_conntrack_due(&f->changes), UINT64_MAX);
	xf_conntrack_note(&f->changes, &cfg, true);
	xf_conntrack_noted(&f->changes, XF_NSEC_PER_SEC);
	first = xf_conntrack_due(&f->changes);
	assert_true(first > XF_NSEC_PER_SEC && first < 2 * XF_NSEC_PER_SEC);
	/* Changes that go on and on put it off, but not for ever. */
	for (uint64_t ms = 1; ms < 5000; ms++)
		xf_conntrack_noted(&f->changes, XF_NSEC_PER_SEC + ms * 1000000);
	due = xf_conntrack_due(&f->changes);
	assert_true(due > first && due <= 2 * XF_NSEC_PER_SEC);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(reads),	   TEST(strict_comes_and_goes), TEST(within), TEST(within_no_more),
		TEST(others_stay), TEST(allows_and_marks),	TEST(many),   TEST(times),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
