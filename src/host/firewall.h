/*
 * firewall.h - does anybody else judge or change what this host sends or receives?
 *
 * Packet sockets send past the netfilter hooks "output" and "postrouting". That is allowed only
 * where nothing but the daemon's own table hangs there: nftables chains with rules or a policy
 * drop, and any table of the older iptables, stand in the way. (Hooks of a device, tc and its
 * queue are behind packet sockets too and do not matter.) The same goes for "prerouting", "input"
 * and the devices' ingress where ESP is received ahead of them (ring.h).
 *
 * Control thread. nftables tells of changes at once; iptables does not, so ask again now and then.
 */
#ifndef XF_HOST_FIREWALL_H
#define XF_HOST_FIREWALL_H

#include "host/names.h"

#define XF_FIREWALL_WHY_MAX 160

struct xf_firewall;

int xf_firewall_new(struct xf_firewall **out, struct xf_io_error *error);
void xf_firewall_free(struct xf_firewall *firewall); /* NULL is allowed */

/* A descriptor that is readable when nftables' rules have changed. */
int xf_firewall_fd(const struct xf_firewall *firewall);

/* Forget what it told. True: something has changed that is not the daemon's own. */
bool xf_firewall_dispatch(struct xf_firewall *firewall);

/* What stands in the way, or that the rules cannot be read; "": nothing does. */
struct xf_firewall_why {
	char output[XF_FIREWALL_WHY_MAX];
	char input[XF_FIREWALL_WHY_MAX];
	bool nat; /* somebody else's NAT is there, or cannot be ruled out */
};

/* Look at the rules in force. */
void xf_firewall_look(struct xf_firewall *firewall, struct xf_firewall_why *out);

/* A base chain as nftables shows it. */
struct xf_firewall_chain {
	uint8_t family; /* NFPROTO_* */
	uint32_t hook; /* NF_INET_* */
	bool drops; /* by its policy */
	uint32_t rules;
	const char *table;
	const char *name;
	const char *type; /* "filter", "nat", "route" */
};

/* Does @chain see what is sent, or what is received for this host, is it another program's, and
 * could it make a difference? */
enum xf_firewall_way { XF_FIREWALL_NEITHER, XF_FIREWALL_OUTPUT, XF_FIREWALL_INPUT };
enum xf_firewall_way xf_firewall_matters(const struct xf_firewall_chain *chain);

/* Is @chain another program's, and does it translate addresses? With rules or without: they come
 * later, and conntrack is on already. */
bool xf_firewall_translates(const struct xf_firewall_chain *chain);

#endif
