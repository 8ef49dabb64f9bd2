#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "io/policies.h"

static bool append(struct xf_policy_list *list, const struct xf_policy_config *cfg)
{
	if (list->n == list->room) {
		size_t room = list->room ? 2 * list->room : 64;
		void *bigger = realloc(list->cfg, room * sizeof(list->cfg[0]));

		list->failed = !bigger;
		if (!bigger)
			return false;
		list->cfg = bigger;
		list->room = room;
	}
	list->cfg[list->n++] = cfg;
	return true;
}

static bool collect(void *arg, struct xf_policy *policy)
{
	struct xf_policy_list *list = arg;
	const struct xf_policy_config *cfg = xf_policy_cfg(policy);

	if (cfg->dir != list->dir || cfg->if_id)
		return true;
	return append(list, cfg);
}

/* Type sub is asked before main, then by priority. */
static bool goes_before(const struct xf_policy_config *a, const struct xf_policy_config *b)
{
	if (a->type != b->type)
		return a->type > b->type;
	return a->priority < b->priority;
}

/* A stable merge of two sorted runs. */
static void merge(const struct xf_policy_config **v, size_t mid, size_t n,
		  const struct xf_policy_config **tmp)
{
	size_t a = 0;
	size_t b = mid;

	for (size_t i = 0; i < n; i++)
		tmp[i] = b == n || (a < mid && !goes_before(v[b], v[a])) ? v[a++] : v[b++];
	memcpy(v, tmp, n * sizeof(v[0]));
}

static void sort(const struct xf_policy_config **v, size_t n, const struct xf_policy_config **tmp)
{
	if (n < 2)
		return;
	sort(v, n / 2, tmp);
	sort(v + n / 2, n - n / 2, tmp);
	merge(v, n / 2, n, tmp);
}

/* The walk is newest first; of equal priority the older one wins. */
static void reverse(struct xf_policy_list *list)
{
	for (size_t i = 0; i < list->n / 2; i++) {
		const struct xf_policy_config *first = list->cfg[i];

		list->cfg[i] = list->cfg[list->n - 1 - i];
		list->cfg[list->n - 1 - i] = first;
	}
}

int xf_policy_list_get(const struct xf_spd *spd, const struct xf_inherited *inherited, uint8_t dir,
		       struct xf_policy_list *list)
{
	const struct xf_policy_config **tmp;
	uint64_t cursor = 0;

	*list = (struct xf_policy_list){ .dir = dir };
	xf_spd_walk(spd, &cursor, collect, list);
	tmp = calloc(list->n + 1, sizeof(tmp[0]));
	list->failed = list->failed || !tmp;
	if (!list->failed) {
		reverse(list);
		sort(list->cfg, list->n, tmp);
	}
	free(tmp);
	list->current = list->n;
	for (size_t i = 0; inherited && !list->failed && i < inherited->n; i++)
		if (inherited->cfg[i].dir == dir)
			append(list, &inherited->cfg[i]);
	if (!list->failed)
		return 0;
	free(list->cfg);
	return -ENOMEM;
}

void xf_policy_list_free(struct xf_policy_list *list)
{
	free(list->cfg);
}

static bool wants_protection(const struct xf_policy_config *cfg)
{
	for (unsigned i = 0; i < cfg->ntmpl; i++)
		if (!cfg->tmpl[i].optional)
			return true;
	return false;
}

bool xf_policy_is_strict(const struct xf_policy_config *cfg)
{
	if (cfg->action == XF_POLICY_BLOCK)
		return true;
	return cfg->dir == XF_DIR_OUT ? cfg->ntmpl > 0 : wants_protection(cfg);
}

bool xf_policy_has_ports(uint8_t proto)
{
	return proto == XF_IPPROTO_TCP || proto == XF_IPPROTO_UDP || proto == XF_IPPROTO_SCTP ||
	       proto == XF_IPPROTO_DCCP || proto == XF_IPPROTO_UDPLITE;
}

int xf_inherited_add(struct xf_inherited *inherited, const struct xf_policy_config *cfg)
{
	void *bigger = realloc(inherited->cfg, (inherited->n + 1) * sizeof(inherited->cfg[0]));

	if (!bigger)
		return -ENOMEM;
	inherited->cfg = bigger;
	inherited->cfg[inherited->n++] = *cfg;
	return 0;
}

/* What an update is looking at. */
struct comparison {
	struct xf_inherited *inherited;
	bool any;
};

static bool same(const struct xf_policy_config *a, const struct xf_policy_config *b)
{
	char word_a[XF_POLICY_WORD_LEN];
	char word_b[XF_POLICY_WORD_LEN];

	return strcmp(xf_policy_to_word(a, word_a), xf_policy_to_word(b, word_b)) == 0;
}

static bool forget(void *arg, struct xf_policy *policy)
{
	struct comparison *c = arg;
	struct xf_inherited *inherited = c->inherited;
	size_t kept = 0;

	c->any = true;
	for (size_t i = 0; i < inherited->n; i++)
		if (!same(&inherited->cfg[i], xf_policy_cfg(policy)))
			inherited->cfg[kept++] = inherited->cfg[i];
	inherited->n = kept;
	return true;
}

void xf_inherited_update(struct xf_inherited *inherited, const struct xf_spd *spd)
{
	struct comparison c = { .inherited = inherited };
	uint64_t cursor = 0;

	if (!inherited->n)
		return;
	xf_spd_walk(spd, &cursor, forget, &c);
	if (inherited->had_policies && !c.any)
		inherited->n = 0;
	inherited->had_policies = c.any;
}

void xf_inherited_free(struct xf_inherited *inherited)
{
	free(inherited->cfg);
}

/* A rule's comment has room for 128 characters: so bytes, not words for people. */
struct word {
	uint8_t version;
	uint8_t dir;
	uint8_t family;
	uint8_t proto;
	uint8_t prefixlen_s;
	uint8_t prefixlen_d;
	uint8_t ports[8];
	uint8_t mark[8];
	uint8_t saddr[16];
	uint8_t daddr[16];
};

#define WORD_VERSION 1

const char *xf_policy_to_word(const struct xf_policy_config *cfg, char *buf)
{
	const struct xf_selector *sel = &cfg->sel;
	struct word w = {
		.version = WORD_VERSION,
		.dir = cfg->dir,
		.family = (uint8_t)sel->family,
		.proto = sel->proto,
		.prefixlen_s = sel->prefixlen_s,
		.prefixlen_d = sel->prefixlen_d,
	};
	const uint8_t *bytes = (const uint8_t *)&w;

	xf_put_be16(w.ports, sel->sport);
	xf_put_be16(w.ports + 2, sel->sport_mask);
	xf_put_be16(w.ports + 4, sel->dport);
	xf_put_be16(w.ports + 6, sel->dport_mask);
	xf_put_be32(w.mark, cfg->mark.v);
	xf_put_be32(w.mark + 4, cfg->mark.m);
	memcpy(w.saddr, &sel->saddr, 16);
	memcpy(w.daddr, &sel->daddr, 16);
	for (size_t i = 0; i < sizeof(w); i++)
		snprintf(buf + 2 * i, 3, "%02x", bytes[i]);
	return buf;
}

static bool read_bytes(const char *text, uint8_t *bytes, size_t n)
{
	if (strlen(text) != 2 * n)
		return false;
	for (size_t i = 0; i < n; i++) {
		unsigned value;

		if (sscanf(text + 2 * i, "%2x", &value) != 1)
			return false;
		bytes[i] = (uint8_t)value;
	}
	return true;
}

bool xf_policy_from_word(const char *text, struct xf_policy_config *out)
{
	struct xf_selector *sel = &out->sel;
	struct word w;

	if (!read_bytes(text, (uint8_t *)&w, sizeof(w)) || w.version != WORD_VERSION ||
	    w.dir >= XF_DIR_MAX)
		return false;
	memset(out, 0, sizeof(*out));
	out->dir = w.dir;
	out->action = XF_POLICY_BLOCK;
	out->mark.v = xf_get_be32(w.mark);
	out->mark.m = xf_get_be32(w.mark + 4);
	sel->family = w.family;
	sel->proto = w.proto;
	sel->prefixlen_s = w.prefixlen_s;
	sel->prefixlen_d = w.prefixlen_d;
	sel->sport = xf_get_be16(w.ports);
	sel->sport_mask = xf_get_be16(w.ports + 2);
	sel->dport = xf_get_be16(w.ports + 4);
	sel->dport_mask = xf_get_be16(w.ports + 6);
	memcpy(&sel->saddr, w.saddr, 16);
	memcpy(&sel->daddr, w.daddr, 16);
	return true;
}
