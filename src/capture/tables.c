/*
 * Makes our nftables tables and empties them; capture.c calls it.
 *
 * A table that others may change is emptied by being replaced. One with an owner cannot be made by
 * a script, so its chains are taken away one by one.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "capture/ruleset.h"
#include "capture/tables.h"

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

static int put_emptying(const struct xf_capture *capture, enum xf_nft_family family, bool owned,
			FILE *f)
{
	struct emptying emptying = {
		.f = f,
		.family = family == XF_NFT_INET ? "inet" : "bridge",
	};

	if (owned) {
		fprintf(f, "flush table %s " XF_NFT_TABLE "\n", emptying.family);
		return capture->ops->nft_each_chain(capture->arg, family, put_deletion, &emptying);
	}
	fprintf(f, "delete table %s " XF_NFT_TABLE "\n", emptying.family);
	fprintf(f, "add table %s " XF_NFT_TABLE "\n", emptying.family);
	return 0;
}

/* @script behind it. Frees @script; NULL: no memory, or the kernel does not answer. */
static char *empty_first(const struct xf_capture *capture, enum xf_nft_family family, bool owned,
			 char *script)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);
	int err = -ENOMEM;

	if (f) {
		err = put_emptying(capture, family, owned, f);
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

char *xf_tables_in_place_of_old(struct xf_capture *capture, char *script)
{
	bool owned = !capture->shared;

	if (!owned)
		keep_counts(capture);
	return empty_first(capture, XF_NFT_INET, owned, script);
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

int xf_tables_sign_bridged(struct xf_capture *capture, struct xf_io_error *error)
{
	int err = make_bridged(capture, error);

	capture->bridged = capture->bridged || !err;
	return capture->bridged ? err : 0;
}
