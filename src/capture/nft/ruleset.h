/*
 * ruleset.h - the nftables rules that follow from an SPD, as text.
 *
 * Pure: text in memory out, no kernel. The table is there already (nft_table.h). Rules may catch
 * too much, never too little: the engine sends on unchanged what no policy wants. So a policy that
 * protects or blocks may be matched by less than its whole selector; one that allows must be
 * matched exactly, or is left out.
 */
#ifndef XF_CAPTURE_RULESET_H
#define XF_CAPTURE_RULESET_H

#include "capture/nft/cover.h"
#include "capture/exempt.h"
#include "capture/nat/nat.h"
#include "capture/nft/sieve.h"
#include "port/io.h"

struct xf_ruleset_plan {
	const struct xf_io_names *names;
	const struct xf_spd *spd;
	const struct xf_exempt
		*exempt; /* with @anew: whom no policy is asked about; NULL: nobody */
	/* Where one is not by_sets, rules are those of each policy; NULL: likewise. */
	const struct xf_sieve *sieve[XF_DIR_MAX];
	/* Of policies out: where their sieve is by_sets, only what is in it gets there ... */
	const struct xf_cover *cover;
	bool by_destination; /* ... or all of that is captured, and the sieve not touched */
	bool fill; /* the cover's sets come with the script */
	enum xf_nat_chains nat; /* with @anew */
	bool nat_asks; /* with all of these */
	bool icmp_errors; /* policies out have flag icmp: ICMP errors are captured, whatever else */
	bool anew; /* all of the table; else the chains of @dirs */
	bool dirs[XF_DIR_MAX];
};

/*
 * A script for one transaction: chains are emptied and filled again, counters keep their values.
 * *@out is the caller's (free()). -ENOMEM.
 */
int xf_ruleset_build(const struct xf_ruleset_plan *plan, char **out);

/*
 * The sets that @sieve and @cover, unless they are NULL, need and have not. They are empty, and no
 * rule looks into them yet.
 */
int xf_ruleset_make_sets(const struct xf_sieve *sieve, const struct xf_cover *cover, char **out);

/* In a table that stands something else is exempt now; frame.h. */
int xf_ruleset_exempt(const struct xf_io_names *names, const struct xf_exempt *exempt, char **out);

/* What goes into an empty table of the family bridge, where the kernel has that; frame.h. */
int xf_ruleset_bridge(const struct xf_io_names *names, char **out);

#endif
