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

#include "capture/cells.h"
#include "capture/cover.h"
#include "capture/twin.h"
#include "io/io.h"

struct xf_nft_set;
struct xf_policy;
struct xf_spd;
struct xf_capture_stats;

struct xf_capture_ops {
	/* --- nftables; after nft_open() has returned 0, and the table may be missing again --- */

	/* Can rules be changed here? Then there is a table from now on. */
	int (*nft_open)(void *arg, struct xf_io_error *error);

	/* @script in the words of nft(8), as one transaction. */
	int (*nft_run)(void *arg, const char *script, struct xf_io_error *error);

	/*
	 * The element @key of a set comes (@there) or goes; nft_commit() ends what was begun, and
	 * some may be in the kernel before it. After an error any of them may be.
	 */
	int (*nft_element)(void *arg, const struct xf_nft_set *set, const struct xf_cell_key *key,
			   bool there);
	int (*nft_commit)(void *arg);

	/* Call @visit with the name of each set of the table, which it may delete. */
	int (*nft_each_set)(void *arg, void (*visit)(void *visit_arg, const char *name),
			    void *visit_arg);

	/* The table's counters, into those members of *@out. */
	int (*nft_counters)(void *arg, struct xf_capture_stats *out);

	/* Does another program translate addresses here? nat_fd() is readable when that may have
	 * changed, until foreign_nat() is called; -1: nobody tells. iptables tells nobody. */
	int (*nat_fd)(void *arg);
	bool (*foreign_nat)(void *arg);

	/* --- the backstop, after backstop_open() has returned 0; backstop.h --- */

	int (*backstop_open)(void *arg, enum xf_twin_form form, struct xf_io_error *error);
	/* A policy has come or gone; backstop_sync() brings it into force. */
	void (*backstop_policy)(void *arg, const struct xf_policy *policy, bool there);
	int (*backstop_sync)(void *arg, const struct xf_cover *cover, const struct xf_spd *spd);
	/* Onto every device that has it not. */
	int (*backstop_attach)(void *arg, struct xf_io_error *error);
	void (*backstop_stats)(void *arg, struct xf_capture_stats *out);

	/* --- rule and route; route.h --- */

	int (*route_add)(void *arg, struct xf_io_error *error);
};

/* The kernel of this network namespace. */
extern const struct xf_capture_ops xf_kernel_ops;

/* Its @arg. -ENOMEM. */
struct xf_kernel;
int xf_kernel_new(const struct xf_io_names *names, struct xf_kernel **out);
void xf_kernel_free(struct xf_kernel *kernel); /* NULL is allowed */

#endif
