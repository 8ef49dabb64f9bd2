/* /run/xfrmd: locks and paths, used by main.c, and by all who listen. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <xf/base.h>

#include "host/netns.h"
#include "rundir.h"

#define BACKLOG 128
#define LOCK_TRIES 10
#define LOCK_WAIT_MS 10

/* A directory that others may write to would let them put a socket of theirs in our place. */
static int make_dir(const char *dir)
{
	struct stat st;

	if (mkdir(dir, 0711) && errno != EEXIST)
		return -errno;
	if (lstat(dir, &st))
		return -errno;
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & (S_IWGRP | S_IWOTH)))
		return -EPERM;
	return 0;
}

/* Is @path still the file that @fd is? */
static bool is_same_file(int fd, const char *path)
{
	struct stat mine;
	struct stat there;

	return !fstat(fd, &mine) && !lstat(path, &there) && mine.st_dev == there.st_dev &&
	       mine.st_ino == there.st_ino;
}

/* The file at @path, locked: -EBUSY: by somebody else; -ESTALE: it was removed meanwhile. */
static int open_locked(const char *path, int flags, int *out)
{
	int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
	int err = 0;

	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB))
		err = errno == EWOULDBLOCK ? -EBUSY : -errno;
	else if (!is_same_file(fd, path))
		err = -ESTALE;
	if (err)
		close(fd);
	else
		*out = fd;
	return err;
}

/* For root alone: whoever can open the file can lock it. */
static int take_lock(struct xf_rundir *run)
{
	char text[32];
	int n = snprintf(text, sizeof(text), "%d\n", getpid());
	int tries = 0;
	int err;

	/* The daemon of another namespace may just be taking the file away (remove_stale()). */
	while ((err = open_locked(run->lock_path, O_RDWR | O_CREAT, &run->lock)) == -ESTALE ||
	       (err == -EBUSY && tries++ < LOCK_TRIES))
		poll(NULL, 0, LOCK_WAIT_MS);
	if (err)
		return err;
	/* An earlier version's could be opened by everybody, and held. */
	if (!fchmod(run->lock, 0600) && !ftruncate(run->lock, 0) &&
	    write(run->lock, text, (size_t)n) == n)
		return 0;
	err = -errno;
	close(run->lock);
	run->lock = -1;
	return err;
}

/*
 * Namespaces come and go, and what their daemons had here stays. Nobody holds the lock: then its
 * daemon is not running, and the next one makes all of this anew. Policies stay: they are what
 * comes back in a namespace that still is there.
 */
static void remove_if_stale(const struct xf_rundir *run, const char *dir, const char *lock_name)
{
	static const char *const suffixes[] = { "sock", "group", "ctl", "lock" };
	char path[PATH_MAX];
	int base = snprintf(path, sizeof(path), "%s/%s", dir, lock_name) - (int)strlen("lock");
	int fd = -1;

	if (!strcmp(path, run->lock_path) || open_locked(path, O_RDWR, &fd))
		return;
	/* The lock last: whoever finds none may start. */
	for (size_t i = 0; i < XF_ARRAY_SIZE(suffixes); i++) {
		snprintf(path + base, sizeof(path) - (size_t)base, "%s", suffixes[i]);
		unlink(path);
	}
	close(fd);
}

static void remove_stale(const struct xf_rundir *run, const char *dir)
{
	DIR *stream = opendir(dir);
	const struct dirent *entry;

	if (!stream)
		return;
	while ((entry = readdir(stream))) {
		const char *dot = strchr(entry->d_name, '.');

		if (dot && dot > entry->d_name && !strcmp(dot, ".lock") &&
		    strspn(entry->d_name, "0123456789") == (size_t)(dot - entry->d_name))
			remove_if_stale(run, dir, entry->d_name);
	}
	closedir(stream);
}

int xf_rundir_open(struct xf_rundir *run, const char *dir)
{
	int err = make_dir(dir);

	memset(run, 0, sizeof(*run));
	run->lock = -1;
	if (!err)
		err = xf_netns_self(&run->netns);
	if (!err)
		err = xf_peer_path(dir, "lock", run->lock_path, sizeof(run->lock_path));
	if (!err)
		err = xf_peer_path(dir, "sock", run->client_path, sizeof(run->client_path));
	if (!err)
		err = xf_peer_path(dir, XF_PEER_GROUP, run->group_path, sizeof(run->group_path));
	if (!err)
		err = xf_peer_path(dir, "ctl", run->ctl_path, sizeof(run->ctl_path));
	if (!err)
		err = xf_peer_path(dir, "policies", run->policies_path, sizeof(run->policies_path));
	if (!err)
		err = xf_peer_path(dir, "names", run->names_path, sizeof(run->names_path));
	if (err)
		return err;
	run->netns_fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (run->netns_fd < 0)
		return -errno;
	run->cookie = xf_netns_cookie();
	err = take_lock(run);
	if (err)
		close(run->netns_fd);
	else
		remove_stale(run, dir);
	return err;
}

int xf_rundir_listen(const char *path, int type, mode_t mode, gid_t group)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	strcpy(un.sun_path, path);
	unlink(path);
	/* Nobody can connect before listen(), so the mode is in force in time. */
	if (bind(fd, (struct sockaddr *)&un, sizeof(un)) ||
	    (group && chown(path, (uid_t)-1, group)) || chmod(path, mode) || listen(fd, BACKLOG)) {
		int err = -errno;

		close(fd);
		return err;
	}
	return fd;
}

void xf_rundir_close(struct xf_rundir *run)
{
	if (run->lock < 0)
		return;
	unlink(run->client_path);
	unlink(run->group_path);
	unlink(run->ctl_path);
	/* The lock file stays: another namespace's daemon removes it (remove_stale()). */
	close(run->lock);
	close(run->netns_fd);
	run->lock = -1;
}
