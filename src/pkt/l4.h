/*
 * l4.h - where things stand in the headers of TCP (RFC 9293 s3.1) and UDP (RFC 768).
 *
 * Offsets and lengths are bytes.
 */
#ifndef XF_PKT_L4_H
#define XF_PKT_L4_H

#define TCP_HDR_LEN 20u /* without options */
#define TCP_SEQ 4
#define TCP_ACK 8
#define TCP_OFFSET 12
#define TCP_FLAGS 13
#define TCP_WINDOW 14
#define TCP_CSUM 16
#define TCP_URGENT 18

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_PSH 0x08
#define TCP_URG 0x20
#define TCP_CWR 0x80

#define UDP_LEN 4
#define UDP_CSUM 6

#endif
