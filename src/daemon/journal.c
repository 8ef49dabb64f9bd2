#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/xfrm.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "journal.h"
#include "log.h"

#define GROUP_BIT(group) (1u << ((group)-1))

/* A file that grows to this many times what it must hold is written anew. */
#define GROWTH_MAX 2
#define GROWTH_FREE_BYTES (1u << 20)
/* What is announced is collected up to this before it is written. */
#define UNWRITTEN_MAX (256u * 1024)

struct buffer {
	uint8_t *data;
	size_t len;
	size_t room;
};

/* Messages, and where each starts. */
struct messages {
	struct buffer bytes;
	struct buffer starts; /* of size_t */
};

struct xf_journal {
	char *path;
	char *temp_path;
	struct xf_nl_client *client;
	int fd; /* of the file, to append; -1: it must be written anew */
	size_t len;
	size_t live; /* bytes of policies in force, about; right when the file was written anew */
	struct buffer unwritten; /* its end */
	bool failing; /* said once */
	struct messages *dump; /* while a dump is under way */
	bool dump_failed;
	int answer; /* errno of the last acknowledgement */
	struct xf_journal_stats stats;
};

static int append(struct buffer *buf, const void *data, size_t len)
{
	if (buf->len + len > buf->room) {
		size_t room = 2 * (buf->len + len);
		uint8_t *bigger = realloc(buf->data, room);

		if (!bigger)
			return -ENOMEM;
		buf->data = bigger;
		buf->room = room;
	}
	memcpy(buf->data + buf->len, data, len);
	buf->len += len;
	return 0;
}

static void add_message(struct messages *all, const struct nlmsghdr *msg, bool *failed)
{
	if (append(&all->starts, &all->bytes.len, sizeof(all->bytes.len)) < 0 ||
	    append(&all->bytes, msg, NLMSG_ALIGN(msg->nlmsg_len)) < 0)
		*failed = true;
}

static void free_messages(struct messages *all)
{
	free(all->bytes.data);
	free(all->starts.data);
}

static int write_all(int fd, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno != EINTR)
			return -errno;
		p += n < 0 ? 0 : n;
		len -= n < 0 ? 0 : (size_t)n;
	}
	return 0;
}

/* The file does not say any more what is in force. */
static void make_stale(struct xf_journal *journal)
{
	if (journal->fd >= 0)
		close(journal->fd);
	journal->fd = -1;
	journal->unwritten.len = 0;
}

static bool is_record(const struct nlmsghdr *msg)
{
	return msg->nlmsg_type == XFRM_MSG_NEWPOLICY || msg->nlmsg_type == XFRM_MSG_UPDPOLICY ||
	       msg->nlmsg_type == XFRM_MSG_DELPOLICY || msg->nlmsg_type == XFRM_MSG_FLUSHPOLICY;
}

/* An update may replace another policy, so that it adds nothing: too small does no harm. */
static void estimate(struct xf_journal *journal, const struct nlmsghdr *msg)
{
	size_t len = NLMSG_ALIGN(msg->nlmsg_len);

	journal->len += len;
	if (msg->nlmsg_type == XFRM_MSG_NEWPOLICY)
		journal->live += len;
	else if (msg->nlmsg_type == XFRM_MSG_FLUSHPOLICY)
		journal->live = 0;
	else if (msg->nlmsg_type == XFRM_MSG_DELPOLICY)
		journal->live -= len < journal->live ? len : journal->live;
}

static void keep(struct xf_journal *journal, const struct nlmsghdr *msg)
{
	if (journal->fd < 0)
		return;
	estimate(journal, msg);
	if (append(&journal->unwritten, msg, NLMSG_ALIGN(msg->nlmsg_len)) < 0)
		make_stale(journal);
	else if (journal->unwritten.len >= UNWRITTEN_MAX)
		xf_journal_flush(journal);
}

void xf_journal_flush(struct xf_journal *journal)
{
	if (!journal || journal->fd < 0 || !journal->unwritten.len)
		return;
	if (write_all(journal->fd, journal->unwritten.data, journal->unwritten.len) < 0)
		make_stale(journal);
	journal->unwritten.len = 0;
}

static void take_message(struct xf_journal *journal, const struct nlmsghdr *msg)
{
	if (msg->nlmsg_type == NLMSG_ERROR)
		journal->answer = ((const struct nlmsgerr *)NLMSG_DATA(msg))->error;
	else if (msg->nlmsg_type == XFRM_MSG_POLEXPIRE)
		make_stale(journal); /* an announcement that is no request */
	else if (is_record(msg) && journal->dump)
		add_message(journal->dump, msg, &journal->dump_failed);
	else if (is_record(msg))
		keep(journal, msg);
}

/* The server's datagrams to our client: answers, dumps, announcements. */
static int on_datagram(void *arg, const void *data, size_t len)
{
	const struct nlmsghdr *msg = data;
	ssize_t left = (ssize_t)len;

	for (; NLMSG_OK(msg, left); msg = NLMSG_NEXT(msg, left))
		take_message(arg, msg);
	return 0;
}

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

/* A dump is newest first; done again in that order, ties would be decided the other way. */
static int write_reversed(int fd, const struct messages *all)
{
	const size_t *starts = (const size_t *)(const void *)all->starts.data;
	size_t n = all->starts.len / sizeof(starts[0]);
	int err = 0;

	while (n-- > 0 && !err) {
		const struct nlmsghdr *msg = (const void *)(all->bytes.data + starts[n]);

		err = write_all(fd, msg, NLMSG_ALIGN(msg->nlmsg_len));
	}
	return err;
}

static int write_anew(struct xf_journal *journal)
{
	struct messages all = { .bytes = { .len = 0 } };
	int err = dump_policies(journal, &all);
	int fd = -1;

	if (!err) {
		fd = open(journal->temp_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
			  0600);
		err = fd < 0 ? -errno : write_reversed(fd, &all);
	}
	if (!err && rename(journal->temp_path, journal->path) < 0)
		err = -errno;
	journal->len = all.bytes.len;
	journal->live = all.bytes.len;
	free_messages(&all);
	if (err) {
		if (fd >= 0)
			close(fd);
		return err;
	}
	make_stale(journal);
	journal->fd = fd;
	return 0;
}

void xf_journal_settle(struct xf_journal *journal)
{
	int err;

	xf_journal_flush(journal);
	if (journal->fd >= 0 && journal->len <= GROWTH_MAX * journal->live + GROWTH_FREE_BYTES)
		return;
	err = write_anew(journal);
	if (err && !journal->failing)
		xf_log(XF_LOG_ERROR, "policies will not survive a restart: %s: %s", journal->path,
		       strerror(-err));
	journal->failing = err != 0;
}

/* One message of the file as a request; one that is there already is replaced by itself. */
static void replay_one(struct xf_journal *journal, struct nlmsghdr *msg, uint64_t now_ns)
{
	if (msg->nlmsg_type == XFRM_MSG_NEWPOLICY)
		msg->nlmsg_type = XFRM_MSG_UPDPOLICY;
	msg->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	journal->answer = 0;
	xf_nl_client_request(journal->client, msg, msg->nlmsg_len, now_ns);
	if (journal->answer)
		journal->stats.refused++;
}

static void replay(struct xf_journal *journal, void *data, size_t len, uint64_t now_ns)
{
	struct nlmsghdr *msg = data;
	ssize_t left = (ssize_t)len;

	for (; NLMSG_OK(msg, left); msg = NLMSG_NEXT(msg, left)) {
		if (is_record(msg))
			replay_one(journal, msg, now_ns);
	}
	if (left > 0)
		journal->stats.refused++; /* the end of a message that was being written */
}

static int read_file(const char *path, struct buffer *out)
{
	uint8_t chunk[65536];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t n;
	int err = 0;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	while (!err && (n = read(fd, chunk, sizeof(chunk))) > 0)
		err = append(out, chunk, (size_t)n);
	if (!err && n < 0)
		err = -errno;
	close(fd);
	return err;
}

static int adopt_file(struct xf_journal *journal, uint64_t now_ns)
{
	struct buffer file = { .len = 0 };
	struct messages all = { .bytes = { .len = 0 } };
	int err = read_file(journal->path, &file);

	if (!err)
		replay(journal, file.data, file.len, now_ns);
	free(file.data);
	if (!err)
		err = dump_policies(journal, &all);
	journal->stats.restored = (unsigned)(all.starts.len / sizeof(size_t));
	free_messages(&all);
	return err;
}

static struct xf_journal *alloc_journal(const char *path, struct xf_nl_server *server)
{
	struct xf_journal *journal = calloc(1, sizeof(*journal));
	const struct xf_nl_client_config cfg = { .send = on_datagram,
						 .arg = journal,
						 .inside = true };

	if (!journal)
		return NULL;
	journal->fd = -1;
	journal->path = strdup(path);
	if (asprintf(&journal->temp_path, "%s.new", path) < 0)
		journal->temp_path = NULL;
	if (!journal->path || !journal->temp_path ||
	    xf_nl_client_new(server, &cfg, &journal->client) < 0) {
		xf_journal_close(journal);
		return NULL;
	}
	return journal;
}

int xf_journal_open(const struct xf_journal_config *cfg, uint64_t now_ns, struct xf_journal **out)
{
	struct xf_journal *journal = alloc_journal(cfg->path, cfg->server);
	int err = 0;

	if (!journal)
		return -ENOMEM;
	if (cfg->adopt)
		err = adopt_file(journal, now_ns);
	if (!err) {
		xf_nl_client_set_groups(journal->client,
					GROUP_BIT(XFRMNLGRP_POLICY) | GROUP_BIT(XFRMNLGRP_EXPIRE));
		err = write_anew(journal);
	}
	if (err) {
		xf_journal_close(journal);
		return err;
	}
	*out = journal;
	return 0;
}

void xf_journal_close(struct xf_journal *journal)
{
	if (!journal)
		return;
	xf_journal_flush(journal);
	make_stale(journal);
	if (journal->client)
		xf_nl_client_free(journal->client);
	free(journal->unwritten.data);
	free(journal->path);
	free(journal->temp_path);
	free(journal);
}

void xf_journal_forget(struct xf_journal *journal)
{
	make_stale(journal);
	unlink(journal->path);
}

void xf_journal_get_stats(const struct xf_journal *journal, struct xf_journal_stats *out)
{
	*out = journal->stats;
}
