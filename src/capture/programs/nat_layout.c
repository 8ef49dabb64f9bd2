/* Offsets within the kernel's structures, from its BTF, for programs; backstop.c asks for them. */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <bpf/btf.h>

#include <xf/base.h>

#include "capture/programs/nat_layout.h"

#define MODULE "nf_conntrack"
/* There also when it is built in, for it has parameters. */
#define SYS_MODULE "/sys/module/" MODULE
#define SYS_BTF "/sys/kernel/btf/vmlinux"
#define HASH "nf_conntrack_tuple_hash"
#define PATH_MAX_LEN 2

/* Something within a structure. */
struct place {
	const struct btf *btf;
	const struct btf_type *type; /* NULL: there is no such thing */
	uint32_t bits;
};

/* The member @name of @in, or of a structure in it that has no name itself. */
static struct place find_member(struct place in, const char *name)
{
	uint32_t n = in.type ? btf_vlen(in.type) : 0;
	struct place found = { .btf = in.btf };

	for (uint32_t i = 0; !found.type && i < n; i++) {
		const struct btf_member *member = &btf_members(in.type)[i];
		const char *its = btf__name_by_offset(in.btf, member->name_off);
		const struct place place = {
			.btf = in.btf,
			.type = btf__type_by_id(in.btf, member->type),
			.bits = in.bits + btf_member_bit_offset(in.type, i),
		};

		if (strcmp(its, name) == 0)
			return place;
		if (!*its)
			found = find_member(place, name);
	}
	return found;
}

/* In bytes; false: this kernel has no such thing. */
static bool find(const struct btf *btf, const char *name, const char *const *path, uint16_t *out)
{
	int32_t id = btf__find_by_name_kind(btf, name, BTF_KIND_STRUCT);
	struct place at = { .btf = btf };

	if (id > 0)
		at.type = btf__type_by_id(btf, (uint32_t)id);
	for (unsigned i = 0; i < PATH_MAX_LEN && path[i]; i++)
		at = find_member(at, path[i]);
	*out = (uint16_t)(at.bits / 8);
	return at.type != NULL;
}

struct wanted {
	const char *type;
	const char *path[PATH_MAX_LEN];
	uint16_t *out;
};

static int find_all(const struct btf *types, const struct wanted *wanted, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (!find(types, wanted[i].type, wanted[i].path, wanted[i].out))
			return -EOPNOTSUPP;
	return 0;
}

int xf_nat_layout_read(const struct btf *types, struct xf_bpf_nat *out)
{
	uint16_t hashes, tuple;
	struct xf_bpf_nat nat = { .nfct = 0 };
	const struct wanted wanted[] = {
		{ "sk_buff", { "_nfct" }, &nat.nfct },
		{ "nf_conn", { "status" }, &nat.status },
		{ "nf_conn", { "tuplehash" }, &hashes },
		{ HASH, { "tuple" }, &tuple },
		{ "nf_conntrack_tuple", { "src", "u3" }, &nat.src },
		{ "nf_conntrack_tuple", { "src", "u" }, &nat.sport },
		{ "nf_conntrack_tuple", { "dst", "u3" }, &nat.dst },
		{ "nf_conntrack_tuple", { "dst", "u" }, &nat.dport },
		{ "nf_conntrack_tuple", { "dst", "protonum" }, &nat.proto },
	};
	int err = find_all(types, wanted, XF_ARRAY_SIZE(wanted));
	int32_t hash;

	if (err)
		return err;
	hash = btf__find_by_name_kind(types, HASH, BTF_KIND_STRUCT);
	nat.tuple[0] = (uint16_t)(hashes + tuple);
	nat.tuple[1] = (uint16_t)(nat.tuple[0] + btf__resolve_size(types, (uint32_t)hash));
	*out = nat;
	return 0;
}

/* What nd_net is, a pointer, is all that is in a structure of its own. */
int xf_netns_layout_read(const struct btf *types, struct xf_bpf_netns *out)
{
	struct xf_bpf_netns netns = { .cookie = out->cookie };
	const struct wanted wanted[] = {
		{ "sk_buff", { "dev" }, &netns.dev },
		{ "net_device", { "nd_net" }, &netns.net },
		{ "net", { "net_cookie" }, &netns.net_cookie },
	};
	int err = find_all(types, wanted, XF_ARRAY_SIZE(wanted));

	if (!err)
		*out = netns;
	return err;
}

int xf_netns_layout_find(struct xf_bpf_netns *out)
{
	struct btf *kernel = btf__load_vmlinux_btf();
	int err = kernel ? xf_netns_layout_read(kernel, out) : -EOPNOTSUPP;

	btf__free(kernel);
	return err;
}

/* Built in, its types are the kernel's own. */
int xf_nat_layout_find(struct xf_bpf_nat *out)
{
	struct btf *kernel, *module = NULL;
	int err = -EOPNOTSUPP;

	if (access(SYS_MODULE, F_OK) && access(SYS_BTF, F_OK) == 0)
		return -ENOENT;
	kernel = btf__load_vmlinux_btf();
	if (kernel)
		err = xf_nat_layout_read(kernel, out);
	if (err && kernel)
		module = btf__load_module_btf(MODULE, kernel);
	if (module)
		err = xf_nat_layout_read(module, out);
	btf__free(module);
	btf__free(kernel);
	return err;
}
