/*
 * One line: the namespace's cookie, and the names. service.c writes it when they are in force, and
 * the next daemon, or xfrmctl release without one, reads it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "former.h"

#define LINE "%" SCNu64 " %15s %" SCNu32 " %" SCNu32 " %" SCNu32 " %" SCNu32

int xf_former_read(const struct xf_rundir *run, struct xf_former *out)
{
	FILE *f = fopen(run->names_path, "re");
	uint64_t cookie;
	int n;

	if (!f)
		return -errno;
	*out = (struct xf_former){ .names.table = 0 };
	n = fscanf(f, LINE, &cookie, out->tun, &out->names.mark_capture, &out->names.mark_bypass,
		   &out->names.table, &out->names.rule_priority);
	fclose(f);
	out->names.tun = out->tun;
	return n == 6 && cookie == run->cookie ? 0 : -ENOENT;
}

/* Under another name first: a file that is cut off would be none. */
int xf_former_write(const struct xf_rundir *run, const struct xf_io_names *names)
{
	char path[XF_RUN_PATH_MAX + 4];
	FILE *f;
	int err = 0;

	snprintf(path, sizeof(path), "%s.new", run->names_path);
	f = fopen(path, "we");
	if (!f)
		return -errno;
	if (fprintf(f, "%" PRIu64 " %s %u %u %u %u\n", run->cookie, names->tun, names->mark_capture,
		    names->mark_bypass, names->table, names->rule_priority) < 0)
		err = -EIO;
	if (fclose(f) && !err)
		err = -errno;
	if (!err && rename(path, run->names_path))
		err = -errno;
	if (err)
		unlink(path);
	return err;
}

void xf_former_remove(const struct xf_rundir *run)
{
	unlink(run->names_path);
}
