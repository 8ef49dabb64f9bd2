/*
 * counter.h - counters that are described once.
 *
 * A struct of counters has a list, LIST(X, arg), with one line for each of them:
 *
 *   X(arg, name, kind, unit, help)          counted by this process
 *   X(arg, name, kind, unit, help, source)  read from another one's counter of that name
 *
 * name is the member's and the one that users see, kind is COUNTER or GAUGE; unit and help read on
 * as one ("packets", "marked for the TUN"). From the list come the struct of sums, the struct that
 * a worker counts in, which has the same layout, and the descriptors by which values are added and
 * shown, and will be told to whoever collects metrics.
 *
 * Threads: descriptors are constant. Sums belong to the thread that takes them.
 */
#ifndef XF_COUNTER_H
#define XF_COUNTER_H

#include <xf/base.h>

#ifdef __cplusplus
extern "C" {
#endif

enum xf_counter_kind {
	XF_KIND_COUNTER, /* only grows */
	XF_KIND_GAUGE, /* how many there are now */
};

struct xf_counter_desc {
	const char *name;
	enum xf_counter_kind kind;
	const char *unit;
	size_t offset; /* in the struct of sums, of an uint64_t */
	const char *help;
	const char *source; /* NULL: this process counts */
};

struct xf_counter_group {
	const char *name;
	const struct xf_counter_desc *descs;
	size_t n;
};

/* For lists: a member of type @type; the descriptor of a member of @parent. */
#define XF_COUNTER_MEMBER(type, name, ...) type name;
#define XF_COUNTER_DESC(parent, member, kind_, unit_, ...) \
	{                                                  \
		.name = #member,                           \
		.kind = XF_KIND_##kind_,                   \
		.unit = unit_,                             \
		.offset = offsetof(parent, member),        \
		.help = __VA_ARGS__,                       \
	},

/* The value that @desc describes in the struct of sums at @sums. */
static inline uint64_t xf_counter_value(const struct xf_counter_desc *desc, const void *sums)
{
	return *(const uint64_t *)(const void *)((const char *)sums + desc->offset);
}

static inline void xf_counter_set(const struct xf_counter_desc *desc, void *sums, uint64_t value)
{
	*(uint64_t *)(void *)((char *)sums + desc->offset) = value;
}

/*
 * Add the counters of @group in @from to those in @sums. @from is a struct of the list's sums, or
 * one of _Atomic uint64_t, which its worker goes on to count in.
 */
void xf_counters_add(const struct xf_counter_group *group, const void *from, void *sums);

#ifdef __cplusplus
}
#endif

#endif
