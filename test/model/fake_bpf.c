/*
 * Stands in for libbpf and for the files of src/capture that talk to the kernel about programs
 * (devices.c, twin.c): the linker takes these functions before those of libraries.
 */
#include <errno.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "capture/programs/devices.h"
#include "capture/programs/nat_layout.h"
#include "capture/programs/twin.h"

#include "fake_bpf.h"
#include "fake_programs.h"
#include "policy_maps.h"

#define BUCKETS 4096u
#define MAPS 6

struct node {
	struct node *next;
	uint8_t bytes[]; /* key, value: as programs may read it, with numbers of 64 bits */
};

/* Arrays are hash tables, too: what is not there is zero. */
struct bpf_map {
	const char *name;
	const void *at; /* as the programs name it */
	uint32_t key_size;
	uint32_t value_size;
	bool array;
	struct node *buckets[BUCKETS];
};

/* None is ever looked into. */
struct bpf_program {
	int fd;
};

static struct bpf_map maps[MAPS] = {
	{ .name = "config",
	  .key_size = 4,
	  .value_size = sizeof(struct xf_bpf_config),
	  .array = true },
	{ .name = "kinds", .key_size = 4, .value_size = sizeof(struct xf_bpf_kind), .array = true },
	{ .name = "entries",
	  .key_size = sizeof(struct xf_bpf_key),
	  .value_size = sizeof(struct xf_bpf_entry) },
	{ .name = "counts", .key_size = 4, .value_size = 8, .array = true },
	{ .name = "prefixes", .key_size = sizeof(struct xf_bpf_prefix), .value_size = 1 },
	{ .name = "holder", .key_size = 4, .value_size = 8 },
};
/* What the programs of an earlier daemon have in theirs, as long as they are at devices. */
static struct bpf_map left[MAPS];
static bool are_left;
static bool at_links; /* a program of those runs, else one at a device */
static struct bpf_program programs[3];
static uint64_t constants;
static struct fake_bpf_host host;
static struct xf_twin *links; /* attached */

static struct bpf_map *map_named(const char *name)
{
	for (unsigned i = 0; i < MAPS; i++) {
		if (strcmp(maps[i].name, name) == 0)
			return &maps[i];
	}
	fail_msg("a program has a map \"%s\"", name);
	return NULL;
}

static void bind(const char *name, const void *map)
{
	map_named(name)->at = map;
}

static void map_clear(struct bpf_map *map)
{
	for (unsigned i = 0; i < BUCKETS; i++) {
		while (map->buckets[i]) {
			struct node *node = map->buckets[i];

			map->buckets[i] = node->next;
			free(node);
		}
	}
}

void fake_bpf_stop(void)
{
	for (unsigned i = 0; i < MAPS; i++) {
		map_clear(&maps[i]);
		map_clear(&left[i]);
	}
	are_left = at_links = false;
	links = NULL;
}

void fake_bpf_start(const struct fake_bpf_host *of)
{
	fake_bpf_stop();
	host = *of;
	fake_egress_bind(bind);
}

bool fake_bpf_has_links(void)
{
	return links;
}

/* --- maps --- */

static struct node **find(struct bpf_map *map, const void *key)
{
	const uint8_t *bytes = key;
	struct node **link;
	uint32_t hash = 0;

	for (uint32_t i = 0; i < map->key_size; i++)
		hash = (hash ^ bytes[i]) * 0x01000193u;
	link = &map->buckets[(hash ^ hash >> 16) % BUCKETS];
	while (*link && memcmp((*link)->bytes, key, map->key_size) != 0)
		link = &(*link)->next;
	return link;
}

static uint8_t *value_of(const struct bpf_map *map, struct node *node)
{
	return node->bytes + (map->key_size + 7) / 8 * 8;
}

static void put(struct bpf_map *map, const void *key, const void *value)
{
	struct node **link = find(map, key);

	if (!*link) {
		*link = calloc(1, sizeof(**link) + map->key_size + 7 + map->value_size);
		assert_non_null(*link);
		memcpy((*link)->bytes, key, map->key_size);
	}
	memcpy(value_of(map, *link), value, map->value_size);
}

static bool take(struct bpf_map *map, const void *key)
{
	struct node **link = find(map, key);
	struct node *node = *link;

	if (!node)
		return false;
	*link = node->next;
	free(node);
	return true;
}

static bool has_prefix(const uint8_t *bytes, const uint8_t *prefix, uint32_t bits)
{
	return memcmp(bytes, prefix, bits / 8) == 0 &&
	       (bits % 8 == 0 || (bytes[bits / 8] ^ prefix[bits / 8]) >> (8 - bits % 8) == 0);
}

/* Any prefix of the key will do: nobody asks for the longest. */
static void *find_prefix(const struct bpf_map *map, const struct xf_bpf_prefix *key)
{
	for (unsigned i = 0; i < BUCKETS; i++) {
		for (struct node *node = map->buckets[i]; node; node = node->next) {
			struct xf_bpf_prefix prefix;

			memcpy(&prefix, node->bytes, sizeof(prefix));
			if (prefix.bits <= key->bits &&
			    has_prefix((const uint8_t *)&key->family_be,
				       (const uint8_t *)&prefix.family_be, prefix.bits))
				return value_of(map, node);
		}
	}
	return NULL;
}

static void *lookup(struct bpf_map *map, const void *key)
{
	static const uint64_t zeros[16];
	struct node *node;

	if (map->key_size == sizeof(struct xf_bpf_prefix))
		return find_prefix(map, key);
	node = *find(map, key);
	if (!node && map->array) {
		put(map, key, zeros);
		node = *find(map, key);
	}
	return node ? value_of(map, node) : NULL;
}

void *fake_map_lookup(const void *at, const void *key)
{
	struct bpf_map *map = are_left && !at_links ? left : maps;

	while (map->at != at)
		map++;
	return lookup(map, key);
}

void fake_run_links(bool run)
{
	at_links = run;
}

/* --- libbpf --- */

/* A daemon loads programs of its own: those at devices keep what they have. */
static void leave_maps(void)
{
	for (unsigned i = 0; i < MAPS; i++) {
		if (are_left)
			map_clear(&maps[i]);
		else
			left[i] = maps[i];
		memset(maps[i].buckets, 0, sizeof(maps[i].buckets));
	}
	are_left = true;
}

int bpf_object__open_skeleton(struct bpf_object_skeleton *s,
			      const struct bpf_object_open_opts *opts)
{
	(void)opts;
	leave_maps();
	for (int i = 0; i < s->map_cnt; i++) {
		/* Constants: here the program has its own. */
		if (s->maps[i].mmaped)
			*s->maps[i].mmaped = &constants;
		else
			*s->maps[i].map = map_named(s->maps[i].name);
	}
	assert_in_range(s->prog_cnt, 0, XF_ARRAY_SIZE(programs));
	for (int i = 0; i < s->prog_cnt; i++)
		*s->progs[i].prog = &programs[i];
	return 0;
}

int bpf_object__load_skeleton(struct bpf_object_skeleton *s)
{
	(void)s;
	return 0;
}

void bpf_object__destroy_skeleton(struct bpf_object_skeleton *s)
{
	if (s) {
		free(s->maps);
		free(s->progs);
	}
	free(s);
}

int bpf_map__fd(const struct bpf_map *map)
{
	return (int)(map - maps);
}

__u32 bpf_map__key_size(const struct bpf_map *map)
{
	return map->key_size;
}

__u32 bpf_map__value_size(const struct bpf_map *map)
{
	return map->value_size;
}

int bpf_program__fd(const struct bpf_program *program)
{
	return (int)(program - programs);
}

int libbpf_num_possible_cpus(void)
{
	return 1;
}

libbpf_print_fn_t libbpf_set_print(libbpf_print_fn_t fn)
{
	(void)fn;
	return NULL;
}

/* A fault: nothing is done, or only the answer is lost. */
int bpf_map_update_elem(int fd, const void *key, const void *value, __u64 flags)
{
	bool fault = host.fails(host.arg);

	(void)flags;
	host.pause(host.arg);
	if (!fault || host.fails(host.arg))
		put(&maps[fd], key, value);
	host.pause(host.arg);
	return fault ? -EIO : 0;
}

int bpf_map_delete_elem(int fd, const void *key)
{
	bool fault = host.fails(host.arg);
	bool there = true;

	host.pause(host.arg);
	if (!fault || host.fails(host.arg))
		there = take(&maps[fd], key);
	host.pause(host.arg);
	return fault ? -EIO : there ? 0 : -ENOENT;
}

int bpf_map_update_batch(int fd, const void *keys, const void *values, __u32 *count,
			 const struct bpf_map_batch_opts *opts)
{
	const struct bpf_map *map = &maps[fd];
	int err = 0;
	__u32 i;

	(void)opts;
	for (i = 0; i < *count && !err; i++)
		err = bpf_map_update_elem(fd, (const uint8_t *)keys + i * map->key_size,
					  (const uint8_t *)values + i * map->value_size, 0);
	*count = i;
	return err;
}

int bpf_map_delete_batch(int fd, const void *keys, __u32 *count,
			 const struct bpf_map_batch_opts *opts)
{
	int err = 0;
	__u32 i;

	(void)opts;
	for (i = 0; i < *count && !err; i++)
		err = bpf_map_delete_elem(fd, (const uint8_t *)keys + i * maps[fd].key_size);
	*count = i;
	return err;
}

int bpf_map__update_elem(const struct bpf_map *map, const void *key, size_t key_size,
			 const void *value, size_t value_size, __u64 flags)
{
	assert_int_equal(key_size, map->key_size);
	assert_int_equal(value_size, map->value_size);
	return bpf_map_update_elem(bpf_map__fd(map), key, value, flags);
}

int bpf_map__lookup_elem(const struct bpf_map *map, const void *key, size_t key_size, void *value,
			 size_t value_size, __u64 flags)
{
	const void *found;

	(void)flags;
	assert_int_equal(key_size, map->key_size);
	assert_int_equal(value_size, map->value_size);
	found = lookup(&maps[bpf_map__fd(map)], key);
	if (!found)
		return -ENOENT;
	memcpy(value, found, value_size);
	return 0;
}

/* --- devices and netfilter's hooks --- */

static void forget_left(void)
{
	for (unsigned i = 0; i < MAPS && are_left; i++)
		map_clear(&left[i]);
	are_left = false;
}

void fake_bpf_end_daemon(void)
{
	const uint32_t zero = 0;

	links = NULL;
	take(map_named("holder"), &zero);
}

int xf_devices_attach(const struct xf_devices_config *cfg, struct xf_devices *out,
		      struct xf_io_error *error)
{
	bool fault = host.fails(host.arg);

	*out = (struct xf_devices){ .count = 0 };
	if (!fault || host.fails(host.arg)) {
		out->count = host.attach(host.arg, cfg, &out->tun_ifindex);
		forget_left();
	}
	return fault ? xf_io_fail(error, -EIO, "cannot attach") : 0;
}

/* What pins hold is not known here: the model's daemon is one from start to end. */
const char *xf_devices_choose(const char *bpffs, bool wanted, struct xf_pins *pins)
{
	(void)bpffs;
	(void)pins;
	return wanted ? NULL : "this world has no links";
}

/* A fault: what cannot be read is taken to stand. */
bool xf_devices_stand(const struct xf_devices_config *cfg, char name[XF_DEVICE_NAME])
{
	return host.fails(host.arg) || host.stands(host.arg, cfg, name);
}

int xf_devices_release(const char *bpffs, struct xf_io_error *error)
{
	(void)bpffs;
	(void)error;
	return 0;
}

/* All devices of a world are in one namespace. */
int xf_netns_layout_find(struct xf_bpf_netns *out)
{
	(void)out;
	return -EOPNOTSUPP;
}

/* Of fake_programs.h. */
int xf_nat_layout_find(struct xf_bpf_nat *out)
{
	const struct fake_conn *conn = NULL;

	*out = (struct xf_bpf_nat){
		.nfct = FAKE_NFCT,
		.status = offsetof(struct fake_conn, status),
		.tuple = { offsetof(struct fake_conn, tuple),
			   offsetof(struct fake_conn, tuple) + sizeof(conn->tuple[0]) },
	};
	out->src = offsetof(struct fake_conn, tuple[0].src) - out->tuple[0];
	out->sport = offsetof(struct fake_conn, tuple[0].sport) - out->tuple[0];
	out->dst = offsetof(struct fake_conn, tuple[0].dst) - out->tuple[0];
	out->dport = offsetof(struct fake_conn, tuple[0].dport) - out->tuple[0];
	out->proto = offsetof(struct fake_conn, tuple[0].proto) - out->tuple[0];
	return 0;
}

struct xf_twin {
	int spare;
};

int xf_twin_new(const struct xf_twin_maps *of, struct xf_twin **out)
{
	(void)of;
	if (!host.netfilter)
		return -EOPNOTSUPP;
	*out = calloc(1, sizeof(**out));
	return *out ? 0 : -ENOMEM;
}

int xf_twin_attach(struct xf_twin *twin)
{
	const uint32_t zero = 0;
	const uint64_t socket = 1;

	links = twin;
	put(map_named("holder"), &zero, &socket);
	return 0;
}

void xf_twin_free(struct xf_twin *twin)
{
	links = NULL;
	free(twin);
}
