/*
 * policy_order.h - the policies of one direction in the order in which a packet meets them, for
 * what programs the kernel by them.
 *
 * Control thread. What is collected is borrowed from the SPD and valid until it changes.
 */
#ifndef XF_CAPTURE_POLICY_ORDER_H
#define XF_CAPTURE_POLICY_ORDER_H

#include <xf/spd.h>

struct xf_policy_list {
	const struct xf_policy **policy;
	size_t n;
	size_t room;
	bool failed;
	uint8_t dir;
	bool (*wanted)(const struct xf_policy_config *cfg);
};

/*
 * Those with an if_id are left out: they see only what an xfrm interface sends; and those that
 * @wanted says no to, if it is not NULL. -ENOMEM.
 */
int xf_policy_list_get(const struct xf_spd *spd, uint8_t dir,
		       bool (*wanted)(const struct xf_policy_config *cfg),
		       struct xf_policy_list *list);
void xf_policy_list_free(struct xf_policy_list *list);

/* Is @a asked first? Type sub before main, then by priority, then by age. */
bool xf_policy_goes_before(const struct xf_policy *a, const struct xf_policy *b);

/*
 * Must matching packets be acted on? Outbound ones go to the engine for any template, optional
 * ones too; inbound plaintext breaks a policy only where a template is required.
 */
bool xf_policy_is_strict(const struct xf_policy_config *cfg);

/*
 * Does the policy let pass what it selects, and can rules tell exactly what that is? One of type
 * sub decides nothing: main is asked too.
 */
bool xf_policy_allows(const struct xf_policy_config *cfg);

/* Does @proto have ports where TCP has them? */
bool xf_policy_has_ports(uint8_t proto);

#endif
