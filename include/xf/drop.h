/*
 * drop.h - why a packet was dropped.
 *
 * One enum for the whole engine. The first members carry the names of /proc/net/xfrm_stat and
 * the kernel's meaning of them; those of XF_DROP_OWN_LIST are ours. XF_PASS is 0.
 *
 * Threads: counters belong to one worker each; sums are taken by whoever reads them.
 */
#ifndef XF_DROP_H
#define XF_DROP_H

#include <xf/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* X(enumerator, name as shown). The order is that of /proc/net/xfrm_stat. */
#define XF_DROP_KERNEL_LIST(X)                         \
	X(IN_ERROR, "XfrmInError")                     \
	X(IN_BUFFER, "XfrmInBufferError")              \
	X(IN_HDR, "XfrmInHdrError")                    \
	X(IN_NO_STATES, "XfrmInNoStates")              \
	X(IN_STATE_PROTO, "XfrmInStateProtoError")     \
	X(IN_STATE_MODE, "XfrmInStateModeError")       \
	X(IN_STATE_SEQ, "XfrmInStateSeqError")         \
	X(IN_STATE_EXPIRED, "XfrmInStateExpired")      \
	X(IN_STATE_MISMATCH, "XfrmInStateMismatch")    \
	X(IN_STATE_INVALID, "XfrmInStateInvalid")      \
	X(IN_TMPL_MISMATCH, "XfrmInTmplMismatch")      \
	X(IN_NO_POLS, "XfrmInNoPols")                  \
	X(IN_POL_BLOCK, "XfrmInPolBlock")              \
	X(IN_POL_ERROR, "XfrmInPolError")              \
	X(OUT_ERROR, "XfrmOutError")                   \
	X(OUT_BUNDLE_GEN, "XfrmOutBundleGenError")     \
	X(OUT_BUNDLE_CHECK, "XfrmOutBundleCheckError") \
	X(OUT_NO_STATES, "XfrmOutNoStates")            \
	X(OUT_STATE_PROTO, "XfrmOutStateProtoError")   \
	X(OUT_STATE_MODE, "XfrmOutStateModeError")     \
	X(OUT_STATE_SEQ, "XfrmOutStateSeqError")       \
	X(OUT_STATE_EXPIRED, "XfrmOutStateExpired")    \
	X(OUT_POL_BLOCK, "XfrmOutPolBlock")            \
	X(OUT_POL_DEAD, "XfrmOutPolDead")              \
	X(OUT_POL_ERROR, "XfrmOutPolError")            \
	X(FWD_HDR, "XfrmFwdHdrError")                  \
	X(OUT_STATE_INVALID, "XfrmOutStateInvalid")    \
	X(ACQUIRE_ERROR, "XfrmAcquireError")           \
	X(OUT_STATE_DIR, "XfrmOutStateDirError")       \
	X(IN_STATE_DIR, "XfrmInStateDirError")         \
	X(IN_IPTFS, "XfrmInIptfsError")                \
	X(OUT_NO_QUEUE, "XfrmOutNoQueueSpace")

#define XF_DROP_OWN_LIST(X)                        \
	X(OUT_HDR, "XfrmdOutHdrError")             \
	X(OUT_TOO_BIG, "XfrmdOutTooBig")           \
	X(OUT_NO_BUFFER, "XfrmdOutNoBuffer")       \
	X(OUT_SEND, "XfrmdOutSendError")           \
	X(IN_KEEPALIVE, "XfrmdInKeepalive")        \
	X(IN_IKE, "XfrmdInIkeUnclaimed")           \
	X(IN_DUMMY, "XfrmdInDummy")                \
	X(IN_DELIVER, "XfrmdInDeliverError")       \
	X(FRAG_HDR, "XfrmdFragHdrError")           \
	X(FRAG_OVERLAP, "XfrmdFragOverlap")        \
	X(FRAG_TIMEOUT, "XfrmdFragTimeout")        \
	X(FRAG_LIMIT, "XfrmdFragLimit")            \
	X(ICMP_IGNORED, "XfrmdIcmpIgnored")        \
	X(OUT_LOOP, "XfrmdOutLoop")                \
	X(OUT_LINK, "XfrmdOutLinkClear")           \
	X(IN_NOT_FORWARDED, "XfrmdInNotForwarded") \
	X(OUT_NO_MARK, "XfrmdOutNoMark")

enum xf_drop {
	XF_PASS = 0,
#define XF_DROP_ENUM(id, name) XF_DROP_##id,
	XF_DROP_KERNEL_LIST(XF_DROP_ENUM) XF_DROP_OWN_LIST(XF_DROP_ENUM)
#undef XF_DROP_ENUM
		XF_DROP_MAX,
};

/* "XfrmInNoStates" for XF_DROP_IN_NO_STATES; "pass" for XF_PASS; never NULL. */
const char *xf_drop_name(enum xf_drop reason);

#ifdef __cplusplus
}
#endif

#endif
