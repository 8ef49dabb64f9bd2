/*
 * The ways of packets through the model's host, hook by hook as netfilter has them.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "fake_bpf.h"
#include "fake_host.h"
#include "fake_programs.h"
#include "fake_way.h"

/* Priorities of the kernel's own hooks. */
#define CONNTRACK -200
#define NAT_DST -100
#define NAT_SRC 100
/* Of the program behind all NAT (src/capture/programs/twin.c). */
#define TWIN_OUT 2147483640
#define FIRST ((long)INT32_MIN)
#define LAST ((long)INT32_MAX)

static const char *const device_names[FAKE_DEVICES] = { [FAKE_LAN] = "lan", [FAKE_WAN] = "wan" };

/* --- what a packet looks like --- */

static bool is_icmp(uint8_t proto)
{
	return proto == XF_IPPROTO_ICMP || proto == XF_IPPROTO_ICMPV6;
}

void fake_flow(const struct fake_packet *p, struct xf_flow *flow)
{
	bool icmp = is_icmp(p->proto);

	*flow = (struct xf_flow){
		.family = p->family,
		.saddr = p->addr[0],
		.daddr = p->addr[1],
		.proto = p->proto,
		.sport = icmp ? p->l4[0] : xf_get_be16(p->l4),
		.dport = icmp ? p->l4[1] : xf_get_be16(p->l4 + 2),
		.mark = p->mark & ~(XF_MARK_CAPTURE | XF_MARK_BYPASS),
	};
}

static void put_ipv4(struct fake_seen *seen, const struct fake_packet *p)
{
	seen->bytes[0] = 0x45;
	xf_put_be16(seen->bytes + 6, (uint16_t)(p->behind ? 185 : p->fragment ? 0x2000 : 0));
	seen->bytes[9] = p->proto;
	memcpy(seen->bytes + 12, p->addr[0].bytes, 4);
	memcpy(seen->bytes + 16, p->addr[1].bytes, 4);
	seen->len = 20;
}

static void put_ipv6(struct fake_seen *seen, const struct fake_packet *p)
{
	seen->bytes[0] = 0x60;
	seen->bytes[6] = p->fragment ? XF_IPPROTO_FRAGMENT : p->proto;
	memcpy(seen->bytes + 8, p->addr[0].bytes, 16);
	memcpy(seen->bytes + 24, p->addr[1].bytes, 16);
	seen->len = 40;
	if (!p->fragment)
		return;
	seen->bytes[40] = p->proto;
	xf_put_be16(seen->bytes + 42, (uint16_t)(p->behind ? 1480 : 1));
	seen->len += 8;
}

static void show_track(struct fake_seen *seen, const struct fake_track *track)
{
	const struct fake_entry *entry = track->entry;

	if (!entry)
		return;
	seen->tracked = true;
	seen->reply = track->reply;
	seen->snat = entry->changed[FAKE_SRC];
	seen->dnat = entry->changed[FAKE_DST];
	for (unsigned way = 0; way < 2; way++) {
		for (unsigned side = 0; side < 2; side++) {
			memcpy(seen->way[way].addr[side], entry->way[way].addr[side].bytes, 16);
			xf_put_be16(seen->way[way].port[side], entry->way[way].port[side]);
		}
	}
}

static void show_egress(struct fake_seen *seen, const struct fake_host *host, const char *oif)
{
	unsigned device = strcmp(oif, device_names[FAKE_WAN]) == 0 ? FAKE_WAN : FAKE_LAN;
	bool ours = host->device[device].egress;
	unsigned n = 0;

	if (strcmp(oif, device_names[device]) != 0)
		return;
	/* Names are as long as the kernel has them. */
	if (host->device[device].others)
		seen->linked[n++] = "xf_egress_other";
	if (ours && host->device[device].linked)
		seen->linked[n] = "xf_egress";
	seen->filtered = ours && !host->device[device].linked;
}

/* As a program sees it. */
static struct fake_seen show(const struct fake_host *host, const struct fake_journey *j,
			     const char *oif)
{
	const struct fake_packet *p = &j->p;
	struct fake_seen seen = { .six = p->family == XF_AF_INET6,
				  .proto = p->proto,
				  .mark = p->mark,
				  .priority = p->priority,
				  .has_socket = j->local,
				  .socket_mark = p->socket_mark,
				  .socket_priority = p->socket_priority,
				  .iif = j->iif };

	seen.oif = strcmp(oif, device_names[FAKE_LAN]) == 0   ? 2
		   : strcmp(oif, device_names[FAKE_WAN]) == 0 ? 3
							      : host->tun.ifindex;
	if (seen.six)
		put_ipv6(&seen, p);
	else
		put_ipv4(&seen, p);
	if (!p->behind) {
		memcpy(seen.bytes + seen.len, p->l4, sizeof(p->l4));
		seen.len += sizeof(p->l4);
	}
	show_track(&seen, &j->track);
	show_egress(&seen, host, oif);
	return seen;
}

/* --- ends --- */

bool fake_path_lose(struct fake_journey *j, const char *by)
{
	j->fate = FAKE_LOST;
	j->by = by;
	return false;
}

/* --- hooks --- */

static const char *addr_type(const struct fake_packet *p, unsigned side)
{
	return fake_role_of(&p->addr[side], p->family) == FAKE_SELF ? "local" : "unicast";
}

static bool run_part(struct fake_host *host, struct fake_journey *j, const struct fake_part *part)
{
	const struct fake_marker *marker = &host->marker;
	bool marks = marker->hook && !part->nat && strcmp(marker->hook, part->hook) == 0 &&
		     marker->priority >= part->from && marker->priority <= part->to;
	struct fake_part before = *part;
	struct fake_part after = *part;

	j->p.saddr_type = addr_type(&j->p, 0);
	if (!marks)
		return fake_nft_part(host->kernel.nft, part, &j->p) ||
		       fake_path_lose(j, part->hook);
	before.to = marker->priority;
	after.from = marker->priority + 1;
	if (!fake_nft_part(host->kernel.nft, &before, &j->p))
		return fake_path_lose(j, part->hook);
	j->p.mark = (j->p.mark & marker->keep) | marker->set;
	return fake_nft_part(host->kernel.nft, &after, &j->p) || fake_path_lose(j, part->hook);
}

static bool run_hook(struct fake_host *host, struct fake_journey *j, const char *hook, long from,
		     long to)
{
	const struct fake_part part = { .hook = hook, .from = from, .to = to };

	return run_part(host, j, &part);
}

/* Is connection tracking on? Somebody's nat chain switches it on. */
static bool tracks(const struct fake_host *host)
{
	return host->nat.there || fake_nft_has_chain(host->kernel.nft, "nat_bind");
}

static void begin_tracking(struct fake_host *host, struct fake_journey *j)
{
	if (tracks(host))
		fake_conntrack_in(&host->ct, &j->p);
	j->is_reply = j->is_reply || j->track.reply;
	j->settled = j->settled || (j->track.entry && j->track.entry->replied);
}

/* On wires it is in pieces; behind conntrack, and where it is made, it is whole. */
static void join_pieces(struct fake_journey *j, bool whole)
{
	j->p.fragment = j->fragment && !whole;
	j->p.behind = j->behind && !whole;
}

/* --- NAT of another program --- */

static bool is_at_port_80_of_wan(const struct fake_packet *p)
{
	return p->proto == XF_IPPROTO_TCP && xf_get_be16(p->l4 + 2) == 80 &&
	       fake_role_of(&p->addr[1], p->family) == FAKE_SELF;
}

static void nat_destination(struct fake_host *host, struct fake_journey *j, bool arriving)
{
	struct fake_entry *entry = j->track.entry;
	union xf_addr server;

	if (!entry)
		return;
	if (!j->track.reply && !entry->decided[FAKE_DST]) {
		bool forwards = arriving && host->nat.there && host->nat.forwards_port &&
				is_at_port_80_of_wan(&j->p);

		memset(&server, 0, sizeof(server));
		xf_addr_parse(j->p.family == XF_AF_INET ? "10.0.1.1" : "fd00:0:0:1::", &server);
		fake_conntrack_bind(&host->ct, entry, FAKE_DST, forwards ? &server : NULL, 0);
	}
	fake_conntrack_translate(FAKE_DST, &j->p);
}

static bool translates(const struct fake_nat *nat, const struct fake_packet *p, const char *oif)
{
	if (!nat->there || (nat->proto && nat->proto != p->proto))
		return false;
	return nat->but_lan ? strcmp(oif, "lan") != 0 : strcmp(oif, "wan") == 0;
}

static bool run_nat_chains(struct fake_host *host, struct fake_journey *j, long from, long to)
{
	const struct fake_part part = {
		.hook = "postrouting", .from = from, .to = to, .nat = true
	};

	return run_part(host, j, &part);
}

/* The chains of all, in order, until one decides. */
static bool decide_source(struct fake_host *host, struct fake_journey *j, const char *oif)
{
	const struct fake_nat *nat = &host->nat;
	struct fake_entry *entry = j->track.entry;
	static const char *const selves[] = { "10.1.0.1", "fd00:100:0:1::1" };
	static const char *const routed[] = { "10.1.2.0", "fd00:100::" };
	long foreign = nat->there ? nat->priority : FIRST;
	bool six = j->p.family == XF_AF_INET6;
	union xf_addr self;

	j->track.keep_source = false;
	if (!run_nat_chains(host, j, FIRST, foreign)) {
		/* Our rules held that NAT keeps it within a policy, and conntrack forgot: they
		 * forget, too. Nothing holds that of a new connection. */
		j->once = j->p.tcp_flags != FAKE_SYN;
		return false;
	}
	if (!j->track.keep_source && translates(nat, &j->p, oif)) {
		memset(&self, 0, sizeof(self));
		xf_addr_parse(nat->fixed && nat->routed ? routed[six] : selves[six], &self);
		fake_conntrack_bind(&host->ct, entry, FAKE_SRC, &self, 0);
		entry->masqueraded = nat->fixed ? NULL : oif;
		return true;
	}
	if (!j->track.keep_source && !run_nat_chains(host, j, foreign + 1, LAST)) {
		j->once = true;
		return false;
	}
	fake_conntrack_bind(&host->ct, entry, FAKE_SRC, NULL, 0);
	return true;
}

static bool nat_source(struct fake_host *host, struct fake_journey *j, const char *oif)
{
	struct fake_entry *entry = j->track.entry;

	if (!entry)
		return true;
	if (!j->track.reply && !entry->decided[FAKE_SRC]) {
		if (!decide_source(host, j, oif))
			return false;
	} else if (!j->track.reply && entry->masqueraded && strcmp(entry->masqueraded, oif) != 0) {
		fake_conntrack_kill(&host->ct, &j->track);
		j->once = true;
		return fake_path_lose(j, "masquerade by another device");
	}
	j->clashed = j->clashed || entry->clashed;
	j->undone = j->undone || (j->track.reply && entry->changed[FAKE_DST]);
	fake_conntrack_translate(FAKE_SRC, &j->p);
	return true;
}

/* --- routes --- */

static const char *tun_name(const struct fake_host *host)
{
	return host->tun.named ? XF_TUN_NAME : "other0";
}

/* By the main table. */
static const char *device_to(const struct fake_packet *p)
{
	return device_names[fake_role_of(&p->addr[1], p->family) == FAKE_AT_LAN ? FAKE_LAN
										: FAKE_WAN];
}

/* NULL: the black hole. */
static const char *route(const struct fake_host *host, const struct fake_packet *p)
{
	bool six = p->family == XF_AF_INET6;

	if (host->rule[six] && (p->mark & XF_MARK_CAPTURE)) {
		if (host->into_tun[six])
			return tun_name(host);
		if (host->black_hole[six])
			return NULL;
	}
	return device_to(p);
}

/* --- out --- */

/* Does a program at the device get it? Where IPv4 is exempt it is put there for IPv6 alone. */
static bool sees(const struct fake_host *host, const struct fake_journey *j, unsigned device,
		 uint32_t exempt)
{
	return j->p.family == XF_AF_INET6 || !(host->device[device].unseen & exempt);
}

static bool enter_tun(struct fake_host *host, struct fake_journey *j, const struct fake_seen *seen)
{
	/* The daemon takes nothing whose mark it is not told. */
	if (!host->tun.up || !host->tun.marks)
		return fake_path_lose(j, "the TUN is down");
	if (host->tun.program && !host->bare && fake_tun(seen) == FAKE_DROP)
		return fake_path_lose(j, "the program at the TUN");
	return fake_daemon_reads(host, j);
}

static bool leave(struct fake_host *host, struct fake_journey *j, const char *oif)
{
	unsigned device = strcmp(oif, device_names[FAKE_WAN]) == 0 ? FAKE_WAN : FAKE_LAN;
	struct fake_seen seen = show(host, j, oif);
	uint32_t target = 0;
	enum fake_action action = FAKE_PASS;

	j->handed_on = true;
	if (strcmp(oif, tun_name(host)) == 0)
		return enter_tun(host, j, &seen);
	join_pieces(j, false);
	seen = show(host, j, oif);
	if (host->device[device].egress && sees(host, j, device, XF_EXEMPT_XFRM4))
		action = fake_egress(&seen, &target, &j->p.priority);
	if (action == FAKE_DROP)
		return fake_path_lose(j, "the backstop");
	if (action == FAKE_REDIRECT) {
		j->p.mark |= XF_MARK_CAPTURE;
		return target == host->tun.ifindex ? enter_tun(host, j, &seen)
						   : fake_path_lose(j, "the backstop, no TUN");
	}
	j->fate = FAKE_LEFT;
	j->by = oif;
	return true;
}

static bool pass_postrouting(struct fake_host *host, struct fake_journey *j, const char *oif)
{
	struct fake_seen seen;

	j->p.oif = oif;
	j->caught = j->caught || strcmp(oif, tun_name(host)) == 0;
	if (!run_hook(host, j, "postrouting", FIRST, NAT_SRC) || !nat_source(host, j, oif) ||
	    !run_hook(host, j, "postrouting", NAT_SRC + 1, TWIN_OUT))
		return false;
	seen = show(host, j, oif);
	if (fake_bpf_has_links() && !host->bare && fake_twin_out(&seen) == FAKE_DROP)
		return fake_path_lose(j, "the twin at postrouting");
	if (!run_hook(host, j, "postrouting", TWIN_OUT + 1, LAST))
		return false;
	fake_conntrack_confirm(&host->ct, &j->track);
	return leave(host, j, oif);
}

/* Of this host: routed before the chains of output, and once more if these have changed the
 * mark. */
bool fake_path_send_out(struct fake_host *host, struct fake_journey *j)
{
	const char *oif = route(host, &j->p);

	join_pieces(j, true);
	if (!oif)
		return fake_path_lose(j, "the black hole");
	j->p.oif = oif;
	if (!run_hook(host, j, "output", FIRST, CONNTRACK))
		return false;
	begin_tracking(host, j);
	if (!run_hook(host, j, "output", CONNTRACK + 1, NAT_DST))
		return false;
	nat_destination(host, j, false);
	if (!run_hook(host, j, "output", NAT_DST + 1, LAST))
		return false;
	oif = route(host, &j->p);
	return oif ? pass_postrouting(host, j, oif) : fake_path_lose(j, "the black hole");
}

/* --- in, and through --- */

static bool take_in(struct fake_host *host, struct fake_journey *j)
{
	struct fake_seen seen;

	j->dir = XF_DIR_IN;
	/* Linux puts IPv4 together before this hook, IPv6 behind it. */
	if (j->p.family == XF_AF_INET)
		join_pieces(j, true);
	if (!run_hook(host, j, "input", FIRST, LAST))
		return false;
	seen = show(host, j, "none");
	if (fake_bpf_has_links() && !host->bare && fake_twin(&seen, true) == FAKE_DROP)
		return fake_path_lose(j, "the twin at input");
	if (j->track.entry && !j->track.reply && !j->track.entry->decided[FAKE_SRC])
		fake_conntrack_bind(&host->ct, j->track.entry, FAKE_SRC, NULL, 0);
	fake_conntrack_translate(FAKE_SRC, &j->p);
	fake_conntrack_confirm(&host->ct, &j->track);
	j->judged = true;
	j->fate = FAKE_HERE;
	j->by = "this host";
	return true;
}

static bool forward(struct fake_host *host, struct fake_journey *j)
{
	const char *oif = route(host, &j->p);
	struct fake_seen seen;

	j->dir = XF_DIR_FWD;
	if (!oif)
		return fake_path_lose(j, "the black hole");
	j->p.oif = oif;
	if (!run_hook(host, j, "forward", FIRST, LAST))
		return false;
	seen = show(host, j, oif);
	if (fake_bpf_has_links() && !host->bare && fake_twin(&seen, false) == FAKE_DROP)
		return fake_path_lose(j, "the twin at forward");
	j->judged = true;
	return pass_postrouting(host, j, oif);
}

static bool arrive(struct fake_host *host, struct fake_journey *j)
{
	unsigned device = j->iif == 3 ? FAKE_WAN : FAKE_LAN;
	struct fake_seen seen = show(host, j, "none");

	if (!j->from_tun && host->device[device].ingress &&
	    sees(host, j, device, XF_EXEMPT_POLICY4) && fake_ingress(&seen) == FAKE_DROP)
		return fake_path_lose(j, "the twin at a device");
	join_pieces(j, tracks(host));
	j->p.oif = "none";
	j->p.daddr_type = addr_type(&j->p, 1);
	if (!run_hook(host, j, "prerouting", FIRST, CONNTRACK))
		return false;
	begin_tracking(host, j);
	if (!run_hook(host, j, "prerouting", CONNTRACK + 1, NAT_DST))
		return false;
	nat_destination(host, j, true);
	j->p.daddr_type = addr_type(&j->p, 1);
	fake_flow(&j->p, &j->routed);
	j->p.fib_oif = device_to(&j->p);
	if (!run_hook(host, j, "prerouting", NAT_DST + 1, LAST))
		return false;
	j->p.fib_oif = NULL;
	return *j->p.daddr_type == 'l' ? take_in(host, j) : forward(host, j);
}

void fake_host_send(struct fake_host *host, struct fake_journey *j)
{
	j->p.track = &j->track;
	j->fragment = j->p.fragment;
	j->behind = j->p.behind;
	j->dir = XF_DIR_OUT;
	fake_flow(&j->p, &j->routed);
	if (j->local) {
		j->p.iif = "none";
		j->p.daddr_type = "unicast";
		fake_path_send_out(host, j);
	} else {
		j->p.iif = j->from_tun ? tun_name(host) : device_names[j->iif == 3];
		if (j->from_tun)
			j->iif = host->tun.ifindex;
		arrive(host, j);
	}
	fake_conntrack_end(&j->track);
	j->p.track = NULL;
}

/* br_netfilter hands it to the chains of inet, with the bridge as its device. */
bool fake_host_bridge(struct fake_host *host, struct fake_journey *j)
{
	static const char device[] = "br0";

	j->local = j->from_tun = false;
	j->fragment = j->behind = j->p.fragment = j->p.behind = false;
	j->p.iif = j->p.oif = device;
	j->p.daddr_type = "unicast";
	j->p.track = &j->track;
	j->by = "the bridge";
	return run_hook(host, j, "prerouting", FIRST, LAST) &&
	       fake_nft_hook(host->bridge, "forward", &j->p) &&
	       run_hook(host, j, "forward", FIRST, LAST) &&
	       run_hook(host, j, "postrouting", FIRST, LAST) &&
	       fake_nft_hook(host->bridge, "postrouting", &j->p);
}
