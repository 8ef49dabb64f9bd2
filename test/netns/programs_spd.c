/*
 * The BPF programs at devices beside the SPD: random policies come, are updated and go; for random
 * packets the kernel runs the programs, which must refuse what the SPD wants protected or blocked;
 * also those that a kernel takes which is locked down. Where keys do not tell policies exactly, or
 * packets not their ports, they must not refuse too little, nor be sure of too much.
 *
 * usage: programs_spd [BUILD [SEED]]
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <dlfcn.h>
#include <unistd.h>
#include <sys/syscall.h>
#include <cmocka.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/pkt_cls.h>

/* What bpftool writes is not held to our warnings. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#include "ask.skel.h"
#pragma GCC diagnostic pop

#include <xf/rcu.h>

#include "capture/programs/backstop.h"

#define ROUNDS 8000
#define ROUNDS_LOCKED_DOWN 1000
#define CHANGES 8
#define PACKETS 24
#define POLICIES 120
#define A_DEVICE 7
#define HEADERS_MAX 7

static uint64_t state = 88172645463325252ull;
static struct xf_spd *spd;
static struct xf_backstop *backstop;
static struct xf_cover cover;
static unsigned long refused[3];
static unsigned long passed[3];
static bool loads; /* this kernel has such BPF */
static bool locked_down;
static bool exact; /* what is drawn: keys tell all policies, and packets are whole */
static struct ask *ask;
/* enum answer of bpf/classify.h. */
enum answer { NO, MAYBE, YES, ANSWERS };
static unsigned long answers[ANSWERS];

/* --- a kernel that is locked down: there are no helpers that read its memory --- */

#define NO_HELPER 0x7fff

static bool reads_kernel(const struct bpf_insn *insn)
{
	return insn->code == (BPF_JMP | BPF_CALL) && !insn->src_reg &&
	       (insn->imm == BPF_FUNC_probe_read || insn->imm == BPF_FUNC_probe_read_kernel);
}

static long load_locked_down(long (*next)(long, ...), union bpf_attr *attr, unsigned size)
{
	struct bpf_insn *insns = (void *)(uintptr_t)attr->insns;
	struct bpf_insn *copy = malloc(attr->insn_cnt * sizeof(*copy));
	long fd;

	assert_non_null(copy);
	for (unsigned i = 0; i < attr->insn_cnt; i++) {
		copy[i] = insns[i];
		if (reads_kernel(&insns[i]))
			copy[i].imm = NO_HELPER;
	}
	attr->insns = (uintptr_t)copy;
	fd = next(SYS_bpf, BPF_PROG_LOAD, attr, size);
	attr->insns = (uintptr_t)insns;
	free(copy);
	return fd;
}

/* libbpf's calls come by here; none of them has more arguments. */
long syscall(long number, ...)
{
	static long (*next)(long, ...);
	long a[5];
	va_list args;

	if (!next)
		next = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
	va_start(args, number);
	for (unsigned i = 0; i < XF_ARRAY_SIZE(a); i++)
		a[i] = va_arg(args, long);
	va_end(args);
	if (locked_down && number == SYS_bpf && (int)a[0] == BPF_PROG_LOAD)
		return load_locked_down(next, (union bpf_attr *)a[1], (unsigned)a[2]);
	return next(number, a[0], a[1], a[2], a[3], a[4]);
}

static uint32_t draw(uint32_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)((state >> 32) * below >> 32);
}

static bool protects(const struct xf_policy_config *cfg)
{
	return cfg->action == XF_POLICY_BLOCK || (cfg->ntmpl && !cfg->tmpl[0].optional);
}

static bool is_strict(const struct xf_policy_config *cfg)
{
	return protects(cfg) || (cfg->ntmpl && cfg->dir == XF_DIR_OUT);
}

static void watch(void *arg, const struct xf_policy *policy, bool there)
{
	const struct xf_policy_config *cfg = xf_policy_cfg(policy);

	(void)arg;
	if (cfg->dir == XF_DIR_OUT && is_strict(cfg))
		xf_cover_change(&cover, &cfg->sel, there);
	xf_backstop_policy(backstop, policy, there);
}

/* --- what policies and packets are drawn from --- */

static void draw_address(union xf_addr *addr, bool six)
{
	memset(addr, 0, sizeof(*addr));
	addr->bytes[0] = six ? 0xfd : 10;
	addr->bytes[1] = (uint8_t)draw(2);
	addr->bytes[2] = (uint8_t)draw(2);
	addr->bytes[six ? 15 : 3] = (uint8_t)(1 + draw(3));
}

static uint8_t draw_length(bool six)
{
	static const uint8_t lens[2][6] = { { 0, 8, 15, 16, 24, 32 }, { 0, 16, 47, 48, 64, 128 } };

	return lens[six][draw(6)];
}

static uint8_t draw_proto(bool six)
{
	const uint8_t protos[] = { XF_IPPROTO_TCP, XF_IPPROTO_UDP, XF_IPPROTO_UDP, XF_IPPROTO_GRE,
				   six ? XF_IPPROTO_ICMPV6 : XF_IPPROTO_ICMP };

	return protos[draw(XF_ARRAY_SIZE(protos))];
}

static void draw_ports(struct xf_selector *sel)
{
	static const uint16_t masks[] = { 0, 0xffff, 0xfffe };

	if (exact && (!sel->proto || sel->proto == XF_IPPROTO_GRE))
		return;
	sel->sport_mask = masks[draw(4) ? 0 : draw(3)];
	sel->dport_mask = masks[draw(3)];
	sel->sport = (uint16_t)(draw(3) & sel->sport_mask);
	sel->dport = (uint16_t)(draw(3) & sel->dport_mask);
}

/* What keys do not tell; and more of what ties, as few policies refuse. */
static void blur(struct xf_policy_config *cfg)
{
	cfg->sel.user = draw(16) ? 0 : 1000;
	cfg->priority = 1;
	cfg->type = draw(32) == 0;
	cfg->ntmpl = draw(4) == 0;
	cfg->action = draw(16) == 0;
	/* A strict one is everybody's, as for the daemon (decision 0008). */
	cfg->sel.ifindex = is_strict(cfg) || draw(16) ? 0 : A_DEVICE;
}

static void draw_policy(struct xf_policy_config *cfg)
{
	struct xf_selector *sel = &cfg->sel;
	bool six = draw(3) == 0;

	*cfg = (struct xf_policy_config){
		.dir = (uint8_t)draw(3),
		.type = draw(8) == 0,
		.action = draw(4) == 0,
		.priority = draw(3),
		.ntmpl = draw(2) != 0,
	};
	cfg->tmpl[0] = (struct xf_tmpl){ .id = { .proto = XF_IPPROTO_ESP, .family = XF_AF_INET },
					 .optional = draw(4) == 0 };
	/* Of those the SPD asks no further when they let pass: the programs are stricter. */
	if (exact && cfg->type == XF_POLICY_SUB)
		cfg->action = XF_POLICY_BLOCK;
	if (draw(6) == 0)
		cfg->mark = (struct xf_mark){ .v = draw(2), .m = draw(2) ? 1 : UINT32_MAX };
	sel->family = six ? XF_AF_INET6 : XF_AF_INET;
	draw_address(&sel->saddr, six);
	draw_address(&sel->daddr, six);
	sel->prefixlen_s = draw_length(six);
	sel->prefixlen_d = draw_length(six);
	sel->proto = draw(2) ? draw_proto(six) : 0;
	draw_ports(sel);
	if (!exact)
		blur(cfg);
}

struct pick {
	unsigned n;
	struct xf_policy *policy;
};

static bool pick_nth(void *arg, struct xf_policy *policy)
{
	struct pick *pick = arg;

	pick->policy = policy;
	return pick->n-- != 0;
}

static struct xf_policy *pick_policy(unsigned all)
{
	struct pick pick = { .n = draw(all) };
	uint64_t cursor = 0;

	xf_spd_walk(spd, &cursor, pick_nth, &pick);
	return pick.policy;
}

/* An update keeps its place in its class, but not among the others. */
static void draw_update(struct xf_policy_config *cfg, const struct xf_policy *old)
{
	*cfg = *xf_policy_cfg(old);
	cfg->index = 0;
	if (exact ? cfg->type != XF_POLICY_SUB : !cfg->sel.ifindex && draw(4) == 0)
		cfg->action = !cfg->action;
}

static void change_policies(void)
{
	struct xf_spd_info info;
	unsigned all;

	for (unsigned i = 0; i < CHANGES; i++) {
		struct xf_policy_config cfg;
		struct xf_policy *policy;

		xf_spd_get_info(spd, &info);
		all = info.count[0] + info.count[1] + info.count[2];
		if (all && draw(POLICIES) < all) {
			xf_spd_del(spd, pick_policy(all));
			continue;
		}
		if (all && draw(2))
			draw_update(&cfg, pick_policy(all));
		else
			draw_policy(&cfg);
		assert_int_equal(xf_spd_insert(spd, &cfg, false, 0, &policy), 0);
	}
	assert_int_equal(xf_backstop_sync(backstop, &cover, spd), 0);
	xf_cells_settled(&cover.cells);
	xf_rcu_drain();
}

/* --- packets --- */

struct packet {
	uint32_t mark; /* with bits of ours, which policies do not see */
	struct xf_flow flow;
	bool piece;
	bool blind; /* a piece that does not tell its ports: a later one, or a short first one */
	unsigned len;
	uint8_t bytes[14 + 40 + HEADERS_MAX * 16 + 8 + 8];
};

/* More headers than programs follow, too: headers of 8 and 16 bytes behind one another. */
static unsigned put_headers(uint8_t *ip)
{
	static const uint8_t protos[] = { XF_IPPROTO_HOPOPTS, XF_IPPROTO_ROUTING,
					  XF_IPPROTO_DSTOPTS };
	uint8_t *at = ip + 40;
	uint8_t *name = ip + 6;

	for (unsigned n = draw(2) ? draw(HEADERS_MAX + 1) : 0; n; n--) {
		at[0] = *name;
		at[1] = (uint8_t)draw(2);
		*name = protos[draw(XF_ARRAY_SIZE(protos))];
		name = at;
		at += (at[1] + 1) * 8;
	}
	ip[5] = (uint8_t)(at - ip - 40 + 8);
	return (unsigned)(at - ip - 40);
}

static unsigned put_options(uint8_t *ip)
{
	unsigned words = draw(2) ? draw(11) : 0;

	ip[0] = (uint8_t)(0x45 + words);
	ip[3] = (uint8_t)(28 + 4 * words);
	memset(ip + 20, 1, 4 * words);
	return 4 * words;
}

/* The first of a datagram, or one that tells no ports: returns how much longer it is. */
static unsigned put_piece(struct packet *packet, uint8_t *ip, bool six)
{
	bool first = draw(2);
	uint16_t offset = first ? 0 : 185;

	packet->piece = true;
	packet->blind = !first;
	if (!six) {
		xf_put_be16(ip + 6, (uint16_t)(offset | (first ? 0x2000 : 0)));
		return 0;
	}
	memmove(ip + 48, ip + 40, sizeof(packet->bytes) - 14 - 48);
	ip[5] = (uint8_t)(ip[5] + 8);
	ip[40] = ip[6];
	ip[41] = 0;
	ip[6] = XF_IPPROTO_FRAGMENT;
	xf_put_be16(ip + 42, (uint16_t)(offset << 3 | first));
	/* What stands behind it is anything, of which a program must make nothing. */
	for (unsigned i = 48; !first && i < 48 + HEADERS_MAX * 16; i++)
		ip[i] = (uint8_t)draw(64);
	return 8;
}

static void put_ports(const struct packet *packet, uint8_t *upper)
{
	const struct xf_flow *flow = &packet->flow;

	if (flow->proto == XF_IPPROTO_TCP || flow->proto == XF_IPPROTO_UDP) {
		xf_put_be16(upper, flow->sport);
		xf_put_be16(upper + 2, flow->dport);
	} else {
		upper[0] = (uint8_t)flow->sport;
		upper[1] = (uint8_t)flow->dport;
	}
}

static void draw_packet(struct packet *packet)
{
	bool six = draw(3) == 0;
	uint8_t *ip = packet->bytes + 14;
	uint8_t *upper = ip + (six ? 40 : 20);
	struct xf_flow *flow = &packet->flow;

	memset(packet, 0, sizeof(*packet));
	flow->family = six ? XF_AF_INET6 : XF_AF_INET;
	draw_address(&flow->saddr, six);
	draw_address(&flow->daddr, six);
	flow->proto = draw_proto(six);
	flow->mark = draw(2);
	packet->mark =
		flow->mark | (draw(2) ? XF_MARK_CAPTURE : 0) | (draw(2) ? XF_MARK_BYPASS : 0);
	xf_put_be16(packet->bytes + 12, six ? 0x86dd : 0x0800);
	if (six) {
		ip[0] = 0x60;
		ip[5] = 8;
		ip[6] = flow->proto;
		ip[7] = 64;
		memcpy(ip + 8, &flow->saddr, 16);
		memcpy(ip + 24, &flow->daddr, 16);
	} else {
		ip[0] = 0x45;
		ip[3] = 28;
		ip[8] = 64;
		ip[9] = flow->proto;
		memcpy(ip + 12, &flow->saddr, 4);
		memcpy(ip + 16, &flow->daddr, 4);
	}
	if (!six)
		upper += put_options(ip);
	else if (!exact)
		upper += put_headers(ip);
	if (!exact && draw(3) == 0)
		upper += put_piece(packet, ip, six);
	packet->len = (unsigned)(upper + 8 - packet->bytes);
	if (flow->proto == XF_IPPROTO_GRE)
		return;
	flow->sport = (uint16_t)draw(3);
	flow->dport = (uint16_t)draw(3);
	if (!packet->blind)
		put_ports(packet, upper);
	if (packet->piece && draw(4) == 0) {
		packet->len -= 5 + draw(3);
		packet->blind = true;
	}
}

static const struct xf_policy_config *spd_finds(enum xf_policy_dir dir, const struct xf_flow *flow)
{
	static const struct xf_policy_config none;
	const struct xf_policy *policy = xf_spd_lookup(spd, dir, flow);

	return policy ? xf_policy_cfg(policy) : &none;
}

static int run_program(int fd, const struct packet *packet, uint32_t dir)
{
	struct __sk_buff skb = { .mark = packet->mark, .cb = { dir } };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = packet->bytes, .data_size_in = packet->len,
		    .ctx_in = &skb, .ctx_size_in = sizeof(skb));

	assert_int_equal(bpf_prog_test_run_opts(fd, &opts), 0);
	return (int)opts.retval;
}

static bool program_drops(bool ingress, const struct packet *packet)
{
	return run_program(xf_backstop_fd(backstop, ingress), packet, 0) == TC_ACT_SHOT;
}

/* What the answer is when keys tell all, and what it must not be when they do not. */
static void check_answer(const struct packet *packet, enum xf_policy_dir dir)
{
	const struct xf_policy_config *found = spd_finds(dir, &packet->flow);
	struct xf_flow elsewhere = packet->flow;
	int got = run_program(bpf_program__fd(ask->progs.xf_ask), packet, dir);

	elsewhere.oif = A_DEVICE + 1;
	assert_in_range(got, NO, YES);
	if (exact && !is_strict(found))
		assert_int_equal(got, NO);
	if (exact && is_strict(found))
		assert_int_equal(got, protects(found) ? YES : MAYBE);
	if (got == NO) {
		assert_false(is_strict(found));
		assert_false(is_strict(spd_finds(dir, &elsewhere)));
	}
	if (got == YES)
		assert_true(protects(found));
	answers[got]++;
}

static void check_packet(void)
{
	struct packet packet;
	bool out, in, drops_out, drops_in;

	draw_packet(&packet);
	for (unsigned dir = 0; dir < XF_DIR_MAX; dir++)
		check_answer(&packet, (enum xf_policy_dir)dir);
	out = is_strict(spd_finds(XF_DIR_OUT, &packet.flow));
	in = is_strict(spd_finds(XF_DIR_IN, &packet.flow)) &&
	     is_strict(spd_finds(XF_DIR_FWD, &packet.flow));
	drops_out = program_drops(false, &packet);
	drops_in = program_drops(true, &packet);
	assert_true(drops_out == out || (drops_out && !exact));
	/* At devices pieces match no policy with ports. */
	assert_true(drops_in == in || (drops_in && !exact) || packet.blind);
	(out ? refused : passed)[0]++;
	(in ? refused : passed)[1]++;
}

/* --- the program that tells what all ask --- */

static bool share_map(int fd)
{
	struct bpf_map_info info = { .type = 0 };
	uint32_t len = sizeof(info);
	struct bpf_map *map;

	assert_int_equal(bpf_obj_get_info_by_fd(fd, &info, &len), 0);
	map = bpf_object__find_map_by_name(ask->obj, info.name);
	/* Constants are its own. */
	return map && strcmp(info.name, ".rodata") && bpf_map__reuse_fd(map, fd) == 0;
}

static void open_ask(void)
{
	uint32_t ids[8];
	struct bpf_prog_info info = { .nr_map_ids = XF_ARRAY_SIZE(ids), .map_ids = (uintptr_t)ids };
	uint32_t len = sizeof(info);
	struct bpf_program *prog;
	unsigned shared = 0;

	ask = ask__open();
	assert_non_null(ask);
	bpf_object__for_each_program(prog, ask->obj)
		bpf_program__set_autoload(prog, prog == ask->progs.xf_ask);
	assert_int_equal(bpf_obj_get_info_by_fd(xf_backstop_fd(backstop, false), &info, &len), 0);
	for (unsigned i = 0; i < info.nr_map_ids; i++) {
		int fd = bpf_map_get_fd_by_id(ids[i]);

		assert_true(fd >= 0);
		shared += share_map(fd);
		close(fd);
	}
	assert_true(shared >= 3);
	assert_int_equal(ask__load(ask), 0);
}

static void compare(unsigned rounds)
{
	struct xf_spd_config cfg = { .seed = { 1, 2 }, .watch = watch };
	struct xf_backstop_stats stats;
	struct xf_io_error error = { .text = "" };

	memset(answers, 0, sizeof(answers));
	memset(refused, 0, sizeof(refused));
	memset(passed, 0, sizeof(passed));
	if (xf_backstop_new(&xf_io_names_default, XF_TWIN_TC, false, &backstop, &error)) {
		print_message("%s\n", error.text);
		assert_false(loads);
		skip();
	}
	loads = true;
	xf_backstop_get_stats(backstop, &stats);
	assert_int_equal(stats.knows_nat, !locked_down);
	spd = xf_spd_new(&cfg);
	assert_non_null(spd);
	open_ask();
	for (unsigned i = 0; i < rounds; i++) {
		change_policies();
		for (unsigned j = 0; j < PACKETS; j++)
			check_packet();
	}
	print_message("out %lu refused, %lu passed; in %lu refused, %lu passed\n", refused[0],
		      passed[0], refused[1], passed[1]);
	print_message("answers: no %lu, maybe %lu, yes %lu\n", answers[NO], answers[MAYBE],
		      answers[YES]);
	assert_true(refused[0] > rounds / 4 * 5 && passed[0] > rounds / 4 * 5);
	assert_true(refused[1] > rounds / 8 * 3 && passed[1] > rounds / 4 * 5);
	assert_true(answers[NO] > rounds * 10 && answers[YES] > rounds * 2);
	ask__destroy(ask);
	xf_spd_free(spd);
	xf_rcu_drain();
	xf_backstop_free(backstop);
	xf_cover_fini(&cover);
}

static void programs_refuse_what_the_spd_refuses(void **unused)
{
	(void)unused;
	exact = true;
	compare(ROUNDS);
}

static void where_they_cannot_tell_they_are_not_sure(void **unused)
{
	(void)unused;
	exact = false;
	compare(ROUNDS);
}

static void so_they_do_where_the_kernel_is_locked_down(void **unused)
{
	(void)unused;
	exact = true;
	locked_down = true;
	compare(ROUNDS_LOCKED_DOWN);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(programs_refuse_what_the_spd_refuses),
		cmocka_unit_test(where_they_cannot_tell_they_are_not_sure),
		cmocka_unit_test(so_they_do_where_the_kernel_is_locked_down),
	};

	if (argc > 2)
		state = strtoull(argv[2], NULL, 0) | 1;
	printf("# seed %llu\n", (unsigned long long)state);
	if (geteuid() != 0) {
		puts("skip: needs root");
		return 77;
	}
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
