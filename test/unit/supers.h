/*
 * supers.h - super-packets for tests, and a naive cutter: bytes in arrays, sums byte by byte.
 */
#ifndef XF_TEST_SUPERS_H
#define XF_TEST_SUPERS_H

#include "packets.h"

#define SUPER_LEN_MAX 65535u

/* One of TCP or UDP over IPv4 or IPv6; what a sender's stack would hand to a device. */
struct super {
	uint16_t family;
	uint8_t proto;
	uint8_t flags; /* TCP */
	uint8_t tos;
	uint8_t ttl;
	bool df;
	uint16_t id;
	uint16_t sport;
	uint16_t dport;
	uint32_t seq;
	uint32_t ack;
	uint16_t window;
	uint32_t options_len; /* TCP, a multiple of 4 */
	uint32_t flow_label;
	uint32_t gso_size;
	uint32_t payload_len;
};

/* Fields at random, @payload_len at most as given; nothing that a cutter would refuse. */
void supers_random(struct super *s, uint32_t payload_max);

/* Headers and payload, checksum as for CHECKSUM_PARTIAL. Returns the length. */
uint32_t supers_write(const struct super *s, uint8_t *out);

/* The number of packets that it stands for, and the one of index @i: its length. */
uint32_t supers_count(const struct super *s);
uint32_t supers_cut(const struct super *s, const uint8_t *whole, uint32_t i, uint8_t *out);

/* The same of any super-packet whose bytes, gso_size and protocol are given. */
uint32_t supers_cut_bytes(const uint8_t *whole, uint32_t len, uint32_t gso_size, uint32_t i,
			  uint8_t *out);

/* Make the checksums of a packet right: IPv4 header, TCP or UDP. */
void supers_sum(uint8_t *p, uint32_t len);

/*
 * Put a routing header with one segment left into an IPv6 packet: the checksum stays that for the
 * destination, which moves there, and the IPv6 header names another hop. Returns the new length.
 */
#define SUPERS_ROUTE_LEN 24
uint32_t supers_route(uint8_t *p, uint32_t len);

/* gso_type and the rest of the metadata for the bytes that supers_write() wrote. */
void supers_mark(const struct super *s, struct xf_pkt *pkt);

#endif
