#include <errno.h>
#include <glob.h>
#include <grp.h>
#include <ini.h>
#include <libgen.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "config.h"
#include "crypto_threads.h"
#include "log.h"
#include "capture/capture.h"
#include "port/packet.h"

#define FIELD(name) .offset = offsetof(struct xf_config, name)

enum kind { NUMBER, WORD, BIT, DEVICE, GROUP, DIRECTORY };

struct choice {
	const char *word;
	uint32_t value;
};

static const struct choice log_levels[] = {
	{ "error", XF_LOG_ERROR }, { "warning", XF_LOG_WARNING }, { "notice", XF_LOG_NOTICE },
	{ "info", XF_LOG_INFO },   { "debug", XF_LOG_DEBUG },	  { NULL, 0 },
};

static const struct choice capture_modes[] = {
	{ "auto", XF_CAPTURE_AUTO },
	{ "nft", XF_CAPTURE_NFT },
	{ "tc", XF_CAPTURE_TC },
	{ NULL, 0 },
};

static const struct choice twins[] = {
	{ "auto", XF_TWIN_AUTO },
	{ "netfilter", XF_TWIN_NETFILTER },
	{ "tc", XF_TWIN_TC },
	{ "none", XF_TWIN_NONE },
	{ NULL, 0 },
};

static const struct choice natives[] = {
	{ "auto", XF_NATIVE_AUTO },
	{ "packet", XF_NATIVE_PACKET },
	{ "raw", XF_NATIVE_RAW },
	{ NULL, 0 },
};

static const struct choice yes_or_no[] = {
	{ "no", false },
	{ "yes", true },
	{ NULL, 0 },
};

static const struct choice crypto_suites[] = {
	{ "slow", XF_CRYPTO_THREADS_SLOW },
	{ "all", XF_CRYPTO_THREADS_ALL },
	{ NULL, 0 },
};

/* Every key there is. */
static const struct key {
	const char *section;
	const char *name;
	enum kind kind;
	size_t offset;
	uint32_t min, max;
	const struct choice *choices;
} keys[] = {
	{ "daemon", "workers", NUMBER, FIELD(workers), .min = 1, .max = 64 },
	{ "daemon", "log_level", WORD, FIELD(log_level), .choices = log_levels },
	{ "daemon", "max_clients", NUMBER, FIELD(max_clients), .min = 1, .max = 65536 },
	{ "daemon", "group", GROUP, FIELD(group) },
	{ "engine", "max_sas", NUMBER, FIELD(max_sas), .max = UINT32_MAX },
	{ "engine", "max_policies", NUMBER, FIELD(max_policies), .max = UINT32_MAX },
	{ "engine", "acquire_lifetime", NUMBER, FIELD(acquire_lifetime_s), .max = 86400 },
	{ "engine", "clamp_mss", WORD, FIELD(clamp_mss), .choices = yes_or_no },
	{ "crypto", "threads", NUMBER, FIELD(crypto_threads), .max = XF_CRYPTO_THREADS_MAX },
	{ "crypto", "suites", WORD, FIELD(crypto_suites), .choices = crypto_suites },
	{ "capture", "mode", WORD, FIELD(capture_mode), .choices = capture_modes },
	{ "capture", "twin", WORD, FIELD(twin), .choices = twins },
	{ "capture", "owner", WORD, FIELD(owner), .choices = yes_or_no },
	{ "capture", "tcx", WORD, FIELD(tcx), .choices = yes_or_no },
	{ "capture", "bpffs", DIRECTORY, FIELD(bpffs) },
	{ "capture", "tun", DEVICE, FIELD(tun) },
	{ "capture", "mark_capture", BIT, FIELD(mark_capture) },
	{ "capture", "mark_bypass", BIT, FIELD(mark_bypass) },
	{ "capture", "table", NUMBER, FIELD(table), .min = 256, .max = UINT32_MAX },
	{ "capture", "rule_priority", NUMBER, FIELD(rule_priority), .min = 1, .max = 32765 },
	{ "io", "receive_buffer", NUMBER, FIELD(rcvbuf_bytes), .max = 1u << 30 },
	{ "io", "native", WORD, FIELD(native), .choices = natives },
};

/* One file being read. */
struct reading {
	struct xf_config *cfg;
	FILE *file;
	const char *path;
	int line; /* being read */
	int error_line; /* of the first error in a value; 0 = none */
	char *error;
};

void xf_config_default(struct xf_config *cfg)
{
	const struct xf_io_names *names = &xf_io_names_default;

	*cfg = (struct xf_config){
		.workers = 1,
		.log_level = XF_LOG_INFO,
		.max_clients = 1024,
		.clamp_mss = true,
		.crypto_suites = XF_CRYPTO_THREADS_SLOW,
		.capture_mode = XF_CAPTURE_AUTO,
		.twin = XF_TWIN_AUTO,
		.owner = true,
		.tcx = true,
		.mark_capture = names->mark_capture,
		.mark_bypass = names->mark_bypass,
		.table = names->table,
		.rule_priority = names->rule_priority,
		.native = XF_NATIVE_AUTO,
	};
	snprintf(cfg->tun, sizeof(cfg->tun), "%s", names->tun);
	snprintf(cfg->bpffs, sizeof(cfg->bpffs), "%s", names->bpffs);
}

struct xf_io_names xf_config_names(const struct xf_config *cfg)
{
	return (struct xf_io_names){
		.tun = cfg->tun,
		.mark_capture = cfg->mark_capture,
		.mark_bypass = cfg->mark_bypass,
		.table = cfg->table,
		.rule_priority = cfg->rule_priority,
		.bpffs = cfg->bpffs,
	};
}

static const struct key *find_key(const char *section, const char *name)
{
	for (size_t i = 0; i < XF_ARRAY_SIZE(keys); i++) {
		if (!strcmp(keys[i].section, section) && !strcmp(keys[i].name, name))
			return &keys[i];
	}
	return NULL;
}

static bool has_section(const char *section)
{
	for (size_t i = 0; i < XF_ARRAY_SIZE(keys); i++) {
		if (!strcmp(keys[i].section, section))
			return true;
	}
	return false;
}

/* The first error of a file is the one that is told. */
static int complain(struct reading *r, const char *fmt, ...) XF_PRINTF(2, 3);
static int complain(struct reading *r, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (r->error_line)
		return 0;
	r->error_line = r->line;
	n = snprintf(r->error, XF_CONFIG_ERROR_MAX, "%s:%d: ", r->path, r->line);
	if (n < 0 || n >= XF_CONFIG_ERROR_MAX)
		return 0;
	va_start(ap, fmt);
	vsnprintf(r->error + n, XF_CONFIG_ERROR_MAX - (size_t)n, fmt, ap);
	va_end(ap);
	return 0;
}

static bool parse_number(const char *text, uint32_t *out)
{
	char *end;
	unsigned long v;

	/* strtoul() would take a sign and wrap. */
	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	v = strtoul(text, &end, 0);
	*out = (uint32_t)v;
	return !errno && !*end && v <= UINT32_MAX;
}

static int set_number(struct reading *r, const struct key *key, const char *text, uint32_t *out)
{
	uint32_t v;

	if (!parse_number(text, &v) || v < key->min || v > key->max)
		return complain(r, "%s must be a number from %u to %u, not \"%s\"", key->name,
				key->min, key->max, text);
	*out = v;
	return 1;
}

static int set_bit(struct reading *r, const struct key *key, const char *text, uint32_t *out)
{
	uint32_t v;

	if (!parse_number(text, &v) || v == 0 || (v & (v - 1)))
		return complain(r, "%s must be one bit like 0x40000000, not \"%s\"", key->name,
				text);
	*out = v;
	return 1;
}

static int set_word(struct reading *r, const struct key *key, const char *text, uint32_t *out)
{
	char list[128] = "";
	size_t len = 0;

	for (const struct choice *c = key->choices; c->word; c++) {
		if (!strcmp(c->word, text)) {
			*out = c->value;
			return 1;
		}
		len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s", len ? ", " : "",
					c->word);
	}
	return complain(r, "%s must be one of %s, not \"%s\"", key->name, list, text);
}

static int set_device(struct reading *r, const struct key *key, const char *text, char *out)
{
	size_t len = strlen(text);

	/* The kernel's dev_valid_name(), and no '%', which would make it choose a number. */
	if (len == 0 || len >= XF_CONFIG_TUN_MAX || strpbrk(text, "/:% \t") || !strcmp(text, ".") ||
	    !strcmp(text, ".."))
		return complain(r, "%s must be the name of an interface, not \"%s\"", key->name,
				text);
	memcpy(out, text, len + 1);
	return 1;
}

static int set_directory(struct reading *r, const struct key *key, const char *text, char *out)
{
	size_t len = strlen(text);

	if (*text != '/' || len >= XF_PINS_FS_MAX)
		return complain(r,
				"%s must be the path of a directory, at most %d bytes, not \"%s\"",
				key->name, XF_PINS_FS_MAX - 1, text);
	memcpy(out, text, len + 1);
	return 1;
}

static int set_group(struct reading *r, const struct key *key, const char *text, uint32_t *out)
{
	const struct group *group = getgrnam(text);

	if (!group)
		return complain(r, "%s must be the name of a group, not \"%s\"", key->name, text);
	*out = group->gr_gid;
	return 1;
}

/* inih's handler: 0 marks the line as wrong. */
static int set_value(void *user, const char *section, const char *name, const char *text)
{
	struct reading *r = user;
	const struct key *key = find_key(section, name);
	char *field;

	if (!key && !*section)
		return complain(r, "\"%s\" stands before the first [section]", name);
	if (!key && !has_section(section))
		return complain(r, "there is no section [%s]", section);
	if (!key)
		return complain(r, "section [%s] has no key \"%s\"", section, name);
	field = (char *)r->cfg + key->offset;
	switch (key->kind) {
	case NUMBER:
		return set_number(r, key, text, (void *)field);
	case BIT:
		return set_bit(r, key, text, (void *)field);
	case WORD:
		return set_word(r, key, text, (void *)field);
	case GROUP:
		return set_group(r, key, text, (void *)field);
	case DIRECTORY:
		return set_directory(r, key, text, field);
	case DEVICE:
		break;
	}
	return set_device(r, key, text, field);
}

/* fgets() that counts: Debian's inih does not tell its handler the line. */
static char *read_line(char *buf, int size, void *stream)
{
	struct reading *r = stream;
	char *line = fgets(buf, size, r->file);

	if (line)
		r->line++;
	return line;
}

/* ini_parse_stream() hands one pointer to the reader, another to the handler: here the same. */
static int parse(struct reading *r)
{
	int wrong = ini_parse_stream(read_line, r, set_value, r);

	if (!wrong && !ferror(r->file))
		return 0;
	if (ferror(r->file)) {
		snprintf(r->error, XF_CONFIG_ERROR_MAX, "%s: cannot be read", r->path);
		return -EIO;
	}
	if (r->error_line != wrong) {
		r->error_line = 0;
		r->line = wrong;
		complain(r, "expected \"[section]\" or \"key = value\"");
	}
	return -EINVAL;
}

static int load_file(struct xf_config *cfg, const char *path, bool required, char *error)
{
	struct reading r = { .cfg = cfg, .path = path, .error = error };
	int err;

	r.file = fopen(path, "re");
	if (!r.file) {
		err = -errno;
		if (err == -ENOENT && !required)
			return 0;
		snprintf(error, XF_CONFIG_ERROR_MAX, "%s: %s", path, strerror(-err));
		return err;
	}
	err = parse(&r);
	fclose(r.file);
	return err;
}

static int load_dropins(struct xf_config *cfg, const char *path, char *error)
{
	char copy[PATH_MAX];
	char pattern[PATH_MAX + 16];
	glob_t found;
	int err = 0;

	snprintf(copy, sizeof(copy), "%s", path);
	snprintf(pattern, sizeof(pattern), "%s/conf.d/*.conf", dirname(copy));
	if (glob(pattern, 0, NULL, &found))
		return 0;
	for (size_t i = 0; i < found.gl_pathc && !err; i++)
		err = load_file(cfg, found.gl_pathv[i], true, error);
	globfree(&found);
	return err;
}

int xf_config_load(struct xf_config *cfg, const char *path, bool required,
		   char error[XF_CONFIG_ERROR_MAX])
{
	int err = load_file(cfg, path, required, error);

	if (!err)
		err = load_dropins(cfg, path, error);
	if (!err && cfg->mark_capture == cfg->mark_bypass) {
		snprintf(error, XF_CONFIG_ERROR_MAX,
			 "%s: mark_capture and mark_bypass must be different bits", path);
		err = -EINVAL;
	}
	return err;
}
