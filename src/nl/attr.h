/*
 * attr.h - reading attributes under the kernel's rules (lib/nlattr.c), and typed access to them.
 *
 * The rules are liberal for attributes that are older than XFRMA_SA_DIR and strict from there on:
 * an old integer may be longer than it has to be, a new one may not.
 */
#ifndef XF_NL_ATTR_H
#define XF_NL_ATTR_H

#include "nl/internal.h"

/* What NLMSGERR_ATTR_POLICY calls a type (enum netlink_attribute_type); 0 = bytes. */
enum xf_nl_type {
	XF_NL_BYTES = 0,
	XF_NL_FLAG = 1,
	XF_NL_U8 = 2,
	XF_NL_U16 = 3,
	XF_NL_U32 = 4,
	XF_NL_U64 = 5,
};

struct xf_nl_policy {
	uint8_t type;
	uint16_t len; /* the least length of bytes */
	uint64_t min, max; /* of an integer; both 0 = all that it can hold */
};

/* The largest value of @policy's type, or its own limit. */
uint64_t xf_nl_policy_max(const struct xf_nl_policy *policy);

/*
 * Read the attributes behind a fixed header of @header_len bytes into req->attrs.
 *   -EINVAL  the header is not there, or a strict attribute has another length
 *   -ERANGE  an attribute is too short or an integer out of range
 */
int xf_nl_parse(struct xf_nl_request *req, size_t header_len);

/* The same with the attributes of NEWSPDINFO, which have numbers of their own. */
int xf_nl_parse_spd(struct xf_nl_request *req, size_t header_len);

/* Attribute values. Integers have a default for a missing attribute. */
uint32_t xf_nl_u32(const struct xf_nl_request *req, int type, uint32_t missing);
uint8_t xf_nl_u8(const struct xf_nl_request *req, int type, uint8_t missing);
bool xf_nl_get(const struct xf_nl_request *req, int type, void *out, size_t len);

/* XFRMA_MARK, its value masked; zero when there is none. */
struct xf_mark xf_nl_mark(const struct xf_nl_request *req);

/* XFRMA_SEC_CTX must agree with its own lengths; there is no LSM here to ask further. */
int xf_nl_verify_sec_ctx(struct xf_nl_request *req);

#endif
