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

/* X(enumerator, name as shown, which packets). The order is that of /proc/net/xfrm_stat. */
#define XF_DROP_KERNEL_LIST(X)                                                                 \
	X(IN_ERROR, "XfrmInError", "that failed otherwise, on their way in")                   \
	X(IN_BUFFER, "XfrmInBufferError", "received when there was no buffer")                 \
	X(IN_HDR, "XfrmInHdrError", "received with a header that is wrong")                    \
	X(IN_NO_STATES, "XfrmInNoStates", "received, for which there is no SA")                \
	X(IN_STATE_PROTO, "XfrmInStateProtoError", "whose protocol, ICV or trailer is wrong")  \
	X(IN_STATE_MODE, "XfrmInStateModeError",                                               \
	  "whose mode or inner packet is not as their SA has it")                              \
	X(IN_STATE_SEQ, "XfrmInStateSeqError", "outside of the replay window, or seen before") \
	X(IN_STATE_EXPIRED, "XfrmInStateExpired", "received for an SA that has expired")       \
	X(IN_STATE_MISMATCH, "XfrmInStateMismatch",                                            \
	  "not encapsulated or selected as their SA has it")                                   \
	X(IN_STATE_INVALID, "XfrmInStateInvalid", "received for an SA that is not valid")      \
	X(IN_TMPL_MISMATCH, "XfrmInTmplMismatch",                                              \
	  "that did not come through the SAs that their policy wants")                         \
	X(IN_NO_POLS, "XfrmInNoPols", "from an SA, wanted by no policy")                       \
	X(IN_POL_BLOCK, "XfrmInPolBlock", "blocked by a policy on their way in")               \
	X(IN_POL_ERROR, "XfrmInPolError", "whose policy failed on their way in")               \
	X(OUT_ERROR, "XfrmOutError", "that failed otherwise, on their way out")                \
	X(OUT_BUNDLE_GEN, "XfrmOutBundleGenError", "whose SAs could not be bundled")           \
	X(OUT_BUNDLE_CHECK, "XfrmOutBundleCheckError", "whose bundle had become invalid")      \
	X(OUT_NO_STATES, "XfrmOutNoStates", "to protect, for which there is no SA")            \
	X(OUT_STATE_PROTO, "XfrmOutStateProtoError",                                           \
	  "that the cipher failed on, on their way out")                                       \
	X(OUT_STATE_MODE, "XfrmOutStateModeError", "that do not fit the mode of their SA")     \
	X(OUT_STATE_SEQ, "XfrmOutStateSeqError", "whose SA has no sequence number left")       \
	X(OUT_STATE_EXPIRED, "XfrmOutStateExpired", "to protect by an SA that has expired")    \
	X(OUT_POL_BLOCK, "XfrmOutPolBlock", "blocked by a policy on their way out")            \
	X(OUT_POL_DEAD, "XfrmOutPolDead", "whose policy was deleted")                          \
	X(OUT_POL_ERROR, "XfrmOutPolError", "whose policy failed on their way out")            \
	X(FWD_HDR, "XfrmFwdHdrError", "to forward, with a header that is wrong")               \
	X(OUT_STATE_INVALID, "XfrmOutStateInvalid", "to protect by an SA that is not valid")   \
	X(ACQUIRE_ERROR, "XfrmAcquireError", "received for an SA that is larval still")        \
	X(OUT_STATE_DIR, "XfrmOutStateDirError", "to protect by an SA of direction in")        \
	X(IN_STATE_DIR, "XfrmInStateDirError", "received for an SA of direction out")          \
	X(IN_IPTFS, "XfrmInIptfsError", "of IPTFS that are wrong")                             \
	X(OUT_NO_QUEUE, "XfrmOutNoQueueSpace", "for which there is no room to wait for an SA")

#define XF_DROP_OWN_LIST(X)                                                                    \
	X(OUT_HDR, "XfrmdOutHdrError", "to protect, with a header that is wrong")              \
	X(OUT_TOO_BIG, "XfrmdOutTooBig", "too big for the path, and not to be cut")            \
	X(OUT_NO_BUFFER, "XfrmdOutNoBuffer", "to protect, when there was no buffer")           \
	X(OUT_SEND, "XfrmdOutSendError", "that the kernel did not send")                       \
	X(IN_KEEPALIVE, "XfrmdInKeepalive", "that are NAT keepalives")                         \
	X(IN_IKE, "XfrmdInIkeUnclaimed", "of IKE that nobody claimed")                         \
	X(IN_DUMMY, "XfrmdInDummy", "that are dummies (RFC 4303 s2.6)")                        \
	X(IN_DELIVER, "XfrmdInDeliverError", "that the TUN did not take")                      \
	X(FRAG_HDR, "XfrmdFragHdrError", "that are fragments with a header that is wrong")     \
	X(FRAG_OVERLAP, "XfrmdFragOverlap", "that are fragments, of which some overlap")       \
	X(FRAG_TIMEOUT, "XfrmdFragTimeout", "that are fragments, of which some came too late") \
	X(FRAG_LIMIT, "XfrmdFragLimit", "that are fragments, of which there were too many")    \
	X(ICMP_IGNORED, "XfrmdIcmpIgnored", "that are ICMP errors about nothing of ours")      \
	X(OUT_LOOP, "XfrmdOutLoop", "of ours that were captured again")                        \
	X(OUT_LINK, "XfrmdOutLinkClear", "from a link, wanted by no policy")                   \
	X(IN_NOT_FORWARDED, "XfrmdInNotForwarded",                                             \
	  "that the device which received them does not forward")                              \
	X(OUT_NO_MARK, "XfrmdOutNoMark", "captured while the TUN had no program for marks")

enum xf_drop {
	XF_PASS = 0,
#define XF_DROP_ENUM(id, name, help) XF_DROP_##id,
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
