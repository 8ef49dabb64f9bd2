/* Takes the place of ipsec_mb.c where the library is not there: in the table, never usable. */
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

const struct xf_crypto_provider xf_provider_ipsec_mb = {
	.name = "ipsec-mb",
	.usable = never,
	.has = has_none,
};
