/*
 * Capabilities, limits, inherited descriptors. main() prepares, thread.c and main() call
 * xf_privs_enter() in each thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <xf/base.h>

#include "privs.h"
#include "host/netns.h"

/* Linux's numbers where glibc 2.36 does not have the names. */
#ifndef MSG_PROBE
#define MSG_PROBE 0x10
#endif

/*
 * NET_ADMIN: nftables, rtnetlink, tc, TUN, marks. NET_RAW: raw sockets. IPC_LOCK: keys that come
 * later. BPF and PERFMON: the backstop on devices that appear later. NET_BIND_SERVICE: UDP
 * ports of SAs with encapsulation, 4500 or lower.
 */
#define ROLE_CAPS 6
static const struct {
	unsigned n;
	cap_value_t caps[ROLE_CAPS];
} roles[XF_ROLES] = {
	[XF_ROLE_CONTROL] = { 6,
			      { CAP_NET_ADMIN, CAP_NET_RAW, CAP_IPC_LOCK, CAP_BPF, CAP_PERFMON,
				CAP_NET_BIND_SERVICE } },
	[XF_ROLE_WORKER] = { 1, { CAP_NET_RAW } },
	[XF_ROLE_CRYPTO] = { 0, { 0 } },
	[XF_ROLE_GREETER] = { 0, { 0 } },
};

/* Constant after xf_privs_init(): kernels that ask for more. */
static bool marks_want_admin;
static bool has_cookies;

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

static int keep_all(cap_t have, cap_t want, enum xf_role role)
{
	bool admin = (role == XF_ROLE_WORKER && marks_want_admin) ||
		     (role == XF_ROLE_GREETER && !has_cookies);
	int err = admin ? keep(have, want, CAP_NET_ADMIN) : 0;

	for (unsigned i = 0; i < roles[role].n && !err && !(admin && role == XF_ROLE_WORKER); i++)
		err = keep(have, want, roles[role].caps[i]);
	return err;
}

static bool is_permitted(cap_t have, cap_value_t cap)
{
	cap_flag_value_t on = CAP_CLEAR;

	return !cap_get_flag(have, cap, CAP_PERMITTED, &on) && on == CAP_SET;
}

/*
 * The bounding set limits what programs could gain that we run. Without CAP_SETPCAP it stays as
 * it is, and PR_SET_NO_NEW_PRIVS alone says the same.
 */
static int empty_bounding_set(cap_t have)
{
	if (!is_permitted(have, CAP_SETPCAP))
		return 0;
	for (cap_value_t cap = 0; cap < cap_max_bits(); cap++)
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0))
			return -errno;
	return 0;
}

static int apply(cap_t have, cap_t want, enum xf_role role)
{
	int err = keep_all(have, want, role);

	if (!err)
		err = empty_bounding_set(have);
	if (err)
		return err;
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || cap_set_proc(want))
		return -errno;
	return xf_filter_load(role);
}

int xf_privs_enter(enum xf_role role)
{
	cap_t have = cap_get_proc();
	cap_t want = cap_init();
	int err = have && want ? apply(have, want, role) : -ENOMEM;

	cap_free(have);
	cap_free(want);
	return err;
}

bool xf_privs_lacks(int cap)
{
	cap_t have = cap_get_proc();
	bool lacks = !have || !is_permitted(have, cap);

	cap_free(have);
	return lacks;
}

/*
 * Would a datagram with a mark be refused? Nothing is sent: MSG_PROBE ends sending behind
 * the look at control messages and routes.
 */
static bool is_mark_refused(int fd)
{
	union {
		char buf[CMSG_SPACE(sizeof(uint32_t))];
		struct cmsghdr align;
	} control = { .align = { .cmsg_len = CMSG_LEN(sizeof(uint32_t)),
				 .cmsg_level = SOL_SOCKET,
				 .cmsg_type = SO_MARK } };
	struct sockaddr_in to = { .sin_family = AF_INET,
				  .sin_port = htons(9),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct msghdr msg = { .msg_name = &to,
			      .msg_namelen = sizeof(to),
			      .msg_control = control.buf,
			      .msg_controllen = sizeof(control.buf) };

	return sendmsg(fd, &msg, MSG_CONFIRM | MSG_PROBE | MSG_DONTWAIT) < 0 && errno == EPERM;
}

/* With CAP_NET_RAW alone; what we have comes back. */
static int find_mark_capability(int fd)
{
	cap_value_t raw = CAP_NET_RAW;
	cap_t have = cap_get_proc();
	cap_t only = have ? cap_dup(have) : NULL;
	int err = only ? 0 : -ENOMEM;

	if (!err && !is_permitted(have, raw))
		marks_want_admin = true;
	else if (!err &&
		 (cap_clear_flag(only, CAP_EFFECTIVE) ||
		  cap_set_flag(only, CAP_EFFECTIVE, 1, &raw, CAP_SET) || cap_set_proc(only)))
		err = -errno;
	else if (!err)
		marks_want_admin = is_mark_refused(fd);
	if (!err && cap_set_proc(have))
		err = -errno;
	cap_free(have);
	cap_free(only);
	return err;
}

int xf_privs_init(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	uint64_t cookie;
	int err;

	if (fd < 0)
		return -errno;
	has_cookies = xf_netns_cookie_of(fd, &cookie) == 0;
	err = find_mark_capability(fd);
	close(fd);
	if (!err && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
		err = -errno;
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

/* sd_listen_fds(3). */
static unsigned from_systemd(void)
{
	const char *pid = getenv("LISTEN_PID");
	const char *n = getenv("LISTEN_FDS");

	if (!pid || !n || strtol(pid, NULL, 10) != getpid())
		return 0;
	return (unsigned)strtoul(n, NULL, 10);
}

int xf_privs_close_inherited(void)
{
	int fd;

	/* Where stdio is closed, something of ours would be in its place, and be written to. */
	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd < 0)
		return -errno;
	close(fd);
	return close_range((unsigned)STDERR_FILENO + 1 + from_systemd(), ~0u, 0) ? -errno : 0;
}
