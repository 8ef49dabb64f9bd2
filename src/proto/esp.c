/* ESP as src/path sees it: its row in the table of transforms. */
#include "proto/esp.h"
#include "sad/transform.h"

static bool takes(const struct xf_sa_config *cfg)
{
	return cfg->id.proto == XF_IPPROTO_ESP;
}

const struct xf_transform xf_transform_esp = {
	.name = "esp",
	.protocol = XF_IPPROTO_ESP,
	.spi = XF_SPI_PLACE_ESP,
	.takes = takes,
	.make_form = xf_esp_make_form,
	.out_prepare = xf_esp_out_prepare_batch,
	.out_finish = xf_esp_out_finish_batch,
	.in_prepare = xf_esp_in_prepare_batch,
	.in_finish = xf_esp_in_finish_batch,
	.inner_mtu = xf_esp_inner_mtu,
};
