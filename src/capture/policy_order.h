/*
 * policy_order.h - the one order of policies in which the kernel is programmed.
 *
 * Rules are a list, and the SPD's relation is none: of equal type and priority, the lowest rank
 * wins within a class and the lowest pos between the classes' winners (xf_policy_order_key(),
 * decision 0006), so A before C before B before A can be. Made of it is an order in which a
 * *strict* policy (one that protects or blocks) always stands before an *allowing* one that it can
 * beat: out then catches too much, in and fwd refuse too much, never the other way round. Where
 * the relation has no cycle the order is exact.
 *
 * A strict policy S has to stand before an allowing one A of equal type and priority if
 *   - they are of one class, and S has the lower rank; or
 *   - they are not, and pos(S) < pos_max(A), the largest pos of the allowing policies of A's class
 *     whose rank is not above A's.
 * For if S wins where A matches too, the first match M of A's class has a larger pos than S and no
 * larger rank than A. If M is strict, it stands before A; if it allows, it is one of those that
 * pos_max looks at. So those have a place, too, that rules cannot tell exactly and that are left
 * out of them (a device, a user).
 *
 * Control thread. What is collected is borrowed from the SPD and valid until it changes.
 */
#ifndef XF_CAPTURE_POLICY_ORDER_H
#define XF_CAPTURE_POLICY_ORDER_H

#include <xf/spd.h>

/* --- the allowing policies, and where strict ones belong among them --- */

struct xf_policy_allow {
	const struct xf_policy *policy;
	struct xf_policy_tie key;
	uint64_t pos_max;
	uint32_t segment; /* the owner's: see sieve.h */
	uint8_t list; /* class and family: those of one list could match the same packet */
};

#define XF_POLICY_ORDER_LISTS (2 * XF_POLICY_CLASSES)

/* All zero is an empty one. */
struct xf_policy_order {
	struct xf_policy_allow *allow; /* in order, once xf_policy_order_sort() was called */
	uint32_t n;
	uint32_t *by_list; /* their places: list after list, ascending in each */
	uint32_t list_start[XF_POLICY_ORDER_LISTS + 1];
};

void xf_policy_order_fini(struct xf_policy_order *order);

/* Add one that xf_policy_lets_pass(), with @segment. -ENOMEM. The order is to be sorted again. */
int xf_policy_order_add(struct xf_policy_order *order, const struct xf_policy *policy,
			uint32_t segment);
/* Take it out, if it is there; likewise. */
void xf_policy_order_del(struct xf_policy_order *order, const struct xf_policy *policy);
void xf_policy_order_sort(struct xf_policy_order *order);

/*
 * The place of the first allowing policy that the strict @policy has to stand before; order->n if
 * there is none. The time is logarithmic.
 */
uint32_t xf_policy_order_place(const struct xf_policy_order *order, const struct xf_policy *policy);

/* The place of the allowing @policy itself, which must be in @order. */
uint32_t xf_policy_order_find(const struct xf_policy_order *order, const struct xf_policy *policy);

/* --- the policies of a direction, as a list --- */

struct xf_policy_list {
	const struct xf_policy **policy;
	size_t n;
};

/*
 * Strict policies of @dir, and those that xf_policy_lets_pass(). Those with an if_id are left out:
 * they see only what an xfrm interface sends; and those strict ones that @wanted says no to, if it
 * is not NULL. -ENOMEM.
 */
int xf_policy_list_get(const struct xf_spd *spd, uint8_t dir,
		       bool (*wanted)(const struct xf_policy_config *cfg),
		       struct xf_policy_list *list);
void xf_policy_list_free(struct xf_policy_list *list);

/* --- what a policy is --- */

/*
 * Must matching packets be acted on? Outbound ones go to the engine for any template, optional
 * ones too; inbound plaintext breaks a policy only where a template is required.
 */
bool xf_policy_is_strict(const struct xf_policy_config *cfg);

/* Does none of them leave in clear, whatever SAs there are? Optional templates may find none. */
bool xf_policy_protects(const struct xf_policy_config *cfg);

/*
 * Does the policy let pass what it selects? One of type sub decides nothing: main is asked too.
 */
bool xf_policy_lets_pass(const struct xf_policy_config *cfg);

/* Likewise, and can rules tell exactly what that is? */
bool xf_policy_allows(const struct xf_policy_config *cfg);

/* Does @proto have ports where TCP has them? */
bool xf_policy_has_ports(uint8_t proto);

#endif
