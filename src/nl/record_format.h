/*
 * record_format.h - how a record lies in memory, for those who write and read it.
 */
#ifndef XF_NL_RECORD_FORMAT_H
#define XF_NL_RECORD_FORMAT_H

#include "nl/internal.h"

#define XF_NL_RECORD_MAGIC 0x41534658u /* "XFSA" */
/* Another one for whatever an older reader would take for something else. */
#define XF_NL_RECORD_VERSION 1u
#define XF_NL_RECORD_ALIGN 8u

struct xf_nl_record_head {
	uint32_t magic;
	uint32_t version;
	uint32_t len; /* of all, header and padding included */
	uint32_t unused; /* 0 */
};

/* Each is there once. */
enum xf_nl_record_part {
	XF_NL_RECORD_ID = 1, /* u64: number of arrival */
	XF_NL_RECORD_SLOT, /* u64: place in memory */
	XF_NL_RECORD_SEED, /* XF_IVGEN_SEED bytes */
	XF_NL_RECORD_TABLE, /* struct xf_sa_live_field[] */
	XF_NL_RECORD_VALUES, /* where the table says */
	XF_NL_RECORD_WINDOW, /* as xf_replay_save() */
	XF_NL_RECORD_PARTS,
};

#endif
