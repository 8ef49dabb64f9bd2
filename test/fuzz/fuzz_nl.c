/*
 * The netlink server under a sequence of datagrams: one client asks, another one listens to all
 * groups through a queue that is now and then full. The input is a list of
 *
 *   operation (1 byte), length (2 bytes, little endian), datagram
 *
 * so that later messages meet what earlier ones left in SAD and SPD. What comes back must be
 * whole netlink messages.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include <libmnl/libmnl.h>

#include <xf/rcu.h>

#include "nl/nl.h"
#include "nl/uapi.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum operation {
	OP_RAW = 1, /* else: the first message gets the datagram's length and NLM_F_REQUEST */
	OP_FULL = 2, /* the listener has no room */
	OP_SLOW = 4, /* the asking client has room for one datagram only */
	OP_LATER = 8, /* a minute passes */
	OP_OPTIONS = 16, /* no extended, but capped acknowledgements */
};

struct end {
	struct xf_nl_client *client;
	unsigned room;
};

struct world {
	struct xf_sad *sad;
	struct xf_spd *spd;
	struct xf_nl_server *server;
	struct end asks, listens;
	uint64_t now_ns;
};

static void random_bytes(void *arg, void *buf, size_t len)
{
	static uint32_t state = 1;

	(void)arg;
	for (size_t i = 0; i < len; i++) {
		state = state * 1664525 + 1013904223;
		((uint8_t *)buf)[i] = (uint8_t)(state >> 24);
	}
}

static void require(bool what)
{
	if (!what)
		abort();
}

static int receive(void *arg, const void *data, size_t len)
{
	const struct nlmsghdr *nlh = data;
	struct end *end = arg;
	int left = (int)len;

	if (!end->room)
		return -EAGAIN;
	end->room--;
	while (left > 0) {
		require(mnl_nlmsg_ok(nlh, left));
		nlh = mnl_nlmsg_next(nlh, &left);
	}
	require(left == 0);
	return 0;
}

static void add_client(struct world *w, struct end *end, uint32_t portid)
{
	struct xf_nl_client_config cfg = { .send = receive, .arg = end };

	require(xf_nl_client_new(w->server, &cfg, &end->client) == 0);
	xf_nl_client_set_portid(end->client, portid);
	end->room = UINT32_MAX;
}

static void begin(struct world *w)
{
	struct xf_sad_config sad = { .max_sas = 64,
				     .larval_lifetime_s = 30,
				     .random = random_bytes };
	struct xf_spd_config spd = { .max_policies = 64 };
	struct xf_nl_server_config cfg = { .random = random_bytes };

	memset(w, 0, sizeof(*w));
	cfg.sad = w->sad = xf_sad_new(&sad);
	cfg.spd = w->spd = xf_spd_new(&spd);
	w->server = xf_nl_server_new(&cfg);
	w->now_ns = 1000 * XF_NSEC_PER_SEC;
	add_client(w, &w->asks, 1000);
	add_client(w, &w->listens, 1001);
	xf_nl_client_set_groups(w->listens.client, UINT32_MAX);
}

static void end(struct world *w)
{
	xf_nl_client_free(w->asks.client);
	xf_nl_client_free(w->listens.client);
	xf_nl_server_free(w->server);
	xf_sad_free(w->sad);
	xf_spd_free(w->spd);
	xf_rcu_drain();
}

static void sa_event(void *arg, struct xf_sa *sa, enum xf_sa_event event)
{
	xf_nl_sa_expired(((struct world *)arg)->server, sa, event);
}

static void policy_event(void *arg, struct xf_policy *policy, bool hard)
{
	xf_nl_policy_expired(((struct world *)arg)->server, policy, hard);
}

/* The datagram is copied to a block of its own size, so that a read past its end is seen. */
static void request(struct world *w, unsigned op, const uint8_t *data, size_t len)
{
	uint8_t *copy = malloc(len ? len : 1);
	struct nlmsghdr *nlh = (struct nlmsghdr *)(void *)copy;

	require(copy != NULL);
	memcpy(copy, data, len);
	if (!(op & OP_RAW) && len >= NLMSG_HDRLEN) {
		nlh->nlmsg_len = (uint32_t)len;
		nlh->nlmsg_flags |= NLM_F_REQUEST;
	}
	xf_nl_client_request(w->asks.client, copy, len, w->now_ns);
	free(copy);
}

static void step(struct world *w, unsigned op, const uint8_t *data, size_t len)
{
	w->listens.room = op & OP_FULL ? 0 : UINT32_MAX;
	w->asks.room = op & OP_SLOW ? 1 : UINT32_MAX;
	xf_nl_client_set_options(w->asks.client, !(op & OP_OPTIONS), op & OP_OPTIONS, false);
	request(w, op, data, len);
	if (op & OP_LATER) {
		w->now_ns += 60 * XF_NSEC_PER_SEC;
		xf_sad_expire(w->sad, w->now_ns, sa_event, w);
		xf_spd_expire(w->spd, w->now_ns, policy_event, w);
	}
	xf_nl_client_writable(w->asks.client);
	xf_nl_client_writable(w->listens.client);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world w;

	begin(&w);
	while (size >= 3) {
		unsigned op = data[0];
		size_t len = (size_t)(data[1] | data[2] << 8);

		data += 3;
		size -= 3;
		len = len < size ? len : size;
		step(&w, op, data, len);
		data += len;
		size -= len;
	}
	end(&w);
	return 0;
}
