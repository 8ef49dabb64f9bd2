/* Keeps libbpf quiet; all that load BPF programs call it. */
#include "host/quiet.h"

static int print_nothing(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	(void)level;
	(void)fmt;
	(void)ap;
	return 0;
}

libbpf_print_fn_t xf_libbpf_quiet(void)
{
	return libbpf_set_print(print_nothing);
}
