/*
 * Netlink sockets of clients: what comes on them goes to the netlink server, what that says goes
 * back. Called by service.c and the loop. Clients come from greeters (greeter.h), checked.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <linux/netlink.h>

#include "clients.h"
#include "greet.h"
#include "greeter.h"
#include "daemon/log.h"

/* The queue towards a client: half of net.core.rmem_default, because the kernel doubles it. */
#define QUEUE_DEFAULT (212992 / 2)
#define QUEUE_MAX (64u * 1024 * 1024)

/* A netlink socket. */
struct client {
	struct xf_watch watch;
	struct xf_clients *owner;
	struct xf_nl_client *nl;
	uint32_t portid;
	bool wants_room; /* it is in the owner's set of those who wait */
	struct client *next;
};

/* Where clients come from: root's socket, and that of a group. */
enum door { DOOR_ROOT, DOOR_GROUP, DOORS };

struct entrance {
	struct xf_clients *owner;
	struct xf_greeter *greeter; /* NULL: there is none */
	struct xf_watch watch;
};

struct xf_clients {
	struct xf_clients_config cfg;
	struct entrance doors[DOORS];
	struct client *list;
	struct xf_watch room; /* an epoll set of those who wait */
	unsigned waiting;
	struct xf_clients_stats stats;
	struct xf_log_limit refusals;
	uint8_t request[sizeof(struct xf_shim_msg) + XF_SHIM_REQUEST_MAX];
};

/*
 * Those who wait are in an epoll set of their own, which is in the loop's: one look at it tells who
 * has made room, however many have not.
 */
static void wait_for_room(struct client *client, bool on)
{
	struct xf_clients *owner = client->owner;
	struct epoll_event event = { .events = EPOLLOUT, .data.ptr = client };

	if (client->wants_room == on ||
	    epoll_ctl(owner->room.fd, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, client->watch.fd, &event))
		return;
	client->wants_room = on;
	owner->waiting += on ? 1 : -1u;
}

/* Each who has room now gets what waits for it; whoever is full again has to wait. */
static void go_on(struct xf_clients *owner)
{
	struct epoll_event event;

	for (unsigned n = owner->waiting; n && epoll_wait(owner->room.fd, &event, 1, 0) == 1; n--) {
		struct client *client = event.data.ptr;

		wait_for_room(client, false);
		xf_nl_client_writable(client->nl);
	}
}

static void room_ready(void *arg, uint32_t events)
{
	(void)events;
	go_on(arg);
}

static void drop(struct client *client)
{
	struct xf_clients *owner = client->owner;
	struct client **at = &owner->list;

	while (*at != client)
		at = &(*at)->next;
	*at = client->next;
	wait_for_room(client, false);
	xf_loop_remove(owner->cfg.loop, &client->watch);
	xf_nl_client_free(client->nl);
	owner->stats.now--;
	close(client->watch.fd);
	free(client);
}

static int send_datagram(void *arg, const void *data, size_t len)
{
	struct client *client = arg;
	ssize_t n = send(client->watch.fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n >= 0)
		return 0;
	if (errno != EAGAIN)
		return -errno;
	wait_for_room(client, true);
	return -EAGAIN;
}

static bool portid_taken(const struct xf_clients *owner, uint32_t portid)
{
	for (const struct client *c = owner->list; c; c = c->next) {
		if (c->portid == portid)
			return true;
	}
	return false;
}

/* As netlink_autobind(): the process id when it is free, else a random one from 2^31 up. */
static uint32_t choose_portid(const struct xf_clients *owner, uint32_t pid)
{
	uint32_t id = pid;

	while (id == 0 || portid_taken(owner, id)) {
		if (getrandom(&id, sizeof(id), 0) != sizeof(id))
			id++;
		id |= 0x80000000u;
	}
	return id;
}

static int bind_portid(struct client *client, const struct xf_shim_msg *msg, uint32_t *value)
{
	uint32_t portid = msg->a;

	if (!portid)
		portid = client->portid ? client->portid : choose_portid(client->owner, msg->b);
	else if (portid != client->portid && portid_taken(client->owner, portid))
		return -EADDRINUSE;
	client->portid = portid;
	xf_nl_client_set_portid(client->nl, portid);
	xf_nl_client_set_groups(client->nl, msg->c);
	*value = portid;
	return 0;
}

/* Twice what is asked for, as setsockopt(SO_RCVBUF) does; the kernel does that here. */
static int set_queue(struct client *client, uint32_t bytes, bool forced)
{
	int option = forced ? SO_SNDBUFFORCE : SO_SNDBUF;
	int value = (int)xf_min_u32(bytes, QUEUE_MAX);

	return setsockopt(client->watch.fd, SOL_SOCKET, option, &value, sizeof(value)) ? -errno : 0;
}

static bool has_option(uint32_t options, int option)
{
	return (options >> option) & 1;
}

static void request(struct client *client, const void *data, size_t len)
{
	struct xf_clients *owner = client->owner;
	uint64_t now_ns = xf_clock_ns();

	owner->stats.requests++;
	/* Who has read what there was hears of this one. */
	go_on(owner);
	xf_nl_client_request(client->nl, data, len, now_ns);
	owner->cfg.served(owner->cfg.arg, now_ns);
}

static int act(struct client *client, const struct xf_shim_msg *msg, size_t len, uint32_t *value)
{
	switch (msg->kind) {
	case XF_SHIM_REQUEST:
		request(client, msg + 1, len - sizeof(*msg));
		return 0;
	case XF_SHIM_BIND:
		return bind_portid(client, msg, value);
	case XF_SHIM_GROUPS:
		xf_nl_client_set_groups(client->nl, msg->a);
		return 0;
	case XF_SHIM_OPTIONS:
		xf_nl_client_set_options(client->nl, has_option(msg->a, NETLINK_EXT_ACK),
					 has_option(msg->a, NETLINK_CAP_ACK),
					 has_option(msg->a, NETLINK_GET_STRICT_CHK));
		return 0;
	case XF_SHIM_RCVBUF:
		return set_queue(client, msg->a, msg->b != 0);
	default:
		return -EPROTO;
	}
}

/* A datagram with a token: the sender waits for the result. */
static void act_for(struct client *client, size_t len, int token)
{
	const struct xf_shim_msg *msg = (const void *)client->owner->request;
	struct xf_shim_result res = { .status = -EPROTO };

	if (len >= sizeof(*msg) && msg->magic == XF_SHIM_MAGIC)
		res.status = act(client, msg, len, &res.value);
	xf_peer_send(token, &res, sizeof(res), NULL, 0, MSG_DONTWAIT);
}

static void receive(struct client *client)
{
	struct xf_clients *owner = client->owner;
	int fds[XF_PEER_FDS];
	unsigned nfds;
	ssize_t n = xf_peer_recv(client->watch.fd, owner->request, sizeof(owner->request), fds,
				 &nfds, MSG_DONTWAIT);

	/* An empty datagram without a token looks like the end; nothing useful is empty. */
	if (n == 0 || (n < 0 && n != -EAGAIN && n != -EMSGSIZE))
		drop(client);
	else if (n > 0 && nfds)
		act_for(client, (size_t)n, fds[0]);
	else if (n > 0)
		request(client, owner->request, (size_t)n);
	while (nfds)
		close(fds[--nfds]);
	/* Keys were in it. */
	if (n > 0)
		xf_wipe(owner->request, (size_t)n);
}

static void client_ready(void *arg, uint32_t events)
{
	struct client *client = arg;

	if (events & EPOLLIN)
		receive(client);
	else if (events & (EPOLLHUP | EPOLLERR))
		drop(client);
}

/* Into the list and the loop: from then on drop() is what ends @client. */
static int join(struct client *client)
{
	struct xf_clients *owner = client->owner;
	int err;

	if (owner->stats.now >= owner->cfg.max)
		return -EMFILE;
	err = xf_loop_add(owner->cfg.loop, &client->watch, EPOLLIN);
	if (err)
		return err;
	client->next = owner->list;
	owner->list = client;
	owner->stats.now++;
	owner->stats.accepted++;
	return 0;
}

/* On an error @fd stays the caller's. */
static int start_netlink(struct xf_clients *owner, int fd)
{
	struct xf_nl_client_config cfg = { .send = send_datagram };
	struct client *client = calloc(1, sizeof(*client));
	int err;

	if (!client)
		return -ENOMEM;
	client->owner = owner;
	client->watch = (struct xf_watch){ .fd = fd, .ready = client_ready, .arg = client };
	cfg.arg = client;
	err = xf_nl_client_new(owner->cfg.server, &cfg, &client->nl);
	if (err)
		goto free_client;
	err = join(client);
	if (err)
		goto free_nl;
	/* In a user namespace it may not be forced: the default is as good. */
	set_queue(client, QUEUE_DEFAULT, true);
	return 0;
free_nl:
	xf_nl_client_free(client->nl);
free_client:
	free(client);
	return err;
}

/* Somebody has shown CAP_NET_ADMIN, and waits for a welcome. */
static void door_ready(void *arg, uint32_t events)
{
	const struct entrance *door = arg;
	struct xf_clients *owner = door->owner;
	struct xf_greeted who;
	int fds[XF_PEER_FDS];
	int err;

	(void)events;
	if (xf_greeter_take(door->greeter, &who, fds))
		return;
	err = start_netlink(owner, fds[0]);
	if (err) {
		owner->stats.refused++;
		close(fds[0]);
		if (xf_log_may(&owner->refusals, xf_clock_ns()))
			xf_log(XF_LOG_NOTICE, "a netlink client, pid %d of uid %u, was refused: %s",
			       who.pid, who.uid, strerror(-err));
	}
	xf_greet_answer(fds[1], owner->cfg.run, err, owner->cfg.bypass_mark);
	close(fds[1]);
}

static int open_door(struct xf_clients *clients, enum door which,
		     const struct xf_greeter_config *cfg)
{
	struct entrance *door = &clients->doors[which];
	int err = xf_greeter_new(cfg, &door->greeter);

	if (err)
		return err;
	door->owner = clients;
	door->watch = (struct xf_watch){ .fd = xf_greeter_fd(door->greeter),
					 .ready = door_ready,
					 .arg = door };
	return xf_loop_add(clients->cfg.loop, &door->watch, EPOLLIN);
}

/* Two sockets, so that members of the group have no queue in common with root. */
static int open_doors(struct xf_clients *clients)
{
	const struct xf_clients_config *cfg = &clients->cfg;
	const struct xf_greeter_config root = { .run = cfg->run,
						.path = cfg->run->client_path,
						.mode = 0600,
						.bypass_mark = cfg->bypass_mark };
	const struct xf_greeter_config group = { .run = cfg->run,
						 .path = cfg->run->group_path,
						 .mode = 0660,
						 .group = cfg->group,
						 .counted = true,
						 .bypass_mark = cfg->bypass_mark };
	int err = open_door(clients, DOOR_ROOT, &root);

	/* What a daemon with another configuration left behind. */
	unlink(cfg->run->group_path);
	if (err || cfg->group == 0)
		return err;
	return open_door(clients, DOOR_GROUP, &group);
}

int xf_clients_new(const struct xf_clients_config *cfg, struct xf_clients **out)
{
	struct xf_clients *clients = calloc(1, sizeof(*clients));
	int err;

	if (!clients)
		return -ENOMEM;
	clients->cfg = *cfg;
	clients->room = (struct xf_watch){ .fd = epoll_create1(EPOLL_CLOEXEC),
					   .ready = room_ready,
					   .arg = clients };
	err = clients->room.fd < 0 ? -errno : xf_loop_add(cfg->loop, &clients->room, EPOLLIN);
	if (!err)
		err = open_doors(clients);
	if (err) {
		xf_clients_free(clients);
		return err;
	}
	*out = clients;
	return 0;
}

void xf_clients_free(struct xf_clients *clients)
{
	if (!clients)
		return;
	while (clients->list)
		drop(clients->list);
	for (unsigned i = 0; i < DOORS; i++) {
		struct entrance *door = &clients->doors[i];

		if (door->watch.ready)
			xf_loop_remove(clients->cfg.loop, &door->watch);
		xf_greeter_free(door->greeter);
	}
	if (clients->room.fd >= 0)
		close(clients->room.fd);
	free(clients);
}

static const struct xf_counter_desc descs[] = { XF_CLIENTS_COUNTERS(XF_COUNTER_DESC,
								    struct xf_clients_stats) };
const struct xf_counter_group xf_clients_counters = { "clients", descs, XF_ARRAY_SIZE(descs) };

void xf_clients_get_stats(const struct xf_clients *clients, struct xf_clients_stats *out)
{
	*out = clients->stats;
	for (unsigned i = 0; i < DOORS; i++) {
		if (clients->doors[i].greeter)
			out->refused += xf_greeter_refused(clients->doors[i].greeter);
	}
}
