/*
 * fake_host.h - a host for src/capture: a router between "lan" and "wan" with nftables, conntrack,
 * NAT of somebody else, an ip rule and its table, a TUN with a daemon behind it, and the programs
 * of bpf/ at devices and at netfilter's hooks. Packets are sent through all of it.
 *
 * Addresses: 10.0.0.0/16 and fd00:0000::/24 are at lan, 10.1.0.0/16 and fd00:0100::/24 at wan.
 */
#ifndef TEST_FAKE_HOST_H
#define TEST_FAKE_HOST_H

#include <xf/spd.h>

#include "capture/ops.h"
#include "capture/state.h"

#include "fake_conntrack.h"
#include "fake_kernel.h"

enum { FAKE_LAN, FAKE_WAN, FAKE_DEVICES };

#define FAKE_EVENTS 64

/* NAT of another program. */
struct fake_nat {
	bool there;
	long priority; /* of its chain in postrouting */
	bool but_lan; /* "oifname != lan", as Docker's; else "oifname wan" */
	bool fixed; /* snat to an address; else masquerade */
	bool routed; /* ... which is none of this host's */
	uint8_t proto; /* 0: any */
	bool forwards_port; /* TCP to port 80 of this host's address at wan, into lan */
};

/* A rule of another program that writes marks. */
struct fake_marker {
	const char *hook; /* NULL: there is none */
	long priority;
	uint32_t keep;
	uint32_t set;
};

/* What others have touched since it was last whole. */
struct fake_touched {
	bool table;
	bool bridge;
	bool filters;
	bool path; /* rule, routes, TUN */
	bool exempt;
	bool nat; /* theirs came or changed */
};

struct fake_journey;

struct fake_host {
	struct fake_kernel kernel; /* nftables of family inet, and how often operations fail */
	struct fake_nft *bridge; /* of family bridge */
	unsigned fail_bridge; /* so many times it cannot be made */
	const struct xf_spd *spd; /* the daemon's */
	bool bare; /* without capture: what would the host do by itself? */
	bool dead; /* the daemon is: nobody hears of anything */
	bool workers; /* its threads read from the TUN: they are started behind capture */
	bool no_nat; /* others leave NAT alone */
	bool no_marks; /* and marks */
	bool no_exempt; /* and sysctls that exempt from policies */
	struct fake_conntrack ct;
	struct fake_nat nat;
	unsigned nat_changes;
	struct fake_marker marker;
	struct {
		bool there;
		bool named;
		bool up;
		bool settings;
		bool marks; /* the program for them */
		bool program; /* at its egress */
		uint32_t ifindex;
	} tun;
	bool rule[2]; /* IPv4, IPv6 */
	bool into_tun[2];
	bool black_hole[2];
	struct {
		bool egress;
		bool ingress;
		uint32_t unseen; /* enum xf_exempt_from: IPv4 that its programs do not see */
		bool linked; /* both, by links of tcx; else by filters of clsact */
		bool others; /* another program's link comes before */
	} device[FAKE_DEVICES];
	struct xf_backstop *backstop;
	bool tcx; /* this kernel has links for devices, and a place for pins */
	bool unlinked; /* somebody has taken one away, of which nothing tells */
	/* enum xf_exempt_from, by sysctls: of "all" and of devices; and what was so since all was
	 * last whole. */
	uint32_t exempt_all;
	uint32_t exempt[FAKE_DEVICES];
	uint32_t was_exempt[FAKE_DEVICES];

	struct fake_journey *late; /* an answer of NAT's that the TUN has not been read for */

	/* What capture is told. */
	struct xf_capture_event events[FAKE_EVENTS];
	unsigned nevents;
	bool unheard; /* a transaction that no event tells of */
	bool snapshot; /* capture knows how the table was left */
	bool nat_event;
	bool link_event;

	struct fake_touched touched;
	/* Between two operations of capture: packets go their ways. */
	void (*pause)(void *arg);
	void *pause_arg;
};

/* Ops of capture; arg: a struct fake_host. */
extern const struct xf_capture_ops fake_host_ops;

/* @netfilter: this kernel has BPF links at its hooks. */
void fake_host_init(struct fake_host *host, bool netfilter);
void fake_host_fini(struct fake_host *host);

bool fake_host_fails(struct fake_host *host);

/* The daemon has opened its TUN, before it captures. It ends, however: what goes with its
 * descriptors goes. */
void fake_host_begin_daemon(struct fake_host *host);
void fake_host_end_daemon(struct fake_host *host);

/* --- addresses --- */

/* A random one, of a role. */
enum fake_role { FAKE_AT_LAN, FAKE_AT_WAN, FAKE_SELF, FAKE_ROLES /* any */ };
void fake_draw_addr(union xf_addr *addr, uint16_t family, enum fake_role role);
enum fake_role fake_role_of(const union xf_addr *addr, uint16_t family);

/* --- what others do (fake_others.c) --- */

/* One thing, at random; returns what it was. *@told: events tell of it, which may get lost. */
const char *fake_others_act(struct fake_host *host, bool *told);
/* A script of nftables about our table, which events tell of. False: it has failed. */
bool fake_others_run(struct fake_host *host, const char *script);

/* Is IPv4 by this device exempt, or (XF_EXEMPT_POLICY6) what is for its addresses? */
uint32_t fake_exempt_of(const struct fake_host *host, unsigned device);

/* --- packets (fake_path.c) --- */

enum fake_fate {
	FAKE_LEFT, /* by a device, in clear */
	FAKE_HERE, /* for this host */
	FAKE_PROTECTED,
	FAKE_BLOCKED, /* by the daemon: a policy says so */
	FAKE_LOST,
};

struct fake_journey {
	struct fake_packet p; /* as it begins, and as it ends */
	bool local; /* of this host */
	bool from_tun; /* of the daemon, decrypted */
	bool quotes; /* an ICMP error, about: */
	struct xf_flow quoted;

	enum fake_fate fate;
	const char *by; /* which device it left by, or who lost it */
	uint8_t dir; /* in, fwd; out, if it is of this host */
	bool judged; /* it got past input or forward */
	bool caught; /* it headed for the TUN */
	bool clashed; /* NAT had to give it another port */
	bool settled; /* its connection has had an answer: NAT is not asked any more */
	bool once; /* lost, and its connection is known from then on: the next one passes */
	bool is_reply; /* as conntrack has it */
	bool undone; /* a reply: its source is rewritten, to what the other side knows */
	struct xf_flow routed; /* behind destination NAT */
	struct xf_flow heard; /* by the daemon, if it was captured */
	unsigned heard_n;
	bool asked; /* the host's NAT was, for its source */

	/* While it is under way. */
	struct fake_track track;
	bool handed_on; /* to a device: its sender is told nothing of what becomes of it */
	bool fragment;
	bool behind;
	uint32_t iif;
};

/* Ten minutes later. */
void fake_host_forget_flows(struct fake_host *host);

void fake_host_send(struct fake_host *host, struct fake_journey *j);
/* What waits in the TUN is read; false: there is none. */
bool fake_host_receive_late(struct fake_host *host, struct fake_journey *j);
/* A frame from port to port of a bridge, with br_netfilter. False: lost. */
bool fake_host_bridge(struct fake_host *host, struct fake_journey *j);

void fake_flow(const struct fake_packet *p, struct xf_flow *flow);

/* What the SPD wants of a packet that leaves; @quoted: NULL but for ICMP errors. */
enum fake_wish { FAKE_CLEAR, FAKE_PROTECT, FAKE_BLOCK };
enum fake_wish fake_wish_of(const struct xf_spd *spd, const struct xf_flow *flow,
			    const struct xf_flow *quoted);

#endif
