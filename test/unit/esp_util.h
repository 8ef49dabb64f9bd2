/*
 * esp_util.h - what tests of the ESP transform share: SAs and their twins, one packet through the
 * whole transform, packets forged by other code than the engine's.
 */
#ifndef XF_TEST_ESP_UTIL_H
#define XF_TEST_ESP_UTIL_H

#include "crypto_util.h"
#include "packets.h"

#include "sad/sa.h"

#include <xf/esp.h>

#define ESP_SPI 0x51525354u
#define ESP_NOW (100 * XF_NSEC_PER_SEC)

/* Around each test: the pool of its packets, and rand() from the beginning. */
extern struct xf_pool *esp_pool;
int esp_setup(void **state);
int esp_teardown(void **state);

/* An SA of @family in @mode with lifetimes unlimited, window 64; the rest is zero. */
struct xf_sa_config esp_config(uint16_t family, uint8_t mode, const struct xf_suite *suite);

/* SAs from one configuration share the key. They are in no table: the caller puts them, before
 * esp_crypto_done(). */
struct xf_sa *esp_sa(const struct xf_sa_config *cfg);
struct xf_sa *esp_sa_of(const struct xf_sa_config *cfg, struct xf_key *key, const uint8_t *seed);

/* Suites that stand for their kind. */
extern const struct xf_suite suite_gcm, suite_cbc, suite_ctr, suite_null, suite_gmac, suite_ccm;

/* Do the cipher's work. */
void esp_crypto(struct xf_transform_op *op);

/* Free what SAs and ciphers have needed. */
void esp_crypto_done(void);

/* @pkt through one SA, with all three steps. A packet that is refused is still the caller's. */
enum xf_drop esp_seal(struct xf_sa *sa, struct xf_pkt *pkt, struct xf_transform_op *op);
enum xf_drop esp_open(struct xf_sa *sa, struct xf_pkt *pkt, struct xf_transform_op *op);

/* Start of the ESP header in the outer packet that @ip describes. */
uint32_t esp_at(const struct xf_ip_info *ip);

/* Set numbers: last one sent, newest one received. */
void esp_set_seq(struct xf_sa *sa, uint64_t seq_out, uint64_t seq_in);

/*
 * Write an outer packet for @sa with @text as what is encrypted, trailer included, and the right
 * ICV; everything laid out here, by the RFCs. Returns its length.
 */
uint32_t esp_forge(struct xf_sa *sa, uint64_t seq, const uint8_t *text, uint32_t len, uint8_t *out);

#endif
