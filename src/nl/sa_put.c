/*
 * An SA as the kernel shows it: struct xfrm_usersa_info and the attributes in the order of
 * copy_to_user_state_extra(), which IKE daemons copy back into NEWSA.
 */
#include "nl/sa.h"
#include "nl/wire.h"

void xf_nl_fill_sa_id(const struct xf_sa *sa, struct xfrm_usersa_id *id)
{
	const struct xf_sa_view *cfg = xf_sa_cfg(sa);

	memcpy(&id->daddr, &cfg->id.daddr, sizeof(id->daddr));
	xf_put_be32(&id->spi, cfg->id.spi);
	id->family = cfg->id.family;
	id->proto = cfg->id.proto;
}

void xf_nl_fill_sa(struct xf_sa *sa, struct xfrm_usersa_info *info)
{
	const struct xf_sa_view *cfg = xf_sa_cfg(sa);
	struct xf_lifetime_now now;
	struct xf_sa_stats stats;

	xf_sa_lifetime_now(sa, &now);
	xf_sa_get_stats(sa, &stats);
	xf_nl_store_selector(&info->sel, &cfg->terms->sel);
	memcpy(&info->id.daddr, &cfg->id.daddr, sizeof(info->id.daddr));
	xf_put_be32(&info->id.spi, cfg->id.spi);
	info->id.proto = cfg->id.proto;
	memcpy(&info->saddr, &cfg->saddr, sizeof(info->saddr));
	xf_nl_store_lifetime(&info->lft, &cfg->terms->life);
	xf_nl_store_lifetime_now(&info->curlft, &now);
	info->stats.replay_window = stats.replay_window;
	info->stats.replay = stats.replay;
	info->stats.integrity_failed = stats.integrity_failed;
	info->seq = cfg->seq;
	info->reqid = cfg->reqid;
	info->family = cfg->id.family;
	info->mode = cfg->mode;
	/* XFRMA_REPLAY_ESN_VAL has a window of its own. */
	info->replay_window = cfg->terms->replay_esn_attr ? 0 : (uint8_t)cfg->terms->replay_window;
	info->flags = cfg->flags;
}

/* One algorithm: name, key length, for some kinds the ICV length, key. */
struct alg_view {
	const struct xf_alg_name *name;
	const uint8_t *key;
	size_t key_len; /* bytes that we keep */
};

/* The key has the length that was asked for; what the suite did not keep of it reads as zero. */
static void put_alg(struct xf_nl_msg *msg, uint16_t type, const struct alg_view *alg, bool has_icv)
{
	size_t head = XF_ALG_NAME_LEN + sizeof(uint32_t) * (has_icv ? 2 : 1);
	size_t len = (alg->name->key_bits + 7) / 8;
	uint8_t *p = xf_nl_msg_reserve(msg, type, head + len);

	memcpy(p, alg->name->name, strlen(alg->name->name)); /* zeros are behind it */
	p += XF_ALG_NAME_LEN;
	memcpy(p, &alg->name->key_bits, sizeof(uint32_t));
	p += sizeof(uint32_t);
	if (has_icv) {
		memcpy(p, &alg->name->icv_bits, sizeof(uint32_t));
		p += sizeof(uint32_t);
	}
	memcpy(p, alg->key, len < alg->key_len ? len : alg->key_len);
}

/*
 * A hash is shown twice, as XFRMA_ALG_AUTH for old readers and with its truncation length: IKE
 * daemons that copy both back get the second one.
 */
static void put_algs(struct xf_nl_msg *msg, const struct xf_sa *sa)
{
	const struct xf_sa_view *cfg = xf_sa_cfg(sa);
	const struct xf_key *key = xf_sa_key(sa);
	struct alg_view alg;

	if (!key)
		return;
	if (cfg->terms->aead.name) {
		alg = (struct alg_view){ &cfg->terms->aead, key->cipher_raw,
					 xf_key_cipher_raw_len(key) };
		put_alg(msg, XFRMA_ALG_AEAD, &alg, true);
	}
	if (cfg->terms->auth.name) {
		alg = (struct alg_view){ &cfg->terms->auth, xf_key_auth_raw(key),
					 key->suite.auth_key_len };
		put_alg(msg, XFRMA_ALG_AUTH, &alg, false);
		put_alg(msg, XFRMA_ALG_AUTH_TRUNC, &alg, true);
	}
	if (cfg->terms->crypt.name) {
		alg = (struct alg_view){ &cfg->terms->crypt, key->cipher_raw,
					 xf_key_cipher_raw_len(key) };
		put_alg(msg, XFRMA_ALG_CRYPT, &alg, false);
	}
}

static void put_encap(struct xf_nl_msg *msg, const struct xf_encap *encap)
{
	struct xfrm_encap_tmpl *wire;

	if (!encap->type)
		return;
	wire = xf_nl_msg_reserve(msg, XFRMA_ENCAP, sizeof(*wire));
	wire->encap_type = encap->type;
	xf_put_be16(&wire->encap_sport, encap->sport);
	xf_put_be16(&wire->encap_dport, encap->dport);
	memcpy(&wire->encap_oa, &encap->oa, sizeof(wire->encap_oa));
}

/* The mask of an output mark goes with it also when it is the default. */
static void put_marks(struct xf_nl_msg *msg, const struct xf_sa_view *cfg)
{
	xf_nl_msg_put_mark(msg, &cfg->terms->mark);
	if (cfg->terms->set_mark.v | cfg->terms->set_mark.m) {
		xf_nl_msg_put_u32(msg, XFRMA_SET_MARK, cfg->terms->set_mark.v);
		xf_nl_msg_put_u32(msg, XFRMA_SET_MARK_MASK, cfg->terms->set_mark.m);
	}
}

static void put_replay_esn(struct xf_nl_msg *msg, const struct xf_sa_view *cfg,
			   const struct xf_sa_replay_state *state)
{
	size_t bytes = state->nwords * sizeof(state->bmp[0]);
	struct xfrm_replay_state_esn *wire =
		xf_nl_msg_reserve(msg, XFRMA_REPLAY_ESN_VAL, sizeof(*wire) + bytes);

	wire->bmp_len = state->nwords;
	wire->oseq = (uint32_t)state->seq_out;
	wire->oseq_hi = (uint32_t)(state->seq_out >> 32);
	wire->seq = (uint32_t)state->seq_in;
	wire->seq_hi = (uint32_t)(state->seq_in >> 32);
	wire->replay_window = cfg->terms->replay_window;
	memcpy(wire->bmp, state->bmp, bytes);
}

void xf_nl_put_replay(struct xf_nl_msg *msg, struct xf_sa *sa)
{
	const struct xf_sa_view *cfg = xf_sa_cfg(sa);
	struct xf_sa_replay_state state;
	struct xfrm_replay_state wire;

	xf_sa_get_replay_state(sa, &state);
	if (cfg->terms->replay_esn_attr) {
		put_replay_esn(msg, cfg, &state);
		return;
	}
	wire.oseq = (uint32_t)state.seq_out;
	wire.seq = (uint32_t)state.seq_in;
	wire.bitmap = state.bitmap;
	xf_nl_msg_put(msg, XFRMA_REPLAY_VAL, &wire, sizeof(wire));
}

/* An SA that was never used has no such attribute. */
static void put_last_used(struct xf_nl_msg *msg, const struct xf_sa *sa)
{
	uint64_t seconds = xf_sa_last_used_s(sa);

	if (seconds)
		xf_nl_msg_put(msg, XFRMA_LASTUSED, &seconds, sizeof(seconds));
}

void xf_nl_put_sa(struct xf_nl_msg *msg, struct xf_sa *sa)
{
	const union xf_addr *coaddr = xf_sa_coaddr(sa);
	const struct xf_sa_view *cfg = xf_sa_cfg(sa);

	if (cfg->terms->extra_flags)
		xf_nl_msg_put_u32(msg, XFRMA_SA_EXTRA_FLAGS, cfg->terms->extra_flags);
	if (coaddr)
		xf_nl_msg_put(msg, XFRMA_COADDR, coaddr, sizeof(*coaddr));
	put_last_used(msg, sa);
	put_algs(msg, sa);
	put_encap(msg, &cfg->terms->encap);
	if (cfg->terms->tfc_pad)
		xf_nl_msg_put_u32(msg, XFRMA_TFCPAD, cfg->terms->tfc_pad);
	put_marks(msg, cfg);
	xf_nl_put_replay(msg, sa);
	xf_nl_msg_put_if_id(msg, cfg->if_id);
	if (cfg->terms->pcpu != UINT32_MAX)
		xf_nl_msg_put_u32(msg, XF_XFRMA_SA_PCPU, cfg->terms->pcpu);
	if (cfg->dir)
		xf_nl_msg_put_u8(msg, XF_XFRMA_SA_DIR, cfg->dir);
}
