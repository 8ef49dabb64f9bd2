/*
 * backstop.h - the programs at devices and at netfilter's hooks, and the policies that they go by.
 *
 * Control thread. Functions return 0 or -errno, with a sentence in @error where they have that.
 * Programs at devices, and their maps, stay in the kernel when the process goes.
 */
#ifndef XF_CAPTURE_BACKSTOP_H
#define XF_CAPTURE_BACKSTOP_H

#include "capture/counters.h"
#include "capture/nft/cover.h"
#include "capture/programs/devices.h"
#include "capture/programs/twin.h"
#include "port/io.h"

struct xf_backstop;

/*
 * Load, with no policies yet. @links: onto devices by pinned links, where they can be had.
 * -EOPNOTSUPP and others: this kernel or container has no such BPF.
 */
int xf_backstop_new(const struct xf_io_names *names, enum xf_twin_form form, bool links,
		    struct xf_backstop **out, struct xf_io_error *error);
void xf_backstop_free(struct xf_backstop *backstop);

/* So many policies will be told of. */
void xf_backstop_reserve(struct xf_backstop *backstop, size_t policies);

/* A policy has come or gone; the programs hear of it by xf_backstop_sync(). */
void xf_backstop_policy(struct xf_backstop *backstop, const struct xf_policy *policy, bool there);

/*
 * Tell the programs: destinations in the pending cells of @cover (noted in their `at`), policies,
 * and where the kernel keeps what NAT does. For a policy that changes, a few map operations. Of a
 * direction with more policies than there is room for, destinations decide (out), or nobody (in,
 * fwd: xf_backstop_stats tells).
 */
int xf_backstop_sync(struct xf_backstop *backstop, const struct xf_cover *cover,
		     const struct xf_spd *spd);

/* Put the programs onto every device there is, where they are not yet, and at netfilter's hooks. */
int xf_backstop_attach(struct xf_backstop *backstop, struct xf_io_error *error);

/* Are the programs still at their devices? Of links nobody tells. False: at @name they are not. */
bool xf_backstop_stands(const struct xf_backstop *backstop, char name[XF_DEVICE_NAME]);

/* Are they there by links? Then filters of tc are nothing to it. */
bool xf_backstop_is_linked(const struct xf_backstop *backstop);

struct xf_backstop_stats {
	unsigned devices; /* with the programs */
	bool more; /* xf_backstop_attach() has more to do */
	const char *bare; /* devices that have no room for them; "": none */
	const char *no_links; /* why they are not there by links; NULL: they are */
	enum xf_twin_form twin; /* in force: XF_TWIN_NETFILTER, XF_TWIN_TC or XF_TWIN_NONE */
	const char *why; /* it is not netfilter, or does not know all policies; "" */
	bool knows_nat; /* at devices: what NAT has taken out of a policy does not leave */
};
void xf_backstop_get_stats(const struct xf_backstop *backstop, struct xf_backstop_stats *out);

/* What the programs have counted, into those members of *@out. */
void xf_backstop_get_counts(const struct xf_backstop *backstop, struct xf_capture_counts *out);

/* For tests: the program at the egress, or the ingress, of devices. */
int xf_backstop_fd(const struct xf_backstop *backstop, bool ingress);

/* Take the programs off every device, whoever put them there. */
int xf_backstop_release(const char *bpffs, struct xf_io_error *error);

#endif
