/*
 * fake_bpf.h - libbpf's part of the kernel, for src/capture/programs/backstop.c as it is: maps that
 * the programs of fake_programs.h read, and devices to put these on.
 *
 * One at a time in a process, since libbpf's functions know no argument of ours.
 */
#ifndef TEST_FAKE_BPF_H
#define TEST_FAKE_BPF_H

#include <stdbool.h>
#include <stdint.h>

#include "capture/programs/devices.h"

/* What the host decides. */
struct fake_bpf_host {
	bool (*fails)(void *arg); /* this operation, now? */
	void (*pause)(void *arg); /* time for others, between two operations */
	/* Put programs onto all devices; returns how many there are. *@tun: its number, while
	 * up. */
	unsigned (*attach)(void *arg, const struct xf_devices_config *programs, uint32_t *tun);
	/* Are they all there? False: a device's name in @name. */
	bool (*stands)(void *arg, const struct xf_devices_config *programs, char *name);
	void *arg;
	bool netfilter; /* this kernel has links at its hooks */
};

void fake_bpf_start(const struct fake_bpf_host *host);
void fake_bpf_stop(void);

/* The daemon's descriptors go: links end, programs at devices stay, with their maps. */
void fake_bpf_end_daemon(void);

/* Are the links at netfilter's hooks there? */
bool fake_bpf_has_links(void);

#endif
