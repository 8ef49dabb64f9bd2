#include <xf/crypto.h>

#include <errno.h>
#include <stdlib.h>

_Static_assert(sizeof(struct xf_key) == XF_CACHE_LINE, "there may be a million of them");

/* Until xf_secret_set_ops(): memory that is wiped, but not locked. */
static void *heap_alloc(void *arg, size_t size)
{
	size_t rounded = (size + XF_CACHE_LINE - 1) & ~(size_t)(XF_CACHE_LINE - 1);
	void *mem = rounded < size ? NULL : aligned_alloc(XF_CACHE_LINE, rounded);

	(void)arg;
	if (mem)
		memset(mem, 0, rounded);
	return mem;
}

static void heap_free(void *arg, void *mem, size_t size)
{
	(void)arg;
	(void)size;
	free(mem);
}

/* Set once, before the first key. */
static struct xf_secret_ops secret = { .alloc = heap_alloc, .free = heap_free };

void xf_secret_set_ops(const struct xf_secret_ops *ops)
{
	secret = *ops;
}

void *xf_secret_alloc(size_t size)
{
	return secret.alloc(secret.arg, size);
}

void xf_secret_free(void *mem, size_t size)
{
	if (!mem)
		return;
	xf_wipe(mem, size);
	secret.free(secret.arg, mem, size);
}

/* The raw bytes stay: GETSA shows them, and a taking-over process makes the key anew. */
static void fill_raw(struct xf_key *key, const uint8_t *cipher_key, const uint8_t *auth_key)
{
	const struct xf_suite *suite = &key->suite;

	if (xf_key_cipher_raw_len(key))
		memcpy(key->cipher_raw, cipher_key, xf_key_cipher_raw_len(key));
	if (suite->auth_key_len)
		memcpy((uint8_t *)key + key->alloc_len - suite->auth_key_len, auth_key,
		       suite->auth_key_len);
}

int xf_key_new(const struct xf_suite *suite, const struct xf_crypto_provider *provider,
	       const uint8_t *cipher_key, const uint8_t *auth_key, struct xf_key **out)
{
	struct xf_key *key;
	size_t size;
	int err;

	if (!provider)
		provider = xf_crypto_best(suite);
	if (!provider || !provider->has(suite))
		return -EOPNOTSUPP;
	size = sizeof(*key) + provider->expanded_size(suite) + suite->auth_key_len;
	key = xf_secret_alloc(size);
	if (!key)
		return -ENOMEM;
	key->provider = provider;
	key->suite = *suite;
	key->alloc_len = (uint32_t)size;
	fill_raw(key, cipher_key, auth_key);
	err = provider->key_expand(key);
	if (err) {
		xf_secret_free(key, size);
		return err;
	}
	*out = key;
	return 0;
}

void xf_key_free(struct xf_key *key)
{
	if (!key)
		return;
	if (key->provider->key_release)
		key->provider->key_release(key);
	xf_secret_free(key, key->alloc_len);
}
