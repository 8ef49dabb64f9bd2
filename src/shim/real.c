#include <dlfcn.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "hooks.h"

static struct xf_shim_real real;
static atomic_bool resolved;

/* Running it twice at the same time does no harm: both write the same. */
__attribute__((constructor)) static void resolve(void)
{
	/* POSIX says how a void pointer becomes one to a function: through memory. */
#define RESOLVE(name, ret, args) *(void **)&real.name = dlsym(RTLD_NEXT, #name);
	XF_SHIM_REAL_LIST(RESOLVE)
#undef RESOLVE
	if (!real.fcntl64)
		real.fcntl64 = real.fcntl;
	atomic_store_explicit(&resolved, true, memory_order_release);
}

const struct xf_shim_real *xf_shim_real(void)
{
	if (!atomic_load_explicit(&resolved, memory_order_acquire))
		resolve();
	return &real;
}
