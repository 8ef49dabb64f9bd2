/*
 * Looks through other people's nftables rules for those that lose what the tunnel delivers, or use
 * our mark bits; check.c calls it. Rules of iptables-nft that nft shows as "xt" are not understood.
 */
#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <nftables/libnftables.h>

#include "check.h"
#include "host/rtnl.h"
#include "port/io.h"

/* --- words of the JSON of libnftables(5) --- */

/* Is @text the name of the TUN, or a pattern ("xfrmd*") that it matches? */
static bool names_tun(const char *text, const char *tun)
{
	size_t len = strlen(text);

	if (len && text[len - 1] == '*')
		return strncmp(text, tun, len - 1) == 0;
	return strcmp(text, tun) == 0;
}

/* Somewhere in @value. */
static bool mentions_tun(const json_t *value, const char *tun)
{
	const char *key;
	json_t *part;
	size_t i;

	if (json_is_string(value))
		return names_tun(json_string_value(value), tun);
	json_array_foreach(value, i, part)
	{
		if (mentions_tun(part, tun))
			return true;
	}
	json_object_foreach((json_t *)(uintptr_t)value, key, part)
	{
		if (mentions_tun(part, tun))
			return true;
	}
	return false;
}

/* The statement @name of a rule, or NULL. */
static const json_t *statement(const json_t *rule, const char *name)
{
	json_t *part;
	size_t i;

	json_array_foreach(json_object_get(rule, "expr"), i, part)
	{
		json_t *found = json_object_get(part, name);

		if (found)
			return found;
	}
	return NULL;
}

static bool same_text(const json_t *a, const json_t *b, const char *name)
{
	return !strcmp(xf_ctl_text(a, name), xf_ctl_text(b, name));
}

static bool same_table(const json_t *a, const json_t *b)
{
	return same_text(a, b, "family") && same_text(a, b, "table");
}

static bool is_ip(const json_t *object)
{
	const char *family = xf_ctl_text(object, "family");

	return !strcmp(family, "ip") || !strcmp(family, "ip6") || !strcmp(family, "inet");
}

static bool is_ours(const json_t *object)
{
	return !strcmp(xf_ctl_text(object, "family"), "inet") &&
	       !strcmp(xf_ctl_text(object, "table"), XF_NFT_TABLE);
}

/* The key of "meta", "ct", "fib" is @key: { "meta": { "key": "mark" } }. */
static bool is_key(const json_t *value, const char *of, const char *key)
{
	return !strcmp(xf_ctl_text(json_object_get(value, of), "key"), key);
}

static bool is_mark(const json_t *value)
{
	return is_key(value, "meta", "mark") || is_key(value, "ct", "mark");
}

static bool is_interface(const json_t *value)
{
	return is_key(value, "meta", "iifname") || is_key(value, "meta", "iif");
}

/* --- chains that drop what nobody accepts --- */

/* Does @rule refuse whatever comes to it? "reject with icmp" asks for a family by itself. */
static bool refuses_all(const json_t *rule)
{
	json_t *part;
	size_t i;

	json_array_foreach(json_object_get(rule, "expr"), i, part)
	{
		const json_t *match = json_object_get(part, "match");

		if (match && !is_key(json_object_get(match, "left"), "meta", "nfproto"))
			return false;
		if (!match && !json_object_get(part, "counter") && !json_object_get(part, "log") &&
		    !json_object_get(part, "drop") && !json_object_get(part, "reject"))
			return false;
	}
	return statement(rule, "drop") || statement(rule, "reject");
}

static bool closes(const json_t *list, const json_t *chain)
{
	const json_t *item, *last = NULL;
	size_t i;

	if (!strcmp(xf_ctl_text(chain, "policy"), "drop"))
		return true;
	json_array_foreach(list, i, item)
	{
		const json_t *rule = json_object_get(item, "rule");

		if (rule && same_table(rule, chain) &&
		    !strcmp(xf_ctl_text(rule, "chain"), xf_ctl_text(chain, "name")))
			last = rule;
	}
	return last && refuses_all(last);
}

/* Does anything in the table of @object name the TUN: a rule, or an element of a set? */
static bool table_knows_tun(const struct xf_check *check, const json_t *list, const json_t *object)
{
	static const char *const holders[] = { "rule", "set", "map" };
	json_t *item;
	size_t i;

	json_array_foreach(list, i, item)
	{
		for (unsigned k = 0; k < XF_ARRAY_SIZE(holders); k++) {
			const json_t *holder = json_object_get(item, holders[k]);

			if (holder && same_table(holder, object) &&
			    mentions_tun(json_object_get(holder, k ? "elem" : "expr"), check->tun))
				return true;
		}
	}
	return false;
}

static void check_chain(struct xf_check *check, const json_t *list, const json_t *chain)
{
	bool input = !strcmp(xf_ctl_text(chain, "hook"), "input");
	bool forward = !strcmp(xf_ctl_text(chain, "hook"), "forward");

	if (!(input && check->in) && !(forward && check->fwd))
		return;
	if (!closes(list, chain) || table_knows_tun(check, list, chain))
		return;
	xf_check_add(check, input ? XF_CHECK_INPUT : XF_CHECK_FORWARD,
		     "nftables chain \"%s %s %s\" drops by default and has no rule for %s",
		     xf_ctl_text(chain, "family"), xf_ctl_text(chain, "table"),
		     xf_ctl_text(chain, "name"), check->tun);
}

/* --- anti-spoofing by the routes --- */

static bool has_flag(const json_t *fib, const char *flag)
{
	json_t *part;
	size_t i;

	json_array_foreach(json_object_get(fib, "flags"), i, part)
	{
		if (json_is_string(part) && !strcmp(json_string_value(part), flag))
			return true;
	}
	return false;
}

/*
 * "fib saddr . iif oif missing": false, 0 or "0", by the version of nft. With the packet's mark the
 * route back is found: what the TUN delivers has our bit by then (docs/decisions/0033).
 */
static bool finds_no_route(const json_t *match)
{
	const json_t *fib = json_object_get(json_object_get(match, "left"), "fib");
	const json_t *right = json_object_get(match, "right");
	bool missing = json_is_false(right) ||
		       (json_is_integer(right) && !json_integer_value(right)) ||
		       (json_is_string(right) && !strcmp(json_string_value(right), "0"));
	bool not_equal = !strcmp(xf_ctl_text(match, "op"), "!=");

	if (strncmp(xf_ctl_text(fib, "result"), "oif", 3) != 0 || !has_flag(fib, "saddr") ||
	    !has_flag(fib, "iif") || has_flag(fib, "mark"))
		return false;
	return not_equal ? json_is_true(right) : missing;
}

/* A rule for other interfaces alone does not see the TUN. */
static bool spares_tun(const json_t *match)
{
	return is_interface(json_object_get(match, "left")) &&
	       strcmp(xf_ctl_text(match, "op"), "!=") != 0;
}

static bool is_anti_spoofing(const json_t *rule)
{
	bool found = false;
	json_t *part;
	size_t i;

	if (statement(rule, "accept") || statement(rule, "return"))
		return false;
	json_array_foreach(json_object_get(rule, "expr"), i, part)
	{
		const json_t *match = json_object_get(part, "match");

		if (match && spares_tun(match))
			return false;
		found = found || (match && finds_no_route(match));
	}
	return found;
}

/* Does a rule of the chain of @rule name the TUN, this one or one before it? */
static bool chain_knows_tun(const struct xf_check *check, const json_t *list, const json_t *rule)
{
	const json_t *item;
	size_t i;

	json_array_foreach(list, i, item)
	{
		const json_t *other = json_object_get(item, "rule");

		if (other && same_table(other, rule) && same_text(other, rule, "chain") &&
		    mentions_tun(json_object_get(other, "expr"), check->tun))
			return true;
		if (other == rule)
			break;
	}
	return false;
}

/* --- marks --- */

/* The bits that a constant of a comparison asks for. */
static uint32_t compared_bits(const json_t *right)
{
	const json_t *prefix = json_object_get(right, "prefix");
	json_int_t len = xf_ctl_number(prefix, "len");

	if (prefix)
		return len > 0 && len <= 32 ? UINT32_MAX << (32 - len) : 0;
	return json_is_integer(right) ? (uint32_t)json_integer_value(right) : 0;
}

/* The bits that "meta mark set VALUE" may set; what is kept by a mask was there before. */
static uint32_t set_bits(const json_t *value)
{
	static const char *const joins[] = { "|", "^" };
	uint32_t bits = 0;

	if (json_is_integer(value))
		return (uint32_t)json_integer_value(value);
	for (unsigned i = 0; i < XF_ARRAY_SIZE(joins); i++) {
		json_t *part;
		size_t k;

		json_array_foreach(json_object_get(value, joins[i]), k, part) bits |=
			set_bits(part);
	}
	return bits;
}

static uint32_t match_bits(const json_t *match)
{
	const json_t *left = json_object_get(match, "left");
	const json_t *both = json_object_get(left, "&");

	if (is_mark(left))
		return compared_bits(json_object_get(match, "right"));
	if (is_mark(json_array_get(both, 0)))
		return compared_bits(json_array_get(both, 1));
	return 0;
}

/* The bits of marks that @rule looks at or sets. */
static uint32_t rule_bits(const json_t *rule)
{
	uint32_t bits = 0;
	json_t *part;
	size_t i;

	json_array_foreach(json_object_get(rule, "expr"), i, part)
	{
		const json_t *mangle = json_object_get(part, "mangle");

		bits |= match_bits(json_object_get(part, "match"));
		if (is_mark(json_object_get(mangle, "key")))
			bits |= set_bits(json_object_get(mangle, "value"));
	}
	return bits;
}

/* --- source NAT of what leaves --- */

enum { IPV4 = 1, IPV6 = 2 }; /* 1 << the index into check->source_nat */

/* Those that nft's name for a family, or for a protocol, leaves. */
static unsigned families_of(const char *name)
{
	if (!strcmp(name, "ip") || !strcmp(name, "ipv4"))
		return IPV4;
	return !strcmp(name, "ip6") || !strcmp(name, "ipv6") ? IPV6 : IPV4 | IPV6;
}

static unsigned match_families(const json_t *match)
{
	const json_t *left = json_object_get(match, "left");

	if (is_key(left, "meta", "nfproto") && !strcmp(xf_ctl_text(match, "op"), "=="))
		return families_of(xf_ctl_text(match, "right"));
	return families_of(xf_ctl_text(json_object_get(left, "payload"), "protocol"));
}

static unsigned rule_families(const json_t *rule, const json_t *nat)
{
	unsigned families =
		families_of(xf_ctl_text(rule, "family")) & families_of(xf_ctl_text(nat, "family"));
	json_t *part;
	size_t i;

	json_array_foreach(json_object_get(rule, "expr"), i, part) families &=
		match_families(json_object_get(part, "match"));
	return families;
}

/* Source NAT is also at input, for what does not leave. */
static bool is_at_input(const json_t *list, const json_t *rule)
{
	json_t *item;
	size_t i;

	json_array_foreach(list, i, item)
	{
		const json_t *chain = json_object_get(item, "chain");

		if (chain && same_table(chain, rule) &&
		    !strcmp(xf_ctl_text(chain, "name"), xf_ctl_text(rule, "chain")))
			return !strcmp(xf_ctl_text(chain, "hook"), "input");
	}
	return false;
}

static void note_source_nat(struct xf_check *check, const json_t *list, const json_t *rule)
{
	const json_t *snat = statement(rule, "snat");
	unsigned families = 0;

	if ((snat || statement(rule, "masquerade")) && !is_at_input(list, rule))
		families = rule_families(rule, snat);
	for (unsigned i = 0; i < XF_ARRAY_SIZE(check->source_nat); i++) {
		if ((families & 1u << i) && !*check->source_nat[i])
			snprintf(check->source_nat[i], sizeof(check->source_nat[i]), "%s %s %s",
				 xf_ctl_text(rule, "family"), xf_ctl_text(rule, "table"),
				 xf_ctl_text(rule, "chain"));
	}
}

static void check_rule(struct xf_check *check, const json_t *list, const json_t *rule)
{
	uint32_t clash = rule_bits(rule) & (check->mark_capture | check->mark_bypass);
	const char *family = xf_ctl_text(rule, "family");
	const char *table = xf_ctl_text(rule, "table");
	const char *chain = xf_ctl_text(rule, "chain");

	if (clash)
		xf_check_add(check, XF_CHECK_MARK,
			     "a rule of nftables chain \"%s %s %s\" uses xfrmd's mark bit 0x%x",
			     family, table, chain, clash);
	if (is_anti_spoofing(rule) && !chain_knows_tun(check, list, rule))
		xf_check_add(check, XF_CHECK_FIB,
			     "a rule of nftables chain \"%s %s %s\" drops by fib saddr . iif",
			     family, table, chain);
	note_source_nat(check, list, rule);
}

static void check_flowtable(struct xf_check *check, const json_t *flowtable)
{
	xf_check_add(check, XF_CHECK_FLOWTABLE,
		     "nftables table \"%s %s\" has the flow table \"%s\"",
		     xf_ctl_text(flowtable, "family"), xf_ctl_text(flowtable, "table"),
		     xf_ctl_text(flowtable, "name"));
}

void xf_check_ruleset(struct xf_check *check, const json_t *ruleset)
{
	const json_t *list = json_object_get(ruleset, "nftables");
	json_t *item;
	size_t i;

	json_array_foreach(list, i, item)
	{
		const json_t *chain = json_object_get(item, "chain");
		const json_t *rule = json_object_get(item, "rule");
		const json_t *flowtable = json_object_get(item, "flowtable");

		if (flowtable && is_ip(flowtable))
			check_flowtable(check, flowtable);
		if (chain && is_ip(chain) && !is_ours(chain))
			check_chain(check, list, chain);
		if (rule && is_ip(rule) && !is_ours(rule))
			check_rule(check, list, rule);
	}
}

/* --- reading them --- */

static json_t *list_json(struct nft_ctx *nft, const char *command)
{
	if (nft_run_cmd_from_buffer(nft, command) != 0)
		return NULL;
	return json_loads(nft_ctx_get_output_buffer(nft), 0, NULL);
}

struct reading {
	struct xf_check *check;
	struct nft_ctx *nft;
};

struct table {
	const char *name;
	uint32_t flags; /* NFT_TABLE_F_* */
};

static int table_attr(const struct nlattr *attr, void *arg)
{
	struct table *table = arg;

	if (mnl_attr_get_type(attr) == NFTA_TABLE_NAME &&
	    mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0)
		table->name = mnl_attr_get_str(attr);
	else if (mnl_attr_get_type(attr) == NFTA_TABLE_FLAGS &&
		 mnl_attr_get_payload_len(attr) == sizeof(table->flags))
		table->flags = ntohl(mnl_attr_get_u32(attr));
	return MNL_CB_OK;
}

/* Our own may be large, so others are asked for one by one. One that is dormant does nothing. */
static int see_table(const struct nlmsghdr *msg, void *arg)
{
	static const char *const families[NFPROTO_NUMPROTO] = {
		[NFPROTO_INET] = "inet",
		[NFPROTO_IPV4] = "ip",
		[NFPROTO_IPV6] = "ip6",
	};
	const struct nfgenmsg *nfg = mnl_nlmsg_get_payload(msg);
	const char *family =
		nfg->nfgen_family < NFPROTO_NUMPROTO ? families[nfg->nfgen_family] : NULL;
	struct reading *reading = arg;
	struct table table = { .name = "" };
	char command[300];
	json_t *ruleset;

	mnl_attr_parse(msg, sizeof(*nfg), table_attr, &table);
	if (!family || (table.flags & NFT_TABLE_F_DORMANT) ||
	    (nfg->nfgen_family == NFPROTO_INET && !strcmp(table.name, XF_NFT_TABLE)))
		return MNL_CB_OK;
	snprintf(command, sizeof(command), "list table %s %s", family, table.name);
	ruleset = list_json(reading->nft, command);
	xf_check_ruleset(reading->check, ruleset);
	json_decref(ruleset);
	return MNL_CB_OK;
}

/*
 * The kernel itself is asked for tables: of one with one flag, as ours is when its owner has gone,
 * libnftables 1.0.6 prints JSON that it has freed before.
 */
static void check_tables(struct xf_check *check, struct nft_ctx *nft)
{
	struct reading reading = { .check = check, .nft = nft };
	struct xf_rtnl rtnl;
	struct nlmsghdr *msg;

	if (xf_rtnl_open_bus(&rtnl, NETLINK_NETFILTER, NULL))
		return;
	msg = xf_rtnl_start(&rtnl, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE, NLM_F_DUMP);
	mnl_nlmsg_put_extra_header(msg, sizeof(struct nfgenmsg));
	xf_rtnl_talk(&rtnl, msg, see_table, &reading);
	xf_rtnl_close(&rtnl);
}

void xf_check_nft(struct xf_check *check)
{
	struct nft_ctx *nft = nft_ctx_new(NFT_CTX_DEFAULT);

	if (!nft)
		return;
	nft_ctx_buffer_output(nft);
	nft_ctx_buffer_error(nft);
	nft_ctx_output_set_flags(nft, NFT_CTX_OUTPUT_JSON);
	check_tables(check, nft);
	nft_ctx_free(nft);
}
