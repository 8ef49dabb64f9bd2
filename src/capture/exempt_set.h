/*
 * exempt_set.h - what disable_policy exempts from the policies in and fwd, as workers ask for it.
 *
 * Made from what exempt.h has read; constant once it is published. One thread makes it, any may
 * ask it.
 */
#ifndef XF_CAPTURE_EXEMPT_SET_H
#define XF_CAPTURE_EXEMPT_SET_H

#include "capture/exempt.h"

struct xf_exempt_set;

/* Make *@out, or NULL where @exempt has nothing that it is asked for. 0 or -ENOMEM. */
int xf_exempt_set_new(const struct xf_exempt *exempt, struct xf_exempt_set **out);
void xf_exempt_set_free(struct xf_exempt_set *set); /* NULL is allowed */
void xf_exempt_set_defer(struct xf_exempt_set *set); /* after a grace period; likewise */

/* Is no policy asked about what comes to @daddr by the device @iif (0: not known)? */
bool xf_exempt_set_has(const struct xf_exempt_set *set, const union xf_addr *daddr, uint16_t family,
		       uint32_t iif);

#endif
