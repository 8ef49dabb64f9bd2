/*
 * ops.h - what capture.c does to the host, as a table: the kernel's is in kernel.c, and a model can
 * stand for it.
 *
 * Control thread. Functions return 0 or -errno; where they have @error, with a sentence in it,
 * which may be NULL. What fails has changed nothing, unless it says otherwise. @arg is the table's
 * own.
 */
#ifndef XF_CAPTURE_OPS_H
#define XF_CAPTURE_OPS_H

#include "capture/nft/cells.h"
#include "capture/nft/cover.h"
#include "capture/exempt.h"
#include "capture/repair/heal.h"
#include "capture/programs/twin.h"
#include "port/io.h"

/* Somebody else has changed a part of what stands, or may have. */
struct xf_capture_event {
	enum xf_heal_part part;
	bool sure; /* else look (inspect(), nft_read()) */
	uint32_t ifindex; /* of the device that it is about; 0: of none */
	char what[XF_HEAL_TEXT]; /* "nftables table xfrmd was deleted by nft (pid 7)" */
};

/* What stands of TUN, rule and route. An address family that the host has not counts as there. */
struct xf_capture_seen {
	bool tun; /* in this namespace, the one that we read from */
	bool tun_named; /* as it should be */
	bool tun_ready; /* up, with its MTU and sysctls */
	bool tun_marks; /* with its program for marks, where that can be had */
	bool rule; /* before others that would take what is captured elsewhere */
	bool route; /* into the TUN, and the black hole behind it, and nothing else in the table */
	bool rule_behind; /* there is one, but behind others */
	bool strangers; /* somebody has routes in the table */
	uint32_t taker; /* priority of a rule that we may not come before; UINT32_MAX: none */
};

/* What stands of the nftables table: the same numbers again, the same table. */
struct xf_nft_seen {
	bool there;
	uint64_t digest; /* of flags, chains, rules, sets, by handles; family bridge, too */
	uint64_t elements; /* of its sets: the sum of nft_element_digest(); 0 unless asked for */
};

/* NFPROTO_* of our tables. */
enum xf_nft_family { XF_NFT_INET = 1, XF_NFT_BRIDGE = 7 };

struct xf_nft_set;
struct xf_policy;
struct xf_spd;
struct xf_capture_config;
struct xf_conntrack_changes;
struct xf_capture_counts;
struct xf_capture_stats;

struct xf_capture_ops {
	/* --- nftables; after nft_open() has returned 0, and the table may be missing again --- */

	/* Can rules be changed here? Then there is a table from now on. */
	int (*nft_open)(void *arg, struct xf_io_error *error);

	/*
	 * The table of @family is there from now on, with what is in it. *@shared says why others
	 * may change it, in words for "it has no owner: …"; NULL: it is ours alone.
	 */
	int (*nft_table)(void *arg, enum xf_nft_family family, const char **shared,
			 struct xf_io_error *error);

	/* @script in the words of nft(8), as one transaction; it does not make tables that are
	 * ours alone. */
	int (*nft_run)(void *arg, const char *script, struct xf_io_error *error);

	/*
	 * The element @key of a set comes (@there) or goes; nft_commit() ends what was begun, and
	 * some may be in the kernel before it. After an error any of them may be.
	 */
	int (*nft_element)(void *arg, const struct xf_nft_set *set, const struct xf_cell_key *key,
			   bool there);
	int (*nft_commit)(void *arg);
	/* What nft_read() makes of that element. NULL where that is. */
	uint64_t (*nft_element_digest)(const struct xf_nft_set *set, const struct xf_cell_key *key);

	/* Call @visit with the name of each set of the table, which it may delete. */
	int (*nft_each_set)(void *arg, void (*visit)(void *visit_arg, const char *name),
			    void *visit_arg);

	/* Call @visit with what a script calls each chain of the table of @family. */
	int (*nft_each_chain)(void *arg, enum xf_nft_family family,
			      void (*visit)(void *visit_arg, const char *which), void *visit_arg);

	/* The table's counters, into those members of *@out. */
	int (*nft_counters)(void *arg, struct xf_capture_counts *out);

	/* Does another program translate addresses here? nat_fd() is readable when that may have
	 * changed, until foreign_nat() is called; -1: nobody tells. iptables tells nobody. */
	int (*nat_fd)(void *arg);
	bool (*foreign_nat)(void *arg);
	/* Forget what has made nat_fd() readable. False: nothing but changes of our own table.
	 * NULL: it cannot be told. */
	bool (*nat_changed)(void *arg);

	/* Entries of connection tracking that @changes contradict are deleted; conntrack.h. */
	int (*conntrack_clean)(void *arg, struct xf_conntrack_changes *changes,
			       const struct xf_spd *spd, uint64_t *deleted,
			       struct xf_io_error *error);

	/* --- the backstop, after backstop_open() has returned 0; backstop.h --- */

	int (*backstop_open)(void *arg, enum xf_twin_form form, struct xf_io_error *error);
	/* A policy has come or gone; backstop_sync() brings it into force. */
	void (*backstop_policy)(void *arg, const struct xf_policy *policy, bool there);
	int (*backstop_sync)(void *arg, const struct xf_cover *cover, const struct xf_spd *spd);
	/* Onto every device that has it not. */
	int (*backstop_attach)(void *arg, struct xf_io_error *error);
	/* Into *@out: programs, and those members of its counts. */
	void (*backstop_stats)(void *arg, struct xf_capture_stats *out);

	/* Whom no policy is asked about, by the host's sysctls; the caller's. NULL: nobody. */
	int (*exempt_read)(void *arg, struct xf_exempt *out);

	/* --- rule and route; route.h --- */

	int (*route_add)(void *arg, struct xf_io_error *error);

	/* --- what others do; all of these NULL: nothing is followed, nothing healed --- */

	/* Begin to listen. Returns a descriptor, readable when there is something to tell. */
	int (*watch)(void *arg, struct xf_io_error *error);
	/* Tell what has come since, without blocking. What this process did is not told. */
	void (*events)(void *arg, void (*tell)(void *tell_arg, const struct xf_capture_event *ev),
		       void *tell_arg);
	int (*inspect)(void *arg, struct xf_capture_seen *out);
	int (*nft_read)(void *arg, bool elements, struct xf_nft_seen *out);
	/* Has any transaction of anybody come in since the last event that was told? */
	bool (*nft_has_changed)(void *arg);
	/* Is the backstop still at all devices? False: @device (XF_DEVICE_NAME) has it not, and
	 * no event tells of that. */
	bool (*backstop_stands)(void *arg, char *device);
	/* A TUN of our name that the workers read from, in place of one that is gone. */
	int (*tun_make)(void *arg, struct xf_io_error *error);
	/* Give ours its name, its settings and its programs again, and bring it up. */
	int (*tun_mend)(void *arg, struct xf_io_error *error);
};

/* The kernel of this network namespace. */
extern const struct xf_capture_ops xf_kernel_ops;

/* Its @arg. -ENOMEM. */
struct xf_kernel;
int xf_kernel_new(const struct xf_capture_config *cfg, struct xf_kernel **out);
void xf_kernel_free(struct xf_kernel *kernel); /* NULL is allowed */

#endif
