/*
 * What the daemon itself says that is wrong, and what its SAs and policies ask of this host;
 * check.c calls it.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "port/io.h"

static void check_parts(struct xf_check *check, const json_t *capture)
{
	json_t *part;
	size_t i;

	json_array_foreach(json_object_get(capture, "parts"), i, part)
	{
		const char *last = xf_ctl_text(part, "last_loss");

		if (!json_is_true(json_object_get(part, "in_force")))
			xf_check_add(check, XF_CHECK_PART, "%s of capture is not in force%s%s",
				     xf_ctl_text(part, "name"), *last ? ", last: " : "", last);
	}
}

void xf_check_status(struct xf_check *check)
{
	const json_t *capture = json_object_get(check->status, "capture");
	const char *why = xf_ctl_text(capture, "why_twin");
	const char *lacks = xf_ctl_text(capture, "backstop_lacks");
	json_t *missing;
	size_t i;

	check_parts(check, capture);
	if (*why)
		xf_check_add(check, XF_CHECK_TWIN, "the second layer is %s: %s",
			     xf_ctl_text(capture, "twin"), why);
	if (*lacks)
		xf_check_add(check, XF_CHECK_DEVICE,
			     "no backstop at %s: what somebody else has put there leaves no room",
			     lacks);
	json_array_foreach(json_object_get(check->status, "missing"), i, missing)
		xf_check_add(check, XF_CHECK_MISSING, "%s", json_string_value(missing));
}

/* --- ports for ESP in UDP --- */

/* Does @address (IPv4 or IPv6) belong to this host? One can be bound to it. */
static bool is_local(const char *address)
{
	struct sockaddr_in6 six = { .sin6_family = AF_INET6 };
	struct sockaddr_in four = { .sin_family = AF_INET };
	bool v4 = inet_pton(AF_INET, address, &four.sin_addr) == 1;
	int fd, err;

	if (!v4 && inet_pton(AF_INET6, address, &six.sin6_addr) != 1)
		return false;
	fd = socket(v4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	err = v4 ? bind(fd, (struct sockaddr *)&four, sizeof(four))
		 : bind(fd, (struct sockaddr *)&six, sizeof(six));
	close(fd);
	return err == 0;
}

/* Does the process of @fds ("/proc/7/fd") hold the socket @inode? */
static bool holds_socket(const char *fds, unsigned long inode)
{
	DIR *dir = opendir(fds);
	const struct dirent *entry;
	char want[64], got[64];
	bool found = false;

	if (!dir)
		return true; /* who may not look says nothing */
	snprintf(want, sizeof(want), "socket:[%lu]", inode);
	while (!found && (entry = readdir(dir))) {
		ssize_t n = readlinkat(dirfd(dir), entry->d_name, got, sizeof(got) - 1);

		got[n > 0 ? n : 0] = '\0';
		found = !strcmp(got, want);
	}
	closedir(dir);
	return found;
}

/* A UDP socket of the daemon with this local port, in /proc/net/udp or udp6. */
static bool daemon_listens(const struct xf_check *check, const char *table, unsigned port)
{
	FILE *f = fopen(table, "re");
	char line[512], fds[64];
	bool found = !f;

	snprintf(fds, sizeof(fds), "/proc/%lld/fd", (long long)xf_ctl_number(check->status, "pid"));
	while (!found && fgets(line, sizeof(line), f)) {
		unsigned local;
		unsigned long inode;

		if (sscanf(line, " %*[0-9]: %*[0-9A-Fa-f]:%x %*s %*s %*s %*s %*s %*s %*s %lu",
			   &local, &inode) == 2)
			found = local == port && holds_socket(fds, inode);
	}
	if (f)
		fclose(f);
	return found;
}

static bool see_sa(void *arg, const json_t *sa)
{
	struct xf_check *check = arg;
	const json_t *encap = json_object_get(sa, "encap");
	unsigned port = (unsigned)xf_ctl_number(encap, "dport");
	const char *dst = xf_ctl_text(sa, "dst");
	const char *table = strchr(dst, ':') ? "/proc/net/udp6" : "/proc/net/udp";

	if (encap && strcmp(xf_ctl_text(sa, "dir"), "out") != 0 && is_local(dst) &&
	    !daemon_listens(check, table, port))
		xf_check_add(check, XF_CHECK_PORT,
			     "the SA to %s with SPI %s is in UDP, and xfrmd does not have port %u",
			     dst, xf_ctl_text(sa, "spi"), port);
	return true;
}

/* --- forwarding --- */

struct forwarding {
	bool wanted[2]; /* IPv4, IPv6 */
};

/* Policies fwd to an address of this host stand beside those in, for nothing that is forwarded. */
static bool see_policy(void *arg, const json_t *policy)
{
	const char *dst = xf_ctl_text(json_object_get(policy, "selector"), "dst");
	struct forwarding *forwarding = arg;
	bool six = strchr(dst, ':') != NULL;
	char address[64];
	size_t len = strcspn(dst, "/");

	if (strcmp(xf_ctl_text(policy, "dir"), "fwd") != 0 || forwarding->wanted[six])
		return true;
	snprintf(address, sizeof(address), "%.*s", (int)len, dst);
	forwarding->wanted[six] =
		strcmp(dst + len, six ? "/128" : "/32") != 0 || !is_local(address);
	return !forwarding->wanted[0] || !forwarding->wanted[1];
}

static bool is_on(const char *family, const char *device, const char *setting)
{
	char path[400];
	FILE *f;
	bool on;

	snprintf(path, sizeof(path), "/proc/sys/net/%s/conf/%s/%s", family, device, setting);
	f = fopen(path, "re");
	on = f && fgetc(f) == '1';
	if (f)
		fclose(f);
	return on;
}

/* Does any device but the TUN, which does as the others do? A device's own setting "forwarding" is
 * for IPv6 no more than its part in router discovery. */
static bool host_forwards(const struct xf_check *check, bool six)
{
	const char *family = six ? "ipv6" : "ipv4";
	const char *setting = six ? "force_forwarding" : "forwarding";
	bool found = six && is_on(family, "all", "forwarding");
	const struct dirent *entry;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/sys/net/%s/conf", family);
	dir = opendir(path);
	while (dir && !found && (entry = readdir(dir)))
		found = strcmp(entry->d_name, check->tun) != 0 &&
			is_on(family, entry->d_name, setting);
	if (dir)
		closedir(dir);
	return found;
}

void xf_check_tables(struct xf_check *check)
{
	static const char *const families[] = { "ipv4", "ipv6" };
	struct forwarding forwarding = { .wanted = { false } };

	xf_ctl_each(check->opt, "sa", "sas", see_sa, check);
	if (check->fwd)
		xf_ctl_each(check->opt, "policy", "policies", see_policy, &forwarding);
	for (unsigned i = 0; i < XF_ARRAY_SIZE(families); i++) {
		if (forwarding.wanted[i] && !host_forwards(check, i == 1))
			xf_check_add(check, XF_CHECK_FORWARDING, "no device forwards %s",
				     families[i]);
	}
}

/* --- source NAT --- */

/* Does it want packets protected or dropped? Those of an xfrm interface are not captured. */
static bool keeps_plaintext_in(const json_t *policy)
{
	json_t *tmpl;
	size_t i;

	if (strcmp(xf_ctl_text(policy, "dir"), "out") != 0 || json_object_get(policy, "if_id"))
		return false;
	json_array_foreach(json_object_get(policy, "templates"), i, tmpl)
	{
		if (!strcmp(xf_ctl_text(tmpl, "level"), "required"))
			return true;
	}
	return !strcmp(xf_ctl_text(policy, "action"), "block");
}

/* NAT gives a flow no source that such a policy does not select: docs/decisions/0020. */
bool xf_check_nat_policy(void *arg, const json_t *policy)
{
	static const char *const anywhere[] = { "0.0.0.0/0", "::/0" };
	struct xf_check *check = arg;
	const char *src = xf_ctl_text(json_object_get(policy, "selector"), "src");

	for (unsigned i = 0; i < XF_ARRAY_SIZE(anywhere); i++) {
		char *chain = check->source_nat[i];

		if (!*chain || strcmp(src, anywhere[i]) != 0 || !keeps_plaintext_in(policy))
			continue;
		xf_check_add(check, XF_CHECK_NAT,
			     "a policy out has the source %s, and nftables chain \"%s\" has "
			     "source NAT",
			     src, chain);
		*chain = '\0'; /* one finding is enough */
	}
	return *check->source_nat[0] || *check->source_nat[1];
}

void xf_check_nat(struct xf_check *check)
{
	if (check->out && (*check->source_nat[0] || *check->source_nat[1]))
		xf_ctl_each(check->opt, "policy", "policies", xf_check_nat_policy, check);
}
