#include "spd/scan.h"

static bool always(void)
{
	return true;
}

const struct scan_variant scan_variants[] = {
	{ "portable", scan_portable, always },
	{ 0 },
};
