/*
 * The policies' journal, for service.c: what is announced goes to the end of the file; when that
 * is full, a dump goes into its spare.
 *
 * Room for this is had before a policy comes: both files hold what a dump of all policies would
 * take and a margin behind it. So a delete, a flush, an update that is no larger, and writing
 * anew, always find room.
 */
#include <errno.h>
#include <linux/netlink.h>
#include <linux/xfrm.h>
#include <stdio.h>
#include <stdlib.h>

#include "journal.h"
#include "daemon/log.h"

#define GROUP_BIT(group) (1u << ((group)-1))

/* No announcement about a policy is longer, six templates and all else with it. */
#define RECORD_MAX 1024u
/* Room behind what a dump takes, at least: an eighth of it, this. Writing anew is so much work for
 * each byte that comes, at most. */
#define MARGIN_PART 8
#define MARGIN_MIN 32768u
/* So many times as much as is needed is given back. */
#define SHRINK_FACTOR 4

/* Messages, where each starts, and the places of the policies that they tell of. */
struct messages {
	struct xf_journal_buffer bytes;
	struct xf_journal_buffer starts; /* of size_t */
	struct xf_journal_buffer places; /* of struct xf_policy_tie */
};

/* The place of the policy whose message is next, if doing it again gave it another. */
#define PLACE_TYPE 0x7866u
struct place_record {
	struct nlmsghdr hdr;
	uint64_t rank;
	uint64_t pos;
};

struct xf_journal {
	struct xf_journal_file file;
	struct xf_spd *spd;
	struct xf_nl_client *client;
	struct xf_journal_buffer unwritten; /* the next block: room for its head, messages */
	bool stale; /* the file does not say what is in force: it must be written anew */
	bool writing_anew;
	bool failing; /* said once */
	size_t live; /* what a dump of all policies takes, with all their places */
	struct messages *dump; /* while a dump is under way */
	bool dump_failed;
	char *full; /* the sentences for users */
	char *broken;
	struct xf_journal_stats stats;
};

static void free_messages(struct messages *all)
{
	free(all->bytes.data);
	free(all->starts.data);
	free(all->places.data);
}

/* --- room --- */

static size_t bytes_needed(size_t live)
{
	size_t margin = live / MARGIN_PART;

	return live + (margin > MARGIN_MIN ? margin : MARGIN_MIN);
}

static bool fits(const struct xf_journal *journal, size_t len)
{
	return journal->file.len + XF_JOURNAL_BLOCK_HEAD + journal->unwritten.len + len <=
	       journal->file.now.room;
}

/* --- what is announced --- */

static const uint8_t no_head[XF_JOURNAL_BLOCK_HEAD];

/* As a request that is done again. */
static int add_request(struct xf_journal_buffer *block, const struct nlmsghdr *msg)
{
	struct nlmsghdr *request;
	size_t at;
	int err = 0;

	if (!block->len)
		err = xf_journal_buffer_add(block, no_head, sizeof(no_head));
	at = block->len;
	if (!err)
		err = xf_journal_buffer_add(block, msg, NLMSG_ALIGN(msg->nlmsg_len));
	if (err)
		return err;
	request = (struct nlmsghdr *)(void *)(block->data + at);
	request->nlmsg_flags = NLM_F_REQUEST;
	request->nlmsg_seq = 0;
	request->nlmsg_pid = 0;
	return 0;
}

static void write_unwritten(struct xf_journal *journal)
{
	if (!journal->stale && journal->unwritten.len &&
	    xf_journal_file_append(&journal->file, &journal->unwritten) < 0)
		journal->stale = true;
}

static void keep(struct xf_journal *journal, const struct nlmsghdr *msg)
{
	if (journal->stale)
		return;
	if (!fits(journal, NLMSG_ALIGN(msg->nlmsg_len)) ||
	    add_request(&journal->unwritten, msg) < 0)
		journal->stale = true;
	else if (journal->unwritten.len >= XF_JOURNAL_BLOCK_MAX)
		write_unwritten(journal);
}

/* What expired is deleted, by its index: an expiry itself cannot be asked for again. */
static void keep_expiry(struct xf_journal *journal, const struct nlmsghdr *msg)
{
	const struct xfrm_user_polexpire *expire = NLMSG_DATA(msg);
	size_t skip = NLMSG_SPACE(sizeof(*expire));
	struct {
		struct nlmsghdr hdr;
		struct xfrm_userpolicy_id id;
		uint8_t attrs[RECORD_MAX];
	} del;
	size_t len;

	if (!expire->hard)
		return;
	len = msg->nlmsg_len > skip ? msg->nlmsg_len - skip : 0;
	if (len > sizeof(del.attrs)) {
		journal->stale = true;
		return;
	}
	memset(&del, 0, sizeof(del));
	del.hdr.nlmsg_type = XFRM_MSG_DELPOLICY;
	del.hdr.nlmsg_len = (uint32_t)(offsetof(__typeof__(del), attrs) + len);
	del.id.index = expire->pol.index;
	del.id.dir = expire->pol.dir;
	memcpy(del.attrs, (const uint8_t *)msg + skip, len);
	keep(journal, &del.hdr);
}

static void add_to_dump(struct xf_journal *journal, const struct nlmsghdr *msg)
{
	struct messages *all = journal->dump;

	if (all && (xf_journal_buffer_add(&all->starts, &all->bytes.len, sizeof(size_t)) < 0 ||
		    xf_journal_buffer_add(&all->bytes, msg, NLMSG_ALIGN(msg->nlmsg_len)) < 0))
		journal->dump_failed = true;
}

static bool is_record(const struct nlmsghdr *msg)
{
	return msg->nlmsg_type == XFRM_MSG_NEWPOLICY || msg->nlmsg_type == XFRM_MSG_UPDPOLICY ||
	       msg->nlmsg_type == XFRM_MSG_DELPOLICY || msg->nlmsg_type == XFRM_MSG_FLUSHPOLICY;
}

static void take_message(struct xf_journal *journal, const struct nlmsghdr *msg)
{
	if (msg->nlmsg_type == NLMSG_ERROR)
		journal->stats.refused += ((const struct nlmsgerr *)NLMSG_DATA(msg))->error != 0;
	else if (msg->nlmsg_flags & NLM_F_MULTI)
		add_to_dump(journal, msg);
	else if (msg->nlmsg_type == XFRM_MSG_POLEXPIRE)
		keep_expiry(journal, msg);
	else if (is_record(msg))
		keep(journal, msg);
}

/* The server's datagrams to our client: answers, dumps, announcements. */
static int on_datagram(void *arg, const void *data, size_t len)
{
	const struct nlmsghdr *msg = data;
	ssize_t left = (ssize_t)len;

	for (; NLMSG_OK(msg, left); msg = NLMSG_NEXT(msg, left)) {
		if (msg->nlmsg_type != NLMSG_DONE)
			take_message(arg, msg);
	}
	return 0;
}

/* --- writing anew --- */

static int dump_policies(struct xf_journal *journal, struct messages *all)
{
	const struct nlmsghdr msg = {
		.nlmsg_len = sizeof(msg),
		.nlmsg_type = XFRM_MSG_GETPOLICY,
		.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
	};

	journal->dump = all;
	journal->dump_failed = false;
	xf_nl_client_request(journal->client, &msg, sizeof(msg), 0);
	journal->dump = NULL;
	return journal->dump_failed ? -ENOMEM : 0;
}

static bool add_place(void *arg, struct xf_policy *policy)
{
	const struct xf_policy_tie place = xf_policy_order_key(policy);

	return xf_journal_buffer_add(arg, &place, sizeof(place)) == 0;
}

/* In the dump's order. */
static int get_places(const struct xf_journal *journal, struct messages *all)
{
	uint64_t cursor = 0;

	if (xf_spd_walk(journal->spd, &cursor, add_place, &all->places))
		return -ENOMEM;
	return all->places.len / sizeof(struct xf_policy_tie) == all->starts.len / sizeof(size_t)
		       ? 0
		       : -EIO;
}

/* *@last: the pos of the policy before. */
static int put_place(struct xf_journal_buffer *block, const struct xf_policy_tie *place,
		     uint64_t *last)
{
	const struct place_record record = { .hdr = { .nlmsg_len = sizeof(record),
						      .nlmsg_type = PLACE_TYPE },
					     .rank = place->rank,
					     .pos = place->pos };
	bool told = place->pos == *last + 1 && place->rank == place->pos;

	*last = place->pos;
	return told ? 0 : add_request(block, &record.hdr);
}

/* A dump is newest first; done again in that order, ties would be decided the other way. */
static int put_reversed(struct xf_journal *journal, const struct messages *all)
{
	const size_t *starts = (const size_t *)(const void *)all->starts.data;
	const struct xf_policy_tie *places = (const void *)all->places.data;
	size_t n = all->starts.len / sizeof(starts[0]);
	struct xf_journal_buffer block = { .len = 0 };
	uint64_t last = 0;
	int err = 0;

	while (n-- > 0 && !err) {
		err = put_place(&block, &places[n], &last);
		if (!err)
			err = add_request(&block, (const void *)(all->bytes.data + starts[n]));
		if (!err && (n == 0 || block.len >= XF_JOURNAL_BLOCK_MAX))
			err = xf_journal_file_put(&journal->file, &block);
	}
	free(block.data);
	return err;
}

static size_t bytes_with_places(const struct messages *all)
{
	size_t n = all->starts.len / sizeof(size_t);

	return all->bytes.len + n * sizeof(struct place_record);
}

static int write_anew(struct xf_journal *journal)
{
	struct messages all = { .bytes = { .len = 0 } };
	size_t live;
	int err;

	journal->writing_anew = true;
	err = dump_policies(journal, &all);
	if (!err)
		err = get_places(journal, &all);
	live = bytes_with_places(&all);
	if (!err)
		err = xf_journal_file_begin(&journal->file, bytes_needed(live));
	if (!err)
		err = put_reversed(journal, &all);
	if (!err)
		err = xf_journal_file_end(&journal->file);
	journal->writing_anew = false;
	free_messages(&all);
	if (err)
		return err;
	journal->live = live;
	journal->stale = false;
	journal->unwritten.len = 0;
	return 0;
}

/* --- transactions --- */

void xf_journal_policy(struct xf_journal *journal, const struct xf_policy *policy, bool there)
{
	size_t bytes = xf_nl_policy_bytes(xf_policy_cfg(policy)) + sizeof(struct place_record);

	if (journal)
		journal->live += there ? bytes : -bytes;
}

int xf_journal_reserve(struct xf_journal *journal, size_t more, const char **why)
{
	int err = 0;

	if (journal->stale)
		err = write_anew(journal);
	if (!err && more) {
		more += sizeof(struct place_record);
		err = xf_journal_file_reserve(&journal->file, bytes_needed(journal->live + more));
	}
	if (!err && !fits(journal, RECORD_MAX))
		err = write_anew(journal);
	if (err)
		*why = err == -ENOSPC ? journal->full : journal->broken;
	return err;
}

void xf_journal_flush(struct xf_journal *journal)
{
	int err;

	/* A dump ends with a look at what has changed, which brings us here once more. */
	if (!journal || journal->writing_anew)
		return;
	write_unwritten(journal);
	err = journal->stale ? write_anew(journal) : 0;
	if (err && !journal->failing)
		xf_log(XF_LOG_ERROR, "policies will not survive a restart: %s: %s",
		       journal->file.path, strerror(-err));
	journal->failing = err != 0;
}

void xf_journal_settle(struct xf_journal *journal)
{
	size_t enough;

	xf_journal_flush(journal);
	enough = SHRINK_FACTOR * bytes_needed(journal->live);
	if (journal->stale || journal->file.now.room <= 2 * enough)
		return;
	if (journal->file.len <= enough || write_anew(journal) == 0)
		xf_journal_file_shrink(&journal->file, enough);
}

/* --- opening --- */

static void replay(struct xf_journal *journal, const uint8_t *messages, const uint8_t *end,
		   uint64_t now_ns)
{
	if (messages < end)
		xf_nl_client_request(journal->client, messages, (size_t)(end - messages), now_ns);
}

static void replay_block(struct xf_journal *journal, const uint8_t *messages, size_t len,
			 uint64_t now_ns)
{
	const struct nlmsghdr *msg = (const void *)messages;
	ssize_t left = (ssize_t)len;

	for (; NLMSG_OK(msg, left); msg = NLMSG_NEXT(msg, left)) {
		struct place_record place;

		if (msg->nlmsg_type != PLACE_TYPE || msg->nlmsg_len != sizeof(place))
			continue;
		/* Messages are aligned to four bytes. */
		memcpy(&place, msg, sizeof(place));
		replay(journal, messages, (const uint8_t *)msg, now_ns);
		messages = (const uint8_t *)msg + sizeof(place);
		xf_spd_set_next_place(journal->spd, place.rank, place.pos);
	}
	replay(journal, messages, (const uint8_t *)msg + left, now_ns);
}

static void replay_blocks(struct xf_journal *journal, const struct xf_journal_buffer *all,
			  uint64_t now_ns)
{
	uint8_t *messages;
	size_t off = 0;
	size_t len;

	while (xf_journal_next_block(all, &off, &messages, &len))
		replay_block(journal, messages, len, now_ns);
}

/* An older version's; there one may be twice, and the end may be cut. */
static void replay_plain(struct xf_journal *journal, struct xf_journal_buffer *all, uint64_t now_ns)
{
	struct nlmsghdr *msg = (void *)all->data;
	ssize_t left = (ssize_t)all->len;

	for (; NLMSG_OK(msg, left); msg = NLMSG_NEXT(msg, left)) {
		if (!is_record(msg))
			continue;
		if (msg->nlmsg_type == XFRM_MSG_NEWPOLICY)
			msg->nlmsg_type = XFRM_MSG_UPDPOLICY;
		msg->nlmsg_flags = NLM_F_REQUEST;
		xf_nl_client_request(journal->client, msg, msg->nlmsg_len, now_ns);
	}
	if (left > 0)
		journal->stats.refused++;
}

static bool count_policy(void *arg, struct xf_policy *policy)
{
	struct xf_journal *journal = arg;

	xf_journal_policy(journal, policy, true);
	journal->stats.restored++;
	return true;
}

static void count_policies(struct xf_journal *journal)
{
	uint64_t cursor = 0;

	journal->live = 0;
	xf_spd_walk(journal->spd, &cursor, count_policy, journal);
}

/* It says what is in force, as far as that is: go on with it. */
static int go_on(struct xf_journal *journal)
{
	int err = journal->stats.refused ? -E2BIG : xf_journal_file_resume(&journal->file);

	if (err)
		return err;
	if (xf_journal_file_reserve(&journal->file, bytes_needed(journal->live)))
		journal->stats.short_of_room = true;
	return 0;
}

static int set_aside(struct xf_journal *journal)
{
	journal->stats.set_aside = true;
	return xf_journal_file_set_aside(&journal->file);
}

/* *@anew: the file does not say what is in force now. */
static int adopt(struct xf_journal *journal, const struct xf_journal_config *cfg, uint64_t now_ns,
		 bool *anew)
{
	struct xf_journal_buffer all = { .len = 0 };
	enum xf_journal_found found;
	int err = xf_journal_file_read(&journal->file, &all, &found);
	bool blocks = found == XF_JOURNAL_OURS || found == XF_JOURNAL_UNSURE;

	*anew = !blocks;
	if (err)
		goto free_all;
	if (found == XF_JOURNAL_NONE && cfg->rules_stand) {
		err = -ENODATA;
	} else if (found == XF_JOURNAL_EMPTY && cfg->rules_stand) {
		err = -EBADMSG;
	} else if (found == XF_JOURNAL_STRANGE ||
		   (found > XF_JOURNAL_STRANGE && !cfg->rules_stand)) {
		*anew = true;
		err = set_aside(journal);
	} else if (blocks) {
		replay_blocks(journal, &all, now_ns);
		count_policies(journal);
		err = go_on(journal);
	} else if (found == XF_JOURNAL_PLAIN) {
		replay_plain(journal, &all, now_ns);
		count_policies(journal);
	}
free_all:
	free(all.data);
	return err;
}

static struct xf_journal *alloc_journal(const struct xf_journal_config *cfg)
{
	struct xf_journal *journal = calloc(1, sizeof(*journal));
	const struct xf_nl_client_config client = { .send = on_datagram,
						    .arg = journal,
						    .inside = true };

	if (!journal)
		return NULL;
	journal->spd = cfg->spd;
	if (asprintf(&journal->full, "the journal of policies is full: %s", cfg->path) < 0)
		journal->full = NULL;
	if (asprintf(&journal->broken, "the journal of policies cannot be written: %s", cfg->path) <
	    0)
		journal->broken = NULL;
	if (xf_journal_file_init(&journal->file, cfg->path, &cfg->id) < 0 || !journal->full ||
	    !journal->broken || xf_nl_client_new(cfg->server, &client, &journal->client) < 0) {
		xf_journal_close(journal);
		return NULL;
	}
	return journal;
}

int xf_journal_open(const struct xf_journal_config *cfg, uint64_t now_ns, struct xf_journal **out)
{
	struct xf_journal *journal = alloc_journal(cfg);
	bool anew;
	int err;

	if (!journal)
		return -ENOMEM;
	err = adopt(journal, cfg, now_ns, &anew);
	xf_nl_client_set_groups(journal->client,
				GROUP_BIT(XFRMNLGRP_POLICY) | GROUP_BIT(XFRMNLGRP_EXPIRE));
	if (!err && anew)
		err = write_anew(journal);
	if (!err && anew)
		err = xf_journal_file_reserve(&journal->file, bytes_needed(journal->live));
	if (err) {
		xf_journal_close(journal);
		return err;
	}
	*out = journal;
	return 0;
}

const char *xf_journal_error(int err)
{
	if (err == -EBADMSG)
		return "it is damaged, and not all that it protects would come back";
	if (err == -ENODATA)
		return "it is gone, and the kernel's rules of an earlier daemon stand";
	if (err == -E2BIG)
		return "not all of its policies fit (max_policies?)";
	return NULL;
}

void xf_journal_close(struct xf_journal *journal)
{
	if (!journal)
		return;
	write_unwritten(journal);
	if (journal->client)
		xf_nl_client_free(journal->client);
	free(journal->unwritten.data);
	xf_journal_file_fini(&journal->file);
	free(journal->full);
	free(journal->broken);
	free(journal);
}

void xf_journal_forget(struct xf_journal *journal)
{
	journal->unwritten.len = 0;
	xf_journal_remove_files(journal->file.path);
}

void xf_journal_get_stats(const struct xf_journal *journal, struct xf_journal_stats *out)
{
	*out = journal->stats;
}
