/*
 * tun_pipe.c - packets from one TUN to another without crypto: what an encrypted path could reach.
 *
 * A TUN with super-packets (TSO, USO) in each of two network namespaces, a thread for each end on
 * a core of its own, and between them a socket pair (SOCK_SEQPACKET), over which a super-packet
 * goes whole with its header. As in a gateway, each end reads and writes both its TUN and what
 * stands for the wire, and sleeps in poll() when there is nothing.
 *
 *   tun_pipe NETNS CORE NETNS CORE
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/if.h>
#include <linux/if_tun.h>

#define ROOM (10 + 65536) /* struct virtio_net_hdr, a packet */
#define AT_ONCE 32 /* packets read before the other side has its turn */
#define WIRE_BYTES (8 << 20)

/* From headers newer than Debian 12's. */
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

struct end {
	const char *netns;
	unsigned core;
	int tun;
	int wire;
	unsigned char buf[ROOM];
};

static void die(const char *what)
{
	fprintf(stderr, "tun_pipe: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void enter(const char *netns)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "/run/netns/%s", netns);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET))
		die(netns);
	close(fd);
}

/* A TUN belongs to the namespace of the thread that makes it. */
static void open_tun(struct end *end)
{
	unsigned offloads = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
	struct ifreq req = { .ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR };

	enter(end->netns);
	end->tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (end->tun < 0)
		die("/dev/net/tun");
	memcpy(req.ifr_name, "pipe0", 6);
	if (ioctl(end->tun, TUNSETIFF, &req))
		die("TUNSETIFF");
	/* Kernels before 6.2 have no USO. */
	if (ioctl(end->tun, TUNSETOFFLOAD, offloads | TUN_F_USO4 | TUN_F_USO6) &&
	    ioctl(end->tun, TUNSETOFFLOAD, offloads))
		die("TUNSETOFFLOAD");
}

/* What the other side has no room for is lost, as on a wire. */
static void move(struct end *end, int from, int to)
{
	for (unsigned i = 0; i < AT_ONCE; i++) {
		ssize_t len = read(from, end->buf, ROOM);

		if (len <= 0) {
			if (len < 0 && errno != EAGAIN && errno != EINTR && errno != EIO)
				die("read");
			return;
		}
		if (write(to, end->buf, (size_t)len) < 0 && errno != EAGAIN && errno != EIO &&
		    errno != EINVAL)
			die("write");
	}
}

static void *serve(void *arg)
{
	struct end *end = arg;
	struct pollfd fds[2] = { { .fd = end->tun, .events = POLLIN },
				 { .fd = end->wire, .events = POLLIN } };
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(end->core, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("sched_setaffinity");
	for (;;) {
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			die("poll");
		if (fds[0].revents)
			move(end, end->tun, end->wire);
		if (fds[1].revents)
			move(end, end->wire, end->tun);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	static struct end ends[2];
	const int room = WIRE_BYTES;
	pthread_t threads[2];
	int pair[2];

	if (argc != 5) {
		fputs("usage: tun_pipe NETNS CORE NETNS CORE\n", stderr);
		return 2;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair))
		die("socketpair");
	for (unsigned i = 0; i < 2; i++) {
		ends[i].netns = argv[1 + 2 * i];
		ends[i].core = (unsigned)strtoul(argv[2 + 2 * i], NULL, 10);
		ends[i].wire = pair[i];
		if (setsockopt(pair[i], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room)))
			die("SO_SNDBUFFORCE");
		open_tun(&ends[i]);
	}
	puts("ready");
	fflush(stdout);
	for (unsigned i = 0; i < 2; i++)
		if (pthread_create(&threads[i], NULL, serve, &ends[i]))
			die("pthread_create");
	pthread_join(threads[0], NULL);
	return 0;
}
