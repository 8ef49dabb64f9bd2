/*
 * fake_nft.h - the part of nftables that our scripts use: a table of chains, sets and counters that
 * packets can be sent through.
 *
 * Scripts are those of src/capture. A statement that is not known here fails the test: a model that
 * skips what it does not understand would agree with anything. As in the kernel a script is applied
 * as a whole, or not at all when a name in it is missing (-ENOENT).
 *
 * For one thread. Addresses are as on the wire, all other numbers in host order.
 */
#ifndef TEST_FAKE_NFT_H
#define TEST_FAKE_NFT_H

#include <xf/addr.h>

/* Of TCP. */
enum { FAKE_FIN = 1, FAKE_SYN = 2, FAKE_RST = 4, FAKE_ACK = 16 };

/* As nftables sees it at one hook. */
struct fake_packet {
	uint16_t family;
	union xf_addr addr[2]; /* source, destination */
	uint8_t proto;
	uint8_t l4[4]; /* how the transport header begins */
	uint8_t tcp_flags;
	bool fragment; /* of a packet */
	bool behind; /* the first one: there is no transport header */
	uint32_t mark;
	uint32_t priority;
	uint32_t socket_mark;
	uint32_t socket_priority;
	const char *iif; /* "lo", "lan", "wan" */
	const char *oif;
	const char *fib_oif; /* in prerouting: by which device it will leave */
	const char *saddr_type; /* "unicast", "local" ... */
	const char *daddr_type;
	struct fake_track *track; /* of conntrack; NULL: there is none */
};

enum { FAKE_FIELD = 16, FAKE_FIELDS = 6, FAKE_KEY = FAKE_FIELD * FAKE_FIELDS };

struct fake_nft;

struct fake_nft *fake_nft_new(void);
struct fake_nft *fake_nft_new_of(const char *family); /* other than inet */
void fake_nft_free(struct fake_nft *nft);

/* The table is there from now on. With @own the daemon's alone, unless it was made without an owner
 * (false), until fake_nft_orphan(). */
bool fake_nft_make(struct fake_nft *nft, bool own);
void fake_nft_orphan(struct fake_nft *nft);
bool fake_nft_is_alone(const struct fake_nft *nft);

/* Does this kernel take chains that translate, from now on? */
void fake_nft_take_nat(struct fake_nft *nft, bool takes);

/* 0, -ENOENT, or -EBUSY for a set that rules look into, or a chain that they lead into, when it is
 * the script's only subject. */
int fake_nft_run(struct fake_nft *nft, const char *script);

/* Elements are fields of FAKE_FIELD bytes: addresses, or numbers, and zeros. */
bool fake_nft_has_set(const struct fake_nft *nft, const char *set);
bool fake_nft_has_element(const struct fake_nft *nft, const char *set, const uint8_t key[FAKE_KEY]);
uint64_t fake_nft_element_digest(const char *set, const uint8_t key[FAKE_KEY]);
void fake_nft_change_element(struct fake_nft *nft, const char *set, const uint8_t key[FAKE_KEY],
			     bool there);
void fake_put_number(uint8_t field[FAKE_FIELD], uint32_t number);

/* Visit the names of sets or chains: which may be deleted meanwhile. */
void fake_nft_each_set(struct fake_nft *nft, void (*visit)(void *arg, const char *name), void *arg);
void fake_nft_each_chain(struct fake_nft *nft, void (*visit)(void *arg, const char *name),
			 void *arg);

/* Chains of a hook, in the order of their priorities. False: dropped. @p's mark may change. */
bool fake_nft_hook(struct fake_nft *nft, const char *hook, struct fake_packet *p);
/* Those from a priority on to another; either the nat chains, until one of them decides, or the
 * others. */
struct fake_part {
	const char *hook;
	long from;
	long to;
	bool nat;
};
bool fake_nft_part(struct fake_nft *nft, const struct fake_part *part, struct fake_packet *p);

/* What stands, as src/capture/repair/inspect.c would tell it. */
struct fake_nft_seen {
	bool there;
	uint64_t digest;
	uint64_t elements; /* their digests' sum, but for those that packets put there */
	uint64_t generation;
};
void fake_nft_read(const struct fake_nft *nft, struct fake_nft_seen *out);

bool fake_nft_has_chain(const struct fake_nft *nft, const char *chain);

/* For others: a rule or an element, whatever its number; false: there is none. The name of an
 * object, whatever its number, or NULL. */
bool fake_nft_delete_element(struct fake_nft *nft, const char *set, unsigned n);
bool fake_nft_delete_rule(struct fake_nft *nft, const char *chain, unsigned n);
const char *fake_nft_chain(const struct fake_nft *nft, unsigned n);
const char *fake_nft_set(const struct fake_nft *nft, unsigned n);

/* Their numbers. */
uint32_t fake_ifindex(const char *name);

uint64_t fake_nft_counter(const struct fake_nft *nft, const char *name);
/* How many rules there are, for tests that would do without. */
unsigned fake_nft_rules(const struct fake_nft *nft);

#endif
