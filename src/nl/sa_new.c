/*
 * NEWSA and UPDSA: verify, parse, make keys and SA, and only then change the SAD.
 */
#include "nl/sa.h"

int xf_nl_make_sa(struct xf_nl_request *req, const struct xf_nl_sa *parsed, enum xf_sa_state state,
		  const uint8_t *seed, struct xf_sa **out)
{
	struct xf_key *key;
	int err = xf_key_new(&parsed->cfg.terms.suite, NULL, parsed->cipher_key, parsed->auth_key,
			     &key);

	if (err == -EOPNOTSUPP)
		err = xf_nl_fail(req, -ENOSYS,
				 "Kernel was unable to initialize cryptographic operations");
	if (err)
		return err;
	*out = xf_sa_new(req->server->cfg.sad, &parsed->cfg, key, state, seed, req->now_ns);
	if (*out)
		return 0;
	xf_key_free(key);
	return -ENOMEM;
}

/* An SA of its own, in no table yet, with the replay state and lifetime that were asked for. */
static int make_new(struct xf_nl_request *req, const struct xf_nl_sa *parsed, struct xf_sa **out)
{
	const struct xf_nl_server_config *server = &req->server->cfg;
	uint8_t seed[XF_IVGEN_SEED];
	int err;

	server->random(server->arg, seed, sizeof(seed));
	err = xf_nl_make_sa(req, parsed, XF_SA_VALID, seed, out);
	xf_wipe(seed, sizeof(seed));
	if (err)
		return err;
	if (parsed->has_replay)
		xf_sa_set_replay_state(*out, &parsed->replay);
	if (parsed->has_lifetime)
		xf_sa_set_lifetime_now(*out, &parsed->lifetime);
	return 0;
}

/* On success the table has the reference and *@now is the SA in it. */
static int insert(struct xf_nl_request *req, struct xf_sa *sa, struct xf_sa **now)
{
	const struct xf_nl_server_config *server = &req->server->cfg;
	const char *why = NULL;
	int err = server->sa_wanted ? server->sa_wanted(server->arg, sa, &why) : 0;

	*now = sa;
	if (err)
		return xf_nl_fail(req, err, why);
	if (req->nlh->nlmsg_type == XFRM_MSG_NEWSA)
		err = xf_sad_add(server->sad, sa, &why);
	else
		err = xf_sad_update(server->sad, sa, now);
	if (why)
		xf_nl_fail(req, err, why);
	if (!err && server->sa_changed)
		server->sa_changed(server->arg, *now);
	return err;
}

int xf_nl_new_sa(struct xf_nl_request *req)
{
	struct xf_nl_origin origin = xf_nl_origin(req);
	struct xfrm_usersa_info info;
	struct xf_nl_sa parsed;
	struct xf_sa *sa, *now;
	int err;

	xf_nl_header(req, &info);
	err = xf_nl_verify_sa(req, &info);
	if (!err)
		err = xf_nl_parse_sa(req, &info, &parsed);
	if (!err)
		err = make_new(req, &parsed, &sa);
	if (err)
		return err;
	err = insert(req, sa, &now);
	if (err)
		xf_sa_put(sa);
	else
		xf_nl_notify_sa(req->server, req->nlh->nlmsg_type, now, &origin);
	return err;
}
