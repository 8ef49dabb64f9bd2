/*
 * The order of policies that rules and sets of the kernel follow: ruleset.c and backstop.c take the
 * list, sieve.c asks between which allowing policies a strict one belongs.
 */
#include <errno.h>
#include <stdlib.h>

#include "capture/policy_order.h"

static void *grow(void *array, uint32_t n, size_t size)
{
	/* A power of two is full. */
	return n & (n - 1) ? array : realloc(array, (n ? 2 * (size_t)n : 1) * size);
}

/* --- allowing policies --- */

void xf_policy_order_fini(struct xf_policy_order *order)
{
	free(order->allow);
	free(order->by_list);
	*order = (struct xf_policy_order){ .n = 0 };
}

static uint8_t list_of(const struct xf_policy *policy, uint8_t class)
{
	bool six = xf_policy_cfg(policy)->sel.family == XF_AF_INET6;

	return (uint8_t)(six * XF_POLICY_CLASSES + class);
}

int xf_policy_order_add(struct xf_policy_order *order, const struct xf_policy *policy,
			uint32_t segment)
{
	struct xf_policy_allow *allow = grow(order->allow, order->n, sizeof(*allow));
	uint32_t *by_list;

	if (!allow)
		return -ENOMEM;
	order->allow = allow;
	by_list = grow(order->by_list, order->n, sizeof(*by_list));
	if (!by_list)
		return -ENOMEM;
	order->by_list = by_list;
	allow += order->n++;
	*allow = (struct xf_policy_allow){ .policy = policy, .segment = segment };
	allow->key = xf_policy_order_key(policy);
	allow->list = list_of(policy, allow->key.tie_class);
	return 0;
}

/* The youngest stand at the end, and a flush takes them out first. */
void xf_policy_order_del(struct xf_policy_order *order, const struct xf_policy *policy)
{
	uint32_t at = order->n;

	while (at > 0 && order->allow[at - 1].policy != policy)
		at--;
	if (at == 0)
		return;
	memmove(order->allow + at - 1, order->allow + at,
		(order->n - at) * sizeof(order->allow[0]));
	order->n--;
}

static int compare_u64(uint64_t a, uint64_t b)
{
	return (a > b) - (a < b);
}

/* By what the policies say: type sub before main, then by priority. */
static int compare_wish(const struct xf_policy *a, const struct xf_policy *b)
{
	const struct xf_policy_config *x = xf_policy_cfg(a);
	const struct xf_policy_config *y = xf_policy_cfg(b);

	return x->type != y->type ? compare_u64(y->type, x->type)
				  : compare_u64(x->priority, y->priority);
}

static int compare_in_lists(const void *one, const void *other)
{
	const struct xf_policy_allow *a = one;
	const struct xf_policy_allow *b = other;
	int diff = compare_u64(a->list, b->list);

	diff = diff ? diff : compare_wish(a->policy, b->policy);
	return diff ? diff : compare_u64(a->key.rank, b->key.rank);
}

/* Of one list, this is by rank, because pos_max ascends with it. */
static int compare_allows(const void *one, const void *other)
{
	const struct xf_policy_allow *a = one;
	const struct xf_policy_allow *b = other;
	int diff = compare_wish(a->policy, b->policy);

	diff = diff ? diff : compare_u64(a->pos_max, b->pos_max);
	diff = diff ? diff : compare_u64(a->list, b->list);
	return diff ? diff : compare_u64(a->key.rank, b->key.rank);
}

static void set_pos_max(struct xf_policy_order *order)
{
	struct xf_policy_allow *allow = order->allow;

	for (uint32_t i = 0; i < order->n; i++, allow++) {
		const struct xf_policy_allow *before = allow - 1;

		allow->pos_max = allow->key.pos;
		if (i > 0 && before->list == allow->list &&
		    compare_wish(before->policy, allow->policy) == 0 &&
		    before->pos_max > allow->pos_max)
			allow->pos_max = before->pos_max;
	}
}

static void fill_lists(struct xf_policy_order *order)
{
	uint32_t at[XF_POLICY_ORDER_LISTS];

	memset(order->list_start, 0, sizeof(order->list_start));
	for (uint32_t i = 0; i < order->n; i++)
		order->list_start[order->allow[i].list + 1]++;
	for (unsigned list = 0; list < XF_POLICY_ORDER_LISTS; list++) {
		order->list_start[list + 1] += order->list_start[list];
		at[list] = order->list_start[list];
	}
	for (uint32_t i = 0; i < order->n; i++)
		order->by_list[at[order->allow[i].list]++] = i;
}

void xf_policy_order_sort(struct xf_policy_order *order)
{
	if (order->n) {
		qsort(order->allow, order->n, sizeof(order->allow[0]), compare_in_lists);
		set_pos_max(order);
		qsort(order->allow, order->n, sizeof(order->allow[0]), compare_allows);
	}
	fill_lists(order);
}

/* What is compared with allowing policies. */
struct newcomer {
	const struct xf_policy *policy;
	struct xf_policy_tie key;
	uint8_t list;
};

static struct newcomer newcomer_of(const struct xf_policy *policy)
{
	struct newcomer new = { .policy = policy, .key = xf_policy_order_key(policy) };

	new.list = list_of(policy, new.key.tie_class);
	return new;
}

/* Does @new have to stand before @allow? Along a list, the answer changes once. */
static bool precedes(const struct newcomer *new, const struct xf_policy_allow *allow)
{
	int diff = compare_wish(new->policy, allow->policy);

	if (diff)
		return diff < 0;
	return new->list == allow->list ? new->key.rank < allow->key.rank
					: new->key.pos < allow->pos_max;
}

/* The first of @list that @new precedes. */
static uint32_t place_in(const struct xf_policy_order *order, const struct newcomer *new,
			 unsigned list)
{
	uint32_t low = order->list_start[list];
	uint32_t high = order->list_start[list + 1];

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (precedes(new, &order->allow[order->by_list[mid]]))
			high = mid;
		else
			low = mid + 1;
	}
	return low < order->list_start[list + 1] ? order->by_list[low] : order->n;
}

uint32_t xf_policy_order_place(const struct xf_policy_order *order, const struct xf_policy *policy)
{
	struct newcomer new = newcomer_of(policy);
	unsigned family = new.list - new.key.tie_class;
	uint32_t place = order->n;

	for (unsigned class = 0; class < XF_POLICY_CLASSES; class ++)
		place = xf_min_u32(place, place_in(order, &new, family + class));
	return place;
}

uint32_t xf_policy_order_find(const struct xf_policy_order *order, const struct xf_policy *policy)
{
	struct newcomer new = newcomer_of(policy);
	uint32_t low = order->list_start[new.list];
	uint32_t high = order->list_start[new.list + 1];

	/* The last of its list that it does not precede. */
	while (high - low > 1) {
		uint32_t mid = low + (high - low) / 2;

		if (precedes(&new, &order->allow[order->by_list[mid]]))
			high = mid;
		else
			low = mid;
	}
	return order->by_list[low];
}

/* --- the list --- */

struct strict {
	const struct xf_policy *policy;
	uint64_t pos;
	uint32_t place;
};

struct collection {
	uint8_t dir;
	bool failed;
	bool (*wanted)(const struct xf_policy_config *cfg);
	struct xf_policy_order allows;
	struct strict *stricts;
	uint32_t n;
};

static int add_strict(struct collection *all, const struct xf_policy *policy)
{
	struct strict *stricts = grow(all->stricts, all->n, sizeof(*stricts));

	if (!stricts)
		return -ENOMEM;
	all->stricts = stricts;
	stricts[all->n++] =
		(struct strict){ .policy = policy, .pos = xf_policy_order_key(policy).pos };
	return 0;
}

static bool collect(void *arg, struct xf_policy *policy)
{
	struct collection *all = arg;
	const struct xf_policy_config *cfg = xf_policy_cfg(policy);
	int err = 0;

	if (cfg->dir != all->dir || cfg->if_id)
		return true;
	if (xf_policy_lets_pass(cfg))
		err = xf_policy_order_add(&all->allows, policy, 0);
	else if (xf_policy_is_strict(cfg) && (!all->wanted || all->wanted(cfg)))
		err = add_strict(all, policy);
	all->failed = err < 0;
	return !err;
}

/* Between two that allow, the order means nothing but to who reads the rules. */
static int compare_stricts(const void *one, const void *other)
{
	const struct strict *a = one;
	const struct strict *b = other;
	int diff = compare_u64(a->place, b->place);

	diff = diff ? diff : compare_wish(a->policy, b->policy);
	return diff ? diff : compare_u64(a->pos, b->pos);
}

static void merge(struct collection *all, struct xf_policy_list *list)
{
	uint32_t at = 0;

	xf_policy_order_sort(&all->allows);
	for (uint32_t i = 0; i < all->n; i++)
		all->stricts[i].place = xf_policy_order_place(&all->allows, all->stricts[i].policy);
	if (all->n)
		qsort(all->stricts, all->n, sizeof(all->stricts[0]), compare_stricts);
	for (uint32_t i = 0; i <= all->allows.n; i++) {
		while (at < all->n && all->stricts[at].place == i)
			list->policy[list->n++] = all->stricts[at++].policy;
		if (i < all->allows.n)
			list->policy[list->n++] = all->allows.allow[i].policy;
	}
}

int xf_policy_list_get(const struct xf_spd *spd, uint8_t dir,
		       bool (*wanted)(const struct xf_policy_config *cfg),
		       struct xf_policy_list *list)
{
	struct collection all = { .dir = dir, .wanted = wanted };
	uint64_t cursor = 0;

	xf_spd_walk(spd, &cursor, collect, &all);
	*list = (struct xf_policy_list){ .n = 0 };
	if (!all.failed)
		list->policy = calloc((size_t)all.n + all.allows.n + 1, sizeof(list->policy[0]));
	if (list->policy)
		merge(&all, list);
	free(all.stricts);
	xf_policy_order_fini(&all.allows);
	return list->policy ? 0 : -ENOMEM;
}

void xf_policy_list_free(struct xf_policy_list *list)
{
	free(list->policy);
}

/* --- what a policy is --- */

bool xf_policy_protects(const struct xf_policy_config *cfg)
{
	if (cfg->action == XF_POLICY_BLOCK)
		return true;
	for (unsigned i = 0; i < cfg->ntmpl; i++)
		if (!cfg->tmpl[i].optional)
			return true;
	return false;
}

bool xf_policy_is_strict(const struct xf_policy_config *cfg)
{
	return xf_policy_protects(cfg) || (cfg->dir == XF_DIR_OUT && cfg->ntmpl > 0);
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

bool xf_policy_lets_pass(const struct xf_policy_config *cfg)
{
	return cfg->type == XF_POLICY_MAIN && !xf_policy_is_strict(cfg);
}

bool xf_policy_allows(const struct xf_policy_config *cfg)
{
	const struct xf_selector *sel = &cfg->sel;

	return xf_policy_lets_pass(cfg) && !sel->ifindex && !sel->user && ports_are_exact(sel);
}

bool xf_policy_has_ports(uint8_t proto)
{
	return proto == XF_IPPROTO_TCP || proto == XF_IPPROTO_UDP || proto == XF_IPPROTO_SCTP ||
	       proto == XF_IPPROTO_DCCP || proto == XF_IPPROTO_UDPLITE;
}
