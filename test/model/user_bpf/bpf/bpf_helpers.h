/*
 * What programs for the kernel ask of it, for those that run here instead (fake_egress.c,
 * fake_twin.c): found in place of libbpf's header of this name.
 *
 * Maps are weak symbols, so that those of the same name in two programs are one, as in the kernel.
 */
#ifndef TEST_USER_BPF_HELPERS_H
#define TEST_USER_BPF_HELPERS_H

#include <linux/bpf.h>

#include "fake_programs.h"

#define SEC(name) __attribute__((weak))
#define __ksym
#define __uint(name, val) int(*name)[val]
#define __type(name, val) typeof(val) *name
/* Two programs have functions of the same name, which are global for the verifier's sake. */
#define __noinline static
#undef __always_inline
#define __always_inline inline

static inline void *bpf_map_lookup_elem(const void *map, const void *key)
{
	return fake_map_lookup(map, key);
}

static inline long bpf_probe_read_kernel(void *to, __u32 len, const void *from)
{
	__builtin_memcpy(to, from, len);
	return 0;
}

static inline long bpf_loop(__u32 n, long (*step)(__u32 i, void *arg), void *arg, __u64 flags)
{
	__u32 i = 0;

	(void)flags;
	while (i < n && !step(i, arg))
		i++;
	return i;
}

static inline long bpf_skb_load_bytes_relative(const struct __sk_buff *skb, __u32 off, void *to,
					       __u32 len, __u32 start)
{
	(void)skb;
	(void)start;
	return fake_load_bytes(off, to, len) ? 0 : -1;
}

static inline long bpf_dynptr_read(void *to, __u32 len, const struct bpf_dynptr *from, __u32 off,
				   __u64 flags)
{
	(void)from;
	(void)flags;
	return fake_load_bytes(off, to, len) ? 0 : -1;
}

static inline struct bpf_sock *bpf_sk_fullsock(struct bpf_sock *sk)
{
	return sk;
}

/* No socket of the model is asked for by a packet that comes. */
static inline struct bpf_sock *bpf_sk_lookup_udp(struct __sk_buff *skb,
						 struct bpf_sock_tuple *tuple, __u32 len,
						 __u64 netns, __u64 flags)
{
	(void)skb;
	(void)tuple;
	(void)len;
	(void)netns;
	(void)flags;
	return NULL;
}

#define bpf_sk_lookup_tcp bpf_sk_lookup_udp

static inline long bpf_sk_release(struct bpf_sock *sk)
{
	(void)sk;
	return 0;
}

static inline long bpf_redirect(__u32 ifindex, __u64 flags)
{
	(void)flags;
	fake_redirect(ifindex);
	return 7; /* TC_ACT_REDIRECT */
}

/* The host of the model is a router. */
static inline long bpf_fib_lookup(struct __sk_buff *skb, struct bpf_fib_lookup *fib, int len,
				  __u32 flags)
{
	(void)skb;
	(void)fib;
	(void)len;
	(void)flags;
	return BPF_FIB_LKUP_RET_SUCCESS;
}

#endif
