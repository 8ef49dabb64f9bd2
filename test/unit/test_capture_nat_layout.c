/* Where NAT is to be read: from BTF made here, as of one kernel, or of a kernel and a module. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <string.h>
#include <cmocka.h>
#include <bpf/btf.h>

#include "capture/programs/nat_layout.h"

static const char *left_out; /* of members and structures, by name */

static int add_struct(struct btf *btf, const char *name, uint32_t size)
{
	bool as_other = left_out && strcmp(name, left_out) == 0;

	return btf__add_struct(btf, as_other ? "other" : name, size);
}

static void add(struct btf *btf, const char *name, int type, uint32_t bytes)
{
	if (!left_out || strcmp(name, left_out) != 0)
		assert_int_equal(btf__add_field(btf, name, type, bytes * 8, 0), 0);
}

/* _nfct in a structure without a name, in a union without one. */
static void add_sk_buff(struct btf *btf)
{
	int word = btf__add_int(btf, "unsigned long", 8, 0);
	int inner, both;

	inner = add_struct(btf, "", 24);
	add(btf, "first", word, 0);
	add(btf, "_nfct", word, 16);
	both = btf__add_union(btf, "", 24);
	add(btf, "other", word, 0);
	add(btf, "", inner, 0);
	add_struct(btf, "sk_buff", 232);
	add(btf, "mark", word, 0);
	add(btf, "", both, 88);
}

static int add_end(struct btf *btf, int addr, int port, int byte)
{
	int end = add_struct(btf, "", 20);

	add(btf, "u3", addr, 0);
	add(btf, "u", port, 16);
	if (byte)
		add(btf, "protonum", byte, 18);
	return end;
}

static void add_conntrack(struct btf *btf)
{
	int byte = btf__add_int(btf, "unsigned char", 1, 0);
	int word = btf__add_int(btf, "unsigned long", 8, 0);
	int addr = btf__add_union(btf, "nf_inet_addr", 16);
	int port = btf__add_union(btf, "nf_conntrack_man_proto", 2);
	int src = add_end(btf, addr, port, 0);
	int dst = add_end(btf, addr, port, byte);
	int tuple, hash, pair;

	tuple = add_struct(btf, "nf_conntrack_tuple", 40);
	add(btf, "src", src, 0);
	add(btf, "dst", dst, 20);
	hash = add_struct(btf, "nf_conntrack_tuple_hash", 56);
	add(btf, "hnnode", word, 0);
	add(btf, "tuple", tuple, 16);
	pair = btf__add_array(btf, word, hash, 2);
	add_struct(btf, "nf_conn", 248);
	add(btf, "timeout", word, 8);
	add(btf, "tuplehash", pair, 24);
	add(btf, "status", word, 136);
}

static const struct xf_bpf_nat whole = {
	.nfct = 88 + 16,
	.status = 136,
	.tuple = { 24 + 16, 24 + 16 + 56 },
	.src = 0,
	.sport = 16,
	.dst = 20,
	.dport = 20 + 16,
	.proto = 20 + 18,
};

static void of_one_kernel(void **unused)
{
	struct btf *btf = btf__new_empty();
	struct xf_bpf_nat nat;

	(void)unused;
	left_out = NULL;
	add_sk_buff(btf);
	add_conntrack(btf);
	assert_int_equal(xf_nat_layout_read(btf, &nat), 0);
	assert_memory_equal(&nat, &whole, sizeof(nat));
	btf__free(btf);
}

/* The kernel knows no more of it than its name. */
static void of_a_module(void **unused)
{
	struct btf *kernel = btf__new_empty();
	struct btf *module;
	struct xf_bpf_nat nat;

	(void)unused;
	left_out = NULL;
	add_sk_buff(kernel);
	btf__add_fwd(kernel, "nf_conn", BTF_FWD_STRUCT);
	module = btf__new_empty_split(kernel);
	add_conntrack(module);
	assert_int_equal(xf_nat_layout_read(kernel, &nat), -EOPNOTSUPP);
	assert_int_equal(xf_nat_layout_read(module, &nat), 0);
	assert_memory_equal(&nat, &whole, sizeof(nat));
	btf__free(module);
	btf__free(kernel);
}

/* Nothing is told in part, whatever another kernel may call otherwise. */
static void all_or_nothing(void **unused)
{
	static const char *const names[] = { "sk_buff",	  "_nfct",
					     "nf_conn",	  "status",
					     "tuplehash", "nf_conntrack_tuple_hash",
					     "tuple",	  "nf_conntrack_tuple",
					     "src",	  "dst",
					     "u3",	  "u",
					     "protonum" };

	(void)unused;
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct btf *btf = btf__new_empty();
		struct xf_bpf_nat nat = { .nfct = 0 };

		left_out = names[i];
		add_sk_buff(btf);
		add_conntrack(btf);
		assert_int_equal(xf_nat_layout_read(btf, &nat), -EOPNOTSUPP);
		assert_int_equal(nat.nfct, 0);
		btf__free(btf);
	}
}

/* Its device's, which is a structure of no more than a pointer. */
static void a_namespace(void **unused)
{
	static const char *const names[] = { NULL,     "sk_buff", "dev",       "net_device",
					     "nd_net", "net",	  "net_cookie" };
	const struct xf_bpf_netns want = { .cookie = 7, .dev = 8, .net = 24, .net_cookie = 40 };

	(void)unused;
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct btf *btf = btf__new_empty();
		struct xf_bpf_netns netns = { .cookie = 7 };
		int word = btf__add_int(btf, "unsigned long", 8, 0);
		int pointer;

		left_out = names[i];
		add_struct(btf, "sk_buff", 32);
		add(btf, "dev", word, 8);
		pointer = add_struct(btf, "", 8);
		add(btf, "net", word, 0);
		add_struct(btf, "net_device", 64);
		add(btf, "nd_net", pointer, 24);
		add_struct(btf, "net", 64);
		add(btf, "net_cookie", word, 40);
		assert_int_equal(xf_netns_layout_read(btf, &netns), i ? -EOPNOTSUPP : 0);
		if (!i)
			assert_memory_equal(&netns, &want, sizeof(want));
		btf__free(btf);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(of_one_kernel),
		cmocka_unit_test(of_a_module),
		cmocka_unit_test(all_or_nothing),
		cmocka_unit_test(a_namespace),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
