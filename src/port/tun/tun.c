/*
 * The persistent TUN: captured packets come out of it, decrypted ones go in.
 *
 * It outlives the process. Without a reader the kernel drops what is routed into it, which is
 * what "fail closed" rests on.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "host/sysctl.h"
#include "port/backend.h"
#include "port/tun/meta.h"
#include "port/tun/noqueue.h"
#include "port/tun/steer.h"
#include "port/tun/vnet.h"
#include "tun_meta.h"

#define TUN_FLAGS (IFF_TUN | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE)
/* Packets that wait for the worker; a full queue drops, as a full device queue does. */
#define TUN_QUEUE_LEN 2048
/*
 * With rp_filter at 2 (loose), which "all" may impose, IPv4 drops whatever arrives on a device that
 * has no address at all (fib_validate_source()). One of these is no source that the kernel would
 * choose, and nobody reaches it from outside.
 */
#define TUN_ADDRESS "127.120.102.1"
#define TUN_IOVS 256
/* Somewhat less than the kernel takes to put something in front of a packet (SKB_MAX_ALLOC). */
#define META_ROOM (15u << 10)
/* Bytes of one batch, about: then it is sent before more is read. */
#define TUN_BATCH_BYTES (256 << 10)
/* Somebody may attach to a new device before it has an owner, but hardly so often. */
#define TUN_TRIES 4

#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif
#define OFFLOADS (TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN)
#define OFFLOADS_UDP (TUN_F_USO4 | TUN_F_USO6) /* Linux 6.2 */

struct sysctl {
	const char *path; /* %s is the device */
	const char *value;
	bool must; /* fail when it can be neither set nor found so */
};

/* In this order: no link-local address may be made when the device comes up. */
static const struct sysctl sysctls[] = {
	{ "/proc/sys/net/ipv6/conf/%s/disable_ipv6", "0", false },
	{ "/proc/sys/net/ipv6/conf/%s/addr_gen_mode", "1", false },
	{ "/proc/sys/net/ipv6/conf/%s/accept_ra", "0", false },
	{ "/proc/sys/net/ipv6/conf/%s/autoconf", "0", false },
	{ "/proc/sys/net/ipv6/conf/%s/router_solicitations", "0", false },
	/* Inner sources are reached through other devices; a policy vouches for them instead. */
	{ "/proc/sys/net/ipv4/conf/%s/rp_filter", "0", true },
	/* Two ends of a tunnel on one host. */
	{ "/proc/sys/net/ipv4/conf/%s/accept_local", "1", false },
	/* What is captured on this device was protected already. */
	{ "/proc/sys/net/ipv4/conf/%s/send_redirects", "0", false },
};

static int set_sysctl(const struct sysctl *sysctl, const char *dev, struct xf_io_error *error)
{
	char path[128];

	snprintf(path, sizeof(path), sysctl->path, dev);
	if (xf_sysctl_holds(path, sysctl->value) || !xf_sysctl_write(path, sysctl->value) ||
	    !sysctl->must)
		return 0;
	return xf_io_fail(error, -EPERM, "%s must be %s and cannot be set", path, sysctl->value);
}

static bool has_address(int fd, const char *name)
{
	struct ifreq ifr = { 0 };

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	return ioctl(fd, SIOCGIFADDR, &ifr) == 0;
}

/* One that somebody else has given it serves as well. */
static int give_address(int fd, const char *name, struct xf_io_error *error)
{
	struct ifreq ifr = { 0 };
	struct sockaddr_in addr = { .sin_family = AF_INET };

	if (has_address(fd, name))
		return 0;
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	inet_pton(AF_INET, TUN_ADDRESS, &addr.sin_addr);
	memcpy(&ifr.ifr_addr, &addr, sizeof(addr));
	if (ioctl(fd, SIOCSIFADDR, &ifr) < 0)
		return xf_io_fail(error, -errno, "cannot give %s an address", name);
	return 0;
}

static int bring_up(const char *name, struct xf_io_error *error)
{
	struct ifreq ifr = { 0 };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int err = 0;

	if (fd < 0)
		return xf_io_fail(error, -errno, "cannot open a socket");
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	ifr.ifr_mtu = XF_TUN_MTU;
	if (ioctl(fd, SIOCSIFMTU, &ifr) < 0)
		err = xf_io_fail(error, -errno, "cannot set the MTU of %s", name);
	ifr.ifr_qlen = TUN_QUEUE_LEN;
	if (!err && ioctl(fd, SIOCSIFTXQLEN, &ifr) < 0)
		err = xf_io_fail(error, -errno, "cannot set the queue length of %s", name);
	if (!err && ioctl(fd, SIOCGIFFLAGS, &ifr) < 0)
		err = xf_io_fail(error, -errno, "cannot read the flags of %s", name);
	ifr.ifr_flags = (short)(ifr.ifr_flags | IFF_UP);
	if (!err && ioctl(fd, SIOCSIFFLAGS, &ifr) < 0)
		err = xf_io_fail(error, -errno, "cannot bring %s up", name);
	if (!err)
		err = give_address(fd, name, error);
	close(fd);
	if (!err)
		xf_noqueue_make((int)if_nametoindex(name));
	return err;
}

static int attach(const char *name, int *out, struct xf_io_error *error)
{
	struct ifreq ifr = { .ifr_flags = TUN_FLAGS };
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	int err;

	if (fd < 0)
		return xf_io_fail(error, -errno, "cannot open /dev/net/tun");
	if (strlen(name) >= sizeof(ifr.ifr_name)) {
		close(fd);
		return xf_io_fail(error, -ENAMETOOLONG, "interface name %s is too long", name);
	}
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	if (ioctl(fd, TUNSETIFF, &ifr) < 0) {
		err = -errno;
		close(fd);
		return xf_io_fail(error, err, "cannot attach to the TUN device %s", name);
	}
	*out = fd;
	return 0;
}

/* Super-packets come and go as they are; UDP's where the kernel has them. */
static int set_offloads(int fd, bool wanted, struct xf_tun *out)
{
	if (!wanted)
		return ioctl(fd, TUNSETOFFLOAD, 0);
	out->supers = true;
	out->udp_supers = ioctl(fd, TUNSETOFFLOAD, OFFLOADS | OFFLOADS_UDP) == 0;
	return out->udp_supers ? 0 : ioctl(fd, TUNSETOFFLOAD, OFFLOADS);
}

/* A device that others are attached to is replaced by one to which they are not. */
static int attach_alone(const char *name, int *out, struct xf_io_error *error)
{
	int err = -EAGAIN;

	for (unsigned i = 0; i < TUN_TRIES && err == -EAGAIN; i++) {
		err = attach(name, out, error);
		if (err)
			return err;
		err = xf_tun_own(*out, name, error);
		if (err)
			close(*out);
	}
	return err;
}

int xf_tun_open(const struct xf_io_names *names, bool offloads, struct xf_tun *out,
		struct xf_io_error *error)
{
	const char *name = names->tun;
	int fd;
	int err = attach_alone(name, &fd, error);

	if (err)
		return err;
	if (set_offloads(fd, offloads, out) < 0 || ioctl(fd, TUNSETPERSIST, 1) < 0)
		err = xf_io_fail(error, -errno, "cannot set up the TUN device %s", name);
	for (unsigned i = 0; !err && i < XF_ARRAY_SIZE(sysctls); i++)
		err = set_sysctl(&sysctls[i], name, error);
	/* Before the first packet: what has no mark then was not captured. */
	out->marks = !err && xf_meta_attach(names, NULL) == 0;
	out->steered = !err && xf_steer_attach(fd) == 0;
	if (!err)
		err = bring_up(name, error);
	if (err) {
		close(fd);
		return err;
	}
	out->fd = fd;
	return 0;
}

/* --- what became of it --- */

static uint32_t read_settings(const char *name)
{
	uint32_t settings = 0;

	for (unsigned i = 0; i < XF_ARRAY_SIZE(sysctls); i++) {
		char path[128];

		snprintf(path, sizeof(path), sysctls[i].path, name);
		settings |= (uint32_t)xf_sysctl_holds(path, sysctls[i].value) << i;
	}
	return settings;
}

void xf_tun_look(const char *name, unsigned ifindex, struct xf_tun_seen *out)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = { .ifr_ifindex = (int)ifindex };

	*out = (struct xf_tun_seen){ .there = false };
	if (fd < 0)
		return;
	out->there = ifindex && ioctl(fd, SIOCGIFNAME, &ifr) == 0;
	out->named = out->there && strcmp(ifr.ifr_name, name) == 0;
	out->ready = out->named && ioctl(fd, SIOCGIFFLAGS, &ifr) == 0 && (ifr.ifr_flags & IFF_UP) &&
		     ioctl(fd, SIOCGIFMTU, &ifr) == 0 && ifr.ifr_mtu == XF_TUN_MTU &&
		     ioctl(fd, SIOCGIFTXQLEN, &ifr) == 0 && ifr.ifr_qlen >= TUN_QUEUE_LEN &&
		     has_address(fd, name);
	if (out->named)
		out->settings = read_settings(name);
	out->marks = out->there && xf_meta_is_attached(ifindex);
	close(fd);
}

int xf_tun_rename(unsigned ifindex, const char *name, struct xf_io_error *error)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = { .ifr_ifindex = (int)ifindex };
	int err = 0;

	if (fd < 0)
		return xf_io_fail(error, -errno, "cannot open a socket");
	if (ioctl(fd, SIOCGIFNAME, &ifr) < 0 || ioctl(fd, SIOCGIFFLAGS, &ifr) < 0) {
		err = -errno;
	} else if (strcmp(ifr.ifr_name, name) != 0) {
		ifr.ifr_flags = (short)(ifr.ifr_flags & ~IFF_UP);
		if (ioctl(fd, SIOCSIFFLAGS, &ifr) == 0)
			snprintf(ifr.ifr_newname, sizeof(ifr.ifr_newname), "%s", name);
		if (ioctl(fd, SIOCSIFNAME, &ifr) < 0)
			err = -errno;
	}
	close(fd);
	return err ? xf_io_fail(error, err, "cannot give the TUN its name %s", name) : 0;
}

/* Where the program for marks could not be had before it does without, as at the start. */
int xf_tun_mend(const struct xf_io_names *names, unsigned ifindex, bool marks,
		struct xf_io_error *error)
{
	const char *name = names->tun;
	int err = xf_tun_rename(ifindex, name, error);

	for (unsigned i = 0; !err && i < XF_ARRAY_SIZE(sysctls); i++)
		err = set_sysctl(&sysctls[i], name, error);
	if (err)
		return err;
	err = xf_meta_attach(names, error);
	return err && marks ? err : bring_up(name, error);
}

/*
 * The worker goes on with the same number, behind which there is another device from one moment to
 * the next: what it is just reading from or writing to is the old one, to its end. An old device
 * that is alive, in somebody else's namespace, goes with its last descriptor.
 */
int xf_io_remake_tun(struct xf_io *io, struct xf_io_error *error)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET,
				     .data.u64 = xf_source_token(&io->tun_source) };
	struct xf_tun tun = { .fd = -1 };
	int err;

	ioctl(io->tun.fd, TUNSETPERSIST, 0);
	err = xf_tun_open(&io->cfg.names, !io->cfg.no_offloads, &tun, error);
	if (err)
		return err;
	if (!tun.marks && io->tun.marks)
		err = xf_io_fail(error, -EOPNOTSUPP, "the new TUN tells no marks");
	else if (tun.supers != io->tun.supers || tun.udp_supers != io->tun.udp_supers)
		err = xf_io_fail(error, -EOPNOTSUPP, "the new TUN takes no super-packets");
	if (!err && dup3(tun.fd, io->tun.fd, O_CLOEXEC) < 0)
		err = xf_io_fail(error, -errno, "cannot take over the new TUN");
	close(tun.fd);
	if (err)
		return err;
	io->tun.marks = tun.marks;
	io->tun.steered = tun.steered;
	if (epoll_ctl(io->epoll_fd, EPOLL_CTL_ADD, io->tun.fd, &event) < 0)
		return xf_io_fail(error, -errno, "cannot watch the new TUN");
	return 0;
}

int xf_tun_remove(const char *name, struct xf_io_error *error)
{
	int fd;
	int err;

	if (!if_nametoindex(name))
		return 0;
	err = attach(name, &fd, error);
	if (err)
		return err;
	if (ioctl(fd, TUNSETPERSIST, 0) < 0)
		err = xf_io_fail(error, -errno, "cannot remove the TUN device %s", name);
	close(fd);
	return err;
}

/* Multicast goes by interface, whatever a mark says: nobody can route it here. */
static bool is_multicast(const struct xf_pkt *pkt, uint32_t off)
{
	uint8_t version;
	union xf_addr daddr = { 0 };

	if (xf_pkt_copy_out(pkt, off, &version, sizeof(version)) < 0)
		return false;
	if (version >> 4 == 4)
		return xf_pkt_copy_out(pkt, off + 16, &daddr, 4) == 0 &&
		       xf_addr_is_multicast(&daddr, XF_AF_INET);
	return xf_pkt_copy_out(pkt, off + 24, &daddr, 16) == 0 &&
	       xf_addr_is_multicast(&daddr, XF_AF_INET6);
}

/* May a packet come without its mark? */
static bool may_be_unmarked(const struct xf_io *io, const struct xf_pkt *pkt)
{
	return !io->tun.marks ||
	       (pkt->len > META_ROOM && !xf_spd_asks_marks(xf_engine_spd(io->cfg.engine)));
}

/*
 * Take off what bpf/meta.bpf.c put in front, *@skip bytes; where its program cannot be had there is
 * nothing to take. False: the packet is gone. The kernel itself said something on this device
 * (MLD), or what we have sent came back, which must not go round, or somebody has taken the program
 * away, or it is too large for what is put in front: then a policy with a mark may want it, and
 * nobody can tell. Anything else may be
 * without the capture bit: rules of others may have cleared it, and flow tables of nftables bring
 * later packets of a flow to where the first ones went, past the rules that set it.
 */
static bool take_meta(struct xf_io *io, struct xf_pkt *pkt, uint32_t *skip)
{
	const struct xf_io_names *names = &io->cfg.names;
	struct xf_meta meta;

	*skip = 0;
	if (xf_pkt_copy_out(pkt, 0, &meta, sizeof(meta)) < 0 ||
	    (meta.magic & ~XF_META_FLAGS) != XF_META_MAGIC) {
		if (may_be_unmarked(io, pkt))
			return true;
		xf_worker_drop(io->worker, pkt, XF_DROP_OUT_NO_MARK);
		return false;
	}
	if (meta.magic & XF_META_OURS) {
		xf_worker_drop(io->worker, pkt, XF_DROP_OUT_LOOP);
		return false;
	}
	if (!(meta.mark & names->mark_capture) && is_multicast(pkt, sizeof(meta))) {
		xf_pkt_free(pkt);
		return false;
	}
	xf_pkt_trim_front(pkt, sizeof(meta));
	*skip = sizeof(meta);
	pkt->mark = meta.mark & ~(names->mark_capture | names->mark_bypass);
	pkt->iif = meta.iif;
	pkt->local = meta.iif == 0;
	pkt->uid = meta.uid;
	pkt->translated = meta.magic & XF_META_TRANSLATED;
	pkt->ask = meta.magic & XF_META_ASK;
	return true;
}

/*
 * Take one packet that was read from @source: into @out, or dropped. In front of a link there is
 * no program of ours, and whoever sends by it could write what looks like one's.
 */
static void accept_captured(struct xf_io *io, const struct xf_source *source, struct xf_pkt *pkt,
			    const struct virtio_net_hdr *vnet, struct xf_pktq *out)
{
	uint32_t skip = 0;

	if (!source->ifindex && !take_meta(io, pkt, &skip))
		return;
	if (!xf_vnet_read(vnet, skip, pkt)) {
		xf_worker_drop(io->worker, pkt, XF_DROP_OUT_HDR);
		return;
	}
	xf_count(&io->count.tun_rx_supers, pkt->gso_type != XF_GSO_NONE);
	xf_pktq_push(out, pkt);
}

static int tun_receive(struct xf_io *io, struct xf_source *source, unsigned max,
		       struct xf_pktq *out)
{
	size_t bytes = 0;
	unsigned i;

	source->more = true;
	if (!xf_rx_ready(io, 0))
		return -ENOBUFS;
	for (i = 0; i < max && bytes < TUN_BATCH_BYTES && xf_rx_ready(io, i); i++) {
		struct virtio_net_hdr vnet;
		struct iovec iov[] = { { &vnet, sizeof(vnet) },
				       io->rx[i].iov[0],
				       io->rx[i].iov[1] };
		ssize_t len = readv(source->fd, iov, 3);

		if (len < (ssize_t)sizeof(vnet)) {
			source->more = false;
			break;
		}
		bytes += (size_t)len;
		accept_captured(io, source,
				xf_rx_take(io, i, (uint32_t)len - (uint32_t)sizeof(vnet)), &vnet,
				out);
	}
	xf_count(&io->count.tun_rx, i);
	return i ? (int)i : -errno;
}

const struct xf_backend xf_backend_tun = {
	.name = "tun",
	.captured = true,
	.receive = tun_receive,
};

static bool deliver_one(struct xf_io *io, const struct xf_pkt *pkt)
{
	struct virtio_net_hdr vnet;
	struct iovec iov[TUN_IOVS];

	if (pkt->nsegs >= TUN_IOVS)
		return false;
	xf_vnet_write(pkt, &vnet);
	iov[0] = (struct iovec){ &vnet, sizeof(vnet) };
	for (unsigned i = 0; i < pkt->nsegs; i++)
		iov[i + 1] = (struct iovec){ pkt->segs[i].data, pkt->segs[i].len };
	return writev(io->tun.fd, iov, pkt->nsegs + 1) > 0;
}

void xf_tun_deliver(struct xf_io *io, struct xf_pktq *q)
{
	struct xf_pkt *pkt;

	while ((pkt = xf_pktq_pop(q))) {
		if (deliver_one(io, pkt)) {
			xf_count(&io->count.tun_tx, 1);
			xf_count(&io->count.tun_tx_supers, pkt->gso_type != XF_GSO_NONE);
			xf_pkt_free(pkt);
		} else {
			xf_worker_drop(io->worker, pkt, XF_DROP_IN_DELIVER);
		}
	}
}
