/*
 * The kernel of this network namespace as a table of operations, for capture.c: libnftables and
 * netlink for the rules (nft_sets.c for their elements), BPF for the backstop (backstop.c),
 * rtnetlink for rule and route (route.c).
 */
#include <errno.h>
#include <net/if.h>
#include <jansson.h>
#include <nftables/libnftables.h>
#include <stdio.h>
#include <stdlib.h>

#include "capture/programs/backstop.h"
#include "capture/capture.h"
#include "capture/nat/conntrack.h"
#include "capture/nft/frame.h"
#include "capture/repair/inspect.h"
#include "capture/nft/nft_batch.h"
#include "capture/nft/nft_sets.h"
#include "capture/nft/nft_table.h"
#include "capture/ops.h"
#include "capture/repair/route.h"
#include "capture/nft/ruleset.h"
#include "capture/repair/watch.h"
#include "host/firewall.h"

/* So many elements are changed before the events of that are read. */
#define EVENTS_BEHIND 4096

struct xf_kernel {
	struct xf_io_names names;
	const struct xf_spd *spd;
	bool owner; /* tables are to be ours alone */
	bool tcx; /* the backstop is to be at devices by links */
	const char *shared; /* why they are not; NULL: they can be */
	struct nft_ctx *nft; /* NULL: not open, or this kernel has none */
	struct xf_nft_batch *batch; /* with nft */
	struct xf_firewall *firewall; /* with nft: who else has NAT */
	struct xf_backstop *backstop; /* NULL: likewise */
	struct xf_watcher *watcher; /* NULL: likewise */
	unsigned unread; /* elements whose events it has not read */
	unsigned tun; /* its number */
	uint32_t tun_settings; /* that it had when it was set up */
	bool tun_marks; /* likewise, its program for marks */
	int (*remake_tun)(void *arg, struct xf_io_error *error);
	void *remake_arg;
};

/* The first line of what libnftables had to say. */
static int nft_fail(struct nft_ctx *nft, struct xf_io_error *error, const char *what)
{
	const char *text = nft_ctx_get_error_buffer(nft);

	if (error)
		snprintf(error->text, sizeof(error->text), "nftables: cannot %s: %.*s", what,
			 (int)strcspn(text ? text : "", "\n"), text ? text : "");
	return -EIO;
}

/* Why tables of ours are everybody's; NULL: they need not be. */
static const char *why_shared(const struct xf_kernel *kernel, bool other_socket)
{
	if (!kernel->owner)
		return "it is configured so";
	if (other_socket)
		return "the socket of libnftables was not found";
	if (!xf_nft_can_own(kernel->nft, kernel->batch))
		return "this kernel has no owners that leave their tables behind (Linux 6.9)";
	return NULL;
}

static void close_nft(struct xf_kernel *kernel)
{
	if (kernel->nft)
		nft_ctx_free(kernel->nft);
	xf_nft_batch_free(kernel->batch);
	kernel->nft = NULL;
	kernel->batch = NULL;
}

static int kernel_nft_table(void *arg, enum xf_nft_family family, const char **shared,
			    struct xf_io_error *error)
{
	const struct xf_kernel *kernel = arg;
	int err = xf_nft_table_make(kernel->batch, family, !kernel->shared);

	*shared = kernel->shared;
	if (err == -EOPNOTSUPP && !kernel->shared) {
		*shared = "it was made without one, and gets one when it has been deleted";
		err = xf_nft_table_make(kernel->batch, family, false);
	}
	return err ? xf_io_fail(error, err, "nftables: cannot add a table") : 0;
}

static int kernel_nft_open(void *arg, struct xf_io_error *error)
{
	struct xf_kernel *kernel = arg;
	const char *shared;
	bool other_socket;
	int err = xf_nft_open(&kernel->nft, &kernel->batch, &other_socket);

	if (err)
		return xf_io_fail(error, err, "cannot start libnftables");
	xf_nft_table_await(kernel->batch);
	kernel->shared = why_shared(kernel, other_socket);
	err = kernel_nft_table(kernel, XF_NFT_INET, &shared, error);
	if (err) {
		close_nft(kernel);
		return err;
	}
	return xf_firewall_new(&kernel->firewall, error);
}

static int kernel_nft_run(void *arg, const char *script, struct xf_io_error *error)
{
	const struct xf_kernel *kernel = arg;

	if (nft_run_cmd_from_buffer(kernel->nft, script) != 0)
		return nft_fail(kernel->nft, error, "change the capture rules");
	return 0;
}

static int kernel_nft_element(void *arg, const struct xf_nft_set *set,
			      const struct xf_cell_key *key, bool there)
{
	struct xf_kernel *kernel = arg;

	if (kernel->watcher && ++kernel->unread >= EVENTS_BEHIND) {
		xf_watcher_keep_up(kernel->watcher);
		kernel->unread = 0;
	}
	return xf_nft_elements_put(kernel->batch, set, key, there);
}

static int kernel_nft_commit(void *arg)
{
	const struct xf_kernel *kernel = arg;

	return xf_nft_batch_commit(kernel->batch);
}

static int kernel_nat_fd(void *arg)
{
	const struct xf_kernel *kernel = arg;

	return xf_firewall_fd(kernel->firewall);
}

static bool kernel_nat_changed(void *arg)
{
	const struct xf_kernel *kernel = arg;

	return xf_firewall_dispatch(kernel->firewall);
}

static bool kernel_foreign_nat(void *arg)
{
	const struct xf_kernel *kernel = arg;
	struct xf_firewall_why why;

	xf_firewall_dispatch(kernel->firewall);
	xf_firewall_look(kernel->firewall, &why);
	return why.nat;
}

static int kernel_conntrack_clean(void *arg, struct xf_conntrack_changes *changes,
				  const struct xf_spd *spd, uint64_t *deleted,
				  struct xf_io_error *error)
{
	(void)arg;
	return xf_conntrack_clean(changes, spd, deleted, error);
}

/* The answer to @command as JSON, or NULL. */
static json_t *list(const struct xf_kernel *kernel, const char *command)
{
	int err;

	nft_ctx_output_set_flags(kernel->nft, NFT_CTX_OUTPUT_JSON | NFT_CTX_OUTPUT_TERSE);
	err = nft_run_cmd_from_buffer(kernel->nft, command);
	nft_ctx_output_set_flags(kernel->nft, 0);
	return err ? NULL : json_loads(nft_ctx_get_output_buffer(kernel->nft), 0, NULL);
}

static int kernel_nft_each_set(void *arg, void (*visit)(void *visit_arg, const char *name),
			       void *visit_arg)
{
	json_t *root = list(arg, "list sets table inet " XF_NFT_TABLE);
	const json_t *item;
	size_t i;

	json_array_foreach(json_object_get(root, "nftables"), i, item)
	{
		const json_t *set = json_object_get(item, "set");
		const char *name = json_string_value(json_object_get(set, "name"));

		if (name)
			visit(visit_arg, name);
	}
	json_decref(root);
	return root ? 0 : -EIO;
}

/* By handle: names that others gave may be words of nft(8). */
static int kernel_nft_each_chain(void *arg, enum xf_nft_family family,
				 void (*visit)(void *visit_arg, const char *which), void *visit_arg)
{
	json_t *root = list(arg, family == XF_NFT_INET ? "list chains inet" : "list chains bridge");
	const json_t *item;
	size_t i;

	json_array_foreach(json_object_get(root, "nftables"), i, item)
	{
		const json_t *chain = json_object_get(item, "chain");
		const char *table = json_string_value(json_object_get(chain, "table"));
		char which[32];

		snprintf(which, sizeof(which), "handle %" JSON_INTEGER_FORMAT,
			 json_integer_value(json_object_get(chain, "handle")));
		if (table && strcmp(table, XF_NFT_TABLE) == 0)
			visit(visit_arg, which);
	}
	json_decref(root);
	return root ? 0 : -EIO;
}

static int kernel_nft_counters(void *arg, struct xf_capture_counts *out)
{
	(void)arg;
	return xf_inspect_counters(out);
}

static int kernel_backstop_open(void *arg, enum xf_twin_form form, struct xf_io_error *error)
{
	struct xf_kernel *kernel = arg;
	int err = xf_backstop_new(&kernel->names, form, kernel->tcx, &kernel->backstop, error);
	struct xf_spd_info info;
	size_t policies = 0;

	if (err)
		return err;
	if (kernel->watcher)
		xf_watcher_ignore_filters(kernel->watcher, xf_backstop_is_linked(kernel->backstop));
	xf_spd_get_info(kernel->spd, &info);
	for (uint8_t dir = 0; dir < XF_DIR_MAX; dir++)
		policies += info.count[dir];
	xf_backstop_reserve(kernel->backstop, policies);
	return 0;
}

static void kernel_backstop_policy(void *arg, const struct xf_policy *policy, bool there)
{
	const struct xf_kernel *kernel = arg;

	xf_backstop_policy(kernel->backstop, policy, there);
}

static int kernel_backstop_sync(void *arg, const struct xf_cover *cover, const struct xf_spd *spd)
{
	const struct xf_kernel *kernel = arg;

	return xf_backstop_sync(kernel->backstop, cover, spd);
}

static int kernel_backstop_attach(void *arg, struct xf_io_error *error)
{
	const struct xf_kernel *kernel = arg;

	return xf_backstop_attach(kernel->backstop, error);
}

static bool kernel_backstop_stands(void *arg, char *device)
{
	const struct xf_kernel *kernel = arg;

	return xf_backstop_stands(kernel->backstop, device);
}

static void kernel_backstop_stats(void *arg, struct xf_capture_stats *out)
{
	const struct xf_kernel *kernel = arg;

	xf_backstop_get_stats(kernel->backstop, &out->programs);
	xf_backstop_get_counts(kernel->backstop, &out->count);
}

static int kernel_exempt_read(void *arg, struct xf_exempt *out)
{
	const struct xf_kernel *kernel = arg;

	return xf_exempt_read(kernel->names.tun, out);
}

static int kernel_route_add(void *arg, struct xf_io_error *error)
{
	const struct xf_kernel *kernel = arg;

	return xf_capture_route_add(&kernel->names, error);
}

/* --- what others do --- */

/* As it is when it has just been set up: in a container some settings cannot be had. One that could
 * be had before is wanted, though somebody may have been faster just now. */
static void note_tun(struct xf_kernel *kernel)
{
	struct xf_tun_seen seen;

	kernel->tun = if_nametoindex(kernel->names.tun);
	xf_tun_look(kernel->names.tun, kernel->tun, &seen);
	kernel->tun_settings |= seen.settings;
	kernel->tun_marks |= seen.marks;
}

static int kernel_watch(void *arg, struct xf_io_error *error)
{
	struct xf_kernel *kernel = arg;
	int err;

	if (!kernel->remake_tun)
		return -EOPNOTSUPP;
	note_tun(kernel);
	err = xf_watcher_new(&kernel->names, &kernel->watcher, error);
	return err ? err : xf_watcher_fd(kernel->watcher);
}

static void kernel_events(void *arg, void (*tell)(void *tell_arg, const struct xf_capture_event *),
			  void *tell_arg)
{
	const struct xf_kernel *kernel = arg;

	xf_watcher_read(kernel->watcher, tell, tell_arg);
}

static int kernel_inspect(void *arg, struct xf_capture_seen *out)
{
	const struct xf_kernel *kernel = arg;
	struct xf_tun_seen tun;

	xf_tun_look(kernel->names.tun, kernel->tun, &tun);
	out->tun = tun.there;
	out->tun_named = tun.named;
	out->tun_ready = tun.ready && !(kernel->tun_settings & ~tun.settings);
	out->tun_marks = tun.marks || !kernel->tun_marks;
	return xf_capture_route_look(&kernel->names, kernel->tun, out);
}

static int kernel_nft_read(void *arg, bool elements, struct xf_nft_seen *out)
{
	(void)arg;
	return xf_inspect_table(elements, out);
}

static bool kernel_nft_has_changed(void *arg)
{
	const struct xf_kernel *kernel = arg;

	return xf_watcher_missed(kernel->watcher);
}

static int kernel_tun_make(void *arg, struct xf_io_error *error)
{
	struct xf_kernel *kernel = arg;
	int err = kernel->remake_tun(kernel->remake_arg, error);

	note_tun(kernel);
	return err;
}

static int kernel_tun_mend(void *arg, struct xf_io_error *error)
{
	struct xf_kernel *kernel = arg;
	int err = xf_tun_mend(&kernel->names, kernel->tun, kernel->tun_marks, error);

	if (!err)
		note_tun(kernel);
	return err;
}

const struct xf_capture_ops xf_kernel_ops = {
	.nft_open = kernel_nft_open,
	.nft_table = kernel_nft_table,
	.nft_run = kernel_nft_run,
	.nft_element = kernel_nft_element,
	.nft_commit = kernel_nft_commit,
	.nft_element_digest = xf_nft_elements_digest,
	.nft_each_set = kernel_nft_each_set,
	.nft_each_chain = kernel_nft_each_chain,
	.nft_counters = kernel_nft_counters,
	.nat_fd = kernel_nat_fd,
	.foreign_nat = kernel_foreign_nat,
	.nat_changed = kernel_nat_changed,
	.conntrack_clean = kernel_conntrack_clean,
	.backstop_open = kernel_backstop_open,
	.backstop_policy = kernel_backstop_policy,
	.backstop_sync = kernel_backstop_sync,
	.backstop_attach = kernel_backstop_attach,
	.backstop_stands = kernel_backstop_stands,
	.backstop_stats = kernel_backstop_stats,
	.exempt_read = kernel_exempt_read,
	.route_add = kernel_route_add,
	.watch = kernel_watch,
	.events = kernel_events,
	.inspect = kernel_inspect,
	.nft_read = kernel_nft_read,
	.nft_has_changed = kernel_nft_has_changed,
	.tun_make = kernel_tun_make,
	.tun_mend = kernel_tun_mend,
};

int xf_kernel_new(const struct xf_capture_config *cfg, struct xf_kernel **out)
{
	struct xf_kernel *kernel = calloc(1, sizeof(*kernel));

	if (!kernel)
		return -ENOMEM;
	kernel->names = cfg->names;
	kernel->spd = cfg->spd;
	kernel->owner = cfg->owner;
	kernel->tcx = cfg->tcx;
	kernel->remake_tun = cfg->remake_tun;
	kernel->remake_arg = cfg->remake_arg;
	*out = kernel;
	return 0;
}

void xf_kernel_free(struct xf_kernel *kernel)
{
	if (!kernel)
		return;
	close_nft(kernel);
	xf_firewall_free(kernel->firewall);
	xf_backstop_free(kernel->backstop);
	xf_watcher_free(kernel->watcher);
	free(kernel);
}

static int delete_tables(struct xf_io_error *error)
{
	struct xf_nft_batch *batch;
	int err = xf_nft_batch_new(-1, &batch);

	if (err)
		return xf_io_fail(error, err, "cannot talk to nftables");
	xf_nft_table_await(batch);
	err = xf_nft_table_delete(batch, XF_NFT_INET);
	/* Where there is no family bridge there is nothing to remove. */
	xf_nft_table_delete(batch, XF_NFT_BRIDGE);
	xf_nft_batch_free(batch);
	return err ? xf_io_fail(error, err, "nftables: cannot remove the capture rules") : 0;
}

int xf_capture_release(const struct xf_io_names *names, struct xf_io_error *error)
{
	int err = delete_tables(error);

	if (!err)
		err = xf_backstop_release(names->bpffs, error);
	if (!err)
		err = xf_capture_route_del(names, error);
	return err ? err : xf_tun_remove(names->tun, error);
}
