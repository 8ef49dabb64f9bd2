/*
 * policies.h - the policies of one direction in the order in which a packet meets them, for what
 * programs the kernel by them.
 *
 * Control thread. What is collected is borrowed from the SPD and valid until it changes.
 */
#ifndef XF_IO_POLICIES_H
#define XF_IO_POLICIES_H

#include <xf/spd.h>

/*
 * Policies that a daemon before this one had: their rules stay in force, as blocking ones, behind
 * all policies there are. One goes when a policy with its selector comes, and all go when the last
 * policy is deleted: then the user wants none.
 */
struct xf_inherited {
	struct xf_policy_config *cfg;
	size_t n;
	bool had_policies;
};

struct xf_policy_list {
	const struct xf_policy_config **cfg;
	size_t n;
	size_t current; /* those in front; behind them are inherited ones */
	size_t room;
	bool failed;
	uint8_t dir;
};

/*
 * Those with an if_id are left out: they see only what an xfrm interface sends. @inherited may be
 * NULL. -ENOMEM.
 */
int xf_policy_list_get(const struct xf_spd *spd, const struct xf_inherited *inherited, uint8_t dir,
		       struct xf_policy_list *list);
void xf_policy_list_free(struct xf_policy_list *list);

/*
 * Must matching packets be acted on? Outbound ones go to the engine for any template, optional
 * ones too; inbound plaintext breaks a policy only where a template is required.
 */
bool xf_policy_is_strict(const struct xf_policy_config *cfg);

/* Take @cfg over; 0 or -ENOMEM. */
int xf_inherited_add(struct xf_inherited *inherited, const struct xf_policy_config *cfg);

/* Forget what the SPD has again. */
void xf_inherited_update(struct xf_inherited *inherited, const struct xf_spd *spd);
void xf_inherited_free(struct xf_inherited *inherited);

/*
 * A policy's direction, selector and mark as a word for a rule's comment, and back: false when
 * @text is not one. @buf has XF_POLICY_WORD_LEN bytes.
 */
#define XF_POLICY_WORD_LEN 128
const char *xf_policy_to_word(const struct xf_policy_config *cfg, char *buf);
bool xf_policy_from_word(const char *text, struct xf_policy_config *out);

/* Does @proto have ports where TCP has them? */
bool xf_policy_has_ports(uint8_t proto);

#endif
