/*
 * fake_rule.h - the inside of fake_nft.h: words of scripts, values, rules.
 */
#ifndef TEST_FAKE_RULE_H
#define TEST_FAKE_RULE_H

#include "fake_nft.h"

/* A script, line by line, word by word; commas, semicolons and quotes are space. */
struct words {
	const char *at; /* the rest of the script */
	char line[65536];
	char *rest; /* of the line */
};

bool words_line(struct words *w);
bool words_end(struct words *w);
const char *words_next(struct words *w);
bool words_take(struct words *w, const char *word);
bool words_take_text(struct words *w, const char *text); /* whatever comes behind it */
void words_expect(struct words *w, const char *word);

enum type { V4, V6, PROTO, PORT, NUMBER, FAMILY, NAME };

/* The type that a set calls so. */
enum type type_of(const char *word);

void fake_put_name(uint8_t field[FAKE_FIELD], const char *name);
/* @mask: of "10.0.0.0/8", or NULL where no prefix can be. */
void read_value(enum type type, const char *word, uint8_t field[FAKE_FIELD], uint8_t *mask);

enum kind { TABLE, CHAIN, SET, RULE, COUNTER, ELEMENT };

struct rule;

struct object {
	enum kind kind; /* CHAIN, SET, COUNTER */
	char name[64];
	uint32_t hash; /* of both */
	uint64_t handle;
	struct object *next;
	unsigned room;
	/* chain */
	char hook[16]; /* "" but for base chains */
	bool nat;
	int priority;
	bool drops; /* what has no verdict: its policy */
	struct rule **rules;
	unsigned nrules;
	/* set */
	enum type fields[FAKE_FIELDS];
	unsigned nfields;
	uint8_t (*keys)[FAKE_KEY];
	unsigned nkeys;
	/* counter */
	uint64_t packets;
};

struct fake_nft {
	const char *family;
	bool there;
	bool owned; /* it has an owner, or had: then it is an orphan ... */
	bool alone; /* ... unless that one lives */
	bool no_nat_chains; /* this kernel does not take them */
	uint64_t handle; /* the last one given */
	uint64_t generation; /* how often it has changed */
	struct object *objects;
};

struct object *object_find(const struct fake_nft *nft, enum kind kind, const char *name);
bool set_has(const struct object *set, const uint8_t key[FAKE_KEY]);
void set_change(struct object *set, const uint8_t key[FAKE_KEY], bool there);

/* The rest of a line, as a rule. */
struct rule *rule_read(struct fake_nft *nft, struct words *w);
uint64_t rule_handle(const struct rule *rule);
void rule_free(struct rule *rule);
bool rule_uses(const struct rule *rule, const struct object *object);

#endif
