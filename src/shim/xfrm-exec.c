/*
 * xfrm-exec PROGRAM [ARGUMENT...]: run a program with the shim loaded, so that its XFRM netlink
 * sockets are served by the xfrmd of its network namespace.
 */
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LIBRARY "libxfrm-shim.so"
#define EXIT_USAGE 2
#define EXIT_CANNOT_RUN 126
#define EXIT_NOT_FOUND 127

/* Beside this program in a build directory, else where it is installed. */
static const char *find_library(char *buf, size_t size)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n > 0) {
		self[n] = 0;
		if (snprintf(buf, size, "%s/" LIBRARY, dirname(self)) < (int)size &&
		    access(buf, R_OK) == 0)
			return buf;
	}
	return access(XFRM_SHIM_INSTALLED, R_OK) == 0 ? XFRM_SHIM_INSTALLED : NULL;
}

/* The shim comes first, what was preloaded before stays. */
static int preload(const char *library)
{
	const char *before = getenv("LD_PRELOAD");
	char *value;
	int err;

	if (asprintf(&value, "%s%s%s", library, before ? ":" : "", before ? before : "") < 0)
		return -1;
	err = setenv("LD_PRELOAD", value, 1);
	free(value);
	return err;
}

static int usage(FILE *to)
{
	fputs("usage: xfrm-exec PROGRAM [ARGUMENT...]\n"
	      "Runs PROGRAM so that xfrmd, not the kernel, serves its XFRM netlink sockets.\n",
	      to);
	return to == stdout ? EXIT_SUCCESS : EXIT_USAGE;
}

int main(int argc, char **argv)
{
	char buf[PATH_MAX + sizeof(LIBRARY) + 1];
	const char *library;

	if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")))
		return usage(stdout);
	if (argc > 1 && !strcmp(argv[1], "--")) {
		argv++;
		argc--;
	}
	if (argc < 2 || argv[1][0] == '-')
		return usage(stderr);
	library = find_library(buf, sizeof(buf));
	if (!library) {
		fprintf(stderr, "xfrm-exec: %s is not installed\n", XFRM_SHIM_INSTALLED);
		return EXIT_CANNOT_RUN;
	}
	if (preload(library)) {
		fprintf(stderr, "xfrm-exec: cannot set LD_PRELOAD: %s\n", strerror(errno));
		return EXIT_CANNOT_RUN;
	}
	execvp(argv[1], argv + 1);
	fprintf(stderr, "xfrm-exec: cannot run %s: %s\n", argv[1], strerror(errno));
	return errno == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN;
}
