/*
 * record.h - an SA as a value: all that another server needs to go on with it.
 *
 * A record is a header (magic, version, length), the XFRM_MSG_NEWSA that GETSA would show, and
 * behind it, as netlink attributes with numbers of their own: the SA's number of arrival, its
 * place in memory, salt and key of its IVs, its numbers with the table that says where each
 * stands, and its window. All in host order: records do not leave the machine.
 *
 * A record has the SA's keys, so it is written to memory of the caller's that is locked, left out
 * of core dumps and wiped after use (xf_secret_alloc()). Nothing here keeps or logs any of it.
 *
 * Control thread. Functions return 0 or -errno; *@why is a constant sentence for the user.
 */
#ifndef XF_NL_RECORD_H
#define XF_NL_RECORD_H

#include "nl/nl.h"

/* No record has more bytes. Their lengths are multiples of 8, so they can stand in a row. */
#define XF_NL_RECORD_MAX 12288

/*
 * The record of @sa, which is frozen (xf/freeze.h), to @buf of @room bytes; its length to *@len.
 *   -EBUSY   it is in use, larval, expired or dead
 *   -ENOSPC  there is no room: @buf is as it was, or wiped
 */
int xf_nl_record_write(struct xf_sa *sa, void *buf, size_t room, size_t *len);

/*
 * Bring the SAs of the records in @data, one behind the other, into the server's SAD and into use,
 * all of them or none. Listeners are not told: the SAs did not come, they moved. @data is read
 * only; afterwards xf_sad_expire() is to be called.
 *   -EBADMSG  what is there is no record, is cut off, or contradicts itself
 *   -EPROTO   it is of a version that is not known
 *   -EEXIST   an SA is there twice, or in the SAD already
 * and whatever NEWSA says to such an SA. Each has a sentence.
 */
int xf_nl_restore(struct xf_nl_server *server, const void *data, size_t len, const char **why);

#endif
