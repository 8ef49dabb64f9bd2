/* What is read of a device, from messages of the test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include "host/link.h"

struct message {
	_Alignas(8) uint8_t buf[512];
	struct nlmsghdr *msg;
};

static void begin(struct message *m, uint16_t type)
{
	struct ifinfomsg *info;

	m->msg = mnl_nlmsg_put_header(m->buf);
	m->msg->nlmsg_type = type;
	info = mnl_nlmsg_put_extra_header(m->msg, sizeof(*info));
	info->ifi_index = 7;
	info->ifi_flags = IFF_UP | IFF_NOARP;
}

static void whole(void **state)
{
	struct nlattr *nest;
	struct message m;
	struct xf_link link;

	(void)state;
	begin(&m, RTM_NEWLINK);
	mnl_attr_put_u32(m.msg, IFLA_MTU, 1500);
	mnl_attr_put_strz(m.msg, IFLA_IFNAME, "wan0");
	nest = mnl_attr_nest_start(m.msg, IFLA_LINKINFO);
	mnl_attr_put_strz(m.msg, IFLA_INFO_KIND, "vlan");
	mnl_attr_put_strz(m.msg, IFLA_INFO_SLAVE_KIND, "bridge");
	mnl_attr_nest_end(m.msg, nest);
	assert_true(xf_link_read(m.msg, &link));
	assert_int_equal(link.ifindex, 7);
	assert_int_equal(link.flags, IFF_UP | IFF_NOARP);
	assert_string_equal(link.name, "wan0");
	assert_string_equal(link.kind, "vlan");
	assert_string_equal(link.slave_kind, "bridge");
}

static void what_is_not_said_is_empty(void **state)
{
	struct message m;
	struct xf_link link;

	(void)state;
	begin(&m, RTM_NEWLINK);
	mnl_attr_put(m.msg, IFLA_IFNAME, 4, "wan0"); /* without its end */
	assert_true(xf_link_read(m.msg, &link));
	assert_string_equal(link.name, "");
	assert_string_equal(link.kind, "");
	assert_string_equal(link.slave_kind, "");
}

static void others_are_no_devices(void **state)
{
	struct message m;
	struct xf_link link;

	(void)state;
	begin(&m, RTM_DELLINK);
	assert_false(xf_link_read(m.msg, &link));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole),
		cmocka_unit_test(what_is_not_said_is_empty),
		cmocka_unit_test(others_are_no_devices),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
