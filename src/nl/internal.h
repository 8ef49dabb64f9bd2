/*
 * internal.h - what the files of the netlink server share: server, client, request, reply.
 *
 * A handler is "parse then act": it reads attributes into value structs in host order, checks
 * them, and only then touches SAD or SPD, so that on an error nothing has changed. It returns 0
 * or -errno; the sentence for the user goes into the request's extack. Control thread only.
 */
#ifndef XF_NL_INTERNAL_H
#define XF_NL_INTERNAL_H

#include <errno.h>

#include <libmnl/libmnl.h>

#include "nl/nl.h"
#include "nl/uapi.h"

/* The largest single message that we build: an SA with every attribute, a policy with templates. */
#define XF_NL_MSG_MAX 2560
/* A dump's datagram. A reader must offer 8 KiB by netlink's own rule (man 7 netlink). */
#define XF_NL_DUMP_LEN 8192
#define XF_NL_GROUP(group) (1u << ((group)-1))

struct xf_nl_server {
	struct xf_nl_server_config cfg;
	struct xf_nl_client *clients;
	bool spd_dirty; /* spd_changed() is to be called */
	uint32_t cpus; /* SA_PCPU is below this */
	/* XFRMA_SPD_IPV*_HTHRESH: accepted and shown; our classifier needs no hint. */
	struct xfrmu_spdhthresh thresh4, thresh6;
};

struct xf_nl_dump;

struct xf_nl_client {
	struct xf_nl_server *server;
	struct xf_nl_client_config cfg;
	struct xf_nl_client *next;
	struct xf_nl_dump *dump; /* in progress, or NULL */
	uint32_t portid;
	uint32_t groups;
	bool ext_ack;
	bool cap_ack;
	bool overrun; /* something was lost and the reader is not told yet */
	bool gone; /* send() failed for good */
};

struct xf_nl_policy;

/* What an extended acknowledgement says (enum nlmsgerr_attrs). */
struct xf_nl_extack {
	const char *why; /* constant, or NULL */
	const struct nlattr *bad;
	const struct xf_nl_policy *policy; /* that @bad violates */
};

struct xf_nl_request {
	struct xf_nl_server *server;
	struct xf_nl_client *client;
	const struct nlmsghdr *nlh;
	uint64_t now_ns;
	struct xf_nl_extack extack;
	const struct nlattr *attrs[XF_XFRMA_MAX + 1]; /* the last of each type, or NULL */
};

/* A message under construction. */
struct xf_nl_msg {
	_Alignas(8) uint8_t buf[XF_NL_MSG_MAX];
	struct nlmsghdr *nlh;
};

/* Who caused an event: notifications carry the request's own port and sequence number. */
struct xf_nl_origin {
	uint32_t portid;
	uint32_t seq;
};

/* Return @err and set the sentence: `return xf_nl_fail(req, -EINVAL, "...")`. */
int xf_nl_fail(struct xf_nl_request *req, int err, const char *why);

static inline struct xf_nl_origin xf_nl_origin(const struct xf_nl_request *req)
{
	struct xf_nl_origin origin = { req->nlh->nlmsg_pid, req->nlh->nlmsg_seq };

	return origin;
}

/* client.c: sending. Before anything leaves, what has changed is in force. */
void xf_nl_settle(struct xf_nl_server *server);
void xf_nl_send(struct xf_nl_client *client, const void *data, size_t len);
int xf_nl_try_send(struct xf_nl_client *client, const void *data, size_t len);
void xf_nl_multicast(struct xf_nl_server *server, const struct xf_nl_msg *msg, unsigned group);
bool xf_nl_has_listeners(const struct xf_nl_server *server, unsigned group);

/* msg.c: a message with a zeroed fixed header of @len bytes, which is returned. */
void *xf_nl_msg_init(struct xf_nl_msg *msg, uint16_t type, const struct xf_nl_origin *to,
		     size_t len);
void *xf_nl_msg_reserve(struct xf_nl_msg *msg, uint16_t type, size_t len); /* an attribute */
void xf_nl_msg_put(struct xf_nl_msg *msg, uint16_t type, const void *data, size_t len);
void xf_nl_msg_put_u32(struct xf_nl_msg *msg, uint16_t type, uint32_t value);
void xf_nl_msg_put_u8(struct xf_nl_msg *msg, uint16_t type, uint8_t value);
void xf_nl_msg_put_mark(struct xf_nl_msg *msg, const struct xf_mark *mark);
void xf_nl_msg_put_if_id(struct xf_nl_msg *msg, uint32_t if_id);
void xf_nl_reply(struct xf_nl_request *req, struct xf_nl_msg *msg);

/* ack.c: NLMSG_ERROR, and the TLVs of an extended acknowledgement. */
void xf_nl_ack(struct xf_nl_request *req, int err);
size_t xf_nl_extack_put(uint8_t *buf, const struct nlmsghdr *nlh, const struct xf_nl_extack *extack,
			int err);
#define XF_NL_EXTACK_MAX 256

/* The fixed header of @req into *@out, which it has by xf_nl_parse(). */
#define xf_nl_header(req, out) memcpy((out), mnl_nlmsg_get_payload((req)->nlh), sizeof(*(out)))

/* dump.c: -EINTR when the dump has begun (it answers for itself). */
int xf_nl_dump_start(struct xf_nl_request *req);
void xf_nl_dump_continue(struct xf_nl_client *client);
void xf_nl_dump_free(struct xf_nl_client *client);

/* Handlers, by message family. */
int xf_nl_new_sa(struct xf_nl_request *req); /* sa_new.c: NEWSA, UPDSA */
int xf_nl_del_sa(struct xf_nl_request *req); /* sa.c */
int xf_nl_get_sa(struct xf_nl_request *req); /* sa.c */
int xf_nl_flush_sa(struct xf_nl_request *req); /* sa.c */
int xf_nl_alloc_spi(struct xf_nl_request *req); /* spi.c */
int xf_nl_new_policy(struct xf_nl_request *req); /* policy.c: NEWPOLICY, UPDPOLICY */
int xf_nl_get_policy(struct xf_nl_request *req); /* policy.c: GETPOLICY, DELPOLICY */
int xf_nl_flush_policy(struct xf_nl_request *req);
int xf_nl_get_ae(struct xf_nl_request *req); /* ae.c */
int xf_nl_new_ae(struct xf_nl_request *req);
int xf_nl_expire_sa(struct xf_nl_request *req); /* expire.c */
int xf_nl_expire_policy(struct xf_nl_request *req);
int xf_nl_get_sadinfo(struct xf_nl_request *req); /* info.c */
int xf_nl_get_spdinfo(struct xf_nl_request *req);
int xf_nl_set_spdinfo(struct xf_nl_request *req);
int xf_nl_get_default(struct xf_nl_request *req);
int xf_nl_set_default(struct xf_nl_request *req);
int xf_nl_migrate(struct xf_nl_request *req); /* migrate.c */

#endif
