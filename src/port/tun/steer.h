/*
 * steer.h - which queue of the TUN a packet takes: the program on the device.
 *
 * Control thread. It stays with the persistent device.
 */
#ifndef XF_PORT_STEER_H
#define XF_PORT_STEER_H

#include "port/io.h"

/*
 * Put the program (bpf/steer.bpf.c) onto the device of @tun_fd. 0 or -errno: without it the device
 * steers by itself, and workers see packets of one flow in turns.
 */
int xf_steer_attach(int tun_fd);

#endif
