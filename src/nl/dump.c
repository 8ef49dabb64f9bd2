/*
 * Dumps of the SAD and the SPD. A dump belongs to its client and goes on as far as the reader has
 * room; the cursor of xf_sad_walk() and xf_spd_walk() survives changes of the tables in between.
 * The end, or an error, is NLMSG_DONE in a datagram of its own (af_netlink.c: netlink_dump()).
 */
#include <stdlib.h>

#include "nl/policy.h"
#include "nl/sa.h"
#include "nl/wire.h"

struct xf_nl_dump {
	struct xf_nl_client *client;
	struct xf_nl_origin to;
	uint64_t cursor;
	bool policies;
	bool walked; /* all were visited */
	bool done; /* what is in @buf is NLMSG_DONE */
	/* Of GETSA; as xfrm_state_walk() applies them. */
	uint8_t proto;
	bool has_filter;
	struct xfrm_address_filter filter;
	size_t len; /* waiting to be sent */
	uint8_t buf[XF_NL_DUMP_LEN];
};

void xf_nl_dump_free(struct xf_nl_client *client)
{
	if (!client->dump)
		return;
	xf_wipe(client->dump, sizeof(*client->dump));
	free(client->dump);
	client->dump = NULL;
}

/* Append @msg; is there room for another one? */
static bool append(struct xf_nl_dump *dump, struct xf_nl_msg *msg)
{
	msg->nlh->nlmsg_flags = NLM_F_MULTI;
	memcpy(dump->buf + dump->len, msg->buf, msg->nlh->nlmsg_len);
	dump->len += msg->nlh->nlmsg_len;
	xf_wipe(msg->buf, sizeof(msg->buf));
	return dump->len + XF_NL_MSG_MAX <= sizeof(dump->buf);
}

static bool proto_matches(uint8_t proto, uint8_t wanted)
{
	if (wanted == XF_IPSEC_PROTO_ANY)
		return proto == XF_IPPROTO_ESP || proto == XF_IPPROTO_AH ||
		       proto == XF_IPPROTO_COMP;
	return !wanted || proto == wanted;
}

static bool filter_matches(const struct xfrm_address_filter *filter, const struct xf_sa_view *cfg)
{
	union xf_addr saddr, daddr;

	if (xf_nl_family_valid(filter->family) && filter->family != cfg->id.family)
		return false;
	memcpy(&saddr, &filter->saddr, sizeof(saddr));
	memcpy(&daddr, &filter->daddr, sizeof(daddr));
	return xf_addr_prefix_match(&cfg->saddr, &saddr, filter->splen) &&
	       xf_addr_prefix_match(&cfg->id.daddr, &daddr, filter->dplen);
}

static bool visit_sa(void *arg, struct xf_sa *sa)
{
	const struct xf_sa_view *cfg = xf_sa_cfg(sa);
	struct xf_nl_dump *dump = arg;
	struct xf_nl_msg msg;

	if (!proto_matches(cfg->id.proto, dump->proto))
		return true;
	if (dump->has_filter && !filter_matches(&dump->filter, cfg))
		return true;
	xf_nl_fill_sa(sa, xf_nl_msg_init(&msg, XFRM_MSG_NEWSA, &dump->to,
					 sizeof(struct xfrm_usersa_info)));
	xf_nl_put_sa(&msg, sa);
	return append(dump, &msg);
}

static bool visit_policy(void *arg, struct xf_policy *policy)
{
	struct xf_nl_dump *dump = arg;
	struct xf_nl_msg msg;

	xf_nl_fill_policy(policy, xf_nl_msg_init(&msg, XFRM_MSG_NEWPOLICY, &dump->to,
						 sizeof(struct xfrm_userpolicy_info)));
	xf_nl_put_policy(&msg, policy);
	return append(dump, &msg);
}

static void put_done(struct xf_nl_dump *dump, int err)
{
	struct nlmsghdr nlh = {
		.nlmsg_len = NLMSG_HDRLEN + sizeof(err),
		.nlmsg_type = NLMSG_DONE,
		.nlmsg_flags = NLM_F_MULTI,
		.nlmsg_seq = dump->to.seq,
		.nlmsg_pid = dump->to.portid,
	};

	memcpy(dump->buf, &nlh, sizeof(nlh));
	memcpy(dump->buf + NLMSG_HDRLEN, &err, sizeof(err));
	dump->len = nlh.nlmsg_len;
	dump->done = true;
}

/* The request was wrong: NLMSG_DONE says so, with the sentence. */
static void put_error(struct xf_nl_dump *dump, const struct xf_nl_request *req, int err)
{
	struct nlmsghdr *nlh = (struct nlmsghdr *)(void *)dump->buf;
	size_t tlvs = 0;

	put_done(dump, err);
	if (dump->client->ext_ack)
		tlvs = xf_nl_extack_put(dump->buf + dump->len, req->nlh, &req->extack, err);
	if (!tlvs)
		return;
	dump->len += tlvs;
	nlh->nlmsg_len += (uint32_t)tlvs;
	nlh->nlmsg_flags |= NLM_F_ACK_TLVS;
}

/* Nothing fitted any more, or nothing is left: then it is time for NLMSG_DONE. */
static void fill(struct xf_nl_dump *dump)
{
	const struct xf_nl_server_config *cfg = &dump->client->server->cfg;

	if (!dump->walked) {
		if (dump->policies)
			dump->walked = !xf_spd_walk(cfg->spd, &dump->cursor, visit_policy, dump);
		else
			dump->walked = !xf_sad_walk(cfg->sad, &dump->cursor, visit_sa, dump);
	}
	if (!dump->len)
		put_done(dump, 0);
}

/* Until the reader has no room, is gone, or has all. */
void xf_nl_dump_continue(struct xf_nl_client *client)
{
	struct xf_nl_dump *dump = client->dump;

	while (dump) {
		int err;

		if (!dump->len)
			fill(dump);
		err = xf_nl_try_send(client, dump->buf, dump->len);
		if (err == -EAGAIN)
			return;
		dump->len = 0;
		if (err || dump->done) {
			xf_nl_dump_free(client);
			return;
		}
	}
}

/* GETSA reads attributes right behind the netlink header; GETPOLICY reads none. */
static int parse(struct xf_nl_request *req, struct xf_nl_dump *dump)
{
	int err = xf_nl_parse(req, 0);

	if (err)
		return err;
	dump->proto = xf_nl_u8(req, XFRMA_PROTO, 0);
	dump->has_filter =
		xf_nl_get(req, XFRMA_ADDRESS_FILTER, &dump->filter, sizeof(dump->filter));
	if (dump->filter.splen > 128 || dump->filter.dplen > 128)
		return -EINVAL;
	return 0;
}

int xf_nl_dump_start(struct xf_nl_request *req)
{
	struct xf_nl_client *client = req->client;
	struct xf_nl_dump *dump;
	int err = 0;

	if (client->dump)
		return -EBUSY;
	dump = calloc(1, sizeof(*dump));
	if (!dump)
		return -ENOBUFS;
	dump->client = client;
	dump->to = (struct xf_nl_origin){ client->portid, req->nlh->nlmsg_seq };
	dump->policies = req->nlh->nlmsg_type == XFRM_MSG_GETPOLICY;
	client->dump = dump;
	if (!dump->policies)
		err = parse(req, dump);
	if (err)
		put_error(dump, req, err);
	xf_nl_dump_continue(client);
	return -EINTR;
}
