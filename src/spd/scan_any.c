#include "spd/scan.h"

static bool always(void)
{
	return true;
}

const struct scan_variant xf_spd_scan_variants[] = {
	{ "portable", xf_spd_scan_portable, always },
	{ 0 },
};
