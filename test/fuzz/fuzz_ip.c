/*
 * Any bytes as an IP packet: byte 0 says how it is cut, the rest is the packet.
 */
#include "fuzz_packet.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct xf_ip_info whole_info, info;
	struct xf_flow flow, reverse;
	struct xf_pkt *whole, *pkt;
	uint32_t len;
	int err;

	if (size < 2 || size > FUZZ_LEN_MAX)
		return 0;
	len = (uint32_t)size - 1;
	whole = fuzz_packet(data + 1, len, 0, false);
	pkt = fuzz_packet(data + 1, len, data[0], data[0] & 32);
	err = xf_ip_parse(pkt, data[0] & 64, &info);
	/* Memory does not matter, the checksum only makes fewer packets good. */
	FUZZ_CHECK(xf_ip_parse(whole, data[0] & 64, &whole_info) == err);
	if (err == 0) {
		FUZZ_CHECK(xf_ip_parse(whole, false, &whole_info) == 0);
		FUZZ_CHECK(memcmp(&info, &whole_info, sizeof(info)) == 0);
		fuzz_check_info(pkt, &info);
		xf_ip_flow(pkt, &info, false, &flow);
		xf_ip_flow(pkt, &info, true, &reverse);
		FUZZ_CHECK(memcmp(&flow.saddr, &reverse.daddr, sizeof(flow.saddr)) == 0);
		FUZZ_CHECK((flow.sport | flow.dport) == (reverse.sport | reverse.dport));
		FUZZ_CHECK(!info.is_frag || (flow.sport | flow.dport) == 0);
	}
	FUZZ_CHECK(xf_csum_fold(xf_pkt_csum(pkt, 0, len, 0)) ==
		   xf_csum_fold(xf_csum_add(0, data + 1, len)));
	xf_pkt_free(pkt);
	xf_pkt_free(whole);
	fuzz_pool_check();
	return 0;
}
