/*
 * tc_filter.h - which filters of a device are ours: first in the chain, with a handle that nobody
 * picks by accident.
 */
#ifndef XF_BPF_TC_FILTER_H
#define XF_BPF_TC_FILTER_H

#define XF_TC_PRIORITY 1
#define XF_TC_HANDLE 0x7866
/* Of the program on the TUN, where nothing of others stands before it. */
#define XF_TC_META_PRIORITY 0x7866

#endif
