/*
 * MIGRATE: checked as the kernel does, then refused: moving SAs to other addresses is not there.
 * What matters today is the probe of IKE daemons, which names a policy that does not exist.
 */
#include "nl/policy.h"
#include "nl/wire.h"

/* Two entries about the same SAs would contradict each other. */
static bool same_origin(const struct xfrm_user_migrate *a, const struct xfrm_user_migrate *b)
{
	return memcmp(&a->old_daddr, &b->old_daddr, sizeof(a->old_daddr)) == 0 &&
	       memcmp(&a->old_saddr, &b->old_saddr, sizeof(a->old_saddr)) == 0 &&
	       a->proto == b->proto && a->mode == b->mode && a->reqid == b->reqid &&
	       a->old_family == b->old_family;
}

static bool any_null(const struct xfrm_user_migrate *m)
{
	union xf_addr saddr, daddr;

	xf_nl_load_addr(&saddr, &m->new_saddr, m->new_family);
	xf_nl_load_addr(&daddr, &m->new_daddr, m->new_family);
	return xf_addr_is_any(&saddr, m->new_family) || xf_addr_is_any(&daddr, m->new_family);
}

static int verify_list(struct xf_nl_request *req)
{
	const struct nlattr *attr = req->attrs[XFRMA_MIGRATE];
	struct xfrm_user_migrate list[XF_XFRM_MAX_DEPTH];
	size_t n = mnl_attr_get_payload_len(attr) / sizeof(list[0]);

	if (n > XF_XFRM_MAX_DEPTH)
		return xf_nl_fail(req, -EINVAL,
				  "Invalid number of SAs to migrate, must be 0 < num <= "
				  "XFRM_MAX_DEPTH (6)");
	memcpy(list, mnl_attr_get_payload(attr), n * sizeof(list[0]));
	for (size_t i = 0; i < n; i++) {
		if (any_null(&list[i]))
			return xf_nl_fail(
				req, -EINVAL,
				"Addresses in the MIGRATE attribute's list cannot be null");
		for (size_t j = 0; j < i; j++) {
			if (same_origin(&list[i], &list[j]))
				return xf_nl_fail(
					req, -EINVAL,
					"Entries in the MIGRATE attribute's list must be unique");
		}
	}
	return 0;
}

int xf_nl_migrate(struct xf_nl_request *req)
{
	struct xfrm_userpolicy_id id;
	struct xf_nl_policy_name name;
	struct xf_policy *policy;
	uint8_t type;
	int err;

	xf_nl_header(req, &id);
	if (!req->attrs[XFRMA_MIGRATE])
		return xf_nl_fail(req, -EINVAL, "Missing required MIGRATE attribute");
	err = xf_nl_parse_policy_type(req, &type);
	if (!err)
		err = verify_list(req);
	if (!err)
		err = xf_nl_verify_policy_dir(req, id.dir);
	if (err)
		return err;
	if (!xf_nl_family_valid(id.sel.family))
		return xf_nl_fail(req, -EAFNOSUPPORT, "Target policy not found");
	name = (struct xf_nl_policy_name){ &id.sel, 0, id.dir };
	err = xf_nl_find_policy(req, &name, &policy);
	if (err == -ENOENT)
		return xf_nl_fail(req, err, "Target policy not found");
	return err ? err : xf_nl_fail(req, -EOPNOTSUPP, "Migration is not supported");
}
