/* How what goes on its way unchanged may be cut: as the kernel would have forwarded it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "port/backend.h"

#define MTU 1400u

struct row {
	uint16_t family;
	bool df;
	bool local;
	uint32_t largest; /* of its fragments; 0: it came whole */
	bool cut;
	uint32_t piece;
};

static const struct row rows[] = {
	{ XF_AF_INET, false, false, 0, true, MTU },
	{ XF_AF_INET, true, false, 0, false, MTU },
	{ XF_AF_INET, true, true, 0, false, MTU },
	{ XF_AF_INET, false, false, 700, true, 700 },
	{ XF_AF_INET, false, false, 1500, true, MTU },
	/* Fragments with DF may be made again, but not smaller ones. */
	{ XF_AF_INET, true, false, 1400, true, MTU },
	{ XF_AF_INET, true, false, 1401, false, MTU },
	{ XF_AF_INET6, false, false, 0, false, MTU },
	{ XF_AF_INET6, false, true, 0, true, MTU },
	{ XF_AF_INET6, false, false, 1300, true, 1300 },
};

static void cut_as_the_kernel_does(void **state)
{
	(void)state;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(rows); i++) {
		const struct row *row = &rows[i];
		const struct xf_ip_info ip = { .family = row->family, .df = row->df };
		const struct xf_pkt pkt = { .mtu = row->largest, .local = row->local };

		print_message("# row %u\n", i);
		assert_int_equal(xf_tx_may_cut(&pkt, &ip, MTU), row->cut);
		assert_int_equal(xf_tx_piece_mtu(&pkt, MTU), row->piece);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(cut_as_the_kernel_does) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
