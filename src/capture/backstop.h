/*
 * backstop.h - the tc program: loading it, its maps, the devices that it is on.
 *
 * Control thread. Functions return 0 or -errno, with a sentence in @error where they have that.
 * Program and maps stay in the kernel when the process goes.
 */
#ifndef XF_CAPTURE_BACKSTOP_H
#define XF_CAPTURE_BACKSTOP_H

#include "capture/cover.h"
#include "io/io.h"

struct xf_backstop;

/* Load, with no rules yet. -EOPNOTSUPP and others: this kernel or container has no such BPF. */
int xf_backstop_new(const struct xf_io_names *names, struct xf_backstop **out,
		    struct xf_io_error *error);
void xf_backstop_free(struct xf_backstop *backstop);

/*
 * What the program looks for: destinations in the cells of a cover, and there, the rules of the
 * SPD, or no more (xf_backstop_by_destination()). Rules change at once, from one packet to the
 * next; xf_backstop_follow() brings the pending cells of @cover in and out and notes it in their
 * `at`. Of these three there is only -errno.
 */
int xf_backstop_follow(struct xf_backstop *backstop, const struct xf_cover *cover);
int xf_backstop_sync(struct xf_backstop *backstop, const struct xf_spd *spd);
int xf_backstop_by_destination(struct xf_backstop *backstop);

/* Put the program onto every device there is, where they are not yet. */
int xf_backstop_attach(struct xf_backstop *backstop, struct xf_io_error *error);

/* How many devices have it, and how many packets were dropped since xf_backstop_new(). */
unsigned xf_backstop_devices(const struct xf_backstop *backstop);
uint64_t xf_backstop_dropped(const struct xf_backstop *backstop);

/* Take the program off every device, whoever put it there. */
int xf_backstop_release(struct xf_io_error *error);

#endif
