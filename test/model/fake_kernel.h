/*
 * fake_kernel.h - struct xf_capture_ops over fake_nft.h and a backstop that is a list, with faults.
 */
#ifndef TEST_FAKE_KERNEL_H
#define TEST_FAKE_KERNEL_H

#include "capture/ops.h"

#include "fake_nft.h"

struct fake_backstop;

struct fake_kernel {
	struct fake_nft *nft;
	struct fake_backstop *backstop;
	struct xf_exempt exempt;
	bool owned; /* the table is capture.c's alone */
	unsigned faults; /* one of so many calls to nftables fails; 0: none */
	unsigned fail_next; /* so many fail, without having done anything */
	unsigned fault_count;
};

extern const struct xf_capture_ops fake_kernel_ops; /* arg: a struct fake_kernel */

void fake_kernel_init(struct fake_kernel *kernel);
void fake_kernel_fini(struct fake_kernel *kernel);

/* Is @p, which is about to leave in clear, dropped by the backstop? */
bool fake_backstop_drops(const struct fake_kernel *kernel, const struct fake_packet *p);

/* Random numbers below @n, of rand(). */
uint32_t below(uint32_t n);

#endif
