/*
 * Records back to SAs. A record is taken apart and checked whole before anything is made of it; its
 * SA goes through what NEWSA does, and stands in the SAD frozen until all of them do: so undoing it
 * takes nothing away that has numbered a packet.
 */
#include <stdlib.h>

#include <xf/freeze.h>

#include "nl/record.h"
#include "nl/record_format.h"
#include "nl/sa.h"

struct part {
	const uint8_t *data; /* NULL: it was not there */
	size_t len;
};

/* A record in its parts, which are not aligned. */
struct record {
	struct part message;
	struct part parts[XF_NL_RECORD_PARTS];
	size_t len;
};

/* What has been restored so far. */
struct restored {
	struct xf_sa *sa;
	uint64_t slot;
};

struct restore {
	struct xf_nl_server *server;
	struct restored *all;
	size_t n;
	size_t room;
};

static int refuse(int err, const char *sentence, const char **why)
{
	*why = sentence;
	return err;
}

static int split_head(const uint8_t *data, size_t len, struct record *record, const char **why)
{
	struct xf_nl_record_head head;

	if (len < sizeof(head))
		return refuse(-EBADMSG, "The record is cut off", why);
	memcpy(&head, data, sizeof(head));
	if (head.magic != XF_NL_RECORD_MAGIC)
		return refuse(-EBADMSG, "This is no record of an SA", why);
	if (head.version != XF_NL_RECORD_VERSION)
		return refuse(-EPROTO, "The record is of a version that is not known here", why);
	if (head.len > len)
		return refuse(-EBADMSG, "The record is cut off", why);
	if (head.len < sizeof(head) || head.len % XF_NL_RECORD_ALIGN || head.unused)
		return refuse(-EBADMSG, "The record's header is wrong", why);
	record->len = head.len;
	return 0;
}

/* The message that stands at @off; where it ends, or 0: it is none. */
static size_t split_message(const uint8_t *data, size_t off, struct record *record)
{
	struct nlmsghdr nlh;

	if (record->len - off < sizeof(nlh))
		return 0;
	memcpy(&nlh, data + off, sizeof(nlh));
	if (nlh.nlmsg_type != XFRM_MSG_NEWSA || nlh.nlmsg_len < sizeof(nlh) ||
	    nlh.nlmsg_len > XF_NL_MSG_MAX || NLMSG_ALIGN(nlh.nlmsg_len) > record->len - off)
		return 0;
	record->message = (struct part){ data + off, nlh.nlmsg_len };
	return off + NLMSG_ALIGN(nlh.nlmsg_len);
}

/* The part that stands at @off, likewise. */
static size_t split_part(const uint8_t *data, size_t off, struct record *record)
{
	struct nlattr head;
	struct part *part;

	memcpy(&head, data + off, sizeof(head));
	if (head.nla_len < sizeof(struct nlattr) || NLMSG_ALIGN(head.nla_len) > record->len - off ||
	    head.nla_type == 0 || head.nla_type >= XF_NL_RECORD_PARTS)
		return 0;
	part = &record->parts[head.nla_type];
	if (part->data)
		return 0;
	*part = (struct part){ data + off + sizeof(struct nlattr),
			       head.nla_len - sizeof(struct nlattr) };
	return off + NLMSG_ALIGN(head.nla_len);
}

/* Is everything there, and of its size? The rest is for who makes something of it. */
static bool is_whole(const struct record *record)
{
	const struct part *parts = record->parts;

	for (unsigned i = 1; i < XF_NL_RECORD_PARTS; i++)
		if (!parts[i].data)
			return false;
	return parts[XF_NL_RECORD_ID].len == sizeof(uint64_t) &&
	       parts[XF_NL_RECORD_SLOT].len == sizeof(uint64_t) &&
	       parts[XF_NL_RECORD_SEED].len == XF_IVGEN_SEED &&
	       parts[XF_NL_RECORD_TABLE].len % sizeof(struct xf_sa_live_field) == 0;
}

static int split(const uint8_t *data, size_t len, struct record *record, const char **why)
{
	size_t off = sizeof(struct xf_nl_record_head);
	int err;

	memset(record, 0, sizeof(*record));
	err = split_head(data, len, record, why);
	if (err)
		return err;
	off = split_message(data, off, record);
	if (off == 0)
		return refuse(-EBADMSG, "The record's message is wrong", why);
	/* What is less than a part is padding. */
	while (record->len - off >= XF_NL_RECORD_ALIGN) {
		off = split_part(data, off, record);
		if (off == 0)
			return refuse(-EBADMSG, "The record's parts are wrong", why);
	}
	if (!is_whole(record))
		return refuse(-EBADMSG, "The record's parts are wrong", why);
	return 0;
}

/*
 * The numbers come with the record's values. What NEWSA refuses of them, as a counter that stands
 * at its end, an SA may well have come to.
 */
static void forget_numbers(const struct xf_nl_request *req)
{
	const struct nlattr *legacy = req->attrs[XFRMA_REPLAY_VAL];
	const struct nlattr *esn = req->attrs[XFRMA_REPLAY_ESN_VAL];

	if (legacy)
		memset(mnl_attr_get_payload(legacy), 0, sizeof(struct xfrm_replay_state));
	if (esn) {
		struct xfrm_replay_state_esn state;

		memcpy(&state, mnl_attr_get_payload(esn), sizeof(state));
		state.oseq = state.oseq_hi = state.seq = state.seq_hi = 0;
		memcpy(mnl_attr_get_payload(esn), &state, sizeof(state));
	}
}

/* Configuration and keys of an SA, as NEWSA has them. */
static int parse(struct xf_nl_request *req, struct xf_nl_sa *parsed)
{
	struct xfrm_usersa_info info;
	int err = xf_nl_parse(req, sizeof(info));

	if (err)
		return err;
	forget_numbers(req);
	xf_nl_header(req, &info);
	err = xf_nl_verify_sa(req, &info);
	return err ? err : xf_nl_parse_sa(req, &info, parsed);
}

static int load_numbers(struct xf_sa *sa, const struct record *record, const char **why)
{
	const struct part *table = &record->parts[XF_NL_RECORD_TABLE];
	struct xf_sa_live_field fields[XF_SA_LIVE_FIELDS];
	const struct xf_sa_live live = {
		.table = fields,
		.nfields = table->len / sizeof(fields[0]),
		.values = record->parts[XF_NL_RECORD_VALUES].data,
		.values_len = record->parts[XF_NL_RECORD_VALUES].len,
		.window = record->parts[XF_NL_RECORD_WINDOW].data,
		.window_len = record->parts[XF_NL_RECORD_WINDOW].len,
	};

	/* Of a longer one no more than its length is asked. */
	memcpy(fields, table->data, table->len < sizeof(fields) ? table->len : sizeof(fields));
	return xf_sa_live_load(sa, &live, why);
}

/* An SA of its own, frozen, in no table yet. */
static int make(struct xf_nl_server *server, const struct record *record, struct xf_sa **out,
		const char **why)
{
	struct xf_nl_msg msg;
	struct xf_nl_request req = { .server = server, .nlh = (void *)msg.buf };
	struct xf_nl_sa parsed;
	int err;

	memcpy(msg.buf, record->message.data, record->message.len);
	err = parse(&req, &parsed);
	if (!err)
		err = xf_nl_make_sa(&req, &parsed, XF_SA_FROZEN,
				    record->parts[XF_NL_RECORD_SEED].data, out);
	xf_wipe(msg.buf, sizeof(msg.buf));
	if (err) {
		*why = req.extack.why;
		return err;
	}
	err = load_numbers(*out, record, why);
	if (err)
		xf_sa_put(*out);
	return err;
}

static int reserve(struct restore *r)
{
	size_t room = r->room ? 2 * r->room : 64;
	struct restored *all;

	if (r->n < r->room)
		return 0;
	all = realloc(r->all, room * sizeof(*all));
	if (!all)
		return -ENOMEM;
	r->all = all;
	r->room = room;
	return 0;
}

static int insert(struct restore *r, struct xf_sa *sa, const struct record *record,
		  const char **why)
{
	const struct xf_nl_server_config *server = &r->server->cfg;
	struct restored *restored = &r->all[r->n];
	uint64_t id;
	int err = server->sa_wanted ? server->sa_wanted(server->arg, sa, why) : 0;

	memcpy(&id, record->parts[XF_NL_RECORD_ID].data, sizeof(id));
	if (!err)
		err = xf_sad_restore(server->sad, sa, id, why);
	if (err)
		return err;
	restored->sa = sa;
	memcpy(&restored->slot, record->parts[XF_NL_RECORD_SLOT].data, sizeof(restored->slot));
	r->n++;
	return 0;
}

/* The first record in @data; its length to *@used. */
static int restore_one(struct restore *r, const uint8_t *data, size_t len, size_t *used,
		       const char **why)
{
	struct record record;
	struct xf_sa *sa;
	int err = split(data, len, &record, why);

	if (!err)
		err = reserve(r);
	if (!err)
		err = make(r->server, &record, &sa, why);
	if (err)
		return err;
	err = insert(r, sa, &record, why);
	if (err)
		xf_sa_put(sa);
	*used = record.len;
	return err;
}

static int by_slot(const void *a, const void *b)
{
	const struct restored *x = a, *y = b;

	return x->slot < y->slot ? -1 : x->slot > y->slot;
}

/* One place in memory had one SA: with two of them, one record is not of this moment. */
static int check_slots(struct restore *r, const char **why)
{
	if (r->n)
		qsort(r->all, r->n, sizeof(r->all[0]), by_slot);
	for (size_t i = 1; i < r->n; i++)
		if (r->all[i - 1].slot == r->all[i].slot)
			return refuse(-EEXIST, "Two records say that their SA had the same place",
				      why);
	return 0;
}

static void undo(struct restore *r)
{
	for (size_t i = 0; i < r->n; i++)
		xf_sad_del(r->server->cfg.sad, r->all[i].sa);
}

static void put_into_use(struct restore *r)
{
	const struct xf_nl_server_config *server = &r->server->cfg;

	for (size_t i = 0; i < r->n; i++) {
		if (server->sa_changed)
			server->sa_changed(server->arg, r->all[i].sa);
		xf_sad_thaw(server->sad, r->all[i].sa);
	}
}

int xf_nl_restore(struct xf_nl_server *server, const void *data, size_t len, const char **why)
{
	struct restore r = { .server = server };
	const uint8_t *at = data;
	size_t used = 0;
	int err = 0;

	*why = NULL;
	for (; !err && len > 0; at += used, len -= used)
		err = restore_one(&r, at, len, &used, why);
	if (!err)
		err = check_slots(&r, why);
	if (err)
		undo(&r);
	else
		put_into_use(&r);
	free(r.all);
	if (err && !*why)
		*why = err == -ENOMEM ? "There is no memory for the SAs"
				      : "There can be no such SA here";
	return err;
}
