# A short front for meson; "make help" lists what there is.
PREFIX ?= /usr/local
DESTDIR ?=
SECONDS ?= 60
SEED ?= 1
COUNT ?= 300
BUILD ?= build

# Under sudo, what is built belongs to whom the tree belongs to.
OWNER := $(shell stat -c %U .)
ifeq ($(shell id -u):$(filter-out root UNKNOWN,$(OWNER)),0:$(OWNER))
AS_OWNER := runuser -u $(OWNER) --
endif

.PHONY: all help deps bench-deps demo test check interop fuzz coverage mutants bench install clean

all:
	@tools/need-tools
	@test -f $(BUILD)/build.ninja || \
		$(AS_OWNER) meson setup $(BUILD) --buildtype=release -Ddebug=true --prefix=$(PREFIX)
	@$(AS_OWNER) ninja -C $(BUILD)

help:
	@echo "make            build into $(BUILD)/"
	@echo "make deps       install the Debian packages that building and testing need (root)"
	@echo "make demo       two gateways, one tunnel, real traffic, four namespaces (root)"
	@echo "make test       all tests, sanitizers included (root for those in namespaces)"
	@echo "make check      unit tests and style checks only"
	@echo "make interop    every algorithm, mode and family against a real Linux kernel (root)"
	@echo "make fuzz       each fuzz target for SECONDS=60"
	@echo "make coverage   which lines of src/ the tests run (root for those in namespaces)"
	@echo "make mutants    COUNT=300 changes to the source, SEED=1: does a test fail? After coverage"
	@echo "make bench      ns per packet, Gb/s (root); BENCH=\"engine cores e2e peers\" for some"
	@echo "make bench-deps install what its group \"peers\" compares with (root)"
	@echo "make install    DESTDIR= PREFIX=/usr/local"

deps:
	@tools/deps

bench-deps:
	@tools/deps --bench

demo: deps
	@$(MAKE) --no-print-directory all
	@tools/demo.sh $(BUILD)

test:
	@if [ "$$(id -u)" = 0 ]; then tools/deps; fi
	@tools/need-tools
	@AS_OWNER="$(AS_OWNER)" tools/run-tests --build $(BUILD)

check:
	@tools/need-tools
	@AS_OWNER="$(AS_OWNER)" tools/run-tests --build $(BUILD) --quick

interop: all
	@test/interop/kernel-peer.sh setup
	@test/interop/matrix.py --build $(BUILD)
	@test/interop/scapy_esp.py --build $(BUILD)
	@test/interop/same_words/same_words.py --build $(BUILD)

fuzz:
	@tools/need-tools
	@AS_OWNER="$(AS_OWNER)" tools/fuzz $(SECONDS)

coverage:
	@tools/need-tools
	@AS_OWNER="$(AS_OWNER)" tools/coverage

mutants:
	@tools/need-tools
	@tools/mutants --seed $(SEED) --count $(COUNT)

bench: all
	@bench/run $(BUILD) $(BENCH)

# What is installed names the prefix: after another one it is built again.
install: all
	@$(AS_OWNER) meson configure $(BUILD) --prefix=$(PREFIX)
	@$(AS_OWNER) ninja -C $(BUILD)
	DESTDIR=$(DESTDIR) meson install -C $(BUILD) --no-rebuild

clean:
	rm -rf build build-asan build-tsan build-fuzz build-cov build-mutants
