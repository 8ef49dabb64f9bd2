/*
 * udp_relay.c - one end of a tunnel that does nothing: TUN to UDP, UDP to TUN, packet by packet.
 *
 * What any tunnel in user space costs before it does a thing. One process in each network
 * namespace; each sleeps in epoll_wait() when there is nothing. No header, no crypto, no order.
 *
 *   udp_relay LOCAL REMOTE PORT     run in the namespace; the TUN is called relay0
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/if.h>
#include <linux/if_tun.h>

#define ROOM 65536
#define AT_ONCE 32 /* packets one way before the other has its turn */
#define BUFFER_BYTES (4 << 20)

static void die(const char *what)
{
	fprintf(stderr, "udp_relay: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int open_tun(void)
{
	struct ifreq req = { .ifr_flags = IFF_TUN | IFF_NO_PI };
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	memcpy(req.ifr_name, "relay0", 7);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &req))
		die("/dev/net/tun");
	return fd;
}

static struct sockaddr_in address(const char *text, const char *port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
				   .sin_port = htons((uint16_t)strtoul(port, NULL, 10)) };

	if (inet_pton(AF_INET, text, &sin.sin_addr) != 1)
		die(text);
	return sin;
}

static int open_socket(char **argv)
{
	const struct sockaddr_in local = address(argv[1], argv[3]);
	const struct sockaddr_in remote = address(argv[2], argv[3]);
	const int room = BUFFER_BYTES;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)) ||
	    bind(fd, (const struct sockaddr *)&local, sizeof(local)) ||
	    connect(fd, (const struct sockaddr *)&remote, sizeof(remote)))
		die("UDP socket");
	return fd;
}

/* What the other side has no room for, or is not there for yet, is lost. */
static void move(int from, int to)
{
	static unsigned char buf[ROOM];

	for (unsigned i = 0; i < AT_ONCE; i++) {
		ssize_t len = read(from, buf, sizeof(buf));

		if (len < 0 && errno != EAGAIN && errno != EINTR && errno != EIO &&
		    errno != ECONNREFUSED)
			die("read");
		if (len <= 0)
			return;
		if (write(to, buf, (size_t)len) < 0 && errno != EAGAIN && errno != EIO &&
		    errno != EINVAL && errno != ECONNREFUSED && errno != ENOBUFS)
			die("write");
	}
}

int main(int argc, char **argv)
{
	struct epoll_event events[2];
	int fds[2], epoll;

	if (argc != 4) {
		fputs("usage: udp_relay LOCAL REMOTE PORT\n", stderr);
		return 2;
	}
	fds[0] = open_tun();
	fds[1] = open_socket(argv);
	epoll = epoll_create1(EPOLL_CLOEXEC);
	for (uint32_t i = 0; i < 2; i++) {
		struct epoll_event event = { .events = EPOLLIN, .data.u32 = i };

		if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &event))
			die("epoll");
	}
	puts("ready");
	fflush(stdout);
	for (;;) {
		int n = epoll_wait(epoll, events, 2, -1);

		if (n < 0 && errno != EINTR)
			die("epoll_wait");
		for (int i = 0; i < n; i++)
			move(fds[events[i].data.u32], fds[!events[i].data.u32]);
	}
}
