#include <xf/crypto.h>

#include <stdatomic.h>

static const struct xf_crypto_provider *const providers[] = {
	&xf_provider_ipsec_mb,
	&xf_provider_openssl,
	NULL,
};

const struct xf_crypto_provider *const *xf_crypto_providers(void)
{
	return providers;
}

/* What usable() said: 0 = not asked yet. Threads that ask at once get the same answer. */
enum { UNKNOWN, USABLE, UNUSABLE };

static bool is_usable(unsigned i)
{
	static _Atomic int verdicts[XF_ARRAY_SIZE(providers)];
	int verdict = atomic_load_explicit(&verdicts[i], memory_order_relaxed);

	if (verdict == UNKNOWN) {
		verdict = providers[i]->usable() ? USABLE : UNUSABLE;
		atomic_store_explicit(&verdicts[i], verdict, memory_order_relaxed);
	}
	return verdict == USABLE;
}

const struct xf_crypto_provider *xf_crypto_best(const struct xf_suite *suite)
{
	const struct xf_crypto_provider *best = NULL;

	for (unsigned i = 0; providers[i]; i++) {
		if (best && providers[i]->preference <= best->preference)
			continue;
		if (is_usable(i) && providers[i]->has(suite))
			best = providers[i];
	}
	return best;
}
