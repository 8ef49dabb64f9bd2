/*
 * Path MTU: what a bundle can carry in one piece, and what routers say about our outer packets.
 */
#include <errno.h>

#include "path/worker.h"
#include "sad/transform.h"
#include "sad/use.h"

/* How long a router's word is believed: the kernel's net.ipv4.route.mtu_expires. */
#define LEARNED_NS (600 * XF_NSEC_PER_SEC)

/* The family of the packet that SA @i of the bundle is given. */
static uint16_t family_into(const struct xf_slot *s, unsigned i)
{
	return i == 0 ? s->ip.family : xf_form_family(xf_sa_form(s->bundle[i - 1]));
}

uint32_t xf_path_bundle_mtu(const struct xf_slot *s, uint64_t now_ns)
{
	uint32_t mtu = xf_sa_outer_mtu(s->bundle[s->depth - 1], now_ns);

	for (unsigned i = s->depth; i-- > 0;)
		mtu = xf_transform_of(s->bundle[i])
			      ->inner_mtu(s->bundle[i], mtu, family_into(s, i));
	/* No IPv6 sender may be told less (RFC 8200 s5); the outer packet is cut instead. */
	if (s->ip.family == XF_AF_INET6 && mtu < XF_IPV6_MIN_MTU)
		mtu = XF_IPV6_MIN_MTU;
	return mtu;
}

/* The SA that router's word @err is about: live, and between the same addresses. */
static struct xf_sa *find_sa(const struct xf_worker *worker, const struct xf_icmp_error *err,
			     uint32_t mark)
{
	const struct xf_sa_id id = {
		.daddr = err->daddr, .spi = err->spi, .proto = err->sa_proto, .family = err->family
	};
	struct xf_sa *sa = xf_sad_find_in(worker->engine->sad, &id, mark);

	if (!sa || !xf_addr_equal(&xf_sa_cfg(sa)->saddr, &err->saddr, err->family))
		return NULL;
	return sa;
}

/*
 * Believed only for a live SPI (RFC 4301 s8.2.1), and only downwards. What is not about an SA
 * is none of ours: the kernel has its own copy, so letting go of this one is no drop.
 */
void xf_path_icmp(struct xf_worker *worker, struct xf_slot *s, uint64_t now_ns)
{
	struct xf_icmp_error err;
	int is_ours = xf_icmp_read(s->pkt, &s->ip, &err);
	struct xf_sa *sa = NULL;

	if (is_ours == 0 && err.too_big)
		sa = find_sa(worker, &err, s->pkt->mark);
	if (sa && err.mtu < xf_sa_outer_mtu(sa, now_ns)) {
		xf_sa_learn_mtu(sa, err.mtu, now_ns + LEARNED_NS);
	} else if (is_ours != -ENOENT) {
		xf_slot_drop(worker, s, XF_DROP_ICMP_IGNORED, sa);
		return;
	}
	xf_pkt_free(s->pkt);
	s->pkt = NULL;
}
