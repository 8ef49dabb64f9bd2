/* The state of the daemon itself, and its counters. */
#include <unistd.h>

#include "daemon/loop.h"
#include "daemon/thread/secret.h"
#include "show.h"

static json_t *counter(uint64_t value)
{
	return json_integer((json_int_t)value);
}

json_t *xf_show_counters(const struct xf_counter_group *group, const void *sums)
{
	json_t *o = json_object();

	for (size_t i = 0; i < group->n; i++)
		json_object_set_new(o, group->descs[i].name,
				    counter(xf_counter_value(&group->descs[i], sums)));
	return o;
}

/* Does each part stand, how often was it lost, and what became of it the last time? */
static json_t *show_parts(const struct xf_capture_stats *stats)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < XF_ARRAY_SIZE(stats->parts); i++) {
		const struct xf_capture_part *part = &stats->parts[i];

		if (part->name)
			json_array_append_new(
				list, json_pack("{s:s, s:b, s:o, s:o, s:s}", "name", part->name,
						"in_force", part->in_force, "losses",
						counter(part->losses), "repairs",
						counter(part->repairs), "last_loss", part->what));
	}
	return list;
}

static const char *text(const char *or_null)
{
	return or_null ? or_null : "";
}

/* What the kernel does for us is said of the device only when it does so on each of its queues. */
static json_t *show_capture_state(const struct xf_shown_ports *ports)
{
	unsigned queues = xf_threads_count(ports->threads);
	struct xf_capture_stats stats = { .programs.twin = XF_TWIN_NONE };
	struct xf_io_queues able;

	xf_capture_get_stats(ports->capture, &stats);
	xf_threads_get_queues(ports->threads, &able);
	return json_pack(
		"{s:s, s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:i, s:b, s:s, s:s, s:s, s:s, s:b, s:s,"
		" s:o, s:o, s:o}",
		"tun", ports->names->tun, "tun_marks", able.marks == queues, "tun_tso",
		able.supers == queues, "tun_uso", able.udp_supers == queues, "tun_steering",
		able.steered == queues, "nftables", stats.nft, "nat", stats.nat, "backstop",
		stats.backstop, "backstop_devices", (int)stats.programs.devices, "backstop_links",
		stats.backstop && !stats.programs.no_links, "why_no_links",
		text(stats.programs.no_links), "backstop_lacks", text(stats.programs.bare), "twin",
		xf_twin_name(stats.programs.twin), "why_twin", text(stats.programs.why), "owner",
		stats.nft && !stats.shared, "why_no_owner", text(stats.shared), "mark_capture",
		xf_show_hex(ports->names->mark_capture), "mark_bypass",
		xf_show_hex(ports->names->mark_bypass), "parts", show_parts(&stats));
}

/* By what native packets leave, to how many destinations, and why not by packet sockets. */
static json_t *show_native(const struct xf_shown_native *native)
{
	static const char *const modes[] = {
		[XF_NATIVE_AUTO] = "auto",
		[XF_NATIVE_PACKET] = "packet",
		[XF_NATIVE_RAW] = "raw",
	};
	struct xf_packet_status status = { 0 };
	const char *why = native->no_packet->text;

	if (native->packet) {
		xf_packet_get_status(native->packet, &status);
		why = status.why;
	}
	return json_pack("{s:s, s:i, s:i, s:s, s:i, s:s}", "mode", modes[native->mode],
			 "destinations", (int)status.dests, "by_packet_socket",
			 (int)status.by_packet, "why_raw", why, "from_ring", (int)status.by_ring,
			 "why_not_ring", native->packet ? status.why_no_ring : why);
}

static json_t *show_missing(const struct xf_missing *missing)
{
	json_t *list = json_array();

	for (unsigned i = 0; xf_missing_text(i); i++) {
		if (missing->bits & 1u << i)
			json_array_append_new(list, json_string(xf_missing_text(i)));
	}
	return list;
}

json_t *xf_show_status(const struct xf_shown *shown)
{
	struct xf_sad_info sad;
	struct xf_spd_info spd;
	struct xf_clients_stats clients;
	uint64_t up_s = (xf_clock_ns() - shown->start_ns) / XF_NSEC_PER_SEC;

	xf_sad_get_info(xf_engine_sad(shown->engine), &sad);
	xf_spd_get_info(xf_engine_spd(shown->engine), &spd);
	xf_clients_get_stats(shown->clients, &clients);
	return json_pack(
		"{s:s, s:i, s:I, s:I, s:i, s:I, s:{s:I, s:I, s:I}, s:o, s:I, s:o, s:o, s:o}",
		"version", XFRMD_VERSION, "pid", (int)getpid(), "netns", (json_int_t)shown->netns,
		"uptime_s", (json_int_t)up_s, "workers",
		(int)xf_threads_count(shown->ports.threads), "sas", (json_int_t)sad.count,
		"policies", "in", (json_int_t)spd.count[XF_DIR_IN], "out",
		(json_int_t)spd.count[XF_DIR_OUT], "fwd", (json_int_t)spd.count[XF_DIR_FWD],
		xf_clients_counters.name, xf_show_counters(&xf_clients_counters, &clients),
		"locked_bytes", (json_int_t)xf_secret_memory_locked(), "capture",
		show_capture_state(&shown->ports), "native", show_native(&shown->native), "missing",
		show_missing(shown->missing));
}

json_t *xf_show_stats(struct xf_engine *engine, const struct xf_shown_ports *ports)
{
	struct xf_engine_stats sums;
	struct xf_io_stats io;
	struct xf_capture_stats capture = { 0 };
	const struct {
		const struct xf_counter_group *group;
		const void *sums;
	} shown[] = {
		{ &xf_drop_counters, &sums },
		{ &xf_engine_counters, &sums },
		{ &xf_io_counters, &io },
		{ &xf_capture_counters, &capture.count },
	};
	json_t *o = json_object();

	xf_engine_get_stats(engine, &sums);
	xf_threads_get_stats(ports->threads, &io);
	xf_capture_get_stats(ports->capture, &capture);
	/* What rules drop for policies is told under the kernel's names, too. */
	sums.drops[XF_DROP_IN_TMPL_MISMATCH] += capture.count.plaintext_dropped;
	sums.drops[XF_DROP_IN_POL_BLOCK] += capture.count.blocked_dropped;
	for (size_t i = 0; i < XF_ARRAY_SIZE(shown); i++)
		json_object_set_new(o, shown[i].group->name,
				    xf_show_counters(shown[i].group, shown[i].sums));
	return o;
}
