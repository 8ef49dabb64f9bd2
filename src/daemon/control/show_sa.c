#include <stdio.h>

#include "show.h"

struct flag_name {
	uint32_t bit;
	const char *name;
};

/* As ip(8) calls them. */
static const struct flag_name flag_names[] = {
	{ XF_SA_NOECN, "noecn" },
	{ XF_SA_DECAP_DSCP, "decap-dscp" },
	{ XF_SA_NOPMTUDISC, "nopmtudisc" },
	{ XF_SA_WILDRECV, "wildrecv" },
	{ XF_SA_ICMP, "icmp" },
	{ XF_SA_AF_UNSPEC, "af-unspec" },
	{ XF_SA_ALIGN4, "align4" },
	{ XF_SA_ESN, "esn" },
	{ 0, NULL },
};

static const struct flag_name extra_flag_names[] = {
	{ XF_SA_DONT_ENCAP_DSCP, "dont-encap-dscp" },
	{ XF_SA_OSEQ_MAY_WRAP, "oseq-may-wrap" },
	{ 0, NULL },
};

static void add_flags(json_t *list, const struct flag_name *names, uint32_t flags)
{
	for (; names->name; names++) {
		if (flags & names->bit)
			json_array_append_new(list, json_string(names->name));
	}
}

static const char *state_name(enum xf_sa_state state)
{
	static const char *const names[] = {
		[XF_SA_VOID] = "void",	   [XF_SA_ACQ] = "larval",	[XF_SA_VALID] = "valid",
		[XF_SA_ERROR] = "error",   [XF_SA_EXPIRED] = "expired", [XF_SA_DEAD] = "dead",
		[XF_SA_FROZEN] = "frozen",
	};

	return names[state];
}

static const char *dir_name(uint8_t dir)
{
	if (dir == XF_SA_DIR_IN)
		return "in";
	return dir == XF_SA_DIR_OUT ? "out" : "any";
}

static json_t *hex_string(const uint8_t *bytes, size_t len)
{
	char text[2 * (XF_CIPHER_KEY_MAX + XF_SALT_MAX + XF_AUTH_KEY_MAX) + 3] = "0x";
	json_t *value;

	for (size_t i = 0; i < len; i++)
		snprintf(text + 2 + 2 * i, 3, "%02x", bytes[i]);
	value = json_string(text);
	xf_wipe(text, sizeof(text));
	return value;
}

/* @key NULL: it is not asked for, or there is none. */
static void add_algorithm(json_t *o, const char *kind, const struct xf_alg_name *alg,
			  const uint8_t *key, size_t key_len)
{
	json_t *a;

	if (!alg->name)
		return;
	a = json_pack("{s:s, s:I, s:I}", "name", alg->name, "key_bits", (json_int_t)alg->key_bits,
		      "icv_bits", (json_int_t)alg->icv_bits);
	if (key)
		json_object_set_new(a, "key", hex_string(key, key_len));
	json_object_set_new(o, kind, a);
}

static void add_algorithms(json_t *o, const struct xf_sa *sa, bool keys)
{
	const struct xf_sa_view *cfg = xf_sa_cfg(sa);
	const struct xf_key *key = xf_sa_key(sa);
	const uint8_t *cipher = key && keys ? key->cipher_raw : NULL;
	const uint8_t *auth = key && keys ? xf_key_auth_raw(key) : NULL;
	size_t cipher_len = key ? xf_key_cipher_raw_len(key) : 0;
	size_t auth_len = key ? key->suite.auth_key_len : 0;
	char buf[64];

	add_algorithm(o, "aead", &cfg->terms->aead, cipher, cipher_len);
	add_algorithm(o, "crypt", &cfg->terms->crypt, cipher, cipher_len);
	add_algorithm(o, "auth", &cfg->terms->auth, auth, auth_len);
	if (!key)
		return;
	json_object_set_new(o, "suite", json_string(xf_suite_name(&key->suite, buf, sizeof(buf))));
	json_object_set_new(o, "provider", json_string(key->provider->name));
}

static void add_identity(json_t *o, const struct xf_sa *sa)
{
	const struct xf_sa_view *cfg = xf_sa_cfg(sa);
	json_t *flags = json_array();
	char buf[8];

	json_object_set_new(o, "src", xf_show_addr(&cfg->saddr, cfg->id.family));
	json_object_set_new(o, "dst", xf_show_addr(&cfg->id.daddr, cfg->id.family));
	json_object_set_new(o, "proto", json_string(xf_show_proto(cfg->id.proto, buf)));
	json_object_set_new(o, "spi", xf_show_hex(cfg->id.spi));
	json_object_set_new(o, "reqid", json_integer(cfg->reqid));
	json_object_set_new(o, "mode", json_string(xf_show_mode(cfg->mode, buf)));
	json_object_set_new(o, "state", json_string(state_name(xf_sa_get_state(sa))));
	json_object_set_new(o, "dir", json_string(dir_name(cfg->dir)));
	add_flags(flags, flag_names, cfg->flags);
	add_flags(flags, extra_flag_names, cfg->terms->extra_flags);
	json_object_set_new(o, "flags", flags);
	json_object_set_new(o, "replay_window", json_integer(cfg->terms->replay_window));
}

/* What few SAs have: present only where it is set. */
static void add_options(json_t *o, const struct xf_sa_view *cfg)
{
	if (cfg->terms->mark.m)
		json_object_set_new(o, "mark", xf_show_mark(&cfg->terms->mark));
	if (cfg->terms->set_mark.m)
		json_object_set_new(o, "output_mark", xf_show_mark(&cfg->terms->set_mark));
	if (cfg->if_id)
		json_object_set_new(o, "if_id", xf_show_hex(cfg->if_id));
	if (cfg->terms->tfc_pad)
		json_object_set_new(o, "tfc_pad", json_integer(cfg->terms->tfc_pad));
	if (cfg->terms->sel.family)
		json_object_set_new(o, "selector", xf_show_selector(&cfg->terms->sel));
	if (cfg->terms->encap.type)
		json_object_set_new(o, "encap",
				    json_pack("{s:i, s:i, s:i}", "type", cfg->terms->encap.type,
					      "sport", cfg->terms->encap.sport, "dport",
					      cfg->terms->encap.dport));
}

static void add_counters(json_t *o, struct xf_sa *sa, uint64_t now_ns)
{
	struct xf_lifetime_now life;
	struct xf_sa_replay_state replay;
	struct xf_sa_stats stats;
	json_t *drops;

	xf_sa_lifetime_now(sa, &life);
	xf_sa_get_replay_state(sa, &replay);
	xf_sa_get_stats(sa, &stats);
	json_object_set_new(o, "lifetime", xf_show_lifetime(&xf_sa_cfg(sa)->terms->life, &life));
	json_object_set_new(o, "replay",
			    json_pack("{s:I, s:I}", "seq_out", (json_int_t)replay.seq_out, "seq_in",
				      (json_int_t)replay.seq_in));
	json_object_set_new(o, "stats",
			    json_pack("{s:I, s:I, s:I}", "replay_window",
				      (json_int_t)stats.replay_window, "replay",
				      (json_int_t)stats.replay, "integrity_failed",
				      (json_int_t)stats.integrity_failed));
	drops = xf_show_drops(stats.drops);
	if (stats.other_drops)
		json_object_set_new(drops, "other", json_integer((json_int_t)stats.other_drops));
	json_object_set_new(o, "drops", drops);
	json_object_set_new(o, "path_mtu", json_integer(xf_sa_path_mtu(sa, now_ns)));
}

json_t *xf_show_sa(struct xf_sa *sa, bool keys, uint64_t now_ns)
{
	json_t *o = json_object();

	add_identity(o, sa);
	add_options(o, xf_sa_cfg(sa));
	add_algorithms(o, sa, keys);
	add_counters(o, sa, now_ns);
	return o;
}
