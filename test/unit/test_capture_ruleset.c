/*
 * Policies as nftables rules: which are there, and in which order.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "capture/nft/ruleset.h"

#define CAPTURE "meta mark set meta mark | 0x40000000 counter name captured return"

struct fixture {
	struct xf_spd *spd;
	char *text;
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

	free(f->text);
	xf_spd_free(f->spd);
	free(f);
	return 0;
}

static struct xf_policy_config make(uint8_t dir, const char *saddr, const char *daddr, uint8_t len)
{
	struct xf_policy_config cfg = {
		.dir = dir,
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

	assert_int_equal(xf_spd_insert(f->spd, cfg, true, 1, &policy), 0);
}

static const char *build_by(struct fixture *f, const struct xf_cover *cover)
{
	const struct xf_sieve sieve = { .dir = XF_DIR_OUT, .by_sets = cover };
	const struct xf_ruleset_plan plan = {
		.names = &xf_io_names_default,
		.spd = f->spd,
		.sieve = { [XF_DIR_OUT] = &sieve },
		.cover = cover,
		.by_destination = cover,
		.fill = true,
		.anew = true,
	};

	free(f->text);
	f->text = NULL;
	assert_int_equal(xf_ruleset_build(&plan, &f->text), 0);
	return f->text;
}

static const char *build(struct fixture *f)
{
	return build_by(f, NULL);
}

/* Where a rule with all of @match and then @verdict starts; fails when there is none. */
static const char *find_rule(const char *text, const char *chain, const char *match,
			     const char *verdict)
{
	char rule[512];
	const char *at;

	snprintf(rule, sizeof(rule), "add rule inet xfrmd %s %s %s", chain, match, verdict);
	at = strstr(text, rule);
	if (!at)
		print_message("# there is no \"%s\"\n", rule);
	assert_non_null(at);
	return at;
}

static void test_directions(void **state)
{
	struct fixture *f = *state;
	const char *match = "meta nfproto ipv4 ip saddr 10.1.0.0/16 ip daddr 10.2.0.0/16";
	const char *text;

	for (uint8_t dir = 0; dir < XF_DIR_MAX; dir++) {
		struct xf_policy_config cfg = make(dir, "10.1.0.0", "10.2.0.0", 16);

		insert(f, &cfg);
	}
	text = build(f);
	find_rule(text, "outbound", match, CAPTURE);
	find_rule(text, "inbound", match, "counter name plaintext drop");
	find_rule(text, "forwarded", match, "counter name plaintext drop");
}

/* What is blocked has a counter of its own, and is captured like what is to be protected. */
static void test_blocks(void **state)
{
	struct fixture *f = *state;
	const char *match = "meta nfproto ipv4 ip saddr 10.1.0.0/16 ip daddr 10.2.0.0/16";
	const char *text;

	for (uint8_t dir = 0; dir < XF_DIR_MAX; dir++) {
		struct xf_policy_config cfg = make(dir, "10.1.0.0", "10.2.0.0", 16);

		cfg.action = XF_POLICY_BLOCK;
		insert(f, &cfg);
	}
	text = build(f);
	find_rule(text, "outbound", match, CAPTURE);
	find_rule(text, "inbound", match, "counter name blocked drop");
	find_rule(text, "forwarded", match, "counter name blocked drop");
	assert_null(strstr(text, "counter name plaintext"));
}

/* ICMP errors come first: no policy that allows may let them go unread. */
static void test_icmp_errors(void **state)
{
	struct fixture *f = *state;
	struct xf_ruleset_plan plan = { .names = &xf_io_names_default,
					.spd = f->spd,
					.anew = true };
	struct xf_policy_config cfg = make(XF_DIR_OUT, "10.1.0.0", "10.2.0.0", 16);
	const char *first;

	cfg.ntmpl = 0;
	insert(f, &cfg);
	assert_null(strstr(build(f), "icmp type"));
	free(f->text);
	plan.icmp_errors = true;
	assert_int_equal(xf_ruleset_build(&plan, &f->text), 0);
	first = find_rule(f->text, "outbound", "meta nfproto ipv4 ip saddr 10.1.0.0/16",
			  "ip daddr");
	assert_true(find_rule(f->text, "outbound", "icmp type { 3, 4, 5, 11, 12 }", CAPTURE) <
		    first);
	assert_true(find_rule(f->text, "outbound", "icmpv6 type { 1, 2, 3, 4 }", CAPTURE) < first);
}

/* Order is by priority, then age; an exception before what it is an exception from. */
static void test_order(void **state)
{
	struct fixture *f = *state;
	struct xf_policy_config wide = make(XF_DIR_OUT, "10.1.0.0", "10.2.0.0", 16);
	struct xf_policy_config first = make(XF_DIR_OUT, "10.1.1.0", "10.2.1.0", 24);
	struct xf_policy_config second = make(XF_DIR_OUT, "10.1.2.0", "10.2.2.0", 24);
	const char *a;
	const char *b;
	const char *c;

	wide.priority = 20;
	first.priority = second.priority = 10;
	first.ntmpl = 0;
	insert(f, &wide);
	insert(f, &first);
	insert(f, &second);
	build(f);
	a = find_rule(f->text, "outbound",
		      "meta nfproto ipv4 ip saddr 10.1.1.0/24 ip daddr 10.2.1.0/24", "return");
	b = find_rule(f->text, "outbound",
		      "meta nfproto ipv4 ip saddr 10.1.2.0/24 ip daddr 10.2.2.0/24", CAPTURE);
	c = find_rule(f->text, "outbound",
		      "meta nfproto ipv4 ip saddr 10.1.0.0/16 ip daddr 10.2.0.0/16", CAPTURE);
	assert_true(a < b && b < c);
}

/* What cannot be matched exactly may protect too much and must not allow too much. */
static void test_inexact(void **state)
{
	struct fixture *f = *state;
	struct xf_policy_config cfg = make(XF_DIR_OUT, "fd01::", "fd02::", 64);

	cfg.sel.proto = XF_IPPROTO_GRE;
	cfg.sel.sport = 7;
	cfg.sel.sport_mask = 0xffff;
	insert(f, &cfg);
	cfg.sel.sport = 8;
	cfg.ntmpl = 0;
	insert(f, &cfg);
	build(f);
	find_rule(f->text, "outbound",
		  "meta nfproto ipv6 ip6 saddr fd01::/64 ip6 daddr fd02::/64 meta l4proto 47",
		  CAPTURE);
	assert_null(strstr(f->text, "meta l4proto 47 return"));
}

/* A policy with ports: fragments behind the first, which have none, are taken along. */
static void test_ports(void **state)
{
	struct fixture *f = *state;
	struct xf_policy_config cfg = make(XF_DIR_OUT, "10.1.0.0", "10.2.0.0", 16);
	const char *addrs = "meta nfproto ipv4 ip saddr 10.1.0.0/16 ip daddr 10.2.0.0/16 "
			    "meta l4proto 17";
	char match[256];

	cfg.sel.proto = XF_IPPROTO_UDP;
	cfg.sel.dport = 0x1200;
	cfg.sel.dport_mask = 0xff00;
	cfg.mark.v = 1;
	cfg.mark.m = 3;
	insert(f, &cfg);
	build(f);
	snprintf(match, sizeof(match), "ip frag-off & 0x3fff != 0 %.*s meta mark & 0x3 == 0x1 %s",
		 (int)(strlen(addrs) - strlen(" meta l4proto 17")), addrs, "meta l4proto 17");
	find_rule(f->text, "outbound", match, CAPTURE);
	assert_non_null(strstr(f->text, "th dport & 0xff00 == 0x1200 " CAPTURE));
}

/* A required template forbids plaintext, an optional one does not. */
static void test_optional(void **state)
{
	struct fixture *f = *state;
	struct xf_policy_config cfg = make(XF_DIR_IN, "10.1.0.0", "10.2.0.0", 16);

	cfg.tmpl[0].optional = true;
	insert(f, &cfg);
	build(f);
	find_rule(f->text, "inbound", "meta nfproto ipv4 ip saddr 10.1.0.0/16 ip daddr 10.2.0.0/16",
		  "return");
}

static void test_if_id(void **state)
{
	struct fixture *f = *state;
	struct xf_policy_config cfg = make(XF_DIR_OUT, "10.1.0.0", "10.2.0.0", 16);

	cfg.if_id = 5;
	insert(f, &cfg);
	assert_null(strstr(build(f), "10.1.0.0"));
}

/* Destinations alone: a set for each length, with what is longer cut to it. */
static void test_cover(void **state)
{
	struct fixture *f = *state;
	struct xf_policy_config cfg = make(XF_DIR_OUT, "10.1.0.0", "10.2.0.0", 32);
	struct xf_policy_config in = make(XF_DIR_IN, "10.3.0.0", "10.4.0.0", 16);
	struct xf_policy_config six = make(XF_DIR_OUT, "fd01::", "fd02::", 66);
	struct xf_cover cover = { .failed = false };

	insert(f, &cfg);
	insert(f, &in);
	xf_cover_change(&cover, &cfg.sel, true);
	xf_cover_change(&cover, &six.sel, true);
	cfg.sel.prefixlen_d = 30;
	xf_put_be32(cfg.sel.daddr.bytes, 0x0a0202fc);
	xf_cover_change(&cover, &cfg.sel, true);
	build_by(f, &cover);
	assert_null(strstr(f->text, "ip saddr 10.1.0.0"));
	assert_non_null(strstr(f->text, "add element inet xfrmd dst4_32_0 { 10.2.0.0 }"));
	assert_non_null(strstr(f->text, "add element inet xfrmd dst4_28_0 { 10.2.2.240 }"));
	assert_non_null(strstr(f->text, "add element inet xfrmd dst6_64_0 { fd02:: }"));
	assert_null(strstr(f->text, "@dst4_24_0"));
	find_rule(f->text, "outbound", "ip daddr @dst4_32_0", CAPTURE);
	find_rule(f->text, "outbound", "ip daddr & 255.255.255.240 @dst4_28_0", CAPTURE);
	find_rule(f->text, "outbound", "ip6 daddr & ffff:ffff:ffff:ffff:: @dst6_64_0", CAPTURE);
	find_rule(f->text, "inbound", "meta nfproto ipv4 ip saddr 10.3.0.0/16", "");
	cfg.sel.prefixlen_d = 3;
	xf_cover_change(&cover, &cfg.sel, true);
	find_rule(build_by(f, &cover), "outbound", "meta nfproto ipv4", CAPTURE);
	xf_cover_fini(&cover);
}

/* A rule that counts by a name which is not declared would fail the whole script. */
static void test_counters(void **state)
{
	struct fixture *f = *state;
	const struct xf_policy_config cfg = make(XF_DIR_OUT, "10.1.0.0", "10.2.0.0", 16);
	const char *at;
	unsigned used = 0;

	insert(f, &cfg);
	build_by(f, NULL);
	for (at = f->text; (at = strstr(at, "counter name ")); used++) {
		char line[96];

		at += strlen("counter name ");
		snprintf(line, sizeof(line), "add counter inet xfrmd %.*s\n",
			 (int)strcspn(at, " \n"), at);
		assert_non_null(strstr(f->text, line));
		assert_true(strstr(f->text, line) < at);
	}
	assert_true(used > 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_directions),	TEST(test_order),    TEST(test_inexact), TEST(test_ports),
		TEST(test_optional),	TEST(test_if_id),    TEST(test_cover),	 TEST(test_blocks),
		TEST(test_icmp_errors), TEST(test_counters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
