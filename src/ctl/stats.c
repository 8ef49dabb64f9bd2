#include <stdio.h>
#include <stdlib.h>

#include "ctl.h"

/* As /proc/net/xfrm_stat looks. */
static void show(const json_t *result)
{
	const char *group;
	json_t *counters;

	json_object_foreach((json_t *)(uintptr_t)result, group, counters)
	{
		const char *name;
		json_t *value;

		printf("[%s]\n", group);
		json_object_foreach(counters, name, value)
			printf("%-24s\t%lld\n", name, (long long)json_integer_value(value));
	}
}

int xf_ctl_stats(const struct xf_ctl_options *opt)
{
	json_t *result = NULL;

	if (xf_ctl_ask(opt, json_pack("{s:s}", "verb", "stats"), false, &result))
		return EXIT_FAILURE;
	if (opt->json)
		xf_ctl_print_json(result);
	else
		show(result);
	json_decref(result);
	return EXIT_SUCCESS;
}
