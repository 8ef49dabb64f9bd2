/*
 * The journal: what one server was told about policies, another one knows after a restart.
 */
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

#include "daemon/journal.h"

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

static void nothing(void *arg)
{
	(void)arg;
}

static void no_sa(void *arg, struct xf_sa *sa)
{
	(void)arg;
	(void)sa;
}

static int ignore(void *arg, const void *data, size_t len)
{
	(void)arg;
	(void)data;
	(void)len;
	return 0;
}

static void start(struct node *node, bool adopt)
{
	const struct xf_sad_config sad = { .random = random_bytes };
	const struct xf_spd_config spd = { .max_policies = 0 };
	const struct xf_nl_client_config client = { .send = ignore };
	struct xf_nl_server_config server = { .random = random_bytes,
					      .spd_changed = nothing,
					      .sa_changed = no_sa };
	struct xf_journal_config journal = { .path = path, .adopt = adopt };

	node->sad = xf_sad_new(&sad);
	node->spd = xf_spd_new(&spd);
	server.sad = node->sad;
	server.spd = node->spd;
	node->server = xf_nl_server_new(&server);
	assert_non_null(node->server);
	assert_int_equal(xf_nl_client_new(node->server, &client, &node->client), 0);
	journal.server = node->server;
	assert_int_equal(xf_journal_open(&journal, 0, &node->journal), 0);
}

/* As kill -9 would: the file is left as it is. */
static void stop(struct node *node)
{
	xf_journal_close(node->journal);
	xf_nl_client_free(node->client);
	xf_nl_server_free(node->server);
	xf_spd_free(node->spd);
	xf_sad_free(node->sad);
	xf_rcu_drain();
}

struct policy_request {
	struct nlmsghdr hdr;
	struct xfrm_userpolicy_info info;
};

static void add(struct node *node, uint8_t net, uint32_t priority)
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
	unlink(path);
	start(&node, true);
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

static void strangers_policies_go(void **state)
{
	struct node node;

	(void)state;
	unlink(path);
	start(&node, true);
	add(&node, 1, 1);
	stop(&node);
	start(&node, false);
	assert_int_equal(count(&node), 0);
	stop(&node);
	start(&node, true);
	assert_int_equal(count(&node), 0);
	add(&node, 2, 1);
	xf_journal_forget(node.journal);
	assert_int_not_equal(access(path, F_OK), 0);
	stop(&node);
}

static void a_cut_file_restores_what_is_whole(void **state)
{
	struct xf_journal_stats stats;
	struct node node;
	long size;
	FILE *f;

	(void)state;
	unlink(path);
	start(&node, true);
	add(&node, 1, 1);
	add(&node, 2, 1);
	stop(&node);
	f = fopen(path, "r");
	assert_non_null(f);
	fseek(f, 0, SEEK_END);
	size = ftell(f);
	fclose(f);
	for (long cut = 1; cut < size / 2; cut += 17) {
		assert_int_equal(truncate(path, size - cut), 0);
		start(&node, true);
		assert_int_equal(count(&node), 1);
		xf_journal_get_stats(node.journal, &stats);
		assert_int_equal(stats.refused, 1);
		add(&node, 2, 1);
		assert_int_equal(count(&node), 2);
		stop(&node);
	}
}

static void the_file_does_not_grow_for_ever(void **state)
{
	struct node node;
	FILE *f;

	(void)state;
	unlink(path);
	start(&node, true);
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
		cmocka_unit_test(strangers_policies_go),
		cmocka_unit_test(a_cut_file_restores_what_is_whole),
		cmocka_unit_test(the_file_does_not_grow_for_ever),
	};
	int failed;

	snprintf(path, sizeof(path), "/tmp/test_journal.%d", getpid());
	xf_read_register();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	xf_read_unregister();
	unlink(path);
	return failed;
}
