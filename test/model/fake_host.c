/*
 * What src/capture does to the model's host, and what it is told of it: struct xf_capture_ops for
 * model_host.c. Programs and maps are those of src/capture/programs/backstop.c, over fake_bpf.h.
 *
 * An operation may fail, before it has done anything or only in what it answers, and packets go
 * their ways before and after each.
 */
#include <errno.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "capture/programs/backstop.h"
#include "capture/capture.h"

#include "fake_bpf.h"
#include "fake_host.h"

bool fake_host_fails(struct fake_host *host)
{
	bool fault = host->kernel.faults && below(host->kernel.faults) == 0;

	host->kernel.fault_count += fault;
	return fault;
}

static void pause_for_others(struct fake_host *host)
{
	if (host->pause)
		host->pause(host->pause_arg);
}

/* Is the operation to do nothing, in spite of what is answered? */
static bool is_in_vain(bool fault)
{
	return fault && below(2);
}

/* --- nftables: fake_kernel.c's --- */

static uint64_t generation(const struct fake_host *host)
{
	struct fake_nft_seen seen;
	struct fake_nft_seen bridge;

	fake_nft_read(host->kernel.nft, &seen);
	fake_nft_read(host->bridge, &bridge);
	return seen.generation + bridge.generation;
}

/* What we have changed is told, so what nobody heard of before is not found by its number. */
static void note_change(struct fake_host *host, uint64_t before)
{
	host->unheard = host->unheard && generation(host) == before;
}

static int nft_open(void *arg, struct xf_io_error *error)
{
	struct fake_host *host = arg;

	return fake_kernel_ops.nft_open(&host->kernel, error);
}

/* It may be shared: others change it. */
static int nft_table(void *arg, enum xf_nft_family family, const char **shared,
		     struct xf_io_error *error)
{
	struct fake_host *host = arg;

	if (family == XF_NFT_INET)
		return fake_kernel_ops.nft_table(&host->kernel, family, shared, error);
	if (host->fail_bridge || fake_host_fails(host)) {
		host->fail_bridge -= host->fail_bridge > 0;
		return xf_io_fail(error, -EIO, "nftables");
	}
	*shared = fake_nft_make(host->bridge, host->kernel.owned) ? NULL : "the model says so";
	return 0;
}

static int nft_each_chain(void *arg, enum xf_nft_family family,
			  void (*visit)(void *visit_arg, const char *name), void *visit_arg)
{
	struct fake_host *host = arg;

	if (fake_host_fails(host))
		return -EIO;
	fake_nft_each_chain(family == XF_NFT_INET ? host->kernel.nft : host->bridge, visit,
			    visit_arg);
	return 0;
}

static bool is_of_bridge(const char *script)
{
	const char *family = strstr(script, " bridge ");

	return family && family < strchr(script, '\n');
}

static int run_bridge(struct fake_host *host, const char *script, struct xf_io_error *error)
{
	bool fault = fake_host_fails(host);
	int err = is_in_vain(fault) ? 0 : fake_nft_run(host->bridge, script);

	if (fault)
		err = -EIO;
	return err ? xf_io_fail(error, err, "nftables") : 0;
}

static int nft_run(void *arg, const char *script, struct xf_io_error *error)
{
	struct fake_host *host = arg;
	uint64_t before = generation(host);
	int err;

	pause_for_others(host);
	if (is_of_bridge(script))
		err = run_bridge(host, script, error);
	else
		err = fake_kernel_ops.nft_run(&host->kernel, script, error);
	note_change(host, before);
	pause_for_others(host);
	return err;
}

static uint64_t nft_element_digest(const struct xf_nft_set *set, const struct xf_cell_key *key)
{
	return fake_kernel_ops.nft_element_digest(set, key);
}

static int nft_element(void *arg, const struct xf_nft_set *set, const struct xf_cell_key *key,
		       bool there)
{
	struct fake_host *host = arg;
	uint64_t before = generation(host);
	int err = fake_kernel_ops.nft_element(&host->kernel, set, key, there);

	note_change(host, before);
	pause_for_others(host);
	return err;
}

static int nft_commit(void *arg)
{
	struct fake_host *host = arg;
	uint64_t before = generation(host);
	int err = fake_kernel_ops.nft_commit(&host->kernel);

	note_change(host, before);
	pause_for_others(host);
	return err;
}

static int nft_each_set(void *arg, void (*visit)(void *visit_arg, const char *name),
			void *visit_arg)
{
	struct fake_host *host = arg;

	return fake_host_fails(host)
		       ? -EIO
		       : fake_kernel_ops.nft_each_set(&host->kernel, visit, visit_arg);
}

static int nft_counters(void *arg, struct xf_capture_counts *out)
{
	struct fake_host *host = arg;

	return fake_kernel_ops.nft_counters(&host->kernel, out);
}

static int nft_read(void *arg, bool elements, struct xf_nft_seen *out)
{
	struct fake_host *host = arg;
	struct fake_nft_seen seen;
	struct fake_nft_seen bridge;

	if (fake_host_fails(host))
		return -EIO;
	fake_nft_read(host->kernel.nft, &seen);
	fake_nft_read(host->bridge, &bridge);
	*out = (struct xf_nft_seen){ .there = seen.there, .digest = seen.digest + bridge.digest };
	if (elements)
		out->elements = seen.elements;
	return 0;
}

static bool nft_has_changed(void *arg)
{
	const struct fake_host *host = arg;

	return host->unheard;
}

/* --- NAT --- */

static int nat_fd(void *arg)
{
	(void)arg;
	return 0;
}

static bool foreign_nat(void *arg)
{
	const struct fake_host *host = arg;

	return host->nat.there;
}

static int conntrack_clean(void *arg, struct xf_conntrack_changes *changes,
			   const struct xf_spd *spd, uint64_t *deleted, struct xf_io_error *error)
{
	struct fake_host *host = arg;

	(void)error;
	*deleted = fake_conntrack_clean(&host->ct, changes, spd);
	*changes = (struct xf_conntrack_changes){ .any = false };
	return 0;
}

/* --- whom no policy is asked about --- */

uint32_t fake_exempt_of(const struct fake_host *host, unsigned device)
{
	return host->exempt_all | host->exempt[device];
}

static int exempt_read(void *arg, struct xf_exempt *out)
{
	static const char *const addrs[FAKE_DEVICES] = { "fd00:0:0:1::1", "fd00:100:0:1::1" };
	struct fake_host *host = arg;

	if (fake_host_fails(host))
		return -EIO;
	*out = (struct xf_exempt){ .all = host->exempt_all };
	out->devices = calloc(FAKE_DEVICES, sizeof(out->devices[0]));
	out->addrs = calloc(FAKE_DEVICES, sizeof(out->addrs[0]));
	assert_true(out->devices && out->addrs);
	for (unsigned i = 0; i < FAKE_DEVICES; i++) {
		if (host->exempt[i])
			out->devices[out->ndevices++] =
				(struct xf_exempt_device){ i + 2, host->exempt[i] };
		if (fake_exempt_of(host, i) & XF_EXEMPT_POLICY6)
			xf_addr_parse(addrs[i], &out->addrs[out->naddrs++]);
	}
	return 0;
}

/* --- programs --- */

static int backstop_open(void *arg, enum xf_twin_form form, struct xf_io_error *error)
{
	struct fake_host *host = arg;

	return xf_backstop_new(&xf_io_names_default, form, host->tcx, &host->backstop, error);
}

static void backstop_policy(void *arg, const struct xf_policy *policy, bool there)
{
	const struct fake_host *host = arg;

	xf_backstop_policy(host->backstop, policy, there);
}

static int backstop_sync(void *arg, const struct xf_cover *cover, const struct xf_spd *spd)
{
	const struct fake_host *host = arg;

	return xf_backstop_sync(host->backstop, cover, spd);
}

static int backstop_attach(void *arg, struct xf_io_error *error)
{
	const struct fake_host *host = arg;

	return xf_backstop_attach(host->backstop, error);
}

static void backstop_stats(void *arg, struct xf_capture_stats *out)
{
	const struct fake_host *host = arg;

	xf_backstop_get_stats(host->backstop, &out->programs);
	xf_backstop_get_counts(host->backstop, &out->count);
}

static bool program_fails(void *arg)
{
	return fake_host_fails(arg);
}

static void program_pause(void *arg)
{
	pause_for_others(arg);
}

static unsigned attach_programs(void *arg, const struct xf_devices_config *programs, uint32_t *tun)
{
	struct fake_host *host = arg;
	bool has_tun = host->tun.there && host->tun.named;

	for (unsigned i = 0; i < FAKE_DEVICES; i++) {
		host->device[i].egress = programs->egress_fd >= 0;
		host->device[i].ingress = programs->ingress_fd >= 0;
		host->device[i].linked = programs->links;
		host->device[i].unseen = fake_exempt_of(host, i) & XF_EXEMPT_V4;
	}
	host->unlinked = false;
	if (has_tun)
		host->tun.program = programs->tun_fd >= 0;
	*tun = has_tun && host->tun.up ? host->tun.ifindex : 0;
	return FAKE_DEVICES;
}

static bool programs_stand(void *arg, const struct xf_devices_config *programs, char *name)
{
	const struct fake_host *host = arg;

	strcpy(name, "wan");
	for (unsigned i = 0; programs->links && i < FAKE_DEVICES; i++)
		if (!host->device[i].egress ||
		    host->device[i].ingress != (programs->ingress_fd >= 0))
			return false;
	return true;
}

static bool backstop_stands(void *arg, char *device)
{
	const struct fake_host *host = arg;

	return xf_backstop_stands(host->backstop, device);
}

/* --- rule, route, TUN --- */

/* In the order of src/capture/repair/route.c. */
static int route_add(void *arg, struct xf_io_error *error)
{
	struct fake_host *host = arg;
	int err = 0;

	for (unsigned six = 0; six < 2 && !err; six++) {
		bool fault = fake_host_fails(host);

		pause_for_others(host);
		if (!is_in_vain(fault)) {
			host->black_hole[six] = true;
			pause_for_others(host);
			host->rule[six] = true;
			pause_for_others(host);
			err = !host->tun.there || !host->tun.named ? -ENODEV
			      : !host->tun.up			   ? -ENETDOWN
								   : 0;
			host->into_tun[six] = host->into_tun[six] || !err;
		}
		err = fault ? -EIO : err;
	}
	return err ? xf_io_fail(error, err, "cannot route") : 0;
}

static int inspect(void *arg, struct xf_capture_seen *out)
{
	struct fake_host *host = arg;

	if (fake_host_fails(host))
		return -EIO;
	*out = (struct xf_capture_seen){
		.tun = host->tun.there,
		.tun_named = host->tun.named,
		.tun_ready = host->tun.up && host->tun.settings,
		.tun_marks = host->tun.marks,
		.taker = UINT32_MAX,
		.rule = host->rule[0] && host->rule[1],
		.route = host->into_tun[0] && host->into_tun[1] && host->black_hole[0] &&
			 host->black_hole[1],
	};
	return 0;
}

static void set_up_tun(struct fake_host *host)
{
	host->tun.there = host->tun.named = host->tun.up = true;
	host->tun.settings = host->tun.marks = true;
}

static int tun_make(void *arg, struct xf_io_error *error)
{
	struct fake_host *host = arg;
	bool fault = fake_host_fails(host);

	pause_for_others(host);
	if (!is_in_vain(fault)) {
		set_up_tun(host);
		host->tun.program = false;
		host->tun.ifindex++;
		host->link_event = true;
	}
	pause_for_others(host);
	return fault ? xf_io_fail(error, -EIO, "cannot make a TUN") : 0;
}

static int tun_mend(void *arg, struct xf_io_error *error)
{
	struct fake_host *host = arg;
	bool fault = fake_host_fails(host);

	pause_for_others(host);
	if (!is_in_vain(fault)) {
		set_up_tun(host);
		host->link_event = true;
	}
	pause_for_others(host);
	return fault ? xf_io_fail(error, -EIO, "cannot mend a TUN") : 0;
}

/* --- what is told --- */

static int watch(void *arg, struct xf_io_error *error)
{
	(void)arg;
	(void)error;
	return 0;
}

static void events(void *arg, void (*tell)(void *tell_arg, const struct xf_capture_event *event),
		   void *tell_arg)
{
	struct fake_host *host = arg;
	unsigned n = host->nevents;

	host->nevents = 0;
	for (unsigned i = 0; i < n; i++)
		tell(tell_arg, &host->events[i]);
}

const struct xf_capture_ops fake_host_ops = {
	.nft_open = nft_open,
	.nft_table = nft_table,
	.nft_run = nft_run,
	.nft_element = nft_element,
	.nft_element_digest = nft_element_digest,
	.nft_commit = nft_commit,
	.nft_each_set = nft_each_set,
	.nft_each_chain = nft_each_chain,
	.nft_counters = nft_counters,
	.nat_fd = nat_fd,
	.foreign_nat = foreign_nat,
	.conntrack_clean = conntrack_clean,
	.backstop_open = backstop_open,
	.backstop_policy = backstop_policy,
	.backstop_sync = backstop_sync,
	.backstop_attach = backstop_attach,
	.backstop_stands = backstop_stands,
	.backstop_stats = backstop_stats,
	.exempt_read = exempt_read,
	.route_add = route_add,
	.watch = watch,
	.events = events,
	.inspect = inspect,
	.nft_read = nft_read,
	.nft_has_changed = nft_has_changed,
	.tun_make = tun_make,
	.tun_mend = tun_mend,
};

/* --- the host --- */

void fake_host_init(struct fake_host *host, bool netfilter)
{
	const struct fake_bpf_host programs = {
		.fails = program_fails,
		.pause = program_pause,
		.attach = attach_programs,
		.stands = programs_stand,
		.arg = host,
		.netfilter = netfilter,
	};

	*host = (struct fake_host){ .tun = { .ifindex = 10 } };
	fake_kernel_init(&host->kernel);
	host->bridge = fake_nft_new_of("bridge");
	set_up_tun(host);
	fake_bpf_start(&programs);
}

void fake_host_forget_flows(struct fake_host *host)
{
	fake_conntrack_flush(&host->ct);
	fake_nft_run(host->kernel.nft, "flush set inet xfrmd nat_kept4\n"
				       "flush set inet xfrmd nat_kept6\n"
				       "flush set inet xfrmd nat_refused4\n"
				       "flush set inet xfrmd nat_refused6\n"
				       "flush set inet xfrmd nat_within4\n"
				       "flush set inet xfrmd nat_within6\n");
}

void fake_host_end_daemon(struct fake_host *host)
{
	xf_backstop_free(host->backstop);
	host->backstop = NULL;
	fake_bpf_end_daemon();
	fake_nft_orphan(host->kernel.nft);
	fake_nft_orphan(host->bridge);
	free(host->late);
	host->late = NULL;
	host->dead = true;
	host->workers = false;
	host->unheard = host->link_event = host->nat_event = false;
	host->nevents = 0;
}

void fake_host_begin_daemon(struct fake_host *host)
{
	if (!host->tun.there || !host->tun.named) {
		host->tun.ifindex++;
		host->tun.program = host->into_tun[0] = host->into_tun[1] = false;
	}
	set_up_tun(host);
	host->dead = false;
}

void fake_host_fini(struct fake_host *host)
{
	fake_host_end_daemon(host);
	fake_conntrack_flush(&host->ct);
	fake_nft_free(host->bridge);
	fake_kernel_fini(&host->kernel);
	fake_bpf_stop();
}

/* --- addresses --- */

static bool is_self(const union xf_addr *addr, uint16_t family)
{
	static const char *const texts[2][2] = { { "10.0.0.1", "10.1.0.1" },
						 { "fd00:0:0:1::1", "fd00:100:0:1::1" } };
	union xf_addr self;

	for (unsigned i = 0; i < 2; i++) {
		memset(&self, 0, sizeof(self));
		xf_addr_parse(texts[family == XF_AF_INET6][i], &self);
		if (xf_addr_equal(addr, &self, family))
			return true;
	}
	return false;
}

static bool is_at_wan(const union xf_addr *addr, uint16_t family)
{
	return addr->bytes[family == XF_AF_INET ? 1 : 2] & 1;
}

enum fake_role fake_role_of(const union xf_addr *addr, uint16_t family)
{
	if (is_self(addr, family))
		return FAKE_SELF;
	return is_at_wan(addr, family) ? FAKE_AT_WAN : FAKE_AT_LAN;
}

static void draw_any(union xf_addr *addr, uint16_t family)
{
	memset(addr, 0, sizeof(*addr));
	if (family == XF_AF_INET) {
		xf_put_be32(addr->bytes, 0x0a000000 | below(2) << 16 | below(3) << 8 | below(2));
		return;
	}
	xf_put_be32(addr->bytes, 0xfd000000 | below(2) << 8);
	addr->bytes[7] = (uint8_t)below(2);
	addr->bytes[15] = (uint8_t)below(2);
}

void fake_draw_addr(union xf_addr *addr, uint16_t family, enum fake_role role)
{
	do {
		draw_any(addr, family);
	} while (role != FAKE_ROLES && fake_role_of(addr, family) != role);
}
