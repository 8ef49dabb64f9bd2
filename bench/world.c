#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <xf/ip.h>
#include <xf/rcu.h>

#define INNER_NET 0x0a000000u /* 10.0.0.0/8 */
#define FIRST_SPI 0x1000u

static const struct suite {
	const char *name;
	const char *aead, *crypt, *auth;
	uint32_t key_bits;
	uint32_t block;
} suites[] = {
	{ "gcm128", "rfc4106(gcm(aes))", NULL, NULL, 160, 4 },
	{ "gcm256", "rfc4106(gcm(aes))", NULL, NULL, 288, 4 },
	{ "chacha", "rfc7539esp(chacha20,poly1305)", NULL, NULL, 288, 4 },
	{ "cbc128-sha256", NULL, "cbc(aes)", "hmac(sha256)", 128, 16 },
};

static const struct xf_lifetime no_limit = {
	.soft_bytes = XF_INF,
	.hard_bytes = XF_INF,
	.soft_packets = XF_INF,
	.hard_packets = XF_INF,
};

uint64_t bench_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void bench_must(bool fine, const char *what)
{
	if (fine)
		return;
	fprintf(stderr, "bench: %s failed\n", what);
	exit(1);
}

static bool is_local(void *arg, const union xf_addr *addr, uint16_t family)
{
	(void)arg;
	(void)addr;
	(void)family;
	return true;
}

static void not_random(void *arg, void *buf, size_t len)
{
	(void)arg;
	memset(buf, 0x5a, len);
}

static void set_ipv4(union xf_addr *addr, uint32_t value)
{
	char text[16];

	snprintf(text, sizeof(text), "%u.%u.%u.%u", value >> 24, value >> 16 & 255,
		 value >> 8 & 255, value & 255);
	xf_addr_parse(text, addr);
}

/* Of the inner packets to SA @index. */
static uint32_t inner_addr(uint32_t index)
{
	return INNER_NET + 0x10000 + index;
}

/* Templates of tunnels choose by it, as their addresses are all the same. */
static uint32_t reqid_of(const struct world *world, uint32_t index)
{
	return world->mode == XF_MODE_TUNNEL ? index + 1 : 1;
}

static bool build_suite(const struct suite *suite, struct xf_suite *out)
{
	struct xf_suite_request req = { .cipher_key_bits = suite->key_bits };

	if (suite->aead) {
		req.aead = xf_alg_find(XF_ALG_AEAD, suite->aead, 128);
		req.icv_bits = 128;
	} else {
		req.crypt = xf_alg_find(XF_ALG_CRYPT, suite->crypt, 0);
		req.auth = xf_alg_find(XF_ALG_AUTH, suite->auth, 128);
		req.auth_key_bits = 256;
		req.icv_bits = 128;
	}
	return xf_suite_build(&req, out) == 0;
}

static bool add_sa(struct world *world, const struct xf_suite *suite,
		   const struct xf_crypto_provider *provider, uint32_t index)
{
	struct xf_sa_config cfg = {
		.id = { .spi = FIRST_SPI + index, .family = XF_AF_INET, .proto = XF_IPPROTO_ESP },
		.reqid = reqid_of(world, index),
		.mode = world->mode,
		.flags = world->esn ? XF_SA_ESN : 0,
		.terms = { .life = no_limit,
			   .suite = *suite,
			   .replay_window = 64,
			   .pcpu = UINT32_MAX },
	};
	uint8_t cipher_key[XF_CIPHER_KEY_MAX + XF_SALT_MAX] = { 1, 2, 3 };
	uint8_t auth_key[XF_AUTH_KEY_MAX] = { 4, 5, 6 };
	uint8_t seed[XF_IVGEN_SEED] = { 1 };
	struct xf_sad *sad = xf_engine_sad(world->engine);
	struct xf_key *key;
	struct xf_sa *sa;

	memcpy(cipher_key + 4, &index, sizeof(index));
	xf_addr_parse(world->mode == XF_MODE_TUNNEL ? "192.0.2.1" : "10.0.0.1", &cfg.saddr);
	if (world->mode == XF_MODE_TUNNEL)
		xf_addr_parse("192.0.2.2", &cfg.id.daddr);
	else
		set_ipv4(&cfg.id.daddr, inner_addr(index));
	if (xf_key_new(suite, provider, cipher_key, auth_key, &key))
		return false;
	sa = xf_sa_new(sad, &cfg, key, XF_SA_VALID, seed, bench_now_ns());
	bench_must(sa != NULL, "xf_sa_new");
	bench_must(xf_sad_add(sad, sa, NULL) == 0, "xf_sad_add");
	xf_sa_set_route_mtu(sa, 65535);
	world->sas[index] = sa;
	return true;
}

/* Both ways, for SAs of @reqid. */
static void add_policy(struct world *world, struct xf_policy_config *cfg, uint32_t reqid)
{
	struct xf_tmpl *tmpl = &cfg->tmpl[0];

	cfg->life = no_limit;
	cfg->ntmpl = 1;
	if (world->mode == XF_MODE_TUNNEL) {
		xf_addr_parse("192.0.2.1", &tmpl->saddr);
		xf_addr_parse("192.0.2.2", &tmpl->id.daddr);
	}
	tmpl->id.family = XF_AF_INET;
	tmpl->id.proto = XF_IPPROTO_ESP;
	tmpl->mode = world->mode;
	tmpl->reqid = reqid;
	tmpl->aalgos = tmpl->ealgos = tmpl->calgos = UINT32_MAX;
	for (cfg->dir = XF_DIR_IN; cfg->dir <= XF_DIR_OUT; cfg->dir++) {
		struct xf_policy *policy;

		bench_must(xf_spd_insert(xf_engine_spd(world->engine), cfg, true, bench_now_ns(),
					 &policy) == 0,
			   "xf_spd_insert");
	}
	if (++world->npolicies % 256 == 0)
		xf_rcu_drain();
}

static void add_policy_to(struct world *world, uint32_t daddr, uint8_t prefixlen, uint32_t reqid)
{
	struct xf_policy_config cfg = {
		.sel = { .family = XF_AF_INET, .prefixlen_s = 8, .prefixlen_d = prefixlen },
		.priority = world->npolicies,
	};

	set_ipv4(&cfg.sel.saddr, INNER_NET);
	set_ipv4(&cfg.sel.daddr, daddr);
	add_policy(world, &cfg, reqid);
}

/* Those that nothing matches stand before what SAs serve. */
static void draw_policies(struct world *world, uint32_t count)
{
	for (uint32_t i = 1; i < count; i++)
		add_policy_to(world, 0xac100000u + i * 256, 24, 1);
	if (world->mode != XF_MODE_TUNNEL || world->nsas == 1) {
		add_policy_to(world, INNER_NET, 8, 1);
		return;
	}
	for (uint32_t i = 0; i < world->nsas; i++)
		add_policy_to(world, inner_addr(i), 32, reqid_of(world, i));
}

static void add_policies(struct world *world, const struct world_config *cfg)
{
	if (!cfg->set)
		draw_policies(world, cfg->policies);
	for (uint32_t i = 0; cfg->set && i < cfg->policies; i++) {
		struct xf_policy_config policy = cfg->set[i];

		add_policy(world, &policy, 1);
	}
}

static const struct suite *find_suite(const char *name)
{
	for (unsigned i = 0; i < XF_ARRAY_SIZE(suites); i++)
		if (strcmp(suites[i].name, name) == 0)
			return &suites[i];
	return NULL;
}

bool world_init(struct world *world, const struct world_config *cfg)
{
	const struct xf_engine_config engine = {
		.sad = { .random = not_random,
			 .larval_lifetime_s = 30,
			 .replay_slack = cfg->replay_slack,
			 .one_worker = cfg->one_worker },
		.env = { .is_local = is_local },
	};
	const struct xf_worker_config worker = { .pool = cfg->pool, .ordered = cfg->ordered };
	const struct suite *named = find_suite(cfg->suite);
	struct xf_suite suite;

	if (!named || !build_suite(named, &suite) || !xf_crypto_best(&suite))
		return false;
	memset(world, 0, sizeof(*world));
	world->block = named->block;
	world->nsas = cfg->sas;
	world->mode = cfg->transport ? XF_MODE_TRANSPORT : XF_MODE_TUNNEL;
	world->esn = cfg->esn;
	world->engine = xf_engine_new(&engine);
	bench_must(world->engine != NULL, "xf_engine_new");
	world->worker = xf_worker_new(world->engine, &worker);
	bench_must(world->worker != NULL, "xf_worker_new");
	world->sas = calloc(cfg->sas, sizeof(struct xf_sa *));
	bench_must(world->sas != NULL, "calloc");
	for (uint32_t i = 0; i < cfg->sas; i++)
		bench_must(add_sa(world, &suite, cfg->provider, i), "xf_key_new");
	add_policies(world, cfg);
	return true;
}

void world_fini(struct world *world)
{
	xf_worker_free(world->worker);
	xf_engine_free(world->engine);
	free(world->sas);
}

/* What stays in front of the ESP header. */
static uint32_t clear_len(const struct world *world)
{
	return world->mode == XF_MODE_TUNNEL ? 0 : XF_IPV4_HDR_LEN;
}

uint32_t world_text(const struct world *world, uint32_t len)
{
	uint32_t payload = len - clear_len(world) + 2; /* RFC 4303 s2.4: two bytes of trailer */

	return (payload + world->block - 1) / world->block * world->block;
}

uint32_t world_inner(const struct world *world, uint32_t text)
{
	return text - 4 + clear_len(world);
}

static void finish_header(struct xf_pkt *pkt, uint8_t *data, uint32_t index)
{
	xf_put_be16(data + 2, (uint16_t)pkt->len);
	xf_put_be32(data + 16, inner_addr(index));
	xf_put_be16(data + 10, 0);
	xf_ipv4_set_csum(data, XF_IPV4_HDR_LEN);
	pkt->family = XF_AF_INET;
	pkt->local = true;
}

static struct xf_pkt *new_packet(struct world *world, uint32_t len, uint8_t proto)
{
	static const uint8_t head[20] = { 0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 0, 0, 0, 10, 0, 0, 1 };
	struct xf_pkt *pkt = xf_pkt_new(xf_worker_pool(world->worker), len);
	uint8_t *data;

	bench_must(pkt != NULL, "xf_pkt_new");
	data = xf_pkt_append(pkt, len);
	bench_must(data != NULL, "xf_pkt_append");
	memset(data, 0, len);
	memcpy(data, head, sizeof(head));
	data[9] = proto;
	finish_header(pkt, data, 0);
	return pkt;
}

struct xf_pkt *world_packet(struct world *world, uint32_t len)
{
	struct xf_pkt *pkt = new_packet(world, len, XF_IPPROTO_UDP);
	uint8_t *udp = pkt->segs[0].data + XF_IPV4_HDR_LEN;

	xf_put_be16(udp, 7);
	xf_put_be16(udp + 2, 7);
	xf_put_be16(udp + 4, (uint16_t)(len - XF_IPV4_HDR_LEN));
	return pkt;
}

struct xf_pkt *world_super(struct world *world, unsigned count, uint32_t size)
{
	struct xf_pkt *pkt = new_packet(world, 40 + count * size, XF_IPPROTO_TCP);
	uint8_t *tcp = pkt->segs[0].data + XF_IPV4_HDR_LEN;

	xf_put_be16(tcp, 7);
	xf_put_be16(tcp + 2, 7);
	tcp[12] = 5 << 4;
	tcp[13] = 0x10; /* ACK */
	pkt->gso_type = XF_GSO_TCP4;
	pkt->gso_size = (uint16_t)size;
	pkt->csum_start = XF_IPV4_HDR_LEN;
	pkt->csum_offset = 16;
	return pkt;
}

void world_aim(struct xf_pkt *pkt, uint32_t index)
{
	finish_header(pkt, pkt->segs[0].data, index);
}

void world_aim_flow(struct xf_pkt *pkt, const struct xf_flow *flow)
{
	uint8_t *data = pkt->segs[0].data;

	memcpy(data + 12, flow->saddr.bytes, 4);
	memcpy(data + 16, flow->daddr.bytes, 4);
	xf_put_be16(data + 10, 0);
	xf_ipv4_set_csum(data, XF_IPV4_HDR_LEN);
}

void world_renew(struct xf_pkt *pkt)
{
	pkt->sp_len = 0;
	pkt->local = true;
	pkt->family = XF_AF_INET;
	pkt->mark = 0;
}
