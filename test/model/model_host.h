/*
 * model_host.h - the inside of model_host.c: what is drawn, and what is asserted.
 */
#ifndef TEST_MODEL_HOST_H
#define TEST_MODEL_HOST_H

#include "capture/capture.h"

#include "fake_host.h"

#define MANY 200
#define RECENT 48

struct world_config {
	enum xf_capture_mode mode;
	bool netfilter; /* links at its hooks */
	bool tcx; /* and at devices */
	bool nat;
	bool no_nat_chains; /* this kernel has none for us */
	bool owner; /* the table is the daemon's alone */
	bool deaths; /* of the daemon, now and then */
	bool exempt; /* others exempt devices */
	unsigned max; /* policies */
	unsigned faults; /* one of so many operations */
	unsigned rounds;
	unsigned seed;
};

struct counts {
	unsigned long packets;
	unsigned long in_windows;
	unsigned long fates[FAKE_LOST + 1];
	unsigned long refused;
	unsigned long exempt; /* that would be refused or captured else */
	unsigned long translated;
	unsigned long redirected;
	unsigned long asked;
	unsigned long within; /* ... and NAT has kept it within a policy */
	unsigned long known; /* ... and not asked for again */
	unsigned long late; /* answers */
	unsigned long replies;
	unsigned long replies_within; /* to what was asked for */
	unsigned long too_much;
	unsigned long once;
	unsigned long clashed;
	unsigned long acts;
	unsigned long prompt; /* repairs that were asserted at once */
	unsigned long failed; /* syncs */
	unsigned long deaths;
	unsigned long starts; /* that failed */
};

struct world {
	const struct world_config *cfg;
	struct xf_spd *spd;
	struct xf_capture *capture; /* NULL: the daemon is dead, or starts */
	struct fake_host host;
	struct fake_host bare; /* the same without capture */
	uint64_t now_ns;
	struct xf_policy_config known[MANY];
	unsigned n;
	/* Policies that changed since the kernel followed: nobody was told of these. */
	struct xf_policy_config recent[RECENT];
	unsigned nrecent;
	bool steady;
	bool mistaken; /* see note_mistake() */
	/* What waits in the TUN, as it began; whether the SPD says something else of it since. */
	struct fake_packet waiting;
	bool outdated;
	bool stale; /* what rules have learnt of NAT may be: policies or NAT have changed */
	bool left_without_nat; /* the daemon has left a table without chains for it */
	const char *act; /* the last thing that others did */
	unsigned round;
	struct counts seen;
};

/* --- model_host.c --- */

/* @cfg stays the caller's, and where it is. */
struct world *world_new(const struct world_config *cfg);
void world_free(struct world *w);

/* The daemon's control thread: policies have changed; something was told of; until then. */
void world_sync(struct world *w);
void world_hear(struct world *w);
void world_run(struct world *w, uint64_t until_ns);

/* It is killed, and another one starts. */
void world_end_daemon(struct world *w);
void world_start_daemon(struct world *w);

/* All is as it should be: then all is asserted. */
void world_send_steady(struct world *w);

/* --- model_cases.c --- */

void a_crowd_is_back_at_once(void **unused);
void what_fails_by_itself_is_not_held(void **unused);
void nat_chains_outlive_failures(void **unused);
void nat_chains_give_way(void **unused);
void what_is_sent_on_is_known_by_its_socket(void **unused);
void what_was_redirected_is_sent_on_as_it_is(void **unused);
void nat_chains_go_with_the_nat(void **unused);
void counters_outlive_the_daemon(void **unused);
void a_bridge_is_signed_in_the_end(void **unused);

/* --- model_cases_nat.c --- */

void flows_within_begin_and_end(void **unused);
void flows_within_outlive_conntrack(void **unused);
void flows_within_follow_policies(void **unused);

/* --- model_draw.c --- */

void draw_policy(const struct world *w, struct xf_policy_config *cfg);
/* What is no identity. */
void draw_wishes(struct xf_policy_config *cfg);
void draw_journey(const struct world *w, struct fake_journey *j);
bool is_icmp(uint8_t proto);

/* --- model_fail.c --- */

void describe_packet(const char *what, const struct fake_packet *p);
/* @j began as @start. Does not return. */
void fail_packet(const struct world *w, const struct fake_packet *start,
		 const struct fake_journey *j, const char *why);

/* --- model_check.c --- */

/* Somebody's NAT is there, and of our chains for it none. */
bool lacks_nat_chains(const struct world *w);
/* Or that has changed, and nothing of ours may keep it away. */
bool misses_nat(const struct world *w);

/* Send a packet, and assert what holds then; the first of them at any time, in between too. */
void send_packets(struct world *w, unsigned n);
/* What was in the TUN for long is read. */
void receive_late(struct world *w);
/* A frame from port to port of a bridge, with br_netfilter. */
void send_bridged(struct world *w);

#endif
