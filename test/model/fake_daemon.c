/*
 * The daemon behind the model's TUN: what the SPD says of a packet that is read there, and what is
 * sent again (src/port/tx.c, ask.c). Called for packets on their way (fake_path.c).
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <linux/types.h> /* before tun_meta.h */

#include "capture/policy_order.h"

#include "fake_way.h"
#include "tun_meta.h"

static const struct xf_policy_config *policy_for(const struct xf_spd *spd,
						 const struct xf_flow *flow)
{
	const struct xf_policy *policy = xf_spd_lookup(spd, XF_DIR_OUT, flow);

	return policy ? xf_policy_cfg(policy) : NULL;
}

static enum fake_wish wish_of_policy(const struct xf_policy_config *cfg)
{
	if (!cfg || !xf_policy_is_strict(cfg))
		return FAKE_CLEAR;
	return cfg->action == XF_POLICY_BLOCK ? FAKE_BLOCK : FAKE_PROTECT;
}

enum fake_wish fake_wish_of(const struct xf_spd *spd, const struct xf_flow *flow,
			    const struct xf_flow *quoted)
{
	enum fake_wish wish = wish_of_policy(policy_for(spd, flow));
	const struct xf_policy_config *cfg = quoted ? policy_for(spd, quoted) : NULL;

	if (wish == FAKE_PROTECT || !cfg || !(cfg->flags & XF_POLICY_ICMP))
		return wish;
	return wish_of_policy(cfg);
}

/* By a socket of the daemon, which has @socket_mark. */
static bool send_by(struct fake_host *host, struct fake_journey *j, uint32_t socket_mark,
		    uint32_t priority)
{
	fake_conntrack_end(&j->track);
	j->local = true;
	j->iif = 0;
	j->p.iif = "none";
	j->p.socket_mark = socket_mark;
	j->p.mark = (j->p.mark & ~XF_MARK_CAPTURE) | XF_MARK_BYPASS;
	j->p.priority = j->p.socket_priority = priority;
	j->handed_on = false;
	return fake_path_send_out(host, j);
}

/* What is refused is told to the rules. Nothing of that is to be seen by anybody. */
static void tell_refusal(struct fake_host *host, struct fake_journey *j)
{
	struct fake_journey told = *j;

	told.p.track = &told.track;
	send_by(host, &told, XF_MARK_BYPASS | XF_MARK_CAPTURE, XF_PRIORITY_REFUSED);
	fake_conntrack_end(&told.track);
	if (told.fate != FAKE_LEFT)
		return;
	j->fate = told.fate;
	j->by = "the socket for what was refused";
}

/*
 * As src/port/ask.c: what NAT makes of it comes back by the backstop. What netfilter has dropped
 * its sender learns: that is protected as it is.
 */
static bool ask(struct fake_host *host, struct fake_journey *j)
{
	const struct fake_journey before = *j;
	bool clashed;

	if (fake_host_fails(host))
		return fake_path_lose(j, "a queue without room for the question");
	j->asked = true;
	if (send_by(host, j, XF_MARK_BYPASS | XF_MARK_CAPTURE, XF_PRIORITY_ASK))
		return true;
	if (j->handed_on)
		return false;
	fake_conntrack_end(&j->track);
	clashed = j->clashed;
	*j = before;
	j->clashed = clashed;
	j->track = (struct fake_track){ .entry = NULL };
	j->asked = true;
	tell_refusal(host, j);
	return true;
}

/* As bpf/meta.bpf.c. */
static bool is_ours(const struct fake_packet *p)
{
	if (!(p->socket_mark & XF_MARK_BYPASS))
		return false;
	if (p->socket_mark & XF_MARK_CAPTURE)
		return p->priority == XF_META_PRIORITY_ASK;
	return p->socket_priority != XF_META_PRIORITY_SENT_ON ||
	       p->priority != XF_META_PRIORITY_TRANSLATED;
}

static bool hear(struct fake_host *host, struct fake_journey *j)
{
	bool translated = j->p.priority == XF_META_PRIORITY_TRANSLATED;
	enum fake_wish wish;

	if (!host->workers)
		return fake_path_lose(j, "the TUN that nobody reads from");
	if (is_ours(&j->p))
		return fake_path_lose(j, "the daemon, its own packet");
	fake_flow(&j->p, &j->heard);
	assert_in_range(++j->heard_n, 1, 3);
	wish = fake_wish_of(host->spd, &j->heard, j->quotes ? &j->quoted : NULL);
	j->by = "the daemon";
	j->fate = wish == FAKE_PROTECT ? FAKE_PROTECTED : FAKE_BLOCKED;
	if (wish == FAKE_PROTECT && j->p.priority == XF_META_PRIORITY_ASK)
		return ask(host, j);
	/* It puts together what was in pieces. */
	j->fragment = j->behind = false;
	if (wish != FAKE_CLEAR)
		return true;
	/* Unwanted, it is sent on. */
	return send_by(host, j, XF_MARK_BYPASS,
		       translated ? XF_PRIORITY_TRANSLATED : XF_PRIORITY_SENT_ON);
}

static bool is_question(const struct fake_packet *p)
{
	return (p->socket_mark & XF_MARK_BYPASS) && (p->socket_mark & XF_MARK_CAPTURE);
}

/* It stays in the TUN until fake_host_receive_late(). */
static bool delay(struct fake_host *host, struct fake_journey *j)
{
	host->late = malloc(sizeof(*host->late));
	assert_non_null(host->late);
	*host->late = *j;
	host->late->track = (struct fake_track){ .entry = NULL };
	return fake_path_lose(j, "the TUN, which is not read yet");
}

/* Somebody's rules have made two of it: both are protected. */
static void hear_twice(struct fake_host *host, const struct fake_journey *before,
		       const struct fake_journey *j)
{
	struct fake_journey copy = *before;

	copy.track = (struct fake_track){ .entry = NULL };
	copy.p.track = &copy.track;
	hear(host, &copy);
	assert_int_equal(copy.fate, j->fate);
	assert_true(xf_addr_equal(&copy.heard.saddr, &j->heard.saddr, j->p.family));
}

bool fake_daemon_reads(struct fake_host *host, struct fake_journey *j)
{
	bool answer = is_question(&j->p) && host->workers;
	const struct fake_journey before = *j;

	if (answer && fake_host_fails(host))
		return fake_path_lose(j, "the TUN, which is full");
	if (answer && !host->late && host->kernel.faults && below(3) == 0)
		return delay(host, j);
	if (!hear(host, j))
		return false;
	if (answer && j->fate == FAKE_PROTECTED && below(8) == 0)
		hear_twice(host, &before, j);
	return true;
}

bool fake_host_receive_late(struct fake_host *host, struct fake_journey *j)
{
	if (!host->late)
		return false;
	*j = *host->late;
	free(host->late);
	host->late = NULL;
	j->p.track = &j->track;
	j->heard_n = 0;
	hear(host, j);
	fake_conntrack_end(&j->track);
	j->p.track = NULL;
	return true;
}
