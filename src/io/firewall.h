/*
 * firewall.h - does anybody else judge or change what this host sends?
 *
 * Packet sockets send past the netfilter hooks "output" and "postrouting". That is allowed only
 * where nothing but the daemon's own table hangs there: nftables chains with rules or a policy
 * drop, and any table of the older iptables, stand in the way. (Hooks of a device, tc and its
 * queue are behind packet sockets too and do not matter.)
 *
 * Control thread. nftables tells of changes at once; iptables does not, so ask again now and then.
 */
#ifndef XF_IO_FIREWALL_H
#define XF_IO_FIREWALL_H

#include "io/io.h"

#define XF_FIREWALL_WHY_MAX 160

struct xf_firewall;

int xf_firewall_new(struct xf_firewall **out, struct xf_io_error *error);
void xf_firewall_free(struct xf_firewall *firewall); /* NULL is allowed */

/* A descriptor that is readable when nftables' rules have changed. */
int xf_firewall_fd(const struct xf_firewall *firewall);

/* Forget what it told. True: something has changed. */
bool xf_firewall_dispatch(struct xf_firewall *firewall);

/*
 * Look at the rules in force. True: they stand in the way, or cannot be read, and @why, of
 * XF_FIREWALL_WHY_MAX bytes, says which.
 */
bool xf_firewall_on_output(struct xf_firewall *firewall, char *why);

/* A base chain as nftables shows it. */
struct xf_firewall_chain {
	uint8_t family; /* NFPROTO_* */
	uint32_t hook; /* NF_INET_* */
	bool drops; /* by its policy */
	uint32_t rules;
	const char *table;
	const char *name;
};

/* Does @chain see what is sent, is it another program's, and could it make a difference? */
bool xf_firewall_matters(const struct xf_firewall_chain *chain);

#endif
