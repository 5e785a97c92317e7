# gpt: `make` builds what this machine can build and says what it found.
#
#   make              the program               make check    seconds: unit tests, layers
#   make test         minutes: everything       make asan / ubsan / tsan / valgrind    under a checker
#   make fuzz         each target for FUZZ_SECONDS=60           make cross    for aarch64, tested under qemu
#   make test-compat PYTHON=python3   against PyTorch, transformers, tokenizers, tiktoken, safetensors
#   make cuda-on-cpu  the CUDA kernels, compiled for the CPU, each access checked: their tests, without a GPU
#   make amx-on-cpu   products on AMX's tiles, on a CPU that has AVX-512 but no tiles: its tests
#
# Knobs: CC=clang   MARCH=native (or x86-64-v3, armv8-a, ...)   BUILD=folder   SAN=address,undefined   V=1
#        CUDA=/path/to/nvcc (CUDA= builds without)   GPU_ARCH="80 90"   MPI=/path/to/mpicc (MPI= builds without)

# On all cores, unless the caller's -j says otherwise.
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += -j$(or $(shell nproc 2>/dev/null),2)
endif

ifeq ($(origin CC),default)
CC     := gcc
endif
MARCH  ?= native
BUILD  ?= build
BIN    ?= gpt
SAN    ?=
Q      := $(if $(V),,@)
PYTHON ?= python3

# Rooms that are built where their library is.
GIVEN := comm_mpi comm_nccl html html_none
ROOMS := $(filter-out main $(GIVEN),$(patsubst %.c,%,$(wildcard *.c)))

# A loop that clang does not vectorise is no error, nor is how gcc once passed wide vectors.
WARN   := -Wall -Wextra -Wshadow -Werror -Wno-format-zero-length -Wno-pass-failed -Wno-psabi
CFLAGS ?= -O3 -g
# On Arm "native" is the name of a CPU, on x86 of an architecture.
ARCH   := $(if $(MARCH),$(if $(findstring aarch64-native,$(shell $(CC) -dumpmachine)-$(MARCH)),-mcpu,-march)=$(MARCH))
ALL    := -std=c11 -D_GNU_SOURCE $(WARN) $(CFLAGS) $(ARCH) -fopenmp -ffp-contract=fast -fno-math-errno -fno-trapping-math -MMD -MP -I.
LIBS   := -lcjson -lz -lm

# What is here? Libraries are asked for by linking against them.
try     = $(shell printf '%s\n' '$(1)' 'int main(void){return 0;}' | $(CC) $(ARCH) -x c - -o /dev/null $(2) >/dev/null 2>&1 && echo 1)
HASH   := \#
ifneq ($(call try,$(HASH)include <cjson/cJSON.h>,-fopenmp $(LIBS)),1)
$(error gpt needs $(CC) with OpenMP, cJSON and zlib: scripts/install_deps.sh installs them)
endif
ifneq ($(SAN),)
ALL    += -fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=all
endif

# CUDA: nvcc, or `cpu`, which compiles gpt.cu against test/cuda_on_cpu instead, or nothing.
CUDA   ?= $(firstword $(wildcard $(shell command -v nvcc) $(CUDA_HOME)/bin/nvcc /usr/local/cuda/bin/nvcc))
EMU    := $(patsubst %.cpp,$(BUILD)/%.o,$(wildcard test/cuda_on_cpu/*.cpp))
CXX_WARN := -Wno-format-zero-length -Wno-missing-field-initializers
ifeq ($(CUDA),cpu)
CUDA_IS   := on the CPU
CUDA_OBJS := $(BUILD)/gpt.cu.o $(EMU)
# ThreadSanitizer's calls at each access, answered by cuda_on_cpu.cpp.
CUDA_CC   := g++ -x c++ -std=c++17 -Wall -Wextra -Werror $(CXX_WARN) -Wno-unknown-pragmas -O2 -g -Itest/cuda_on_cpu -fsanitize=thread \
    -fsanitize=alignment,bounds -fsanitize-undefined-trap-on-error -I. -MMD -MP
LIBS      += -lstdc++
else ifneq ($(CUDA),)
# For the GPUs of this machine that nvcc knows, else for the usual two, and for later ones through PTX.
GPU_ARCH  ?= $(or $(filter $(shell $(CUDA) --list-gpu-arch | tr -dc '0-9\n'),$(shell nvidia-smi \
    --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | tr -d . | sort -u)),80 90)
GPU_ARCH  := $(GPU_ARCH)
CUDA_ROOT := $(shell $(CUDA) -dryrun x.cu 2>&1 | sed -n 's/.* TOP=//p')
CUDA_IS   := $(shell $(CUDA) --version | sed -n 's/.*release \([0-9.]*\).*/\1/p') for $(GPU_ARCH:%=sm_%)
CUDA_OBJS := $(BUILD)/gpt.cu.o
CUDA_CC   := $(CUDA) --threads 0 -std=c++17 -O3 -lineinfo -I. -Xcompiler -Wall,-Wextra,-Werror $(CXX_WARN:%=-Xcompiler %) -Werror all-warnings -MMD -MP \
    $(foreach a,$(GPU_ARCH),-gencode arch=compute_$a,code=sm_$a) \
    $(foreach a,$(lastword $(GPU_ARCH)),-gencode arch=compute_$a,code=compute_$a)
LIBS      += -L$(CUDA_ROOT)/lib64 -Wl,-rpath,$(CUDA_ROOT)/lib64 -lcudart_static -lcublasLt -lstdc++ -lpthread -ldl -lrt
endif
FLAGS_OF_ops := $(if $(CUDA),-DGPT_CUDA)

# MPI: what its compiler's wrapper would say to the compiler, if that links.
MPI      ?= $(shell command -v mpicc)
MPI_SAYS := $(if $(MPI),$(shell $(MPI) -show 2>/dev/null))
MPI_CC   := $(patsubst -I%,-isystem %,$(filter -I%,$(MPI_SAYS))) $(filter -D% -pthread,$(MPI_SAYS))
MPI_LIBS := $(filter -L% -l% -Wl%,$(MPI_SAYS))
# The last line of what a header makes of $(2).
expand    = $(shell printf '%s\n' '$(HASH)include <$(1)>' $(2) | $(CC) $(3) -E -P -x c - | tail -n 1 | sed 's/ *\. */./g; s/"//g')
ifeq ($(if $(MPI_SAYS),$(call try,$(HASH)include <mpi.h>,$(MPI_CC) $(MPI_LIBS))),1)
MPI_IS   := $(call expand,mpi.h,'$(HASH)ifdef OPEN_MPI' 'Open MPI OMPI_MAJOR_VERSION.OMPI_MINOR_VERSION.OMPI_RELEASE_VERSION' \
    '$(HASH)else' '"MPICH" MPICH_VERSION' '$(HASH)endif',$(MPI_CC))
FLAGS_OF_comm := -DGPT_MPI
FLAGS_OF_comm_mpi := $(MPI_CC)
ROOMS    += comm_mpi
LIBS     += $(MPI_LIBS)
endif

# NCCL, for GPUs: it needs MPI to find each other by.
NCCL_CC   := -isystem $(CUDA_ROOT)/include
ifeq ($(if $(and $(CUDA_ROOT),$(MPI_IS)),$(call try,$(HASH)include <nccl.h>,$(NCCL_CC) -L$(CUDA_ROOT)/lib64 -lnccl)),1)
NCCL_IS   := $(call expand,nccl.h,NCCL_MAJOR.NCCL_MINOR.NCCL_PATCH,$(NCCL_CC))
FLAGS_OF_comm += -DGPT_NCCL
FLAGS_OF_comm_nccl := $(NCCL_CC)
ROOMS     += comm_nccl
LIBS      += -lnccl
endif

# What is written as .gz: by libdeflate, or by zlib.
ifeq ($(call try,$(HASH)include <libdeflate.h>,-ldeflate),1)
FLAGS_OF_util := -DGPT_LIBDEFLATE
LIBS += -ldeflate
endif

# HTML: libxml2, or html_none.c, which says what is missing.
XML_CC := $(patsubst -I%,-isystem %,$(shell pkg-config --cflags libxml-2.0 2>/dev/null || xml2-config --cflags 2>/dev/null))
ifeq ($(call try,$(HASH)include <libxml/HTMLparser.h>,$(XML_CC) -lxml2),1)
FLAGS_OF_html := $(XML_CC)
ROOMS  += html
LIBS   += -lxml2
else
ROOMS  += html_none
endif

OBJS   := $(ROOMS:%=$(BUILD)/%.o) $(CUDA_OBJS)
TOBJS  := $(patsubst %.c,$(BUILD)/%.o,$(wildcard test/unit/*.c test/ops/*.c))
PAR    := $(if $(MPI_IS),$(patsubst %.c,$(BUILD)/%,$(wildcard test/parallel/*.c)))
# Tests of many ranks: NP of them; the grids of fewer on half as many, since ranks that only wait cost time too, and on two
# with all options. Under a checker, or built by a second compiler, two ranks do, and what is about time is left out.
NP     ?= $(if $(SAN)$(filter clang,$(CC)),2,8)
ON_NP  := test/parallel/run.sh $(NP) $(BUILD)/test/parallel
RANKS  := '$(ON_NP)/wire' '$(ON_NP)/checkpoint' $(if $(filter-out 2,$(NP)),'GRIDS=whole $(ON_NP)/grids' \
    'test/parallel/run.sh $(shell expr $(NP) / 2) $(BUILD)/test/parallel/grids' \
    'GRIDS=all test/parallel/run.sh 2 $(BUILD)/test/parallel/grids' \
    test/parallel/faults.sh test/parallel/train.sh,'$(ON_NP)/grids')
FUZZ   := $(patsubst test/fuzz/%.c,$(BUILD)/fuzz/%,$(wildcard test/fuzz/fuzz_*.c))

$(BIN): $(OBJS) $(BUILD)/main.o
	$Q$(CC) $(ALL) $^ -o $@ $(LIBS)
	@echo "gpt: built $@ with $(CC) for $(or $(MARCH),the default CPU); CUDA: $(or $(CUDA_IS),no); MPI: $(or $(MPI_IS),no); NCCL: $(or $(NCCL_IS),no)"

# Everything is built again when the compiler or its flags change.
$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(CC) $(ALL) $(CUDA_CC) $(MPI_SAYS) $(NCCL_IS)' | cmp -s - $@ || echo '$(CC) $(ALL) $(CUDA_CC) $(MPI_SAYS) $(NCCL_IS)' >$@

$(BUILD)/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	@echo "  $<"
	$Q$(CC) $(ALL) $(FLAGS_OF_$*) -c $< -o $@

$(BUILD)/%.cu.o: %.cu $(BUILD)/flags
	@mkdir -p $(@D)
	@echo "  $<"
	$Q$(CUDA_CC) -c $< -o $@

$(BUILD)/faults: $(BUILD)/test/cuda_on_cpu/faults.cu.o $(EMU)
	$Qg++ $^ -o $@

$(BUILD)/%.o: %.cpp $(BUILD)/flags
	@mkdir -p $(@D)
	@echo "  $<"
	$Qg++ -std=c++17 -Wall -Wextra -Werror -O3 -g -Itest/cuda_on_cpu -MMD -MP -c $< -o $@

# Beside oneDNN: scripts/bench/matmul.sh.
$(BUILD)/bench-matmul: $(BUILD)/scripts/bench/matmul.o $(OBJS)
	$Q$(CC) $(ALL) $^ -o $@ -ldnnl $(LIBS)

$(BUILD)/test/run: $(OBJS) $(TOBJS)
	$Q$(CC) $(ALL) $^ -o $@ $(LIBS)

.PRECIOUS: $(BUILD)/test/fuzz/%.o
.SECONDARY: $(PAR:=.o)
$(BUILD)/test/parallel/%: $(BUILD)/test/parallel/%.o $(OBJS)
	$Q$(CC) $(ALL) $^ -o $@ $(LIBS)

$(BUILD)/fuzz/%: $(BUILD)/test/fuzz/%.o $(OBJS)
	@mkdir -p $(@D)
	$Q$(CC) $(ALL) -fsanitize=fuzzer $^ -o $@ $(LIBS)

# Tests share their cores with compilers and each other, so threads that wait had better sleep than spin.
export OMP_WAIT_POLICY ?= passive

check: layers $(BIN) $(BUILD)/test/run
	$(BUILD)/test/run

test: $(BIN) $(BUILD)/test/run $(PAR)
	@GPT=$(BIN) BUILD=$(BUILD) test/sum.sh scripts/layers.sh $(BUILD)/test/run test/cli/run.sh '$(if $(filter 2,$(NP)),KILLS=6 )test/resume.sh' \
	    $(RANKS) test/parallel/share.sh

test-compat: $(BIN)
	@GPT=$(BIN) test/sum.sh $(patsubst %,'$(PYTHON) %',$(wildcard test/compat/*.py))

# The same tests under a checker, each with a build of its own.
CHECKED = +@$(MAKE) --no-print-directory BUILD=build-$@ BIN=build-$@/gpt CFLAGS="-O1 -g" CUDA=

asan:
	$(CHECKED) SAN=address,undefined test

ubsan:
	$(CHECKED) SAN=undefined test

# gcc's OpenMP hides its locks from ThreadSanitizer; clang's tells it about them, through libarcher.
tsan:
	$(CHECKED) SAN=thread CC=clang build-tsan/test/run
	TSAN_OPTIONS="ignore_noninstrumented_modules=1 $(TSAN_OPTIONS)" build-tsan/test/run

# Valgrind knows no AVX-512.
valgrind:
	$(CHECKED) $(if $(findstring x86_64,$(shell uname -m)),MARCH=x86-64-v3) build-valgrind/test/run
	valgrind -q --error-exitcode=9 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite \
	    build-valgrind/test/run util config tokenizer dataloader demo safetensors

# The kernels without a GPU: their tests, after those that the checks see what they should.
cuda-on-cpu:
	+@$(MAKE) --no-print-directory BUILD=build-emu BIN=build-emu/gpt CUDA=cpu build-emu/gpt build-emu/test/run build-emu/faults
	@test/sum.sh build-emu/faults 'GPT_TEST_DEVICE=cuda GPT_TEST_EXACT=1 build-emu/test/run ops_' \
	    'GPT=build-emu/gpt test/cuda_on_cpu/agree.sh'

# Products on AMX with tiles in plain C. They stand beside vectors of 16, so AVX-512 must be there.
amx-on-cpu:
ifneq ($(shell grep -cw avx512f /proc/cpuinfo),0)
	$(CHECKED) MPI= FLAGS_OF_cpu_kernel="-include test/amx_on_cpu.h" build-amx-on-cpu/test/run
	build-amx-on-cpu/test/run ops_ gpt_ golden_ sample_
else
	@echo "skipped amx-on-cpu: this CPU has no AVX-512" && echo "0 passed, 0 failed, 1 skipped"
endif

fuzz:
	$(CHECKED) SAN=fuzzer-no-link,address,undefined CC=clang fuzz-targets
	@test/fuzz/run.sh build-fuzz/fuzz

fuzz-targets: $(FUZZ)

cross:
	$(CHECKED) CC=aarch64-linux-gnu-gcc MARCH=armv8-a CFLAGS="-O2 -g" build-cross/gpt build-cross/test/run
	qemu-aarch64 build-cross/test/run

layers:
	@scripts/layers.sh

SOURCES = $(filter-out unicode%.h,$(wildcard *.c *.h *.cu *.cuh test/*.h test/*/*.[ch] test/*/*.cpp test/*/*.cu scripts/bench/*.c))
format:
	clang-format -i $(SOURCES)

lint:
	clang-format --dry-run -Werror $(SOURCES)
	shellcheck .ci/run scripts/slurm.sbatch $(filter-out test/bad/%.sh $(filter-out %/run.sh,$(wildcard test/cli/*.sh)),$(shell git ls-files '*.sh'))
	shellcheck -s sh $(wildcard test/cli/*.sh test/bad/*.sh)

clean:
	rm -rf build build-* $(BUILD) $(BIN)

-include $(OBJS:.o=.d) $(BUILD)/test/cuda_on_cpu/faults.cu.d $(TOBJS:.o=.d) $(BUILD)/main.d
FORCE:
.PHONY: FORCE check test test-compat cuda-on-cpu amx-on-cpu asan ubsan tsan valgrind fuzz fuzz-targets cross layers format lint clean
