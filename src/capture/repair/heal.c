/*
 * The book of what stands and what does not, with its limits; capture.c and reconcile.c keep it.
 */
#include <stdio.h>

#include "capture/repair/heal.h"

const char *xf_heal_name(enum xf_heal_part part)
{
	static const char *const names[XF_HEAL_PARTS] = {
		[XF_HEAL_TUN] = "tun",		 [XF_HEAL_TABLE] = "table",
		[XF_HEAL_ELEMENTS] = "elements", [XF_HEAL_BACKSTOP] = "backstop",
		[XF_HEAL_ROUTE] = "route",	 [XF_HEAL_RULE] = "rule",
	};

	return names[part];
}

static void say(const struct xf_heal *heal, bool bad, const char *what, const char *then)
{
	char line[2 * XF_HEAL_TEXT + 64];

	snprintf(line, sizeof(line), "%s: %s", what, then);
	if (heal->say)
		heal->say(heal->arg, bad, line);
}

bool xf_heal_is_lost(const struct xf_heal *heal, enum xf_heal_part part)
{
	return heal->part[part].state >= XF_HEAL_LOST;
}

static uint64_t newest(const struct xf_heal_entry *entry)
{
	uint64_t time = entry->times_ns[(entry->at + XF_HEAL_LOSSES - 1) % XF_HEAL_LOSSES];

	return time ? time - 1 : 0;
}

/* Were there so many repairs within the period before @now_ns? */
static bool is_too_often(const struct xf_heal_entry *entry, uint64_t now_ns)
{
	uint64_t oldest = entry->times_ns[entry->at];

	return oldest && now_ns - (oldest - 1) < XF_HEAL_PERIOD_NS;
}

/* Once held, it is let go when a whole period has passed without a loss. */
static void hold_or_not(struct xf_heal *heal, struct xf_heal_entry *entry, uint64_t now_ns)
{
	bool quiet = now_ns - newest(entry) >= XF_HEAL_PERIOD_NS;
	bool held = entry->held ? !quiet : is_too_often(entry, now_ns);

	if (held && !entry->held)
		say(heal, true, entry->what,
		    "more than 5 times within 10 s, so it is repaired once in 10 s from now on");
	entry->held = held;
}

/* Due at once; what is lost already stays as it is. */
static void begin_loss(struct xf_heal *heal, enum xf_heal_part part, uint64_t now_ns)
{
	struct xf_heal_entry *entry = &heal->part[part];

	if (xf_heal_is_lost(heal, part))
		return;
	entry->state = XF_HEAL_LOST;
	entry->losses++;
	entry->failures = 0;
	entry->due_ns = now_ns;
}

void xf_heal_lost(struct xf_heal *heal, enum xf_heal_part part, uint64_t now_ns, const char *what)
{
	struct xf_heal_entry *entry = &heal->part[part];

	snprintf(entry->what, sizeof(entry->what), "%s", what);
	if (xf_heal_is_lost(heal, part) && !entry->ours)
		return;
	begin_loss(heal, part, now_ns);
	entry->ours = false;
	hold_or_not(heal, entry, now_ns);
	if (entry->held)
		entry->due_ns = newest(entry) + XF_HEAL_PERIOD_NS;
}

void xf_heal_missed(struct xf_heal *heal, enum xf_heal_part part, uint64_t now_ns, const char *what)
{
	struct xf_heal_entry *entry = &heal->part[part];

	if (xf_heal_is_lost(heal, part))
		return;
	snprintf(entry->what, sizeof(entry->what), "%s", what);
	begin_loss(heal, part, now_ns);
	entry->ours = true;
}

void xf_heal_changed(struct xf_heal *heal, enum xf_heal_part part)
{
	if (heal->part[part].state == XF_HEAL_IN_FORCE)
		heal->part[part].state = XF_HEAL_CHANGED;
}

void xf_heal_follows(struct xf_heal *heal, enum xf_heal_part part)
{
	if (heal->part[part].state == XF_HEAL_CHANGED)
		heal->part[part].state = XF_HEAL_IN_FORCE;
}

bool xf_heal_is_due(const struct xf_heal *heal, enum xf_heal_part part, uint64_t now_ns)
{
	return xf_heal_is_lost(heal, part) && now_ns >= heal->part[part].due_ns;
}

static void note_repair(struct xf_heal_entry *entry, uint64_t now_ns)
{
	entry->times_ns[entry->at] = now_ns + 1;
	entry->at = (entry->at + 1) % XF_HEAL_LOSSES;
}

void xf_heal_repaired(struct xf_heal *heal, enum xf_heal_part part, uint64_t now_ns,
		      const char *how)
{
	struct xf_heal_entry *entry = &heal->part[part];

	if (!xf_heal_is_lost(heal, part))
		return;
	if (!entry->ours)
		note_repair(entry, now_ns);
	entry->state = XF_HEAL_IN_FORCE;
	entry->repairs++;
	say(heal, false, entry->what, how);
}

uint64_t xf_heal_wait_ns(unsigned failures)
{
	static const unsigned ms[] = { 0, 0, 50, 200, 1000, 2000, 5000 };

	return failures < XF_ARRAY_SIZE(ms) ? ms[failures] * (XF_NSEC_PER_SEC / 1000)
					    : XF_HEAL_PERIOD_NS;
}

/* Told once, however often it is tried in vain. */
void xf_heal_failed(struct xf_heal *heal, enum xf_heal_part part, uint64_t now_ns, const char *why)
{
	struct xf_heal_entry *entry = &heal->part[part];
	bool waits;

	if (!xf_heal_is_lost(heal, part))
		return;
	waits = entry->held && !entry->ours;
	entry->state = XF_HEAL_FAILED;
	entry->failures++;
	entry->due_ns = now_ns + (waits ? XF_HEAL_PERIOD_NS : xf_heal_wait_ns(entry->failures));
	if (entry->failures == 1)
		say(heal, true, entry->what, why);
}

uint64_t xf_heal_due(const struct xf_heal *heal)
{
	uint64_t due = UINT64_MAX;

	for (unsigned i = 0; i < XF_HEAL_PARTS; i++) {
		const struct xf_heal_entry *entry = &heal->part[i];

		if (xf_heal_is_lost(heal, (enum xf_heal_part)i) && entry->due_ns < due)
			due = entry->due_ns;
	}
	return due;
}
