#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "table.h"

/* Pages of entries, made on demand: 2^20 descriptors, the kernel's default limit of fs.nr_open. */
#define PAGE_ENTRIES 1024
#define PAGES 1024

typedef _Atomic(struct xf_shim_sock *) entry;

static _Atomic(entry *) pages[PAGES];
/* Serialises writers; readers take nothing. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic pid_t owner;

static void note_owner(void)
{
	atomic_store(&owner, getpid());
}

__attribute__((constructor)) static void watch_forks(void)
{
	note_owner();
	pthread_atfork(NULL, NULL, note_owner);
}

static entry *entry_of(int fd)
{
	entry *page;

	if (fd < 0 || fd >= PAGES * PAGE_ENTRIES)
		return NULL;
	page = atomic_load_explicit(&pages[fd / PAGE_ENTRIES], memory_order_acquire);
	return page ? &page[fd % PAGE_ENTRIES] : NULL;
}

static void put(struct xf_shim_sock *sock)
{
	if (sock && atomic_fetch_sub(&sock->refs, 1) == 1)
		free(sock);
}

/* Entries are given up only here and in set(), which no correct program races with a use. */
static void forget(entry *e, struct xf_shim_sock *sock)
{
	/* A child between vfork() and exec works on its parent's memory: not its to change. */
	if (getpid() != atomic_load(&owner))
		return;
	if (atomic_compare_exchange_strong(e, &sock, NULL))
		put(sock);
}

struct xf_shim_sock *xf_shim_table_find(int fd)
{
	entry *e = entry_of(fd);
	struct xf_shim_sock *sock = e ? atomic_load_explicit(e, memory_order_acquire) : NULL;
	struct xf_inode_id now;
	int saved = errno;

	if (!sock)
		return NULL;
	if (xf_inode_of_fd(fd, &now) || !xf_inode_equal(&now, &sock->id)) {
		forget(e, sock);
		sock = NULL;
	}
	errno = saved;
	return sock;
}

static entry *make_entry(int fd)
{
	_Atomic(entry *) *page;

	if (fd < 0 || fd >= PAGES * PAGE_ENTRIES)
		return NULL;
	page = &pages[fd / PAGE_ENTRIES];
	if (!atomic_load(page))
		atomic_store(page, calloc(PAGE_ENTRIES, sizeof(entry)));
	return entry_of(fd);
}

/* Let @fd stand for @sock, whose reference the table takes. */
static int set(int fd, struct xf_shim_sock *sock)
{
	entry *e;

	pthread_mutex_lock(&lock);
	e = make_entry(fd);
	if (e)
		put(atomic_exchange(e, sock));
	pthread_mutex_unlock(&lock);
	return e ? 0 : -ENOMEM;
}

int xf_shim_table_add(int fd, int type)
{
	struct xf_shim_sock *sock = calloc(1, sizeof(*sock));
	int err = sock ? xf_inode_of_fd(fd, &sock->id) : -ENOMEM;

	if (!err) {
		sock->type = type;
		sock->refs = 1;
		err = set(fd, sock);
	}
	if (err)
		free(sock);
	return err;
}

void xf_shim_table_dup(int from, int to)
{
	struct xf_shim_sock *sock = xf_shim_table_find(from);

	if (!sock || to < 0 || to == from)
		return;
	atomic_fetch_add(&sock->refs, 1);
	if (set(to, sock))
		put(sock);
}
