/*
 * fake_programs.h - the programs of bpf/, compiled for this process: what they read is a packet's
 * bytes and what the kernel knows of it, and maps of fake_bpf.h.
 *
 * Free of system headers: the programs' own may not meet them.
 */
#ifndef TEST_FAKE_PROGRAMS_H
#define TEST_FAKE_PROGRAMS_H

#include <stdbool.h>
#include <stdint.h>

/* A packet at a hook. */
struct fake_seen {
	uint8_t bytes[64]; /* from the IP header on */
	unsigned len;
	bool six;
	uint32_t mark;
	uint32_t priority;
	bool has_socket;
	uint32_t socket_mark;
	uint32_t socket_priority;
	uint32_t iif; /* 0: of this host */
	uint32_t oif;
	const char *linked[2]; /* programs by links at the egress of that, in order; or NULL */
	bool filtered; /* others by filters */
	uint8_t proto;
	/* What conntrack knows, when it does: addresses and ports as on the wire. */
	bool tracked;
	bool reply;
	bool snat;
	bool dnat;
	struct {
		uint8_t addr[2][16]; /* source, destination */
		uint8_t port[2][2];
	} way[2];
};

/*
 * Where programs find what NAT did to a packet: the places that the loader tells them
 * (struct xf_bpf_nat) are those of these.
 */
enum { FAKE_NFCT = 256 }; /* in the kernel's own of a packet */

struct fake_conn {
	unsigned long status;
	struct {
		uint8_t src[16];
		uint8_t sport[2];
		uint8_t dst[16];
		uint8_t dport[2];
		uint8_t proto;
	} tuple[2];
} __attribute__((aligned(8)));

/* Fill @conn; returns what the packet has of it, 0: it is not tracked. */
unsigned long fake_conn_fill(struct fake_conn *conn, const struct fake_seen *seen);

enum fake_action { FAKE_PASS, FAKE_DROP, FAKE_REDIRECT };

/* At tc; *@ifindex is where a packet is redirected to, *@priority what it has from then on. */
enum fake_action fake_egress(const struct fake_seen *seen, uint32_t *ifindex, uint32_t *priority);
enum fake_action fake_tun(const struct fake_seen *seen);
enum fake_action fake_ingress(const struct fake_seen *seen);

/* At netfilter's hooks. */
enum fake_action fake_twin(const struct fake_seen *seen, bool local);
enum fake_action fake_twin_out(const struct fake_seen *seen);

/* The programs' maps get to know the names that loaders use. */
void fake_egress_bind(void (*bind)(const char *name, const void *map));

/* --- for programs --- */

void *fake_map_lookup(const void *map, const void *key);
/* Programs at netfilter's hooks are always the daemon's; at devices an earlier one's may be. */
void fake_run_links(bool run);
bool fake_load_bytes(uint32_t off, void *to, uint32_t len);
void fake_redirect(uint32_t ifindex);

/* The packet that fake_load_bytes() reads from. */
void fake_read_from(const struct fake_seen *seen);

#endif
