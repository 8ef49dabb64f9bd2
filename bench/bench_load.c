/*
 * Load SAs and policies into a running daemon through its netlink socket, dump them, take them out
 * in random order. A native client: many messages a datagram, NLM_F_ACK on the last of each, so
 * errors are seen of each and success once.
 *
 *     bench_load --sas N --policies N [--set host-pairs] [--family 4] [--dir out] [--pid DAEMON]
 *
 * Run it in the daemon's network namespace. One JSON row a figure on stdout. With --pid, memory of
 * the daemon too: resident bytes, before, loaded, and after all is gone.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <libmnl/libmnl.h>
#include <linux/xfrm.h>

#include "shim/link.h"
#include "spd_sets.h"

/* Of messages in one datagram, and of datagrams that are not acknowledged yet. */
#define BATCH_BYTES (48u * 1024)
#define MESSAGE_MAX 1024
#define WINDOW 4
#define DUMP_BYTES (64 * 1024)
/* When all is gone the daemon gives memory back within this. */
#define SETTLE_S 3

struct options {
	const struct set_kind *kind;
	uint32_t sas;
	uint32_t policies;
	uint16_t family;
	uint8_t dir; /* of policies; XF_DIR_MAX: each in turn */
	long pid;
};

struct load {
	struct options options;
	struct policy_set set;
	int fd;
	uint32_t seq; /* of the datagram being made */
	uint32_t unacked;
	uint32_t *order; /* in which things are deleted */
	size_t len;
	_Alignas(8) uint8_t batch[BATCH_BYTES];
	_Alignas(8) uint8_t answer[DUMP_BYTES];
};

/* Puts message number @i at @to. */
typedef struct nlmsghdr *put_fn(const struct load *load, void *to, uint32_t i);

static void fail(const char *what, int err)
{
	fprintf(stderr, "bench_load: %s: %s\n", what, strerror(err < 0 ? -err : err));
	exit(1);
}

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* --- messages --- */

/* Messages are aligned to 4 bytes, their structs to 8: those are copied. */
static struct nlmsghdr *start(void *to, uint16_t type, const void *head, size_t len)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(to);

	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = NLM_F_REQUEST;
	if (len)
		memcpy(mnl_nlmsg_put_extra_header(nlh, len), head, len);
	return nlh;
}

static void no_limits(struct xfrm_lifetime_cfg *life)
{
	life->soft_byte_limit = life->hard_byte_limit = XFRM_INF;
	life->soft_packet_limit = life->hard_packet_limit = XFRM_INF;
}

/* This host, and peer @i, which has two SAs: one each way. */
static xfrm_address_t us(const struct load *load)
{
	xfrm_address_t addr = { .a4 = htonl(0xc0000201) }; /* 192.0.2.1 */

	if (load->options.family == AF_INET6)
		addr = (xfrm_address_t){ .a6 = { htonl(0x20010db8), 0, 0, htonl(1) } };
	return addr;
}

static xfrm_address_t peer(const struct load *load, uint32_t i)
{
	xfrm_address_t addr = { .a4 = htonl(0x0b000000 + i / 2) };

	if (load->options.family == AF_INET6)
		addr = (xfrm_address_t){ .a6 = { htonl(0x20010db8), htonl(1), htonl(i / 2), 1 } };
	return addr;
}

static uint32_t spi_be(uint32_t i)
{
	return htonl(0x10000000 + i);
}

static void put_key(struct nlmsghdr *nlh, uint32_t i)
{
	struct {
		struct xfrm_algo_aead alg;
		uint8_t key[20];
	} aead = { .alg = { .alg_name = "rfc4106(gcm(aes))", .alg_key_len = 160 } };

	aead.alg.alg_icv_len = 128;
	for (unsigned k = 0; k < sizeof(aead.key); k++)
		aead.key[k] = (uint8_t)(i >> (k % 4 * 8) ^ k * 29);
	mnl_attr_put(nlh, XFRMA_ALG_AEAD, sizeof(aead.alg) + sizeof(aead.key), &aead);
}

static struct nlmsghdr *put_sa(const struct load *load, void *to, uint32_t i)
{
	struct xfrm_usersa_info info = {
		.saddr = i & 1 ? peer(load, i) : us(load),
		.id = { .daddr = i & 1 ? us(load) : peer(load, i),
			.spi = spi_be(i),
			.proto = IPPROTO_ESP },
		.family = load->options.family,
		.mode = XFRM_MODE_TUNNEL,
		.reqid = 1 + i / 2,
		.replay_window = 32,
		.flags = XFRM_STATE_AF_UNSPEC,
	};
	struct nlmsghdr *nlh;

	no_limits(&info.lft);
	nlh = start(to, XFRM_MSG_NEWSA, &info, sizeof(info));
	put_key(nlh, i);
	return nlh;
}

static struct nlmsghdr *put_sa_id(const struct load *load, void *to, uint32_t i)
{
	uint32_t number = load->order[i];
	const struct xfrm_usersa_id id = {
		.daddr = number & 1 ? us(load) : peer(load, number),
		.spi = spi_be(number),
		.proto = IPPROTO_ESP,
		.family = load->options.family,
	};

	return start(to, XFRM_MSG_DELSA, &id, sizeof(id));
}

static void put_selector(struct xfrm_selector *to, const struct xf_selector *sel)
{
	memcpy(&to->daddr, &sel->daddr, sizeof(to->daddr));
	memcpy(&to->saddr, &sel->saddr, sizeof(to->saddr));
	to->prefixlen_d = sel->prefixlen_d;
	to->prefixlen_s = sel->prefixlen_s;
	to->dport = htons(sel->dport);
	to->dport_mask = htons(sel->dport_mask);
	to->sport = htons(sel->sport);
	to->sport_mask = htons(sel->sport_mask);
	to->family = sel->family;
	to->proto = sel->proto;
	to->user = sel->user;
}

static uint8_t dir_of(const struct load *load, uint32_t i)
{
	return load->options.dir < XF_DIR_MAX ? load->options.dir : (uint8_t)(i % XF_DIR_MAX);
}

static struct nlmsghdr *put_policy(const struct load *load, void *to, uint32_t i)
{
	const struct xf_policy_config *cfg = &load->set.cfgs[i];
	struct xfrm_userpolicy_info info = { .priority = cfg->priority, .dir = dir_of(load, i) };
	struct nlmsghdr *nlh;
	struct xfrm_user_tmpl tmpl = {
		.id = { .daddr = peer(load, i), .proto = IPPROTO_ESP },
		.family = load->options.family,
		.saddr = us(load),
		.reqid = 1 + i / 2,
		.mode = XFRM_MODE_TUNNEL,
		.aalgos = ~0u,
		.ealgos = ~0u,
		.calgos = ~0u,
	};

	put_selector(&info.sel, &cfg->sel);
	no_limits(&info.lft);
	nlh = start(to, XFRM_MSG_NEWPOLICY, &info, sizeof(info));
	mnl_attr_put(nlh, XFRMA_TMPL, sizeof(tmpl), &tmpl);
	return nlh;
}

static struct nlmsghdr *put_policy_id(const struct load *load, void *to, uint32_t i)
{
	struct xfrm_userpolicy_id id = { .dir = dir_of(load, load->order[i]) };

	put_selector(&id.sel, &load->set.cfgs[load->order[i]].sel);
	return start(to, XFRM_MSG_DELPOLICY, &id, sizeof(id));
}

/* --- talking --- */

static ssize_t receive(struct load *load)
{
	ssize_t n = recv(load->fd, load->answer, sizeof(load->answer), 0);

	if (n < 0)
		fail("recv", errno);
	if (n == 0)
		fail("the daemon", ENOBUFS);
	return n;
}

/* Acknowledgements: any error ends the run. */
static void take_answers(struct load *load)
{
	ssize_t left = receive(load);

	for (const struct nlmsghdr *nlh = (const void *)load->answer; NLMSG_OK(nlh, left);
	     nlh = NLMSG_NEXT(nlh, left)) {
		const struct nlmsgerr *ack = NLMSG_DATA(nlh);

		if (nlh->nlmsg_type != NLMSG_ERROR)
			fail("an answer that is none", EPROTO);
		if (ack->error)
			fail("a request", -ack->error);
		load->unacked--;
	}
}

static void flush(struct load *load, struct nlmsghdr *last)
{
	if (!load->len)
		return;
	last->nlmsg_flags |= NLM_F_ACK;
	last->nlmsg_seq = ++load->seq;
	while (load->unacked >= WINDOW)
		take_answers(load);
	if (send(load->fd, load->batch, load->len, MSG_NOSIGNAL) < 0)
		fail("send", errno);
	load->unacked++;
	load->len = 0;
}

static double send_all(struct load *load, uint32_t n, put_fn *put)
{
	struct nlmsghdr *last = NULL;
	double since = now_s();

	for (uint32_t i = 0; i < n; i++) {
		last = put(load, load->batch + load->len, i);
		load->len += NLMSG_ALIGN(last->nlmsg_len);
		if (load->len + MESSAGE_MAX > sizeof(load->batch))
			flush(load, last);
	}
	flush(load, last);
	while (load->unacked)
		take_answers(load);
	return now_s() - since;
}

/* One datagram of a dump: true when it was the last. */
static bool take_dump(struct load *load, uint16_t kind, uint32_t *count)
{
	ssize_t left = receive(load);

	for (const struct nlmsghdr *nlh = (const void *)load->answer; NLMSG_OK(nlh, left);
	     nlh = NLMSG_NEXT(nlh, left)) {
		if (nlh->nlmsg_type == NLMSG_DONE)
			return true;
		if (nlh->nlmsg_type != kind)
			fail("a dump", EPROTO);
		++*count;
	}
	return false;
}

static double dump(struct load *load, uint16_t type, uint16_t kind, uint32_t want)
{
	struct nlmsghdr *nlh = start(load->batch, type, NULL, 0);
	double since = now_s();
	uint32_t count = 0;

	nlh->nlmsg_flags |= NLM_F_DUMP;
	nlh->nlmsg_seq = ++load->seq;
	if (send(load->fd, nlh, nlh->nlmsg_len, MSG_NOSIGNAL) < 0)
		fail("send", errno);
	while (!take_dump(load, kind, &count))
		;
	if (count == want)
		return now_s() - since;
	fprintf(stderr, "bench_load: %u in the dump, want %u\n", count, want);
	exit(1);
}

/* --- rows --- */

static void row(const struct load *load, const char *what, const char *metric, double value)
{
	const struct options *o = &load->options;

	printf("{\"bench\":\"lookup\",\"case\":\"netlink\",\"traffic\":\"%s\",\"policies\":%u,"
	       "\"sas\":%u,\"family\":%d,\"temp\":\"%s\",\"metric\":\"%s\",\"better\":\"lower\","
	       "\"value\":%.3f,\"q1\":%.3f,\"q3\":%.3f}\n",
	       o->kind->name, o->policies, o->sas, o->family == AF_INET ? 4 : 6, what, metric,
	       value, value, value);
	fflush(stdout);
}

static long resident(const struct load *load)
{
	char path[64];
	char line[256];
	long kb = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%ld/smaps_rollup", load->options.pid);
	f = fopen(path, "r");
	if (!f)
		fail(path, errno);
	while (kb < 0 && fgets(line, sizeof(line), f))
		sscanf(line, "Rss: %ld", &kb);
	fclose(f);
	return kb * 1024;
}

/* What of memory came since @before, for each of @n; or as it is. */
static long memory_row(const struct load *load, const char *what, long before, uint32_t n)
{
	long now;

	if (!load->options.pid)
		return 0;
	now = resident(load);
	if (n)
		row(load, what, "bytes", (double)(now - before) / n);
	else
		row(load, what, "resident_bytes", (double)now);
	return now;
}

static void shuffle(struct load *load, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		load->order[i] = i;
	for (uint32_t i = n; i > 1; i--) {
		uint32_t at = set_random(i), was = load->order[at];

		load->order[at] = load->order[i - 1];
		load->order[i - 1] = was;
	}
}

static void run(struct load *load)
{
	uint32_t sas = load->options.sas, policies = load->options.policies;
	long empty, with_sas;

	empty = memory_row(load, "before", 0, 0);
	row(load, "add SAs", "seconds", send_all(load, sas, put_sa));
	with_sas = memory_row(load, "an SA", empty, sas);
	row(load, "add policies", "seconds", send_all(load, policies, put_policy));
	memory_row(load, "a policy", with_sas, policies);
	memory_row(load, "loaded", 0, 0);
	row(load, "dump SAs", "seconds", dump(load, XFRM_MSG_GETSA, XFRM_MSG_NEWSA, sas));
	row(load, "dump policies", "seconds",
	    dump(load, XFRM_MSG_GETPOLICY, XFRM_MSG_NEWPOLICY, policies));
	shuffle(load, policies);
	row(load, "delete policies", "seconds", send_all(load, policies, put_policy_id));
	shuffle(load, sas);
	row(load, "delete SAs", "seconds", send_all(load, sas, put_sa_id));
	dump(load, XFRM_MSG_GETSA, XFRM_MSG_NEWSA, 0);
	dump(load, XFRM_MSG_GETPOLICY, XFRM_MSG_NEWPOLICY, 0);
	sleep(SETTLE_S);
	memory_row(load, "after", 0, 0);
}

static uint8_t dir_by_name(const char *name)
{
	static const char *const names[] = { "in", "out", "fwd" };
	uint8_t dir = 0;

	while (dir < XF_DIR_MAX && strcmp(names[dir], name) != 0)
		dir++;
	return dir;
}

static bool parse(int argc, char **argv, struct options *o)
{
	static const struct option known[] = { { "set", required_argument, NULL, 's' },
					       { "family", required_argument, NULL, 'f' },
					       { "policies", required_argument, NULL, 'p' },
					       { "sas", required_argument, NULL, 'a' },
					       { "dir", required_argument, NULL, 'r' },
					       { "pid", required_argument, NULL, 'd' },
					       { 0 } };
	const char *name = set_kinds[0].name;
	int c;

	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		if (c == 's')
			name = optarg;
		else if (c == 'f')
			o->family = strcmp(optarg, "6") == 0 ? AF_INET6 : AF_INET;
		else if (c == 'p')
			o->policies = (uint32_t)strtoul(optarg, NULL, 10);
		else if (c == 'a')
			o->sas = (uint32_t)strtoul(optarg, NULL, 10);
		else if (c == 'r')
			o->dir = dir_by_name(optarg);
		else if (c == 'd')
			o->pid = strtol(optarg, NULL, 10);
		else
			return false;
	}
	o->kind = set_kinds;
	while (o->kind->name && strcmp(o->kind->name, name) != 0)
		o->kind++;
	return o->kind->name && optind == argc;
}

int main(int argc, char **argv)
{
	struct load *load = calloc(1, sizeof(*load));
	uint32_t most;

	if (!load)
		return 1;
	load->options = (struct options){
		.sas = 1000,
		.policies = 1000,
		.family = AF_INET,
		.dir = XF_DIR_OUT,
	};
	if (!parse(argc, argv, &load->options)) {
		fprintf(stderr, "bench_load --sas N --policies N --set NAME --family 4|6 "
				"--dir in|out|fwd|all --pid DAEMON\n");
		return 2;
	}
	most = load->options.sas > load->options.policies ? load->options.sas
							  : load->options.policies;
	load->order = calloc(most + 1, sizeof(load->order[0]));
	set_seed(most);
	set_init(&load->set, load->options.kind, load->options.family, load->options.policies);
	if (!load->order || !load->set.cfgs)
		fail("memory", ENOMEM);
	load->fd = xf_shim_open();
	if (load->fd < 0)
		return 1;
	run(load);
	return 0;
}
