/*
 * The SAD by the kernel's rules (net/xfrm/xfrm_state.c): adding, updating, flushing, both lookups
 * and dumps.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <sad/transform.h>

#include "sas.h"

#define S XF_NSEC_PER_SEC

static void found_by_its_whole_key(void **state)
{
	const struct xf_sa_config cfg = sas_config(1, 2, 100);
	struct xf_sad *sad = sas_sad(0);
	struct xf_sa *sa = sas_add(sad, &cfg);
	struct xf_sa_id ids[6], id = cfg.id;
	const uint32_t marks[6] = { 0 };
	struct xf_sa *out[6];

	(void)state;
	for (unsigned i = 0; i < 6; i++)
		ids[i] = id;
	ids[1].spi = 101;
	ids[2].proto = XF_IPPROTO_AH;
	ids[3].family = XF_AF_INET6;
	ids[4].daddr = sas_addr(3);
	xf_sad_find_in_batch(sad, ids, marks, 6, out);
	for (unsigned i = 0; i < 6; i++)
		assert_ptr_equal(out[i], i == 0 || i == 5 ? sa : NULL);
	assert_null(xf_sad_find_by_addr(sad, &id, &cfg.saddr, 0));
	assert_int_equal(xf_sad_del(sad, sa), 0);
	assert_null(xf_sad_find_in(sad, &id, 0));
	assert_int_equal(sas_count(sad), 0);
	assert_int_equal(xf_sad_del(sad, sa), -ESRCH);
	xf_sad_free(sad);
}

/* All sixteen bytes of an IPv6 address count; of an IPv4 address the first four alone. */
static void families_have_their_lengths(void **state)
{
	struct xf_sa_config cfg = sas_config(1, 2, 100), other;
	struct xf_sad *sad = sas_sad(0);
	struct xf_sa *sas[3];

	(void)state;
	sas[0] = sas_add(sad, &cfg);
	cfg.id.family = XF_AF_INET6;
	sas[1] = sas_add(sad, &cfg);
	other = cfg;
	other.id.daddr.bytes[15] = 1;
	sas[2] = sas_add(sad, &other);
	assert_ptr_equal(xf_sad_find_in(sad, &cfg.id, 0), sas[1]);
	assert_ptr_equal(xf_sad_find_in(sad, &other.id, 0), sas[2]);
	other.id.family = XF_AF_INET;
	assert_ptr_equal(xf_sad_find_in(sad, &other.id, 0), sas[0]);
	other.id.family = XF_AF_INET6;
	other.saddr.bytes[15] = 1;
	assert_null(xf_sad_find_by_addr(sad, &other.id, &other.saddr, 0));
	xf_sad_free(sad);
}

struct mark_case {
	struct xf_mark first, second;
	int err;
	uint32_t packet;
	int found; /* 0 = none, else which */
};

/* The new SA's mark is looked up as a packet's would be; of two that match the newer is found. */
static void marks_tell_sas_apart(void **state)
{
	static const struct mark_case cases[] = {
		{ { 0, 0 }, { 0, 0 }, -EEXIST, 0, 1 },
		{ { 0, 0 }, { 1, 0xff }, -EEXIST, 1, 1 },
		{ { 1, 0xff }, { 0, 0 }, 0, 1, 2 },
		{ { 1, 0xff }, { 2, 0xff }, 0, 1, 1 },
		{ { 1, 0xff }, { 2, 0xff }, 0, 2, 2 },
		{ { 1, 0xff }, { 2, 0xff }, 0, 0x102, 2 },
		{ { 1, 0xff }, { 2, 0xff }, 0, 3, 0 },
		{ { 1, 0xff }, { 1, 0xff }, -EEXIST, 1, 1 },
		{ { 1, 0x0f }, { 0xf1, 0xff }, -EEXIST, 1, 1 },
		{ { 0xffff, 0x0f }, { 1, 0x0f }, 0, 0x1f, 1 },
	};

	(void)state;
	for (size_t i = 0; i < XF_ARRAY_SIZE(cases); i++) {
		struct xf_sa_config cfg = sas_config(1, 2, 100);
		struct xf_sad *sad = sas_sad(0);
		struct xf_sa *sas[3] = { NULL }, *found;

		cfg.terms.mark = cases[i].first;
		sas[1] = sas_add(sad, &cfg);
		cfg.terms.mark = cases[i].second;
		cfg.if_id = 7; /* no part of the key */
		sas[2] = sas_new(sad, &cfg, 10 * S);
		assert_int_equal(xf_sad_add(sad, sas[2], NULL), cases[i].err);
		found = xf_sad_find_in(sad, &cfg.id, cases[i].packet);
		if (found != sas[cases[i].found])
			fail_msg("case %zu", i);
		if (cases[i].err)
			xf_sa_put(sas[2]);
		xf_sad_free(sad);
	}
}

/* Protocols without an SPI are told apart by their addresses (Mobile IPv6). */
static void without_an_spi_the_ends_count(void **state)
{
	struct xf_sa_config cfg = sas_config(1, 2, 0);
	struct xf_sad *sad = sas_sad(0);
	struct xf_sa *sa;

	(void)state;
	cfg.id.proto = XF_IPPROTO_DSTOPTS;
	sa = sas_add(sad, &cfg);
	assert_int_equal(sas_try_add(sad, &cfg), -EEXIST);
	assert_ptr_equal(xf_sad_find_by_addr(sad, &cfg.id, &cfg.saddr, 0), sa);
	assert_null(xf_sad_find_by_addr(sad, &cfg.id, &cfg.id.daddr, 0));
	cfg.saddr = sas_addr(3);
	assert_int_equal(sas_try_add(sad, &cfg), 0);
	assert_int_equal(xf_sad_del(sad, sa), 0);
	cfg.saddr = sas_addr(1);
	assert_null(xf_sad_find_by_addr(sad, &cfg.id, &cfg.saddr, 0));
	xf_sad_free(sad);
}

/* Its memory goes with the SAD that it was made for. */
static void made_for_another_sad(void **state)
{
	const struct xf_sa_config cfg = sas_config(1, 2, 100);
	struct xf_sad *one = sas_sad(0), *other = sas_sad(0);
	struct xf_sa *sa = sas_new(one, &cfg, 10 * S), *now;

	(void)state;
	assert_int_equal(xf_sad_add(other, sa, NULL), -EINVAL);
	assert_int_equal(sas_count(other), 0);
	assert_int_equal(xf_sad_add(one, sa, NULL), 0);
	assert_int_equal(xf_sad_del(other, sa), -ESRCH);
	sas_add(other, &cfg);
	sa = sas_new(one, &cfg, 20 * S);
	assert_int_equal(xf_sad_update(other, sa, &now), -EINVAL);
	assert_int_equal(xf_sad_update(one, sa, &now), 0);
	xf_sad_free(one);
	assert_int_equal(sas_count(other), 1);
	assert_non_null(xf_sad_find_in(other, &cfg.id, 0));
	xf_sad_free(other);
}

static void full(void **state)
{
	const struct xf_sa_config cfgs[] = { sas_config(1, 2, 1), sas_config(1, 2, 2),
					     sas_config(1, 2, 3) };
	struct xf_spi_request req = { .cfg = &cfgs[2], .min = 9, .max = 9 };
	struct xf_sad *sad = sas_sad(2);
	struct xf_sa *sa = sas_new(sad, &cfgs[2], 0), *got;
	struct xf_sa_config cfg;
	const char *why = NULL;

	(void)state;
	sas_add(sad, &cfgs[0]);
	sas_add(sad, &cfgs[1]);
	assert_int_equal(xf_sad_add(sad, sa, &why), -ENOSPC);
	assert_non_null(why);
	why = NULL;
	assert_int_equal(xf_sad_alloc_spi(sad, &req, &got, &why), -ENOSPC);
	assert_non_null(why);
	assert_int_equal(sas_count(sad), 2);
	assert_int_equal(xf_sad_del(sad, xf_sad_find_in(sad, &cfgs[0].id, 0)), 0);
	assert_int_equal(xf_sad_alloc_spi(sad, &req, &got, &why), 0);
	/* What takes the place of a larval SA needs no room of its own. */
	xf_sa_put(sa);
	xf_sa_copy_cfg(got, &cfg);
	sa = sas_new(sad, &cfg, 0);
	assert_int_equal(xf_sad_update(sad, sa, &got), 0);
	assert_int_equal(sas_count(sad), 2);
	xf_sad_free(sad);
}

static void grows(void **state)
{
	struct xf_sad *sad = sas_sad(0);
	struct xf_sad_info info;

	(void)state;
	xf_sad_get_info(sad, &info);
	assert_int_equal(info.buckets, 8);
	assert_int_equal(info.buckets_max, 1 << 20);
	for (uint32_t spi = 1; spi <= 5000; spi++) {
		const struct xf_sa_config cfg = sas_config(1, (uint8_t)(spi % 7 + 2), spi);

		sas_add(sad, &cfg);
		if (spi % 3 == 0)
			assert_int_equal(xf_sad_del(sad, xf_sad_find_in(sad, &cfg.id, 0)), 0);
	}
	xf_sad_get_info(sad, &info);
	assert_int_equal(info.count, 5000 - 5000 / 3);
	assert_int_equal(info.buckets, 4096);
	for (uint32_t spi = 1; spi <= 5000; spi++) {
		const struct xf_sa_config cfg = sas_config(1, (uint8_t)(spi % 7 + 2), spi);
		struct xf_sa *sa = xf_sad_find_in(sad, &cfg.id, 0);

		assert_int_equal(sa != NULL, spi % 3 != 0);
		if (sa)
			assert_int_equal(xf_sa_cfg(sa)->id.spi, spi);
	}
	xf_sad_free(sad);
}

/* --- updates --- */

static void update_of_a_larval_sa_replaces_it(void **state)
{
	struct xf_sa_config cfg = sas_config(1, 2, 0);
	struct xf_sad *sad = sas_sad(0);
	struct xf_sa *larval, *now;

	(void)state;
	cfg.mode = XF_MODE_TRANSPORT; /* pluto asks with mode 0 */
	assert_int_equal(sas_alloc(sad, &cfg, 300, 300, &larval), 0);
	cfg = sas_config(1, 2, 300);
	cfg.dir = XF_SA_DIR_IN;
	assert_int_equal(sas_update(sad, &cfg, &now), -ESRCH);
	cfg.dir = XF_SA_DIR_ANY;
	cfg.terms.encap.type = 2;
	assert_int_equal(sas_update(sad, &cfg, &now), 0);
	assert_ptr_not_equal(now, larval);
	assert_int_equal(sas_count(sad), 1);
	assert_ptr_equal(xf_sad_find_in(sad, &cfg.id, 0), now);
	assert_int_equal(xf_sa_cfg(now)->mode, XF_MODE_TUNNEL);
	assert_int_equal(xf_sa_get_state(now), XF_SA_VALID);
	xf_sad_free(sad);
}

static void update_changes_what_the_kernel_changes(void **state)
{
	struct xf_sa_config cfg = sas_config(1, 2, 100), was;
	struct xf_sad *sad = sas_sad(0);
	struct xf_sa *sa, *now;

	(void)state;
	cfg.has_coaddr = true;
	cfg.terms.encap.type = 2;
	cfg.if_id = 1;
	cfg.terms.set_mark = (struct xf_mark){ 1, 1 };
	sa = sas_add(sad, &cfg);
	was = cfg;
	cfg.coaddr = sas_addr(9);
	cfg.terms.encap.sport = 4501;
	cfg.terms.life.hard_packets = 1000;
	cfg.reqid = 99;
	cfg.terms.sel.family = XF_AF_INET;
	cfg.if_id = 0;
	cfg.terms.set_mark = (struct xf_mark){ 0, 0 };
	assert_int_equal(sas_update(sad, &cfg, &now), 0);
	assert_ptr_equal(now, sa);
	assert_int_equal(xf_sa_cfg(sa)->terms->encap.sport, 4501);
	assert_true(xf_addr_equal(xf_sa_coaddr(sa), &cfg.coaddr, XF_AF_INET));
	assert_int_equal(xf_sa_cfg(sa)->terms->life.hard_packets, 1000);
	assert_int_equal(xf_sa_cfg(sa)->reqid, was.reqid);
	assert_int_equal(xf_sa_cfg(sa)->terms->sel.family, 0);
	assert_int_equal(xf_sa_cfg(sa)->if_id, 1);
	assert_int_equal(xf_sa_cfg(sa)->terms->set_mark.m, 1);
	cfg.if_id = 2;
	cfg.has_coaddr = false;
	cfg.terms.set_mark = (struct xf_mark){ 2, 3 };
	assert_int_equal(sas_update(sad, &cfg, &now), 0);
	assert_int_equal(xf_sa_cfg(sa)->if_id, 2);
	assert_int_equal(xf_sa_cfg(sa)->terms->set_mark.m, 3);
	assert_true(xf_addr_equal(xf_sa_coaddr(sa), &cfg.coaddr, XF_AF_INET));
	cfg.id.spi = 101;
	sa = sas_add(sad, &cfg);
	cfg.has_coaddr = true;
	assert_int_equal(sas_update(sad, &cfg, &now), 0);
	assert_ptr_equal(now, sa);
	assert_null(xf_sa_coaddr(sa));
	xf_sad_free(sad);
}

static void update_refused(void **state)
{
	struct xf_sa_config cfg = sas_config(1, 2, 100), want;
	struct xf_sad *sad = sas_sad(0);
	struct xf_sa *sa, *now;

	(void)state;
	assert_int_equal(sas_update(sad, &cfg, &now), -ESRCH);
	sa = sas_add(sad, &cfg);
	want = cfg;
	want.terms.encap.type = 2;
	assert_int_equal(sas_update(sad, &want, &now), -EINVAL);
	want = cfg;
	want.dir = XF_SA_DIR_OUT;
	assert_int_equal(sas_update(sad, &want, &now), -ESRCH);
	want = cfg;
	want.id.spi = 101;
	assert_int_equal(sas_update(sad, &want, &now), -ESRCH);
	want.dir = XF_SA_DIR_IN;
	sas_add(sad, &want);
	want.dir = XF_SA_DIR_ANY;
	assert_int_equal(sas_update(sad, &want, &now), -ESRCH);
	atomic_store(&sa->state, XF_SA_EXPIRED);
	assert_int_equal(sas_update(sad, &cfg, &now), -EINVAL);
	xf_sad_free(sad);
}

struct flush_case {
	uint8_t proto;
	unsigned gone;
};

static void flush_by_protocol(void **state)
{
	static const uint8_t protos[] = { XF_IPPROTO_ESP,  XF_IPPROTO_ESP,     XF_IPPROTO_AH,
					  XF_IPPROTO_COMP, XF_IPPROTO_ROUTING, XF_IPPROTO_IPIP };
	static const struct flush_case cases[] = {
		{ 0, 6 }, { 255, 4 }, { XF_IPPROTO_ESP, 2 }, { XF_IPPROTO_IPIP, 1 }, { 17, 0 }
	};

	(void)state;
	for (size_t i = 0; i < XF_ARRAY_SIZE(cases); i++) {
		struct xf_sad *sad = sas_sad(0);

		for (uint32_t j = 0; j < XF_ARRAY_SIZE(protos); j++) {
			struct xf_sa_config cfg = sas_config(1, 2, 100 + j);

			cfg.id.proto = protos[j];
			sas_add(sad, &cfg);
		}
		assert_int_equal(xf_sad_flush(sad, cases[i].proto), cases[i].gone);
		assert_int_equal(sas_count(sad), 6 - cases[i].gone);
		assert_int_equal(xf_sad_flush(sad, cases[i].proto), 0);
		xf_sad_free(sad);
	}
}

/* A second transform's bit goes with its last SA, but not before readers have left that. */
static void transforms_are_those_of_sas(void **state)
{
	struct xf_sa_config esp = sas_config(1, 2, 100), ah = sas_config(1, 2, 101);
	struct xf_sad *sad = sas_sad(0);
	const unsigned bit = 1u << xf_transform_for(&esp), none = 1;
	struct xf_sa *first, *second;

	(void)state;
	ah.id.proto = XF_IPPROTO_AH;
	assert_int_equal(xf_sad_transforms(sad), 0);
	sas_add(sad, &esp);
	assert_int_equal(xf_sad_transforms(sad), bit);
	first = sas_add(sad, &ah);
	ah.id.spi = 102;
	second = sas_add(sad, &ah);
	assert_int_equal(xf_sad_transforms(sad), bit | none);
	xf_sad_del(sad, first);
	xf_rcu_drain();
	assert_int_equal(xf_sad_transforms(sad), bit | none);
	xf_sa_get(second);
	xf_sad_del(sad, second);
	assert_int_equal(xf_sad_transforms(sad), bit | none);
	xf_rcu_drain();
	assert_int_equal(xf_sad_transforms(sad), bit);
	assert_int_equal(xf_sad_transforms_ever(sad), bit | none);
	xf_sa_put(second);
	assert_int_equal(sas_try_add(sad, &esp), -EEXIST);
	xf_sad_flush(sad, 0);
	xf_rcu_drain();
	assert_int_equal(xf_sad_transforms(sad), 0);
	xf_sad_free(sad);
}

/* --- the outbound lookup --- */

struct asked {
	struct xf_tmpl tmpl;
	struct xf_flow flow;
	union xf_addr saddr, daddr;
	uint32_t mark, if_id;
};

static struct asked ask(uint8_t src, uint8_t dst)
{
	return (struct asked){
		.tmpl = { .id = { .family = XF_AF_INET, .proto = XF_IPPROTO_ESP },
			  .mode = XF_MODE_TUNNEL },
		.flow = { .family = XF_AF_INET, .saddr = sas_addr(101), .daddr = sas_addr(102) },
		.saddr = sas_addr(src),
		.daddr = sas_addr(dst),
	};
}

/* By itself and as a batch: the same. */
static struct xf_sa *answer(const struct xf_sad *sad, const struct asked *asked, bool *larval)
{
	struct xf_sad_query query = { .tmpl = &asked->tmpl,
				      .flow = &asked->flow,
				      .saddr = &asked->saddr,
				      .daddr = &asked->daddr,
				      .mark = asked->mark,
				      .if_id = asked->if_id };
	struct xf_sad_query *queries = &query;
	struct xf_sa *sa = xf_sad_find_out(sad, &query, larval), *again;

	xf_sad_find_out_batch(sad, &queries, 1, &again, NULL);
	assert_ptr_equal(again, sa);
	return sa;
}

/* Each change to the one SA, or to the question, that makes it unfit; -1: fit all the same. */
static bool unfit(struct xf_sa_config *cfg, struct asked *asked, unsigned which)
{
	switch (which) {
	case 0:
		return false;
	case 1:
		cfg->reqid = 1;
		return true;
	case 2:
		cfg->mode = XF_MODE_BEET;
		return true;
	case 3:
		cfg->id.proto = XF_IPPROTO_AH;
		return true;
	case 4:
		cfg->flags = XF_SA_WILDRECV;
		return true;
	case 5:
		cfg->if_id = 1;
		return true;
	case 6:
		cfg->terms.mark = (struct xf_mark){ 1, 1 };
		return true;
	case 7:
		cfg->terms.mark = (struct xf_mark){ 1, 1 };
		asked->mark = 3;
		return false;
	case 8:
		/* The packet's mark is nothing to an SA. */
		cfg->terms.mark = (struct xf_mark){ 1, 1 };
		asked->flow.mark = 1;
		return true;
	case 9:
		asked->tmpl.id.spi = 101;
		return true;
	case 10:
		asked->tmpl.id.spi = 100;
		return false;
	case 11:
		cfg->terms.sel.family = XF_AF_INET6;
		return true;
	case 12:
		cfg->terms.sel = (struct xf_selector){ .family = XF_AF_INET,
						       .daddr = sas_addr(102),
						       .prefixlen_d = 32 };
		return false;
	case 13:
		cfg->terms.sel = (struct xf_selector){ .family = XF_AF_INET,
						       .daddr = sas_addr(103),
						       .prefixlen_d = 32 };
		return true;
	case 14:
		cfg->terms.pcpu = 0;
		return true;
	case 15:
		asked->daddr = sas_addr(3);
		return true;
	case 16:
		asked->saddr = sas_addr(3);
		return true;
	case 17:
		cfg->saddr = sas_addr(0); /* from anywhere */
		return false;
	case 18:
		asked->saddr = sas_addr(0);
		return true;
	case 19: /* its lowest bit is the same */
		cfg->mode = XF_MODE_IN_TRIGGER;
		return true;
	default:
		asked->tmpl.id.family = XF_AF_INET6;
		return true;
	}
}

static void fit_or_not(void **state)
{
	(void)state;
	for (unsigned which = 0; which < 21; which++) {
		struct xf_sa_config cfg = sas_config(1, 2, 100);
		struct asked asked = ask(1, 2);
		bool expect = !unfit(&cfg, &asked, which), larval = true;
		struct xf_sad *sad = sas_sad(0);

		sas_add(sad, &cfg);
		if ((answer(sad, &asked, &larval) != NULL) != expect)
			fail_msg("change %u", which);
		assert_false(larval);
		xf_sad_free(sad);
	}
}

/* The younger; of equal age the later added; before all, one that is not dying. */
static void the_best_of_many(void **state)
{
	struct xf_sa_config cfg = sas_config(1, 2, 100);
	const struct xf_lifetime_now old = { .add_s = SAS_REAL_OFFSET_S + 4 };
	struct xf_sad *sad = sas_sad(0);
	struct asked asked = ask(1, 2);
	struct xf_sa *sas[4];

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		cfg.id.spi = 100 + i;
		sas[i] = sas_new(sad, &cfg, 10 * S);
		if (i == 3)
			xf_sa_set_lifetime_now(sas[i], &old);
		assert_int_equal(xf_sad_add(sad, sas[i], NULL), 0);
	}
	assert_ptr_equal(answer(sad, &asked, NULL), sas[2]);
	atomic_store(&sas[2]->dying, true);
	assert_ptr_equal(answer(sad, &asked, NULL), sas[1]);
	atomic_store(&sas[1]->state, XF_SA_EXPIRED);
	assert_ptr_equal(answer(sad, &asked, NULL), sas[0]);
	atomic_store(&sas[0]->dying, true);
	assert_ptr_equal(answer(sad, &asked, NULL), sas[3]);
	atomic_store(&sas[3]->dying, true);
	assert_ptr_equal(answer(sad, &asked, NULL), sas[2]);
	/* A younger SA from anywhere does not take the place of one between the two ends. */
	cfg.id.spi = 200;
	cfg.saddr = sas_addr(0);
	sas_add(sad, &cfg);
	assert_ptr_equal(answer(sad, &asked, NULL), sas[2]);
	xf_sad_free(sad);
}

/* Not the one that the clock calls younger, when it was set back in between. */
static void the_younger_after_a_step_of_the_clock(void **state)
{
	struct xf_sa_config cfg = sas_config(1, 2, 100);
	struct xf_sad *sad = sas_sad(0);
	struct asked asked = ask(1, 2);
	struct xf_sa *young;

	(void)state;
	sas_add(sad, &cfg);
	xf_sad_step_clock(sad, 11 * S, (int64_t)((SAS_REAL_OFFSET_S - 3600) * S));
	cfg.id.spi = 101;
	young = sas_new(sad, &cfg, 12 * S);
	assert_int_equal(xf_sad_add(sad, young, NULL), 0);
	assert_ptr_equal(answer(sad, &asked, NULL), young);
	xf_sad_free(sad);
}

static void a_larval_sa_is_reported(void **state)
{
	struct xf_sa_config cfg = sas_config(1, 2, 0);
	struct xf_sad *sad = sas_sad(0);
	struct asked asked = ask(1, 2);
	bool larval = false;
	struct xf_sa *sa, *waiting;

	(void)state;
	assert_int_equal(sas_alloc(sad, &cfg, 9, 9, &sa), 0);
	assert_null(answer(sad, &asked, &larval));
	assert_true(larval);
	cfg.id.spi = 100;
	sa = sas_add(sad, &cfg);
	assert_ptr_equal(answer(sad, &asked, &larval), sa);
	assert_false(larval);
	cfg.id.spi = 0;
	assert_int_equal(sas_alloc(sad, &cfg, 11, 11, &waiting), 0);
	assert_ptr_equal(answer(sad, &asked, &larval), sa);
	assert_false(larval);
	asked.tmpl.id.spi = 10;
	assert_null(answer(sad, &asked, &larval));
	assert_false(larval);
	xf_sad_free(sad);
}

/* --- dumps --- */

struct seen {
	uint32_t spis[32];
	unsigned n;
	unsigned stop_after;
};

static bool visit(void *arg, struct xf_sa *sa)
{
	struct seen *seen = arg;

	seen->spis[seen->n++] = xf_sa_cfg(sa)->id.spi;
	return seen->n % seen->stop_after != 0;
}

static void dump_newest_first_and_in_parts(void **state)
{
	struct seen seen = { .stop_after = 3 };
	struct xf_sad *sad = sas_sad(0);
	uint64_t cursor = 0, peek;
	struct xf_sa *sas[20];

	(void)state;
	for (uint32_t spi = 1; spi <= 10; spi++) {
		const struct xf_sa_config cfg = sas_config(1, 2, spi);

		sas[spi] = sas_add(sad, &cfg);
	}
	assert_true(xf_sad_walk(sad, &cursor, visit, &seen));
	assert_int_equal(seen.n, 3);
	assert_int_equal(seen.spis[0], 10);
	assert_int_equal(seen.spis[2], 8);
	/* The one it stands on goes, the next one too; a new one comes: it is not seen. */
	assert_int_equal(xf_sad_del(sad, sas[8]), 0);
	assert_int_equal(xf_sad_del(sad, sas[7]), 0);
	assert_int_equal(xf_sad_del(sad, sas[4]), 0);
	peek = cursor;
	assert_true(xf_sad_walk(sad, &peek, visit, &(struct seen){ .stop_after = 4 }));
	assert_false(xf_sad_walk(sad, &peek, visit, &(struct seen){ .stop_after = 4 }));
	for (uint32_t spi = 100; spi < 140; spi++) {
		const struct xf_sa_config cfg = sas_config(1, 2, spi);

		assert_int_equal(xf_sad_del(sad, sas_add(sad, &cfg)), 0);
	}
	assert_true(xf_sad_walk(sad, &cursor, visit, &seen));
	assert_int_equal(seen.spis[3], 6);
	assert_false(xf_sad_walk(sad, &cursor, visit, &seen));
	assert_int_equal(seen.spis[7], 1);
	assert_int_equal(seen.n, 8);
	xf_sad_free(sad);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(found_by_its_whole_key),
	cmocka_unit_test(families_have_their_lengths),
	cmocka_unit_test(marks_tell_sas_apart),
	cmocka_unit_test(without_an_spi_the_ends_count),
	cmocka_unit_test(made_for_another_sad),
	cmocka_unit_test(full),
	cmocka_unit_test(grows),
	cmocka_unit_test(update_of_a_larval_sa_replaces_it),
	cmocka_unit_test(update_changes_what_the_kernel_changes),
	cmocka_unit_test(update_refused),
	cmocka_unit_test(flush_by_protocol),
	cmocka_unit_test(transforms_are_those_of_sas),
	cmocka_unit_test(fit_or_not),
	cmocka_unit_test(the_best_of_many),
	cmocka_unit_test(the_younger_after_a_step_of_the_clock),
	cmocka_unit_test(a_larval_sa_is_reported),
	cmocka_unit_test(dump_newest_first_and_in_parts),
};

int main(void)
{
	return cmocka_run_group_tests(tests, NULL, NULL);
}
