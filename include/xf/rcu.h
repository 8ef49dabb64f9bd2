/*
 * rcu.h - the read side of RCU, and its reclamation: one place for liburcu (QSBR).
 *
 * Every thread that reads SAD or SPD registers first. A reader's section ends at the next
 * xf_read_quiescent() or xf_read_offline(); go offline before blocking. The TSan build replaces
 * liburcu, which gives false races there, by C11 atomics (DESIGN s3).
 *
 * There is one RCU in a process, so its control thread is that of all engines.
 */
#ifndef XF_RCU_H
#define XF_RCU_H

#include <xf/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Embedded in what is freed by xf_rcu_defer(). */
struct xf_rcu_head {
	struct xf_rcu_head *next;
	void (*func)(struct xf_rcu_head *head);
};

void xf_read_register(void);
void xf_read_unregister(void);
void xf_read_online(void);
void xf_read_offline(void);
void xf_read_quiescent(void);

/* Sections for readers; free of cost with QSBR, checked in debug builds. */
void xf_read_begin(void);
void xf_read_end(void);

/*
 * Call @func(@head) after a grace period, in the control thread, from a later xf_rcu_drain().
 * Any thread; takes no lock and never runs @func itself.
 */
void xf_rcu_defer(struct xf_rcu_head *head, void (*func)(struct xf_rcu_head *head));

/*
 * Wait for a grace period, then run all that was deferred. Control thread only, and once in each
 * turn of its loop: what is deferred is freed by nothing else. Costs nothing when there is none.
 */
void xf_rcu_drain(void);

#ifdef __cplusplus
}
#endif

#endif
