#include <stdlib.h>

#include <intel-ipsec-mb.h>

#include "raw.h"

struct raw {
	struct gcm_key_data key __attribute__((aligned(64)));
	struct gcm_context_data context;
	IMB_MGR *mgr;
	uint8_t aad[8];
	uint8_t tag[16];
};

const char *const raw_name = "ipsec-mb, direct call";

struct raw *raw_new(const uint8_t key[16])
{
	struct raw *raw = aligned_alloc(64, (sizeof(*raw) + 63) & ~(size_t)63);

	if (!raw)
		return NULL;
	raw->mgr = alloc_mb_mgr(0);
	if (!raw->mgr) {
		free(raw);
		return NULL;
	}
	init_mb_mgr_auto(raw->mgr, NULL);
	for (unsigned i = 0; i < sizeof(raw->aad); i++)
		raw->aad[i] = (uint8_t)i;
	IMB_AES128_GCM_PRE(raw->mgr, key, &raw->key);
	return raw;
}

void raw_free(struct raw *raw)
{
	free_mb_mgr(raw->mgr);
	free(raw);
}

void raw_seal(struct raw *raw, uint8_t *text, uint32_t len, const uint8_t nonce[12])
{
	IMB_AES128_GCM_ENC(raw->mgr, &raw->key, &raw->context, text, text, len, nonce, raw->aad,
			   sizeof(raw->aad), raw->tag, sizeof(raw->tag));
}

void raw_open(struct raw *raw, uint8_t *text, uint32_t len, const uint8_t nonce[12])
{
	IMB_AES128_GCM_DEC(raw->mgr, &raw->key, &raw->context, text, text, len, nonce, raw->aad,
			   sizeof(raw->aad), raw->tag, sizeof(raw->tag));
}
