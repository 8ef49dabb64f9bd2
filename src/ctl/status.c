#include <stdio.h>
#include <stdlib.h>

#include "ctl.h"

static void show_uptime(json_int_t s)
{
	printf("up %lldd %02lld:%02lld:%02lld", (long long)(s / 86400), (long long)(s / 3600 % 24),
	       (long long)(s / 60 % 60), (long long)(s % 60));
}

static const char *yes_no(const json_t *object, const char *name)
{
	return json_is_true(json_object_get(object, name)) ? "yes" : "no";
}

/* Of native packets: who sends them, and where a raw socket does why that is so. */
static void show_native(const json_t *native)
{
	long long dests = xf_ctl_number(native, "destinations");
	long long by_packet = xf_ctl_number(native, "by_packet_socket");
	const char *why = xf_ctl_text(native, "why_raw");

	printf("native    %s, sent to %lld destinations by packet sockets, to %lld by raw ones",
	       xf_ctl_text(native, "mode"), by_packet, dests - by_packet);
	printf("%s%s\n", *why ? " because " : "", why);
	why = xf_ctl_text(native, "why_not_ring");
	printf("          from %lld received ahead of IP input%s%s\n",
	       (long long)xf_ctl_number(native, "from_ring"), *why ? ", from others not: " : "",
	       why);
}

/* What keeps plaintext out when nftables has no rules. */
static void show_twin(const json_t *capture)
{
	const char *why = xf_ctl_text(capture, "why_twin");

	printf("twin      %s%s%s\n", xf_ctl_text(capture, "twin"), *why ? ", because " : "", why);
}

/* How programs are at devices, and where they are not. */
static void show_backstop(const json_t *capture)
{
	const char *why = xf_ctl_text(capture, "why_no_links");
	const char *lacks = xf_ctl_text(capture, "backstop_lacks");

	if (!json_is_true(json_object_get(capture, "backstop")))
		return;
	printf("devices   backstop at %lld by %s%s%s",
	       (long long)xf_ctl_number(capture, "backstop_devices"),
	       *why ? "filters, because " : "links", why, *lacks ? ", NOT AT " : "");
	printf("%s\n", lacks);
}

/* May others change our tables of nftables? */
static void show_owner(const json_t *capture)
{
	const char *why = xf_ctl_text(capture, "why_no_owner");

	if (json_is_true(json_object_get(capture, "nftables")))
		printf("tables    %s%s\n", *why ? "anybody's, without an owner: " : "xfrmd's alone",
		       why);
}

/* What is not in force, and what was lost and repaired. */
static void show_parts(const json_t *parts)
{
	const char *start = "host      ";
	const json_t *part;
	size_t i;

	json_array_foreach(parts, i, part)
	{
		long long losses = xf_ctl_number(part, "losses");
		bool in_force = json_is_true(json_object_get(part, "in_force"));

		if (in_force && !losses)
			continue;
		printf("%s%s %s, lost %lld times, repaired %lld times, last: %s\n", start,
		       xf_ctl_text(part, "name"), in_force ? "in force" : "NOT IN FORCE", losses,
		       (long long)xf_ctl_number(part, "repairs"), xf_ctl_text(part, "last_loss"));
		start = "          ";
	}
	if (*start == 'h')
		puts("host      all parts in force, none was lost");
}

static void show_clients(json_t *clients)
{
	const char *before = "clients   ";
	const char *name;
	json_t *value;

	json_object_foreach(clients, name, value)
	{
		printf("%s%lld %s", before, (long long)json_integer_value(value), name);
		before = ", ";
	}
	putchar('\n');
}

static void show(const json_t *s)
{
	const json_t *policies = json_object_get(s, "policies");
	const json_t *capture = json_object_get(s, "capture");
	const json_t *missing;
	size_t i;

	printf("xfrmd %s, pid %lld, network namespace %lld, ", xf_ctl_text(s, "version"),
	       (long long)xf_ctl_number(s, "pid"), (long long)xf_ctl_number(s, "netns"));
	show_uptime(xf_ctl_number(s, "uptime_s"));
	printf("\nworkers   %lld\n", (long long)xf_ctl_number(s, "workers"));
	printf("SAs       %lld\n", (long long)xf_ctl_number(s, "sas"));
	printf("policies  in %lld, out %lld, fwd %lld\n", (long long)xf_ctl_number(policies, "in"),
	       (long long)xf_ctl_number(policies, "out"),
	       (long long)xf_ctl_number(policies, "fwd"));
	show_clients(json_object_get(s, "clients"));
	printf("capture   nftables %s, backstop %s (%lld devices), tun %s, marks %s and %s\n",
	       yes_no(capture, "nftables"), yes_no(capture, "backstop"),
	       (long long)xf_ctl_number(capture, "backstop_devices"), xf_ctl_text(capture, "tun"),
	       xf_ctl_text(capture, "mark_capture"), xf_ctl_text(capture, "mark_bypass"));
	show_owner(capture);
	show_backstop(capture);
	show_twin(capture);
	printf("tun       marks %s, TSO %s, USO %s, steering %s\n", yes_no(capture, "tun_marks"),
	       yes_no(capture, "tun_tso"), yes_no(capture, "tun_uso"),
	       yes_no(capture, "tun_steering"));
	show_parts(json_object_get(capture, "parts"));
	show_native(json_object_get(s, "native"));
	json_array_foreach(json_object_get(s, "missing"), i, missing)
		printf("missing   %s\n", json_string_value(missing));
}

int xf_ctl_status(const struct xf_ctl_options *opt)
{
	json_t *result = NULL;

	if (xf_ctl_ask(opt, json_pack("{s:s}", "verb", "status"), false, &result))
		return EXIT_FAILURE;
	if (opt->json)
		xf_ctl_print_json(result);
	else
		show(result);
	json_decref(result);
	return EXIT_SUCCESS;
}
