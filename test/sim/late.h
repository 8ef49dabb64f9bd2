/*
 * late.h - a crypto provider that answers when it likes: late, in any order, with failures.
 *
 * The work itself is the best provider's, done when the operation is let go.
 */
#ifndef XF_TEST_LATE_H
#define XF_TEST_LATE_H

#include <xf/crypto.h>

#define LATE_RING 50 /* operations that a context takes: less than one flight may have */

extern const struct xf_crypto_provider late_provider;

/* From then on complete() lets each operation go with this chance, in percent; 100: all. */
void late_set_chance(uint32_t percent);

/* An operation for which this is true fails. NULL: none does. */
void late_set_failing(bool (*fails)(const struct xf_crypto_op *op));

/* Operations that were let go in another order than they came. */
unsigned late_shuffled(void);

#endif
