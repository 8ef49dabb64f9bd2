/*
 * journal_file.h - the file of a journal: whose it is, what is committed, and room that is had.
 *
 *   | header | block | block | ... | room |
 *
 * A block is a head with length and sum, and whole netlink messages. The header says how many bytes
 * are committed and is written after them: what a process that was killed left behind that is as
 * if it had not been written. Everything committed is covered by a sum.
 *
 * Beside the file stands a spare one. Both have their room allocated ahead (posix_fallocate), so
 * that what was reserved can be written whatever else fills the file system: at the end of the
 * file, or anew into the spare, which then changes places with it in one step.
 *
 * Control thread. Functions return 0 or -errno.
 */
#ifndef XF_DAEMON_JOURNAL_FILE_H
#define XF_DAEMON_JOURNAL_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whose policies: of this boot, of this network namespace. A namespace's inode is used again. */
struct xf_journal_id {
	uint8_t boot[16];
	uint64_t cookie; /* SO_NETNS_COOKIE; 0: the kernel (< 5.14) has none */
};

/* Those of the calling thread. What cannot be had is zero. */
void xf_journal_id_self(struct xf_journal_id *id);

/* Bytes that grow; a block has its head in front. */
struct xf_journal_buffer {
	uint8_t *data;
	size_t len;
	size_t room;
};
int xf_journal_buffer_add(struct xf_journal_buffer *buf, const void *data, size_t len);

/* Messages of one block, up to this and one message more. */
#define XF_JOURNAL_BLOCK_MAX (256u * 1024)
#define XF_JOURNAL_BLOCK_HEAD 16u

struct xf_journal_area {
	int fd; /* -1: there is none */
	size_t room; /* allocated bytes */
};

struct xf_journal_file {
	char *path;
	char *spare_path;
	struct xf_journal_id id;
	struct xf_journal_area now;
	struct xf_journal_area spare;
	size_t len; /* committed, of what is now */
	size_t spare_len; /* written into the spare so far */
};

int xf_journal_file_init(struct xf_journal_file *file, const char *path,
			 const struct xf_journal_id *id);
void xf_journal_file_fini(struct xf_journal_file *file); /* the files stay */

enum xf_journal_found {
	XF_JOURNAL_NONE, /* there is no file */
	XF_JOURNAL_EMPTY, /* an older version's without policies, or one that was cut to nothing */
	XF_JOURNAL_OURS, /* of this boot and this namespace */
	XF_JOURNAL_STRANGE, /* of another boot or another namespace */
	XF_JOURNAL_UNSURE, /* of this boot, and one of the two has no cookie */
	XF_JOURNAL_PLAIN, /* an older version's: messages alone */
};

/*
 * Read what is committed, and say whose it is. With OURS and UNSURE @out are its committed blocks,
 * all of them good; with PLAIN its bytes.
 *   -EBADMSG  it is damaged: something that was committed is missing or is not what it was
 */
int xf_journal_file_read(struct xf_journal_file *file, struct xf_journal_buffer *out,
			 enum xf_journal_found *found);

/* The messages of the block at *@off of what was read, and the next *@off; false: no more. */
bool xf_journal_next_block(const struct xf_journal_buffer *all, size_t *off, uint8_t **messages,
			   size_t *len);

/* After reading: go on at the end of what is committed. */
int xf_journal_file_resume(struct xf_journal_file *file);

/* Have room for @bytes in both files, and more where it costs nothing. -ENOSPC and others. */
int xf_journal_file_reserve(struct xf_journal_file *file, size_t bytes);

/* Append and commit the messages behind the head's room in @block; empties it. */
int xf_journal_file_append(struct xf_journal_file *file, struct xf_journal_buffer *block);

/* Write anew: begin, put block after block, end: from then on the new one is the file. */
int xf_journal_file_begin(struct xf_journal_file *file, size_t bytes);
int xf_journal_file_put(struct xf_journal_file *file, struct xf_journal_buffer *block);
int xf_journal_file_end(struct xf_journal_file *file);

/* Give room beyond @bytes back. */
void xf_journal_file_shrink(struct xf_journal_file *file, size_t bytes);

/* Rename it to PATH.old, over what stands there. */
int xf_journal_file_set_aside(const struct xf_journal_file *file);

/* Remove a journal's files at @path, and what was set aside. */
void xf_journal_remove_files(const char *path);

#endif
