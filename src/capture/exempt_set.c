/*
 * The set of what disable_policy exempts: made by reconcile.c, asked by workers about what they
 * have decrypted.
 */
#include <errno.h>
#include <stdlib.h>

#include <xf/rcu.h>

#include "capture/exempt_set.h"

struct xf_exempt_set {
	struct xf_rcu_head rcu;
	bool all4; /* IPv4 of every device */
	uint32_t ndevices;
	uint32_t naddrs;
	uint32_t *devices; /* of which IPv4 is; ascending, behind addrs */
	union xf_addr addrs[]; /* IPv6; ascending */
};

static int compare_devices(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a;
	uint32_t y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static int compare_addrs(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(union xf_addr));
}

static void fill(struct xf_exempt_set *set, const struct xf_exempt *exempt)
{
	for (uint32_t i = 0; i < exempt->ndevices; i++) {
		if (exempt->devices[i].from & XF_EXEMPT_POLICY4)
			set->devices[set->ndevices++] = exempt->devices[i].ifindex;
	}
	qsort(set->devices, set->ndevices, sizeof(set->devices[0]), compare_devices);
	set->naddrs = exempt->naddrs;
	for (uint32_t i = 0; i < exempt->naddrs; i++)
		set->addrs[i] = exempt->addrs[i];
	qsort(set->addrs, set->naddrs, sizeof(set->addrs[0]), compare_addrs);
}

int xf_exempt_set_new(const struct xf_exempt *exempt, struct xf_exempt_set **out)
{
	size_t addrs = exempt->naddrs * sizeof(exempt->addrs[0]);
	struct xf_exempt_set *set =
		calloc(1, sizeof(*set) + addrs + exempt->ndevices * sizeof(set->devices[0]));

	*out = NULL;
	if (!set)
		return -ENOMEM;
	set->devices = (uint32_t *)&set->addrs[exempt->naddrs];
	set->all4 = exempt->all & XF_EXEMPT_POLICY4;
	fill(set, exempt);
	if (set->all4 || set->ndevices || set->naddrs)
		*out = set;
	else
		free(set);
	return 0;
}

void xf_exempt_set_free(struct xf_exempt_set *set)
{
	free(set);
}

static void free_set(struct xf_rcu_head *head)
{
	free(XF_CONTAINER_OF(head, struct xf_exempt_set, rcu));
}

void xf_exempt_set_defer(struct xf_exempt_set *set)
{
	if (set)
		xf_rcu_defer(&set->rcu, free_set);
}

bool xf_exempt_set_has(const struct xf_exempt_set *set, const union xf_addr *daddr, uint16_t family,
		       uint32_t iif)
{
	if (family == XF_AF_INET6)
		return bsearch(daddr, set->addrs, set->naddrs, sizeof(*daddr), compare_addrs);
	return set->all4 ||
	       bsearch(&iif, set->devices, set->ndevices, sizeof(iif), compare_devices);
}
