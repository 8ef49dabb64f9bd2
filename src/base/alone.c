#include "base/alone.h"

#include <xf/base.h>

bool xf_alone;

void xf_set_alone(bool one_worker)
{
	xf_alone = one_worker;
}
