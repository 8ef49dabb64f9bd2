#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "nl_util.h"

#include <cmocka.h>

static void random_bytes(void *arg, void *buf, size_t len)
{
	static uint64_t state = 0x9e3779b97f4a7c15u;

	(void)arg;
	for (size_t i = 0; i < len; i++) {
		state = state * 6364136223846793005u + 1442695040888963407u;
		((uint8_t *)buf)[i] = (uint8_t)(state >> 56);
	}
}

static int spd_reserve(void *arg, size_t more, const char **why)
{
	struct nl_fixture *f = arg;

	f->reserves++;
	f->reserved_more = more;
	if (f->refuse)
		*why = "refused by the test";
	return f->refuse;
}

static void spd_changed(void *arg)
{
	((struct nl_fixture *)arg)->spd_changes++;
}

static void sa_changed(void *arg, struct xf_sa *sa)
{
	assert_non_null(xf_sa_cfg(sa));
	((struct nl_fixture *)arg)->sa_changes++;
}

static int receive(void *arg, const void *data, size_t len)
{
	struct nl_inbox *in = arg;

	in->tries++;
	if (in->room == 0)
		return in->err;
	if (in->room > 0)
		in->room--;
	assert_true(in->n < NL_DATAGRAMS);
	in->data[in->n] = malloc(len);
	memcpy(in->data[in->n], data, len);
	in->len[in->n++] = len;
	in->spd_changes = in->of->spd_changes;
	return 0;
}

struct nl_fixture *nl_setup(void)
{
	struct nl_fixture *f = calloc(1, sizeof(*f));
	struct xf_sad_config sad = { .larval_lifetime_s = 30,
				     .real_offset_ns = NL_REAL_OFFSET * XF_NSEC_PER_SEC,
				     .random = random_bytes };
	struct xf_spd_config spd = { .real_offset_ns = NL_REAL_OFFSET * XF_NSEC_PER_SEC };
	struct xf_nl_server_config cfg = { .random = random_bytes,
					   .spd_reserve = spd_reserve,
					   .spd_changed = spd_changed,
					   .sa_changed = sa_changed,
					   .arg = f };

	cfg.sad = f->sad = xf_sad_new(&sad);
	cfg.spd = f->spd = xf_spd_new(&spd);
	f->server = xf_nl_server_new(&cfg);
	for (unsigned i = 0; i < NL_CLIENTS; i++) {
		struct xf_nl_client_config client = { .send = receive, .arg = &f->in[i] };

		f->in[i].of = f;
		f->in[i].room = -1;
		f->in[i].err = -EAGAIN;
		assert_int_equal(xf_nl_client_new(f->server, &client, &f->in[i].client), 0);
		xf_nl_client_set_portid(f->in[i].client, 1000 + i);
		xf_nl_client_set_options(f->in[i].client, i == 0, false, false);
	}
	return f;
}

void nl_teardown(struct nl_fixture *f)
{
	for (unsigned i = 0; i < NL_CLIENTS; i++) {
		nl_forget(&f->in[i]);
		if (f->in[i].client)
			xf_nl_client_free(f->in[i].client);
	}
	xf_nl_server_free(f->server);
	xf_sad_free(f->sad);
	xf_spd_free(f->spd);
	xf_rcu_drain();
	free(f);
}

void nl_begin(struct nl_req *r, uint16_t type, uint16_t flags, const void *header, size_t len)
{
	r->nlh = mnl_nlmsg_put_header(r->buf);
	r->nlh->nlmsg_type = type;
	r->nlh->nlmsg_flags = NLM_F_REQUEST | flags;
	r->nlh->nlmsg_seq = 7;
	if (len)
		memcpy(mnl_nlmsg_put_extra_header(r->nlh, len), header, len);
}

void nl_attr(struct nl_req *r, uint16_t type, const void *data, size_t len)
{
	mnl_attr_put(r->nlh, type, len, data);
}

void nl_attr_u32(struct nl_req *r, uint16_t type, uint32_t value)
{
	mnl_attr_put_u32(r->nlh, type, value);
}

void nl_send(struct nl_fixture *f, unsigned client, const struct nl_req *r)
{
	nl_forget(&f->in[client]);
	xf_nl_client_request(f->in[client].client, r->buf, r->nlh->nlmsg_len, NL_NOW);
}

void nl_forget(struct nl_inbox *in)
{
	for (unsigned i = 0; i < in->n; i++)
		free(in->data[i]);
	in->n = 0;
}

static void address(xfrm_address_t *addr, uint8_t b1, uint8_t b2, uint8_t b3)
{
	uint8_t bytes[4] = { 10, b1, b2, b3 };

	memcpy(addr, bytes, sizeof(bytes));
}

void nl_sa_info(struct xfrm_usersa_info *info, uint32_t spi)
{
	memset(info, 0, sizeof(*info));
	address(&info->saddr, 0, 0, 1);
	address(&info->id.daddr, 0, 0, 2);
	xf_put_be32(&info->id.spi, spi);
	info->id.proto = XF_IPPROTO_ESP;
	info->family = XF_AF_INET;
	info->mode = XF_MODE_TUNNEL;
	info->reqid = 5;
	memset(&info->lft, 0xff, offsetof(struct xfrm_lifetime_cfg, soft_add_expires_seconds));
}

void nl_sa_id(struct xfrm_usersa_id *id, uint32_t spi)
{
	memset(id, 0, sizeof(*id));
	address(&id->daddr, 0, 0, 2);
	xf_put_be32(&id->spi, spi);
	id->family = XF_AF_INET;
	id->proto = XF_IPPROTO_ESP;
}

static void selector(struct xfrm_selector *sel, uint8_t third_byte)
{
	memset(sel, 0, sizeof(*sel));
	address(&sel->saddr, 1, 0, 0);
	address(&sel->daddr, 2, third_byte, 0);
	sel->family = XF_AF_INET;
	sel->prefixlen_s = 16;
	sel->prefixlen_d = 24;
}

void nl_policy_info(struct xfrm_userpolicy_info *info, uint8_t dir, uint8_t third_byte)
{
	memset(info, 0, sizeof(*info));
	selector(&info->sel, third_byte);
	memset(&info->lft, 0xff, offsetof(struct xfrm_lifetime_cfg, soft_add_expires_seconds));
	info->dir = dir;
}

void nl_policy_id(struct xfrm_userpolicy_id *id, uint8_t dir, uint8_t third_byte)
{
	memset(id, 0, sizeof(*id));
	selector(&id->sel, third_byte);
	id->dir = dir;
}

void nl_tmpl(struct xfrm_user_tmpl *tmpl)
{
	memset(tmpl, 0, sizeof(*tmpl));
	address(&tmpl->saddr, 0, 0, 1);
	address(&tmpl->id.daddr, 0, 0, 2);
	tmpl->id.proto = XF_IPPROTO_ESP;
	tmpl->family = XF_AF_INET;
	tmpl->mode = XF_MODE_TUNNEL;
	tmpl->reqid = 5;
	tmpl->aalgos = tmpl->ealgos = tmpl->calgos = UINT32_MAX;
}

void nl_attr_aead(struct nl_req *r, uint32_t key_bits, uint32_t icv_bits)
{
	struct {
		struct xfrm_algo_aead alg;
		uint8_t key[64];
	} aead = { .alg = { "rfc4106(gcm(aes))", key_bits, icv_bits } };

	for (size_t i = 0; i < sizeof(aead.key); i++)
		aead.key[i] = (uint8_t)(i + 1);
	nl_attr(r, XFRMA_ALG_AEAD, &aead, sizeof(aead.alg) + (key_bits + 7) / 8);
}

void nl_attr_alg(struct nl_req *r, uint16_t type, const char *name, uint32_t key_bits)
{
	struct {
		struct xfrm_algo alg;
		uint8_t key[256];
	} alg = { .alg = { .alg_key_len = key_bits } };

	snprintf(alg.alg.alg_name, sizeof(alg.alg.alg_name), "%s", name);
	nl_attr(r, type, &alg, sizeof(alg.alg) + (key_bits + 7) / 8);
}

void nl_add_sa(struct nl_fixture *f, uint32_t spi)
{
	struct xfrm_usersa_info info;
	struct nl_req r;

	nl_sa_info(&info, spi);
	nl_begin(&r, XFRM_MSG_NEWSA, NLM_F_ACK, &info, sizeof(info));
	nl_attr_aead(&r, 160, 128);
	nl_send(f, 0, &r);
	assert_string_equal(nl_why(nl_msg(&f->in[0], 0)), "");
	assert_int_equal(nl_error(nl_msg(&f->in[0], 0)), 0);
}

void nl_add_policy(struct nl_fixture *f, uint8_t dir, uint8_t third_byte)
{
	struct xfrm_userpolicy_info info;
	struct xfrm_user_tmpl tmpl;
	struct nl_req r;

	nl_policy_info(&info, dir, third_byte);
	nl_tmpl(&tmpl);
	nl_begin(&r, XFRM_MSG_NEWPOLICY, NLM_F_ACK, &info, sizeof(info));
	nl_attr(&r, XFRMA_TMPL, &tmpl, sizeof(tmpl));
	nl_send(f, 0, &r);
	assert_int_equal(nl_error(nl_msg(&f->in[0], 0)), 0);
}

const struct nlmsghdr *nl_msg(const struct nl_inbox *in, unsigned i)
{
	assert_true(i < in->n);
	return (const struct nlmsghdr *)(const void *)in->data[i];
}

const struct nlattr *nl_next(const struct nlmsghdr *nlh, size_t header_len,
			     const struct nlattr *attr)
{
	const char *end = (const char *)nlh + nlh->nlmsg_len;

	attr = attr ? mnl_attr_next(attr) : mnl_nlmsg_get_payload_offset(nlh, header_len);
	return mnl_attr_ok(attr, (int)(end - (const char *)attr)) ? attr : NULL;
}

const struct nlattr *nl_find(const struct nlmsghdr *nlh, size_t header_len, uint16_t type)
{
	const struct nlattr *attr = NULL;

	while ((attr = nl_next(nlh, header_len, attr))) {
		if (mnl_attr_get_type(attr) == type)
			break;
	}
	return attr;
}

int nl_error(const struct nlmsghdr *nlh)
{
	int err;

	assert_true(nlh->nlmsg_type == NLMSG_ERROR || nlh->nlmsg_type == NLMSG_DONE);
	memcpy(&err, mnl_nlmsg_get_payload(nlh), sizeof(err));
	return err;
}

const char *nl_why(const struct nlmsghdr *nlh)
{
	const struct nlmsghdr *inner;
	const struct nlattr *attr;
	size_t off = sizeof(int);

	if (!(nlh->nlmsg_flags & NLM_F_ACK_TLVS))
		return "";
	if (nlh->nlmsg_type == NLMSG_ERROR) {
		inner = (const struct nlmsghdr *)(const void *)((const char *)mnl_nlmsg_get_payload(
									nlh) +
								off);
		off += nlh->nlmsg_flags & NLM_F_CAPPED ? NLMSG_HDRLEN
						       : NLMSG_ALIGN(inner->nlmsg_len);
	}
	attr = nl_find(nlh, off, NLMSGERR_ATTR_MSG);
	return attr ? mnl_attr_get_str(attr) : "";
}
