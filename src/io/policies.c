#include <errno.h>
#include <stdlib.h>

#include "io/policies.h"

static bool collect(void *arg, struct xf_policy *policy)
{
	struct xf_policy_list *list = arg;
	const struct xf_policy_config *cfg = xf_policy_cfg(policy);

	/* Those with an if_id see only what an xfrm interface sends. */
	if (cfg->dir != list->dir || cfg->if_id)
		return true;
	if (list->n == list->room) {
		size_t room = list->room ? 2 * list->room : 64;
		void *bigger = realloc(list->cfg, room * sizeof(list->cfg[0]));

		list->failed = !bigger;
		if (!bigger)
			return false;
		list->cfg = bigger;
		list->room = room;
	}
	list->cfg[list->n++] = cfg;
	return true;
}

/* Type sub is asked before main, then by priority. */
static bool goes_before(const struct xf_policy_config *a, const struct xf_policy_config *b)
{
	if (a->type != b->type)
		return a->type > b->type;
	return a->priority < b->priority;
}

/* A stable merge of two sorted runs. */
static void merge(const struct xf_policy_config **v, size_t mid, size_t n,
		  const struct xf_policy_config **tmp)
{
	size_t a = 0;
	size_t b = mid;

	for (size_t i = 0; i < n; i++)
		tmp[i] = b == n || (a < mid && !goes_before(v[b], v[a])) ? v[a++] : v[b++];
	memcpy(v, tmp, n * sizeof(v[0]));
}

static void sort(const struct xf_policy_config **v, size_t n, const struct xf_policy_config **tmp)
{
	if (n < 2)
		return;
	sort(v, n / 2, tmp);
	sort(v + n / 2, n - n / 2, tmp);
	merge(v, n / 2, n, tmp);
}

int xf_policy_list_get(const struct xf_spd *spd, uint8_t dir, struct xf_policy_list *list)
{
	const struct xf_policy_config **tmp;
	uint64_t cursor = 0;

	*list = (struct xf_policy_list){ .dir = dir };
	xf_spd_walk(spd, &cursor, collect, list);
	tmp = calloc(list->n + 1, sizeof(tmp[0]));
	if (list->failed || !tmp) {
		free(tmp);
		free(list->cfg);
		return -ENOMEM;
	}
	/* The walk is newest first; of equal priority the older one wins. */
	for (size_t i = 0; i < list->n / 2; i++) {
		const struct xf_policy_config *first = list->cfg[i];

		list->cfg[i] = list->cfg[list->n - 1 - i];
		list->cfg[list->n - 1 - i] = first;
	}
	sort(list->cfg, list->n, tmp);
	free(tmp);
	return 0;
}

void xf_policy_list_free(struct xf_policy_list *list)
{
	free(list->cfg);
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

bool xf_policy_has_ports(uint8_t proto)
{
	return proto == XF_IPPROTO_TCP || proto == XF_IPPROTO_UDP || proto == XF_IPPROTO_SCTP ||
	       proto == XF_IPPROTO_DCCP || proto == XF_IPPROTO_UDPLITE;
}
