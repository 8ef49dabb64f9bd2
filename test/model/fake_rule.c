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
#include "fake_term.h"

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

bool words_take_text(struct words *w, const char *text)
{
	size_t len = strlen(text);

	if (words_end(w) || strncmp(w->rest, text, len) != 0)
		return false;
	w->rest += len;
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

void fake_put_name(uint8_t field[FAKE_FIELD], const char *name)
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
		fake_put_name(field, word);
	} else if (type == FAMILY) {
		if (strcmp(word, "ipv4") != 0)
			assert_string_equal(word, "ipv6");
		fake_put_number(field, strcmp(word, "ipv4") == 0 ? XF_AF_INET : XF_AF_INET6);
	} else if (type == PROTO && (strcmp(word, "tcp") == 0 || strcmp(word, "udp") == 0)) {
		fake_put_number(field, *word == 't' ? XF_IPPROTO_TCP : XF_IPPROTO_UDP);
	} else {
		fake_put_number(field, (uint32_t)strtoul(word, &end, 0));
		if (*end || end == word)
			fail_msg("\"%s\" is no number", word);
	}
}

/* --- rules --- */

enum action {
	MATCH,
	STATEMENT,
	CHANGE_SET,
	COUNT,
	SET_MARK,
	SET_PRIORITY,
	DROP,
	RETURN,
	ACCEPT,
	GOTO,
	JUMP
};

struct expr {
	enum action action;
	/* MATCH, CHANGE_SET */
	struct term terms[FAKE_FIELDS];
	unsigned nterms;
	bool differs; /* "!=" */
	struct object *set; /* CHANGE_SET: this one; MATCH: else one of: */
	bool adds; /* CHANGE_SET */
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

		if (expr->object == object || expr->set == object)
			return true;
	}
	return false;
}

static void check_types(const struct expr *expr)
{
	assert_int_equal(expr->set->nfields, expr->nterms);
	for (unsigned i = 0; i < expr->nterms; i++)
		assert_int_equal(expr->set->fields[i], expr->terms[i].type);
}

static void read_right_side(const struct fake_nft *nft, struct words *w, struct expr *expr)
{
	const struct term *term = &expr->terms[0];

	expr->differs = words_take(w, "!=");
	if (!expr->differs)
		words_take(w, "==");
	if (!words_end(w) && *w->rest == '@') {
		expr->set = object_find(nft, SET, words_next(w) + 1);
		assert_non_null(expr->set);
		check_types(expr);
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

static void read_match(const struct fake_nft *nft, struct words *w, struct expr *expr)
{
	expr->action = MATCH;
	memset(expr->value_mask, 0xff, sizeof(expr->value_mask));
	if (term_read_flags_of_tcp(w, &expr->terms[expr->nterms])) {
		expr->nterms++;
		fake_put_number(expr->values[expr->nvalues++], term_read_flags(w));
	} else if (words_take_text(w, "exthdr frag exists")) {
		term_is_piece(&expr->terms[expr->nterms++]);
	} else {
		expr->nterms = term_read_all(w, expr->terms);
		read_right_side(nft, w, expr);
	}
}

/* "update @nat_kept4 { ip saddr . ip daddr . meta l4proto }" */
static bool read_change_set(const struct fake_nft *nft, struct words *w, struct expr *expr)
{
	bool adds = words_take_text(w, "update @") || words_take_text(w, "add @");

	if (!adds && !words_take_text(w, "delete @"))
		return false;
	expr->action = CHANGE_SET;
	expr->adds = adds;
	expr->set = object_find(nft, SET, words_next(w));
	assert_non_null(expr->set);
	words_expect(w, "{");
	expr->nterms = term_read_all(w, expr->terms);
	check_types(expr);
	/* Time passes by what others do. */
	if (words_take(w, "timeout"))
		words_expect(w, "2h");
	words_expect(w, "}");
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
	if (!words_take_text(w, "meta mark set meta mark "))
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

	if (!words_take_text(w, "meta priority set "))
		return false;
	expr->action = SET_PRIORITY;
	if (words_take_text(w, "meta priority ")) {
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
		    read_set_priority(w, expr) || read_change_set(nft, w, expr))
			continue;
		if (statement_read(w, &expr->statement)) {
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
	uint8_t key[FAKE_KEY];

	if (!term_load_all(expr->terms, expr->nterms, p, key))
		return false;
	if (term_has_no_right_side(&expr->terms[0]))
		return true;
	return (expr->set ? set_has(expr->set, key) : is_one_of(expr, key)) != expr->differs;
}

static bool change_set(const struct expr *expr, const struct fake_packet *p)
{
	uint8_t key[FAKE_KEY];

	if (!term_load_all(expr->terms, expr->nterms, p, key))
		return false;
	set_change(expr->set, key, expr->adds);
	return true;
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
			/* NAT is a verdict. */
			if (expr->statement.kind == KEEP_SOURCE)
				return ACCEPTED;
			break;
		case CHANGE_SET:
			if (!change_set(expr, p))
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
