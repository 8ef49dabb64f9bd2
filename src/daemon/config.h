/*
 * config.h - /etc/xfrmd/xfrmd.conf and the conf.d/ beside it (xfrmd.conf(5)).
 *
 * Read once, before threads start; constant from then on.
 */
#ifndef XF_DAEMON_CONFIG_H
#define XF_DAEMON_CONFIG_H

#include "host/pins.h"
#include "port/io.h"

#define XF_CONFIG_PATH "/etc/xfrmd/xfrmd.conf"
#define XF_CONFIG_TUN_MAX 16
#define XF_CONFIG_ERROR_MAX 512

struct xf_config {
	uint32_t workers;
	uint32_t log_level; /* enum xf_log_level */
	uint32_t max_clients;
	uint32_t group; /* id of the group whose members may connect; 0 = root alone */
	uint32_t max_sas; /* 0 = no limit but memory */
	uint32_t max_policies; /* likewise */
	uint32_t acquire_lifetime_s; /* 0 = as net.core.xfrm_acq_expires says */
	uint32_t clamp_mss; /* a bool */
	uint32_t crypto_threads; /* 0 = workers do the ciphers' work themselves */
	uint32_t crypto_suites; /* enum xf_crypto_threads_for */
	uint32_t capture_mode; /* enum xf_capture_mode */
	uint32_t twin; /* enum xf_twin_form */
	uint32_t owner; /* a bool */
	uint32_t tcx; /* a bool */
	uint32_t mark_capture;
	uint32_t mark_bypass;
	uint32_t table;
	uint32_t rule_priority;
	uint32_t rcvbuf_bytes; /* 0 = what I/O thinks best */
	uint32_t native; /* enum xf_native */
	char tun[XF_CONFIG_TUN_MAX];
	char bpffs[XF_PINS_FS_MAX];
};

/* The names by which kernel and daemon know each other; they point into @cfg. */
struct xf_io_names xf_config_names(const struct xf_config *cfg);

/* What holds without a file. */
void xf_config_default(struct xf_config *cfg);

/*
 * Read @path, then every "*.conf" in the directory "conf.d" beside it in the order of their
 * names; later values win. A missing @path is an error only when @required. Returns 0 or -errno
 * (-EINVAL for bad contents) with one sentence in @error that names file and line.
 */
int xf_config_load(struct xf_config *cfg, const char *path, bool required,
		   char error[XF_CONFIG_ERROR_MAX]);

#endif
