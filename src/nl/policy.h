/*
 * policy.h - a policy on its way in (NEWPOLICY, UPDPOLICY) and out (dumps, notifications).
 */
#ifndef XF_NL_POLICY_H
#define XF_NL_POLICY_H

#include "nl/attr.h"

/* Verify and read a NEWPOLICY or UPDPOLICY into @cfg. */
int xf_nl_parse_policy(struct xf_nl_request *req, const struct xfrm_userpolicy_info *info,
		       struct xf_policy_config *cfg);

/* XFRMA_POLICY_TYPE, main when it is missing. -EINVAL: an unknown one. */
int xf_nl_parse_policy_type(struct xf_nl_request *req, uint8_t *type);
int xf_nl_verify_policy_dir(struct xf_nl_request *req, uint8_t dir);

/* What names a policy, then the policy itself (-ENOENT). */
struct xf_nl_policy_name {
	const struct xfrm_selector *sel;
	uint32_t index;
	uint8_t dir;
};
int xf_nl_find_policy(struct xf_nl_request *req, const struct xf_nl_policy_name *name,
		      struct xf_policy **out);

void xf_nl_fill_policy(const struct xf_policy *policy, struct xfrm_userpolicy_info *info);
void xf_nl_put_policy(struct xf_nl_msg *msg, const struct xf_policy *policy);
void xf_nl_put_policy_type(struct xf_nl_msg *msg, uint8_t type);

/* Before a change that lets the policies in force grow by @more bytes: may it be? */
int xf_nl_reserve_policy(struct xf_nl_request *req, size_t more);
void xf_nl_policy_changed(const struct xf_nl_request *req);
void xf_nl_notify_polexpire(struct xf_nl_server *server, struct xf_policy *policy, bool hard,
			    uint32_t portid);

#endif
