#include <stdio.h>

#include "ctl.h"

void xf_ctl_print_json(const json_t *value)
{
	json_dumpf(value, stdout, JSON_INDENT(2));
	putchar('\n');
}

const char *xf_ctl_text(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text ? text : "";
}

json_int_t xf_ctl_number(const json_t *object, const char *name)
{
	return json_integer_value(json_object_get(object, name));
}

static void show_port(const char *name, const json_t *port)
{
	json_int_t mask = xf_ctl_number(port, "mask");

	if (!mask)
		return;
	printf(" %s %lld", name, (long long)xf_ctl_number(port, "value"));
	if (mask != 0xffff)
		printf("/0x%llx", (unsigned long long)mask);
}

void xf_ctl_show_selector(const char *indent, const json_t *sel)
{
	json_int_t proto = xf_ctl_number(sel, "proto");

	printf("%s%s -> %s", indent, xf_ctl_text(sel, "src"), xf_ctl_text(sel, "dst"));
	if (proto)
		printf(" proto %lld", (long long)proto);
	show_port("sport", json_object_get(sel, "sport"));
	show_port("dport", json_object_get(sel, "dport"));
	if (xf_ctl_number(sel, "ifindex"))
		printf(" ifindex %lld", (long long)xf_ctl_number(sel, "ifindex"));
}

void xf_ctl_show_lifetime(const json_t *life)
{
	json_t *limits = json_object_get(life, "limits");
	const char *name;
	json_t *value;

	printf("\tused: %lld packets, %lld bytes\n", (long long)xf_ctl_number(life, "packets"),
	       (long long)xf_ctl_number(life, "bytes"));
	if (!json_object_size(limits))
		return;
	printf("\tlimits:");
	json_object_foreach(limits, name, value)
		printf(" %s %lld", name, (long long)json_integer_value(value));
	putchar('\n');
}

void xf_ctl_show_mark(const char *name, const json_t *mark)
{
	if (mark)
		printf(" %s %s/%s", name, xf_ctl_text(mark, "value"), xf_ctl_text(mark, "mask"));
}
