/* What is missing, and what that means. Called by main.c at start, by show_service.c later. */
#include <sys/capability.h>
#include <sys/resource.h>

#include "log.h"
#include "missing.h"
#include "daemon/thread/privs.h"

/* What the kernel was willing to do. */
struct facts {
	unsigned queues; /* of the TUN */
	struct xf_io_queues able; /* of these */
	struct xf_capture_stats capture;
	enum xf_capture_mode mode;
	bool stuck; /* the TUN should forward and does not */
};

static bool lacks_nftables(const struct facts *facts)
{
	return facts->mode != XF_CAPTURE_TC && !facts->capture.nft;
}

static bool lacks_backstop(const struct facts *facts)
{
	return facts->mode != XF_CAPTURE_NFT && !facts->capture.backstop;
}

static bool lacks_sight_of_nat(const struct facts *facts)
{
	return facts->capture.backstop && !facts->capture.programs.knows_nat;
}

static bool lacks_marks(const struct facts *facts)
{
	return facts->able.marks != facts->queues;
}

static bool lacks_steering(const struct facts *facts)
{
	return facts->queues > 1 && facts->able.steered != facts->queues;
}

static bool lacks_ports(const struct facts *facts)
{
	(void)facts;
	return xf_privs_lacks(CAP_NET_BIND_SERVICE);
}

static bool lacks_locked_memory(const struct facts *facts)
{
	struct rlimit lim;

	(void)facts;
	return xf_privs_lacks(CAP_IPC_LOCK) &&
	       (getrlimit(RLIMIT_MEMLOCK, &lim) || lim.rlim_cur != RLIM_INFINITY);
}

static bool lacks_forwarding(const struct facts *facts)
{
	return facts->stuck;
}

static const struct {
	bool (*is)(const struct facts *facts);
	const char *text;
} things[] = {
	{ lacks_nftables, "no nftables: protected traffic is blocked, not protected" },
	{ lacks_backstop, "no backstop (CAP_BPF, CAP_PERFMON): what nftables does not capture "
			  "leaves in clear" },
	{ lacks_sight_of_nat, "no sight of the host's NAT (types of nf_conntrack in the kernel's "
			      "BTF, and no lockdown): what it takes out of a policy leaves in "
			      "clear when xfrmd and its rules are gone" },
	{ lacks_marks, "no marks of captured packets (CAP_BPF, CAP_PERFMON): policies that ask "
		       "for a mark, an interface or a user do not match" },
	{ lacks_steering, "no steering of the TUN's queues (CAP_BPF): a flow's packets may "
			  "change workers" },
	{ lacks_ports, "no CAP_NET_BIND_SERVICE: ESP in UDP is not received on ports below 1024" },
	{ lacks_locked_memory, "no CAP_IPC_LOCK: memory for keys ends at the limit of locked "
			       "memory" },
	{ lacks_forwarding, "no forwarding on the TUN (/proc/sys is read-only: set it from "
			    "outside): what tunnels deliver is not forwarded, though there are "
			    "devices that forward" },
};

static void look(struct xf_missing *missing, const struct facts *facts, unsigned i)
{
	uint32_t bit = 1u << i;
	bool lacks = things[i].is(facts);

	if (lacks && !(missing->bits & bit))
		xf_log(XF_LOG_WARNING, "%s", things[i].text);
	missing->bits &= ~bit;
	missing->bits |= lacks ? bit : 0;
}

/* What is there instead of BPF links at netfilter's hooks; whoever asked for less knows it. */
static void say_twin(const struct xf_backstop_stats *programs)
{
	if (programs->why && *programs->why)
		xf_log(XF_LOG_WARNING, "the second layer against plaintext is %s: %s",
		       xf_twin_name(programs->twin), programs->why);
}

void xf_missing_find(struct xf_missing *missing)
{
	struct facts facts = { .queues = xf_threads_count(missing->threads),
			       .mode = missing->mode,
			       .stuck = xf_forwarding_lacks(missing->forwarding) };

	xf_threads_get_queues(missing->threads, &facts.able);
	xf_capture_get_stats(missing->capture, &facts.capture);
	for (unsigned i = 0; i < XF_ARRAY_SIZE(things); i++)
		look(missing, &facts, i);
	say_twin(&facts.capture.programs);
}

void xf_missing_find_again(struct xf_missing *missing)
{
	const struct facts facts = { .stuck = xf_forwarding_lacks(missing->forwarding) };

	for (unsigned i = 0; i < XF_ARRAY_SIZE(things); i++)
		if (things[i].is == lacks_forwarding)
			look(missing, &facts, i);
}

const char *xf_missing_text(unsigned i)
{
	return i < XF_ARRAY_SIZE(things) ? things[i].text : NULL;
}
