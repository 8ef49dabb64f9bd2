#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "rundir.h"

#define BACKLOG 128

/* A directory that others may write to would let them put a socket of theirs in our place. */
static int make_dir(const char *dir)
{
	struct stat st;

	if (mkdir(dir, 0755) && errno != EEXIST)
		return -errno;
	if (lstat(dir, &st))
		return -errno;
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & (S_IWGRP | S_IWOTH)))
		return -EPERM;
	return 0;
}

static int take_lock(struct xf_rundir *run)
{
	char text[32];
	int n = snprintf(text, sizeof(text), "%d\n", getpid());
	int err;

	run->lock = open(run->lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (run->lock < 0)
		return -errno;
	if (flock(run->lock, LOCK_EX | LOCK_NB)) {
		err = errno == EWOULDBLOCK ? -EBUSY : -errno;
		goto close_lock;
	}
	if (ftruncate(run->lock, 0) || write(run->lock, text, (size_t)n) != n) {
		err = -errno;
		goto close_lock;
	}
	return 0;
close_lock:
	close(run->lock);
	run->lock = -1;
	return err;
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
		err = xf_peer_path(dir, "ctl", run->ctl_path, sizeof(run->ctl_path));
	if (!err)
		err = xf_peer_path(dir, "policies", run->policies_path, sizeof(run->policies_path));
	if (err)
		return err;
	run->netns_fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (run->netns_fd < 0)
		return -errno;
	err = take_lock(run);
	if (err)
		close(run->netns_fd);
	return err;
}

int xf_rundir_listen(const char *path, int type, mode_t mode)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	strcpy(un.sun_path, path);
	unlink(path);
	/* Nobody can connect before listen(), so the mode is in force in time. */
	if (bind(fd, (struct sockaddr *)&un, sizeof(un)) || chmod(path, mode) ||
	    listen(fd, BACKLOG)) {
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
	unlink(run->ctl_path);
	/* The lock file stays: removing it would let two daemons hold locks on two files. */
	close(run->lock);
	close(run->netns_fd);
	run->lock = -1;
}
