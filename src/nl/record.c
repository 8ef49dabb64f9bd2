/*
 * Writing the record of an SA, for whoever hands it over: nothing that is asked here changes any
 * more but for drops, since the SA is frozen.
 */
#include <xf/freeze.h>

#include "nl/record.h"
#include "nl/record_format.h"
#include "nl/sa.h"

_Static_assert(XF_NL_RECORD_MAX >=
		       sizeof(struct xf_nl_record_head) + XF_NL_MSG_MAX +
			       XF_NL_RECORD_PARTS * (sizeof(struct nlattr) + XF_NL_RECORD_ALIGN) +
			       sizeof(struct xf_sa_origin) + XF_SA_LIVE_BYTES +
			       XF_SA_LIVE_FIELDS * sizeof(struct xf_sa_live_field) +
			       XF_REPLAY_SAVED_MAX,
	       "the largest record");

/* A record under construction. */
struct out {
	uint8_t *at;
	size_t len;
	size_t room;
	bool full;
};

/* Padding is zero. */
static void put(struct out *out, const void *data, size_t len)
{
	size_t padded = NLMSG_ALIGN(len);

	if (out->full || padded > out->room - out->len) {
		out->full = true;
		return;
	}
	memset(out->at + out->len, 0, padded);
	memcpy(out->at + out->len, data, len);
	out->len += padded;
}

static void put_part(struct out *out, uint16_t part, const void *data, size_t len)
{
	const struct nlattr head = { .nla_len = (uint16_t)(sizeof(struct nlattr) + len),
				     .nla_type = part };

	put(out, &head, sizeof(head));
	put(out, data, len);
}

static void put_message(struct out *out, struct xf_sa *sa)
{
	const struct xf_nl_origin nobody = { 0, 0 };
	struct xf_nl_msg msg;

	xf_nl_fill_sa(
		sa, xf_nl_msg_init(&msg, XFRM_MSG_NEWSA, &nobody, sizeof(struct xfrm_usersa_info)));
	xf_nl_put_sa(&msg, sa);
	put(out, msg.buf, msg.nlh->nlmsg_len);
	xf_wipe(msg.buf, sizeof(msg.buf));
}

static void put_origin(struct out *out, struct xf_sa *sa)
{
	struct xf_sa_origin origin;

	xf_sa_get_origin(sa, &origin);
	put_part(out, XF_NL_RECORD_ID, &origin.id, sizeof(origin.id));
	put_part(out, XF_NL_RECORD_SLOT, &origin.slot, sizeof(origin.slot));
	put_part(out, XF_NL_RECORD_SEED, origin.seed, sizeof(origin.seed));
	xf_wipe(&origin, sizeof(origin));
}

static void put_numbers(struct out *out, struct xf_sa *sa)
{
	struct xf_sa_live_field table[XF_SA_LIVE_FIELDS];
	uint8_t values[XF_SA_LIVE_BYTES];
	uint8_t window[XF_REPLAY_SAVED_MAX];

	xf_sa_live_save(sa, table, values);
	put_part(out, XF_NL_RECORD_TABLE, table, sizeof(table));
	put_part(out, XF_NL_RECORD_VALUES, values, sizeof(values));
	put_part(out, XF_NL_RECORD_WINDOW, window, xf_sa_window_save(sa, window));
}

int xf_nl_record_write(struct xf_sa *sa, void *buf, size_t room, size_t *len)
{
	struct xf_nl_record_head head = { .magic = XF_NL_RECORD_MAGIC,
					  .version = XF_NL_RECORD_VERSION };
	struct out out = { .at = buf, .room = room };
	static const uint8_t none[XF_NL_RECORD_ALIGN];

	if (xf_sa_get_state(sa) != XF_SA_FROZEN)
		return -EBUSY;
	put(&out, &head, sizeof(head));
	put_message(&out, sa);
	put_origin(&out, sa);
	put_numbers(&out, sa);
	put(&out, none, -out.len % XF_NL_RECORD_ALIGN);
	if (out.full) {
		xf_wipe(buf, out.len);
		return -ENOSPC;
	}
	head.len = (uint32_t)out.len;
	memcpy(buf, &head, sizeof(head));
	*len = out.len;
	return 0;
}
