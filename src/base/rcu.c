/*
 * The TSan build (XF_RCU_C11) counts epochs with C11 atomics: TSan does not see the barriers of
 * Debian's liburcu and reports races that are none (DESIGN s3).
 */
#include <assert.h>
#include <stdatomic.h>

#include <xf/rcu.h>

/* A stack that any thread pushes to and the control thread takes as a whole. */
static _Atomic(struct xf_rcu_head *) deferred;

/* Read sections may nest; a thread that goes quiescent inside one has a bug. */
static _Thread_local unsigned section_depth;

static void grace_period(void);

void xf_rcu_defer(struct xf_rcu_head *head, void (*func)(struct xf_rcu_head *head))
{
	struct xf_rcu_head *top = atomic_load_explicit(&deferred, memory_order_relaxed);

	head->func = func;
	do {
		head->next = top;
	} while (!atomic_compare_exchange_weak_explicit(&deferred, &top, head, memory_order_release,
							memory_order_relaxed));
}

void xf_rcu_drain(void)
{
	struct xf_rcu_head *head;

	assert(section_depth == 0);
	while ((head = atomic_exchange_explicit(&deferred, NULL, memory_order_acquire))) {
		grace_period();
		while (head) {
			struct xf_rcu_head *next = head->next;

			head->func(head);
			head = next;
		}
	}
}

void xf_read_begin(void)
{
	section_depth++;
}

void xf_read_end(void)
{
	assert(section_depth > 0);
	section_depth--;
}

#ifdef XF_RCU_C11

#include <pthread.h>
#include <sched.h>

/* A reader's counter: 0 = offline, else the epoch that it has seen. */
struct reader {
	_Atomic uint64_t seen;
	struct reader *next;
};

static _Atomic uint64_t epoch = 1;
static pthread_mutex_t readers_lock = PTHREAD_MUTEX_INITIALIZER;
static struct reader *readers;
static _Thread_local struct reader self;

void xf_read_register(void)
{
	pthread_mutex_lock(&readers_lock);
	self.next = readers;
	readers = &self;
	pthread_mutex_unlock(&readers_lock);
	xf_read_online();
}

void xf_read_unregister(void)
{
	xf_read_offline();
	pthread_mutex_lock(&readers_lock);
	for (struct reader **r = &readers; *r; r = &(*r)->next) {
		if (*r == &self) {
			*r = self.next;
			break;
		}
	}
	pthread_mutex_unlock(&readers_lock);
}

void xf_read_online(void)
{
	atomic_store(&self.seen, atomic_load(&epoch));
}

void xf_read_offline(void)
{
	assert(section_depth == 0);
	atomic_store(&self.seen, 0);
}

void xf_read_quiescent(void)
{
	assert(section_depth == 0);
	xf_read_online();
}

static void grace_period(void)
{
	uint64_t target = atomic_fetch_add(&epoch, 1) + 1;
	uint64_t was = atomic_load(&self.seen);

	xf_read_offline();
	pthread_mutex_lock(&readers_lock);
	for (struct reader *r = readers; r; r = r->next) {
		uint64_t seen;

		while ((seen = atomic_load(&r->seen)) != 0 && seen < target)
			sched_yield();
	}
	pthread_mutex_unlock(&readers_lock);
	if (was)
		xf_read_online();
}

#else

#include <urcu-qsbr.h>

void xf_read_register(void)
{
	urcu_qsbr_register_thread();
}

void xf_read_unregister(void)
{
	urcu_qsbr_unregister_thread();
}

void xf_read_online(void)
{
	urcu_qsbr_thread_online();
}

void xf_read_offline(void)
{
	assert(section_depth == 0);
	urcu_qsbr_thread_offline();
}

void xf_read_quiescent(void)
{
	assert(section_depth == 0);
	urcu_qsbr_quiescent_state();
}

static void grace_period(void)
{
	urcu_qsbr_synchronize_rcu();
}

#endif
