/*
 * Records of SAs: the input is what somebody says are records, in a row. They are refused with a
 * sentence and leave nothing, or make SAs, whose own records make the same SAs elsewhere.
 */
#include <stdint.h>
#include <stdlib.h>

#include <xf/freeze.h>
#include <xf/rcu.h>

#include "nl/record.h"
#include "nl/record_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SAS_MAX 16

struct world {
	struct xf_sad *sad;
	struct xf_spd *spd;
	struct xf_nl_server *server;
};

/* What the SAs of a world are, oldest first. */
struct found {
	struct xf_sa *sas[SAS_MAX];
	unsigned n;
};

static void require(bool what)
{
	if (!what)
		abort();
}

static void no_random(void *arg, void *buf, size_t len)
{
	(void)arg;
	memset(buf, 1, len);
}

static void no_event(void *arg, struct xf_sa *sa, enum xf_sa_event event)
{
	(void)arg;
	(void)sa;
	(void)event;
}

static void begin(struct world *w)
{
	const struct xf_sad_config sad = { .max_sas = SAS_MAX, .random = no_random };
	const struct xf_spd_config spd = { .max_policies = 1 };
	struct xf_nl_server_config cfg = { .random = no_random };

	cfg.sad = w->sad = xf_sad_new(&sad);
	cfg.spd = w->spd = xf_spd_new(&spd);
	require(w->sad && w->spd);
	w->server = xf_nl_server_new(&cfg);
	require(w->server != NULL);
}

static void end(struct world *w)
{
	xf_nl_server_free(w->server);
	xf_sad_free(w->sad);
	xf_spd_free(w->spd);
	xf_rcu_drain();
}

/* Visited newest first. */
static bool note(void *arg, struct xf_sa *sa)
{
	struct found *found = arg;

	found->sas[found->n++] = sa;
	return true;
}

static void find_all(struct world *w, struct found *found)
{
	uint64_t cursor = 0;

	found->n = 0;
	while (xf_sad_walk(w->sad, &cursor, note, found))
		;
}

static size_t record_all(struct world *w, uint8_t *buf)
{
	struct found found;
	size_t all = 0, len;

	find_all(w, &found);
	require(xf_sad_freeze(w->sad, found.sas, found.n) == found.n);
	for (unsigned i = 0; i < found.n; i++) {
		require(xf_nl_record_write(found.sas[i], buf + all, XF_NL_RECORD_MAX, &len) == 0);
		all += len;
	}
	return all;
}

/* Where the place in memory stands is another one each time. */
static void forget_slots(uint8_t *buf, size_t len)
{
	while (len > 0) {
		struct xf_nl_record_head head;
		struct nlmsghdr nlh;
		size_t off;

		memcpy(&head, buf, sizeof(head));
		memcpy(&nlh, buf + sizeof(head), sizeof(nlh));
		/* Behind the message stands the number of arrival. */
		off = sizeof(head) + NLMSG_ALIGN(nlh.nlmsg_len) + 2 * (sizeof(struct nlattr) + 8);
		memset(buf + off - 8, 0, 8);
		buf += head.len;
		len -= head.len;
	}
}

/* Restore the @len bytes at @in elsewhere; the records of what came of them. */
static size_t move(const uint8_t *in, size_t len, uint8_t *out)
{
	struct world w;
	const char *why;

	begin(&w);
	require(xf_nl_restore(w.server, in, len, &why) == 0);
	len = record_all(&w, out);
	forget_slots(out, len);
	end(&w);
	return len;
}

/*
 * The first time what netlink leaves open is settled (of an IPv4 selector that came without a
 * family, the last bytes of its addresses); from then on nothing changes.
 */
static void record_and_restore(struct world *first)
{
	static uint8_t bufs[2][SAS_MAX * XF_NL_RECORD_MAX];
	size_t len = record_all(first, bufs[0]);
	struct world second;
	const char *why;

	begin(&second);
	require(xf_nl_restore(second.server, bufs[0], len, &why) == 0);
	len = record_all(&second, bufs[0]);
	require(move(bufs[0], len, bufs[1]) == len);
	forget_slots(bufs[0], len);
	require(memcmp(bufs[0], bufs[1], len) == 0);
	end(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct xf_sad_info info;
	struct world w;
	const char *why;
	int err;

	begin(&w);
	err = xf_nl_restore(w.server, data, size, &why);
	require((err == 0) == (why == NULL));
	xf_sad_get_info(w.sad, &info);
	require(err == 0 || info.count == 0);
	record_and_restore(&w);
	xf_sad_expire(w.sad, 1000 * XF_NSEC_PER_SEC, no_event, NULL);
	end(&w);
	return 0;
}
