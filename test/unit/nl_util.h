/*
 * nl_util.h - a netlink server over a SAD and an SPD, clients that remember their datagrams, and
 * requests made byte by byte.
 */
#ifndef TEST_NL_UTIL_H
#define TEST_NL_UTIL_H

#include <errno.h>
#include <stddef.h>

#include <libmnl/libmnl.h>
#include <xf/rcu.h>

#include "nl/nl.h"
#include "nl/uapi.h"

#define NL_DATAGRAMS 256
#define NL_CLIENTS 3
#define NL_NOW (1000 * XF_NSEC_PER_SEC)
#define NL_REAL_OFFSET 1700000000u
#define NL_ACK_LEN 36

/* What a client received; @room datagrams fit, a negative value means any number. */
struct nl_inbox {
	struct xf_nl_client *client;
	int room;
	int err; /* what send() returns when there is no room */
	unsigned tries; /* calls of send(), with room or not */
	unsigned n;
	size_t len[NL_DATAGRAMS];
	uint8_t *data[NL_DATAGRAMS];
	const struct nl_fixture *of;
	unsigned spd_changes; /* that were told of before the last one */
};

struct nl_fixture {
	struct xf_sad *sad;
	struct xf_spd *spd;
	struct xf_nl_server *server;
	struct nl_inbox in[NL_CLIENTS];
	unsigned spd_changes;
	unsigned sa_changes;
	/* Changes of the SPD that were asked for; the next ones are refused by this. */
	unsigned reserves;
	size_t reserved_more; /* by the last one */
	int refuse;
};

/* Clients have the ports 1000, 1001, …; the first one has extended acknowledgements. */
struct nl_fixture *nl_setup(void);
void nl_teardown(struct nl_fixture *f);

/* A request. The sequence number is 7, the port number 0. */
struct nl_req {
	_Alignas(8) uint8_t buf[16384];
	struct nlmsghdr *nlh;
};

void nl_begin(struct nl_req *r, uint16_t type, uint16_t flags, const void *header, size_t len);
void nl_attr(struct nl_req *r, uint16_t type, const void *data, size_t len);
void nl_attr_u32(struct nl_req *r, uint16_t type, uint32_t value);
void nl_send(struct nl_fixture *f, unsigned client, const struct nl_req *r);
void nl_forget(struct nl_inbox *in);

/* Headers with values that are right for a tunnel from 10.0.0.1 to 10.0.0.2. */
void nl_sa_info(struct xfrm_usersa_info *info, uint32_t spi);
void nl_sa_id(struct xfrm_usersa_id *id, uint32_t spi);
void nl_policy_info(struct xfrm_userpolicy_info *info, uint8_t dir, uint8_t third_byte);
void nl_policy_id(struct xfrm_userpolicy_id *id, uint8_t dir, uint8_t third_byte);
void nl_tmpl(struct xfrm_user_tmpl *tmpl);
void nl_attr_aead(struct nl_req *r, uint32_t key_bits, uint32_t icv_bits);
void nl_attr_alg(struct nl_req *r, uint16_t type, const char *name, uint32_t key_bits);

/* NEWSA with GCM, NEWPOLICY with one template; the request is acknowledged without error. */
void nl_add_sa(struct nl_fixture *f, uint32_t spi);
void nl_add_policy(struct nl_fixture *f, uint8_t dir, uint8_t third_byte);

/* The datagram @i of @in as a message. */
const struct nlmsghdr *nl_msg(const struct nl_inbox *in, unsigned i);
/* The attribute behind @attr, or the first one behind @header_len bytes; NULL: the end. */
const struct nlattr *nl_next(const struct nlmsghdr *nlh, size_t header_len,
			     const struct nlattr *attr);
/* The first attribute of @type behind @header_len bytes, or NULL. */
const struct nlattr *nl_find(const struct nlmsghdr *nlh, size_t header_len, uint16_t type);
/* The error of a NLMSG_ERROR or NLMSG_DONE. */
int nl_error(const struct nlmsghdr *nlh);
/* The extended acknowledgement's sentence, or "". */
const char *nl_why(const struct nlmsghdr *nlh);

#endif
