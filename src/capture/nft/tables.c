/*
 * Makes our nftables tables and empties them; capture.c calls it.
 *
 * A table that others may change is emptied by being replaced. One with an owner cannot be made by
 * a script, and one whose sets or counters are to stay is not to be: its chains are taken away one
 * by one.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "capture/nft/ruleset.h"
#include "capture/nft/tables.h"

static void tell_of_shared(const struct xf_capture *capture, const char *shared)
{
	char line[XF_HEAL_TEXT];
	bool known = capture->shared && strcmp(capture->shared, shared) == 0;

	snprintf(line, sizeof(line), "nftables table " XF_NFT_TABLE " has no owner: %s", shared);
	if (!known && capture->cfg.owner && capture->cfg.say)
		capture->cfg.say(capture->cfg.say_arg, false, line);
}

int xf_tables_make(struct xf_capture *capture, struct xf_io_error *error)
{
	const char *shared;
	int err = capture->ops->nft_table(capture->arg, XF_NFT_INET, &shared, error);

	if (err)
		return err;
	if (shared)
		tell_of_shared(capture, shared);
	capture->shared = shared;
	return 0;
}

/* --- emptying --- */

struct emptying {
	FILE *f;
	const char *family;
};

static void put_deletion(void *arg, const char *which)
{
	const struct emptying *emptying = arg;

	fprintf(emptying->f, "delete chain %s " XF_NFT_TABLE " %s\n", emptying->family, which);
}

static int put_emptying(const struct xf_capture *capture, enum xf_nft_family family, bool stays,
			FILE *f)
{
	struct emptying emptying = {
		.f = f,
		.family = family == XF_NFT_INET ? "inet" : "bridge",
	};

	if (stays) {
		fprintf(f, "flush table %s " XF_NFT_TABLE "\n", emptying.family);
		return capture->ops->nft_each_chain(capture->arg, family, put_deletion, &emptying);
	}
	fprintf(f, "delete table %s " XF_NFT_TABLE "\n", emptying.family);
	fprintf(f, "add table %s " XF_NFT_TABLE "\n", emptying.family);
	return 0;
}

/* @script behind it. Frees @script; NULL: no memory, or the kernel does not answer. */
static char *empty_first(const struct xf_capture *capture, enum xf_nft_family family, bool stays,
			 char *script)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);
	int err = -ENOMEM;

	if (f) {
		err = put_emptying(capture, family, stays, f);
		fputs(script, f);
		if (fclose(f) != 0)
			err = -ENOMEM;
	}
	free(script);
	if (!err)
		return text;
	free(text);
	return NULL;
}

/* Counters that go with the table are kept here. */
static void keep_counts(struct xf_capture *capture)
{
	struct xf_capture_counts counts = { 0 };

	if (!capture->ops->nft_counters(capture->arg, &counts))
		xf_counters_add(&xf_capture_counters, &counts, &capture->count);
}

char *xf_tables_in_place_of_old(struct xf_capture *capture, bool stays, char *script)
{
	if (!stays)
		keep_counts(capture);
	return empty_first(capture, XF_NFT_INET, stays, script);
}

static int make_bridged(const struct xf_capture *capture, struct xf_io_error *error)
{
	const char *shared;
	char *script;
	int err = capture->ops->nft_table(capture->arg, XF_NFT_BRIDGE, &shared, error);

	if (!err)
		err = xf_ruleset_bridge(&capture->cfg.names, &script);
	if (err)
		return err;
	script = empty_first(capture, XF_NFT_BRIDGE, !shared, script);
	err = script ? capture->ops->nft_run(capture->arg, script, error) : -ENOMEM;
	free(script);
	return err;
}

static bool has_no_family(int err)
{
	return err == -EOPNOTSUPP || err == -EAFNOSUPPORT;
}

int xf_tables_sign_bridged(struct xf_capture *capture, struct xf_io_error *error)
{
	int err = make_bridged(capture, error);
	uint64_t wait_ns = xf_heal_wait_ns(++capture->bridge_failures);

	capture->bridged = capture->bridged || !err;
	if (!err) {
		capture->bridge_failures = 0;
		xf_capture_expect_change(capture);
	}
	capture->bridge_due_ns =
		!err || has_no_family(err) ? UINT64_MAX : capture->now_ns + wait_ns;
	return capture->bridged ? err : 0;
}

uint64_t xf_tables_bridge_due(const struct xf_capture *capture)
{
	return capture->bridged ? UINT64_MAX : capture->bridge_due_ns;
}
