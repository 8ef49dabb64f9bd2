/*
 * What happens to the host while capture starts, and soon after, with operations of the test's own.
 * In mode tc there is nothing of nftables to do.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <errno.h>
#include <cmocka.h>

#include <xf/rcu.h>

#include "capture/capture.h"
#include "capture/ops.h"

struct host {
	bool tun; /* there? */
	bool route;
	int watch_fd;
	unsigned made;
	bool nat; /* somebody has NAT */
	bool others; /* somebody has changed something */
	unsigned syncs; /* of the backstop */
};

static int backstop_open(void *arg, enum xf_twin_form form, struct xf_io_error *error)
{
	(void)arg, (void)form, (void)error;
	return 0;
}

static int backstop_sync(void *arg, const struct xf_cover *cover, const struct xf_spd *spd)
{
	struct host *host = arg;

	(void)cover, (void)spd;
	host->syncs++;
	return 0;
}

static int backstop_attach(void *arg, struct xf_io_error *error)
{
	(void)arg, (void)error;
	return 0;
}

static void backstop_stats(void *arg, struct xf_capture_stats *out)
{
	(void)arg;
	out->programs.twin = XF_TWIN_NETFILTER;
}

static int route_add(void *arg, struct xf_io_error *error)
{
	struct host *host = arg;

	if (!host->tun)
		return xf_io_fail(error, -ENODEV, "cannot route");
	host->route = true;
	return 0;
}

static int watch(void *arg, struct xf_io_error *error)
{
	const struct host *host = arg;

	(void)error;
	return host->watch_fd;
}

static void events(void *arg, void (*tell)(void *tell_arg, const struct xf_capture_event *ev),
		   void *tell_arg)
{
	(void)arg, (void)tell, (void)tell_arg;
}

static int inspect(void *arg, struct xf_capture_seen *out)
{
	const struct host *host = arg;

	*out = (struct xf_capture_seen){ .tun = host->tun,
					 .tun_named = host->tun,
					 .tun_ready = host->tun,
					 .tun_marks = host->tun,
					 .rule = host->route,
					 .route = host->route,
					 .taker = UINT32_MAX };
	return 0;
}

static int tun_make(void *arg, struct xf_io_error *error)
{
	struct host *host = arg;

	(void)error;
	host->tun = true;
	host->made++;
	return 0;
}

static int nft_open(void *arg, struct xf_io_error *error)
{
	(void)arg, (void)error;
	return 0;
}

static int nft_table(void *arg, enum xf_nft_family family, const char **shared,
		     struct xf_io_error *error)
{
	(void)arg, (void)family, (void)error;
	*shared = "there is none";
	return 0;
}

static int nft_run(void *arg, const char *script, struct xf_io_error *error)
{
	(void)arg, (void)script, (void)error;
	return 0;
}

static int nft_each_set(void *arg, void (*visit)(void *visit_arg, const char *name),
			void *visit_arg)
{
	(void)arg, (void)visit, (void)visit_arg;
	return 0;
}

static int nft_each_chain(void *arg, enum xf_nft_family family,
			  void (*visit)(void *visit_arg, const char *which), void *visit_arg)
{
	(void)arg, (void)family, (void)visit, (void)visit_arg;
	return 0;
}

static bool backstop_stands(void *arg, char *device)
{
	(void)arg, (void)device;
	return true;
}

static bool foreign_nat(void *arg)
{
	const struct host *host = arg;

	return host->nat;
}

static bool nat_changed(void *arg)
{
	struct host *host = arg;
	bool others = host->others;

	host->others = false;
	return others;
}

static const struct xf_capture_ops ops = {
	.nft_open = nft_open,
	.nft_table = nft_table,
	.nft_run = nft_run,
	.nft_each_set = nft_each_set,
	.nft_each_chain = nft_each_chain,
	.foreign_nat = foreign_nat,
	.nat_changed = nat_changed,
	.backstop_open = backstop_open,
	.backstop_sync = backstop_sync,
	.backstop_attach = backstop_attach,
	.backstop_stats = backstop_stats,
	.route_add = route_add,
	.watch = watch,
	.events = events,
	.inspect = inspect,
	.backstop_stands = backstop_stands,
	.tun_make = tun_make,
};

static int start(struct host *host, enum xf_capture_mode mode, struct xf_spd *spd,
		 struct xf_capture **out)
{
	const struct xf_capture_config cfg = { .names = xf_io_names_default,
					       .spd = spd,
					       .now_ns = 1000,
					       .mode = mode,
					       .ops = &ops,
					       .arg = host };
	struct xf_io_error error;

	return xf_capture_new(&cfg, out, &error);
}

/* Somebody deletes the TUN between its opening and its route: made anew at once, if seen at all. */
static void tun_goes_meanwhile(void **unused)
{
	const struct xf_spd_config cfg = { .max_policies = 0 };
	struct xf_spd *spd = xf_spd_new(&cfg);
	struct host host = { .watch_fd = 0 };
	struct host blind = { .watch_fd = -1 };
	struct xf_capture *capture;

	(void)unused;
	assert_int_equal(start(&blind, XF_CAPTURE_TC, spd, &capture), -ENODEV);
	assert_int_equal(start(&host, XF_CAPTURE_TC, spd, &capture), 0);
	assert_true(xf_capture_due(capture) <= 1000);
	assert_int_equal(xf_capture_settle(capture, 1000, NULL), 0);
	assert_int_equal(host.made, 1);
	assert_true(host.tun && host.route);
	assert_true(xf_capture_due(capture) > 1000);
	xf_capture_free(capture);
	xf_spd_free(spd);
}

/* Connection tracking may be a module that comes with NAT: the programs hear where to read it. */
static void nat_comes_later(void **unused)
{
	const struct xf_spd_config cfg = { .max_policies = 0 };
	struct xf_spd *spd = xf_spd_new(&cfg);
	struct host host = { .watch_fd = -1, .tun = true };
	struct xf_capture *capture;
	unsigned before;

	(void)unused;
	assert_int_equal(start(&host, XF_CAPTURE_AUTO, spd, &capture), 0);
	before = host.syncs;
	xf_capture_follow_nat(capture, 2000);
	assert_int_equal(host.syncs, before);
	host.nat = true;
	xf_capture_follow_nat(capture, 3000);
	assert_int_equal(host.syncs, before + 1);
	/* It stays: nothing new. */
	xf_capture_follow_nat(capture, 4000);
	assert_int_equal(host.syncs, before + 1);
	xf_capture_free(capture);
	xf_spd_free(spd);
}

/* Policies change the table all the time: NAT need not be looked for each time. */
static void own_changes_are_not_nat(void **unused)
{
	const struct xf_spd_config cfg = { .max_policies = 0 };
	struct xf_spd *spd = xf_spd_new(&cfg);
	struct host host = { .watch_fd = -1, .tun = true };
	struct xf_capture *capture;

	(void)unused;
	assert_int_equal(start(&host, XF_CAPTURE_AUTO, spd, &capture), 0);
	assert_false(xf_capture_nat_has_changed(capture));
	host.others = true;
	assert_true(xf_capture_nat_has_changed(capture));
	assert_false(xf_capture_nat_has_changed(capture));
	xf_capture_free(capture);
	xf_spd_free(spd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tun_goes_meanwhile),
		cmocka_unit_test(nat_comes_later),
		cmocka_unit_test(own_changes_are_not_nat),
	};
	int failed;

	xf_read_register();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	xf_read_unregister();
	return failed;
}
