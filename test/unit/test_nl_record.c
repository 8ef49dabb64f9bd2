/*
 * Records of SAs: what goes into another server shows there what it showed, and what is no record,
 * or contradicts another one, is refused with a sentence and changes nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include "nl_util.h"

#include <cmocka.h>

#include <xf/freeze.h>

#include "nl/record.h"
#include "nl/record_format.h"
#include "sad/use.h"

#define ROOM (64 * 1024)
#define KINDS 6

struct records {
	_Alignas(8) uint8_t data[ROOM];
	size_t len;
	size_t at[17]; /* where each begins, and the end */
	unsigned n;
};

static struct xf_sa *find(struct nl_fixture *f, uint32_t spi, uint32_t mark)
{
	struct xf_sa_id id = { .daddr.bytes = { 10, 0, 0, 2 },
			       .spi = spi,
			       .family = XF_AF_INET,
			       .proto = XF_IPPROTO_ESP };

	return xf_sad_find_in(f->sad, &id, mark);
}

static void add(struct records *records, struct nl_fixture *f, struct xf_sa *sa)
{
	size_t len;

	assert_non_null(sa);
	xf_sad_freeze(f->sad, &sa, 1);
	records->at[records->n++] = records->len;
	assert_int_equal(
		xf_nl_record_write(sa, records->data + records->len, ROOM - records->len, &len), 0);
	records->len += len;
	records->at[records->n] = records->len;
}

static int restore(struct nl_fixture *f, const struct records *records, const char **why)
{
	/* A block of just this size: AddressSanitizer sees a read past its end. */
	uint8_t *exact = malloc(records->len);
	int err;

	memcpy(exact, records->data, records->len);
	err = xf_nl_restore(f->server, exact, records->len, why);
	free(exact);
	assert_int_equal(err == 0, *why == NULL);
	return err;
}

static unsigned count(const struct nl_fixture *f)
{
	struct xf_sad_info info;

	xf_sad_get_info(f->sad, &info);
	return info.count;
}

/* --- SAs of all kinds --- */

struct esn {
	struct xfrm_replay_state_esn esn;
	uint32_t bmp[2];
};

static void begin_sa(struct nl_req *r, uint32_t spi, uint8_t flags, uint8_t dir)
{
	struct xfrm_usersa_info info;

	nl_sa_info(&info, spi);
	info.flags = flags;
	info.lft.soft_byte_limit = 1 << 20;
	info.lft.hard_add_expires_seconds = 5000;
	info.replay_window = dir || flags ? 0 : 32;
	nl_begin(r, XFRM_MSG_NEWSA, NLM_F_ACK, &info, sizeof(info));
	if (dir)
		nl_attr(r, XF_XFRMA_SA_DIR, &dir, 1);
}

static void send_ok(struct nl_fixture *f, const struct nl_req *r)
{
	nl_send(f, 0, r);
	assert_string_equal(nl_why(nl_msg(&f->in[0], 0)), "");
	assert_int_equal(nl_error(nl_msg(&f->in[0], 0)), 0);
}

static void add_esn(struct nl_fixture *f, uint32_t spi, uint8_t flags, uint8_t dir)
{
	struct esn esn = { .esn = { .bmp_len = 2, .replay_window = 64 } };
	struct nl_req r;

	if (dir == XF_SA_DIR_OUT)
		esn.esn.bmp_len = esn.esn.replay_window = 0;
	begin_sa(&r, spi, flags, dir);
	nl_attr_aead(&r, 160, 128);
	nl_attr(&r, XFRMA_REPLAY_ESN_VAL, &esn, sizeof(esn.esn) + 4 * esn.esn.bmp_len);
	send_ok(f, &r);
}

/* IVs of 16 bytes, a mark, encapsulation, and all else that has an attribute. */
static void add_whole(struct nl_fixture *f, uint32_t spi)
{
	const struct xfrm_encap_tmpl encap = { .encap_type = 2, .encap_sport = 0x9411 };
	const struct xfrm_mark mark = { 0x12, 0xff };
	const uint8_t coaddr[16] = { 1, 2, 3, 4 };
	struct nl_req r;

	begin_sa(&r, spi, XF_SA_NOECN, XF_SA_DIR_IN);
	nl_attr_alg(&r, XFRMA_ALG_AUTH, "sha256", 256);
	nl_attr_alg(&r, XFRMA_ALG_CRYPT, "aes", 128);
	nl_attr_u32(&r, XFRMA_IF_ID, 9);
	nl_attr_u32(&r, XFRMA_TFCPAD, 1400);
	nl_attr_u32(&r, XFRMA_SET_MARK, 6);
	nl_attr_u32(&r, XFRMA_SA_EXTRA_FLAGS, 4);
	nl_attr_u32(&r, XF_XFRMA_SA_PCPU, 0);
	nl_attr(&r, XFRMA_ENCAP, &encap, sizeof(encap));
	nl_attr(&r, XFRMA_COADDR, coaddr, sizeof(coaddr));
	nl_attr(&r, XFRMA_MARK, &mark, sizeof(mark));
	send_ok(f, &r);
}

/* NEWAE: numbers that NEWSA refuses, since no SA begins with them. */
static void set_esn(struct nl_fixture *f, uint32_t spi, const struct esn *esn)
{
	struct xfrm_aevent_id id = { .flags = 0 };
	struct nl_req r;

	nl_sa_id(&id.sa_id, spi);
	nl_begin(&r, XFRM_MSG_NEWAE, NLM_F_ACK | NLM_F_REPLACE, &id, sizeof(id));
	nl_attr(&r, XFRMA_REPLAY_ESN_VAL, esn, sizeof(esn->esn) + 4 * esn->esn.bmp_len);
	send_ok(f, &r);
}

/* The same without XFRMA_REPLAY_ESN_VAL. */
static void add_out(struct nl_fixture *f, uint32_t spi)
{
	const struct xfrm_replay_state received = { .oseq = 3, .seq = 9, .bitmap = 5 };
	struct xfrm_aevent_id id = { .flags = 0 };
	struct nl_req r;

	begin_sa(&r, spi, 0, XF_SA_DIR_OUT);
	nl_attr_aead(&r, 160, 128);
	send_ok(f, &r);
	nl_sa_id(&id.sa_id, spi);
	nl_begin(&r, XFRM_MSG_NEWAE, NLM_F_ACK | NLM_F_REPLACE, &id, sizeof(id));
	nl_attr(&r, XFRMA_REPLAY_VAL, &received, sizeof(received));
	send_ok(f, &r);
}

static void add_all_kinds(struct nl_fixture *f)
{
	const struct esn spent = { .esn = { .oseq = UINT32_MAX } };
	const struct esn newest = { .esn = { .bmp_len = 2, .seq = UINT32_MAX, .replay_window = 64 },
				    .bmp = { 5, 9 } };

	nl_add_sa(f, 0x100);
	add_whole(f, 0x101);
	add_esn(f, 0x102, XF_SA_ESN, 0);
	add_esn(f, 0x103, 0, XF_SA_DIR_OUT);
	set_esn(f, 0x103, &spent);
	add_esn(f, 0x104, 0, XF_SA_DIR_IN);
	set_esn(f, 0x104, &newest);
	add_out(f, 0x105);
}

static struct xf_sa *kind(struct nl_fixture *f, unsigned i)
{
	return find(f, 0x100 + i, 0x12);
}

/* Packets of both ways, and some that were dropped. */
static void use_all(struct nl_fixture *f)
{
	for (unsigned i = 0; i < 3; i++) {
		struct xf_sa *sa = kind(f, i);
		struct xf_sa_numbers numbers;
		bool out = i != 1;

		assert_int_equal(xf_sa_check(sa, xf_sa_form(sa)->what, out, NL_NOW, NULL), XF_PASS);
		assert_int_equal(xf_sa_take_numbers(sa, xf_sa_form(sa), 40 + i, &numbers), 40 + i);
		xf_sa_count(&sa->out, 0, 40 + i, 4000, NL_NOW);
		xf_sa_window_lock(sa);
		xf_sa_replay_commit(sa, 20 + i);
		xf_sa_replay_commit(sa, 18);
		xf_sa_replay_commit(sa, 18);
		xf_sa_window_unlock(sa);
		xf_sa_count(&sa->in, 0, 2, 222, NL_NOW + 5 * XF_NSEC_PER_SEC);
		xf_sa_count_drop(sa, XF_DROP_IN_STATE_SEQ);
	}
}

static void record_all(struct nl_fixture *f, struct records *out)
{
	out->n = 0;
	out->len = 0;
	for (unsigned i = 0; i < KINDS; i++)
		add(out, f, kind(f, i));
}

/* All that a dump shows: the same datagrams. */
static void compare_dumps(struct nl_fixture *a, struct nl_fixture *b)
{
	struct nl_req r;

	nl_begin(&r, XFRM_MSG_GETSA, NLM_F_DUMP, NULL, 0);
	nl_send(a, 0, &r);
	nl_send(b, 0, &r);
	assert_int_equal(a->in[0].n, b->in[0].n);
	for (unsigned i = 0; i < a->in[0].n; i++) {
		assert_int_equal(a->in[0].len[i], b->in[0].len[i]);
		assert_memory_equal(a->in[0].data[i], b->in[0].data[i], a->in[0].len[i]);
	}
}

static uint32_t *head_of(struct records *records, unsigned i)
{
	return (uint32_t *)(void *)(records->data + records->at[i]);
}

static struct nlmsghdr *message_of(struct records *records, unsigned i)
{
	return (void *)(records->data + records->at[i] + sizeof(struct xf_nl_record_head));
}

static struct nlattr *part_of(struct records *records, unsigned i, uint16_t type)
{
	struct nlmsghdr *nlh = message_of(records, i);
	uint8_t *at = (uint8_t *)nlh + NLMSG_ALIGN(nlh->nlmsg_len);

	while (at < records->data + records->at[i + 1]) {
		struct nlattr *attr = (void *)at;

		if (attr->nla_type == type)
			return attr;
		at += NLMSG_ALIGN(attr->nla_len);
	}
	fail();
	return NULL;
}

static void *value_of(struct records *records, unsigned i, uint16_t type)
{
	return (uint8_t *)part_of(records, i, type) + sizeof(struct nlattr);
}

static void all_kinds_show_the_same(void **state)
{
	struct nl_fixture *from = nl_setup(), *to = nl_setup();
	static struct records records;
	const char *why;

	(void)state;
	xf_nl_client_set_groups(to->in[1].client, UINT32_MAX);
	add_all_kinds(from);
	use_all(from);
	record_all(from, &records);
	assert_int_equal(restore(to, &records, &why), 0);
	compare_dumps(from, to);
	assert_int_equal(to->sa_changes, KINDS);
	assert_int_equal(to->in[1].n, 0);
	for (unsigned i = 0; i < KINDS; i++) {
		struct xf_sa_origin a, b;

		assert_int_equal(xf_sa_get_state(kind(from, i)), XF_SA_FROZEN);
		assert_int_equal(xf_sa_get_state(kind(to, i)), XF_SA_VALID);
		xf_sa_get_origin(kind(from, i), &a);
		xf_sa_get_origin(kind(to, i), &b);
		assert_int_equal(a.id, b.id);
		assert_memory_equal(a.seed, b.seed, sizeof(a.seed));
		assert_memory_equal(value_of(&records, i, XF_NL_RECORD_SLOT), &a.slot, 8);
		assert_int_equal(atomic_load(&kind(from, i)->begun),
				 atomic_load(&kind(to, i)->begun));
		assert_true(kind(to, i)->turn.now == atomic_load(&kind(to, i)->begun));
	}
	nl_teardown(from);
	nl_teardown(to);
}

/* --- What is refused --- */

static void only_what_is_out_of_use_has_a_record(void **state)
{
	static uint8_t buf[XF_NL_RECORD_MAX], none[XF_NL_RECORD_MAX];
	struct nl_fixture *f = nl_setup();
	struct xf_sa *sa;
	size_t len, full;

	(void)state;
	add_whole(f, 0x101);
	sa = kind(f, 1);
	assert_int_equal(xf_nl_record_write(sa, buf, sizeof(buf), &len), -EBUSY);
	assert_int_equal(xf_sad_freeze(f->sad, &sa, 1), 1);
	assert_int_equal(xf_nl_record_write(sa, buf, sizeof(buf), &full), 0);
	assert_int_equal(full % 8, 0);
	memset(buf, 0, sizeof(buf));
	for (size_t room = 0; room < full; room++) {
		assert_int_equal(xf_nl_record_write(sa, buf, room, &len), -ENOSPC);
		assert_memory_equal(buf, none, sizeof(buf));
	}
	assert_int_equal(xf_nl_record_write(sa, buf, full, &len), 0);
	xf_sad_thaw(f->sad, sa);
	assert_int_equal(xf_nl_record_write(sa, buf, sizeof(buf), &len), -EBUSY);
	nl_teardown(f);
}

static struct nl_fixture *with_records(struct records *out)
{
	struct nl_fixture *f = nl_setup();

	add_all_kinds(f);
	use_all(f);
	record_all(f, out);
	return f;
}

static void refused(struct nl_fixture *to, const struct records *records, int err,
		    const char *sentence)
{
	const char *why;

	assert_int_equal(restore(to, records, &why), err);
	assert_string_equal(why, sentence);
	assert_int_equal(count(to), 0);
	assert_int_equal(to->sa_changes, 0);
}

static void a_version_that_is_not_known(void **state)
{
	static const uint32_t versions[] = { 0, 2, 1u << 16, UINT32_MAX };
	static struct records good, bad;
	struct nl_fixture *from = with_records(&good), *to = nl_setup();

	(void)state;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(versions); i++) {
		bad = good;
		/* In the last one of them: none of those before it stays. */
		memcpy(bad.data + bad.at[KINDS - 1] + offsetof(struct xf_nl_record_head, version),
		       &versions[i], sizeof(versions[i]));
		refused(to, &bad, -EPROTO, "The record is of a version that is not known here");
	}
	nl_teardown(from);
	nl_teardown(to);
}

static void cut_off_anywhere(void **state)
{
	static struct records good, bad;
	struct nl_fixture *from = with_records(&good), *to = nl_setup();
	const char *why;

	(void)state;
	bad = good;
	for (bad.len = 0; bad.len < good.at[1]; bad.len++) {
		uint8_t *exact = malloc(bad.len ? bad.len : 1);

		memcpy(exact, good.data, bad.len);
		assert_int_equal(xf_nl_restore(to->server, exact, bad.len, &why),
				 bad.len ? -EBADMSG : 0);
		if (bad.len)
			assert_string_equal(why, "The record is cut off");
		assert_int_equal(count(to), 0);
		free(exact);
	}
	nl_teardown(from);
	nl_teardown(to);
}

struct spoiled {
	void (*spoil)(struct records *records);
	int err;
	const char *why;
};

static void other_magic(struct records *records)
{
	head_of(records, 1)[0]++;
}

static void less_than_a_head(struct records *records)
{
	head_of(records, 1)[2] = 8;
}

static void odd_length(struct records *records)
{
	head_of(records, 1)[2] -= 4;
}

static void length_of_two(struct records *records)
{
	head_of(records, 1)[2] += head_of(records, 2)[2];
}

static void longer_than_all(struct records *records)
{
	head_of(records, KINDS - 1)[2] += 8;
}

static void unused_is_used(struct records *records)
{
	head_of(records, 1)[3] = 1;
}

static void other_message(struct records *records)
{
	message_of(records, 1)->nlmsg_type = XFRM_MSG_UPDSA;
}

static void message_without_head(struct records *records)
{
	message_of(records, 1)->nlmsg_len = 15;
}

/* The record has room for it. */
static void message_is_too_long(struct records *records)
{
	message_of(records, KINDS - 1)->nlmsg_len = XF_NL_MSG_MAX + 1;
	head_of(records, KINDS - 1)[2] = XF_NL_RECORD_MAX;
	records->len = records->at[KINDS - 1] + XF_NL_RECORD_MAX;
}

static void last_part_is_too_long(struct records *records)
{
	part_of(records, KINDS - 1, XF_NL_RECORD_WINDOW)->nla_len += 64;
}

static void nothing_but_a_head(struct records *records)
{
	head_of(records, KINDS - 1)[2] = sizeof(struct xf_nl_record_head);
	records->len = records->at[KINDS - 1] + sizeof(struct xf_nl_record_head);
}

/* The part of the last record has @more bytes more, or less; what is behind it moves. */
static void resize(struct records *records, uint16_t type, int more)
{
	struct nlattr *part = part_of(records, KINDS - 1, type);
	uint8_t *end = (uint8_t *)part + NLMSG_ALIGN(part->nla_len);

	memmove(end + more, end, (size_t)(records->data + records->len - end));
	part->nla_len = (uint16_t)(part->nla_len + more);
	records->len = (size_t)((int)records->len + more + 7) / 8 * 8;
	head_of(records, KINDS - 1)[2] = (uint32_t)(records->len - records->at[KINDS - 1]);
}

static void short_id(struct records *records)
{
	resize(records, XF_NL_RECORD_ID, -4);
}

static void long_slot(struct records *records)
{
	resize(records, XF_NL_RECORD_SLOT, 8);
}

static void one_row_more(struct records *records)
{
	struct nlattr *table = part_of(records, KINDS - 1, XF_NL_RECORD_TABLE);

	resize(records, XF_NL_RECORD_TABLE, 8);
	memset((uint8_t *)table + table->nla_len - 8, 0, 8);
}

/* One more, behind all that is needed. */
static void append(struct records *records, uint16_t type)
{
	const struct nlattr part = { .nla_len = 12, .nla_type = type };
	struct nlattr *window = part_of(records, KINDS - 1, XF_NL_RECORD_WINDOW);
	uint8_t *end = (uint8_t *)window + NLMSG_ALIGN(window->nla_len);

	memset(end, 0, 16);
	memcpy(end, &part, sizeof(part));
	records->len = ((size_t)(end - records->data) + 12 + 7) / 8 * 8;
	head_of(records, KINDS - 1)[2] = (uint32_t)(records->len - records->at[KINDS - 1]);
}

static void one_more_that_is_none(struct records *records)
{
	append(records, 0);
}

static void one_more_not_known(struct records *records)
{
	append(records, XF_NL_RECORD_PARTS);
}

static void one_more_of_the_same(struct records *records)
{
	append(records, XF_NL_RECORD_ID);
}

static void without_window(struct records *records)
{
	struct nlattr *window = part_of(records, KINDS - 1, XF_NL_RECORD_WINDOW);

	records->len = (size_t)((uint8_t *)window - records->data + 7) / 8 * 8;
	head_of(records, KINDS - 1)[2] = (uint32_t)(records->len - records->at[KINDS - 1]);
}

static void message_beyond_record(struct records *records)
{
	head_of(records, 1)[2] = message_of(records, 1)->nlmsg_len / 8 * 8;
}

static void message_of_nothing(struct records *records)
{
	struct nlmsghdr *nlh = message_of(records, 1);
	uint32_t all = nlh->nlmsg_len;
	uint32_t len = sizeof(struct nlmsghdr) + 64;

	memmove((uint8_t *)nlh + len, (uint8_t *)nlh + all, records->at[2] - records->at[1] - all);
	nlh->nlmsg_len = len;
	head_of(records, 1)[2] -= (all - len + 7) / 8 * 8;
	records->len = records->at[1] + head_of(records, 1)[2];
}

static void part_is_too_short(struct records *records)
{
	part_of(records, 1, XF_NL_RECORD_SLOT)->nla_len = 3;
}

static void part_is_too_long(struct records *records)
{
	part_of(records, 1, XF_NL_RECORD_WINDOW)->nla_len += 8;
}

static void part_that_is_none(struct records *records)
{
	part_of(records, 1, XF_NL_RECORD_SEED)->nla_type = 0;
}

static void part_not_known(struct records *records)
{
	part_of(records, 1, XF_NL_RECORD_SEED)->nla_type = XF_NL_RECORD_PARTS;
}

static void part_twice(struct records *records)
{
	part_of(records, 1, XF_NL_RECORD_SLOT)->nla_type = XF_NL_RECORD_ID;
}

static void part_is_missing(struct records *records)
{
	part_of(records, 1, XF_NL_RECORD_ID)->nla_len += 12; /* swallows the slot */
}

static void seed_of_another_length(struct records *records)
{
	part_of(records, 1, XF_NL_RECORD_SEED)->nla_len--;
}

static void half_a_row(struct records *records)
{
	part_of(records, 1, XF_NL_RECORD_TABLE)->nla_len -= 1;
}

static void one_row_less(struct records *records)
{
	struct nlattr *table = part_of(records, 1, XF_NL_RECORD_TABLE);
	struct nlattr *end = (void *)((uint8_t *)table + table->nla_len - 8);

	/* Swallows what the row was. */
	*end = (struct nlattr){ .nla_len = 8, .nla_type = XF_NL_RECORD_PARTS };
	table->nla_len -= 8;
}

static void number_not_known(struct records *records)
{
	*(uint16_t *)value_of(records, 1, XF_NL_RECORD_TABLE) = 999;
}

static void window_not_whole(struct records *records)
{
	part_of(records, 1, XF_NL_RECORD_WINDOW)->nla_len--;
}

static void same_id(struct records *records)
{
	memcpy(value_of(records, 3, XF_NL_RECORD_ID), value_of(records, 1, XF_NL_RECORD_ID), 8);
}

static void no_id(struct records *records)
{
	memset(value_of(records, 3, XF_NL_RECORD_ID), 0, 8);
}

static void same_slot(struct records *records)
{
	memcpy(value_of(records, 4, XF_NL_RECORD_SLOT), value_of(records, 0, XF_NL_RECORD_SLOT), 8);
}

static void same_sa(struct records *records)
{
	struct xfrm_usersa_info *info = mnl_nlmsg_get_payload(message_of(records, 4));

	xf_put_be32(&info->id.spi, 0x100);
}

static void key_beyond_its_attribute(struct records *records)
{
	const struct nlattr *attr =
		nl_find(message_of(records, 2), sizeof(struct xfrm_usersa_info), XFRMA_ALG_AEAD);

	((uint32_t *)mnl_attr_get_payload(attr))[16] = 1 << 20;
}

static void algorithm_not_known(struct records *records)
{
	const struct nlattr *attr =
		nl_find(message_of(records, 2), sizeof(struct xfrm_usersa_info), XFRMA_ALG_AEAD);

	((char *)mnl_attr_get_payload(attr))[0] = 'x';
}

static const struct spoiled spoiled[] = {
	{ other_magic, -EBADMSG, "This is no record of an SA" },
	{ less_than_a_head, -EBADMSG, "The record's header is wrong" },
	{ odd_length, -EBADMSG, "The record's header is wrong" },
	{ length_of_two, -EBADMSG, "The record's parts are wrong" },
	{ longer_than_all, -EBADMSG, "The record is cut off" },
	{ unused_is_used, -EBADMSG, "The record's header is wrong" },
	{ other_message, -EBADMSG, "The record's message is wrong" },
	{ message_without_head, -EBADMSG, "The record's message is wrong" },
	{ message_is_too_long, -EBADMSG, "The record's message is wrong" },
	{ last_part_is_too_long, -EBADMSG, "The record's parts are wrong" },
	{ nothing_but_a_head, -EBADMSG, "The record's message is wrong" },
	{ short_id, -EBADMSG, "The record's parts are wrong" },
	{ long_slot, -EBADMSG, "The record's parts are wrong" },
	{ one_row_more, -EINVAL, "The numbers of the SA are not those that this version knows" },
	{ one_more_that_is_none, -EBADMSG, "The record's parts are wrong" },
	{ one_more_not_known, -EBADMSG, "The record's parts are wrong" },
	{ one_more_of_the_same, -EBADMSG, "The record's parts are wrong" },
	{ without_window, -EBADMSG, "The record's parts are wrong" },
	{ message_beyond_record, -EBADMSG, "The record's message is wrong" },
	{ message_of_nothing, -EINVAL, "Invalid header length" },
	{ part_is_too_short, -EBADMSG, "The record's parts are wrong" },
	{ part_is_too_long, -EBADMSG, "The record's parts are wrong" },
	{ part_that_is_none, -EBADMSG, "The record's parts are wrong" },
	{ part_not_known, -EBADMSG, "The record's parts are wrong" },
	{ part_twice, -EBADMSG, "The record's parts are wrong" },
	{ part_is_missing, -EBADMSG, "The record's parts are wrong" },
	{ seed_of_another_length, -EBADMSG, "The record's parts are wrong" },
	{ half_a_row, -EBADMSG, "The record's parts are wrong" },
	{ one_row_less, -EBADMSG, "The record's parts are wrong" },
	{ number_not_known, -EINVAL,
	  "The numbers of the SA are not those that this version knows" },
	{ window_not_whole, -EINVAL, "The numbers of the SA are none that an SA can have" },
	{ same_id, -EEXIST, "The number of the SA is taken" },
	{ no_id, -EINVAL, "The number of the SA is not one" },
	{ same_slot, -EEXIST, "Two records say that their SA had the same place" },
	{ same_sa, -EEXIST, "There is an SA with the same SPI, destination and mark" },
	{ key_beyond_its_attribute, -EINVAL, "Invalid AEAD attribute length" },
	{ algorithm_not_known, -ENOSYS, "Requested AEAD algorithm not found" },
};

static void what_is_wrong_is_said(void **state)
{
	static struct records good, bad;
	struct nl_fixture *from = with_records(&good), *to = nl_setup();
	const char *why;

	(void)state;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(spoiled); i++) {
		bad = good;
		spoiled[i].spoil(&bad);
		print_message("# %s\n", spoiled[i].why);
		refused(to, &bad, spoiled[i].err, spoiled[i].why);
	}
	/* None of that is in the way of the good ones. */
	assert_int_equal(restore(to, &good, &why), 0);
	compare_dumps(from, to);
	assert_int_equal(restore(to, &good, &why), -EEXIST);
	compare_dumps(from, to);
	nl_teardown(from);
	nl_teardown(to);
}

/* Whatever a byte becomes, the record is refused with a sentence, or makes an SA that works. */
static void any_byte_may_be_another(void **state)
{
	static struct records all, one;
	struct nl_fixture *from = with_records(&all), *to = nl_setup();
	unsigned made = 0, not_made = 0;

	(void)state;
	for (unsigned i = 0; i < KINDS; i++) {
		one.len = all.at[i + 1] - all.at[i];
		for (size_t at = 0; at < one.len; at++) {
			const char *why;

			memcpy(one.data, all.data + all.at[i], one.len);
			one.data[at] ^= (uint8_t)(1 + at * 7 % 255);
			if (restore(to, &one, &why))
				not_made++;
			else
				made++;
			assert_int_equal(count(to), why == NULL);
			compare_dumps(to, to);
			xf_sad_flush(to->sad, 0);
			xf_rcu_drain();
		}
	}
	print_message("# %u refused, %u made\n", not_made, made);
	assert_true(made > 100 && not_made > 100);
	nl_teardown(from);
	nl_teardown(to);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_kinds_show_the_same),
		cmocka_unit_test(only_what_is_out_of_use_has_a_record),
		cmocka_unit_test(a_version_that_is_not_known),
		cmocka_unit_test(cut_off_anywhere),
		cmocka_unit_test(what_is_wrong_is_said),
		cmocka_unit_test(any_byte_may_be_another),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
