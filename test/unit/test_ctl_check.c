/* What xfrmctl check reads from JSON and from files: each shape, found or passed over. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include <xf/base.h>

#include "ctl/check.h"

static void set_up(struct xf_check *check)
{
	*check = (struct xf_check){ .findings = json_array(),
				    .tun = "xfrmd0",
				    .mark_capture = 0x40000000,
				    .mark_bypass = 0x20000000,
				    .in = 1,
				    .fwd = 1 };
}

/* The names of what was found, each followed by a space. */
static void names_of(struct xf_check *check, char *text, size_t size)
{
	json_t *finding;
	size_t i;

	*text = '\0';
	json_array_foreach(check->findings, i, finding)
	{
		size_t len = strlen(text);

		snprintf(text + len, size - len, "%s ", xf_ctl_text(finding, "id"));
	}
	json_decref(check->findings);
}

#define LIST(items) "{\"nftables\": [" items "]}"
#define CHAIN(family, table, hook, policy)                             \
	"{\"chain\": {\"family\": \"" family "\", \"table\": \"" table \
	"\", \"name\": \"c\", \"hook\": \"" hook "\", \"policy\": \"" policy "\"}}"
#define FLOWTABLE(family)                                                 \
	"{\"flowtable\": {\"family\": \"" family "\", \"table\": \"t\", " \
	"\"name\": \"f\", \"hook\": \"ingress\", \"prio\": 0, \"dev\": [\"a\"]}}"
#define RULE(family, table, expr)                                       \
	", {\"rule\": {\"family\": \"" family "\", \"table\": \"" table \
	"\", \"chain\": \"c\", \"expr\": [" expr "]}}"
#define FIB_BY(flags, op, right)                                                      \
	"{\"match\": {\"op\": \"" op "\", \"left\": {\"fib\": {\"result\": \"oif\", " \
	"\"flags\": [\"saddr\", " flags "]}}, \"right\": " right "}}, "
#define FIB(op, right) FIB_BY("\"iif\"", op, right)
#define IIF(op, name)                                                                     \
	"{\"match\": {\"op\": \"" op "\", \"left\": {\"meta\": {\"key\": \"iifname\"}}, " \
	"\"right\": \"" name "\"}}"
#define MARK(right)                                                                \
	"{\"match\": {\"op\": \"==\", \"left\": {\"meta\": {\"key\": \"mark\"}}, " \
	"\"right\": " right "}}"
#define SET(key, value) \
	"{\"mangle\": {\"key\": {\"" key "\": {\"key\": \"mark\"}}, \"value\": " value "}}"
#define PRE CHAIN("inet", "t", "prerouting", "accept")
#define DROP "{\"drop\": null}"

static const struct {
	const char *text;
	const char *found;
} shapes[] = {
	{ LIST(""), "" },
	{ LIST(CHAIN("ip", "t", "forward", "drop")), "forward " },
	{ LIST(FLOWTABLE("ip")), "flowtable " },
	{ LIST(FLOWTABLE("inet") ", " FLOWTABLE("ip6")), "flowtable flowtable " },
	{ LIST(FLOWTABLE("bridge")), "" },
	{ LIST(CHAIN("ip6", "t", "input", "drop")), "input " },
	{ LIST(CHAIN("bridge", "t", "input", "drop")), "" },
	{ LIST(CHAIN("inet", "t", "output", "drop")), "" },
	{ LIST(CHAIN("inet", "xfrmd", "forward", "drop")), "" },
	{ LIST(CHAIN("ip", "xfrmd", "forward", "drop")), "forward " },
	{ LIST(CHAIN("ip", "t", "forward", "drop")
		       RULE("ip", "t", IIF("==", "xfrmd0") ", {\"accept\": null}")),
	  "" },
	{ LIST(CHAIN("ip", "t", "forward", "drop")
		       RULE("ip6", "t", IIF("==", "xfrmd0") ", {\"accept\": null}")),
	  "forward " },
	{ LIST(CHAIN("ip", "t", "forward", "drop")
		       RULE("ip", "t", IIF("==", "xfrmd01") ", {\"accept\": null}")),
	  "forward " },
	{ LIST(CHAIN("ip", "t", "forward", "drop")
		       RULE("ip", "t", IIF("==", "xfrm*") ", {\"accept\": null}")),
	  "" },
	{ LIST(CHAIN("ip", "t", "forward", "drop")
		       RULE("ip", "t", IIF("==", "xfrme*") ", {\"accept\": null}")),
	  "forward " },
	/* By its last rule, which asks for nothing. */
	{ LIST(CHAIN("ip", "t", "input", "accept") RULE("ip", "t", DROP)), "input " },
	{ LIST(CHAIN("ip", "t", "input", "accept")
		       RULE("ip", "t", "{\"limit\": {\"rate\": 5}}, " DROP)),
	  "" },
	{ LIST(CHAIN("ip", "t", "input", "accept") RULE("ip", "t", IIF("==", "eth0") ", " DROP)),
	  "" },
	{ LIST(CHAIN("ip", "t", "input", "accept") RULE("ip", "t", DROP)
		       RULE("ip", "t", "{\"accept\": null}")),
	  "" },
	{ LIST(PRE RULE("inet", "t", FIB("==", "false") DROP)), "fib " },
	{ LIST(PRE RULE("inet", "t", FIB("==", "\"0\"") DROP)), "fib " },
	{ LIST(PRE RULE("inet", "t", FIB("==", "0") DROP)), "fib " },
	{ LIST(PRE RULE("inet", "t", FIB("!=", "true") DROP)), "fib " },
	/* firewalld's: our bit is in the mark by then. */
	{ LIST(PRE RULE("inet", "t", FIB_BY("\"mark\", \"iif\"", "==", "false") DROP)), "" },
	{ LIST(PRE RULE("inet", "t", FIB("!=", "false") DROP)), "" },
	{ LIST(PRE RULE("inet", "t", FIB("==", "true") DROP)), "" },
	{ LIST(PRE RULE("inet", "t", IIF("==", "eth0") ", " FIB("==", "false") DROP)), "" },
	{ LIST(PRE RULE("inet", "t", IIF("!=", "eth0") ", " FIB("==", "false") DROP)), "fib " },
	/* An exception behind it comes too late. */
	{ LIST(PRE RULE("inet", "t", FIB("==", "false") DROP)
		       RULE("inet", "t", IIF("==", "xfrmd0") ", {\"accept\": null}")),
	  "fib " },
	{ LIST(PRE RULE("inet", "t", IIF("==", "xfrmd0") ", {\"accept\": null}")
		       RULE("inet", "t", FIB("==", "false") DROP)),
	  "" },
	{ LIST(PRE RULE("inet", "t", MARK("1073741824"))), "mark " },
	{ LIST(PRE RULE("inet", "t", MARK("1"))), "" },
	{ LIST(PRE RULE("inet", "t", MARK("{\"prefix\": {\"addr\": 0, \"len\": 1}}"))), "" },
	{ LIST(PRE RULE("inet", "t", MARK("{\"prefix\": {\"addr\": 0, \"len\": 2}}"))), "mark " },
	{ LIST(PRE RULE("inet", "t", MARK("{\"prefix\": {\"addr\": 0, \"len\": 0}}"))), "" },
	{ LIST(PRE RULE("inet", "t", SET("ct", "536870912"))), "mark " },
	{ LIST(PRE RULE("inet", "t", SET("meta", "{\"ct\": {\"key\": \"mark\"}}"))), "" },
	{ LIST(PRE RULE("inet", "t",
			SET("meta", "{\"|\": [{\"&\": [{\"meta\": {\"key\": \"mark\"}}, "
				    "4294967294]}, 1]}"))),
	  "" },
	{ LIST(PRE RULE("inet", "t",
			SET("meta", "{\"^\": [{\"meta\": {\"key\": \"mark\"}}, "
				    "1610612736]}"))),
	  "mark " },
	{ "{\"nftables\": [1, {\"rule\": 2}, {\"chain\": {}}, {\"rule\": {\"family\": "
	  "\"ip\", "
	  "\"expr\": [{\"match\": 1}, 2, {\"mangle\": []}]}}]}",
	  "" },
	{ "[]", "" },
};

static void rulesets(void **state)
{
	(void)state;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(shapes); i++) {
		json_t *ruleset = json_loads(shapes[i].text, 0, NULL);
		struct xf_check check;
		char found[200];

		print_message("# %u\n", i);
		assert_non_null(ruleset);
		set_up(&check);
		xf_check_ruleset(&check, ruleset);
		names_of(&check, found, sizeof(found));
		assert_string_equal(found, shapes[i].found);
		json_decref(ruleset);
	}
}

/* Without policies in and fwd, no chain keeps anything out that matters. */
static void chains_matter_by_policies(void **state)
{
	json_t *ruleset = json_loads(
		LIST(CHAIN("ip", "t", "forward", "drop") "," CHAIN("ip", "t", "input", "drop")), 0,
		NULL);
	struct xf_check check;
	char found[200];

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		set_up(&check);
		check.in = i & 1;
		check.fwd = i >> 1;
		xf_check_ruleset(&check, ruleset);
		names_of(&check, found, sizeof(found));
		assert_int_equal(strstr(found, "input ") != NULL, i & 1);
		assert_int_equal(strstr(found, "forward ") != NULL, i >> 1);
	}
	json_decref(ruleset);
}

#define NAT(expr) LIST(POST("inet") RULE("inet", "t", expr))
#define POST(family) CHAIN(family, "t", "postrouting", "accept")
#define MASQUERADE "{\"masquerade\": null}"
#define SNAT "{\"snat\": {\"addr\": \"192.0.2.1\"}}"
#define NFPROTO(op, name)                                                                 \
	"{\"match\": {\"op\": \"" op "\", \"left\": {\"meta\": {\"key\": \"nfproto\"}}, " \
	"\"right\": \"" name "\"}}, "
#define SADDR(protocol)                                                                   \
	"{\"match\": {\"op\": \"==\", \"left\": {\"payload\": {\"protocol\": \"" protocol \
	"\", \"field\": \"saddr\"}}, \"right\": \"x\"}}, "

/* Whose source NAT is seen: of IPv4, of IPv6. */
static void source_nat(void **state)
{
	static const struct {
		const char *text;
		bool seen[2];
	} table[] = {
		{ NAT(MASQUERADE), { true, true } },
		{ NAT(SNAT), { true, true } },
		{ NAT("{\"counter\": null}, " MASQUERADE), { true, true } },
		{ NAT("{\"dnat\": {}}"), { false, false } },
		{ NAT("{\"snat\": {\"family\": \"ip\", \"addr\": \"x\"}}"), { true, false } },
		{ NAT("{\"snat\": {\"family\": \"ip6\", \"addr\": \"x\"}}"), { false, true } },
		{ NAT(NFPROTO("==", "ipv4") MASQUERADE), { true, false } },
		{ NAT(NFPROTO("==", "ipv6") MASQUERADE), { false, true } },
		{ NAT(NFPROTO("!=", "ipv6") MASQUERADE), { true, true } },
		{ NAT(SADDR("ip") MASQUERADE), { true, false } },
		{ NAT(SADDR("ip6") SNAT), { false, true } },
		{ NAT(SADDR("tcp") MASQUERADE), { true, true } },
		{ LIST(POST("ip") RULE("ip", "t", MASQUERADE)), { true, false } },
		{ LIST(POST("ip6") RULE("ip6", "t", MASQUERADE)), { false, true } },
		{ LIST(POST("bridge") RULE("bridge", "t", MASQUERADE)), { false, false } },
		{ LIST(CHAIN("ip", "t", "input", "accept") RULE("ip", "t", SNAT)),
		  { false, false } },
		{ LIST(CHAIN("ip6", "t", "input", "accept") "," POST("ip") RULE("ip", "t", SNAT)),
		  { true, false } },
		{ LIST("{\"chain\": {\"family\": \"ip\", \"table\": \"t\", \"name\": \"d\", "
		       "\"hook\": \"input\"}}, " POST("ip") RULE("ip", "t", SNAT)),
		  { true, false } },
		{ LIST(CHAIN("inet", "xfrmd", "postrouting", "accept")
			       RULE("inet", "xfrmd", MASQUERADE)),
		  { false, false } },
	};

	(void)state;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(table); i++) {
		json_t *ruleset = json_loads(table[i].text, 0, NULL);
		struct xf_check check;
		char found[200];

		print_message("# %u\n", i);
		assert_non_null(ruleset);
		set_up(&check);
		xf_check_ruleset(&check, ruleset);
		names_of(&check, found, sizeof(found));
		assert_string_equal(found, "");
		for (unsigned k = 0; k < 2; k++)
			assert_int_equal(*check.source_nat[k] != '\0', table[i].seen[k]);
		json_decref(ruleset);
	}
}

static void the_first_chain_is_named(void **state)
{
	json_t *ruleset =
		json_loads(LIST(POST("ip") RULE("ip", "t", SNAT) RULE("inet", "u", SNAT)), 0, NULL);
	struct xf_check check;

	(void)state;
	set_up(&check);
	xf_check_ruleset(&check, ruleset);
	assert_string_equal(check.source_nat[0], "ip t c");
	assert_string_equal(check.source_nat[1], "inet u c");
	json_decref(check.findings);
	json_decref(ruleset);
}

#define POLICY(dir, action, src, more)                                                      \
	"{\"dir\": \"" dir "\", \"action\": \"" action "\", \"selector\": {\"src\": \"" src \
	"\", \"dst\": \"10.0.0.0/8\"}" more "}"
#define TMPL(level) ", \"templates\": [{\"level\": \"" level "\"}]"

static void policies_behind_source_nat(void **state)
{
	static const struct {
		const char *policy;
		const char *four, *six; /* chains with source NAT */
		const char *found;
	} table[] = {
		{ POLICY("out", "allow", "0.0.0.0/0", TMPL("required")), "c", "", "nat " },
		{ POLICY("out", "allow", "0.0.0.0/0", TMPL("required")), "c", "d", "nat " },
		{ POLICY("out", "allow", "0.0.0.0/0", TMPL("required")), "", "d", "" },
		{ POLICY("out", "allow", "::/0", TMPL("required")), "c", "d", "nat " },
		{ POLICY("out", "allow", "::/0", TMPL("required")), "c", "", "" },
		{ POLICY("out", "block", "::/0", ""), "", "d", "nat " },
		{ POLICY("out", "allow", "0.0.0.0/0", ""), "c", "d", "" },
		{ POLICY("out", "allow", "0.0.0.0/0", TMPL("use")), "c", "d", "" },
		{ POLICY("out", "allow", "0.0.0.0/1", TMPL("required")), "c", "d", "" },
		{ POLICY("in", "allow", "0.0.0.0/0", TMPL("required")), "c", "d", "" },
		{ POLICY("fwd", "block", "0.0.0.0/0", ""), "c", "d", "" },
		{ POLICY("out", "block", "0.0.0.0/0", ", \"if_id\": \"0x1\""), "c", "d", "" },
		{ "{}", "c", "d", "" },
	};

	(void)state;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(table); i++) {
		json_t *policy = json_loads(table[i].policy, 0, NULL);
		bool both = *table[i].four && *table[i].six;
		struct xf_check check;
		char found[200];

		print_message("# %u\n", i);
		assert_non_null(policy);
		set_up(&check);
		strcpy(check.source_nat[0], table[i].four);
		strcpy(check.source_nat[1], table[i].six);
		/* A second one like it says nothing new; what is not found yet is looked for. */
		for (unsigned k = 0; k < 2; k++)
			assert_int_equal(xf_check_nat_policy(&check, policy),
					 both || !*table[i].found);
		names_of(&check, found, sizeof(found));
		assert_string_equal(found, table[i].found);
		json_decref(policy);
	}
}

/* A note, which says that nothing is wrong, is told from what is. */
static void notes_are_marked(void **state)
{
	struct xf_check check;

	(void)state;
	set_up(&check);
	for (unsigned kind = 0; kind < XF_CHECK_KINDS; kind++) {
		const json_t *finding;

		xf_check_add(&check, (enum xf_check_kind)kind, "%s", "x");
		finding = json_array_get(check.findings, kind);
		assert_int_equal(json_is_true(json_object_get(finding, "note")),
				 kind == XF_CHECK_NAT);
	}
	json_decref(check.findings);
}

static void what_the_daemon_says(void **state)
{
	static const struct {
		const char *text;
		const char *found;
	} table[] = {
		{ "{\"capture\": {\"why_twin\": \"\", \"parts\": [{\"name\": \"tun\", "
		  "\"in_force\": "
		  "true, \"losses\": 7}]}, \"missing\": []}",
		  "" },
		{ "{\"capture\": {\"why_twin\": \"\", \"parts\": [{\"name\": \"tun\", "
		  "\"in_force\": "
		  "false}, {\"name\": \"rule\", \"in_force\": false}]}, \"missing\": [\"x\"]}",
		  "part part missing " },
		{ "{\"capture\": {\"twin\": \"tc\", \"why_twin\": \"y\"}}", "twin " },
		{ "{\"capture\": {\"backstop_lacks\": \"eth0\"}}", "device " },
		{ "{}", "" },
	};

	(void)state;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(table); i++) {
		struct xf_check check;
		char found[200];

		set_up(&check);
		check.status = json_loads(table[i].text, 0, NULL);
		assert_non_null(check.status);
		xf_check_status(&check);
		names_of(&check, found, sizeof(found));
		assert_string_equal(found, table[i].found);
		json_decref(check.status);
	}
}

static void lines_of_saved_rulesets(void **state)
{
	static const struct {
		const char *line;
		bool ours;
	} table[] = {
		{ "table inet xfrmd {\n", true },
		{ "\ttable  inet\txfrmd{ # \n", true },
		{ "add table inet xfrmd\n", true },
		{ "add table inet xfrmd;\n", true },
		{ "add rule inet xfrmd outbound return\n", true },
		{ "create table inet xfrmd", true },
		{ "insert rule inet xfrmd input accept\n", true },
		{ "delete table inet xfrmd\n", true },
		{ "destroy table inet xfrmd\n", true },
		{ "flush table inet xfrmd\n", true },
		{ "flush chain inet xfrmd input\n", true },
		{ "table bridge xfrmd {\n", true },
		{ "list table inet xfrmd\n", false },
		{ "delete table ip xfrmd\n", false },
		{ "table ip xfrmd {\n", false },
		{ "table inet xfrmd2 {\n", false },
		{ "table inet xfrm {\n", false },
		{ "# table inet xfrmd {\n", false },
		{ "#table inet xfrmd {\n", false },
		{ "comment \"table inet xfrmd\"\n", false },
		{ "table inet\n", false },
		{ "add\n", false },
		{ "\n", false },
		{ "", false },
	};

	(void)state;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(table); i++) {
		print_message("# %u\n", i);
		assert_int_equal(xf_check_saved_line(table[i].line), table[i].ours);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(rulesets),
		cmocka_unit_test(chains_matter_by_policies),
		cmocka_unit_test(source_nat),
		cmocka_unit_test(the_first_chain_is_named),
		cmocka_unit_test(policies_behind_source_nat),
		cmocka_unit_test(notes_are_marked),
		cmocka_unit_test(what_the_daemon_says),
		cmocka_unit_test(lines_of_saved_rulesets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
