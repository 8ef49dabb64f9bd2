#include <errno.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <xf/base.h>

#include "privs.h"

/*
 * NET_ADMIN: nftables, rtnetlink, tc, TUN, marks. NET_RAW: raw sockets. IPC_LOCK: keys that come
 * later. BPF and PERFMON: the backstop on devices that appear later. NET_BIND_SERVICE: UDP
 * ports of SAs with encapsulation, 4500 or lower.
 */
static const cap_value_t needed[] = {
	CAP_NET_ADMIN, CAP_NET_RAW, CAP_IPC_LOCK, CAP_BPF, CAP_PERFMON, CAP_NET_BIND_SERVICE,
};

/* Only what we have: in a container some are missing, and asking for them would fail. */
static int keep(cap_t have, cap_t want, cap_value_t cap)
{
	cap_flag_value_t on;

	if (cap_get_flag(have, cap, CAP_PERMITTED, &on))
		return errno == EINVAL ? 0 : -errno;
	if (on != CAP_SET)
		return 0;
	if (cap_set_flag(want, CAP_PERMITTED, 1, &cap, CAP_SET) ||
	    cap_set_flag(want, CAP_EFFECTIVE, 1, &cap, CAP_SET))
		return -errno;
	return 0;
}

static int apply(cap_t have, cap_t want)
{
	for (size_t i = 0; i < XF_ARRAY_SIZE(needed); i++) {
		int err = keep(have, want, needed[i]);

		if (err)
			return err;
	}
	for (cap_value_t cap = 0; cap < cap_max_bits(); cap++)
		prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	if (cap_set_proc(want) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	return 0;
}

int xf_privs_drop(void)
{
	cap_t have = cap_get_proc();
	cap_t want = cap_init();
	int err = have && want ? apply(have, want) : -ENOMEM;

	cap_free(have);
	cap_free(want);
	return err;
}

static void raise_limit(__rlimit_resource_t what, rlim_t value)
{
	struct rlimit lim;

	if (getrlimit(what, &lim) || lim.rlim_cur >= value)
		return;
	if (lim.rlim_max >= value) {
		lim.rlim_cur = value;
		setrlimit(what, &lim);
		return;
	}
	/* Without CAP_SYS_RESOURCE as far as the hard limit. */
	if (setrlimit(what, &(struct rlimit){ .rlim_cur = value, .rlim_max = value })) {
		lim.rlim_cur = lim.rlim_max;
		setrlimit(what, &lim);
	}
}

void xf_privs_raise_limits(unsigned descriptors)
{
	raise_limit(RLIMIT_NOFILE, descriptors);
	raise_limit(RLIMIT_MEMLOCK, RLIM_INFINITY);
}
