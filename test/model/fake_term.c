/*
 * Fields of packets, as rules of fake_nft.h name them.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include <linux/if_arp.h>

#include "fake_conntrack.h"
#include "fake_term.h"

enum what {
	IP_ADDR,
	IP_FRAG_OFF,
	EXTHDR_FRAG,
	TCP_FLAGS,
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
	IIFTYPE,
	OIFTYPE,
	FIB_OIF,
	FIB_ADDR_TYPE,
	CT_ADDR,
	CT_PORT
};

/* --- reading --- */

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
	term->side = read_side(w, "saddr", "daddr");
	if (words_take(w, "type")) {
		term->what = FIB_ADDR_TYPE;
		term->type = NAME;
		return;
	}
	words_expect(w, ".");
	words_expect(w, "mark");
	words_expect(w, "oif");
	term->what = FIB_OIF;
	term->type = NUMBER;
}

/* "original ip saddr", "reply proto-dst" */
static void read_ct(struct words *w, struct term *term)
{
	bool four;

	term->way = read_side(w, "original", "reply");
	four = words_take(w, "ip");
	if (four || words_take(w, "ip6")) {
		term->what = CT_ADDR;
		term->type = four ? V4 : V6;
		term->side = read_side(w, "saddr", "daddr");
		return;
	}
	term->what = CT_PORT;
	term->type = PORT;
	term->side = read_side(w, "proto-src", "proto-dst");
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
	} else if (strcmp(word, "iiftype") == 0 || strcmp(word, "oiftype") == 0) {
		term->what = word[0] == 'i' ? IIFTYPE : OIFTYPE;
		term->type = NUMBER;
	} else if (strcmp(word, "fib") == 0) {
		read_fib(w, term);
	} else if (strcmp(word, "ct") == 0) {
		read_ct(w, term);
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

unsigned term_read_all(struct words *w, struct term terms[FAKE_FIELDS])
{
	unsigned n = 0;

	do {
		assert_in_range(n, 0, FAKE_FIELDS - 1);
		read_term(w, &terms[n++]);
	} while (words_take(w, "."));
	return n;
}

uint32_t term_read_flags(struct words *w)
{
	static const struct {
		const char *word;
		uint32_t bit;
	} flags[] = { { "0", 0 },
		      { "fin", FAKE_FIN },
		      { "syn", FAKE_SYN },
		      { "rst", FAKE_RST },
		      { "ack", FAKE_ACK } };
	uint32_t bits = 0;

	do {
		unsigned i = 0;

		while (!words_take_text(w, flags[i].word))
			assert_in_range(++i, 0, XF_ARRAY_SIZE(flags) - 1);
		bits |= flags[i].bit;
	} while (words_take(w, "|"));
	return bits;
}

bool term_read_flags_of_tcp(struct words *w, struct term *term)
{
	if (!words_take_text(w, "tcp flags & ("))
		return false;
	term->what = TCP_FLAGS;
	term->type = NUMBER;
	fake_put_number(term->mask, term_read_flags(w));
	words_expect(w, ")");
	words_expect(w, "==");
	return true;
}

void term_is_piece(struct term *term)
{
	term->what = EXTHDR_FRAG;
}

bool term_has_no_right_side(const struct term *term)
{
	return term->what == EXTHDR_FRAG;
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

/* As the kernel has it (linux/if_arp.h). */
static uint32_t device_type(const char *name)
{
	if (strcmp(name, "lo") == 0)
		return ARPHRD_LOOPBACK;
	return strcmp(name, xf_io_names_default.tun) == 0 ? ARPHRD_NONE : ARPHRD_ETHER;
}

static uint32_t transport(const struct term *term, const struct fake_packet *p)
{
	uint32_t value = 0;

	assert_in_range(term->off + term->len, 1, sizeof(p->l4));
	for (unsigned i = 0; i < term->len; i++)
		value = value << 8 | p->l4[term->off + i];
	return value;
}

static bool load_tuple(const struct term *term, const struct fake_packet *p,
		       uint8_t field[FAKE_FIELD])
{
	const struct fake_tuple *t;

	if (!p->track || !p->track->entry)
		return false;
	t = &p->track->entry->way[term->way];
	if (term->what == CT_PORT) {
		fake_put_number(field, t->port[term->side]);
		return true;
	}
	memset(field, 0, FAKE_FIELD);
	memcpy(field, t->addr[term->side].bytes, t->family == XF_AF_INET ? 4 : 16);
	return (t->family == XF_AF_INET) == (term->type == V4);
}

static bool load(const struct term *term, const struct fake_packet *p, uint8_t field[FAKE_FIELD])
{
	bool four = p->family == XF_AF_INET;

	switch ((enum what)term->what) {
	case IP_ADDR:
		memset(field, 0, FAKE_FIELD);
		memcpy(field, p->addr[term->side].bytes, four ? 4 : 16);
		return four == (term->type == V4);
	case IP_FRAG_OFF:
		fake_put_number(field, (uint32_t)(p->behind ? 185 : p->fragment ? 0x2000 : 0));
		return four;
	case EXTHDR_FRAG:
		return !four && p->fragment;
	case TCP_FLAGS:
		fake_put_number(field, p->tcp_flags);
		return p->proto == XF_IPPROTO_TCP && !p->behind;
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
		fake_put_name(field, term->what == IIFNAME ? p->iif : p->oif);
		return true;
	case FIB_OIF:
		fake_put_number(field, fake_ifindex(p->fib_oif ? p->fib_oif : p->oif));
		return true;
	case IIF:
	case OIF:
		fake_put_number(field, fake_ifindex(term->what == IIF ? p->iif : p->oif));
		return true;
	case IIFTYPE:
	case OIFTYPE:
		fake_put_number(field, device_type(term->what == IIFTYPE ? p->iif : p->oif));
		return true;
	case FIB_ADDR_TYPE:
		fake_put_name(field, term->side ? p->daddr_type : p->saddr_type);
		return true;
	case CT_ADDR:
	case CT_PORT:
		return load_tuple(term, p, field);
	}
	return false;
}

bool term_load_all(const struct term *terms, unsigned n, const struct fake_packet *p,
		   uint8_t key[FAKE_KEY])
{
	memset(key, 0, FAKE_KEY);
	for (unsigned i = 0; i < n; i++) {
		uint8_t *field = key + i * FAKE_FIELD;

		if (!load(&terms[i], p, field))
			return false;
		for (unsigned b = 0; b < FAKE_FIELD; b++)
			field[b] &= terms[i].mask[b];
	}
	return true;
}
