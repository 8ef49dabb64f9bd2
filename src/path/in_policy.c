/*
 * What policies say of decrypted packets (RFC 4301 s5.2 step 4): which direction is asked,
 * fragments that must be whole for that, the SAs' own selectors, the policy and its templates.
 * Called by in_flight.c when no round is left.
 */
#include "path/in.h"

/*
 * The SAs that a fragment came through, as a number: fragments of one datagram must have come the
 * same way, or clear text could be mixed into what a peer has protected.
 */
static uint64_t realm_of(const struct xf_pkt *pkt)
{
	uint64_t realm = pkt->sp_len;

	for (unsigned i = 0; i < pkt->sp_len; i++) {
		const struct xf_sa_id *id = &xf_sa_cfg(pkt->sp[i])->id;

		realm = (realm ^ id->spi ^ id->daddr.quad[0] ^ id->daddr.quad[1]) *
			0x9e3779b97f4a7c15ull;
		realm ^= realm >> 32;
	}
	return realm;
}

/*
 * A fragment from inside a tunnel is put together first where a policy could want ports. The
 * whole datagram has the SAs of the fragment that came last: no fragment that waits keeps any.
 */
static void make_whole(struct xf_in *in, struct xf_slot *s, struct xf_flow *flow)
{
	struct xf_pkt *last = s->pkt;
	struct xf_sa *sp[XF_MAX_DEPTH];
	uint8_t sp_len = last->sp_len;

	memcpy(sp, last->sp, sizeof(sp));
	last->realm = realm_of(last);
	last->sp_len = 0;
	xf_path_reassemble(in->worker, in->worker->frags_inner, s, in->now_ns);
	if (!s->pkt)
		return;
	memcpy(s->pkt->sp, sp, sizeof(sp));
	s->pkt->sp_len = sp_len;
	xf_ip_flow(s->pkt, &s->ip, false, flow);
}

/*
 * Of policies, which direction is asked about @s? XF_DIR_MAX: none, for the device that @s came in
 * by does not forward. Linux sees that when it looks for a route, before it asks a policy fwd.
 */
static enum xf_policy_dir direction(const struct xf_in *in, const struct xf_slot *s)
{
	const struct xf_env *env = &in->worker->engine->env;
	const union xf_addr *daddr = &s->ip.daddr;
	uint16_t family = s->ip.family;

	if (env->is_local(env->arg, daddr, family))
		return XF_DIR_IN;
	if (env->may_forward && !env->may_forward(env->arg, daddr, family, s->pkt->iif))
		return XF_DIR_MAX;
	return XF_DIR_FWD;
}

/* The flow of @s, whole where a policy could want ports. False: it waits for its other parts. */
static bool ask(struct xf_in *in, struct xf_slot *s, enum xf_policy_dir dir, struct xf_asked *asked)
{
	struct xf_flow *flow = &asked->flows[asked->n];

	xf_ip_flow(s->pkt, &s->ip, false, flow);
	if (s->ip.is_frag && xf_spd_wants_whole(in->worker->engine->spd, dir, flow))
		make_whole(in, s, flow);
	if (!s->pkt)
		return false;
	asked->lens[asked->n] = s->pkt->len;
	asked->slots[asked->n++] = s;
	return true;
}

static bool same_path(const struct xf_pkt *a, const struct xf_pkt *b)
{
	if (a->sp_len != b->sp_len)
		return false;
	for (unsigned i = 0; i < a->sp_len; i++)
		if (a->sp[i] != b->sp[i])
			return false;
	return true;
}

/* Do SAs that @pkt came through have selectors of their own? */
static bool has_selectors(const struct xf_pkt *pkt)
{
	bool any = false;

	for (unsigned i = 0; i < pkt->sp_len; i++)
		any |= xf_sa_brief(pkt->sp[i]).what & XF_FORM_SELECTS;
	return any;
}

static enum xf_drop verdict(const struct xf_asked *asked, unsigned i)
{
	const struct xf_pkt *pkt = asked->slots[i]->pkt;
	enum xf_drop err = XF_PASS;

	if (XF_UNLIKELY(has_selectors(pkt)))
		err = xf_path_check_selectors(pkt, &asked->flows[i]);
	return err == XF_PASS ? xf_path_check_policy(pkt, asked->policies[i]) : err;
}

/* Is the verdict on packet @i that on the one before? It depends on SAs and policy alone, where
 * the SAs have no selectors. */
static bool as_before(const struct xf_asked *asked, unsigned i)
{
	return i > 0 && same_path(asked->slots[i]->pkt, asked->slots[i - 1]->pkt) &&
	       xf_path_same_wants(asked->policies[i], asked->policies[i - 1]);
}

/* What the policies of one direction say of the packets that they are asked about. */
static void check_policies(struct xf_in *in, enum xf_policy_dir dir)
{
	struct xf_asked *asked = &in->worker->asked[dir];
	enum xf_drop last = XF_PASS;
	bool selectors = false;

	if (asked->n == 0)
		return;
	xf_spd_lookup_to_use(in->worker->engine->spd, dir, asked->flows, asked->n, asked->policies);
	xf_path_count_policies(in->worker, asked->policies, asked->lens, asked->n, in->now_ns);
	for (unsigned i = 0; i < asked->n; i++) {
		struct xf_slot *s = asked->slots[i];

		if (selectors || !as_before(asked, i)) {
			last = verdict(asked, i);
			selectors = has_selectors(s->pkt);
		}
		s->err = (uint8_t)last;
		if (XF_UNLIKELY(last != XF_PASS) && xf_path_is_icmp(&s->ip))
			s->err = (uint8_t)xf_path_check_icmp(in->worker, dir, s, &asked->flows[i],
							     asked->policies[i]);
	}
}

/* Is no policy asked about it? Linux asks nothing of its SAs then, either. */
static bool is_exempt(const struct xf_in *in, const struct xf_slot *s)
{
	const struct xf_env *env = &in->worker->engine->env;

	return env->is_exempt && env->is_exempt(env->arg, &s->ip.daddr, s->ip.family, s->pkt->iif);
}

/* What the environment says of a packet, by where it goes and by which device it came. */
struct place {
	enum xf_policy_dir dir;
	bool exempt;
};

/* Neighbours mostly go to the same one: who has @last is @before, or NULL. */
static struct place place_of(const struct xf_in *in, const struct xf_slot *s,
			     const struct xf_slot *before, struct place last)
{
	if (before && s->ip.family == before->ip.family && s->pkt->iif == before->pkt->iif &&
	    xf_addr_equal(&s->ip.daddr, &before->ip.daddr, s->ip.family))
		return last;
	return (struct place){ direction(in, s), is_exempt(in, s) };
}

/* Sort the packets by the direction of the policies that are to be asked about them. */
static void ask_all(struct xf_in *in, struct xf_flight *f)
{
	struct place last = { XF_DIR_IN, false };
	const struct xf_slot *before = NULL;

	in->worker->asked[XF_DIR_IN].n = 0;
	in->worker->asked[XF_DIR_FWD].n = 0;
	for (unsigned i = 0; i < f->n; i++) {
		struct xf_slot *s = &f->slots[i];
		struct place place;

		if (!s->pkt)
			continue;
		place = place_of(in, s, before, last);
		if (XF_UNLIKELY(place.dir == XF_DIR_MAX)) {
			xf_slot_drop(in->worker, s, XF_DROP_IN_NOT_FORWARDED, s->bundle[0]);
			continue;
		}
		s->err = XF_PASS;
		if (!place.exempt && !ask(in, s, place.dir, &in->worker->asked[place.dir]))
			continue;
		before = s;
		last = place;
	}
}

void xf_in_ask_policies(struct xf_in *in, struct xf_flight *f)
{
	ask_all(in, f);
	check_policies(in, XF_DIR_IN);
	check_policies(in, XF_DIR_FWD);
}
