#include <stdio.h>
#include <stdlib.h>

#include "sim.h"

static void sim_random_bytes(void *arg, void *buf, size_t len)
{
	struct sim *sim = arg;
	uint8_t *p = buf;

	while (len--)
		*p++ = (uint8_t)sim_random(sim, 256);
}

uint32_t sim_random(struct sim *sim, uint32_t below)
{
	sim->rng ^= sim->rng << 13;
	sim->rng ^= sim->rng >> 7;
	sim->rng ^= sim->rng << 17;
	return below ? (uint32_t)((sim->rng >> 20) % below) : 0;
}

union xf_addr sim_addr(const char *text)
{
	union xf_addr addr;

	assert_true(xf_addr_parse(text, &addr) > 0);
	return addr;
}

static bool is_local(void *arg, const union xf_addr *addr, uint16_t family)
{
	const struct sim_host *host = arg;

	return xf_addr_equal(addr, family == XF_AF_INET ? &host->addr4 : &host->addr6, family);
}

static bool may_forward(void *arg, const union xf_addr *daddr, uint16_t family, uint32_t iif)
{
	const struct sim_host *host = arg;
	unsigned i = 0;

	assert_false(is_local(arg, daddr, family));
	if (!host->forwards)
		return true;
	while (i < host->nforwards &&
	       (host->forwards[i].family != family || host->forwards[i].iif != iif))
		i++;
	return i < host->nforwards;
}

static bool is_exempt(void *arg, const union xf_addr *daddr, uint16_t family, uint32_t iif)
{
	struct sim_host *host = arg;

	host->exempt_asked++;
	if (family == XF_AF_INET6)
		return host->exempt6 && is_local(arg, daddr, family);
	return host->exempt4 && host->exempt4 == iif;
}

static void wake(void *arg)
{
	struct sim_host *host = arg;

	host->wakes++;
}

static void host_init(struct sim *sim, struct sim_host *host, const char *addr4, const char *addr6)
{
	const struct xf_worker_config worker = {
		.pool = { .packets = 512, .small_bufs = 512, .large_bufs = 32 },
		.seed = { sim->rng, 1 },
		.wake = sim->options.wake,
	};
	struct xf_engine_config cfg = {
		.sad = { .random = sim_random_bytes,
			 .arg = sim,
			 .larval_lifetime_s = 30,
			 .replay_slack = sim->options.replay_slack,
			 .one_worker = sim->options.one_worker },
		.env = { .arg = host,
			 .is_local = is_local,
			 .may_forward = may_forward,
			 .is_exempt = is_exempt,
			 .wake = wake },
		.clamp_mss = true,
	};

	host->addr4 = sim_addr(addr4);
	host->addr6 = sim_addr(addr6);
	host->engine = xf_engine_new(&cfg);
	assert_non_null(host->engine);
	host->worker = xf_worker_new(host->engine, &worker);
	assert_non_null(host->worker);
}

void sim_host_again(struct sim *sim, struct sim_host *host)
{
	bool a = host == &sim->a;

	host_init(sim, host, a ? "10.0.0.1" : "10.0.0.2", a ? "fd00::1" : "fd00::2");
}

void sim_init(struct sim *sim, uint64_t seed)
{
	sim_init_with(sim, &(struct sim_options){ 0 }, seed);
}

void sim_init_with(struct sim *sim, const struct sim_options *options, uint64_t seed)
{
	*sim = (struct sim){ .options = *options };
	sim->rng = seed * 0x9e3779b97f4a7c15ull + 1;
	sim->now_ns = XF_NSEC_PER_SEC;
	xf_read_register();
	host_init(sim, &sim->a, "10.0.0.1", "fd00::1");
	host_init(sim, &sim->b, "10.0.0.2", "fd00::2");
}

static void host_fini(struct sim *sim, struct sim_host *host)
{
	struct xf_path_result res = { 0 };
	struct xf_pool_stats stats;

	xf_path_tick(host->worker, sim->now_ns + 1000 * XF_NSEC_PER_SEC, &res);
	sim_drain(&res.wire);
	sim_drain(&res.deliver);
	xf_pool_get_stats(xf_worker_pool(host->worker), &stats);
	assert_int_equal(stats.lin_copies, 0);
	assert_int_equal(stats.packets_free, 512);
	assert_int_equal(stats.small_free, 512);
	assert_int_equal(stats.large_free, 32);
	xf_worker_free(host->worker);
	xf_engine_free(host->engine);
}

void sim_fini(struct sim *sim)
{
	host_fini(sim, &sim->a);
	host_fini(sim, &sim->b);
	xf_rcu_drain();
	xf_read_unregister();
}

static struct xf_key *make_key(const struct sim *sim, const struct sim_sa *sa,
			       struct xf_sa_config *cfg)
{
	static const uint8_t bytes[XF_AUTH_KEY_MAX] = { 7, 7, 7, 1, 2, 3 };
	struct xf_suite_request req = { .cipher_key_bits = sa->key_bits ? sa->key_bits : 160,
					.icv_bits = sa->icv_bits ? sa->icv_bits : 128 };
	struct xf_key *key;

	if (sa->crypt) {
		req.crypt = xf_alg_find(XF_ALG_CRYPT, sa->crypt, 0);
		req.cipher_key_bits = sa->key_bits;
		req.icv_bits = sa->icv_bits;
	} else
		req.aead = xf_alg_find(XF_ALG_AEAD, sa->aead ? sa->aead : "rfc4106(gcm(aes))",
				       req.icv_bits);
	if (req.aead)
		cfg->terms.aead =
			(struct xf_alg_name){ req.aead->name, req.cipher_key_bits, req.icv_bits };
	if (sa->auth) {
		req.auth = xf_alg_find(XF_ALG_AUTH, sa->auth, 0);
		req.auth_key_bits = 256;
	}
	assert_int_equal(xf_suite_build(&req, &cfg->terms.suite), 0);
	assert_int_equal(xf_key_new(&cfg->terms.suite, sim->provider, bytes, bytes + 9, &key), 0);
	return key;
}

struct xf_sa *sim_add_sa(struct sim *sim, struct sim_host *host, const struct sim_sa *sa)
{
	union xf_addr a = sa->v6 ? sim->a.addr6 : sim->a.addr4;
	union xf_addr b = sa->v6 ? sim->b.addr6 : sim->b.addr4;
	struct xf_sa_config cfg = {
		.id = { .daddr = sa->reverse ? a : b,
			.spi = sa->spi ? sa->spi : 0x1000,
			.proto = sa->proto ? sa->proto : XF_IPPROTO_ESP,
			.family = sa->v6 ? XF_AF_INET6 : XF_AF_INET },
		.saddr = sa->reverse ? b : a,
		.reqid = sa->reqid ? sa->reqid : 1,
		.mode = sa->transport ? XF_MODE_TRANSPORT : XF_MODE_TUNNEL,
		.flags = sa->flags,
		.if_id = sa->if_id,
		.dir = sa->dir,
		.terms = { .sel = sa->sel,
			   .life = sa->life,
			   .replay_window = sa->replay_window ? sa->replay_window : 64,
			   .replay_esn_attr = true,
			   .pcpu = UINT32_MAX },
	};
	uint8_t seed[XF_IVGEN_SEED];
	struct xf_key *key = make_key(sim, sa, &cfg);
	struct xf_sad *sad = xf_engine_sad(host->engine);
	struct xf_sa *out;

	if (!sa->life.hard_packets && !sa->life.hard_bytes)
		cfg.terms.life = (struct xf_lifetime){ .soft_bytes = XF_INF,
						       .hard_bytes = XF_INF,
						       .soft_packets = XF_INF,
						       .hard_packets = XF_INF };
	if (sa->encap_port)
		cfg.terms.encap = (struct xf_encap){ .type = 2,
						     .sport = sa->encap_port,
						     .dport = sa->encap_port };
	sim_random_bytes(sim, seed, sizeof(seed));
	out = xf_sa_new(sad, &cfg, key, XF_SA_VALID, seed, sim->now_ns);
	assert_non_null(out);
	assert_int_equal(xf_sad_add(sad, out, NULL), 0);
	return out;
}

void sim_add_sa_both(struct sim *sim, const struct sim_sa *sa)
{
	sim_add_sa(sim, &sim->a, sa);
	sim_add_sa(sim, &sim->b, sa);
}

static void parse_prefix(const char *text, union xf_addr *addr, uint8_t *bits, uint16_t *family)
{
	char buf[64];
	char *slash;
	int found;

	snprintf(buf, sizeof(buf), "%s", text);
	slash = strchr(buf, '/');
	if (slash)
		*slash = 0;
	found = xf_addr_parse(buf, addr);
	assert_true(found > 0);
	*family = (uint16_t)found;
	*bits = slash ? (uint8_t)atoi(slash + 1) : xf_addr_bits(*family);
}

struct xf_policy *sim_add_policy(struct sim *sim, struct sim_host *host,
				 const struct sim_policy *policy)
{
	const struct sim_host *from = policy->reverse ? &sim->b : &sim->a;
	const struct sim_host *to = policy->reverse ? &sim->a : &sim->b;
	struct xf_policy_config cfg = {
		.dir = policy->dir,
		.action = policy->action,
		.flags = policy->flags,
		.priority = policy->priority,
		.if_id = policy->if_id,
		.ntmpl = policy->no_tmpl ? 0 : 1,
		.sel = { .proto = policy->proto,
			 .dport = policy->dport,
			 .dport_mask = policy->dport ? 0xffff : 0 },
		.life = { .soft_bytes = XF_INF,
			  .hard_bytes = XF_INF,
			  .soft_packets = XF_INF,
			  .hard_packets = XF_INF },
	};
	struct xf_tmpl *tmpl = &cfg.tmpl[0];
	struct xf_policy *out;
	uint16_t family;

	parse_prefix(policy->src, &cfg.sel.saddr, &cfg.sel.prefixlen_s, &family);
	parse_prefix(policy->dst, &cfg.sel.daddr, &cfg.sel.prefixlen_d, &cfg.sel.family);
	tmpl->id.proto = policy->tmpl_proto ? policy->tmpl_proto : XF_IPPROTO_ESP;
	tmpl->id.family = policy->v6_outer ? XF_AF_INET6 : XF_AF_INET;
	tmpl->reqid = policy->reqid ? policy->reqid : 1;
	tmpl->optional = policy->optional;
	tmpl->mode = policy->transport ? XF_MODE_TRANSPORT : XF_MODE_TUNNEL;
	tmpl->aalgos = tmpl->ealgos = tmpl->calgos = UINT32_MAX;
	if (policy->transport) {
		tmpl->id.family = cfg.sel.family;
	} else {
		tmpl->saddr = policy->v6_outer ? from->addr6 : from->addr4;
		tmpl->id.daddr = policy->v6_outer ? to->addr6 : to->addr4;
	}
	if (policy->outer_reqid) {
		cfg.tmpl[1] = *tmpl;
		cfg.tmpl[1].reqid = policy->outer_reqid;
		cfg.tmpl[1].id.proto = policy->outer_proto;
		cfg.ntmpl = 2;
	}
	assert_int_equal(xf_spd_insert(xf_engine_spd(host->engine), &cfg, true, sim->now_ns, &out),
			 0);
	return out;
}

static void add_tunnel_way(struct sim *sim, const struct sim_sa *like, bool reverse)
{
	static const char *const nets[2][2] = { { "192.168.1.0/24", "192.168.2.0/24" },
						{ "2001:db8:1::/64", "2001:db8:2::/64" } };
	struct sim_sa sa = *like;

	sa.reverse = reverse;
	sa.spi = reverse ? 0x2000 : 0x1000;
	sim_add_sa_both(sim, &sa);
	for (int i = 0; i < 2; i++) {
		struct sim_policy policy = { .src = nets[i][reverse],
					     .dst = nets[i][!reverse],
					     .reverse = reverse,
					     .v6_outer = like->v6 };

		policy.dir = XF_DIR_OUT;
		sim_add_policy(sim, reverse ? &sim->b : &sim->a, &policy);
		policy.dir = XF_DIR_FWD;
		sim_add_policy(sim, reverse ? &sim->a : &sim->b, &policy);
	}
}

void sim_add_tunnel(struct sim *sim, const struct sim_sa *like)
{
	add_tunnel_way(sim, like, false);
	add_tunnel_way(sim, like, true);
}

static uint32_t put_ip(uint8_t *p, const struct sim_udp *udp, uint8_t proto)
{
	union xf_addr src = sim_addr(udp->src);
	union xf_addr dst;
	int family = xf_addr_parse(udp->dst, &dst);

	if (family == XF_AF_INET6) {
		xf_put_be32(p, 0x60000000u | (uint32_t)udp->tos << 20);
		xf_put_be16(p + 4, (uint16_t)(udp->len - XF_IPV6_HDR_LEN));
		p[6] = proto;
		p[7] = 63;
		memcpy(p + 8, src.bytes, 16);
		memcpy(p + 24, dst.bytes, 16);
		return XF_IPV6_HDR_LEN;
	}
	p[0] = 0x45;
	p[1] = udp->tos;
	xf_put_be16(p + 2, (uint16_t)udp->len);
	xf_put_be16(p + 4, (uint16_t)udp->tag);
	xf_put_be16(p + 6, udp->df ? XF_IPV4_DF : 0);
	p[8] = 63;
	p[9] = proto;
	memcpy(p + 12, src.bytes, 4);
	memcpy(p + 16, dst.bytes, 4);
	xf_ipv4_set_csum(p, XF_IPV4_HDR_LEN);
	return XF_IPV4_HDR_LEN;
}

struct xf_pkt *sim_udp(struct sim_host *host, const struct sim_udp *udp)
{
	return sim_udp_from(host->worker, udp);
}

struct xf_pkt *sim_udp_from(struct xf_worker *worker, const struct sim_udp *udp)
{
	uint8_t proto = udp->proto ? udp->proto : XF_IPPROTO_UDP;
	uint32_t l4_len = proto == XF_IPPROTO_TCP ? 20 : XF_UDP_HDR_LEN;
	struct xf_pkt *pkt = xf_pkt_new(xf_worker_pool(worker), udp->len);
	uint8_t *p;
	uint32_t off;

	assert_non_null(pkt);
	p = xf_pkt_append(pkt, udp->len);
	assert_non_null(p);
	memset(p, 0, udp->len);
	off = put_ip(p, udp, proto);
	xf_put_be16(p + off, udp->sport);
	xf_put_be16(p + off + 2, udp->dport);
	if (proto == XF_IPPROTO_UDP)
		xf_put_be16(p + off + 4, (uint16_t)(udp->len - off));
	else
		p[off + 12] = 0x50;
	off += l4_len;
	for (uint32_t i = off; i < udp->len; i++)
		p[i] = (uint8_t)(udp->tag + i);
	if (udp->len >= off + 4)
		xf_put_be32(p + off, udp->tag);
	return pkt;
}

unsigned sim_drain(struct xf_pktq *q)
{
	struct xf_pkt *pkt;
	unsigned n = 0;

	for (; (pkt = xf_pktq_pop(q)); n++)
		xf_pkt_free(pkt);
	return n;
}

static void drain_result(struct xf_path_result *res)
{
	sim_drain(&res->wire);
	sim_drain(&res->clear);
	sim_drain(&res->ask);
	sim_drain(&res->deliver);
	sim_drain(&res->reply);
}

void sim_out(struct sim *sim, struct sim_host *host, struct xf_pkt *pkt)
{
	struct xf_pktq q = { .count = 0 };

	drain_result(&host->out);
	xf_pktq_push(&q, pkt);
	xf_path_out(host->worker, &q, sim->now_ns, &host->out);
	assert_int_equal(q.count, 0);
}

/* A wire copies: nothing of one host's pool reaches the other. */
static struct xf_pkt *across(struct sim_host *to, struct xf_pkt *pkt)
{
	struct xf_pkt *copy = xf_pkt_new(xf_worker_pool(to->worker), pkt->len);
	struct xf_ip_info ip;
	uint8_t *p;

	assert_non_null(copy);
	p = xf_pkt_append(copy, pkt->len);
	assert_int_equal(xf_pkt_copy_out(pkt, 0, p, pkt->len), 0);
	xf_pkt_free(pkt);
	copy->iif = to->iif;
	if (xf_ip_parse(copy, false, &ip) == 0 && ip.proto == XF_IPPROTO_UDP && !ip.is_frag) {
		copy->encap_sport = xf_get_be16(p + ip.l4_off);
		copy->encap_dport = xf_get_be16(p + ip.l4_off + 2);
	}
	return copy;
}

void sim_in(struct sim *sim, struct sim_host *host, struct xf_pkt *pkt)
{
	struct xf_pktq q = { .count = 0 };

	drain_result(&host->in);
	xf_pktq_push(&q, across(host, pkt));
	xf_path_in(host->worker, &q, sim->now_ns, &host->in);
	assert_int_equal(q.count, 0);
}

void sim_carry(struct sim *sim, struct sim_host *from, struct sim_host *to)
{
	struct xf_pktq q = { .count = 0 };
	struct xf_pkt *pkt;

	drain_result(&to->in);
	while ((pkt = xf_pktq_pop(&from->out.wire)))
		xf_pktq_push(&q, across(to, pkt));
	xf_path_in(to->worker, &q, sim->now_ns, &to->in);
	assert_int_equal(q.count, 0);
}

uint64_t sim_drops(struct sim_host *host, enum xf_drop reason)
{
	struct xf_engine_stats stats;

	xf_engine_get_stats(host->engine, &stats);
	return stats.drops[reason];
}

uint64_t sim_all_drops(struct sim_host *host)
{
	struct xf_engine_stats stats;
	uint64_t n = 0;

	xf_engine_get_stats(host->engine, &stats);
	for (int i = 0; i < XF_DROP_MAX; i++)
		n += stats.drops[i];
	return n;
}
