#include <xf/crypto.h>

/* Order does not matter, preference decides. A provider that was not built is here all the same. */
static const struct xf_crypto_provider *const providers[] = {
	&xf_provider_ipsec_mb,
	&xf_provider_openssl,
	NULL,
};

const struct xf_crypto_provider *const *xf_crypto_providers(void)
{
	return providers;
}

const struct xf_crypto_provider *xf_crypto_best(const struct xf_suite *suite)
{
	const struct xf_crypto_provider *best = NULL;

	/* has() is asked last: the first time it may probe the CPU. */
	for (unsigned i = 0; providers[i]; i++) {
		if (best && providers[i]->preference <= best->preference)
			continue;
		if (providers[i]->has(suite))
			best = providers[i];
	}
	return best;
}
