/* Workers over an engine, with sources of a test's own and without sockets. */
#ifndef TEST_IO_RIG_H
#define TEST_IO_RIG_H

#include "port/backend.h"

/* An engine that forwards everything, and calls no address its own. */
struct xf_engine *rig_engine(void);

/* Sources that are shared, none of them open. */
struct xf_io_shared *rig_shared(void);

/* One worker of several, joined to @shared: for xf_io_run() and xf_io_free(). */
struct xf_io *rig_io(struct xf_engine *engine, struct xf_io_shared *shared);

/* Into a network namespace of our own, where TUNs may be made, or the test is skipped. Without root
 * a user namespace gives the right to it. @self: argv[0], which is run again there. */
void rig_enter_namespace(char *self);

#endif
