/*
 * The book of what stands and what does not, with its limits; capture.c and reconcile.c keep it.
 */
#include <stdio.h>

#include "capture/heal.h"

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

/* Were there so many attempts within the period before @now_ns? */
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

void xf_heal_lost(struct xf_heal *heal, enum xf_heal_part part, uint64_t now_ns, const char *what)
{
	struct xf_heal_entry *entry = &heal->part[part];

	snprintf(entry->what, sizeof(entry->what), "%s", what);
	if (xf_heal_is_lost(heal, part))
		return;
	entry->state = XF_HEAL_LOST;
	entry->losses++;
	entry->failures = 0;
	hold_or_not(heal, entry, now_ns);
	entry->due_ns = entry->held ? newest(entry) + XF_HEAL_PERIOD_NS : now_ns;
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

static void note_attempt(struct xf_heal_entry *entry, uint64_t now_ns)
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
	note_attempt(entry, now_ns);
	entry->state = XF_HEAL_IN_FORCE;
	entry->repairs++;
	say(heal, false, entry->what, how);
}

/* Told once, however often it is tried in vain. */
void xf_heal_failed(struct xf_heal *heal, enum xf_heal_part part, uint64_t now_ns, const char *why)
{
	struct xf_heal_entry *entry = &heal->part[part];
	uint64_t wait = XF_HEAL_RETRY_NS;

	if (!xf_heal_is_lost(heal, part))
		return;
	note_attempt(entry, now_ns);
	if (entry->held || entry->failures >= XF_HEAL_LOSSES)
		wait = XF_HEAL_PERIOD_NS;
	entry->state = XF_HEAL_FAILED;
	entry->due_ns = now_ns + wait;
	if (entry->failures++ == 0)
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
