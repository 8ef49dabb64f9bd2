/*
 * Finds our table in the ruleset that nftables.service loads; check.c calls it. Such a file is made
 * by "nft list ruleset >". Loading it fails while our table has an owner (decision 0019), or brings
 * old rules back (decision 0018 heals that).
 */
#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "port/io.h"

#define INCLUDES_MAX 16 /* deep, as in nft(8) */

/* All that nft refuses of a table that is not its own. */
static bool is_change(const char *word)
{
	static const char *const verbs[] = { "add",    "create",  "insert", "replace", "rename",
					     "delete", "destroy", "flush",  "reset" };

	for (unsigned i = 0; i < XF_ARRAY_SIZE(verbs); i++) {
		if (!strcmp(word, verbs[i]))
			return true;
	}
	return false;
}

bool xf_check_saved_line(const char *line)
{
	char word[5][32] = { "" };
	int n = sscanf(line, " %31s %31s %31s %31s %31[^{ \t\r\n;]", word[0], word[1], word[2],
		       word[3], word[4]);
	unsigned at = n > 0 && is_change(word[0]) ? 2 : 1;
	char *name = word[at + 1];

	if (at == 1 && strcmp(word[0], "table") != 0)
		return false;
	name[strcspn(name, "{;")] = '\0';
	return (!strcmp(word[at], "inet") || !strcmp(word[at], "bridge")) &&
	       !strcmp(name, XF_NFT_TABLE);
}

static bool file_has_table(const char *path, unsigned depth);

/* Of include "…": nft looks in /etc, and expands patterns. */
static bool include_has_table(const char *line, unsigned depth)
{
	char name[256] = "", pattern[300];
	glob_t found = { 0 };
	bool has = false;

	if (sscanf(line, " include \"%255[^\"]\"", name) != 1)
		return false;
	snprintf(pattern, sizeof(pattern), "%s%s", *name == '/' ? "" : "/etc/", name);
	if (glob(pattern, 0, NULL, &found) == 0) {
		for (size_t i = 0; i < found.gl_pathc && !has; i++)
			has = file_has_table(found.gl_pathv[i], depth + 1);
	}
	globfree(&found);
	return has;
}

static bool file_has_table(const char *path, unsigned depth)
{
	FILE *f = depth < INCLUDES_MAX ? fopen(path, "re") : NULL;
	char *line = NULL;
	size_t size = 0;
	bool has = false;

	if (!f)
		return false;
	while (!has && getline(&line, &size, f) > 0)
		has = xf_check_saved_line(line) || include_has_table(line, depth);
	free(line);
	fclose(f);
	return has;
}

void xf_check_saved(struct xf_check *check, const char *path)
{
	if (file_has_table(path, 0))
		xf_check_add(check, XF_CHECK_SAVED, "%s contains table %s", path, XF_NFT_TABLE);
}
