# gpt: `make` builds what this machine can build and says what it found.
#
#   make            the program            make check    seconds: unit tests and layers
#   make test       minutes: everything    make asan / ubsan / tsan / valgrind    the same under a sanitizer
#   make test-compat  against PyTorch, transformers, tokenizers, tiktoken (needs Python; see test/golden/)
#
# Knobs: CC=clang   MARCH=native (or x86-64-v3, armv8-a, ...)   ONEDNN=0   BUILD=folder   SAN=address,undefined

CC     ?= gcc
ifeq ($(origin CC),default)
CC     := gcc
endif
MARCH  ?= native
BUILD  ?= build
BIN    ?= gpt
SAN    ?=

ROOMS := util docs config tokenizer dataloader shard demo safetensors ops cpu cpu_linear cpu_attention comm gpt optim checkpoint sample eval bench train
ROOMS := $(patsubst %.c,%,$(wildcard $(addsuffix .c,$(ROOMS))))

WARN   := -Wall -Wextra -Wshadow -Werror -Wno-format-zero-length
CFLAGS ?= -O3 -g
ARCH   := $(if $(MARCH),$(if $(findstring aarch64,$(shell $(CC) -dumpmachine)),-mcpu=$(MARCH:native=native),-march=$(MARCH)))
ALL    := -std=c11 -D_GNU_SOURCE $(WARN) $(CFLAGS) $(ARCH) -fopenmp -ffp-contract=fast -fno-math-errno -fno-trapping-math -MMD -MP -I.
LIBS   := -lcjson -lz -lm

# What is here? Each library is asked for by compiling against it.
try     = $(shell printf '%s\n' '$(1)' 'int main(void){return 0;}' | $(CC) $(ARCH) -x c - -o /dev/null $(2) >/dev/null 2>&1 && echo 1)
HASH   := \#
ONEDNN ?= $(call try,$(HASH)include <dnnl.h>,-ldnnl)
ifeq ($(ONEDNN),1)
ALL    += -DGPT_ONEDNN
LIBS   += -ldnnl
endif
ifneq ($(SAN),)
ALL    += -fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=all
endif

OBJS   := $(addprefix $(BUILD)/,$(addsuffix .o,$(ROOMS)))
TESTS  := $(wildcard test/unit/*.c test/ops/*.c)
TOBJS  := $(addprefix $(BUILD)/,$(TESTS:.c=.o))

$(BIN): $(OBJS) $(BUILD)/main.o
	$(CC) $(ALL) $^ -o $@ $(LIBS)
	@echo "gpt: built $@ with $(CC) for $(or $(MARCH),the default CPU); oneDNN: $(if $(filter 1,$(ONEDNN)),yes,no - matrix products will be slow); CUDA: no; MPI: no"

$(BUILD)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL) -c $< -o $@

$(BUILD)/test/run: $(OBJS) $(TOBJS)
	$(CC) $(ALL) $^ -o $@ $(LIBS)

check: layers $(BIN) $(BUILD)/test/run
	$(BUILD)/test/run

layers:
	@scripts/layers.sh

format:
	clang-format -i *.c *.h test/*/*.c test/*/*.h

clean:
	rm -rf $(BUILD) $(BIN)

-include $(OBJS:.o=.d) $(TOBJS:.o=.d) $(BUILD)/main.d
.PHONY: check layers format clean
