/*
 * Makes and deletes our nftables tables, and finds the socket of libnftables for it; kernel.c calls
 * it.
 *
 * libnftables cannot say "persist" before 1.1, and hands its socket to nobody. But a socket is a
 * descriptor of this process: it is the one of NETLINK_NETFILTER that comes with the context.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <netinet/in.h> /* before Linux's headers */
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <nftables/libnftables.h>

#include "capture/nft/nft_batch.h"
#include "capture/nft/nft_table.h"
#include "host/rtnl.h"

#define PERSIST (1u << 2) /* NFT_TABLE_F_PERSIST; Linux's headers may be older */
#define OWNED (NFT_TABLE_F_OWNER | PERSIST)
#define PROBE "xfrmd_probe"
#define SOCKETS 16

#define OWNER_TRIES 500
#define OWNER_WAIT_NS (20 * 1000 * 1000)

/* --- libnftables' socket --- */

struct sockets {
	int fd[SOCKETS];
	unsigned n;
};

static int option(int fd, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, name, &value, &len) ? -1 : value;
}

/* Those of NETLINK_NETFILTER. False: they are not known. */
static bool list_sockets(struct sockets *out)
{
	DIR *dir = opendir("/proc/thread-self/fd");
	const struct dirent *entry;

	out->n = 0;
	while (dir && out->n < SOCKETS && (entry = readdir(dir))) {
		int fd = atoi(entry->d_name);

		if (*entry->d_name != '.' && option(fd, SO_DOMAIN) == AF_NETLINK &&
		    option(fd, SO_PROTOCOL) == NETLINK_NETFILTER)
			out->fd[out->n++] = fd;
	}
	if (dir)
		closedir(dir);
	return dir && out->n < SOCKETS;
}

static bool has(const struct sockets *sockets, int fd)
{
	for (unsigned i = 0; i < sockets->n; i++) {
		if (sockets->fd[i] == fd)
			return true;
	}
	return false;
}

/* The only one that was not there @before, for us to keep; -1: there are none, or more. */
static int find_socket(const struct sockets *before)
{
	struct sockets now;
	int found = -1;

	if (!list_sockets(&now) || now.n != before->n + 1)
		return -1;
	for (unsigned i = 0; i < now.n; i++) {
		if (!has(before, now.fd[i]))
			found = now.fd[i];
	}
	return found < 0 ? -1 : fcntl(found, F_DUPFD_CLOEXEC, 0);
}

int xf_nft_open(struct nft_ctx **nft, struct xf_nft_batch **batch, bool *shared)
{
	struct sockets before;
	bool known = list_sockets(&before);
	int fd, err;

	*nft = nft_ctx_new(NFT_CTX_DEFAULT);
	if (!*nft)
		return -ENOMEM;
	nft_ctx_buffer_output(*nft);
	nft_ctx_buffer_error(*nft);
	fd = known ? find_socket(&before) : -1;
	*shared = fd < 0;
	err = xf_nft_batch_new(fd, batch);
	if (err) {
		nft_ctx_free(*nft);
		*nft = NULL;
	}
	return err;
}

/* --- tables --- */

static int change(struct xf_nft_batch *batch, uint8_t kind, uint8_t family, const char *name,
		  uint32_t flags)
{
	uint16_t create = kind == NFT_MSG_NEWTABLE ? NLM_F_CREATE : 0;
	struct nlmsghdr *msg = xf_nft_batch_add(batch, kind, family, create);

	mnl_attr_put_strz(msg, NFTA_TABLE_NAME, name);
	if (kind == NFT_MSG_NEWTABLE)
		mnl_attr_put_u32(msg, NFTA_TABLE_FLAGS, htonl(flags));
	return xf_nft_batch_commit(batch);
}

/* With a table of no use: what was tried on our own would have to be undone. */
bool xf_nft_can_own(struct nft_ctx *nft, struct xf_nft_batch *batch)
{
	bool can;

	if (change(batch, NFT_MSG_NEWTABLE, NFPROTO_INET, PROBE, OWNED) < 0)
		return false;
	can = nft_run_cmd_from_buffer(nft, "add chain inet " PROBE " c") == 0;
	return change(batch, NFT_MSG_DELTABLE, NFPROTO_INET, PROBE, 0) == 0 && can;
}

int xf_nft_table_make(struct xf_nft_batch *batch, enum xf_nft_family family, bool own)
{
	uint32_t flags = own ? OWNED : 0;
	int err = change(batch, NFT_MSG_NEWTABLE, (uint8_t)family, XF_NFT_TABLE, flags);

	/* An orphan stays one. */
	if (err == -EOPNOTSUPP && !own)
		err = change(batch, NFT_MSG_NEWTABLE, (uint8_t)family, XF_NFT_TABLE, PERSIST);
	return err;
}

int xf_nft_table_delete(struct xf_nft_batch *batch, enum xf_nft_family family)
{
	int err = change(batch, NFT_MSG_DELTABLE, (uint8_t)family, XF_NFT_TABLE, 0);

	return err == -ENOENT ? 0 : err;
}

/* Nobody has such a chain; who may not change the table is told that first. */
static bool is_of_another(struct xf_nft_batch *batch)
{
	struct nlmsghdr *msg = xf_nft_batch_add(batch, NFT_MSG_DELCHAIN, NFPROTO_INET, 0);

	mnl_attr_put_strz(msg, NFTA_CHAIN_TABLE, XF_NFT_TABLE);
	mnl_attr_put_strz(msg, NFTA_CHAIN_NAME, PROBE);
	return xf_nft_batch_commit(batch) == -EPERM;
}

void xf_nft_table_await(struct xf_nft_batch *batch)
{
	const struct timespec wait = { .tv_nsec = OWNER_WAIT_NS };

	for (unsigned i = 0; i < OWNER_TRIES && is_of_another(batch); i++)
		nanosleep(&wait, NULL);
}
