#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "sas.h"

#include "sad/use.h"

union xf_addr sas_addr(uint8_t n)
{
	union xf_addr addr = { { 0 } };

	if (n)
		memcpy(addr.bytes, (uint8_t[]){ 10, 0, 0, n }, 4);
	return addr;
}

struct xf_sa_config sas_config(uint8_t src, uint8_t dst, uint32_t spi)
{
	return (struct xf_sa_config){
		.id = { .daddr = sas_addr(dst),
			.spi = spi,
			.family = XF_AF_INET,
			.proto = XF_IPPROTO_ESP },
		.saddr = sas_addr(src),
		.mode = XF_MODE_TUNNEL,
		.terms = { .life = { .soft_bytes = XF_INF,
				     .hard_bytes = XF_INF,
				     .soft_packets = XF_INF,
				     .hard_packets = XF_INF },
			   .pcpu = UINT32_MAX,
			   .replay_window = 32 },
	};
}

struct xf_sa *sas_new_as(struct xf_sad *sad, const struct xf_sa_config *cfg, enum xf_sa_state state,
			 uint64_t now_ns)
{
	struct xf_sa *sa = xf_sa_new(sad, cfg, NULL, state, NULL, now_ns);

	assert_non_null(sa);
	return sa;
}

struct xf_sa *sas_new(struct xf_sad *sad, const struct xf_sa_config *cfg, uint64_t now_ns)
{
	return sas_new_as(sad, cfg, XF_SA_VALID, now_ns);
}

struct xf_sa *sas_new_larval(struct xf_sad *sad, const struct xf_sa_config *cfg, uint64_t now_ns)
{
	return sas_new_as(sad, cfg, XF_SA_ACQ, now_ns);
}

uint64_t sas_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

uint64_t sas_seed(uint64_t fallback)
{
	const char *text = getenv("TEST_SEED");
	uint64_t seed = text ? strtoull(text, NULL, 0) : fallback;

	print_message("# TEST_SEED=%" PRIu64 "\n", seed);
	return seed;
}

static void random_bytes(void *arg, void *buf, size_t len)
{
	static uint64_t state = 1;
	uint8_t *out = buf;

	(void)arg;
	while (len--)
		*out++ = (uint8_t)sas_random(&state);
}

struct xf_sad *sas_sad(uint32_t max_sas)
{
	const struct xf_sad_config cfg = {
		.max_sas = max_sas,
		.seed = { 11, 22 },
		.larval_lifetime_s = 30,
		.real_offset_ns = SAS_REAL_OFFSET_S * XF_NSEC_PER_SEC,
		.random = random_bytes,
	};
	struct xf_sad *sad = xf_sad_new(&cfg);

	assert_non_null(sad);
	return sad;
}

struct xf_sa *sas_add(struct xf_sad *sad, const struct xf_sa_config *cfg)
{
	struct xf_sa *sa = sas_new(sad, cfg, 10 * XF_NSEC_PER_SEC);

	assert_int_equal(xf_sad_add(sad, sa, NULL), 0);
	return sa;
}

uint32_t sas_count(const struct xf_sad *sad)
{
	struct xf_sad_info info;

	xf_sad_get_info(sad, &info);
	return info.count;
}

int sas_alloc(struct xf_sad *sad, const struct xf_sa_config *cfg, uint32_t min, uint32_t max,
	      struct xf_sa **out)
{
	const struct xf_spi_request req = {
		.cfg = cfg, .min = min, .max = max, .now_ns = 5 * XF_NSEC_PER_SEC
	};

	*out = NULL;
	return xf_sad_alloc_spi(sad, &req, out, NULL);
}

int sas_update(struct xf_sad *sad, const struct xf_sa_config *cfg, struct xf_sa **now)
{
	struct xf_sa *sa = sas_new(sad, cfg, 20 * XF_NSEC_PER_SEC);
	int err = xf_sad_update(sad, sa, now);

	if (err)
		xf_sa_put(sa);
	return err;
}

int sas_try_add(struct xf_sad *sad, const struct xf_sa_config *cfg)
{
	struct xf_sa *sa = sas_new(sad, cfg, 10 * XF_NSEC_PER_SEC);
	int err = xf_sad_add(sad, sa, NULL);

	if (err)
		xf_sa_put(sa);
	return err;
}

enum xf_drop sas_take_seq(struct xf_sa *sa, uint64_t *seq)
{
	const struct xf_sa_form *form = xf_sa_form(sa);
	struct xf_sa_numbers taken;

	if (xf_sa_take_numbers(sa, form, 1, &taken) == 0)
		return XF_DROP_OUT_STATE_SEQ;
	*seq = xf_sa_seq(form, taken.seq);
	return XF_PASS;
}

enum xf_drop sas_commit(struct xf_sa *sa, uint64_t seq)
{
	enum xf_drop drop;

	xf_sa_window_lock(sa);
	drop = xf_sa_replay_commit(sa, seq);
	xf_sa_window_unlock(sa);
	return drop;
}
