#include <errno.h>

#include <xf/crypto.h>

/*
 * Order does not matter, preference decides. A provider that was not built is here all the same.
 * What is registered comes behind; the last place stays empty, it ends the table.
 */
static const struct xf_crypto_provider *providers[XF_CRYPTO_PROVIDERS_MAX + 1] = {
	&xf_provider_vaes,
	&xf_provider_ipsec_mb,
	&xf_provider_openssl,
};

int xf_crypto_register(const struct xf_crypto_provider *provider)
{
	for (unsigned i = 0; i < XF_CRYPTO_PROVIDERS_MAX; i++) {
		if (providers[i] == provider)
			return -EEXIST;
		if (!providers[i]) {
			providers[i] = provider;
			return 0;
		}
	}
	return -ENOSPC;
}

const struct xf_crypto_provider *const *xf_crypto_providers(void)
{
	return providers;
}

unsigned xf_crypto_provider_index(const struct xf_crypto_provider *provider)
{
	unsigned i = 0;

	while (i < XF_CRYPTO_PROVIDERS_MAX && providers[i] != provider)
		i++;
	return i;
}

const struct xf_crypto_provider *xf_crypto_best(const struct xf_suite *suite)
{
	const struct xf_crypto_provider *best = NULL;

	/* has() is asked last: the first time it may probe the CPU. */
	for (unsigned i = 0; providers[i]; i++) {
		if (best && providers[i]->preference <= best->preference)
			continue;
		if (providers[i]->wants && !providers[i]->wants(suite))
			continue;
		if (providers[i]->has(suite))
			best = providers[i];
	}
	return best;
}

void xf_crypto_run(const struct xf_crypto_provider *provider, struct xf_crypto_ctx *ctx,
		   struct xf_crypto_op **ops, unsigned n)
{
	struct xf_crypto_op *done[64];
	unsigned taken;

	if (provider->run) {
		provider->run(ctx, ops, n);
		return;
	}
	while (n > 0 && (taken = provider->submit(ctx, ops, n)) > 0) {
		ops += taken;
		n -= taken;
		while (taken > 0)
			taken -= provider->complete(ctx, done,
						    xf_min_u32(taken, XF_ARRAY_SIZE(done)));
	}
}
