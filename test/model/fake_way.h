/*
 * fake_way.h - the inside of fake_path.c and fake_daemon.c: a packet on its way.
 *
 * True: it has come to an end that somebody wanted. False: it is lost.
 */
#ifndef TEST_FAKE_WAY_H
#define TEST_FAKE_WAY_H

#include "fake_host.h"

/* @by whom. Returns false. */
bool fake_path_lose(struct fake_journey *j, const char *by);

/* A socket of this host has sent it. */
bool fake_path_send_out(struct fake_host *host, struct fake_journey *j);

/* It has entered the TUN, from which a worker reads it. */
bool fake_daemon_reads(struct fake_host *host, struct fake_journey *j);

#endif
