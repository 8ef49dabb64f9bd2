/*
 * The programs that stand behind nftables: at the egress of devices for what must not leave in
 * clear, at netfilter's hooks and the ingress of devices for plaintext that must not come in.
 * capture.c tells of policies here; these become entries of the maps that all programs share.
 */
#include <errno.h>
#include <stdlib.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>

/* What bpftool writes is not held to our warnings. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#include "egress.skel.h"
#pragma GCC diagnostic pop

#include "capture/programs/backstop.h"
#include "capture/programs/devices.h"
#include "capture/programs/nat_layout.h"
#include "capture/programs/tuples.h"
#include "host/quiet.h"

#include "policy_maps.h"

/* So many elements of a map are changed by one call. */
#define BATCH 4096

struct xf_backstop {
	struct egress *tc;
	struct xf_twin *twin; /* NULL: not in netfilter, because ... */
	int twin_err; /* ... of this */
	enum xf_twin_form form; /* wanted */
	struct xf_io_names names;
	struct xf_pins pins;
	const char *no_links; /* why programs are at devices by filters; NULL: by links */
	bool reads_kernel; /* the program at egress may */
	struct xf_bpf_netns netns; /* where programs find it; cookie 0: they do not look */
	struct xf_bpf_nat nat; /* where programs read what NAT did; all 0: it is not known ... */
	int nat_err; /* ... because of this */
	struct xf_bpf_config config; /* as the programs have it, unless ... */
	bool config_failed; /* ... nobody knows */
	struct xf_tuples tuples;
	struct xf_devices devices;
	/* Elements on their way into a map. */
	uint8_t keys[BATCH * sizeof(struct xf_bpf_key)] __attribute__((aligned(8)));
	uint8_t values[BATCH * sizeof(struct xf_bpf_entry)] __attribute__((aligned(8)));
};

/* What netfilter cannot have, devices do. */
static void open_twin(struct xf_backstop *backstop)
{
	const struct egress *tc = backstop->tc;
	const struct xf_twin_maps maps = {
		.config = bpf_map__fd(tc->maps.config),
		.kinds = bpf_map__fd(tc->maps.kinds),
		.entries = bpf_map__fd(tc->maps.entries),
		.counts = bpf_map__fd(tc->maps.counts),
		.holder = bpf_map__fd(tc->maps.holder),
	};

	if (backstop->form == XF_TWIN_AUTO || backstop->form == XF_TWIN_NETFILTER)
		backstop->twin_err = xf_twin_new(&maps, &backstop->twin);
}

static int load_egress(struct xf_backstop *backstop, bool reads_kernel)
{
	int err;

	backstop->reads_kernel = reads_kernel;
	backstop->tc = egress__open();
	if (!backstop->tc)
		return -errno;
	backstop->tc->rodata->reads_kernel = reads_kernel;
	err = egress__load(backstop->tc);
	if (err)
		egress__destroy(backstop->tc);
	return err;
}

/* Filters stay behind when a device goes into another namespace; links must know where they are. */
static void choose_links(struct xf_backstop *backstop, bool links)
{
	struct xf_pins *pins = &backstop->pins;

	backstop->no_links = xf_devices_choose(backstop->names.bpffs, links, pins);
	if (backstop->no_links)
		return;
	backstop->netns.cookie = pins->cookie;
	if (xf_netns_layout_find(&backstop->netns))
		backstop->netns.cookie = 0;
}

int xf_backstop_new(const struct xf_io_names *names, enum xf_twin_form form, bool links,
		    struct xf_backstop **out, struct xf_io_error *error)
{
	struct xf_backstop *backstop = calloc(1, sizeof(*backstop));
	int err;

	if (!backstop)
		return xf_io_fail(error, -ENOMEM, "cannot load the backstop");
	xf_libbpf_quiet();
	backstop->names = *names;
	backstop->form = form;
	backstop->nat_err = -ENOENT;
	err = load_egress(backstop, true);
	/* A kernel that is locked down refuses programs that would read its memory. */
	if (err)
		err = load_egress(backstop, false);
	if (err) {
		free(backstop);
		return xf_io_fail(error, err, "cannot load the backstop");
	}
	open_twin(backstop);
	choose_links(backstop, links);
	*out = backstop;
	return 0;
}

void xf_backstop_free(struct xf_backstop *backstop)
{
	if (!backstop)
		return;
	xf_twin_free(backstop->twin);
	egress__destroy(backstop->tc);
	xf_tuples_fini(&backstop->tuples);
	free(backstop);
}

/* --- elements of maps, many at once --- */

struct batch {
	struct xf_backstop *backstop;
	int fd;
	uint32_t key_size;
	uint32_t value_size; /* 0: they are deleted */
	uint32_t n;
};

static struct batch start_batch(struct xf_backstop *backstop, const struct bpf_map *map, bool put)
{
	return (struct batch){
		.backstop = backstop,
		.fd = bpf_map__fd(map),
		.key_size = bpf_map__key_size(map),
		.value_size = put ? bpf_map__value_size(map) : 0,
	};
}

static int change_one(const struct batch *batch, uint32_t i)
{
	const void *key = batch->backstop->keys + (size_t)i * batch->key_size;
	const void *value = batch->backstop->values + (size_t)i * batch->value_size;
	int err;

	if (batch->value_size)
		return bpf_map_update_elem(batch->fd, key, value, BPF_ANY);
	err = bpf_map_delete_elem(batch->fd, key);
	return err == -ENOENT ? 0 : err;
}

/* One by one where the kernel knows no batches of this map, or something in one of them failed. */
static int end_batch(struct batch *batch)
{
	struct xf_backstop *backstop = batch->backstop;
	uint32_t all = batch->n;
	uint32_t n = all;
	int err = -EOPNOTSUPP;

	batch->n = 0;
	if (n > 1 && batch->value_size)
		err = bpf_map_update_batch(batch->fd, backstop->keys, backstop->values, &n, NULL);
	else if (n > 1)
		err = bpf_map_delete_batch(batch->fd, backstop->keys, &n, NULL);
	if (err) {
		err = 0;
		for (uint32_t i = 0; !err && i < all; i++)
			err = change_one(batch, i);
	}
	return err;
}

static int add_to_batch(struct batch *batch, const void *key, const void *value)
{
	struct xf_backstop *backstop = batch->backstop;

	memcpy(backstop->keys + (size_t)batch->n * batch->key_size, key, batch->key_size);
	if (batch->value_size)
		memcpy(backstop->values + (size_t)batch->n * batch->value_size, value,
		       batch->value_size);
	return ++batch->n == BATCH ? end_batch(batch) : 0;
}

/* --- what the programs go by --- */

static int put_prefixes(struct xf_backstop *backstop, const struct xf_cover *cover, bool put)
{
	struct batch batch = start_batch(backstop, backstop->tc->maps.prefixes, put);
	const uint8_t value = 1;
	int err = 0;

	for (struct xf_cell *cell = cover->cells.pending; cell && !err; cell = cell->next_pending) {
		bool six = xf_cover_six(&cell->key);
		uint8_t bits = xf_cover_len(six, xf_cover_rung(&cell->key));
		struct xf_bpf_prefix key = { .bits = 32u + bits };
		bool there = cell->at & XF_CELL_IN_TRIE;

		if (there == (cell->count != 0) || there == put)
			continue;
		xf_put_be32(&key.family_be, six ? 6 : 4);
		memcpy(key.addr_be, &cell->key.addr[0], sizeof(key.addr_be));
		err = add_to_batch(&batch, &key, &value);
	}
	return err ? err : end_batch(&batch);
}

static void note_prefixes(const struct xf_cover *cover, bool put)
{
	for (struct xf_cell *cell = cover->cells.pending; cell; cell = cell->next_pending) {
		bool there = cell->at & XF_CELL_IN_TRIE;

		if (there != (cell->count != 0) && there != put)
			cell->at ^= XF_CELL_IN_TRIE;
	}
}

enum which { LETS_PASS, IS_STRICT, IS_GONE };

/* Which of three passes @tuple is for. */
static enum which which_of(const struct xf_tuple *tuple, struct xf_bpf_entry *entry)
{
	if (!tuple->first)
		return IS_GONE;
	xf_tuple_entry(tuple, entry);
	return entry->strict ? IS_STRICT : LETS_PASS;
}

/* Noted only afterwards: what fails is done again, and an entry may be put or deleted twice. */
static int put_entries(struct xf_backstop *backstop, enum which which)
{
	struct batch batch = start_batch(backstop, backstop->tc->maps.entries, which != IS_GONE);
	struct xf_tuple *tuple = backstop->tuples.pending;
	int err = 0;

	for (; tuple && !err; tuple = tuple->next_pending) {
		struct xf_bpf_entry entry = { .rank = 0 };

		if (which_of(tuple, &entry) != which || (which == IS_GONE && !tuple->there))
			continue;
		err = add_to_batch(&batch, &tuple->key, &entry);
		tuple->there = true;
	}
	return err ? err : end_batch(&batch);
}

static void note_kinds(struct xf_backstop *backstop)
{
	for (uint32_t part = 0; part < XF_BPF_PARTS; part++) {
		for (uint32_t i = 0; i < backstop->tuples.part[part].nkinds; i++)
			backstop->tuples.part[part].kinds[i].dirty = false;
	}
}

/* Noted only afterwards, as entries are. */
static int put_kinds(struct xf_backstop *backstop)
{
	struct batch batch = start_batch(backstop, backstop->tc->maps.kinds, true);
	int err = 0;

	for (uint32_t part = 0; part < XF_BPF_PARTS; part++) {
		const struct xf_tuple_part *of = &backstop->tuples.part[part];

		for (uint32_t i = 0; i < of->nkinds && !err; i++) {
			uint32_t key = part * XF_BPF_KINDS_MAX + i;

			if (of->kinds[i].dirty)
				err = add_to_batch(&batch, &key, &of->kinds[i].kind);
		}
	}
	if (!err)
		err = end_batch(&batch);
	if (!err)
		note_kinds(backstop);
	return err;
}

/* Connection tracking may be a module that comes later, with somebody's NAT. */
static void find_nat(struct xf_backstop *backstop)
{
	if (backstop->nat_err == -ENOENT)
		backstop->nat_err = xf_nat_layout_find(&backstop->nat);
}

static int put_config(struct xf_backstop *backstop)
{
	const struct xf_tuples *tuples = &backstop->tuples;
	struct xf_bpf_config config = {
		.mark_bypass = backstop->names.mark_bypass,
		.mark_capture = backstop->names.mark_capture,
		.by_destination =
			tuples->part[xf_tuples_part(XF_DIR_OUT, XF_POLICY_MAIN)].lost_at ||
			tuples->part[xf_tuples_part(XF_DIR_OUT, XF_POLICY_SUB)].lost_at,
		.tun_ifindex = backstop->devices.tun_ifindex,
		.netns = backstop->netns,
	};
	uint32_t zero = 0;
	int err;

	find_nat(backstop);
	config.nat = backstop->nat;
	for (unsigned i = 0; i < XF_BPF_PARTS; i++)
		config.kinds[i] = tuples->part[i].lost_at ? 0 : tuples->part[i].nkinds;
	if (!backstop->config_failed && memcmp(&config, &backstop->config, sizeof(config)) == 0)
		return 0;
	err = bpf_map__update_elem(backstop->tc->maps.config, &zero, sizeof(zero), &config,
				   sizeof(config), BPF_ANY);
	backstop->config_failed = err != 0;
	backstop->config = config;
	return err;
}

void xf_backstop_reserve(struct xf_backstop *backstop, size_t policies)
{
	xf_tuples_reserve(&backstop->tuples, policies);
}

void xf_backstop_policy(struct xf_backstop *backstop, const struct xf_policy *policy, bool there)
{
	xf_tuples_change(&backstop->tuples, policy, there);
}

struct telling {
	struct xf_tuples *tuples;
	unsigned part;
};

static bool tell_part(void *arg, struct xf_policy *policy)
{
	const struct xf_policy_config *cfg = xf_policy_cfg(policy);
	const struct telling *telling = arg;

	if (xf_tuples_part(cfg->dir, cfg->type) == telling->part)
		xf_tuples_change(telling->tuples, policy, true);
	return true;
}

static void restart_parts(struct xf_backstop *backstop, const struct xf_spd *spd)
{
	for (unsigned i = 0; i < XF_BPF_PARTS; i++) {
		struct telling telling = { .tuples = &backstop->tuples, .part = i };
		uint64_t cursor = 0;

		if (!xf_tuples_can_restart(&backstop->tuples, i))
			continue;
		xf_tuples_restart(&backstop->tuples, i);
		xf_spd_walk(spd, &cursor, tell_part, &telling);
	}
}

/*
 * What lets pass comes before what does not, and goes after it: for a moment too little is dropped
 * of what is new, which nobody has been told is in force, and never too much. Kinds come in
 * between: an entry whose kind is not known is not found.
 */
static int put_policies(struct xf_backstop *backstop)
{
	int err = put_entries(backstop, LETS_PASS);

	if (!err)
		err = put_entries(backstop, IS_STRICT);
	if (!err)
		err = put_kinds(backstop);
	if (!err)
		err = put_config(backstop);
	return err ? err : put_entries(backstop, IS_GONE);
}

int xf_backstop_sync(struct xf_backstop *backstop, const struct xf_cover *cover,
		     const struct xf_spd *spd)
{
	int err;

	restart_parts(backstop, spd);
	err = put_prefixes(backstop, cover, true);
	if (err)
		return err;
	note_prefixes(cover, true);
	err = put_policies(backstop);
	if (err)
		return err;
	xf_tuples_settled(&backstop->tuples);
	err = put_prefixes(backstop, cover, false);
	if (!err)
		note_prefixes(cover, false);
	return err;
}

/* --- where the programs are --- */

static void attach_twin(struct xf_backstop *backstop)
{
	if (!backstop->twin)
		return;
	backstop->twin_err = xf_twin_attach(backstop->twin);
	if (!backstop->twin_err)
		return;
	xf_twin_free(backstop->twin);
	backstop->twin = NULL;
}

/* The twin in netfilter looks at what heads for the TUN, too, as long as anybody reads from it. */
static struct xf_devices_config devices_config(const struct xf_backstop *backstop)
{
	bool at_devices = backstop->form == XF_TWIN_TC || backstop->form == XF_TWIN_AUTO;
	const struct egress *tc = backstop->tc;

	return (struct xf_devices_config){
		.tun = backstop->names.tun,
		.egress_fd = bpf_program__fd(tc->progs.xf_egress),
		.ingress_fd = at_devices ? bpf_program__fd(tc->progs.xf_ingress) : -1,
		.tun_fd = backstop->twin ? -1 : bpf_program__fd(tc->progs.xf_tun),
		.pins = &backstop->pins,
		.links = !backstop->no_links,
	};
}

int xf_backstop_attach(struct xf_backstop *backstop, struct xf_io_error *error)
{
	struct xf_devices_config devices;
	int config_err;
	int err;

	attach_twin(backstop);
	devices = devices_config(backstop);
	err = xf_devices_attach(&devices, &backstop->devices, error);
	config_err = put_config(backstop);
	return err || !config_err ? err : xf_io_fail(error, config_err, "cannot tell the backstop");
}

int xf_backstop_fd(const struct xf_backstop *backstop, bool ingress)
{
	const struct egress *tc = backstop->tc;

	return bpf_program__fd(ingress ? tc->progs.xf_ingress : tc->progs.xf_egress);
}

bool xf_backstop_stands(const struct xf_backstop *backstop, char name[XF_DEVICE_NAME])
{
	const struct xf_devices_config devices = devices_config(backstop);

	return xf_devices_stand(&devices, name);
}

bool xf_backstop_is_linked(const struct xf_backstop *backstop)
{
	return !backstop->no_links;
}

int xf_backstop_release(const char *bpffs, struct xf_io_error *error)
{
	xf_libbpf_quiet();
	return xf_devices_release(bpffs, error);
}

static uint64_t sum(const struct xf_backstop *backstop, enum xf_bpf_count what)
{
	int cpus = libbpf_num_possible_cpus();
	uint64_t *counts = cpus > 0 ? calloc((size_t)cpus, sizeof(*counts)) : NULL;
	uint32_t key = what;
	uint64_t all = 0;

	if (!counts)
		return 0;
	if (bpf_map__lookup_elem(backstop->tc->maps.counts, &key, sizeof(key), counts,
				 (size_t)cpus * sizeof(*counts), 0) == 0)
		for (int i = 0; i < cpus; i++)
			all += counts[i];
	free(counts);
	return all;
}

static bool knows_in(const struct xf_tuples *tuples)
{
	for (uint8_t type = 0; type < XF_POLICY_TYPE_MAX; type++)
		if (tuples->part[xf_tuples_part(XF_DIR_IN, type)].lost_at ||
		    tuples->part[xf_tuples_part(XF_DIR_FWD, type)].lost_at)
			return false;
	return true;
}

void xf_backstop_get_stats(const struct xf_backstop *backstop, struct xf_backstop_stats *out)
{
	bool at_devices = backstop->form == XF_TWIN_TC || backstop->form == XF_TWIN_AUTO;

	*out = (struct xf_backstop_stats){
		.devices = backstop->devices.count,
		.more = backstop->devices.more,
		.bare = backstop->devices.bare,
		.no_links = backstop->no_links,
		.twin = backstop->twin ? XF_TWIN_NETFILTER
			: at_devices   ? XF_TWIN_TC
				       : XF_TWIN_NONE,
		.why = "",
		.knows_nat = backstop->reads_kernel &&
			     (!backstop->nat_err || backstop->nat_err == -ENOENT),
	};
	if (!knows_in(&backstop->tuples))
		out->why = "there are too many policies";
	else if (backstop->twin_err)
		out->why = strerror(-backstop->twin_err);
}

void xf_backstop_get_counts(const struct xf_backstop *backstop, struct xf_capture_counts *out)
{
	out->backstop_dropped = sum(backstop, XF_BPF_EGRESS_DROPPED);
	out->backstop_captured = sum(backstop, XF_BPF_EGRESS_CAPTURED);
	out->twin_dropped = sum(backstop, XF_BPF_IN_DROPPED) + sum(backstop, XF_BPF_FWD_DROPPED) +
			    sum(backstop, XF_BPF_INGRESS_DROPPED);
}
