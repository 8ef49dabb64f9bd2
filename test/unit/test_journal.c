/*
 * The journal: what one server was told about policies, another one knows after a restart.
 */
#include <errno.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include <linux/netlink.h>
#include <linux/xfrm.h>

#include <xf/rcu.h>

#include "daemon/journal/journal.h"

struct node {
	struct xf_sad *sad;
	struct xf_spd *spd;
	struct xf_nl_server *server;
	struct xf_nl_client *client;
	struct xf_journal *journal;
};

static char path[64];

static void random_bytes(void *arg, void *buf, size_t len)
{
	(void)arg;
	memset(buf, 1, len);
}

static void spd_changed(void *arg)
{
	xf_journal_flush(((struct node *)arg)->journal);
}

static int spd_reserve(void *arg, size_t more, const char **why)
{
	struct xf_journal *journal = ((struct node *)arg)->journal;

	return journal ? xf_journal_reserve(journal, more, why) : 0;
}

static void policy_changed(void *arg, const struct xf_policy *policy, bool there)
{
	xf_journal_policy(((struct node *)arg)->journal, policy, there);
}

static void no_sa(void *arg, struct xf_sa *sa)
{
	(void)arg;
	(void)sa;
}

/* The last error that a client was told, and its sentence. */
static int told;

static int take_answer(void *arg, const void *data, size_t len)
{
	const struct nlmsghdr *msg = data;

	(void)arg;
	(void)len;
	if (msg->nlmsg_type == NLMSG_ERROR)
		told = ((const struct nlmsgerr *)NLMSG_DATA(msg))->error;
	return 0;
}

static const struct xf_journal_id here = { .boot = { 1, 2, 3 }, .cookie = 77 };

static int try_start(struct node *node, const struct xf_journal_id *id, bool rules_stand)
{
	const struct xf_sad_config sad = { .random = random_bytes };
	const struct xf_spd_config spd = { .watch = policy_changed, .watch_arg = node };
	const struct xf_nl_client_config client = { .send = take_answer };
	struct xf_nl_server_config server = { .random = random_bytes,
					      .spd_reserve = spd_reserve,
					      .spd_changed = spd_changed,
					      .sa_changed = no_sa,
					      .arg = node };
	struct xf_journal_config journal = { .path = path, .id = *id, .rules_stand = rules_stand };

	node->journal = NULL;
	node->sad = xf_sad_new(&sad);
	node->spd = xf_spd_new(&spd);
	server.sad = node->sad;
	server.spd = node->spd;
	node->server = xf_nl_server_new(&server);
	assert_non_null(node->server);
	assert_int_equal(xf_nl_client_new(node->server, &client, &node->client), 0);
	journal.server = node->server;
	journal.spd = node->spd;
	return xf_journal_open(&journal, 0, &node->journal);
}

static void start(struct node *node, bool rules_stand)
{
	assert_int_equal(try_start(node, &here, rules_stand), 0);
}

/* As kill -9 would: the file is left as it is. */
static void stop(struct node *node)
{
	xf_journal_close(node->journal);
	node->journal = NULL;
	xf_nl_client_free(node->client);
	xf_nl_server_free(node->server);
	xf_spd_free(node->spd);
	xf_sad_free(node->sad);
	xf_rcu_drain();
}

/* Nothing that was there before. */
static void clean(void)
{
	xf_journal_remove_files(path);
}

struct policy_request {
	struct nlmsghdr hdr;
	struct xfrm_userpolicy_info info;
};

static void fill_policy(struct policy_request *out, uint8_t net, uint32_t priority)
{
	struct policy_request req = {
		.hdr = { .nlmsg_len = sizeof(req),
			 .nlmsg_type = XFRM_MSG_NEWPOLICY,
			 .nlmsg_flags = NLM_F_REQUEST },
		.info = { .sel = { .family = 2, .prefixlen_d = 24 },
			  .dir = XFRM_POLICY_OUT,
			  .action = XFRM_POLICY_BLOCK,
			  .priority = priority },
	};
	uint8_t *daddr = (uint8_t *)&req.info.sel.daddr;

	daddr[0] = 10;
	daddr[1] = net;
	req.info.lft.hard_byte_limit = req.info.lft.hard_packet_limit = XFRM_INF;
	req.info.lft.soft_byte_limit = req.info.lft.soft_packet_limit = XFRM_INF;
	*out = req;
}

static void add(struct node *node, uint8_t net, uint32_t priority)
{
	struct policy_request req;

	fill_policy(&req, net, priority);
	xf_nl_client_request(node->client, &req, sizeof(req), 0);
	xf_journal_settle(node->journal);
}

static void update(struct node *node, uint8_t net, uint32_t priority)
{
	struct policy_request req;

	fill_policy(&req, net, priority);
	req.hdr.nlmsg_type = XFRM_MSG_UPDPOLICY;
	xf_nl_client_request(node->client, &req, sizeof(req), 0);
	xf_journal_settle(node->journal);
}

static void del(struct node *node, uint32_t index)
{
	struct {
		struct nlmsghdr hdr;
		struct xfrm_userpolicy_id id;
	} req = { .hdr = { .nlmsg_len = sizeof(req),
			   .nlmsg_type = XFRM_MSG_DELPOLICY,
			   .nlmsg_flags = NLM_F_REQUEST },
		  .id = { .index = index, .dir = XFRM_POLICY_OUT } };

	xf_nl_client_request(node->client, &req, sizeof(req), 0);
	xf_journal_settle(node->journal);
}

static bool print_policy(void *arg, struct xf_policy *policy)
{
	const struct xf_policy_config *cfg = xf_policy_cfg(policy);
	char *text = arg;
	size_t len = strlen(text);

	snprintf(text + len, 1000 - len, "10.%u p%u i%u;", cfg->sel.daddr.bytes[1], cfg->priority,
		 cfg->index);
	return true;
}

struct place {
	uint8_t net;
	struct xf_policy_tie tie;
};

static bool take_place(void *arg, struct xf_policy *policy)
{
	struct place **next = arg;

	*(*next)++ = (struct place){ .net = xf_policy_cfg(policy)->sel.daddr.bytes[1],
				     .tie = xf_policy_order_key(policy) };
	return true;
}

static unsigned take_places(const struct node *node, struct place *out)
{
	struct place *next = out;
	uint64_t cursor = 0;

	xf_spd_walk(node->spd, &cursor, take_place, &next);
	return (unsigned)(next - out);
}

static bool places_decide_alike(const struct place *a, const struct place *b, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		for (unsigned j = 0; j < n; j++) {
			if (a[i].net != b[i].net ||
			    (a[i].tie.rank < a[j].tie.rank) != (b[i].tie.rank < b[j].tie.rank) ||
			    (a[i].tie.pos < a[j].tie.pos) != (b[i].tie.pos < b[j].tie.pos))
				return false;
		}
	}
	return true;
}

static void assert_policies(const struct node *node, char *text)
{
	uint64_t cursor = 0;

	text[0] = 0;
	xf_spd_walk(node->spd, &cursor, print_policy, text);
}

static void survives(struct node *node)
{
	char before[1000];
	char after[1000];

	assert_policies(node, before);
	stop(node);
	start(node, true);
	assert_policies(node, after);
	assert_string_equal(before, after);
}

static bool take_index(void *arg, struct xf_policy *policy)
{
	*(uint32_t *)arg = xf_policy_cfg(policy)->index;
	return false;
}

static uint32_t newest_index(const struct node *node)
{
	uint64_t cursor = 0;
	uint32_t index = 0;

	xf_spd_walk(node->spd, &cursor, take_index, &index);
	return index;
}

static unsigned count(const struct node *node)
{
	struct xf_spd_info info;

	xf_spd_get_info(node->spd, &info);
	return info.count[XF_DIR_OUT];
}

static void policies_survive(void **state)
{
	struct xf_journal_stats stats;
	struct node node;

	(void)state;
	clean();
	start(&node, false);
	for (uint8_t i = 1; i <= 20; i++)
		add(&node, i, i % 3);
	assert_int_equal(count(&node), 20);
	survives(&node);
	xf_journal_get_stats(node.journal, &stats);
	assert_int_equal(stats.restored, 20);
	assert_int_equal(stats.refused, 0);
	del(&node, 1);
	add(&node, 99, 1);
	/* The file is now a clean part and what came behind; the order among equals stays. */
	survives(&node);
	survives(&node);
	assert_int_equal(count(&node), 20);
	stop(&node);
}

/* Another boot's or namespace's is set aside, our own is adopted, whatever rules stand. */
static void the_header_says_whose_it_is(void **state)
{
	static const struct xf_journal_id others[] = { { { 1, 2, 3 }, 78 }, { { 1, 2, 4 }, 77 } };
	struct xf_journal_stats stats;
	char old[80];
	struct node node;

	(void)state;
	snprintf(old, sizeof(old), "%s.old", path);
	for (unsigned i = 0; i < 4; i++) {
		clean();
		start(&node, false);
		add(&node, 1, 1);
		stop(&node);
		assert_int_equal(try_start(&node, &others[i / 2], i % 2), 0);
		assert_int_equal(count(&node), 0);
		xf_journal_get_stats(node.journal, &stats);
		assert_true(stats.set_aside);
		assert_int_equal(access(old, F_OK), 0);
		stop(&node);
	}
	clean();
	for (unsigned i = 0; i < 4; i++) {
		start(&node, i % 2);
		assert_int_equal(count(&node), i);
		add(&node, (uint8_t)(i + 1), 1);
		stop(&node);
	}
	start(&node, false);
	xf_journal_forget(node.journal);
	assert_int_not_equal(access(path, F_OK), 0);
	stop(&node);
}

/* A kernel without cookies: the rules that stand decide. */
static void without_cookies_the_rules_decide(void **state)
{
	struct xf_journal_id unknown = here;
	struct node node;

	(void)state;
	unknown.cookie = 0;
	clean();
	assert_int_equal(try_start(&node, &unknown, false), 0);
	add(&node, 1, 1);
	stop(&node);
	assert_int_equal(try_start(&node, &unknown, true), 0);
	assert_int_equal(count(&node), 1);
	stop(&node);
	assert_int_equal(try_start(&node, &unknown, false), 0);
	assert_int_equal(count(&node), 0);
	stop(&node);
}

#define COMMITTED_AT 40 /* in the header */

static uint8_t *read_all(size_t *size)
{
	FILE *f = fopen(path, "r");
	uint8_t *data;

	assert_non_null(f);
	fseek(f, 0, SEEK_END);
	*size = (size_t)ftell(f);
	rewind(f);
	data = malloc(*size);
	assert_int_equal(fread(data, 1, *size, f), *size);
	fclose(f);
	return data;
}

static void write_all(const uint8_t *data, size_t size)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, size, f), size);
	fclose(f);
}

/* All policies come back, or none and the start is refused: never a part of them. */
static bool all_or_refused(const uint8_t *data, size_t size, bool rules_stand)
{
	struct node node;
	int err;

	write_all(data, size);
	err = try_start(&node, &here, rules_stand);
	if (err)
		assert_int_equal(err, -EBADMSG);
	assert_int_equal(count(&node), err ? 0 : 5);
	stop(&node);
	return !err;
}

static void damage_never_opens(void **state)
{
	size_t committed = 0;
	uint8_t *data;
	struct node node;
	size_t size;

	(void)state;
	clean();
	start(&node, false);
	for (uint8_t i = 1; i <= 6; i++)
		add(&node, i, i);
	del(&node, newest_index(&node));
	stop(&node);
	data = read_all(&size);
	memcpy(&committed, data + COMMITTED_AT, sizeof(committed));
	assert_in_range(committed, 1000, 3000);
	assert_true(all_or_refused(data, size, false));
	/* Cut: what is behind what was committed is room and nothing else. */
	for (size_t len = 1; len < committed; len++)
		assert_false(all_or_refused(data, len, len % 2));
	assert_false(all_or_refused(data, 0, true));
	for (size_t i = 0; i < committed; i++) {
		for (unsigned bit = 0; bit < 8; bit += 3) {
			data[i] ^= (uint8_t)(1u << bit);
			assert_false(all_or_refused(data, size, i % 2));
			data[i] ^= (uint8_t)(1u << bit);
		}
		data[i] ^= 0xff;
		assert_false(all_or_refused(data, size, i % 2));
		data[i] ^= 0xff;
	}
	/* What a process that was killed left behind the end was told to nobody. */
	for (size_t i = 0; i < 500; i++)
		data[committed + 4 + i] = (uint8_t)(i * 7 + 1);
	assert_true(all_or_refused(data, size, false));
	free(data);
}

static void a_missing_file_opens_nothing(void **state)
{
	struct node node;

	(void)state;
	clean();
	assert_int_equal(try_start(&node, &here, true), -ENODATA);
	stop(&node);
	assert_int_not_equal(access(path, F_OK), 0);
	start(&node, false);
	stop(&node);
}

static void policies_that_do_not_fit_refuse_the_start(void **state)
{
	struct xf_journal_buffer block = { .len = 0 };
	static const uint8_t head[XF_JOURNAL_BLOCK_HEAD];
	struct xf_journal_buffer all = { .len = 0 };
	enum xf_journal_found found;
	struct xf_journal_file file;
	struct policy_request req;
	struct node node;

	(void)state;
	clean();
	start(&node, false);
	add(&node, 1, 1);
	stop(&node);
	/* A good block that the server refuses: the policy is there already. */
	fill_policy(&req, 1, 1);
	assert_int_equal(xf_journal_buffer_add(&block, head, sizeof(head)), 0);
	assert_int_equal(xf_journal_buffer_add(&block, &req, sizeof(req)), 0);
	assert_int_equal(xf_journal_file_init(&file, path, &here), 0);
	assert_int_equal(xf_journal_file_read(&file, &all, &found), 0);
	assert_int_equal(found, XF_JOURNAL_OURS);
	assert_int_equal(xf_journal_file_resume(&file), 0);
	assert_int_equal(xf_journal_file_append(&file, &block), 0);
	xf_journal_file_fini(&file);
	free(block.data);
	free(all.data);
	assert_int_equal(try_start(&node, &here, true), -E2BIG);
	stop(&node);
}

/* Messages alone, as the version before wrote them: the rules that stand decide. */
static void an_older_versions_file(void **state)
{
	struct policy_request req[2];
	struct node node;

	(void)state;
	for (uint8_t i = 0; i < 2; i++)
		fill_policy(&req[i], (uint8_t)(i + 1), 1);
	clean();
	write_all((const uint8_t *)req, sizeof(req) - 20);
	start(&node, true);
	assert_int_equal(count(&node), 1);
	stop(&node);
	start(&node, false); /* it has a header now */
	assert_int_equal(count(&node), 1);
	stop(&node);
	write_all((const uint8_t *)req, sizeof(req));
	start(&node, false);
	assert_int_equal(count(&node), 0);
	stop(&node);
}

/* Among equals the first one wins: also when a dump has taken the place of what was announced. */
static void order_survives_writing_anew(void **state)
{
	struct node node;

	(void)state;
	clean();
	start(&node, false);
	for (uint8_t i = 1; i <= 20; i++)
		add(&node, i, 1);
	for (int i = 0; i < 1000; i++) {
		add(&node, 99, 1);
		del(&node, newest_index(&node));
	}
	survives(&node);
	assert_int_equal(count(&node), 20);
	stop(&node);
}

/* Whoever updates a policy, as IKE does with each rekey, keeps its place before younger ones. */
static void places_survive_writing_anew(void **state)
{
	static const uint8_t updates[] = { 3, 1, 4, 3 };
	struct place before[8];
	struct place after[8];
	unsigned n;
	struct node node;

	(void)state;
	clean();
	start(&node, false);
	for (uint8_t i = 1; i <= 6; i++)
		add(&node, i, 1);
	for (unsigned round = 0; round <= XF_ARRAY_SIZE(updates); round++) {
		for (int i = 0; i < 1000; i++) { /* the file is written anew in between */
			add(&node, 99, 1);
			del(&node, newest_index(&node));
		}
		n = take_places(&node, before);
		stop(&node);
		start(&node, true);
		assert_int_equal(take_places(&node, after), n);
		assert_true(places_decide_alike(before, after, n));
		if (round < XF_ARRAY_SIZE(updates))
			update(&node, updates[round], 1);
		if (round == 2)
			add(&node, 7, 1);
		if (round == 3)
			del(&node, newest_index(&node));
	}
	stop(&node);
}

/* What policies take is known after a start, too: they can go, and others come. */
static void room_is_known_after_a_start(void **state)
{
	struct node node;

	(void)state;
	clean();
	start(&node, false);
	for (uint8_t net = 1; net <= 3; net++)
		add(&node, net, 1);
	stop(&node);
	start(&node, true);
	while (count(&node))
		del(&node, newest_index(&node));
	add(&node, 7, 7);
	assert_int_equal(count(&node), 1);
	survives(&node);
	stop(&node);
}

static void the_file_does_not_grow_for_ever(void **state)
{
	struct node node;
	FILE *f;

	(void)state;
	clean();
	start(&node, false);
	for (int i = 0; i < 20000; i++) {
		add(&node, 1, 1);
		del(&node, newest_index(&node));
	}
	assert_int_equal(count(&node), 0);
	/* Before a restart writes it anew. */
	f = fopen(path, "r");
	assert_non_null(f);
	fseek(f, 0, SEEK_END);
	assert_in_range(ftell(f), 1, 2 << 20);
	fclose(f);
	add(&node, 7, 7);
	survives(&node);
	stop(&node);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(policies_survive),
		cmocka_unit_test(the_header_says_whose_it_is),
		cmocka_unit_test(without_cookies_the_rules_decide),
		cmocka_unit_test(damage_never_opens),
		cmocka_unit_test(a_missing_file_opens_nothing),
		cmocka_unit_test(policies_that_do_not_fit_refuse_the_start),
		cmocka_unit_test(an_older_versions_file),
		cmocka_unit_test(order_survives_writing_anew),
		cmocka_unit_test(places_survive_writing_anew),
		cmocka_unit_test(room_is_known_after_a_start),
		cmocka_unit_test(the_file_does_not_grow_for_ever),
	};
	int failed;

	snprintf(path, sizeof(path), "/tmp/test_journal.%d", getpid());
	xf_read_register();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	xf_read_unregister();
	clean();
	return failed;
}
