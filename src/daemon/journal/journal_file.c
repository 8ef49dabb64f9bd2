/*
 * The file of a journal, for journal.c: format, sums, room, the change of places. Nothing here
 * knows what the messages mean.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/xfrm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xf/hash.h>

#include "journal_file.h"
#include "host/netns.h"

/* Read as the length of a netlink message it is larger than any file: see is_plain(). */
#define MAGIC "xfr\xf6mdpl"
#define VERSION 1u
#define ROOM_STEP 32768u

struct header {
	char magic[8];
	uint32_t version;
	uint32_t len; /* of this */
	uint8_t boot[16];
	uint64_t cookie;
	uint64_t committed; /* bytes of the file, with this */
	uint64_t zero;
	uint64_t sum; /* of the above */
};
_Static_assert(sizeof(struct header) == 64, "no padding in the file");

struct head {
	uint32_t len; /* of the messages */
	uint32_t zero;
	uint64_t sum; /* of the messages, their length and their place */
};
_Static_assert(sizeof(struct head) == XF_JOURNAL_BLOCK_HEAD, "no padding in the file");

/* The sums guard against damage, not against somebody: they need no secret. */
static uint64_t sum_of(const void *data, size_t len, size_t place)
{
	const uint64_t seed[2] = { place, len };

	return xf_hash(seed, data, len);
}

int xf_journal_buffer_add(struct xf_journal_buffer *buf, const void *data, size_t len)
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

/* --- whose --- */

/* "01234567-89ab-...": 32 digits. */
static void parse_boot_id(const char *text, uint8_t boot[16])
{
	for (unsigned n = 0; n < 16; n++) {
		text += *text == '-';
		if (sscanf(text, "%2hhx", &boot[n]) != 1 || !text[1])
			return;
		text += 2;
	}
}

void xf_journal_id_self(struct xf_journal_id *id)
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	char text[64] = "";

	memset(id, 0, sizeof(*id));
	if (fd >= 0 && read(fd, text, sizeof(text) - 1) > 0)
		parse_boot_id(text, id->boot);
	id->cookie = xf_netns_cookie();
	if (fd >= 0)
		close(fd);
}

static enum xf_journal_found whose(const struct xf_journal_id *id, const struct header *header)
{
	if (memcmp(header->boot, id->boot, sizeof(id->boot)) != 0)
		return XF_JOURNAL_STRANGE;
	if (!header->cookie || !id->cookie)
		return XF_JOURNAL_UNSURE;
	return header->cookie == id->cookie ? XF_JOURNAL_OURS : XF_JOURNAL_STRANGE;
}

/* --- files --- */

int xf_journal_file_init(struct xf_journal_file *file, const char *path,
			 const struct xf_journal_id *id)
{
	memset(file, 0, sizeof(*file));
	file->now.fd = file->spare.fd = -1;
	file->id = *id;
	file->path = strdup(path);
	if (asprintf(&file->spare_path, "%s.new", path) < 0)
		file->spare_path = NULL;
	return file->path && file->spare_path ? 0 : -ENOMEM;
}

static void close_area(struct xf_journal_area *area)
{
	if (area->fd >= 0)
		close(area->fd);
	area->fd = -1;
	area->room = 0;
}

void xf_journal_file_fini(struct xf_journal_file *file)
{
	close_area(&file->now);
	close_area(&file->spare);
	free(file->path);
	free(file->spare_path);
}

/* Also over what is there: holes in it are filled. */
static int allocate(struct xf_journal_area *area, size_t bytes)
{
	int err;

	if (bytes <= area->room)
		return 0;
	do
		err = posix_fallocate(area->fd, 0, (off_t)bytes);
	while (err == EINTR);
	if (!err)
		area->room = bytes;
	return -err;
}

static int open_area(const char *path, struct xf_journal_area *area)
{
	struct stat st;

	if (area->fd >= 0)
		return 0;
	area->room = 0;
	area->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (area->fd < 0 || fstat(area->fd, &st))
		return -errno;
	/* What it has it keeps, though there may be no more. */
	if (st.st_size > 0)
		allocate(area, (size_t)st.st_size);
	return 0;
}

/* A quarter more than is needed where it can be had: then it is not needed again so soon. */
static int make_room(struct xf_journal_area *area, size_t bytes)
{
	size_t more = (bytes + bytes / 4 + ROOM_STEP - 1) / ROOM_STEP * ROOM_STEP;

	if (bytes <= area->room || allocate(area, more) == 0)
		return 0;
	return allocate(area, bytes);
}

int xf_journal_file_reserve(struct xf_journal_file *file, size_t bytes)
{
	int err = open_area(file->spare_path, &file->spare);

	if (!err)
		err = make_room(&file->spare, bytes);
	if (!err)
		err = make_room(&file->now, bytes);
	return err;
}

static int write_at(int fd, const void *data, size_t len, size_t at)
{
	const uint8_t *p = data;

	while (len) {
		ssize_t n = pwrite(fd, p, len, (off_t)at);

		if (n < 0 && errno != EINTR)
			return -errno;
		n = n < 0 ? 0 : n;
		p += n;
		at += (size_t)n;
		len -= (size_t)n;
	}
	return 0;
}

static int commit(const struct xf_journal_file *file, int fd, size_t len)
{
	struct header header = {
		.magic = MAGIC,
		.version = VERSION,
		.len = sizeof(header),
		.cookie = file->id.cookie,
		.committed = len,
	};

	memcpy(header.boot, file->id.boot, sizeof(header.boot));
	header.sum = sum_of(&header, offsetof(struct header, sum), 0);
	return write_at(fd, &header, sizeof(header), 0);
}

static int write_block(const struct xf_journal_area *area, struct xf_journal_buffer *block,
		       size_t at)
{
	struct head head = { .len = (uint32_t)(block->len - sizeof(head)) };

	if (at + block->len > area->room)
		return -ENOSPC;
	head.sum = sum_of(block->data + sizeof(head), head.len, at);
	memcpy(block->data, &head, sizeof(head));
	return write_at(area->fd, block->data, block->len, at);
}

int xf_journal_file_append(struct xf_journal_file *file, struct xf_journal_buffer *block)
{
	int err = write_block(&file->now, block, file->len);

	if (!err)
		err = commit(file, file->now.fd, file->len + block->len);
	if (!err)
		file->len += block->len;
	block->len = 0;
	return err;
}

/* --- reading --- */

static bool read_header(const struct xf_journal_buffer *all, struct header *header)
{
	if (all->len < sizeof(*header))
		return false;
	memcpy(header, all->data, sizeof(*header));
	return memcmp(header->magic, MAGIC, sizeof(header->magic)) == 0 &&
	       header->version == VERSION && header->len == sizeof(*header) &&
	       header->sum == sum_of(header, offsetof(struct header, sum), 0);
}

/* Until there are @len bytes, or no more. */
static int read_up_to(int fd, struct xf_journal_buffer *out, size_t len)
{
	ssize_t n = 1;

	while (n && out->len < len) {
		n = read(fd, out->data + out->len, len - out->len);
		if (n < 0 && errno != EINTR)
			return -errno;
		out->len += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

/* Behind what the header says is committed there is room alone. Without one it is all read. */
static int read_committed(const char *path, struct xf_journal_buffer *out)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct header header;
	struct stat st;
	int err = 0;

	if (fd < 0 || fstat(fd, &st))
		err = -errno;
	if (!err) {
		out->room = (size_t)st.st_size + 1;
		out->data = malloc(out->room);
		err = out->data ? 0 : -ENOMEM;
	}
	if (!err)
		err = read_up_to(fd, out, out->room < sizeof(header) ? out->room : sizeof(header));
	if (!err && read_header(out, &header) && header.committed < out->room)
		err = read_up_to(fd, out, (size_t)header.committed);
	else if (!err)
		err = read_up_to(fd, out, out->room);
	if (fd >= 0)
		close(fd);
	return err;
}

/* Older versions wrote messages alone, at least one if they wrote any. */
static bool is_plain(const struct xf_journal_buffer *all)
{
	struct nlmsghdr first;

	if (all->len < sizeof(first))
		return false;
	memcpy(&first, all->data, sizeof(first));
	return first.nlmsg_len >= sizeof(first) && first.nlmsg_len <= UINT16_MAX &&
	       first.nlmsg_type >= XFRM_MSG_BASE && first.nlmsg_type <= XFRM_MSG_MAX;
}

/* Blocks that fill the file exactly up to what is committed, and every sum right. */
static bool blocks_are_good(const struct xf_journal_buffer *all)
{
	size_t at = sizeof(struct header);
	struct head head;

	while (at < all->len) {
		if (all->len - at < sizeof(head))
			return false;
		memcpy(&head, all->data + at, sizeof(head));
		if (head.len > all->len - at - sizeof(head) || head.zero || head.len % 4 ||
		    head.sum != sum_of(all->data + at + sizeof(head), head.len, at))
			return false;
		at += sizeof(head) + head.len;
	}
	return at == all->len;
}

int xf_journal_file_read(struct xf_journal_file *file, struct xf_journal_buffer *out,
			 enum xf_journal_found *found)
{
	struct header header;
	int err = read_committed(file->path, out);

	*found = XF_JOURNAL_NONE;
	if (err)
		return err == -ENOENT ? 0 : err;
	*found = out->len ? XF_JOURNAL_PLAIN : XF_JOURNAL_EMPTY;
	if (!out->len || is_plain(out))
		return 0;
	if (!read_header(out, &header))
		return -EBADMSG;
	*found = whose(&file->id, &header);
	if (*found == XF_JOURNAL_STRANGE)
		return 0;
	if (header.committed < sizeof(header) || header.committed > out->len)
		return -EBADMSG;
	out->len = (size_t)header.committed;
	file->len = out->len;
	return blocks_are_good(out) ? 0 : -EBADMSG;
}

bool xf_journal_next_block(const struct xf_journal_buffer *all, size_t *off, uint8_t **messages,
			   size_t *len)
{
	size_t at = *off ? *off : sizeof(struct header);
	struct head head;

	if (at >= all->len)
		return false;
	memcpy(&head, all->data + at, sizeof(head));
	*messages = all->data + at + sizeof(head);
	*len = head.len;
	*off = at + sizeof(head) + head.len;
	return true;
}

int xf_journal_file_resume(struct xf_journal_file *file)
{
	int err = open_area(file->path, &file->now);

	/* From now on its cookie is known, if it is. */
	return err ? err : commit(file, file->now.fd, file->len);
}

/* --- writing anew --- */

int xf_journal_file_begin(struct xf_journal_file *file, size_t bytes)
{
	int err = open_area(file->spare_path, &file->spare);

	file->spare_len = sizeof(struct header);
	return err ? err : make_room(&file->spare, bytes);
}

int xf_journal_file_put(struct xf_journal_file *file, struct xf_journal_buffer *block)
{
	int err = write_block(&file->spare, block, file->spare_len);

	file->spare_len += block->len;
	block->len = 0;
	return err;
}

/* Where the two cannot change places, what was the file goes, and with it its room. */
static int change_places(struct xf_journal_file *file)
{
	struct xf_journal_area was = file->now;

	if (was.fd >= 0 &&
	    renameat2(AT_FDCWD, file->spare_path, AT_FDCWD, file->path, RENAME_EXCHANGE) == 0) {
		file->now = file->spare;
		file->spare = was;
		return 0;
	}
	if (rename(file->spare_path, file->path))
		return -errno;
	close_area(&was);
	file->now = file->spare;
	file->spare = was;
	return 0;
}

int xf_journal_file_end(struct xf_journal_file *file)
{
	int err = commit(file, file->spare.fd, file->spare_len);

	if (!err)
		err = change_places(file);
	if (!err)
		file->len = file->spare_len;
	return err;
}

static void shrink_area(struct xf_journal_area *area, size_t bytes)
{
	if (area->fd >= 0 && area->room > bytes && !ftruncate(area->fd, (off_t)bytes))
		area->room = bytes;
}

void xf_journal_file_shrink(struct xf_journal_file *file, size_t bytes)
{
	shrink_area(&file->spare, bytes);
	if (bytes >= file->len)
		shrink_area(&file->now, bytes);
}

/* --- names --- */

int xf_journal_file_set_aside(const struct xf_journal_file *file)
{
	char *old;
	int err = 0;

	if (asprintf(&old, "%s.old", file->path) < 0)
		return -ENOMEM;
	if (rename(file->path, old))
		err = -errno;
	free(old);
	return err;
}

void xf_journal_remove_files(const char *path)
{
	static const char *const suffixes[] = { "", ".new", ".old" };
	char *name;

	for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
		if (asprintf(&name, "%s%s", path, suffixes[i]) < 0)
			return;
		unlink(name);
		free(name);
	}
}
