/*
 * References: the table holds one until readers have left it, so an SA found in a read section
 * has at least that one and xf_sa_get() cannot meet a count of zero.
 *
 * Times: what happens here is noted on the monotonic clock. What netlink sets is on the wall clock
 * and is kept as it was said, to be shown so again whatever is done to that clock.
 */
#include <errno.h>
#include <stdlib.h>

#include <xf/freeze.h>

#include "sad/db.h"
#include "sad/side.h"
#include "sad/transform.h"

/* The window of struct xfrm_replay_state has one word, whatever size was asked for. */
#define LEGACY_WINDOW_MAX 32

_Static_assert(XF_WALL_STEPS == 1u << (63 - XF_SA_WALL_STEP_SHIFT), "the steps that are known");

/* Times further off than this (126 years) are taken as never, or as long ago. */
#define FAR_S 4000000000ll

struct xf_sa_view xf_sa_view_of(const struct xf_sa_config *cfg, const struct xf_sa_terms *terms)
{
	return (struct xf_sa_view){
		.id = cfg->id,
		.saddr = cfg->saddr,
		.reqid = cfg->reqid,
		.if_id = cfg->if_id,
		.seq = cfg->seq,
		.mode = cfg->mode,
		.flags = cfg->flags,
		.dir = cfg->dir,
		.terms = terms,
	};
}

/*
 * The kernel cleans the mark when it inserts: bits that the mask hides could never match. False:
 * no memory.
 */
static bool config_set(const struct xf_sa *sa, struct xf_sa_own_config *own,
		       const struct xf_sa_config *cfg)
{
	struct xf_sa_terms clean = cfg->terms;
	const struct xf_sa_terms *terms;

	clean.mark.v &= clean.mark.m;
	terms = xf_terms_get(&sa->sad->terms, &clean);
	if (!terms)
		return false;
	own->cfg = xf_sa_view_of(cfg, terms);
	xf_form_make(&own->cfg, xf_transform_of(sa), &own->form);
	if (sa->sad->cfg.one_worker)
		own->form.what |= XF_FORM_ALONE;
	return true;
}

static void config_free(struct xf_rcu_head *head)
{
	struct xf_sa_config_box *box = XF_CONTAINER_OF(head, struct xf_sa_config_box, rcu);

	xf_terms_put(box->own.cfg.terms);
	free(box);
}

/* What is around the configuration in force, or NULL: it is the first one. */
static struct xf_sa_config_box *config_box(const struct xf_sa *sa)
{
	const struct xf_sa_view *cfg = xf_sa_cfg(sa);

	if (cfg == &sa->first_cfg.cfg)
		return NULL;
	return XF_CONTAINER_OF(cfg, struct xf_sa_config_box, own.cfg);
}

static uint32_t window_of(const struct xf_sa_config *cfg)
{
	if (cfg->terms.replay_esn_attr)
		return xf_min_u32(cfg->terms.replay_window, XF_REPLAY_WINDOW_MAX);
	return xf_min_u32(cfg->terms.replay_window, LEGACY_WINDOW_MAX);
}

/* What @cfg has that not all SAs have; @side is there, if that is anything. */
static void side_set(struct xf_sa_side *side, const struct xf_sa_config *cfg)
{
	if (!side)
		return;
	side->has_coaddr = cfg->has_coaddr;
	side->coaddr = cfg->coaddr;
}

/* False: no memory. */
static bool side_reserve(struct xf_sa *sa, const struct xf_sa_config *cfg)
{
	return !cfg->has_coaddr || xf_sa_side_get(sa);
}

static bool replay_set(struct xf_sa *sa, const struct xf_sa_config *cfg)
{
	const struct xf_replay_width width = { window_of(cfg), sa->sad->cfg.replay_slack };
	size_t bytes = xf_replay_size(width);

	sa->replay = bytes <= sizeof(sa->own_window) ? (struct xf_replay *)(void *)sa->own_window
						     : malloc(bytes);
	if (sa->replay)
		xf_replay_init(sa->replay, width, cfg->flags & XF_SA_ESN);
	return sa->replay;
}

/* What an SA has of its own, but for the key. The IV generator's secrets are in it: it is wiped. */
static void release(struct xf_sa *sa)
{
	struct xf_sa_config_box *box = config_box(sa);
	struct xf_slabs *slabs = &sa->sad->slabs;

	xf_ivgen_fini(&sa->ivgen);
	if (box)
		config_free(&box->rcu);
	xf_terms_put(sa->first_cfg.cfg.terms);
	if ((uint8_t *)sa->replay != sa->own_window)
		free(sa->replay);
	xf_sa_side_free(sa);
	xf_wipe(sa, XF_SA_BYTES);
	xf_slab_put(slabs, sa);
}

/* Everything that can fail comes here, before the SA owns a key. @seed NULL: there is none. */
static struct xf_sa *sa_alloc(struct xf_sad *sad, const struct xf_sa_config *cfg,
			      const uint8_t *seed)
{
	struct xf_sa *sa = xf_slab_get(&sad->slabs);

	if (!sa)
		return NULL;
	sa->sad = sad;
	sa->transform = xf_transform_for(cfg) & 0xf;
	if (!config_set(sa, &sa->first_cfg, cfg)) {
		xf_slab_put(&sad->slabs, sa);
		return NULL;
	}
	sa->first_brief = xf_form_brief(&sa->first_cfg.form);
	atomic_init(&sa->cfg, &sa->first_cfg.cfg);
	if (!side_reserve(sa, cfg) || !replay_set(sa, cfg) ||
	    (seed && xf_ivgen_init(&sa->ivgen, cfg->terms.suite.iv_len, seed) < 0)) {
		release(sa);
		return NULL;
	}
	side_set(xf_sa_side(sa), cfg);
	return sa;
}

static void key_set(struct xf_sa *sa, struct xf_key *key)
{
	sa->key = key;
	sa->provider = xf_crypto_provider_index(key->provider) & 0xf;
	memcpy(&sa->salt, xf_key_salt(key), sizeof(sa->salt));
}

struct xf_sa *xf_sa_new(struct xf_sad *sad, const struct xf_sa_config *cfg, struct xf_key *key,
			enum xf_sa_state state, const uint8_t *seed, uint64_t now_ns)
{
	struct xf_sa *sa = sa_alloc(sad, cfg, key ? seed : NULL);

	if (!sa)
		return NULL;
	sa->provider = XF_CRYPTO_NONE;
	if (key)
		key_set(sa, key);
	atomic_init(&sa->added, now_ns);
	atomic_init(&sa->state, (uint8_t)state);
	atomic_init(&sa->refs, 1);
	return sa;
}

static void sa_free(struct xf_sa *sa)
{
	xf_key_free(sa->key);
	release(sa);
}

static void sa_free_deferred(struct xf_rcu_head *head)
{
	sa_free(XF_CONTAINER_OF(head, struct xf_sa, links.rcu));
}

struct xf_sa *xf_sa_get(struct xf_sa *sa)
{
	atomic_fetch_add_explicit(&sa->refs, 1, memory_order_relaxed);
	return sa;
}

/* True for whoever put the last one. */
static bool put_last(struct xf_sa *sa)
{
	return atomic_fetch_sub_explicit(&sa->refs, 1, memory_order_acq_rel) == 1;
}

void xf_sa_put(struct xf_sa *sa)
{
	if (put_last(sa))
		xf_rcu_defer(&sa->links.rcu, sa_free_deferred);
}

void xf_sa_put_unseen(struct xf_sa *sa)
{
	if (put_last(sa))
		sa_free(sa);
}

const struct xf_sa_view *xf_sa_cfg(const struct xf_sa *sa)
{
	return atomic_load_explicit(&sa->cfg, memory_order_acquire);
}

void xf_sa_copy_cfg(const struct xf_sa *sa, struct xf_sa_config *out)
{
	const struct xf_sa_view *cfg = xf_sa_cfg(sa);
	const union xf_addr *coaddr = xf_sa_coaddr(sa);

	*out = (struct xf_sa_config){
		.id = cfg->id,
		.saddr = cfg->saddr,
		.reqid = cfg->reqid,
		.if_id = cfg->if_id,
		.seq = cfg->seq,
		.mode = cfg->mode,
		.flags = cfg->flags,
		.dir = cfg->dir,
	};
	out->terms = *cfg->terms;
	out->has_coaddr = coaddr;
	if (coaddr)
		out->coaddr = *coaddr;
}

const union xf_addr *xf_sa_coaddr(const struct xf_sa *sa)
{
	const struct xf_sa_side *side = xf_sa_side(sa);

	return side && side->has_coaddr ? &side->coaddr : NULL;
}

enum xf_sa_state xf_sa_get_state(const struct xf_sa *sa)
{
	return (enum xf_sa_state)atomic_load_explicit(&sa->state, memory_order_acquire);
}

const struct xf_key *xf_sa_key(const struct xf_sa *sa)
{
	return sa->key;
}

void xf_sa_get_origin(struct xf_sa *sa, struct xf_sa_origin *out)
{
	out->id = sa->links.id;
	out->slot = xf_slab_place(&sa->sad->slabs, sa);
	xf_ivgen_seed(&sa->ivgen, out->seed);
}

/* One writer, so the old one is ours to retire; the first one goes with the SA. */
int xf_sa_reconfigure(struct xf_sa *sa, const struct xf_sa_config *cfg)
{
	struct xf_sa_config_box *old = config_box(sa);
	struct xf_sa_config_box *new =
		aligned_alloc(_Alignof(struct xf_sa_config_box), sizeof(*new));

	if (!new || !side_reserve(sa, cfg) || !config_set(sa, &new->own, cfg)) {
		free(new);
		return -ENOMEM;
	}
	atomic_store_explicit(&sa->cfg, &new->own.cfg, memory_order_release);
	side_set(xf_sa_side(sa), cfg);
	if (old)
		xf_rcu_defer(&old->rcu, config_free);
	return 0;
}

static uint64_t get(const _Atomic uint64_t *value)
{
	return atomic_load_explicit(value, memory_order_relaxed);
}

static void put(_Atomic uint64_t *value, uint64_t new)
{
	atomic_store_explicit(value, new, memory_order_relaxed);
}

static uint64_t wall_s(const struct xf_sa *sa, uint64_t time)
{
	if (time & XF_SA_WALL)
		return time & XF_SA_WALL_S_MASK;
	return xf_wall_s((int64_t)time, xf_wall_offset_at(&sa->sad->wall, time));
}

/* @wall_s as netlink says it now. */
static uint64_t time_of(const struct xf_sa *sa, uint64_t wall_s)
{
	uint64_t step = xf_wall_last(&sa->sad->wall) % XF_WALL_STEPS;

	return XF_SA_WALL | step << XF_SA_WALL_STEP_SHIFT | (wall_s & XF_SA_WALL_S_MASK);
}

/* May lie before this machine was started: below zero. */
static int64_t mono_ns(const struct xf_sa *sa, uint64_t time)
{
	uint32_t step = (uint32_t)(time >> XF_SA_WALL_STEP_SHIFT) % XF_WALL_STEPS;
	int64_t offset_ns, since_boot;

	if (!(time & XF_SA_WALL))
		return (int64_t)time;
	offset_ns = xf_wall_offset_ns(&sa->sad->wall, step);
	since_boot = (int64_t)(time & XF_SA_WALL_S_MASK) - offset_ns / (int64_t)XF_NSEC_PER_SEC;
	if (since_boot > FAR_S)
		since_boot = FAR_S;
	if (since_boot < -FAR_S)
		since_boot = -FAR_S;
	return since_boot * (int64_t)XF_NSEC_PER_SEC - offset_ns % (int64_t)XF_NSEC_PER_SEC;
}

uint64_t xf_sa_time_here(const struct xf_sa *sa, uint64_t time)
{
	return time & XF_SA_WALL ? time_of(sa, time) : time;
}

uint64_t xf_sa_time_elsewhere(const struct xf_sa *sa, uint64_t time)
{
	uint64_t wall_s = time & XF_SA_WALL_S_MASK;
	const struct xf_wall *wall = &sa->sad->wall;
	int64_t ns;

	if (!(time & XF_SA_WALL))
		return time;
	ns = mono_ns(sa, time);
	if (mono_ns(sa, time_of(sa, wall_s)) == ns)
		return XF_SA_WALL | wall_s;
	return XF_SA_WALL | xf_wall_s(ns, xf_wall_offset_ns(wall, xf_wall_last(wall)));
}

int64_t xf_sa_added_s(const struct xf_sa *sa)
{
	const struct xf_wall *wall = &sa->sad->wall;
	int64_t ns = xf_sa_added_ns(sa) + xf_wall_offset_ns(wall, xf_wall_last(wall));

	return ns / (int64_t)XF_NSEC_PER_SEC;
}

int64_t xf_sa_added_ns(const struct xf_sa *sa)
{
	return mono_ns(sa, get(&sa->added));
}

bool xf_sa_used_ns(const struct xf_sa *sa, int64_t *ns)
{
	uint64_t used = get(&sa->used);

	*ns = mono_ns(sa, used);
	return used != 0;
}

void xf_sa_lifetime_now(const struct xf_sa *sa, struct xf_lifetime_now *out)
{
	uint64_t used = get(&sa->used);

	out->bytes = get(&sa->in.bytes) + get(&sa->out.bytes);
	out->packets = get(&sa->in.packets) + get(&sa->out.packets);
	out->add_s = wall_s(sa, get(&sa->added));
	out->use_s = used ? wall_s(sa, used) : 0;
}

/* A use time of 0 is "not yet": the next packet is the first. */
void xf_sa_set_lifetime_now(struct xf_sa *sa, const struct xf_lifetime_now *now)
{
	put(&sa->in.bytes, 0);
	put(&sa->in.packets, 0);
	put(&sa->out.bytes, now->bytes);
	put(&sa->out.packets, now->packets);
	put(&sa->added, time_of(sa, now->add_s));
	put(&sa->used, now->use_s ? time_of(sa, now->use_s) : 0);
}

uint64_t xf_sa_last_used_s(const struct xf_sa *sa)
{
	uint64_t in = get(&sa->in.last_ns);
	uint64_t out = get(&sa->out.last_ns);
	uint64_t last = in > out ? in : out;

	return last ? wall_s(sa, last) : 0;
}

void xf_sa_get_stats(const struct xf_sa *sa, struct xf_sa_stats *out)
{
	out->replay_window = atomic_load_explicit(&sa->stat_replay_window, memory_order_relaxed);
	out->replay = atomic_load_explicit(&sa->stat_replay, memory_order_relaxed);
	out->integrity_failed = atomic_load_explicit(&sa->stat_integrity, memory_order_relaxed);
	out->other_drops = get(&sa->other_drops);
	memset(out->drops, 0, sizeof(out->drops));
	for (unsigned i = 0; i < XF_SA_TALLIES; i++) {
		uint64_t tally = get(&sa->tallies[i]);

		out->drops[tally >> XF_SA_TALLY_SHIFT] = tally & XF_SA_TALLY_MASK;
	}
}

/* The kernel's net.ipv4.route.min_pmtu. */
#define PATH_MTU_MIN4 552u

/* No IP packet is longer than 16 bits can say. */
uint16_t xf_sa_clamp_mtu(const struct xf_sa *sa, uint32_t mtu)
{
	bool v6 = xf_sa_cfg(sa)->id.family == XF_AF_INET6;
	uint32_t floor = v6 ? XF_IPV6_MIN_MTU : PATH_MTU_MIN4;

	if (mtu && mtu < floor)
		return (uint16_t)floor;
	return (uint16_t)xf_min_u32(mtu, UINT16_MAX);
}

/* A way that has changed makes what was learned of the old one void. */
void xf_sa_set_route_mtu(struct xf_sa *sa, uint32_t mtu)
{
	uint16_t new = xf_sa_clamp_mtu(sa, mtu);

	if (atomic_exchange_explicit(&sa->route_mtu, new, memory_order_relaxed) != new)
		atomic_store_explicit(&sa->learned_mtu, 0, memory_order_relaxed);
}

void xf_sa_learn_mtu(struct xf_sa *sa, uint32_t mtu, uint64_t expires_ns)
{
	uint64_t until_s = (expires_ns + XF_NSEC_PER_SEC - 1) / XF_NSEC_PER_SEC;

	atomic_store_explicit(&sa->learned_until_s, (uint32_t)until_s, memory_order_relaxed);
	atomic_store_explicit(&sa->learned_mtu, xf_sa_clamp_mtu(sa, mtu ? mtu : 1),
			      memory_order_release);
}

uint32_t xf_sa_path_mtu(const struct xf_sa *sa, uint64_t now_ns)
{
	uint32_t route = atomic_load_explicit(&sa->route_mtu, memory_order_relaxed);
	uint32_t learned = atomic_load_explicit(&sa->learned_mtu, memory_order_acquire);
	uint64_t until_s;

	if (!learned)
		return route;
	until_s = atomic_load_explicit(&sa->learned_until_s, memory_order_relaxed);
	if (now_ns >= until_s * XF_NSEC_PER_SEC)
		return route;
	return route && route < learned ? route : learned;
}
