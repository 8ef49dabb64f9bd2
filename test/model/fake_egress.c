/*
 * bpf/egress.bpf.c in this process.
 */
#include <string.h>

/* What is written for the kernel is not held to our warnings. */
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#include "egress.bpf.c"

static const struct fake_seen *packet;
static uint32_t target;

void fake_read_from(const struct fake_seen *seen)
{
	packet = seen;
	target = 0;
}

bool fake_load_bytes(uint32_t off, void *to, uint32_t len)
{
	if (off > packet->len || len > packet->len - off)
		return false;
	memcpy(to, packet->bytes + off, len);
	return true;
}

void fake_redirect(uint32_t ifindex)
{
	target = ifindex;
}

unsigned long fake_conn_fill(struct fake_conn *conn, const struct fake_seen *seen)
{
	if (!seen->tracked)
		return 0;
	memset(conn, 0, sizeof(*conn));
	for (unsigned way = 0; way < 2; way++) {
		memcpy(conn->tuple[way].src, seen->way[way].addr[0], 16);
		memcpy(conn->tuple[way].dst, seen->way[way].addr[1], 16);
		memcpy(conn->tuple[way].sport, seen->way[way].port[0], 2);
		memcpy(conn->tuple[way].dport, seen->way[way].port[1], 2);
		conn->tuple[way].proto = seen->proto;
	}
	conn->status = (seen->snat ? SRC_NAT : 0) | (seen->dnat ? DST_NAT : 0);
	return (unsigned long)conn | (seen->reply ? FIRST_OF_REPLY : 0);
}

/* What a program of tc gets, with what it can reach from there. */
struct reach {
	union {
		struct __sk_buff skb;
		struct {
			uint8_t before[FAKE_NFCT];
			unsigned long nfct;
		} kernel;
	} u;
	struct bpf_sock sk;
	struct fake_conn conn;
};

_Static_assert(sizeof(struct __sk_buff) <= FAKE_NFCT, "what NAT did stands behind the rest");

static struct __sk_buff *fill(struct reach *r, const struct fake_seen *seen)
{
	struct __sk_buff *skb = &r->u.skb;
	struct bpf_sock *sk = &r->sk;

	fake_read_from(seen);
	memset(r, 0, sizeof(*r));
	r->u.kernel.nfct = fake_conn_fill(&r->conn, seen);
	skb->protocol = bpf_htons(seen->six ? ETH_P_IPV6 : ETH_P_IP);
	skb->mark = seen->mark;
	skb->priority = seen->priority;
	skb->ingress_ifindex = seen->iif;
	skb->pkt_type = PACKET_HOST;
	sk->mark = seen->socket_mark;
	sk->priority = seen->socket_priority;
	if (seen->has_socket)
		skb->sk = sk;
	return skb;
}

static enum fake_action action_of(int verdict)
{
	return verdict == TC_ACT_UNSPEC ? FAKE_PASS
	       : verdict == TC_ACT_SHOT ? FAKE_DROP
					: FAKE_REDIRECT;
}

enum fake_action fake_egress(const struct fake_seen *seen, uint32_t *ifindex, uint32_t *priority)
{
	struct reach r;
	struct __sk_buff *skb = fill(&r, seen);
	enum fake_action action = action_of(xf_egress(skb));

	*ifindex = target;
	*priority = skb->priority;
	return action;
}

enum fake_action fake_tun(const struct fake_seen *seen)
{
	struct reach r;

	return action_of(xf_tun(fill(&r, seen)));
}

enum fake_action fake_ingress(const struct fake_seen *seen)
{
	struct reach r;

	return action_of(xf_ingress(fill(&r, seen)));
}

void fake_egress_bind(void (*bind)(const char *name, const void *map))
{
	bind("config", &config);
	bind("kinds", &kinds);
	bind("entries", &entries);
	bind("counts", &counts);
	bind("prefixes", &prefixes);
	bind("holder", &holder);
}
