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

#include "capture/nft/nft_sets.h"
#include "capture/policy_order.h"
#include "capture/nft/ruleset.h"

struct fixture {
	struct xf_spd *spd;
	struct xf_sieve sieve;
	struct xf_nft_set *sets; /* the sieve's kinds as the rules know them */
};

struct packet {
	union xf_addr addr[2];
	uint16_t port[2]; /* type and code of ICMP; a fragment behind the first has none */
	uint8_t proto;
	uint32_t mark;
	bool piece;
	bool first; /* piece */
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

static uint8_t draw_proto(void)
{
	static const uint8_t protos[] = { XF_IPPROTO_UDP, XF_IPPROTO_TCP, XF_IPPROTO_ICMP };

	return protos[draw(3)];
}

/* Three ports, one of them in a range with another; or two types or codes. */
static uint16_t draw_port(uint8_t proto)
{
	static const uint16_t ports[] = { 80, 0x1000, 0x1001 };

	return proto == XF_IPPROTO_ICMP ? (uint16_t)draw(2) : ports[draw(3)];
}

static void draw_ports(struct xf_selector *sel)
{
	static const uint16_t masks[] = { 0, 0, UINT16_MAX, 0xff00 };

	sel->proto = draw_proto();
	sel->sport_mask = masks[draw(sel->proto == XF_IPPROTO_ICMP ? 3 : 4)];
	sel->dport_mask = masks[draw(sel->proto == XF_IPPROTO_ICMP ? 3 : 4)];
	sel->sport = draw_port(sel->proto) & sel->sport_mask;
	sel->dport = draw_port(sel->proto) & sel->dport_mask;
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
			 .prefixlen_d = lens[draw(8)] },
	};
	struct xf_policy_id id;
	struct xf_policy *policy;

	if (draw(2))
		draw_ports(&cfg.sel);
	if (draw(3) == 0)
		cfg.mark = (struct xf_mark){ .v = draw(4), .m = draw(2) ? 3 : UINT32_MAX };
	draw_addr(&cfg.sel.saddr);
	draw_addr(&cfg.sel.daddr);
	xf_cell_mask(&cfg.sel.saddr, cfg.sel.prefixlen_s);
	xf_cell_mask(&cfg.sel.daddr, cfg.sel.prefixlen_d);
	id = (struct xf_policy_id){
		.sel = cfg.sel, .mark = cfg.mark, .dir = cfg.dir, .type = cfg.type
	};
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
	f->sets = realloc(f->sets, (f->sieve.nkinds + 1) * sizeof(*f->sets));
	assert_non_null(f->sets);
	for (unsigned i = 0; i < f->sieve.nkinds; i++)
		xf_nft_set_of_sieve(&f->sets[i], &f->sieve, i);
	return text;
}

/* --- the kernel --- */

/* The kernel's sets hold what a rule has put together, field by field. */
struct lookup {
	struct xf_cell_key key;
	bool found;
};

static void look_at(void *arg, struct xf_cell *cell)
{
	struct lookup *lookup = arg;

	lookup->found |= memcmp(&cell->key, &lookup->key, sizeof(cell->key)) == 0;
}

/* Fields that @key has. */
enum field { SADDR = 1, DADDR = 2, PROTO = 4, SPORT = 8, DPORT = 16, MARK = 32 };

static unsigned fields_of(const struct xf_nft_set *set)
{
	unsigned fields = 0;

	for (unsigned i = 0; i < set->n; i++)
		fields |= set->from[i] ? DADDR : SADDR;
	return fields | (set->mark_mask ? MARK : 0u) | (set->proto ? PROTO : 0u) |
	       (set->port_mask[0] ? SPORT : 0u) | (set->port_mask[1] ? DPORT : 0u);
}

static bool is_in_set(const struct fixture *f, const char *name, const struct xf_cell_key *key,
		      unsigned fields)
{
	struct lookup lookup = { .key = *key };

	for (unsigned i = 0; i < f->sieve.nkinds; i++) {
		if (!f->sieve.kinds[i].cells || strcmp(f->sets[i].name, name) != 0)
			continue;
		assert_int_equal(fields, fields_of(&f->sets[i]));
		lookup.key.set = (uint16_t)i;
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

/* "th sport", "th dport": of ICMP type and code are in the first one, a checksum is the other. */
static uint16_t port_of(const struct packet *p, unsigned side)
{
	if (p->proto != XF_IPPROTO_ICMP)
		return p->port[side];
	return (uint16_t)(side ? 0xbeef : p->port[0] << 8 | p->port[1]);
}

/* The mask of "& MASK ", if there is one, of so many bits at most. */
static uint32_t read_mask(char **word, char **rest, bool is_addr)
{
	union xf_addr mask;
	char *text;

	if (**word != '&')
		return UINT32_MAX;
	text = next(rest);
	*word = next(rest);
	if (!is_addr)
		return (uint32_t)strtoul(text, NULL, 16);
	assert_int_equal(xf_addr_parse(text, &mask), XF_AF_INET);
	return mask.v4_be;
}

/*
 * "ip saddr & 255.0.0.0 . meta mark & 0x3 . meta l4proto . th dport & 0xff00 @set", of which @word
 * is the first word. Behind the first fragment there are no ports: such a packet is not in the set.
 */
static bool match_set(const struct fixture *f, const struct packet *p, char *word, char **rest)
{
	struct xf_cell_key key = { .proto = 0 };
	bool has_ports = true;
	unsigned fields = 0;

	for (;; word = next(rest)) {
		bool is_addr = strcmp(word, "ip") == 0;
		char *what = next(rest);
		unsigned side = what[0] == 'd';

		word = next(rest);
		if (is_addr) {
			fields |= side ? DADDR : SADDR;
			key.addr[side].v4_be = p->addr[side].v4_be & read_mask(&word, rest, true);
		} else if (strcmp(what, "l4proto") == 0) {
			fields |= PROTO;
			key.proto = p->proto;
		} else if (strcmp(what, "mark") == 0) {
			fields |= MARK;
			key.mark = p->mark & read_mask(&word, rest, false);
		} else {
			fields |= side ? DPORT : SPORT;
			has_ports = !p->piece || p->first;
			key.port[side] =
				(uint16_t)(port_of(p, side) & read_mask(&word, rest, false));
		}
		if (*word == '@')
			return is_in_set(f, word + 1, &key, fields) && has_ports;
		assert_string_equal(word, ".");
	}
}

/* "saddr 10.0.0.0/8" */
static bool match_prefix(const struct packet *p, const char *side, char *prefix)
{
	char *slash = strchr(prefix, '/');
	union xf_addr addr;

	assert_non_null(slash);
	*slash = '\0';
	assert_int_equal(xf_addr_parse(prefix, &addr), XF_AF_INET);
	return xf_addr_prefix_match(&p->addr[side[0] == 'd'], &addr, (uint8_t)atoi(slash + 1));
}

/* "dport 80", "dport & 0xff00 == 0x1000" */
static bool match_port(const struct packet *p, char **rest)
{
	uint16_t port = port_of(p, *next(rest) == 'd');
	char *word = next(rest);
	uint32_t mask = UINT16_MAX;

	if (*word == '&') {
		mask = read_mask(&word, rest, false);
		assert_string_equal(word, "==");
		word = next(rest);
	}
	return (!p->piece || p->first) && (port & mask) == strtoul(word, NULL, 0);
}

/* "mark & 0x3 == 0x1" */
static bool match_mark(const struct packet *p, char **rest)
{
	char *word = next(rest);
	uint32_t mask = read_mask(&word, rest, false);

	assert_string_equal(word, "==");
	return (p->mark & mask) == strtoul(next(rest), NULL, 0);
}

/* Does the rest of the rule look into a set, rather than compare? */
static bool looks_into_set(const char *rest)
{
	return strstr(rest, "@in4");
}

/* Of the last rule that dropped: is its counter that of policies that block? */
static bool counted_as_blocked;

/* Behind "add rule inet xfrmd inbound". 1: drop, 0: return, -1: no match. */
static int run_rule(const struct fixture *f, const struct packet *p, char *line)
{
	char *rest;

	for (char *word = strtok_r(line, " ", &rest);; word = next(&rest)) {
		bool matches = true;

		if (strcmp(word, "counter") == 0) {
			next(&rest);
			counted_as_blocked = strcmp(next(&rest), "blocked") == 0;
			return 1;
		}
		if (strcmp(word, "return") == 0)
			return 0;
		if (strncmp(rest, "frag-off ", 9) == 0) {
			for (unsigned i = 0; i < 5; i++)
				next(&rest); /* frag-off & 0x3fff != 0 */
			matches = p->piece;
		} else if (strncmp(rest, "nfproto ", 8) == 0) {
			next(&rest);
			assert_string_equal(next(&rest), "ipv4");
		} else if (looks_into_set(rest)) {
			matches = match_set(f, p, word, &rest);
		} else if (strcmp(word, "ip") == 0) {
			char *side = next(&rest);

			matches = match_prefix(p, side, next(&rest));
		} else if (strcmp(word, "th") == 0) {
			matches = match_port(p, &rest);
		} else if (strncmp(word, "@th,", 4) == 0) { /* "@th,8,8 1" */
			matches = (!p->piece || p->first) &&
				  p->port[word[4] == '8'] == atoi(next(&rest));
		} else if (strcmp(next(&rest), "mark") == 0) {
			matches = match_mark(p, &rest);
		} else {
			assert_string_equal(word, "meta");
			matches = atoi(next(&rest)) == p->proto;
		}
		if (!matches)
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

/* What has no ports is dropped by any ports, and let pass by none. */
static bool match_ports(const struct xf_policy_config *cfg, const struct packet *p)
{
	const struct xf_selector *sel = &cfg->sel;

	if (!sel->sport_mask && !sel->dport_mask)
		return true;
	if (p->piece && xf_policy_is_strict(cfg))
		return true;
	return (!p->piece || p->first) && (p->port[0] & sel->sport_mask) == sel->sport &&
	       (p->port[1] & sel->dport_mask) == sel->dport;
}

static bool matches(const struct xf_policy_config *cfg, const struct packet *p)
{
	const struct xf_selector *sel = &cfg->sel;

	return xf_addr_prefix_match(&p->addr[0], &sel->saddr, sel->prefixlen_s) &&
	       xf_addr_prefix_match(&p->addr[1], &sel->daddr, sel->prefixlen_d) &&
	       (p->mark & cfg->mark.m) == cfg->mark.v && (!sel->proto || sel->proto == p->proto) &&
	       match_ports(cfg, p);
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

/* Is there a policy that drops @p and has that counter? Between those that allow, any may. */
static bool counter_fits(const struct fixture *f, const struct packet *p)
{
	struct xf_policy_list list;
	bool fits = false;

	assert_int_equal(xf_policy_list_get(f->spd, XF_DIR_IN, NULL, &list), 0);
	for (size_t i = 0; i < list.n; i++) {
		const struct xf_policy_config *cfg = xf_policy_cfg(list.policy[i]);

		fits |= xf_policy_is_strict(cfg) && matches(cfg, p) &&
			(cfg->action == XF_POLICY_BLOCK) == counted_as_blocked;
	}
	xf_policy_list_free(&list);
	return fits;
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
			struct packet p = { .proto = draw_proto(),
					    .mark = draw(4),
					    .piece = draw(4) == 0,
					    .first = draw(2) };
			bool want;

			p.port[0] = draw_port(p.proto);
			p.port[1] = draw_port(p.proto);
			draw_addr(&p.addr[0]);
			draw_addr(&p.addr[1]);
			want = policies_drop(&f, &p);
			dropped += want;
			if (kernel_drops(&f, text, &p) != want)
				fail_msg("round %u: want %d of\n%s", round, want, text);
			if (want && !counter_fits(&f, &p))
				fail_msg("round %u: another's counter in\n%s", round, text);
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
	assert_int_equal(f.sieve.simple + f.sieve.allows.n, 0);
	assert_int_equal(f.sieve.cells.count, 0);
	xf_spd_free(f.spd);
	xf_sieve_fini(&f.sieve);
	free(f.sets);
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
