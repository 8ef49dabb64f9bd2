#include <errno.h>
#include <stdlib.h>

#include "capture/policy_order.h"

static bool collect(void *arg, struct xf_policy *policy)
{
	struct xf_policy_list *list = arg;
	const struct xf_policy_config *cfg = xf_policy_cfg(policy);

	/* Those with an if_id see only what an xfrm interface sends. */
	if (cfg->dir != list->dir || cfg->if_id || (list->wanted && !list->wanted(cfg)))
		return true;
	if (list->n == list->room) {
		size_t room = list->room ? 2 * list->room : 64;
		void *bigger = realloc(list->policy, room * sizeof(list->policy[0]));

		list->failed = !bigger;
		if (!bigger)
			return false;
		list->policy = bigger;
		list->room = room;
	}
	list->policy[list->n++] = policy;
	return true;
}

bool xf_policy_goes_before(const struct xf_policy *a, const struct xf_policy *b)
{
	const struct xf_policy_config *x = xf_policy_cfg(a);
	const struct xf_policy_config *y = xf_policy_cfg(b);

	if (x->type != y->type)
		return x->type > y->type;
	if (x->priority != y->priority)
		return x->priority < y->priority;
	return xf_policy_rank(a) < xf_policy_rank(b);
}

/* A stable merge of two sorted runs. */
static void merge(const struct xf_policy **v, size_t mid, size_t n, const struct xf_policy **tmp)
{
	size_t a = 0;
	size_t b = mid;

	for (size_t i = 0; i < n; i++)
		tmp[i] =
			b == n || (a < mid && !xf_policy_goes_before(v[b], v[a])) ? v[a++] : v[b++];
	memcpy(v, tmp, n * sizeof(v[0]));
}

static void sort(const struct xf_policy **v, size_t n, const struct xf_policy **tmp)
{
	if (n < 2)
		return;
	sort(v, n / 2, tmp);
	sort(v + n / 2, n - n / 2, tmp);
	merge(v, n / 2, n, tmp);
}

int xf_policy_list_get(const struct xf_spd *spd, uint8_t dir,
		       bool (*wanted)(const struct xf_policy_config *cfg),
		       struct xf_policy_list *list)
{
	const struct xf_policy **tmp;
	uint64_t cursor = 0;

	*list = (struct xf_policy_list){ .dir = dir, .wanted = wanted };
	xf_spd_walk(spd, &cursor, collect, list);
	tmp = calloc(list->n + 1, sizeof(tmp[0]));
	if (list->failed || !tmp) {
		free(tmp);
		free(list->policy);
		return -ENOMEM;
	}
	sort(list->policy, list->n, tmp);
	free(tmp);
	return 0;
}

void xf_policy_list_free(struct xf_policy_list *list)
{
	free(list->policy);
}

static bool wants_protection(const struct xf_policy_config *cfg)
{
	for (unsigned i = 0; i < cfg->ntmpl; i++)
		if (!cfg->tmpl[i].optional)
			return true;
	return false;
}

bool xf_policy_is_strict(const struct xf_policy_config *cfg)
{
	if (cfg->action == XF_POLICY_BLOCK)
		return true;
	return cfg->dir == XF_DIR_OUT ? cfg->ntmpl > 0 : wants_protection(cfg);
}

/* Ports, or type and code of ICMP, that stand at the places where a rule looks. */
static bool ports_are_exact(const struct xf_selector *sel)
{
	if (!sel->sport_mask && !sel->dport_mask)
		return true;
	if (sel->proto == XF_IPPROTO_ICMP || sel->proto == XF_IPPROTO_ICMPV6)
		return (sel->sport_mask == 0xffff || !sel->sport_mask) &&
		       (sel->dport_mask == 0xffff || !sel->dport_mask);
	return xf_policy_has_ports(sel->proto);
}

bool xf_policy_allows(const struct xf_policy_config *cfg)
{
	const struct xf_selector *sel = &cfg->sel;

	return cfg->type == XF_POLICY_MAIN && !xf_policy_is_strict(cfg) && !sel->ifindex &&
	       !sel->user && ports_are_exact(sel);
}

bool xf_policy_has_ports(uint8_t proto)
{
	return proto == XF_IPPROTO_TCP || proto == XF_IPPROTO_UDP || proto == XF_IPPROTO_SCTP ||
	       proto == XF_IPPROTO_DCCP || proto == XF_IPPROTO_UDPLITE;
}
