/*
 * Who forwards (src/host/forwarding.c), in the middle of a kernel whose settings random programs
 * change, with events that get lost, lists that are interrupted or fail, devices that come, go and
 * have others' numbers and names, a TUN that is made anew, and a /proc/sys that is read-only.
 *
 * What the daemon delivers the kernel forwards if the TUN's own setting lets it. Together they do
 * what Linux does with a packet that it decrypts itself (decision 0016): it is forwarded if the
 * device that received the outer packet forwards its family. When all is known: exactly then. Until
 * then: never, unless that was so at some time since the settings were read last.
 */
#include <errno.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <xf/addr.h>
#include <xf/rcu.h>

#include "host/forwarding.h"

#include "fake_forwarding.h"

#ifndef MODEL_DIVISOR
#define MODEL_DIVISOR 1u
#endif
#define SEED 20261130u
#define ROUNDS (60000u / MODEL_DIVISOR)
#define NUMBERS 10 /* of devices; 0: not known */
enum { TUN, LO }; /* their places */

static const uint16_t families[FAKE_FAMILIES] = { XF_AF_INET, XF_AF_INET6 };

struct world {
	struct fake_forwarders *kernel;
	struct xf_forwarding *forwarding;
	uint64_t now_ns;
	bool silent; /* something has changed of which nothing told */
	/* Did the device of this number forward at some time since the settings were read? */
	bool did[FAKE_FAMILIES][NUMBERS];
	bool tun_did[FAKE_FAMILIES]; /* others have set it since then */
	bool fresh; /* what was read last is what holds */
	bool default_did; /* a TUN that is made anew forwards, as was read last */
	unsigned seed, round;
	unsigned long steady, passed, refused, windows, lacking;
};

static unsigned below(unsigned n)
{
	return (unsigned)rand() % n;
}

/* --- what Linux does --- */

static const struct fake_forwarder *device_of(const struct world *w, uint32_t ifindex)
{
	for (unsigned i = 0; i < FAKE_FORWARDERS; i++)
		if (i != TUN && ifindex && w->kernel->of[i].ifindex == ifindex)
			return &w->kernel->of[i];
	return NULL;
}

static bool forwards(const struct world *w, const struct fake_forwarder *device, unsigned family)
{
	if (family == FAKE_SIX && (w->kernel->no_ipv6 || w->kernel->all6))
		return !w->kernel->no_ipv6;
	return device->on[family] && (family == FAKE_FOUR || w->kernel->forces);
}

/* Where nobody knows the device: do all forward, and those to come? */
static bool all_forward(const struct world *w, unsigned family)
{
	if (family == FAKE_SIX)
		return w->kernel->all6 && !w->kernel->no_ipv6;
	for (unsigned i = 0; i < FAKE_FORWARDERS; i++)
		if (i != TUN && w->kernel->of[i].ifindex && !w->kernel->of[i].on[FAKE_FOUR])
			return false;
	return w->kernel->new_ones_do;
}

static bool linux_forwards(const struct world *w, unsigned family, uint32_t iif)
{
	const struct fake_forwarder *device = device_of(w, iif);

	return device ? forwards(w, device, family) : all_forward(w, family);
}

/* --- what becomes of a packet here --- */

static bool is_forwarded(const struct world *w, unsigned family, uint32_t iif)
{
	return xf_forwarding_allows(w->forwarding, families[family], iif) &&
	       w->kernel->of[TUN].ifindex && forwards(w, &w->kernel->of[TUN], family);
}

static void note(struct world *w)
{
	for (unsigned family = 0; family < FAKE_FAMILIES; family++) {
		for (uint32_t iif = 0; iif < NUMBERS; iif++)
			w->did[family][iif] = w->did[family][iif] || linux_forwards(w, family, iif);
	}
}

static void fail_at(const struct world *w, unsigned family, uint32_t iif, const char *why)
{
	for (unsigned i = 0; i < FAKE_FORWARDERS; i++) {
		const struct fake_forwarder *device = &w->kernel->of[i];

		if (device->ifindex)
			print_message("# %u %s: %d, forced %d\n", device->ifindex, device->name,
				      device->on[FAKE_FOUR], device->on[FAKE_SIX]);
	}
	print_message("# default %d, IPv6: all %d, none %d, forces %d\n", w->kernel->new_ones_do,
		      w->kernel->all6, w->kernel->no_ipv6, w->kernel->forces);
	fail_msg("seed %u, round %u: IPv%d by device %u %s", w->seed, w->round,
		 family == FAKE_SIX ? 6 : 4, iif, why);
}

/* Between a change and its event: the old settings hold, or the new ones. */
static void check_meanwhile(struct world *w)
{
	for (unsigned family = 0; family < FAKE_FAMILIES; family++) {
		for (uint32_t iif = 0; iif < NUMBERS; iif++) {
			w->windows++;
			if (is_forwarded(w, family, iif) && !w->did[family][iif] &&
			    !w->tun_did[family])
				fail_at(w, family, iif, "is forwarded and never was to be");
		}
	}
}

/* The TUN forwards when any device does. Where none does the kernel refuses, which knows best what
 * is local. */
static void check_tun(const struct world *w, unsigned family)
{
	bool any = false;

	if (w->kernel->read_only || (family == FAKE_SIX && w->kernel->all6))
		return;
	for (unsigned i = LO; i < FAKE_FORWARDERS; i++)
		any = any || (w->kernel->of[i].ifindex && forwards(w, &w->kernel->of[i], family));
	if (family == FAKE_FOUR || w->kernel->forces)
		assert_int_equal(w->kernel->of[TUN].on[family], any);
	if (!any && (family == FAKE_SIX || !w->kernel->new_ones_do))
		assert_true(xf_forwarding_allows(w->forwarding, families[family], 0));
}

static void check_steady(struct world *w)
{
	bool tun = w->kernel->of[TUN].ifindex;
	bool lacks = false;

	for (unsigned family = 0; family < FAKE_FAMILIES; family++) {
		bool could = !w->kernel->read_only || forwards(w, &w->kernel->of[TUN], family);

		for (uint32_t iif = 0; iif < NUMBERS && tun; iif++) {
			bool want = linux_forwards(w, family, iif);

			lacks = lacks || (want && !could);
			if (is_forwarded(w, family, iif) != (want && could))
				fail_at(w, family, iif, want ? "is lost" : "is forwarded");
			w->passed += want && could;
			w->refused += !want;
		}
		if (tun)
			check_tun(w, family);
	}
	assert_int_equal(xf_forwarding_lacks(w->forwarding), lacks);
	w->lacking += lacks;
	w->steady++;
}

/* --- what others do --- */

static void set_all4(struct world *w, bool on)
{
	w->kernel->new_ones_do = on;
	for (unsigned i = 0; i < FAKE_FORWARDERS; i++)
		w->kernel->of[i].on[FAKE_FOUR] = on;
	w->tun_did[FAKE_FOUR] = w->tun_did[FAKE_FOUR] || on;
}

static bool is_taken(const struct world *w, uint32_t ifindex, const char *name)
{
	for (unsigned i = 0; i < FAKE_FORWARDERS; i++)
		if (w->kernel->of[i].ifindex == ifindex ||
		    (w->kernel->of[i].ifindex && strcmp(w->kernel->of[i].name, name) == 0))
			return true;
	return false;
}

/* A device, or the TUN, goes or comes: with another number, maybe that of one that was. */
static void change_device(struct world *w, unsigned i)
{
	struct fake_forwarder *device = &w->kernel->of[i];
	char name[IF_NAMESIZE];
	uint32_t ifindex = 1 + below(NUMBERS - 1);

	snprintf(name, sizeof(name), "%s", i == TUN ? XF_TUN_NAME : "eth0");
	name[3] = i == TUN ? name[3] : (char)('0' + i);
	if (device->ifindex) {
		device->ifindex = i == LO ? device->ifindex : 0;
		return;
	}
	if (is_taken(w, ifindex, name))
		return;
	*device = (struct fake_forwarder){ .ifindex = ifindex };
	strcpy(device->name, name);
	device->on[FAKE_FOUR] = w->kernel->new_ones_do;
	if (i == TUN)
		w->tun_did[FAKE_FOUR] =
			w->tun_did[FAKE_FOUR] || (device->on[FAKE_FOUR] && !w->default_did);
}

static void set_device(struct world *w, unsigned i, unsigned family)
{
	struct fake_forwarder *device = &w->kernel->of[i];

	if (!device->ifindex || (family == FAKE_SIX && !w->kernel->forces))
		return;
	device->on[family] = below(2);
	if (i == TUN)
		w->tun_did[family] = w->tun_did[family] || device->on[family];
}

static bool is_named(const struct world *w)
{
	return strcmp(w->kernel->of[TUN].name, XF_TUN_NAME) == 0;
}

/* By somebody; and back, by the daemon (src/capture/repair). */
static void rename_tun(struct world *w)
{
	strcpy(w->kernel->of[TUN].name, is_named(w) ? "other0" : XF_TUN_NAME);
}

static void set_all6(struct world *w)
{
	w->kernel->all6 = below(2);
	w->tun_did[FAKE_SIX] = w->tun_did[FAKE_SIX] || w->kernel->all6;
	for (unsigned i = 0; i < FAKE_FORWARDERS && below(2); i++)
		w->kernel->of[i].on[FAKE_SIX] = false;
}

static void act(struct world *w)
{
	unsigned what = below(12);

	w->kernel->told = true;
	if (what == 0) {
		set_all4(w, below(2));
	} else if (what == 1) {
		w->kernel->new_ones_do = below(2);
	} else if (what == 2) {
		set_all6(w);
	} else if (what == 3) {
		w->kernel->read_only = below(4) == 0;
	} else if (what == 4) {
		change_device(w, below(FAKE_FORWARDERS));
	} else if (what == 5) {
		rename_tun(w);
	} else {
		set_device(w, below(FAKE_FORWARDERS), below(FAKE_FAMILIES));
	}
	/* The kernel takes it away, and says nothing. */
	if (below(8) == 0) {
		w->kernel->of[below(FAKE_FORWARDERS)].on[FAKE_SIX] = false;
		w->silent = true;
	}
	note(w);
}

/* --- the daemon's control thread --- */

static void load(struct world *w)
{
	bool fails;

	if (below(6) == 0)
		w->kernel->interrupted = below(6);
	if (below(8) == 0)
		w->kernel->fails = 1 + below(2);
	w->kernel->spared = below(3);
	fails = w->kernel->interrupted > 3;
	w->kernel->failed = false;
	w->kernel->told = false;
	xf_forwarding_load(w->forwarding, w->now_ns);
	assert_int_equal(xf_forwarding_due(w->forwarding), w->now_ns + 10 * XF_NSEC_PER_SEC);
	fails = fails || w->kernel->failed;
	w->kernel->fails = w->kernel->interrupted = 0;
	w->fresh = !fails;
	if (fails) {
		w->silent = true;
		return;
	}
	w->silent = false;
	w->default_did = w->kernel->new_ones_do;
	memset(w->did, 0, sizeof(w->did));
	note(w);
	/* By another name the TUN is a device like others. */
	if (w->kernel->of[TUN].ifindex && !is_named(w))
		w->did[FAKE_FOUR][w->kernel->of[TUN].ifindex] =
			w->did[FAKE_SIX][w->kernel->of[TUN].ifindex] = true;
	if (below(2))
		check_meanwhile(w);
}

static void settle(struct world *w)
{
	bool lacked = xf_forwarding_lacks(w->forwarding);
	unsigned in_vain = w->kernel->in_vain;
	unsigned writes;
	bool changed;

	xf_rcu_drain();
	changed = xf_forwarding_settle(w->forwarding);
	assert_int_equal(changed, xf_forwarding_lacks(w->forwarding) != lacked);
	/* Nothing is written that is not there, but for what was read long ago; once will do. */
	assert_true(!w->fresh || w->kernel->in_vain == in_vain);
	writes = w->kernel->writes;
	assert_false(xf_forwarding_settle(w->forwarding));
	assert_int_equal(w->kernel->writes, writes);
	if (w->fresh)
		memset(w->tun_did, 0, sizeof(w->tun_did));
}

static void turn(struct world *w)
{
	if (w->kernel->told)
		load(w);
	if (w->now_ns >= xf_forwarding_due(w->forwarding))
		load(w);
	settle(w);
}

/* Until nothing is left to be told; a look each ten seconds finds the rest. */
static void calm_down(struct world *w)
{
	if (!is_named(w)) {
		rename_tun(w);
		w->kernel->told = true;
	}
	for (unsigned i = 0; w->kernel->told || w->silent; i++) {
		assert_in_range(i, 0, 100);
		if (!w->kernel->told)
			w->now_ns = xf_forwarding_due(w->forwarding);
		turn(w);
	}
	check_steady(w);
}

static void run(struct world *w)
{
	for (w->round = 0; w->round < ROUNDS; w->round++) {
		unsigned n = below(4);

		while (n--) {
			act(w);
			check_meanwhile(w);
		}
		if (below(2)) {
			turn(w);
			check_meanwhile(w);
		}
		if (below(2))
			calm_down(w);
	}
}

static void start(struct world *w, bool no_ipv6, bool forces)
{
	const char *seed = getenv("MODEL_SEED");

	*w = (struct world){ .kernel = &fake_forwarders, .now_ns = XF_NSEC_PER_SEC };
	w->seed = seed ? (unsigned)strtoul(seed, NULL, 0) : SEED;
	srand(w->seed);
	fake_forwarders = (struct fake_forwarders){ .no_ipv6 = no_ipv6, .forces = forces };
	while (!w->kernel->of[TUN].ifindex || !w->kernel->of[LO].ifindex)
		change_device(w, w->kernel->of[TUN].ifindex ? LO : TUN);
	note(w);
	assert_int_equal(xf_forwarding_new(&xf_io_names_default, w->now_ns, &w->forwarding, NULL),
			 0);
	settle(w);
	check_steady(w);
}

static void end(struct world *w)
{
	print_message("# seed %u: %lu times steady, %lu forwarded, %lu not, %lu in windows, %lu "
		      "lacked, %u writes\n",
		      w->seed, w->steady, w->passed, w->refused, w->windows, w->lacking,
		      w->kernel->writes);
	assert_true(w->passed && w->refused && w->lacking && w->kernel->writes);
	xf_forwarding_free(w->forwarding);
	xf_rcu_drain();
}

static void of_today(void **unused)
{
	struct world w;

	(void)unused;
	start(&w, false, true);
	run(&w);
	end(&w);
}

/* Before Linux 6.17 IPv6 has one setting for all. */
static void without_force(void **unused)
{
	struct world w;

	(void)unused;
	start(&w, false, false);
	run(&w);
	end(&w);
}

static void without_ipv6(void **unused)
{
	struct world w;

	(void)unused;
	start(&w, true, false);
	run(&w);
	end(&w);
}

/* It does not start on a guess. */
static void a_start_needs_an_answer(void **unused)
{
	struct xf_forwarding *forwarding;

	(void)unused;
	fake_forwarders = (struct fake_forwarders){ .fails = 1 };
	assert_int_equal(xf_forwarding_new(&xf_io_names_default, 1, &forwarding, NULL), -ENOBUFS);
	fake_forwarders = (struct fake_forwarders){ .interrupted = 4 };
	assert_int_equal(xf_forwarding_new(&xf_io_names_default, 1, &forwarding, NULL), -EINTR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(of_today),
		cmocka_unit_test(without_force),
		cmocka_unit_test(without_ipv6),
		cmocka_unit_test(a_start_needs_an_answer),
	};
	int failed;

	xf_read_register();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	xf_read_unregister();
	return failed;
}
