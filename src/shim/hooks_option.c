/* Socket options: of our netlink sockets, and those by which IKE daemons reach into XFRM. */
#include <string.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <linux/netlink.h>
#include <linux/xfrm.h>

#include "hooks.h"
#include "link.h"
#include "table.h"

#ifndef SOL_NETLINK
#define SOL_NETLINK 270
#endif
#define GROUPS_MAX 32

static int tell(int fd, uint32_t kind, uint32_t a, uint32_t b)
{
	struct xf_shim_msg msg = { .magic = XF_SHIM_MAGIC, .kind = kind, .a = a, .b = b };

	return xf_shim_call(fd, &msg, NULL, 0, NULL);
}

static int set_membership(int fd, struct xf_shim_sock *sock, uint32_t group, bool on)
{
	uint32_t groups = atomic_load(&sock->groups);
	int err;

	if (group < 1 || group > GROUPS_MAX)
		return -EINVAL;
	if (on)
		groups |= 1u << (group - 1);
	else
		groups &= ~(1u << (group - 1));
	err = tell(fd, XF_SHIM_GROUPS, groups, 0);
	if (!err)
		atomic_store(&sock->groups, groups);
	return err;
}

static int set_flag(int fd, struct xf_shim_sock *sock, int option, bool on)
{
	uint32_t options = atomic_load(&sock->options);
	int err;

	if (on)
		options |= 1u << option;
	else
		options &= ~(1u << option);
	err = tell(fd, XF_SHIM_OPTIONS, options, 0);
	if (!err)
		atomic_store(&sock->options, options);
	return err;
}

static int set_netlink(int fd, struct xf_shim_sock *sock, int option, const void *value,
		       socklen_t len)
{
	int v;

	if (len < sizeof(v))
		return -EINVAL;
	memcpy(&v, value, sizeof(v));
	switch (option) {
	case NETLINK_ADD_MEMBERSHIP:
	case NETLINK_DROP_MEMBERSHIP:
		return set_membership(fd, sock, (uint32_t)v, option == NETLINK_ADD_MEMBERSHIP);
	case NETLINK_BROADCAST_ERROR:
	case NETLINK_NO_ENOBUFS:
	case NETLINK_LISTEN_ALL_NSID:
	case NETLINK_CAP_ACK:
	case NETLINK_EXT_ACK:
	case NETLINK_GET_STRICT_CHK:
		return set_flag(fd, sock, option, v != 0);
	default:
		return -ENOPROTOOPT;
	}
}

static int set_xfrm(int fd, struct xf_shim_sock *sock, int level, int option, const void *value,
		    socklen_t len)
{
	int ret;

	if (level == SOL_NETLINK)
		return set_netlink(fd, sock, option, value, len);
	ret = xf_shim_real()->setsockopt(fd, level, option, value, len);
	if (ret)
		return -errno;
	/* The queue of an AF_UNIX socket is limited at the other end. */
	if (level == SOL_SOCKET && (option == SO_RCVBUF || option == SO_RCVBUFFORCE))
		return tell(fd, XF_SHIM_RCVBUF, *(const uint32_t *)value, option == SO_RCVBUFFORCE);
	return 0;
}

static int set_mark(int fd, uint32_t bits, uint32_t mask)
{
	const struct xf_shim_real *real = xf_shim_real();
	uint32_t mark = 0;
	socklen_t len = sizeof(mark);

	if (real->getsockopt(fd, SOL_SOCKET, SO_MARK, &mark, &len))
		return -errno;
	mark = (mark & ~mask) | bits;
	return real->setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) ? -errno : 0;
}

/*
 * IP_XFRM_POLICY, IPV6_XFRM_POLICY. IKE daemons use it to let their own packets pass: that becomes
 * the bypass mark on the socket. Without a value the policies are taken away again.
 */
static int set_socket_policy(int fd, const void *value, socklen_t len)
{
	struct xfrm_userpolicy_info info;
	uint32_t mark;
	int err;

	if (value || len) {
		if (len < sizeof(info))
			return -EINVAL;
		memcpy(&info, value, sizeof(info));
		if (info.dir > XFRM_POLICY_OUT)
			return -EINVAL;
		/* Protection or blocking by socket would need the policy in the SPD. */
		if (info.action != XFRM_POLICY_ALLOW || len != sizeof(info))
			return -EOPNOTSUPP;
	}
	err = xf_shim_bypass_mark(&mark);
	return err ? -EPROTONOSUPPORT : set_mark(fd, value ? mark : 0, mark);
}

static bool is_socket_policy(int level, int option)
{
	return (level == IPPROTO_IP && option == IP_XFRM_POLICY) ||
	       (level == IPPROTO_IPV6 && option == IPV6_XFRM_POLICY);
}

/* A program that sets a mark of its own keeps our bit. */
static int set_own_mark(int fd, uint32_t value)
{
	uint32_t bypass = xf_shim_known_mark();

	return set_mark(fd, value & ~bypass, ~bypass);
}

static int set_other(int fd, int level, int option, const void *value, socklen_t len)
{
	if (is_socket_policy(level, option))
		return set_socket_policy(fd, value, len);
	/* The kernel's own ESP in UDP would swallow what belongs to the daemon. */
	if (level == IPPROTO_UDP && option == UDP_ENCAP)
		return -ENOPROTOOPT;
	if (level == SOL_SOCKET && option == SO_MARK && len >= sizeof(uint32_t) &&
	    xf_shim_known_mark())
		return set_own_mark(fd, *(const uint32_t *)value);
	return xf_shim_real()->setsockopt(fd, level, option, value, len) ? -errno : 0;
}

XF_SHIM_EXPORT int setsockopt(int fd, int level, int option, const void *value, socklen_t len)
{
	struct xf_shim_sock *sock = xf_shim_table_find(fd);

	if (sock)
		return (int)xf_shim_return(set_xfrm(fd, sock, level, option, value, len));
	return (int)xf_shim_return(set_other(fd, level, option, value, len));
}

/* 1 and *@value when the option is one that only a netlink socket answers so. */
static int get_xfrm(struct xf_shim_sock *sock, int level, int option, int *value)
{
	if (level == SOL_SOCKET && option == SO_DOMAIN)
		*value = AF_NETLINK;
	else if (level == SOL_SOCKET && option == SO_TYPE)
		*value = sock->type;
	else if (level == SOL_SOCKET && option == SO_PROTOCOL)
		*value = NETLINK_XFRM;
	else if (level == SOL_NETLINK && option == NETLINK_LIST_MEMBERSHIPS)
		*value = (int)atomic_load(&sock->groups);
	else if (level == SOL_NETLINK && option > 0 && option < 32)
		*value = (atomic_load(&sock->options) >> option) & 1;
	else
		return level == SOL_NETLINK ? -ENOPROTOOPT : 0;
	return 1;
}

XF_SHIM_EXPORT int getsockopt(int fd, int level, int option, void *value, socklen_t *len)
{
	struct xf_shim_sock *sock = xf_shim_table_find(fd);
	int v = 0;
	int ret = sock ? get_xfrm(sock, level, option, &v) : 0;

	if (ret == 0)
		return xf_shim_real()->getsockopt(fd, level, option, value, len);
	if (ret > 0 && *len < sizeof(v))
		ret = -EINVAL;
	if (ret < 0)
		return (int)xf_shim_return(ret);
	memcpy(value, &v, sizeof(v));
	*len = sizeof(v);
	return 0;
}
