/*
 * xfrmctl check: is anything wrong on this host that keeps traffic from being protected, lets it
 * out in clear, or loses it? One line a finding: what, why that matters, what to do.
 *
 * The daemon is asked for what it knows (status, SAs, policies); the rest is read here, so that
 * much is found where no daemon runs, too.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "daemon/config.h"

#define PATIENCE_S 5 /* a daemon that is stopped answers never */

static const struct {
	const char *id;
	const char *why;
	const char *remedy;
} kinds[XF_CHECK_KINDS] = {
	[XF_CHECK_DAEMON] = { "daemon",
			      "what an earlier one has captured is dropped, all else is in clear",
			      "start xfrmd, or xfrmctl release to flow in clear" },
	[XF_CHECK_CONFIG] = { "config", "xfrmd does not start with it", "correct it" },
	[XF_CHECK_PART] = { "part", "what it protects is dropped, or leaves in clear",
			    "see the log of xfrmd for who took it away; it is tried again" },
	[XF_CHECK_MISSING] = { "missing", "the kernel or the daemon's capabilities lack it",
			       "give the capability, or use a kernel that has it" },
	[XF_CHECK_TWIN] = { "twin", "plaintext may come in while nftables has no rules",
			    "have no program flush the ruleset; xfrmd.conf(5), twin" },
	[XF_CHECK_DEVICE] = { "device",
			      "what nftables does not capture leaves there in clear, or comes in",
			      "take that away, use Linux 6.6, or mount a BPF file system; "
			      "xfrmd.conf(5), tcx" },
	[XF_CHECK_PROGRAM] = { "program",
			       "it runs before the backstop, and what it sends on itself is not "
			       "looked at",
			       "give it a lower place, or see that it ends in TC_ACT_UNSPEC" },
	[XF_CHECK_RP_FILTER] = { "rp_filter",
				 "inner sources are routed by other devices: the kernel drops what "
				 "the tunnel delivers",
				 "set net.ipv4.conf.all.rp_filter to 0 or 2" },
	[XF_CHECK_FIB] = { "fib",
			   "inner sources are routed by other devices: the rule drops what the "
			   "tunnel delivers",
			   "except the TUN, as in docs/firewall.md" },
	[XF_CHECK_INPUT] = { "input", "what the tunnel delivers to this host is dropped there",
			     "accept what arrives on the TUN, as in docs/firewall.md" },
	[XF_CHECK_FORWARD] = { "forward", "what the tunnel delivers is not forwarded",
			       "accept from and to the TUN, as in docs/firewall.md" },
	[XF_CHECK_FORWARDING] = { "forwarding",
				  "policies fwd wait for traffic that is not forwarded",
				  "set net.ipv4.ip_forward or net.ipv6.conf.all.forwarding to 1, "
				  "or the device's own setting" },
	[XF_CHECK_IP_RULE] = { "ip-rule", "packets with one bit are taken for those of the other",
			       "leave our bits out of its mask, or choose others in xfrmd.conf" },
	[XF_CHECK_RULE_ORDER] = { "rule-order",
				  "captured packets that it leads elsewhere are dropped",
				  "give it a higher priority, or xfrmd a lower one "
				  "(rule_priority)" },
	[XF_CHECK_MARK] = { "mark", "packets with one bit are taken for those of the other",
			    "leave our bits out of it, or choose others in xfrmd.conf" },
	[XF_CHECK_FLOWTABLE] = { "flowtable",
				 "connections that are in it before a policy comes go on past the "
				 "policy, in clear",
				 "keep what policies want out of its rules (flow add)" },
	[XF_CHECK_NAT] = { "nat",
			   "what policies of any source want after NAT, too, is kept from leaving "
			   "in clear by the backstop alone while xfrmd is dead",
			   "give them the sources that they are for, or see that nobody takes the "
			   "programs at devices away meanwhile" },
	[XF_CHECK_PORT] = { "port", "ESP in UDP that arrives there is lost",
			    "free the port (who has it: ss -ulnp), then add the SA again" },
	[XF_CHECK_VRF] = { "vrf",
			   "captured packets leave the VRF: the rule for the TUN comes first",
			   "run xfrmd in a network namespace instead" },
	[XF_CHECK_KERNEL] = { "kernel",
			      "the kernel transforms packets beside xfrmd, or drops what it "
			      "delivers",
			      "ip xfrm policy flush, ip xfrm state flush; run its owner under "
			      "xfrm-exec" },
	[XF_CHECK_SAVED] = { "saved",
			     "while xfrmd runs, nft refuses the file as a whole, or old rules "
			     "take the place of ours until they are healed",
			     "take the table out of the file, as in docs/firewall.md" },
};

/* It is as it may be: no reason for another exit status. */
static bool is_note(enum xf_check_kind kind)
{
	return kind == XF_CHECK_NAT;
}

void xf_check_add(struct xf_check *check, enum xf_check_kind kind, const char *format, ...)
{
	char what[512];
	va_list args;
	json_t *finding;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	finding = json_pack("{s:s, s:s, s:s, s:s}", "id", kinds[kind].id, "what", what, "why",
			    kinds[kind].why, "do", kinds[kind].remedy);
	if (!finding) /* a name that is not UTF-8 */
		finding =
			json_pack("{s:s, s:s, s:s, s:s}", "id", kinds[kind].id, "what",
				  kinds[kind].id, "why", kinds[kind].why, "do", kinds[kind].remedy);
	if (is_note(kind))
		json_object_set_new(finding, "note", json_true());
	json_array_append_new(check->findings, finding);
}

static void set_names(struct xf_check *check, const char *tun, uint32_t capture, uint32_t bypass)
{
	snprintf(check->tun, sizeof(check->tun), "%s", tun);
	check->mark_capture = capture;
	check->mark_bypass = bypass;
}

/* The names that a daemon would use; one that runs may have been started with others. */
static void read_config(struct xf_check *check)
{
	char text[XF_CONFIG_ERROR_MAX];
	const struct xf_ctl_options *opt = check->opt;
	struct xf_config cfg;

	xf_config_default(&cfg);
	if (xf_config_load(&cfg, opt->config ? opt->config : XF_CONFIG_PATH, opt->config != NULL,
			   text)) {
		xf_check_add(check, XF_CHECK_CONFIG, "%s", text);
		xf_config_default(&cfg);
	}
	set_names(check, cfg.tun, cfg.mark_capture, cfg.mark_bypass);
}

static uint32_t bits(const json_t *object, const char *name)
{
	return (uint32_t)strtoul(xf_ctl_text(object, name), NULL, 0);
}

static void ask_daemon(struct xf_check *check)
{
	const json_t *capture, *policies;

	if (xf_ctl_ask(check->opt, json_pack("{s:s}", "verb", "status"), true, &check->status)) {
		xf_check_add(check, XF_CHECK_DAEMON, "no xfrmd answers in this network namespace");
		return;
	}
	capture = json_object_get(check->status, "capture");
	policies = json_object_get(check->status, "policies");
	set_names(check, xf_ctl_text(capture, "tun"), bits(capture, "mark_capture"),
		  bits(capture, "mark_bypass"));
	check->in = xf_ctl_number(policies, "in");
	check->fwd = xf_ctl_number(policies, "fwd");
	check->out = xf_ctl_number(policies, "out");
	xf_check_status(check);
	xf_check_tables(check);
}

static void show(const json_t *findings)
{
	json_t *finding;
	size_t i;

	json_array_foreach(findings, i, finding)
	{
		printf("%-10s %s: %s. To do: %s.\n", xf_ctl_text(finding, "id"),
		       xf_ctl_text(finding, "what"), xf_ctl_text(finding, "why"),
		       xf_ctl_text(finding, "do"));
	}
	if (!json_array_size(findings))
		puts("nothing wrong was found");
}

static bool is_anything_wrong(const json_t *findings)
{
	json_t *finding;
	size_t i;

	json_array_foreach(findings, i, finding)
	{
		if (!json_is_true(json_object_get(finding, "note")))
			return true;
	}
	return false;
}

int xf_ctl_check(const struct xf_ctl_options *opt)
{
	struct xf_ctl_options patient = *opt;
	struct xf_check check = { .opt = &patient, .findings = json_array() };
	int status;

	patient.patience_s = PATIENCE_S;
	read_config(&check);
	ask_daemon(&check);
	xf_check_host(&check);
	xf_check_nft(&check);
	xf_check_nat(&check);
	xf_check_saved(&check, "/etc/nftables.conf");
	if (opt->json)
		xf_ctl_print_json(check.findings);
	else
		show(check.findings);
	status = is_anything_wrong(check.findings) ? EXIT_FAILURE : EXIT_SUCCESS;
	json_decref(check.findings);
	json_decref(check.status);
	return status;
}
