#include <stdio.h>
#include <stdlib.h>

#include <libmnl/libmnl.h>
#include <xf/freeze.h>

#include "records.h"

#include "nl/record.h"
#include "nl/uapi.h"

static void random_bytes(void *arg, void *buf, size_t len)
{
	static uint64_t state = 7;
	uint8_t *p = buf;

	(void)arg;
	while (len--) {
		state = state * 6364136223846793005u + 1442695040888963407u;
		*p++ = (uint8_t)(state >> 56);
	}
}

static int note_answer(void *arg, const void *data, size_t len)
{
	const struct nlmsghdr *nlh = data;
	struct rec_side *side = arg;

	assert_true(mnl_nlmsg_ok(nlh, (int)len));
	assert_int_equal(nlh->nlmsg_type, NLMSG_ERROR);
	memcpy(&side->err, mnl_nlmsg_get_payload(nlh), sizeof(side->err));
	return 0;
}

void rec_init(struct rec_side *side, struct sim_host *host)
{
	const struct xf_nl_server_config server = {
		.sad = xf_engine_sad(host->engine),
		.spd = xf_engine_spd(host->engine),
		.random = random_bytes,
	};
	const struct xf_nl_client_config client = { .send = note_answer, .arg = side };

	*side = (struct rec_side){ .host = host, .server = xf_nl_server_new(&server) };
	assert_non_null(side->server);
	assert_int_equal(xf_nl_client_new(side->server, &client, &side->client), 0);
}

void rec_fini(struct rec_side *side)
{
	xf_nl_client_free(side->client);
	xf_nl_server_free(side->server);
}

uint64_t rec_start(const struct rec_sa *sa)
{
	return sa->kind == REC_GCM_ESN ? (1ull << 32) - 2 - sa->spi % 4 : sa->spi % 3;
}

unsigned rec_iv_len(const struct rec_sa *sa)
{
	return sa->kind == REC_CBC ? 16 : 8;
}

static void put_addr(xfrm_address_t *addr, uint8_t last)
{
	memcpy(addr, (uint8_t[]){ 10, 0, 0, last }, 4);
}

static void put_key(uint8_t *key, size_t len, uint32_t spi)
{
	for (size_t i = 0; i < len; i++)
		key[i] = (uint8_t)(spi >> 8 * (i % 4)) ^ (uint8_t)i;
}

static void put_aead(struct nlmsghdr *nlh, const char *name, uint32_t key_bits, uint32_t spi)
{
	struct {
		struct xfrm_algo_aead alg;
		uint8_t key[36];
	} aead = { .alg = { .alg_key_len = key_bits, .alg_icv_len = 128 } };

	snprintf(aead.alg.alg_name, sizeof(aead.alg.alg_name), "%s", name);
	put_key(aead.key, key_bits / 8, spi);
	mnl_attr_put(nlh, XFRMA_ALG_AEAD, sizeof(aead.alg) + key_bits / 8, &aead);
}

static void put_alg(struct nlmsghdr *nlh, uint16_t type, const char *name, uint32_t spi)
{
	struct {
		struct xfrm_algo alg;
		uint8_t key[32];
	} alg = { .alg = { .alg_key_len = type == XFRMA_ALG_AUTH ? 256 : 128 } };

	snprintf(alg.alg.alg_name, sizeof(alg.alg.alg_name), "%s", name);
	put_key(alg.key, alg.alg.alg_key_len / 8, spi);
	mnl_attr_put(nlh, type, sizeof(alg.alg) + alg.alg.alg_key_len / 8, &alg);
}

static void put_algs(struct nlmsghdr *nlh, const struct rec_sa *sa)
{
	if (sa->kind == REC_CBC) {
		put_alg(nlh, XFRMA_ALG_AUTH, "sha256", sa->spi);
		put_alg(nlh, XFRMA_ALG_CRYPT, "aes", sa->spi);
	} else if (sa->kind == REC_CHACHA) {
		put_aead(nlh, "rfc7539esp(chacha20,poly1305)", 288, sa->spi);
	} else {
		put_aead(nlh, "rfc4106(gcm(aes))", 160, sa->spi);
	}
}

/* Both ends begin with the same number. */
static void put_replay(struct nlmsghdr *nlh, const struct rec_sa *sa)
{
	uint64_t start = rec_start(sa);
	struct xfrm_replay_state legacy = { .oseq = (uint32_t)start, .seq = (uint32_t)start };
	struct {
		struct xfrm_replay_state_esn esn;
		uint32_t bmp[32];
	} state = { .esn = { .oseq = legacy.oseq,
			     .seq = legacy.seq,
			     .bmp_len = sa->kind == REC_CBC ? 32 : 2,
			     .replay_window = sa->kind == REC_CBC ? 1000 : 64 } };

	if (sa->kind == REC_GCM)
		mnl_attr_put(nlh, XFRMA_REPLAY_VAL, sizeof(legacy), &legacy);
	else
		mnl_attr_put(nlh, XFRMA_REPLAY_ESN_VAL, sizeof(state.esn) + 4 * state.esn.bmp_len,
			     &state);
}

void rec_add(struct rec_side *side, const struct rec_sa *sa)
{
	_Alignas(8) uint8_t buf[2048];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct xfrm_usersa_info *info = mnl_nlmsg_put_extra_header(nlh, sizeof(*info));

	nlh->nlmsg_type = XFRM_MSG_NEWSA;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	put_addr(&info->saddr, sa->reverse ? 2 : 1);
	put_addr(&info->id.daddr, sa->reverse ? 1 : 2);
	xf_put_be32(&info->id.spi, sa->spi);
	info->id.proto = XF_IPPROTO_ESP;
	info->family = XF_AF_INET;
	info->mode = XF_MODE_TUNNEL;
	info->reqid = sa->tunnel + 1;
	info->flags = sa->kind == REC_GCM_ESN ? XF_SA_ESN : 0;
	info->replay_window = sa->kind == REC_GCM ? 32 : 0;
	memset(&info->lft, 0xff, offsetof(struct xfrm_lifetime_cfg, soft_add_expires_seconds));
	put_algs(nlh, sa);
	put_replay(nlh, sa);
	side->err = 1;
	xf_nl_client_request(side->client, buf, nlh->nlmsg_len, XF_NSEC_PER_SEC);
	assert_int_equal(side->err, 0);
}

struct xf_sa *rec_find_in(const struct rec_side *side, const struct rec_sa *sa)
{
	const struct xf_sa_id id = { .daddr.bytes = { 10, 0, 0, sa->reverse ? 1 : 2 },
				     .spi = sa->spi,
				     .family = XF_AF_INET,
				     .proto = XF_IPPROTO_ESP };

	return xf_sad_find_in(xf_engine_sad(side->host->engine), &id, 0);
}

struct xf_sa *rec_find_out(const struct rec_side *side, const struct rec_sa *sa)
{
	const union xf_addr ends[2] = { { .bytes = { 10, 0, 0, 1 } },
					{ .bytes = { 10, 0, 0, 2 } } };
	const struct xf_tmpl tmpl = { .id = { .family = XF_AF_INET, .proto = XF_IPPROTO_ESP },
				      .mode = XF_MODE_TUNNEL,
				      .reqid = sa->tunnel + 1 };
	const struct xf_flow flow = { .family = XF_AF_INET };
	const struct xf_sad_query query = { .tmpl = &tmpl,
					    .saddr = &ends[sa->reverse],
					    .daddr = &ends[!sa->reverse],
					    .flow = &flow };

	return xf_sad_find_out(xf_engine_sad(side->host->engine), &query, NULL);
}

static void net(char *text, size_t len, unsigned side, unsigned tunnel, const char *suffix)
{
	snprintf(text, len, "10.%u.%u.%u%s", side, tunnel / 256 % 256, tunnel % 256, suffix);
}

void rec_add_policies(struct sim *sim, struct sim_host *host, unsigned tunnel, bool b)
{
	char one[32], two[32];

	net(one, sizeof(one), 1, tunnel, "/32");
	net(two, sizeof(two), 2, tunnel, "/32");
	for (unsigned reverse = 0; reverse < 2; reverse++) {
		const struct sim_policy policy = { .src = reverse ? two : one,
						   .dst = reverse ? one : two,
						   .dir = reverse == b ? XF_DIR_OUT : XF_DIR_FWD,
						   .reqid = tunnel + 1,
						   .reverse = reverse };

		sim_add_policy(sim, host, &policy);
	}
}

struct xf_pkt *rec_packet(struct xf_worker *worker, unsigned tunnel, bool reverse, uint32_t tag)
{
	char src[32], dst[32];
	const struct sim_udp udp = { .src = src, .dst = dst, .len = 60, .tag = tag };

	net(src, sizeof(src), reverse ? 2 : 1, tunnel, "");
	net(dst, sizeof(dst), reverse ? 1 : 2, tunnel, "");
	return sim_udp_from(worker, &udp);
}

void rec_move(struct rec_side *from, struct rec_side *to, struct xf_sa *const *sas, unsigned n)
{
	uint8_t *records = xf_secret_alloc(n * XF_NL_RECORD_MAX);
	size_t all = 0, len;
	const char *why;

	assert_non_null(records);
	assert_int_equal(xf_sad_freeze(xf_engine_sad(from->host->engine), sas, n), n);
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(xf_nl_record_write(sas[i], records + all, XF_NL_RECORD_MAX, &len),
				 0);
		all += len;
	}
	assert_int_equal(xf_nl_restore(to->server, records, all, &why), 0);
	xf_secret_free(records, n * XF_NL_RECORD_MAX);
}

/* --- IVs --- */

struct pair {
	uint32_t spi; /* 0: free */
	uint8_t iv[16];
};

struct rec_ivs {
	unsigned mask;
	unsigned n;
	struct pair pairs[];
};

struct rec_ivs *rec_ivs_new(unsigned room)
{
	unsigned size = 16;
	struct rec_ivs *ivs;

	while (size < 2 * room)
		size *= 2;
	ivs = calloc(1, sizeof(*ivs) + size * sizeof(ivs->pairs[0]));
	assert_non_null(ivs);
	ivs->mask = size - 1;
	return ivs;
}

bool rec_ivs_add(struct rec_ivs *ivs, uint32_t spi, const uint8_t *iv, unsigned iv_len)
{
	struct pair pair = { .spi = spi };
	uint64_t hash = spi * 0x9e3779b97f4a7c15u;
	unsigned at;

	memcpy(pair.iv, iv, iv_len);
	for (unsigned i = 0; i < iv_len; i++)
		hash = (hash ^ iv[i]) * 0x100000001b3u;
	for (at = (unsigned)(hash >> 20) & ivs->mask; ivs->pairs[at].spi; at = (at + 1) & ivs->mask)
		if (memcmp(&ivs->pairs[at], &pair, sizeof(pair)) == 0)
			return false;
	ivs->pairs[at] = pair;
	assert_true(++ivs->n <= ivs->mask);
	return true;
}

void rec_ivs_free(struct rec_ivs *ivs)
{
	free(ivs);
}
