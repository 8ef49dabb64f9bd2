/*
 * Any bytes as an outer packet for an SA that has the right key: the harness puts SPI and ICV in
 * place, so that what is behind the cipher is reached. Byte 0: which SA; byte 1: how the packet
 * is cut; byte 2: what is mended; the rest is the packet.
 */
#include "fuzz_packet.h"

#include <xf/esp.h>

#include "sad/use.h"

#define ICV_LEN 12
#define SPI 0x51525354u
#define NSAS 8

enum mend { MEND_LENGTHS = 1, MEND_SPI = 2, MEND_ICV = 4, MEND_PROTO = 8, MEND_SEQ = 16 };

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct xf_sa *sas[NSAS];
static struct xf_crypto_ctx *ctx;
static struct xf_transform_op op;

/* Tunnel or transport, with and without UDP and ESN; outbound family does not matter here. */
static struct xf_sa *make_sa(struct xf_sad *sad, unsigned i)
{
	const struct xf_suite suite = { .cipher = XF_CIPHER_NULL,
					.auth = XF_AUTH_HMAC_SHA1,
					.auth_key_len = 20,
					.block_len = 1,
					.icv_len = ICV_LEN };
	struct xf_sa_config cfg = { .terms = { .suite = suite, .replay_window = 64 } };
	static const uint8_t key_bytes[20], seed[XF_IVGEN_SEED];
	struct xf_key *key;
	struct xf_sa *sa;

	cfg.id.spi = SPI;
	cfg.id.family = XF_AF_INET;
	cfg.id.proto = XF_IPPROTO_ESP;
	cfg.mode = i & 1 ? XF_MODE_TUNNEL : XF_MODE_TRANSPORT;
	cfg.terms.encap.type = i & 2 ? 2 : 0;
	if (i & 4) {
		cfg.flags = XF_SA_ESN | XF_SA_DECAP_DSCP;
		cfg.terms.replay_esn_attr = true;
	}
	cfg.terms.life.soft_bytes = cfg.terms.life.hard_bytes = XF_INF;
	cfg.terms.life.soft_packets = cfg.terms.life.hard_packets = XF_INF;
	FUZZ_CHECK(xf_key_new(&suite, &xf_provider_openssl, NULL, key_bytes, &key) == 0);
	sa = xf_sa_new(sad, &cfg, key, XF_SA_VALID, seed, 1);
	FUZZ_CHECK(sa);
	return sa;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const struct xf_sad_config cfg = { .max_sas = 0 };
	struct xf_sad *sad = xf_sad_new(&cfg);

	(void)argc;
	(void)argv;
	xf_read_register();
	ctx = xf_provider_openssl.ctx_new(&xf_provider_openssl, NULL);
	FUZZ_CHECK(sad && ctx);
	for (unsigned i = 0; i < NSAS; i++)
		sas[i] = make_sa(sad, i);
	return 0;
}

static void run(struct xf_crypto_op *crypto)
{
	struct xf_crypto_op *done;

	FUZZ_CHECK(xf_provider_openssl.submit(ctx, &crypto, 1) == 1);
	while (!xf_provider_openssl.complete(ctx, &done, 1))
		;
}

static void put_icv(struct xf_sa *sa, uint8_t *esp, uint32_t esp_len)
{
	struct xf_crypto_op sign = { .key = xf_sa_key(sa), .encrypt = true, .aad_len = 8 };
	struct xf_seg seg = { .data = esp + 8, .len = esp_len - 8 - ICV_LEN };
	uint64_t seq = xf_sa_infer_seq(sa, xf_get_be32(esp + 4));

	sign.aad = esp;
	sign.icv = esp + 8 + seg.len;
	if (xf_sa_cfg(sa)->flags & XF_SA_ESN) {
		sign.tail_len = 4;
		xf_put_be32(sign.tail, (uint32_t)(seq >> 32));
	}
	sign.src = sign.dst = &seg;
	sign.nsrc = sign.ndst = 1;
	sign.len = seg.len;
	run(&sign);
}

/* Make the packet at @p one that gets as far as @what allows. */
static void mend(struct xf_sa *sa, uint8_t *p, uint32_t len, uint8_t what)
{
	bool udp = xf_sa_cfg(sa)->terms->encap.type;
	struct xf_ip_info ip;
	struct xf_pkt *pkt;
	uint32_t esp, end;
	int err;

	if ((what & MEND_LENGTHS) && len >= 40 && p[0] >> 4 == 4)
		xf_put_be16(p + 2, (uint16_t)len);
	if ((what & MEND_LENGTHS) && len >= 40 && p[0] >> 4 == 6)
		xf_put_be16(p + 4, (uint16_t)(len - 40));
	pkt = fuzz_packet(p, len, 0, false);
	err = xf_ip_parse(pkt, false, &ip);
	xf_pkt_free(pkt);
	esp = ip.l4_off + (udp ? 8 : 0);
	end = ip.total_len;
	if (err < 0 || esp + 8 + ICV_LEN > end)
		return;
	if (what & MEND_PROTO)
		p[ip.l4_nexthdr_field] = udp ? XF_IPPROTO_UDP : XF_IPPROTO_ESP;
	if (udp && (what & MEND_LENGTHS))
		xf_put_be16(p + ip.l4_off + 4, (uint16_t)(end - ip.l4_off));
	if (what & MEND_SPI)
		xf_put_be32(p + esp, SPI);
	if ((what & MEND_SEQ) && xf_get_be32(p + esp + 4) == 0)
		p[esp + 7] = 1;
	if (what & MEND_ICV)
		put_icv(sa, p + esp, end - esp);
}

static enum xf_drop receive(struct xf_sa *sa, struct xf_pkt *pkt, const uint8_t *wire, uint32_t len)
{
	uint32_t udp_len = xf_sa_cfg(sa)->terms->encap.type ? XF_UDP_HDR_LEN : 0;
	uint8_t copy[FUZZ_LEN_MAX];
	static struct xf_ip_info ip; /* op.ip points to it */
	enum xf_drop drop;

	if (xf_ip_parse(pkt, false, &ip) < 0)
		return XF_DROP_IN_HDR;
	fuzz_check_info(pkt, &ip);
	if (ip.proto != (udp_len ? XF_IPPROTO_UDP : XF_IPPROTO_ESP))
		return XF_DROP_IN_HDR;
	drop = xf_esp_in_prepare(sa, pkt, &ip, udp_len, 1, &op);
	if (drop != XF_PASS) {
		FUZZ_CHECK(pkt->len == len && xf_pkt_copy_out(pkt, 0, copy, len) == 0);
		FUZZ_CHECK(memcmp(copy, wire, len) == 0);
		return drop;
	}
	run(&op.crypto);
	return xf_esp_in_finish(&op, 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct xf_sa_replay_state fresh;
	static uint8_t wire[FUZZ_LEN_MAX];
	uint32_t len = (uint32_t)size - 3;
	struct xf_ip_info ip;
	struct xf_pkt *pkt;
	struct xf_sa *sa;

	if (size < 4 || size > FUZZ_LEN_MAX)
		return 0;
	sa = sas[data[0] % NSAS];
	xf_sa_set_replay_state(sa, &fresh);
	memcpy(wire, data + 3, len);
	mend(sa, wire, len, data[2]);
	pkt = fuzz_packet(wire, len, data[1], data[1] & 32);
	if (receive(sa, pkt, wire, len) == XF_PASS) {
		FUZZ_CHECK(xf_ip_parse(pkt, false, &ip) == 0);
		FUZZ_CHECK(memcmp(&ip, op.ip, sizeof(ip)) == 0);
		FUZZ_CHECK(ip.total_len == pkt->len && ip.family == pkt->family);
	}
	xf_pkt_free(pkt);
	fuzz_pool_check();
	return 0;
}
