/*
 * Server and clients: their lives, and how datagrams leave.
 *
 * A datagram that a slow reader has no room for is lost, as in the kernel, except those of a dump,
 * which waits. The kernel then fails the reader's next recv() with ENOBUFS; an empty datagram, as
 * soon as there is room, asks the owner of the socket for the same.
 */
#include <stdlib.h>
#include <unistd.h>

#include "nl/internal.h"

struct xf_nl_server *xf_nl_server_new(const struct xf_nl_server_config *cfg)
{
	struct xf_nl_server *server = calloc(1, sizeof(*server));
	long cpus = sysconf(_SC_NPROCESSORS_CONF);

	if (!server)
		return NULL;
	server->cfg = *cfg;
	server->cpus = cpus > 0 ? (uint32_t)cpus : 1;
	server->thresh4 = (struct xfrmu_spdhthresh){ 32, 32 };
	server->thresh6 = (struct xfrmu_spdhthresh){ 128, 128 };
	return server;
}

void xf_nl_server_free(struct xf_nl_server *server)
{
	free(server);
}

int xf_nl_client_new(struct xf_nl_server *server, const struct xf_nl_client_config *cfg,
		     struct xf_nl_client **out)
{
	struct xf_nl_client *client = calloc(1, sizeof(*client));

	if (!client)
		return -ENOMEM;
	client->server = server;
	client->cfg = *cfg;
	client->next = server->clients;
	server->clients = client;
	*out = client;
	return 0;
}

void xf_nl_client_free(struct xf_nl_client *client)
{
	struct xf_nl_client **link = &client->server->clients;

	while (*link != client)
		link = &(*link)->next;
	*link = client->next;
	xf_nl_dump_free(client);
	free(client);
}

void xf_nl_client_set_portid(struct xf_nl_client *client, uint32_t portid)
{
	client->portid = portid;
}

void xf_nl_client_set_groups(struct xf_nl_client *client, uint32_t groups)
{
	client->groups = groups;
}

/* Strict checking concerns the dumps of other families only: xfrm_user parses them liberally. */
void xf_nl_client_set_options(struct xf_nl_client *client, bool ext_ack, bool cap_ack, bool strict)
{
	(void)strict;
	client->ext_ack = ext_ack;
	client->cap_ack = cap_ack;
}

void xf_nl_settle(struct xf_nl_server *server)
{
	if (!server->spd_dirty)
		return;
	server->spd_dirty = false;
	if (server->cfg.spd_changed)
		server->cfg.spd_changed(server->cfg.arg);
}

/* An empty datagram: see nl.h. */
static int send_overrun(struct xf_nl_client *client)
{
	return client->cfg.send(client->cfg.arg, "", 0);
}

/*
 * A reader that has lost something gets nothing until it has made room (xf_nl_client_writable()),
 * as in the kernel (NETLINK_S_CONGESTED): hundreds that never read cost an event nothing.
 */
int xf_nl_try_send(struct xf_nl_client *client, const void *data, size_t len)
{
	int err;

	if (!client->cfg.inside)
		xf_nl_settle(client->server);
	if (client->gone)
		return -EPIPE;
	if (client->overrun)
		return -EAGAIN;
	err = client->cfg.send(client->cfg.arg, data, len);
	client->gone = err && err != -EAGAIN;
	return err;
}

void xf_nl_send(struct xf_nl_client *client, const void *data, size_t len)
{
	if (xf_nl_try_send(client, data, len))
		client->overrun = true;
}

bool xf_nl_has_listeners(const struct xf_nl_server *server, unsigned group)
{
	for (const struct xf_nl_client *c = server->clients; c; c = c->next) {
		if (c->groups & XF_NL_GROUP(group))
			return true;
	}
	return false;
}

static void send_to_group(struct xf_nl_server *server, const struct xf_nl_msg *msg, unsigned group,
			  bool inside)
{
	for (struct xf_nl_client *c = server->clients; c; c = c->next) {
		if (c->cfg.inside == inside && (c->groups & XF_NL_GROUP(group)))
			xf_nl_send(c, msg->buf, msg->nlh->nlmsg_len);
	}
}

void xf_nl_multicast(struct xf_nl_server *server, const struct xf_nl_msg *msg, unsigned group)
{
	send_to_group(server, msg, group, true);
	send_to_group(server, msg, group, false);
}

void xf_nl_client_writable(struct xf_nl_client *client)
{
	if (client->overrun && !client->gone) {
		int err = send_overrun(client);

		client->overrun = err == -EAGAIN;
		client->gone = err && err != -EAGAIN;
	}
	xf_nl_dump_continue(client);
}
