/*
 * Rules and sets against plaintext: read as the kernel would, beside the policies in their order.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <xf/rcu.h>

#include "io/nft_sets.h"
#include "io/policies.h"
#include "io/ruleset.h"

struct fixture {
	struct xf_spd *spd;
	struct xf_sieve sieve;
};

struct packet {
	union xf_addr addr[2];
	uint8_t proto;
};

/* Always the same. */
static uint32_t draw(uint32_t below)
{
	return (uint32_t)random() % below;
}

/* Few bits differ, so that policies overlap and packets match. */
static void draw_addr(union xf_addr *addr)
{
	memset(addr, 0, sizeof(*addr));
	xf_put_be32(addr->bytes, draw(4) << 28 | draw(4) << 14 | draw(4));
}

static void watch(void *arg, const struct xf_policy *policy, bool there)
{
	struct fixture *f = arg;

	xf_sieve_change(&f->sieve, policy, there);
}

static void change_something(struct fixture *f)
{
	static const uint8_t lens[] = { 0, 4, 18, 18, 18, 32, 32, 32 };
	struct xf_policy_config cfg = {
		.dir = XF_DIR_IN,
		.life = { XF_INF, XF_INF, XF_INF, XF_INF, 0, 0, 0, 0 },
		.type = draw(8) ? XF_POLICY_MAIN : XF_POLICY_SUB,
		.priority = draw(4),
		.action = draw(3) == 0 ? XF_POLICY_BLOCK : XF_POLICY_ALLOW,
		.ntmpl = (uint8_t)draw(2),
		.sel = { .family = XF_AF_INET,
			 .prefixlen_s = lens[draw(8)],
			 .prefixlen_d = lens[draw(8)],
			 .proto = draw(6) ? 0 : XF_IPPROTO_UDP },
	};
	struct xf_policy_id id;
	struct xf_policy *policy;

	draw_addr(&cfg.sel.saddr);
	draw_addr(&cfg.sel.daddr);
	xf_cell_mask(&cfg.sel.saddr, cfg.sel.prefixlen_s);
	xf_cell_mask(&cfg.sel.daddr, cfg.sel.prefixlen_d);
	id = (struct xf_policy_id){ .sel = cfg.sel, .dir = cfg.dir, .type = cfg.type };
	policy = xf_spd_find(f->spd, &id);
	if (policy && draw(2))
		xf_spd_del(f->spd, policy);
	else
		assert_int_equal(xf_spd_insert(f->spd, &cfg, false, 1, &policy), 0);
}

static bool tell(void *arg, struct xf_policy *policy)
{
	struct fixture *f = arg;

	if (xf_sieve_is_simple(xf_policy_cfg(policy)))
		xf_sieve_change(&f->sieve, policy, true);
	return true;
}

/* As capture.c: what changed segments is told again, and all sets are in the kernel. */
static char *settle(struct fixture *f)
{
	const struct xf_ruleset_plan plan = {
		.names = &xf_io_names_default,
		.spd = f->spd,
		.sieve = { [XF_DIR_IN] = &f->sieve },
		.dirs = { [XF_DIR_IN] = true },
	};
	uint64_t cursor = 0;
	char *text;

	if (f->sieve.restart) {
		xf_sieve_restart(&f->sieve);
		xf_spd_walk(f->spd, &cursor, tell, f);
	}
	f->sieve.by_sets = true;
	assert_int_equal(xf_ruleset_build(&plan, &text), 0);
	xf_cells_settled(&f->sieve.cells);
	return text;
}

/* --- the kernel --- */

struct lookup {
	const union xf_addr *key;
	unsigned n;
	uint8_t from[2];
	uint16_t set;
	bool found;
};

static void look_at(void *arg, struct xf_cell *cell)
{
	struct lookup *lookup = arg;
	bool same = cell->set == lookup->set;

	for (unsigned i = 0; i < lookup->n; i++)
		same = same && cell->addr[lookup->from[i]].v4_be == lookup->key[i].v4_be;
	lookup->found = lookup->found || same;
}

static bool is_in_set(const struct fixture *f, const char *name, const union xf_addr *key)
{
	struct lookup lookup = { .key = key };

	for (unsigned i = 0; i < f->sieve.nkinds; i++) {
		struct xf_nft_set set;

		xf_nft_set_of_sieve(&set, &f->sieve, i);
		if (!f->sieve.kinds[i].cells || strcmp(set.name, name) != 0)
			continue;
		lookup.set = (uint16_t)i;
		lookup.n = set.n;
		memcpy(lookup.from, set.from, sizeof(set.from));
		xf_cells_each(&f->sieve.cells, look_at, &lookup);
		return lookup.found;
	}
	fail_msg("a rule looks into %s, which is not there", name);
	return false;
}

static char *next(char **rest)
{
	char *word = strtok_r(NULL, " ", rest);

	assert_non_null(word);
	return word;
}

/* "saddr 10.0.0.0/8", "saddr & 255.0.0.0 . ip daddr @set", "saddr @set" */
static bool match_address(const struct fixture *f, const struct packet *p, char **rest)
{
	union xf_addr key[2];
	unsigned n = 0;

	for (;;) {
		union xf_addr addr = p->addr[strcmp(next(rest), "daddr") == 0], other;
		char *word = next(rest);
		char *slash = strchr(word, '/');

		if (slash) {
			*slash = '\0';
			assert_int_equal(xf_addr_parse(word, &other), XF_AF_INET);
			return xf_addr_prefix_match(&addr, &other, (uint8_t)atoi(slash + 1));
		}
		if (*word == '&') {
			assert_int_equal(xf_addr_parse(next(rest), &other), XF_AF_INET);
			addr.v4_be &= other.v4_be;
			word = next(rest);
		}
		key[n++] = addr;
		if (*word == '@')
			return is_in_set(f, word + 1, key);
		assert_string_equal(word, ".");
		assert_string_equal(next(rest), "ip");
	}
}

/* Behind "add rule inet xfrmd inbound". 1: drop, 0: return, -1: no match. */
static int run_rule(const struct fixture *f, const struct packet *p, char *line)
{
	char *rest;

	for (char *word = strtok_r(line, " ", &rest);; word = next(&rest)) {
		if (strcmp(word, "counter") == 0)
			return 1;
		if (strcmp(word, "return") == 0)
			return 0;
		if (strcmp(word, "ip") == 0) {
			if (!match_address(f, p, &rest))
				return -1;
			continue;
		}
		assert_string_equal(word, "meta");
		if (strcmp(next(&rest), "nfproto") == 0)
			assert_string_equal(next(&rest), "ipv4");
		else if (atoi(next(&rest)) != p->proto)
			return -1;
	}
}

static bool kernel_drops(const struct fixture *f, const char *text, const struct packet *p)
{
	static const char head[] = "add rule inet xfrmd inbound ";
	char *copy = strdup(text);
	char *rest;
	int verdict = -1;

	for (char *line = strtok_r(copy, "\n", &rest); line && verdict < 0;
	     line = strtok_r(NULL, "\n", &rest)) {
		if (strncmp(line, head, sizeof(head) - 1) == 0)
			verdict = run_rule(f, p, line + sizeof(head) - 1);
	}
	free(copy);
	return verdict == 1;
}

/* --- the policies --- */

static bool matches(const struct xf_policy_config *cfg, const struct packet *p)
{
	const struct xf_selector *sel = &cfg->sel;

	return xf_addr_prefix_match(&p->addr[0], &sel->saddr, sel->prefixlen_s) &&
	       xf_addr_prefix_match(&p->addr[1], &sel->daddr, sel->prefixlen_d) &&
	       (!sel->proto || sel->proto == p->proto);
}

static bool policies_drop(const struct fixture *f, const struct packet *p)
{
	struct xf_policy_list list;
	bool drops = false;

	assert_int_equal(xf_policy_list_get(f->spd, XF_DIR_IN, NULL, &list), 0);
	for (size_t i = 0; i < list.n; i++) {
		const struct xf_policy_config *cfg = xf_policy_cfg(list.policy[i]);

		drops = xf_policy_is_strict(cfg);
		if (matches(cfg, p) && (drops || xf_policy_allows(cfg)))
			break;
		drops = false;
	}
	xf_policy_list_free(&list);
	return drops;
}

static void set_up(struct fixture *f)
{
	const struct xf_spd_config cfg = { .seed = { 1, 2 }, .watch = watch, .watch_arg = f };

	*f = (struct fixture){ .sieve = { .dir = XF_DIR_IN } };
	f->spd = xf_spd_new(&cfg);
	assert_non_null(f->spd);
}

static void flush(struct fixture *f)
{
	for (uint8_t type = 0; type < XF_POLICY_TYPE_MAX; type++)
		xf_spd_flush(f->spd, type);
}

static void test_model(void **unused)
{
	unsigned dropped = 0;
	struct fixture f;

	(void)unused;
	set_up(&f);
	for (unsigned round = 0; round < 1500; round++) {
		char *text;

		for (unsigned n = 1 + draw(round % 50 ? 4 : 40); n > 0; n--)
			change_something(&f);
		text = settle(&f);
		for (unsigned n = 0; n < 10; n++) {
			struct packet p = { .proto = draw(2) ? XF_IPPROTO_UDP : XF_IPPROTO_TCP };
			bool want;

			draw_addr(&p.addr[0]);
			draw_addr(&p.addr[1]);
			want = policies_drop(&f, &p);
			dropped += want;
			if (kernel_drops(&f, text, &p) != want)
				fail_msg("round %u: want %d of\n%s", round, want, text);
		}
		free(text);
		if (round % 20 == 19)
			flush(&f);
		xf_rcu_drain();
	}
	print_message("# %u of 15000 packets are dropped\n", dropped);
	assert_in_range(dropped, 1000, 14000);
	flush(&f);
	free(settle(&f));
	assert_int_equal(f.sieve.simple + f.sieve.nranks, 0);
	assert_int_equal(f.sieve.cells.count, 0);
	xf_spd_free(f.spd);
	xf_sieve_fini(&f.sieve);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),
	};
	int failed;

	xf_read_register();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	xf_read_unregister();
	return failed;
}
