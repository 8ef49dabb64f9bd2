/* Takes the place of vaes_gcm*.c on other machines: in the table, never usable. */
#include <xf/crypto.h>

static bool never(void)
{
	return false;
}

static bool has_none(const struct xf_suite *suite)
{
	(void)suite;
	return false;
}

const struct xf_crypto_provider xf_provider_vaes = {
	.name = "vaes",
	.usable = never,
	.has = has_none,
};
