/*
 * meta.h - mark, interface and user of captured packets: the program on the TUN's egress.
 *
 * Control thread. Like the rules of capture.h it outlives the process.
 */
#ifndef XF_PORT_META_H
#define XF_PORT_META_H

#include "port/io.h"

/*
 * Put the program (bpf/meta.bpf.c) onto the TUN. 0 or -errno with a sentence: without it packets
 * are captured all the same, but have mark 0 for policies.
 */
int xf_meta_attach(const struct xf_io_names *names, struct xf_io_error *error);

/* Is there a program on the TUN, where ours has its place? */
bool xf_meta_is_attached(unsigned ifindex);

#endif
