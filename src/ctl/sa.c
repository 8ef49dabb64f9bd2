#include <stdio.h>

#include "ctl.h"

static void show_algorithm(const char *kind, const json_t *alg)
{
	const char *key = xf_ctl_text(alg, "key");

	if (!alg)
		return;
	printf("\t%s %s, key %lld bits", kind, xf_ctl_text(alg, "name"),
	       (long long)xf_ctl_number(alg, "key_bits"));
	if (xf_ctl_number(alg, "icv_bits"))
		printf(", ICV %lld bits", (long long)xf_ctl_number(alg, "icv_bits"));
	if (*key)
		printf(", %s", key);
	putchar('\n');
}

static void show_flags(const json_t *flags)
{
	json_t *flag;
	size_t i;

	json_array_foreach(flags, i, flag) printf(" %s", json_string_value(flag));
}

static void show_encap(const json_t *encap)
{
	if (encap)
		printf("\tin UDP, ports %lld -> %lld\n", (long long)xf_ctl_number(encap, "sport"),
		       (long long)xf_ctl_number(encap, "dport"));
}

static void show_drops(const json_t *drops)
{
	const char *name;
	json_t *count;

	if (!json_object_size(drops))
		return;
	printf("\tdropped:");
	json_object_foreach((json_t *)(uintptr_t)drops, name, count)
		printf(" %s %lld", name, (long long)json_integer_value(count));
	putchar('\n');
}

static void show_replay(const json_t *sa)
{
	const json_t *replay = json_object_get(sa, "replay");

	printf("\tsequence: out %lld, in %lld, window %lld; path MTU %lld\n",
	       (long long)xf_ctl_number(replay, "seq_out"),
	       (long long)xf_ctl_number(replay, "seq_in"),
	       (long long)xf_ctl_number(sa, "replay_window"),
	       (long long)xf_ctl_number(sa, "path_mtu"));
}

static void show(const json_t *sa)
{
	printf("%s -> %s %s spi %s reqid %lld mode %s", xf_ctl_text(sa, "src"),
	       xf_ctl_text(sa, "dst"), xf_ctl_text(sa, "proto"), xf_ctl_text(sa, "spi"),
	       (long long)xf_ctl_number(sa, "reqid"), xf_ctl_text(sa, "mode"));
	printf(" %s", xf_ctl_text(sa, "state"));
	show_flags(json_object_get(sa, "flags"));
	xf_ctl_show_mark("mark", json_object_get(sa, "mark"));
	xf_ctl_show_mark("output-mark", json_object_get(sa, "output_mark"));
	if (*xf_ctl_text(sa, "if_id"))
		printf(" if_id %s", xf_ctl_text(sa, "if_id"));
	putchar('\n');
	show_algorithm("aead", json_object_get(sa, "aead"));
	show_algorithm("enc", json_object_get(sa, "crypt"));
	show_algorithm("auth", json_object_get(sa, "auth"));
	show_encap(json_object_get(sa, "encap"));
	if (json_object_get(sa, "selector")) {
		xf_ctl_show_selector("\tonly ", json_object_get(sa, "selector"));
		putchar('\n');
	}
	show_replay(sa);
	xf_ctl_show_lifetime(json_object_get(sa, "lifetime"));
	show_drops(json_object_get(sa, "drops"));
}

int xf_ctl_sa(const struct xf_ctl_options *opt)
{
	return xf_ctl_list(opt, "sa", "sas", show);
}
