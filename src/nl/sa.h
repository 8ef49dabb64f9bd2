/*
 * sa.h - an SA on its way in (NEWSA, UPDSA) and out (dumps, notifications).
 */
#ifndef XF_NL_SA_H
#define XF_NL_SA_H

#include "nl/attr.h"

/* A NEWSA or UPDSA, parsed. The keys point into the request. */
struct xf_nl_sa {
	struct xf_sa_config cfg;
	const uint8_t *cipher_key; /* salt included; of the AEAD or the cipher */
	const uint8_t *auth_key;
	bool has_replay;
	struct xf_sa_replay_state replay;
	bool has_lifetime;
	struct xf_lifetime_now lifetime;
};

/* The kernel's verify_newsa_info(): what it refuses before it looks at algorithms. */
int xf_nl_verify_sa(struct xf_nl_request *req, const struct xfrm_usersa_info *info);

/*
 * Fill @sa from a request that was verified, as xfrm_state_construct() and the mode's and the
 * protocol's init do: -ENOSYS for algorithms, -EPROTONOSUPPORT for modes and protocols that are
 * not there, -EINVAL for keys and values that do not fit.
 */
int xf_nl_parse_sa(struct xf_nl_request *req, const struct xfrm_usersa_info *info,
		   struct xf_nl_sa *sa);

/* The key and the SA in @state that @sa describes, in no table, its reference the caller's
 * (sa_new.c). Replay state and lifetime are not set. */
int xf_nl_make_sa(struct xf_nl_request *req, const struct xf_nl_sa *sa, enum xf_sa_state state,
		  const uint8_t *seed, struct xf_sa **out);

/* Algorithms and keys of the above (sa_alg.c). */
int xf_nl_parse_algs(struct xf_nl_request *req, struct xf_nl_sa *sa);
int xf_nl_build_suite(struct xf_nl_request *req, struct xf_nl_sa *sa);

/* XFRMA_REPLAY_VAL, XFRMA_REPLAY_ESN_VAL and XFRMA_LTIME_VAL; false when there is none. */
bool xf_nl_load_replay(const struct xf_nl_request *req, struct xf_sa_replay_state *out);
bool xf_nl_load_replay_esn(const struct xf_nl_request *req, struct xf_sa_replay_state *out);
bool xf_nl_load_lifetime_now(const struct xf_nl_request *req, struct xf_lifetime_now *out);

/* struct xfrm_usersa_info, and the attributes behind it in the kernel's order. */
void xf_nl_fill_sa(struct xf_sa *sa, struct xfrm_usersa_info *info);
void xf_nl_put_sa(struct xf_nl_msg *msg, struct xf_sa *sa);
void xf_nl_put_replay(struct xf_nl_msg *msg, struct xf_sa *sa);
void xf_nl_fill_sa_id(const struct xf_sa *sa, struct xfrm_usersa_id *id);

/* The SA that a request names: xfrm_usersa_id with XFRMA_MARK, or by XFRMA_SRCADDR. */
struct xf_sa *xf_nl_find_sa(const struct xf_nl_request *req, const struct xfrm_usersa_id *id,
			    int *err);
/* The same without the lookup by address. NULL: there is none. */
struct xf_sa *xf_nl_find_sa_by_spi(const struct xf_nl_request *req,
				   const struct xfrm_usersa_id *id);

/* NEWSA, UPDSA or DELSA to those who listen. */
void xf_nl_notify_sa(struct xf_nl_server *server, uint16_t event, struct xf_sa *sa,
		     const struct xf_nl_origin *origin);
void xf_nl_notify_expire(struct xf_nl_server *server, struct xf_sa *sa, bool hard, uint32_t portid);
void xf_nl_notify_ae(struct xf_nl_server *server, struct xf_sa *sa,
		     const struct xf_nl_origin *origin);

#endif
