/*
 * From a flight's operations to transforms, for out_flight.c and in_flight.c. One call for all of a
 * batch, as nearly always; where a batch has several transforms, its operations are taken apart
 * first, so that runs of one SA are made of what belongs together.
 */
#include "path/worker.h"
#include "sad/transform.h"

static unsigned call(const struct xf_transform *transform, enum xf_step step,
		     struct xf_transform_op *const *ops, unsigned n, uint64_t now_ns)
{
	switch (step) {
	case XF_OUT_PREPARE:
		transform->out_prepare(ops, n, now_ns);
		break;
	case XF_OUT_FINISH:
		return transform->out_finish(ops, n);
	case XF_IN_PREPARE:
		transform->in_prepare(ops, n, now_ns);
		break;
	case XF_IN_FINISH:
		transform->in_finish(ops, n, now_ns);
		break;
	}
	return 0;
}

static unsigned call_each(unsigned transforms, enum xf_step step,
			  struct xf_transform_op *const *ops, unsigned n, uint64_t now_ns)
{
	unsigned dropped = 0;

	for (; transforms; transforms &= transforms - 1) {
		unsigned number = (unsigned)__builtin_ctz(transforms);
		struct xf_transform_op *mine[XF_BATCH];
		unsigned nmine = 0;

		for (unsigned i = 0; i < n; i++)
			if (ops[i]->sa->transform == number)
				mine[nmine++] = ops[i];
		if (nmine)
			dropped += call(xf_transform_table[number], step, mine, nmine, now_ns);
	}
	return dropped;
}

/*
 * Which of them @ops have. SAs mostly are not in the caches yet, so they are not looked at where
 * all are alike: all that the SAD has, or, where @kept, has had, for those SAs may have left it.
 */
static unsigned transforms_of(const struct xf_flight *f, bool kept,
			      struct xf_transform_op *const *ops, unsigned n)
{
	const struct xf_sad *sad = f->worker->engine->sad;
	unsigned any = kept ? xf_sad_transforms_ever(sad) : xf_sad_transforms(sad);
	unsigned seen = 0;

	if (XF_LIKELY(!(any & (any - 1))))
		return any;
	for (unsigned i = 0; i < n; i++)
		seen |= 1u << ops[i]->sa->transform;
	return seen;
}

/* Of @ops, those that need not be shaped. */
static unsigned set_aside(struct xf_flight *f, struct xf_transform_op **ops, unsigned n)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < n; i++) {
		struct xf_slot *s = &f->slots[ops[i] - f->ops];

		if (!xf_transform_of(ops[i]->sa)->out_shape) {
			ops[kept++] = ops[i];
			continue;
		}
		s->first = (uint8_t)(s->first + f->round);
		xf_path_set_aside(f, s);
	}
	return kept;
}

unsigned xf_path_begin_round(struct xf_flight *f, bool out, struct xf_transform_op **ops,
			     unsigned n)
{
	/* Inbound each round's SAs were just found, outbound those of the first one. */
	bool kept = out && (f->round > 0 || f->shaped);

	f->transforms = transforms_of(f, kept, ops, n);
	if (out && XF_UNLIKELY(f->transforms & f->worker->shape_out) &&
	    !(f->shaped && f->round == 0))
		return set_aside(f, ops, n);
	return n;
}

unsigned xf_path_transform(const struct xf_flight *f, enum xf_step step,
			   struct xf_transform_op *const *ops, unsigned n, uint64_t now_ns)
{
	if (XF_UNLIKELY(f->transforms & (f->transforms - 1)))
		return call_each(f->transforms, step, ops, n, now_ns);
	return call(xf_transform_table[__builtin_ctz(f->transforms)], step, ops, n, now_ns);
}
