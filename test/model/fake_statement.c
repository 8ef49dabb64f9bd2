/*
 * Statements of src/capture/nat/nat.c and on ICMP errors.
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

/* --- reading --- */

static bool read_direction(struct words *w)
{
	if (words_take(w, "reply"))
		return true;
	words_expect(w, "original");
	return false;
}

/* "established related untracked" */
static uint8_t read_states(struct words *w)
{
	static const char *const names[] = { "new", "established", "related", "untracked" };
	uint8_t states = 0;

	for (unsigned i = 0; i < XF_ARRAY_SIZE(names); i++)
		states |= (uint8_t)(words_take(w, names[i]) << i);
	assert_true(states);
	return states;
}

static bool read_ct(struct words *w, struct statement *out)
{
	if (words_take_text(w, "ct direction ")) {
		out->kind = CT_DIRECTION;
		out->reply = read_direction(w);
	} else if (words_take_text(w, "ct state ")) {
		out->kind = CT_STATE;
		out->states = read_states(w);
	} else if (words_take_text(w, "ct status ")) {
		out->kind = CT_STATUS;
		out->manip = words_take(w, "snat") ? FAKE_SRC : FAKE_DST;
		if (out->manip == FAKE_DST)
			words_expect(w, "dnat");
	} else if (words_take_text(w, "ct original zone ")) {
		out->kind = words_take(w, "set") ? CT_SET_ZONE : CT_ZONE;
		out->differs = words_take(w, "!=");
		out->zone = (uint16_t)strtoul(words_next(w), NULL, 0);
	} else {
		return false;
	}
	return true;
}

/* "ip daddr set ct original ip saddr", "udp dport set ct reply proto-src" */
static bool read_rewrite(struct words *w, struct statement *out)
{
	static const struct {
		const char *text;
		uint16_t family;
		uint8_t proto;
	} forms[] = {
		{ "ip daddr set ct ", XF_AF_INET, 0 },
		{ "ip6 daddr set ct ", XF_AF_INET6, 0 },
		{ "tcp dport set ct ", 0, XF_IPPROTO_TCP },
		{ "udp dport set ct ", 0, XF_IPPROTO_UDP },
	};

	for (unsigned i = 0; i < XF_ARRAY_SIZE(forms); i++) {
		if (!words_take_text(w, forms[i].text))
			continue;
		out->kind = REWRITE;
		out->family = forms[i].family;
		out->proto = forms[i].proto;
		out->reply = read_direction(w);
		if (!out->proto)
			words_expect(w, out->family == XF_AF_INET ? "ip" : "ip6");
		out->manip = FAKE_SRC;
		if (!words_take(w, out->proto ? "proto-src" : "saddr")) {
			words_expect(w, out->proto ? "proto-dst" : "daddr");
			out->manip = FAKE_DST;
		}
		return true;
	}
	return false;
}

static bool read_icmp(struct words *w, struct statement *out)
{
	bool four = words_take_text(w, "icmp type {");

	if (!four && !words_take_text(w, "icmpv6 type {"))
		return false;
	out->kind = ICMP_TYPE;
	out->family = four ? XF_AF_INET : XF_AF_INET6;
	out->proto = four ? XF_IPPROTO_ICMP : XF_IPPROTO_ICMPV6;
	while (!words_take(w, "}"))
		out->types |= 1u << strtoul(words_next(w), NULL, 0);
	return true;
}

static bool read_keep_source(struct words *w, struct statement *out)
{
	bool four = words_take_text(w, "snat ip to ip saddr");

	if (!four && !words_take_text(w, "snat ip6 to ip6 saddr"))
		return false;
	out->kind = KEEP_SOURCE;
	out->family = four ? XF_AF_INET : XF_AF_INET6;
	return true;
}

bool statement_read(struct words *w, struct statement *out)
{
	*out = (struct statement){ .kind = NOTRACK };
	return words_take(w, "notrack") || read_ct(w, out) || read_rewrite(w, out) ||
	       read_icmp(w, out) || read_keep_source(w, out);
}

/* --- running --- */

static bool rewrite(const struct statement *s, struct fake_packet *p)
{
	const struct fake_tuple *t;

	if (s->proto && (p->proto != s->proto || p->behind))
		return false;
	if (!p->track || !p->track->entry)
		return false;
	t = &p->track->entry->way[s->reply];
	if (s->proto)
		xf_put_be16(p->l4 + 2, t->port[s->manip]);
	else
		p->addr[1] = t->addr[s->manip];
	return true;
}

static bool is_error(const struct statement *s, const struct fake_packet *p)
{
	return p->proto == s->proto && !p->behind && p->l4[0] < 32 && s->types >> p->l4[0] & 1;
}

/* A nat chain that is asked has an entry that is not decided yet. */
static bool keep_source(struct fake_packet *p)
{
	p->track->keep_source = true;
	return true;
}

/* In the order of read_states(); nothing of the model is related. 0: what is not tracked though no
 * rule says so. */
static uint8_t state_of(const struct fake_track *track)
{
	if (track->untracked)
		return 8;
	if (!track->entry)
		return 0;
	return track->reply || track->entry->replied ? 2 : 1;
}

static bool run_ct(const struct statement *s, struct fake_packet *p)
{
	struct fake_track *track = p->track;

	if (s->kind == NOTRACK || s->kind == CT_SET_ZONE) {
		track->untracked = track->untracked || s->kind == NOTRACK;
		track->zone = s->zone;
		return true;
	}
	if (s->kind == CT_STATE)
		return s->states & state_of(track);
	if (!track->entry)
		return false;
	if (s->kind == CT_DIRECTION)
		return track->reply == s->reply;
	if (s->kind == CT_STATUS)
		return track->entry->changed[s->manip];
	return (track->entry->zone == s->zone) != s->differs;
}

bool statement_run(const struct statement *s, struct fake_packet *p)
{
	if (s->family && p->family != s->family)
		return false;
	switch (s->kind) {
	case REWRITE:
		return rewrite(s, p);
	case ICMP_TYPE:
		return is_error(s, p);
	case KEEP_SOURCE:
		return keep_source(p);
	default:
		return p->track && run_ct(s, p);
	}
}
