/*
 * What capture.c asks of the kernel, for model_capture.c: nftables as fake_nft.c has it, elements
 * in transactions of their own, and the backstop's rules as a list.
 */
#include <errno.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "capture/capture.h"
#include "capture/nft/nft_sets.h"
#include "capture/policy_order.h"

#include "fake_kernel.h"

#define BATCH 40
#define PREFIXES 4096
#define RULES 4096

struct change {
	char set[XF_NFT_SET_NAME];
	uint8_t key[FAKE_KEY];
	bool there;
};

struct fake_backstop {
	struct change batch[BATCH]; /* of nftables, not committed yet */
	unsigned changes;
	struct xf_cell_key prefixes[PREFIXES];
	unsigned nprefixes;
	struct xf_policy_config rules[RULES];
	unsigned nrules;
};

uint32_t below(uint32_t n)
{
	return (uint32_t)rand() % n;
}

void fake_kernel_init(struct fake_kernel *kernel)
{
	*kernel = (struct fake_kernel){ .nft = fake_nft_new() };
	kernel->backstop = calloc(1, sizeof(*kernel->backstop));
	assert_non_null(kernel->backstop);
}

void fake_kernel_fini(struct fake_kernel *kernel)
{
	fake_nft_free(kernel->nft);
	xf_exempt_fini(&kernel->exempt);
	free(kernel->backstop);
}

static bool fails(struct fake_kernel *kernel)
{
	bool fault = kernel->faults && below(kernel->faults) == 0;

	kernel->fault_count += fault;
	return fault;
}

static int nft_open(void *arg, struct xf_io_error *error)
{
	struct fake_kernel *kernel = arg;

	(void)error;
	fake_nft_make(kernel->nft, kernel->owned);
	return 0;
}

/* No packet of the model passes a bridge. */
static int nft_table(void *arg, enum xf_nft_family family, const char **shared,
		     struct xf_io_error *error)
{
	struct fake_kernel *kernel = arg;

	if (family != XF_NFT_INET)
		return -EOPNOTSUPP;
	if (fails(kernel))
		return xf_io_fail(error, -EIO, "nftables");
	*shared = fake_nft_make(kernel->nft, kernel->owned) ? NULL : "the model says so";
	return 0;
}

/* libnftables asks for a table without owner, and a new one would be just that. */
static bool is_refused(const struct fake_kernel *kernel, const char *script)
{
	return fake_nft_is_alone(kernel->nft) && strstr(script, "add table");
}

/* A fault: before anything is changed, or only the answer is lost. */
static int nft_run(void *arg, const char *script, struct xf_io_error *error)
{
	struct fake_kernel *kernel = arg;
	bool fault = fails(kernel);
	bool ignored = kernel->fail_next || (fault && below(2));
	int err;

	if (is_refused(kernel, script))
		fail_msg("a script makes a table that has an owner");
	err = ignored ? 0 : fake_nft_run(kernel->nft, script);
	if (fault || kernel->fail_next)
		err = -EIO;
	kernel->fail_next -= kernel->fail_next > 0;
	return err ? xf_io_fail(error, err, "nftables") : 0;
}

static int commit(struct fake_kernel *kernel)
{
	struct fake_backstop *b = kernel->backstop;
	bool fault = fails(kernel);
	unsigned n = b->changes;

	b->changes = 0;
	if (fault && below(2))
		return -EIO;
	/* As a whole, or not at all. */
	for (unsigned i = 0; i < n; i++) {
		const struct change *change = &b->batch[i];

		if (!fake_nft_has_set(kernel->nft, change->set) ||
		    (!change->there &&
		     !fake_nft_has_element(kernel->nft, change->set, change->key)))
			return -ENOENT;
	}
	for (unsigned i = 0; i < n; i++)
		fake_nft_change_element(kernel->nft, b->batch[i].set, b->batch[i].key,
					b->batch[i].there);
	return fault ? -EIO : 0;
}

static void put_key(const struct xf_nft_set *set, const struct xf_cell_key *cell, uint8_t *key)
{
	memset(key, 0, FAKE_KEY);
	for (unsigned i = 0; i < set->n; i++, key += FAKE_FIELD)
		memcpy(key, cell->addr[set->from[i]].bytes, set->six ? 16 : 4);
	if (set->mark_mask) {
		fake_put_number(key, cell->mark);
		key += FAKE_FIELD;
	}
	if (set->proto) {
		fake_put_number(key, cell->proto);
		key += FAKE_FIELD;
	}
	for (unsigned i = 0; i < 2; i++) {
		if (!set->port_mask[i])
			continue;
		fake_put_number(key, cell->port[i]);
		key += FAKE_FIELD;
	}
}

static int nft_element(void *arg, const struct xf_nft_set *set, const struct xf_cell_key *key,
		       bool there)
{
	struct fake_kernel *kernel = arg;
	struct change *change = &kernel->backstop->batch[kernel->backstop->changes++];

	memcpy(change->set, set->name, sizeof(change->set));
	put_key(set, key, change->key);
	change->there = there;
	return kernel->backstop->changes == BATCH ? commit(kernel) : 0;
}

static uint64_t nft_element_digest(const struct xf_nft_set *set, const struct xf_cell_key *key)
{
	uint8_t value[FAKE_KEY];

	put_key(set, key, value);
	return fake_nft_element_digest(set->name, value);
}

static int nft_commit(void *arg)
{
	struct fake_kernel *kernel = arg;

	return kernel->backstop->changes ? commit(kernel) : 0;
}

static int nft_each_set(void *arg, void (*visit)(void *visit_arg, const char *name),
			void *visit_arg)
{
	struct fake_kernel *kernel = arg;

	fake_nft_each_set(kernel->nft, visit, visit_arg);
	return 0;
}

static int nft_each_chain(void *arg, enum xf_nft_family family,
			  void (*visit)(void *visit_arg, const char *name), void *visit_arg)
{
	struct fake_kernel *kernel = arg;

	assert_int_equal(family, XF_NFT_INET);
	fake_nft_each_chain(kernel->nft, visit, visit_arg);
	return 0;
}

static int nft_counters(void *arg, struct xf_capture_counts *out)
{
	struct fake_kernel *kernel = arg;

	out->captured = fake_nft_counter(kernel->nft, "captured");
	out->plaintext_dropped = fake_nft_counter(kernel->nft, "plaintext");
	out->misrouted_dropped = fake_nft_counter(kernel->nft, "misrouted");
	return 0;
}

static int nat_fd(void *arg)
{
	(void)arg;
	return -1;
}

static bool foreign_nat(void *arg)
{
	(void)arg;
	return false;
}

static int conntrack_clean(void *arg, struct xf_conntrack_changes *changes,
			   const struct xf_spd *spd, uint64_t *deleted, struct xf_io_error *error)
{
	(void)arg;
	(void)changes;
	(void)spd;
	(void)error;
	*deleted = 0;
	return 0;
}

static void *copy(const void *from, size_t size)
{
	void *to = malloc(size + 1);

	assert_non_null(to);
	return size ? memcpy(to, from, size) : to;
}

static int exempt_read(void *arg, struct xf_exempt *out)
{
	const struct fake_kernel *kernel = arg;

	*out = kernel->exempt;
	out->devices = copy(out->devices, out->ndevices * sizeof(out->devices[0]));
	out->addrs = copy(out->addrs, out->naddrs * sizeof(out->addrs[0]));
	return 0;
}

/* --- the backstop --- */

static int backstop_open(void *arg, enum xf_twin_form form, struct xf_io_error *error)
{
	(void)arg;
	(void)form;
	(void)error;
	return 0;
}

static void backstop_policy(void *arg, const struct xf_policy *policy, bool there)
{
	(void)arg;
	(void)policy;
	(void)there;
}

static void follow_prefixes(struct fake_backstop *b, const struct xf_cover *cover)
{
	for (struct xf_cell *cell = cover->cells.pending; cell; cell = cell->next_pending) {
		unsigned i = 0;

		if (((cell->at & XF_CELL_IN_TRIE) != 0) == (cell->count != 0))
			continue;
		cell->at ^= XF_CELL_IN_TRIE;
		while (i < b->nprefixes &&
		       memcmp(&b->prefixes[i], &cell->key, sizeof(cell->key)) != 0)
			i++;
		if (cell->count) {
			assert_in_range(b->nprefixes, 0, PREFIXES - 1);
			assert_int_equal(i, b->nprefixes);
			b->prefixes[b->nprefixes++] = cell->key;
		} else {
			assert_in_range(i, 0, b->nprefixes - 1);
			b->prefixes[i] = b->prefixes[--b->nprefixes];
		}
	}
}

/* The policies in their order are what the real one has in its maps. */
static int backstop_sync(void *arg, const struct xf_cover *cover, const struct xf_spd *spd)
{
	struct fake_kernel *kernel = arg;
	struct fake_backstop *b = kernel->backstop;
	struct xf_policy_list list;

	follow_prefixes(b, cover);
	assert_int_equal(xf_policy_list_get(spd, XF_DIR_OUT, NULL, &list), 0);
	assert_in_range(list.n, 0, RULES);
	b->nrules = 0;
	for (size_t i = 0; i < list.n; i++) {
		const struct xf_policy_config *cfg = xf_policy_cfg(list.policy[i]);

		if (xf_policy_is_strict(cfg) || xf_policy_allows(cfg))
			b->rules[b->nrules++] = *cfg;
	}
	xf_policy_list_free(&list);
	return 0;
}

static int backstop_attach(void *arg, struct xf_io_error *error)
{
	(void)arg;
	(void)error;
	return 0;
}

static void backstop_stats(void *arg, struct xf_capture_stats *out)
{
	(void)arg;
	(void)out;
}

static int route_add(void *arg, struct xf_io_error *error)
{
	(void)arg;
	(void)error;
	return 0;
}

const struct xf_capture_ops fake_kernel_ops = {
	.nft_open = nft_open,
	.nft_table = nft_table,
	.nft_run = nft_run,
	.nft_element = nft_element,
	.nft_element_digest = nft_element_digest,
	.nft_commit = nft_commit,
	.nft_each_set = nft_each_set,
	.nft_each_chain = nft_each_chain,
	.nft_counters = nft_counters,
	.nat_fd = nat_fd,
	.foreign_nat = foreign_nat,
	.conntrack_clean = conntrack_clean,
	.backstop_open = backstop_open,
	.backstop_policy = backstop_policy,
	.backstop_sync = backstop_sync,
	.backstop_attach = backstop_attach,
	.backstop_stats = backstop_stats,
	.exempt_read = exempt_read,
	.route_add = route_add,
};

static bool has_prefix(const struct fake_backstop *b, const struct fake_packet *p)
{
	for (unsigned i = 0; i < b->nprefixes; i++) {
		const struct xf_cell_key *key = &b->prefixes[i];
		bool six = xf_cover_six(key);

		if (six == (p->family == XF_AF_INET6) &&
		    xf_addr_prefix_match(&p->addr[1], &key->addr[0],
					 xf_cover_len(six, xf_cover_rung(key))))
			return true;
	}
	return false;
}

/* As bpf/egress.bpf.c: what is not known of the packet matches what drops. */
static bool ports_match(const struct xf_policy_config *cfg, const struct fake_packet *p, bool drop)
{
	const struct xf_selector *sel = &cfg->sel;
	bool icmp = sel->proto == XF_IPPROTO_ICMP || sel->proto == XF_IPPROTO_ICMPV6;
	uint16_t port[2];

	if (!sel->sport_mask && !sel->dport_mask)
		return true;
	if (p->behind)
		return drop;
	for (unsigned i = 0; i < 2; i++)
		port[i] = icmp ? p->l4[i] : xf_get_be16(p->l4 + 2 * i);
	return !((port[0] ^ sel->sport) & sel->sport_mask) &&
	       !((port[1] ^ sel->dport) & sel->dport_mask);
}

bool fake_backstop_drops(const struct fake_kernel *kernel, const struct fake_packet *p)
{
	const struct fake_backstop *b = kernel->backstop;

	if (!has_prefix(b, p))
		return false;
	for (unsigned i = 0; i < b->nrules; i++) {
		const struct xf_policy_config *cfg = &b->rules[i];
		const struct xf_selector *sel = &cfg->sel;
		bool drop = xf_policy_is_strict(cfg);

		if (sel->family == p->family && (!sel->proto || sel->proto == p->proto) &&
		    (p->mark & cfg->mark.m) == cfg->mark.v &&
		    xf_addr_prefix_match(&p->addr[0], &sel->saddr, sel->prefixlen_s) &&
		    xf_addr_prefix_match(&p->addr[1], &sel->daddr, sel->prefixlen_d) &&
		    ports_match(cfg, p, drop))
			return drop;
	}
	return false;
}
