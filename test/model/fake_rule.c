/*
 * Rules of fake_nft.c: what their words mean, and what becomes of a packet.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "fake_conntrack.h"
#include "fake_statement.h"

#define SPACE " ,;\"\t"

/* --- words --- */

bool words_line(struct words *w)
{
	size_t len = strcspn(w->at, "\n");

	if (!*w->at)
		return false;
	assert_in_range(len, 1, sizeof(w->line) - 1);
	memcpy(w->line, w->at, len);
	w->line[len] = '\0';
	w->at += len + (w->at[len] == '\n');
	w->rest = w->line;
	return true;
}

bool words_end(struct words *w)
{
	w->rest += strspn(w->rest, SPACE);
	return !*w->rest;
}

const char *words_next(struct words *w)
{
	const char *word;

	if (words_end(w))
		fail_msg("a line of a script ends too early");
	/* "@th,8,8" is one word. */
	word = w->rest;
	w->rest += strncmp(word, "@th,", 4) == 0 ? strcspn(word, " ") : strcspn(word, SPACE);
	if (*w->rest)
		*w->rest++ = '\0';
	return word;
}

static bool is_next(struct words *w, const char *word)
{
	size_t len = strlen(word);

	return !words_end(w) && strncmp(w->rest, word, len) == 0 &&
	       (!w->rest[len] || strchr(SPACE, w->rest[len]));
}

bool words_take(struct words *w, const char *word)
{
	if (!is_next(w, word))
		return false;
	words_next(w);
	return true;
}

void words_expect(struct words *w, const char *word)
{
	assert_string_equal(words_next(w), word);
}

/* --- values --- */

enum type type_of(const char *word)
{
	static const char *const names[] = { [V4] = "ipv4_addr",
					     [V6] = "ipv6_addr",
					     [PROTO] = "inet_proto",
					     [PORT] = "inet_service",
					     [NUMBER] = "mark" };

	for (unsigned i = 0; i < XF_ARRAY_SIZE(names); i++) {
		if (strcmp(names[i], word) == 0)
			return (enum type)i;
	}
	fail_msg("a set of \"%s\"?", word);
	return V4;
}

void fake_put_number(uint8_t field[FAKE_FIELD], uint32_t number)
{
	memset(field, 0, FAKE_FIELD);
	memcpy(field, &number, sizeof(number));
}

static void put_name(uint8_t field[FAKE_FIELD], const char *name)
{
	assert_in_range(strlen(name), 1, FAKE_FIELD);
	memset(field, 0, FAKE_FIELD);
	memcpy(field, name, strlen(name));
}

static void read_addr(enum type type, const char *word, uint8_t field[FAKE_FIELD], uint8_t *mask)
{
	char text[XF_ADDR_STRLEN + 4];
	union xf_addr addr;
	char *slash;

	snprintf(text, sizeof(text), "%s", word);
	slash = strchr(text, '/');
	if (slash) {
		*slash = '\0';
		assert_non_null(mask);
		memset(mask, 0, FAKE_FIELD);
		for (int i = 0; i < atoi(slash + 1); i++)
			mask[i / 8] = (uint8_t)(mask[i / 8] | 128 >> i % 8);
	}
	assert_int_equal(xf_addr_parse(text, &addr), type == V4 ? XF_AF_INET : XF_AF_INET6);
	memset(field, 0, FAKE_FIELD);
	memcpy(field, addr.bytes, type == V4 ? 4 : 16);
}

void read_value(enum type type, const char *word, uint8_t field[FAKE_FIELD], uint8_t *mask)
{
	char *end;

	if (type == V4 || type == V6) {
		read_addr(type, word, field, mask);
	} else if (type == NAME) {
		put_name(field, word);
	} else if (type == FAMILY) {
		if (strcmp(word, "ipv4") != 0)
			assert_string_equal(word, "ipv6");
		fake_put_number(field, strcmp(word, "ipv4") == 0 ? XF_AF_INET : XF_AF_INET6);
	} else {
		fake_put_number(field, (uint32_t)strtoul(word, &end, 0));
		if (*end || end == word)
			fail_msg("\"%s\" is no number", word);
	}
}

/* --- rules --- */

enum what {
	IP_ADDR,
	IP_FRAG_OFF,
	EXTHDR_FRAG,
	TCP_SYN_ACK,
	L4PROTO,
	NFPROTO,
	MARK,
	PRIORITY,
	TH,
	SOCKET_MARK,
	IIFNAME,
	OIFNAME,
	IIF,
	OIF,
	FIB_OIF,
	FIB_DADDR_TYPE
};

/* A field of a packet, under a mask. */
struct term {
	enum what what;
	enum type type;
	unsigned side; /* destination? */
	unsigned off, len; /* of the transport header, in bytes */
	uint8_t mask[FAKE_FIELD];
};

enum action { MATCH, STATEMENT, COUNT, SET_MARK, SET_PRIORITY, DROP, RETURN, ACCEPT, GOTO, JUMP };

struct expr {
	enum action action;
	/* MATCH */
	struct term terms[FAKE_FIELDS];
	unsigned nterms;
	bool differs; /* "!=" */
	struct object *set; /* else one of: */
	unsigned nvalues;
	uint8_t values[8][FAKE_FIELD];
	uint8_t value_mask[FAKE_FIELD];
	/* COUNT: a counter, GOTO and JUMP: a chain */
	struct object *object;
	/* SET_MARK: bits that stay, and that are set; SET_PRIORITY: the whole */
	uint32_t keep;
	uint32_t bits;
	struct statement statement;
};

#define EXPRS 16

/* As many of them as there are have memory. */
struct rule {
	uint64_t handle;
	unsigned n;
	struct expr exprs[EXPRS];
};

void rule_free(struct rule *rule)
{
	free(rule);
}

uint64_t rule_handle(const struct rule *rule)
{
	return rule->handle;
}

bool rule_uses(const struct rule *rule, const struct object *object)
{
	for (unsigned i = 0; i < rule->n; i++) {
		const struct expr *expr = &rule->exprs[i];

		if (expr->object == object || (expr->action == MATCH && expr->set == object) ||
		    (expr->action == STATEMENT && expr->statement.set == object))
			return true;
	}
	return false;
}

static unsigned read_side(struct words *w, const char *source, const char *destination)
{
	if (words_take(w, source))
		return 0;
	words_expect(w, destination);
	return 1;
}

/* "@th,8,8": bits */
static void read_raw(struct words *w, struct term *term)
{
	unsigned off, len;

	assert_int_equal(sscanf(words_next(w), "@th,%u,%u", &off, &len), 2);
	term->what = TH;
	term->type = NUMBER;
	term->off = off / 8;
	term->len = len / 8;
	assert_in_range(len, 8, 16);
}

static void read_meta(struct words *w, struct term *term)
{
	if (words_take(w, "l4proto")) {
		term->what = L4PROTO;
		term->type = PROTO;
	} else if (words_take(w, "nfproto")) {
		term->what = NFPROTO;
		term->type = FAMILY;
	} else if (words_take(w, "priority")) {
		term->what = PRIORITY;
		term->type = NUMBER;
	} else {
		words_expect(w, "mark");
		term->what = MARK;
		term->type = NUMBER;
	}
}

static void read_ip(struct words *w, struct term *term)
{
	if (words_take(w, "frag-off")) {
		term->what = IP_FRAG_OFF;
		term->type = NUMBER;
		return;
	}
	term->what = IP_ADDR;
	term->type = V4;
	term->side = read_side(w, "saddr", "daddr");
}

/* "daddr type", or "daddr . mark oif": where the packet is routed to, as it will be */
static void read_fib(struct words *w, struct term *term)
{
	words_expect(w, "daddr");
	if (words_take(w, "type")) {
		term->what = FIB_DADDR_TYPE;
		term->type = NAME;
		return;
	}
	words_expect(w, ".");
	words_expect(w, "mark");
	words_expect(w, "oif");
	term->what = FIB_OIF;
	term->type = NUMBER;
}

static void read_what(struct words *w, struct term *term)
{
	const char *word;

	if (!words_end(w) && strncmp(w->rest, "@th,", 4) == 0) {
		read_raw(w, term);
		return;
	}
	word = words_next(w);
	if (strcmp(word, "ip") == 0) {
		read_ip(w, term);
	} else if (strcmp(word, "ip6") == 0) {
		term->what = IP_ADDR;
		term->type = V6;
		term->side = read_side(w, "saddr", "daddr");
	} else if (strcmp(word, "meta") == 0) {
		read_meta(w, term);
	} else if (strcmp(word, "th") == 0) {
		term->what = TH;
		term->type = PORT;
		term->off = 2 * read_side(w, "sport", "dport");
		term->len = 2;
	} else if (strcmp(word, "socket") == 0) {
		words_expect(w, "mark");
		term->what = SOCKET_MARK;
		term->type = NUMBER;
	} else if (strcmp(word, "iifname") == 0 || strcmp(word, "oifname") == 0) {
		term->what = word[0] == 'i' ? IIFNAME : OIFNAME;
		term->type = NAME;
	} else if (strcmp(word, "iif") == 0 || strcmp(word, "oif") == 0) {
		term->what = word[0] == 'i' ? IIF : OIF;
		term->type = NUMBER;
	} else if (strcmp(word, "fib") == 0) {
		read_fib(w, term);
	} else {
		fail_msg("a rule with \"%s\"?", word);
	}
}

static void read_term(struct words *w, struct term *term)
{
	memset(term->mask, 0xff, sizeof(term->mask));
	read_what(w, term);
	if (words_take(w, "&"))
		read_value(term->type, words_next(w), term->mask, NULL);
}

static void read_right_side(const struct fake_nft *nft, struct words *w, struct expr *expr)
{
	const struct term *term = &expr->terms[0];

	memset(expr->value_mask, 0xff, sizeof(expr->value_mask));
	expr->differs = words_take(w, "!=");
	if (!expr->differs)
		words_take(w, "==");
	if (!words_end(w) && *w->rest == '@') {
		expr->set = object_find(nft, SET, words_next(w) + 1);
		assert_non_null(expr->set);
		assert_int_equal(expr->set->nfields, expr->nterms);
		for (unsigned i = 0; i < expr->nterms; i++)
			assert_int_equal(expr->set->fields[i], expr->terms[i].type);
		return;
	}
	assert_int_equal(expr->nterms, 1);
	if (!words_take(w, "{")) {
		read_value(term->type, words_next(w), expr->values[expr->nvalues++],
			   expr->value_mask);
		return;
	}
	while (!words_take(w, "}")) {
		assert_in_range(expr->nvalues, 0, XF_ARRAY_SIZE(expr->values) - 1);
		read_value(term->type, words_next(w), expr->values[expr->nvalues++], NULL);
	}
}

/* "tcp flags & (syn | ack) == syn | ack" */
static bool read_syn_ack(struct words *w)
{
	static const char want[] = "tcp flags & (syn | ack) == syn | ack ";

	if (strncmp(w->rest, want, sizeof(want) - 1) != 0)
		return false;
	w->rest += sizeof(want) - 1;
	return true;
}

static void read_match(const struct fake_nft *nft, struct words *w, struct expr *expr)
{
	expr->action = MATCH;
	if (read_syn_ack(w)) {
		expr->terms[expr->nterms++].what = TCP_SYN_ACK;
		return;
	}
	if (words_take(w, "exthdr")) {
		words_expect(w, "frag");
		words_expect(w, "exists");
		expr->terms[expr->nterms++].what = EXTHDR_FRAG;
		return;
	}
	do {
		assert_in_range(expr->nterms, 0, FAKE_FIELDS - 1);
		read_term(w, &expr->terms[expr->nterms++]);
	} while (words_take(w, "."));
	read_right_side(nft, w, expr);
}

static bool take_all(struct words *w, const char *want)
{
	size_t len = strlen(want);

	if (strncmp(w->rest, want, len) != 0)
		return false;
	w->rest += len;
	return true;
}

/* "& 0x9fffffff | 0x40000000", or one of the two */
static void read_bits(struct words *w, struct expr *expr)
{
	expr->keep = UINT32_MAX;
	if (words_take(w, "&"))
		expr->keep = (uint32_t)strtoul(words_next(w), NULL, 0);
	if (words_take(w, "|"))
		expr->bits = (uint32_t)strtoul(words_next(w), NULL, 0);
}

static bool read_set_mark(struct words *w, struct expr *expr)
{
	if (!take_all(w, "meta mark set meta mark "))
		return false;
	expr->action = SET_MARK;
	read_bits(w, expr);
	return true;
}

/* "meta priority set 30822:1", "meta priority set 0", or bits of it as of a mark */
static bool read_set_priority(struct words *w, struct expr *expr)
{
	const char *word;
	char *minor;

	if (!take_all(w, "meta priority set "))
		return false;
	expr->action = SET_PRIORITY;
	if (take_all(w, "meta priority ")) {
		read_bits(w, expr);
		return true;
	}
	word = words_next(w);
	/* A class of tc is hexadecimal. */
	expr->bits = (uint32_t)strtoul(word, &minor, strchr(word, ':') ? 16 : 0);
	if (*minor == ':')
		expr->bits = expr->bits << 16 | (uint32_t)strtoul(minor + 1, &minor, 16);
	assert_int_equal(*minor, 0);
	return true;
}

static bool read_verdict(const struct fake_nft *nft, struct words *w, struct expr *expr)
{
	static const char *const names[] = { [DROP] = "drop",
					     [RETURN] = "return",
					     [ACCEPT] = "accept",
					     [GOTO] = "goto",
					     [JUMP] = "jump" };

	for (unsigned i = DROP; i <= JUMP; i++) {
		if (!words_take(w, names[i]))
			continue;
		expr->action = (enum action)i;
		if (i >= GOTO) {
			expr->object = object_find(nft, CHAIN, words_next(w));
			assert_non_null(expr->object);
		}
		return true;
	}
	return false;
}

struct rule *rule_read(struct fake_nft *nft, struct words *w)
{
	struct rule *rule = calloc(1, sizeof(*rule));
	struct rule *kept;

	assert_non_null(rule);
	rule->handle = ++nft->handle;
	while (!words_end(w)) {
		struct expr *expr = &rule->exprs[rule->n++];

		assert_in_range(rule->n, 1, EXPRS);
		if (read_verdict(nft, w, expr) || read_set_mark(w, expr) ||
		    read_set_priority(w, expr))
			continue;
		if (statement_read(nft, w, &expr->statement)) {
			expr->action = STATEMENT;
			continue;
		}
		if (!words_take(w, "counter")) {
			read_match(nft, w, expr);
			continue;
		}
		words_expect(w, "name");
		expr->action = COUNT;
		expr->object = object_find(nft, COUNTER, words_next(w));
		assert_non_null(expr->object);
	}
	kept = realloc(rule, offsetof(struct rule, exprs) + rule->n * sizeof(rule->exprs[0]));
	return kept ? kept : rule;
}

/* --- packets --- */

uint32_t fake_ifindex(const char *name)
{
	static const char *const names[] = { "lo", "lan", "wan" };
	uint32_t i = 0;

	/* Any other is exempt from nothing. */
	while (i < XF_ARRAY_SIZE(names) && strcmp(names[i], name) != 0)
		i++;
	return i + 1;
}

static uint32_t transport(const struct term *term, const struct fake_packet *p)
{
	uint32_t value = 0;

	assert_in_range(term->off + term->len, 1, sizeof(p->l4));
	for (unsigned i = 0; i < term->len; i++)
		value = value << 8 | p->l4[term->off + i];
	return value;
}

/* False: the packet has no such field. */
static bool load(const struct term *term, const struct fake_packet *p, uint8_t field[FAKE_FIELD])
{
	bool four = p->family == XF_AF_INET;

	switch (term->what) {
	case IP_ADDR:
		memset(field, 0, FAKE_FIELD);
		memcpy(field, p->addr[term->side].bytes, four ? 4 : 16);
		return four == (term->type == V4);
	case IP_FRAG_OFF:
		fake_put_number(field, (uint32_t)(p->behind ? 185 : p->fragment ? 0x2000 : 0));
		return four;
	case EXTHDR_FRAG:
		return !four && p->fragment;
	case TCP_SYN_ACK:
		return false; /* no packet of the model answers one of TCP's */
	case L4PROTO:
		fake_put_number(field, p->proto);
		return true;
	case NFPROTO:
		fake_put_number(field, p->family);
		return true;
	case MARK:
		fake_put_number(field, p->mark);
		return true;
	case PRIORITY:
		fake_put_number(field, p->priority);
		return true;
	case TH:
		fake_put_number(field, transport(term, p));
		return !p->behind;
	case SOCKET_MARK:
		fake_put_number(field, p->socket_mark);
		return true;
	case IIFNAME:
	case OIFNAME:
		put_name(field, term->what == IIFNAME ? p->iif : p->oif);
		return true;
	case FIB_OIF:
		fake_put_number(field, fake_ifindex(p->fib_oif ? p->fib_oif : p->oif));
		return true;
	case IIF:
	case OIF:
		fake_put_number(field, fake_ifindex(term->what == IIF ? p->iif : p->oif));
		return true;
	case FIB_DADDR_TYPE:
		put_name(field, p->daddr_type);
		return true;
	}
	return false;
}

static bool is_one_of(const struct expr *expr, const uint8_t key[FAKE_KEY])
{
	for (unsigned i = 0; i < expr->nvalues; i++) {
		uint8_t diff = 0;

		for (unsigned b = 0; b < FAKE_FIELD; b++)
			diff |= (uint8_t)((key[b] ^ expr->values[i][b]) & expr->value_mask[b]);
		if (!diff)
			return true;
	}
	return false;
}

static bool match(const struct expr *expr, const struct fake_packet *p)
{
	uint8_t key[FAKE_KEY] = { 0 };

	for (unsigned i = 0; i < expr->nterms; i++) {
		uint8_t *field = key + i * FAKE_FIELD;

		if (!load(&expr->terms[i], p, field))
			return false;
		for (unsigned b = 0; b < FAKE_FIELD; b++)
			field[b] &= expr->terms[i].mask[b];
	}
	if (expr->terms[0].what == EXTHDR_FRAG)
		return true;
	return (expr->set ? set_has(expr->set, key) : is_one_of(expr, key)) != expr->differs;
}

enum verdict { CONTINUE, END, ACCEPTED, DROPPED };

static enum verdict run_chain(const struct object *chain, struct fake_packet *p);

/* CONTINUE: the next rule's turn; END: the chain's caller's. */
static enum verdict run_rule(const struct rule *rule, struct fake_packet *p)
{
	enum verdict verdict;

	for (unsigned i = 0; i < rule->n; i++) {
		const struct expr *expr = &rule->exprs[i];

		switch (expr->action) {
		case MATCH:
			if (!match(expr, p))
				return CONTINUE;
			break;
		case STATEMENT:
			if (!statement_run(&expr->statement, p))
				return CONTINUE;
			break;
		case COUNT:
			expr->object->packets++;
			break;
		case SET_MARK:
			p->mark = (p->mark & expr->keep) | expr->bits;
			break;
		case SET_PRIORITY:
			p->priority = (p->priority & expr->keep) | expr->bits;
			break;
		case DROP:
			return DROPPED;
		case RETURN:
			return END;
		case ACCEPT:
			return ACCEPTED;
		case GOTO:
			verdict = run_chain(expr->object, p);
			return verdict == CONTINUE ? END : verdict;
		case JUMP:
			return run_chain(expr->object, p);
		}
	}
	return CONTINUE;
}

/* CONTINUE: it has no verdict. */
static enum verdict run_chain(const struct object *chain, struct fake_packet *p)
{
	for (unsigned i = 0; i < chain->nrules; i++) {
		enum verdict verdict = run_rule(chain->rules[i], p);

		if (verdict != CONTINUE)
			return verdict == END ? CONTINUE : verdict;
	}
	return CONTINUE;
}

/* The base chain of @part with the lowest priority above @priority. */
static const struct object *next_chain(const struct fake_nft *nft, const struct fake_part *part,
				       long priority)
{
	const struct object *best = NULL;

	for (const struct object *o = nft->objects; o; o = o->next) {
		if (o->kind == CHAIN && o->nat == part->nat && strcmp(o->hook, part->hook) == 0 &&
		    o->priority > priority && o->priority <= part->to &&
		    (!best || o->priority < best->priority))
			best = o;
	}
	return best;
}

bool fake_nft_part(struct fake_nft *nft, const struct fake_part *part, struct fake_packet *p)
{
	const struct object *chain = next_chain(nft, part, part->from - 1);

	for (; chain; chain = next_chain(nft, part, chain->priority)) {
		enum verdict verdict = run_chain(chain, p);

		if (verdict == DROPPED || (verdict == CONTINUE && chain->drops))
			return false;
		if (part->nat && p->track->keep_source)
			break;
	}
	return true;
}

bool fake_nft_hook(struct fake_nft *nft, const char *hook, struct fake_packet *p)
{
	const struct fake_part all = { .hook = hook, .from = INT32_MIN, .to = INT32_MAX };

	return fake_nft_part(nft, &all, p);
}
