/*
 * The BPF programs at devices beside the SPD: random policies come, are updated and go; for random
 * packets the kernel runs the programs, which must refuse what the SPD wants protected or blocked;
 * also those that a kernel takes which is locked down.
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

#include <xf/rcu.h>

#include "capture/backstop.h"

#define ROUNDS 8000
#define ROUNDS_LOCKED_DOWN 1000
#define CHANGES 8
#define PACKETS 24
#define POLICIES 120

static uint64_t state = 88172645463325252ull;
static struct xf_spd *spd;
static struct xf_backstop *backstop;
static struct xf_cover cover;
static unsigned long refused[3];
static unsigned long passed[3];
static bool loads; /* this kernel has such BPF */
static bool locked_down;

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

static bool is_strict(const struct xf_policy_config *cfg)
{
	if (cfg->action == XF_POLICY_BLOCK)
		return true;
	return cfg->ntmpl && (cfg->dir == XF_DIR_OUT || !cfg->tmpl[0].optional);
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

	if (!sel->proto || sel->proto == XF_IPPROTO_GRE)
		return;
	sel->sport_mask = masks[draw(4) ? 0 : draw(3)];
	sel->dport_mask = masks[draw(3)];
	sel->sport = (uint16_t)(draw(3) & sel->sport_mask);
	sel->dport = (uint16_t)(draw(3) & sel->dport_mask);
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
	if (cfg->type == XF_POLICY_SUB)
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
	if (cfg->type != XF_POLICY_SUB)
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
	unsigned len;
	uint8_t bytes[14 + 40 + 8];
};

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
	packet->len = (unsigned)(upper + 8 - packet->bytes);
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
	if (flow->proto == XF_IPPROTO_GRE)
		return;
	flow->sport = (uint16_t)draw(3);
	flow->dport = (uint16_t)draw(3);
	if (flow->proto == XF_IPPROTO_TCP || flow->proto == XF_IPPROTO_UDP) {
		xf_put_be16(upper, flow->sport);
		xf_put_be16(upper + 2, flow->dport);
	} else {
		upper[0] = (uint8_t)flow->sport;
		upper[1] = (uint8_t)flow->dport;
	}
}

static bool spd_refuses(enum xf_policy_dir dir, const struct xf_flow *flow)
{
	const struct xf_policy *policy = xf_spd_lookup(spd, dir, flow);

	return policy && is_strict(xf_policy_cfg(policy));
}

static bool program_drops(int fd, const struct packet *packet)
{
	struct __sk_buff skb = { .mark = packet->mark };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = packet->bytes, .data_size_in = packet->len,
		    .ctx_in = &skb, .ctx_size_in = sizeof(skb));

	assert_int_equal(bpf_prog_test_run_opts(fd, &opts), 0);
	return opts.retval == TC_ACT_SHOT;
}

static void check_packet(void)
{
	struct packet packet;
	bool out;
	bool in;

	draw_packet(&packet);
	out = spd_refuses(XF_DIR_OUT, &packet.flow);
	in = spd_refuses(XF_DIR_IN, &packet.flow) && spd_refuses(XF_DIR_FWD, &packet.flow);
	assert_int_equal(program_drops(xf_backstop_fd(backstop, false), &packet), out);
	assert_int_equal(program_drops(xf_backstop_fd(backstop, true), &packet), in);
	(out ? refused : passed)[0]++;
	(in ? refused : passed)[1]++;
}

static void compare(unsigned rounds)
{
	struct xf_spd_config cfg = { .seed = { 1, 2 }, .watch = watch };
	struct xf_backstop_stats stats;
	struct xf_io_error error = { .text = "" };

	memset(refused, 0, sizeof(refused));
	memset(passed, 0, sizeof(passed));
	if (xf_backstop_new(&xf_io_names_default, XF_TWIN_TC, &backstop, &error)) {
		print_message("%s\n", error.text);
		assert_false(loads);
		skip();
	}
	loads = true;
	xf_backstop_get_stats(backstop, &stats);
	assert_int_equal(stats.knows_nat, !locked_down);
	spd = xf_spd_new(&cfg);
	assert_non_null(spd);
	for (unsigned i = 0; i < rounds; i++) {
		change_policies();
		for (unsigned j = 0; j < PACKETS; j++)
			check_packet();
	}
	print_message("out %lu refused, %lu passed; in %lu refused, %lu passed\n", refused[0],
		      passed[0], refused[1], passed[1]);
	assert_true(refused[0] > rounds / 4 * 5 && passed[0] > rounds / 4 * 5);
	assert_true(refused[1] > rounds / 8 * 3 && passed[1] > rounds / 4 * 5);
	xf_spd_free(spd);
	xf_rcu_drain();
	xf_backstop_free(backstop);
	xf_cover_fini(&cover);
}

static void programs_refuse_what_the_spd_refuses(void **unused)
{
	(void)unused;
	compare(ROUNDS);
}

static void so_they_do_where_the_kernel_is_locked_down(void **unused)
{
	(void)unused;
	locked_down = true;
	compare(ROUNDS_LOCKED_DOWN);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(programs_refuse_what_the_spd_refuses),
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
