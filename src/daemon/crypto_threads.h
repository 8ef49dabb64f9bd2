/*
 * crypto_threads.h - a crypto provider whose work is done by threads of its own.
 *
 * For machines with more cores than workers, and for ciphers that are slow: the best provider
 * for a suite does the work, on the pool's threads, and completes later. Idle threads sleep.
 *
 * Threads: start before the first key and worker; stop after the last of both is gone.
 */
#ifndef XF_DAEMON_CRYPTO_THREADS_H
#define XF_DAEMON_CRYPTO_THREADS_H

#include <xf/crypto.h>

/* Which suites it takes when nobody names a provider. */
enum xf_crypto_threads_for {
	XF_CRYPTO_THREADS_NONE, /* keys must ask for it */
	XF_CRYPTO_THREADS_SLOW, /* all but AES-GCM, AES-GMAC and ChaCha20-Poly1305 */
	XF_CRYPTO_THREADS_ALL,
};

#define XF_CRYPTO_THREADS_MAX 64

/* Operations that one context has room for: what a worker may have under way. */
#define XF_CRYPTO_THREADS_RING 2048

/* The provider, registered by the first call. 0, -EALREADY (they run), -EAGAIN, -ENOMEM. */
int xf_crypto_threads_start(unsigned threads, enum xf_crypto_threads_for suites);
void xf_crypto_threads_stop(void);

extern const struct xf_crypto_provider xf_provider_threads;

#endif
