/*
 * nftables for model_capture.c: scripts are parsed into chains of rules, and a rule into
 * expressions; fake_rule.c knows what these mean.
 */
#include <errno.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "fake_rule.h"

struct fake_nft *fake_nft_new_of(const char *family)
{
	struct fake_nft *nft = calloc(1, sizeof(*nft));

	assert_non_null(nft);
	nft->family = family;
	return nft;
}

struct fake_nft *fake_nft_new(void)
{
	return fake_nft_new_of("inet");
}

bool fake_nft_make(struct fake_nft *nft, bool own)
{
	if (!nft->there)
		nft->owned = own;
	nft->generation += !nft->there;
	nft->there = true;
	nft->alone = own && nft->owned;
	return nft->alone;
}

void fake_nft_orphan(struct fake_nft *nft)
{
	nft->alone = false;
}

bool fake_nft_is_alone(const struct fake_nft *nft)
{
	return nft->there && nft->alone;
}

void fake_nft_take_nat(struct fake_nft *nft, bool takes)
{
	nft->no_nat_chains = !takes;
}

/* --- what has a name --- */

/* There may be thousands of names. */
static uint32_t hash_of(enum kind kind, const char *name)
{
	uint32_t hash = kind;

	while (*name)
		hash = (hash ^ (uint8_t)*name++) * 0x01000193u;
	return hash;
}

struct object *object_find(const struct fake_nft *nft, enum kind kind, const char *name)
{
	uint32_t hash = hash_of(kind, name);

	for (struct object *o = nft->objects; o; o = o->next) {
		if (o->hash == hash && o->kind == kind && strcmp(o->name, name) == 0)
			return o;
	}
	return NULL;
}

static void drop_rules(struct object *chain)
{
	for (unsigned i = 0; i < chain->nrules; i++)
		rule_free(chain->rules[i]);
	chain->nrules = 0;
}

static void object_free(struct object *object)
{
	drop_rules(object);
	free(object->rules);
	free(object->keys);
	free(object);
}

static void delete_object(struct fake_nft *nft, struct object *object)
{
	struct object **at = &nft->objects;

	while (*at != object)
		at = &(*at)->next;
	*at = object->next;
	object_free(object);
}

static struct object *add_object(struct fake_nft *nft, enum kind kind, const char *name)
{
	struct object *object = object_find(nft, kind, name);

	if (object)
		return object;
	object = calloc(1, sizeof(*object));
	assert_non_null(object);
	object->kind = kind;
	object->hash = hash_of(kind, name);
	assert_in_range(strlen(name), 1, sizeof(object->name) - 1);
	strcpy(object->name, name);
	object->handle = ++nft->handle;
	object->next = nft->objects;
	nft->objects = object;
	return object;
}

static void delete_table(struct fake_nft *nft)
{
	struct object *next;

	for (struct object *o = nft->objects; o; o = next) {
		next = o->next;
		object_free(o);
	}
	nft->objects = NULL;
	nft->there = nft->owned = nft->alone = false;
}

void fake_nft_free(struct fake_nft *nft)
{
	delete_table(nft);
	free(nft);
}

/* --- sets --- */

static unsigned find_key(const struct object *set, const uint8_t key[FAKE_KEY])
{
	unsigned i = 0;

	while (i < set->nkeys && memcmp(set->keys[i], key, FAKE_KEY) != 0)
		i++;
	return i;
}

bool set_has(const struct object *set, const uint8_t key[FAKE_KEY])
{
	return find_key(set, key) < set->nkeys;
}

void set_change(struct object *set, const uint8_t key[FAKE_KEY], bool there)
{
	unsigned at = find_key(set, key);

	if (there != (at == set->nkeys))
		return;
	if (!there) {
		memmove(set->keys[at], set->keys[--set->nkeys], FAKE_KEY);
		return;
	}
	if (set->nkeys == set->room) {
		set->room = set->room ? 2 * set->room : 8;
		set->keys = realloc(set->keys, set->room * sizeof(set->keys[0]));
		assert_non_null(set->keys);
	}
	memcpy(set->keys[set->nkeys++], key, FAKE_KEY);
}

bool fake_nft_has_set(const struct fake_nft *nft, const char *set)
{
	return object_find(nft, SET, set);
}

bool fake_nft_has_chain(const struct fake_nft *nft, const char *chain)
{
	return object_find(nft, CHAIN, chain);
}

bool fake_nft_has_element(const struct fake_nft *nft, const char *set, const uint8_t key[FAKE_KEY])
{
	return set_has(object_find(nft, SET, set), key);
}

void fake_nft_change_element(struct fake_nft *nft, const char *set, const uint8_t key[FAKE_KEY],
			     bool there)
{
	nft->generation++;
	set_change(object_find(nft, SET, set), key, there);
}

static void each_object(struct fake_nft *nft, enum kind kind,
			void (*visit)(void *arg, const char *name), void *arg)
{
	struct object *next;

	for (struct object *o = nft->objects; o; o = next) {
		char name[sizeof(o->name)];

		next = o->next;
		strcpy(name, o->name);
		if (o->kind == kind)
			visit(arg, name);
	}
}

void fake_nft_each_set(struct fake_nft *nft, void (*visit)(void *arg, const char *name), void *arg)
{
	each_object(nft, SET, visit, arg);
}

void fake_nft_each_chain(struct fake_nft *nft, void (*visit)(void *arg, const char *name),
			 void *arg)
{
	each_object(nft, CHAIN, visit, arg);
}

/* "{ type ipv4_addr . inet_proto }" */
static void read_type(struct object *set, struct words *w)
{
	words_expect(w, "{");
	words_expect(w, "type");
	set->nfields = 0;
	do {
		assert_in_range(set->nfields, 0, FAKE_FIELDS - 1);
		set->fields[set->nfields++] = type_of(words_next(w));
	} while (words_take(w, "."));
	/* Nothing of the model takes so long, or fills one. */
	if (words_take(w, "flags")) {
		words_expect(w, "dynamic");
		if (words_take(w, "timeout")) {
			words_expect(w, "timeout");
			if (!words_take(w, "10m"))
				words_expect(w, "20s");
		}
		words_expect(w, "size");
		words_expect(w, "65535");
	}
	words_expect(w, "}");
}

static void read_elements(struct object *set, struct words *w)
{
	words_expect(w, "{");
	assert_int_equal(set->nfields, 1);
	while (!words_take(w, "}")) {
		uint8_t key[FAKE_KEY] = { 0 };

		read_value(set->fields[0], words_next(w), key, NULL);
		set_change(set, key, true);
	}
}

/* --- scripts --- */

static enum kind kind_of(const char *word)
{
	static const char *const names[] = {
		[TABLE] = "table", [CHAIN] = "chain",	  [SET] = "set",
		[RULE] = "rule",   [COUNTER] = "counter", [ELEMENT] = "element",
	};

	for (unsigned i = 0; i < XF_ARRAY_SIZE(names); i++) {
		if (strcmp(names[i], word) == 0)
			return (enum kind)i;
	}
	fail_msg("nftables knows no \"%s\"", word);
	return TABLE;
}

/* "add rule inet xfrmd outbound" */
struct command {
	char verb[16];
	enum kind kind;
	char name[64];
};

static struct command read_command(const struct fake_nft *nft, struct words *w)
{
	struct command c = { .name = "" };

	snprintf(c.verb, sizeof(c.verb), "%s", words_next(w));
	c.kind = kind_of(words_next(w));
	words_expect(w, nft->family);
	words_expect(w, "xfrmd");
	if (c.kind != TABLE)
		snprintf(c.name, sizeof(c.name), "%s", words_next(w));
	return c;
}

static void add_chain(struct fake_nft *nft, const char *name, struct words *w)
{
	struct object *chain = add_object(nft, CHAIN, name);

	if (words_end(w))
		return;
	words_expect(w, "{");
	words_expect(w, "type");
	chain->nat = words_take(w, "nat");
	if (!chain->nat && !words_take(w, "route"))
		words_expect(w, "filter");
	words_expect(w, "hook");
	snprintf(chain->hook, sizeof(chain->hook), "%s", words_next(w));
	words_expect(w, "priority");
	chain->priority = atoi(words_next(w));
	chain->drops = words_take(w, "policy") && words_take(w, "drop");
	words_expect(w, "}");
}

static void add_rule(struct fake_nft *nft, const char *name, struct words *w)
{
	struct object *chain = object_find(nft, CHAIN, name);

	if (chain->nrules == chain->room) {
		chain->room = chain->room ? 2 * chain->room : 8;
		chain->rules = realloc(chain->rules, chain->room * sizeof(chain->rules[0]));
		assert_non_null(chain->rules);
	}
	chain->rules[chain->nrules++] = rule_read(nft, w);
}

/* Only others do that. */
static void insert_rule(struct fake_nft *nft, const char *name, struct words *w)
{
	struct object *chain = object_find(nft, CHAIN, name);
	struct rule *last;

	add_rule(nft, name, w);
	last = chain->rules[chain->nrules - 1];
	memmove(chain->rules + 1, chain->rules, (chain->nrules - 1) * sizeof(chain->rules[0]));
	chain->rules[0] = last;
}

static void add(struct fake_nft *nft, const struct command *c, struct words *w)
{
	switch (c->kind) {
	case TABLE:
		nft->there = true;
		break;
	case COUNTER:
		add_object(nft, COUNTER, c->name);
		break;
	case CHAIN:
		add_chain(nft, c->name, w);
		break;
	case RULE:
		add_rule(nft, c->name, w);
		break;
	case SET:
		read_type(add_object(nft, SET, c->name), w);
		break;
	case ELEMENT:
		read_elements(object_find(nft, SET, c->name), w);
		break;
	}
}

static void flush(struct fake_nft *nft, const struct command *c)
{
	if (c->kind == SET) {
		object_find(nft, SET, c->name)->nkeys = 0;
		return;
	}
	for (struct object *o = nft->objects; o; o = o->next) {
		if (o->kind == CHAIN && (c->kind == TABLE || strcmp(o->name, c->name) == 0))
			drop_rules(o);
	}
}

static bool is_used(const struct fake_nft *nft, const struct object *object)
{
	for (const struct object *o = nft->objects; o; o = o->next) {
		for (unsigned i = 0; i < o->nrules; i++) {
			if (rule_uses(o->rules[i], object))
				return true;
		}
	}
	return false;
}

static int act(struct fake_nft *nft, const struct command *c, struct words *w)
{
	if (strcmp(c->verb, "add") == 0) {
		add(nft, c, w);
	} else if (strcmp(c->verb, "insert") == 0) {
		insert_rule(nft, c->name, w);
	} else if (strcmp(c->verb, "flush") == 0) {
		flush(nft, c);
	} else {
		assert_string_equal(c->verb, "delete");
		if (c->kind == TABLE) {
			delete_table(nft);
		} else {
			struct object *object = object_find(nft, c->kind, c->name);

			if (is_used(nft, object))
				return -EBUSY;
			delete_object(nft, object);
		}
	}
	if (!words_end(w))
		fail_msg("what is \"%s\" in a script?", words_next(w));
	return 0;
}

/* Names as they will be: what a script can miss is found before anything is changed. */
struct names {
	bool there;
	unsigned n;
	uint32_t hash[8192];
	struct {
		enum kind kind;
		char name[64];
	} of[8192];
};

static unsigned find_name(const struct names *names, enum kind kind, const char *name)
{
	uint32_t hash = hash_of(kind, name);
	unsigned i = 0;

	while (i < names->n && (names->hash[i] != hash || names->of[i].kind != kind ||
				strcmp(names->of[i].name, name) != 0))
		i++;
	return i;
}

static void add_name(struct names *names, enum kind kind, const char *name)
{
	if (find_name(names, kind, name) < names->n)
		return;
	assert_in_range(names->n, 0, XF_ARRAY_SIZE(names->of) - 1);
	names->hash[names->n] = hash_of(kind, name);
	names->of[names->n].kind = kind;
	snprintf(names->of[names->n++].name, sizeof(names->of[0].name), "%s", name);
}

static void delete_name(struct names *names, unsigned i)
{
	names->of[i] = names->of[--names->n];
	names->hash[i] = names->hash[names->n];
}

static bool has_references(const struct names *names, struct words *w)
{
	while (!words_end(w)) {
		const char *word = words_next(w);
		enum kind kind = SET;

		if (strcmp(word, "goto") == 0 || strcmp(word, "jump") == 0) {
			kind = CHAIN;
			word = words_next(w);
		} else if (word[0] == '@' && !strchr(word, ',')) {
			word++;
		} else {
			continue;
		}
		if (find_name(names, kind, word) == names->n)
			return false;
	}
	return true;
}

static bool translates(const struct command *c, const struct words *w)
{
	return c->kind == CHAIN && strstr(w->rest, "type nat ");
}

/* Does all that @c needs exist? */
static bool check_command(struct names *names, const struct command *c, struct words *w)
{
	bool adds = strcmp(c->verb, "add") == 0;
	enum kind needs = c->kind == RULE ? CHAIN : c->kind == ELEMENT ? SET : c->kind;

	if (c->kind == TABLE && adds) {
		names->there = true;
		return true;
	}
	if (!names->there)
		return false;
	if (c->kind == TABLE) {
		if (strcmp(c->verb, "delete") == 0)
			names->n = names->there = 0;
		return true;
	}
	if (adds && needs == c->kind)
		add_name(names, c->kind, c->name);
	else if (find_name(names, needs, c->name) == names->n)
		return false;
	if (strcmp(c->verb, "delete") == 0)
		delete_name(names, find_name(names, c->kind, c->name));
	return c->kind != RULE || has_references(names, w);
}

static bool check_script(const struct fake_nft *nft, const char *script, unsigned *commands)
{
	static struct names names;
	struct words w = { .at = script };

	names.n = 0;
	names.there = nft->there;
	for (const struct object *o = nft->objects; o; o = o->next)
		add_name(&names, o->kind, o->name);
	for (*commands = 0; words_line(&w); ++*commands) {
		struct command c = read_command(nft, &w);

		if ((nft->no_nat_chains && translates(&c, &w)) || !check_command(&names, &c, &w))
			return false;
	}
	return true;
}

int fake_nft_run(struct fake_nft *nft, const char *script)
{
	struct words w = { .at = script };
	unsigned commands;

	if (!check_script(nft, script, &commands))
		return -ENOENT;
	nft->generation++;
	while (words_line(&w)) {
		struct command c = read_command(nft, &w);
		int err = act(nft, &c, &w);

		if (err && commands > 1)
			fail_msg("%s is deleted while a rule uses it", c.name);
		if (err)
			return err;
	}
	return 0;
}

uint64_t fake_nft_counter(const struct fake_nft *nft, const char *name)
{
	const struct object *counter = object_find(nft, COUNTER, name);

	return counter ? counter->packets : 0;
}

unsigned fake_nft_rules(const struct fake_nft *nft)
{
	unsigned n = 0;

	for (const struct object *o = nft->objects; o; o = o->next)
		n += o->nrules;
	return n;
}

/* --- for those who look, and for others --- */

static uint64_t mix(uint64_t digest, uint64_t number)
{
	return (digest ^ number) * 0x100000001b3ull;
}

uint64_t fake_nft_element_digest(const char *set, const uint8_t key[FAKE_KEY])
{
	uint64_t digest = 0xcbf29ce484222325ull;

	for (; *set; set++)
		digest = mix(digest, (uint8_t)*set);
	for (unsigned i = 0; i < FAKE_KEY; i++)
		digest = mix(digest, key[i]);
	return digest;
}

/* Sets that packets fill have names of their own. */
static bool is_filled_by_packets(const struct object *o)
{
	return strncmp(o->name, "nat_", 4) == 0;
}

static uint64_t digest_keys(const struct object *set)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < set->nkeys; i++)
		sum += fake_nft_element_digest(set->name, set->keys[i]);
	return sum;
}

void fake_nft_read(const struct fake_nft *nft, struct fake_nft_seen *out)
{
	*out = (struct fake_nft_seen){ .there = nft->there, .generation = nft->generation };
	for (const struct object *o = nft->objects; o; o = o->next) {
		out->digest += mix(0xcbf29ce484222325ull, o->handle);
		for (unsigned i = 0; i < o->nrules; i++)
			out->digest += mix(o->handle, rule_handle(o->rules[i]));
		if (o->kind == SET && !is_filled_by_packets(o))
			out->elements += digest_keys(o);
	}
}

bool fake_nft_delete_rule(struct fake_nft *nft, const char *chain, unsigned n)
{
	struct object *o = object_find(nft, CHAIN, chain);

	if (!o || !o->nrules)
		return false;
	nft->generation++;
	n %= o->nrules;
	rule_free(o->rules[n]);
	o->nrules--;
	memmove(o->rules + n, o->rules + n + 1, (o->nrules - n) * sizeof(o->rules[0]));
	return true;
}

bool fake_nft_delete_element(struct fake_nft *nft, const char *set, unsigned n)
{
	struct object *o = object_find(nft, SET, set);

	if (!o->nkeys)
		return false;
	nft->generation++;
	set_change(o, o->keys[n % o->nkeys], false);
	return true;
}

static const char *object_name(const struct fake_nft *nft, enum kind kind, unsigned n)
{
	const struct object *o;
	unsigned count = 0;

	for (o = nft->objects; o; o = o->next)
		count += o->kind == kind;
	if (!count)
		return NULL;
	n %= count;
	for (o = nft->objects; o->kind != kind || n--; o = o->next)
		;
	return o->name;
}

const char *fake_nft_chain(const struct fake_nft *nft, unsigned n)
{
	return object_name(nft, CHAIN, n);
}

const char *fake_nft_set(const struct fake_nft *nft, unsigned n)
{
	return object_name(nft, SET, n);
}
