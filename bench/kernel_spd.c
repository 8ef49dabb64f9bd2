#include "kernel_spd.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/xfrm.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Nothing is answered and nobody is asked for an address: a packet ends at the other side. */
static const char make_link[] = "ip link set lo up &&"
				" ip link add v0 type veth peer name v1 &&"
				" ip link set v0 arp off up && ip link set v1 arp off up &&"
				" ip addr add 198.18.0.1/32 dev v0 && ip route add default dev v0";

static int open_sender(void)
{
	const int one = 1;
	int fd;

	if (unshare(CLONE_NEWNET) < 0)
		return -errno;
	if (system(make_link) != 0)
		return -ENODEV;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_IP, IP_TRANSPARENT, &one, sizeof(one)) == 0)
		return fd;
	close(fd);
	return -errno;
}

int kernel_spd_open(struct kernel_spd *kernel)
{
	memset(kernel, 0, sizeof(*kernel));
	kernel->without = open_sender();
	if (kernel->without < 0)
		return kernel->without;
	kernel->with = open_sender();
	if (kernel->with < 0)
		return kernel->with;
	kernel->netlink = mnl_socket_open(NETLINK_XFRM);
	if (!kernel->netlink)
		return -errno;
	return mnl_socket_bind(kernel->netlink, 0, MNL_SOCKET_AUTOPID) < 0 ? -errno : 0;
}

/* --- policies --- */

static void put_policy(struct nlmsghdr *nlh, const struct xf_policy_config *cfg)
{
	const struct xf_selector *from = &cfg->sel;
	struct xfrm_userpolicy_info *info = mnl_nlmsg_put_extra_header(nlh, sizeof(*info));

	memcpy(&info->sel.daddr, &from->daddr, sizeof(info->sel.daddr));
	memcpy(&info->sel.saddr, &from->saddr, sizeof(info->sel.saddr));
	info->sel.dport = htons(from->dport);
	info->sel.dport_mask = htons(from->dport_mask);
	info->sel.sport = htons(from->sport);
	info->sel.sport_mask = htons(from->sport_mask);
	info->sel.family = from->family;
	info->sel.prefixlen_d = from->prefixlen_d;
	info->sel.prefixlen_s = from->prefixlen_s;
	info->sel.proto = from->proto;
	info->sel.user = from->user;
	info->lft.soft_byte_limit = info->lft.hard_byte_limit = XFRM_INF;
	info->lft.soft_packet_limit = info->lft.hard_packet_limit = XFRM_INF;
	info->priority = cfg->priority;
	info->dir = XFRM_POLICY_OUT;
	info->action = XFRM_POLICY_ALLOW;
	if (cfg->mark.m) {
		struct xfrm_mark mark = { .v = cfg->mark.v, .m = cfg->mark.m };

		mnl_attr_put(nlh, XFRMA_MARK, sizeof(mark), &mark);
	}
}

static int add_one(struct kernel_spd *kernel, const struct xf_policy_config *cfg)
{
	char buf[1024];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	ssize_t len;

	nlh->nlmsg_type = XFRM_MSG_NEWPOLICY;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	nlh->nlmsg_seq = ++kernel->seq;
	put_policy(nlh, cfg);
	if (mnl_socket_sendto(kernel->netlink, nlh, nlh->nlmsg_len) < 0)
		return -errno;
	len = mnl_socket_recvfrom(kernel->netlink, buf, sizeof(buf));
	if (len < 0 || mnl_cb_run(buf, (size_t)len, kernel->seq, 0, NULL, NULL) < 0)
		return -errno;
	return 0;
}

int kernel_spd_add(struct kernel_spd *kernel, const struct xf_policy_config *cfgs, uint32_t count)
{
	int err = 0;

	for (uint32_t i = 0; i < count && !err; i++)
		err = add_one(kernel, &cfgs[i]);
	return err;
}

/* --- packets --- */

static bool is_unicast(const union xf_addr *addr)
{
	return addr->bytes[0] > 0 && addr->bytes[0] < 224 && addr->bytes[0] != 127;
}

bool kernel_spd_can_send(const struct xf_flow *flow)
{
	return flow->family == XF_AF_INET && flow->proto == XF_IPPROTO_UDP && flow->dport &&
	       is_unicast(&flow->saddr) && is_unicast(&flow->daddr);
}

int kernel_spd_send(int fd, const struct xf_flow *flow)
{
	struct sockaddr_in to = { .sin_family = AF_INET,
				  .sin_port = htons(flow->dport),
				  .sin_addr.s_addr = flow->daddr.v4_be };
	union {
		char buf[CMSG_SPACE(sizeof(struct in_pktinfo))];
		struct cmsghdr align;
	} control = { .align = { .cmsg_level = SOL_IP,
				 .cmsg_type = IP_PKTINFO,
				 .cmsg_len = CMSG_LEN(sizeof(struct in_pktinfo)) } };
	struct in_pktinfo info = { .ipi_spec_dst.s_addr = flow->saddr.v4_be };
	struct iovec byte = { .iov_base = &to, .iov_len = 1 };
	const struct msghdr msg = { .msg_name = &to,
				    .msg_namelen = sizeof(to),
				    .msg_iov = &byte,
				    .msg_iovlen = 1,
				    .msg_control = control.buf,
				    .msg_controllen = sizeof(control.buf) };

	memcpy(CMSG_DATA(&control.align), &info, sizeof(info));
	return sendmsg(fd, &msg, 0) == 1 ? 0 : -errno;
}
