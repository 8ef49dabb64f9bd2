/* Files of a BPF file system that hold links; capture's devices and ring.c call it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <bpf/bpf.h>

#include "host/netns.h"
#include "host/pins.h"

#define BPF_FS 0xcafe4a11 /* BPF_FS_MAGIC */
#define PATH_MAX_LEN 256

static const char *side_name(enum xf_tcx_side side)
{
	return side == XF_TCX_EGRESS ? "egress" : "ingress";
}

void xf_pins_init(struct xf_pins *pins, const char *bpffs)
{
	snprintf(pins->top, sizeof(pins->top), "%.*s/xfrmd", XF_PINS_FS_MAX - 1, bpffs);
	pins->cookie = xf_netns_cookie();
	snprintf(pins->dir, sizeof(pins->dir), "%s/%" PRIx64, pins->top, pins->cookie);
}

/* In a file system that everybody may write to somebody may have been first. */
static int check_dir(const char *path)
{
	struct stat st;

	if (lstat(path, &st))
		return -errno;
	return S_ISDIR(st.st_mode) && st.st_uid == geteuid() && !(st.st_mode & 022) ? 0 : -EPERM;
}

static int make_dir(const char *path)
{
	if (mkdir(path, 0700) && errno != EEXIST)
		return -errno;
	return check_dir(path);
}

int xf_pins_make(const struct xf_pins *pins)
{
	char fs[sizeof(pins->top)];
	struct statfs st;
	int err;

	snprintf(fs, sizeof(fs), "%.*s", (int)(strrchr(pins->top, '/') - pins->top), pins->top);
	if (statfs(fs, &st))
		return -errno;
	if ((unsigned long)st.f_type != BPF_FS)
		return -ENOTTY;
	err = make_dir(pins->top);
	return err ? err : make_dir(pins->dir);
}

static void name(const struct xf_pins *pins, uint32_t ifindex, enum xf_tcx_side side,
		 char path[PATH_MAX_LEN])
{
	snprintf(path, PATH_MAX_LEN, "%s/%" PRIu32 "-%s", pins->dir, ifindex, side_name(side));
}

int xf_pins_get(const struct xf_pins *pins, uint32_t ifindex, enum xf_tcx_side side)
{
	char path[PATH_MAX_LEN];

	name(pins, ifindex, side, path);
	return bpf_obj_get(path);
}

int xf_pins_put(const struct xf_pins *pins, uint32_t ifindex, enum xf_tcx_side side, int link)
{
	char path[PATH_MAX_LEN];
	int err;

	name(pins, ifindex, side, path);
	err = bpf_obj_pin(link, path);
	if (err == -ENOENT && xf_pins_make(pins) == 0)
		err = bpf_obj_pin(link, path);
	if (err != -EEXIST)
		return err;
	xf_pins_drop(pins, ifindex, side);
	return bpf_obj_pin(link, path);
}

static void drop(const char *path)
{
	int link = bpf_obj_get(path);

	if (link >= 0) {
		bpf_link_detach(link);
		close(link);
	}
	if (link != -ENOENT)
		unlink(path);
}

void xf_pins_drop(const struct xf_pins *pins, uint32_t ifindex, enum xf_tcx_side side)
{
	char path[PATH_MAX_LEN];

	name(pins, ifindex, side, path);
	drop(path);
}

static bool parse(const char *file, uint32_t *ifindex, enum xf_tcx_side *side)
{
	char word[8] = "";

	if (sscanf(file, "%" SCNu32 "-%7s", ifindex, word) != 2)
		return false;
	*side = strcmp(word, side_name(XF_TCX_EGRESS)) == 0 ? XF_TCX_EGRESS : XF_TCX_INGRESS;
	return strcmp(word, side_name(*side)) == 0;
}

void xf_pins_each(const struct xf_pins *pins,
		  void (*visit)(void *arg, uint32_t ifindex, enum xf_tcx_side side), void *arg)
{
	DIR *dir = opendir(pins->dir);
	const struct dirent *entry;
	enum xf_tcx_side side;
	uint32_t ifindex;

	while (dir && (entry = readdir(dir)))
		if (parse(entry->d_name, &ifindex, &side))
			visit(arg, ifindex, side);
	if (dir)
		closedir(dir);
}

/* A link of no device never gets one again. */
static void drop_if_gone(const char *path)
{
	int link = bpf_obj_get(path);
	struct xf_tcx_info info;

	if (link >= 0 && xf_tcx_info(link, &info) == 0 && !info.ifindex)
		unlink(path);
	if (link >= 0)
		close(link);
}

static void sweep(const char *path)
{
	DIR *dir = opendir(path);
	const struct dirent *entry;
	char file[2 * PATH_MAX_LEN];

	while (dir && (entry = readdir(dir))) {
		snprintf(file, sizeof(file), "%s/%.64s", path, entry->d_name);
		if (*entry->d_name != '.')
			drop_if_gone(file);
	}
	if (dir)
		closedir(dir);
	unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

void xf_pins_sweep(const struct xf_pins *pins)
{
	DIR *dir = check_dir(pins->top) ? NULL : opendir(pins->top);
	const struct dirent *entry;
	char path[PATH_MAX_LEN];

	while (dir && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), "%s/%.64s", pins->top, entry->d_name);
		if (*entry->d_name != '.')
			sweep(path);
	}
	if (!dir)
		return;
	closedir(dir);
	unlinkat(AT_FDCWD, pins->top, AT_REMOVEDIR);
}
