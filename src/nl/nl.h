/*
 * nl.h - the XFRM netlink server, without a socket: requests in, datagrams out.
 *
 * A server acts on one SAD and one SPD as the kernel's xfrm_user does. A client is one netlink
 * socket. Whoever owns the real socket feeds requests in and takes datagrams through a callback,
 * so that unit tests and fuzzers need no socket.
 *
 * Control thread only. Functions return 0 or -errno.
 */
#ifndef XF_NL_NL_H
#define XF_NL_NL_H

#include <xf/sad.h>
#include <xf/spd.h>

struct xf_nl_server;
struct xf_nl_client;

struct xf_nl_server_config {
	struct xf_sad *sad;
	struct xf_spd *spd;
	/* Random bytes: IV seeds. */
	void (*random)(void *arg, void *buf, size_t len);
	/* A request is about to change the SPD, whose policies will take @more bytes more in a dump
	 * (0: no more than now). An error refuses it, with a sentence in *@why that lasts as long
	 * as the server, and nothing has changed. NULL is allowed. */
	int (*spd_reserve)(void *arg, size_t more, const char **why);
	/* The SPD has changed: capture follows. Called once for as many requests as nobody is told
	 * of, and before anybody is: protection is in force by then. */
	void (*spd_changed)(void *arg);
	/* An SA is about to come, or to be reconfigured as @sa says. An error refuses it, with a
	 * sentence in *@why that lasts until the next call. NULL is allowed. */
	int (*sa_wanted)(void *arg, const struct xf_sa *sa, const char **why);
	/* An SA has come (@sa) or been reconfigured: path MTU follows. */
	void (*sa_changed)(void *arg, struct xf_sa *sa);
	void *arg;
};

struct xf_nl_server *xf_nl_server_new(const struct xf_nl_server_config *cfg);
void xf_nl_server_free(struct xf_nl_server *server); /* its clients first */

/*
 * A netlink socket. @send gets whole datagrams and returns 0, -EAGAIN (the reader is slow: a dump
 * waits for xf_nl_client_writable(), anything else is lost), or another error: the client is gone.
 * A datagram of length 0 comes when there is room again after a loss: it stands for ENOBUFS.
 */
struct xf_nl_client_config {
	int (*send)(void *arg, const void *data, size_t len);
	void *arg;
	/* The daemon's own: it hears of a policy first, before spd_changed() is called. */
	bool inside;
};
int xf_nl_client_new(struct xf_nl_server *server, const struct xf_nl_client_config *cfg,
		     struct xf_nl_client **out);
void xf_nl_client_free(struct xf_nl_client *client);

/* Bytes of the message that a dump or an announcement has for such a policy. */
size_t xf_nl_policy_bytes(const struct xf_policy_config *cfg);

/* What bind(), getsockname() and setsockopt(SOL_NETLINK) said on the client's side. */
void xf_nl_client_set_portid(struct xf_nl_client *client, uint32_t portid);
void xf_nl_client_set_groups(struct xf_nl_client *client, uint32_t groups);
void xf_nl_client_set_options(struct xf_nl_client *client, bool ext_ack, bool cap_ack, bool strict);

/* One datagram from the client: one or more messages (RFC 3549 s2.3.2), aligned to 4 bytes. */
void xf_nl_client_request(struct xf_nl_client *client, const void *data, size_t len,
			  uint64_t now_ns);

/* The client's socket has room again: go on with its dump. */
void xf_nl_client_writable(struct xf_nl_client *client);

/* Lifetimes ran out: tell the groups that listen (XFRM_MSG_EXPIRE, XFRM_MSG_POLEXPIRE). */
void xf_nl_sa_expired(struct xf_nl_server *server, struct xf_sa *sa, enum xf_sa_event event);
void xf_nl_policy_expired(struct xf_nl_server *server, struct xf_policy *policy, bool hard);

#endif
