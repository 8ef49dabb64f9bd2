/*
 * quiet.h - libbpf says nothing on stderr: whoever calls it says by itself what has failed.
 *
 * What prints is one for the process. Control thread.
 */
#ifndef XF_HOST_QUIET_H
#define XF_HOST_QUIET_H

#include <bpf/libbpf.h>

/* Who has printed until now is returned, for libbpf_set_print(). */
libbpf_print_fn_t xf_libbpf_quiet(void);

#endif
