/*
 * Reads of kernel structures, for programs that run here, where these are what the program itself
 * declares; see bpf_helpers.h.
 */
#ifndef TEST_USER_BPF_CORE_READ_H
#define TEST_USER_BPF_CORE_READ_H

#define preserve_access_index

#define USER_BPF_2(from, a) ((from)->a)
#define USER_BPF_3(from, a, b) ((from)->a->b)
#define USER_BPF_PICK(a, b, c, name, ...) name
#define BPF_CORE_READ(...) USER_BPF_PICK(__VA_ARGS__, USER_BPF_3, USER_BPF_2, )(__VA_ARGS__)
#define BPF_CORE_READ_INTO(to, ...) \
	__builtin_memcpy((to), &BPF_CORE_READ(__VA_ARGS__), sizeof(*(to)))

#define bpf_core_type_id_kernel(type) 0
#define bpf_core_type_exists(type) 1
#define bpf_core_field_exists(field) 1
#define bpf_core_type_size(type) sizeof(type)
#define bpf_core_field_offset(type, field) __builtin_offsetof(type, field)

#endif
