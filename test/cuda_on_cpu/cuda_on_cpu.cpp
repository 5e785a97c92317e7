/* cuda_on_cpu.cpp - runs kernels: fibers that meet at barriers, and a check of every access they make. */
#include "inside.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <dlfcn.h>
#include <link.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

CudaPlace cuda_place;
std::recursive_mutex cuda_lock;

enum : size_t {
    MAX_THREADS = 1024,
    MAX_SHARED = 227 << 10,
    PAGE = 4096,
    REGION = (size_t)16 << 30, /* addresses, not memory */
    STACK = 128 << 10,
};

/* ---- where are we? --------------------------------------------------------------------------------------- */

struct Thread; /* of the running block */
static const Launch *running;
static Thread *current;
static thread_local bool in_kernel;
static const char *thread_place(char buf[128]);

/* What addr2line says of an address: its function, or "file:line", of a kernel rather than of the headers that
 * stand inlined in it. */
static std::string name_of(const void *pc, bool line) {
    static uintptr_t base;
    char command[128], function[512], place[512];
    std::string s = "?";
    dl_iterate_phdr([](dl_phdr_info *i, size_t, void *) { return base = i->dlpi_addr, 1; }, nullptr);
    snprintf(command, sizeof command, "addr2line -Cfie /proc/%d/exe 0x%zx 2>/dev/null", (int)getpid(),
             (size_t)((uintptr_t)pc - base));
    FILE *f = popen(command, "r");
    while (f && fgets(function, sizeof function, f) && fgets(place, sizeof place, f)) {
        s = line ? place : function;
        s = s.substr(0, s.find_first_of(line ? " \n" : "(\n"));
        if (line) s = s.substr(s.rfind('/') + 1);
        if (!strstr(place, "cuda_on_cpu/") || strstr(place, ".cu:")) break;
    }
    if (f) pclose(f);
    return s;
}

/* One line that says what was done, by which thread, where; and the end. */
[[noreturn]] static void fault_at(const void *pc, const char *what) {
    char place[128];
    in_kernel = false;
    fflush(stdout);
    fprintf(stderr, "CUDA on CPU: %s", what);
    if (running) fprintf(stderr, ", in %s, %s", name_of(running->kernel, false).c_str(), thread_place(place));
    if (pc) fprintf(stderr, ", at %s", name_of((const char *)pc - 1, true).c_str());
    fputc('\n', stderr);
    _exit(99);
}

void cuda_fault(const char *fmt, ...) {
    char what[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    fault_at(__builtin_return_address(0), what);
}

/* ---- device memory --------------------------------------------------------------------------------------- */

struct Allocation {
    size_t at, bytes; /* from the region's start */
    bool live;
};
static char *region;
static size_t region_used;
static uint32_t
    *page_owner; /* of each page of the region: the last allocation that begins at or before it, from 1 */
static std::vector<Allocation> allocations(1);
static int device_open;

static uint64_t *region_shadow;

static char *reserve(size_t bytes, int access) {
    void *p = mmap(nullptr, bytes, access, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) cuda_fault("no %zu bytes of addresses", bytes);
    return (char *)p;
}

static void on_signal(int sig, siginfo_t *info, void *context);

static void region_make() {
    static char stack[64 << 10];
    if (region) return;
    region = reserve(REGION, PROT_NONE), region_used = PAGE;
    region_shadow = (uint64_t *)reserve(REGION * 8, PROT_READ | PROT_WRITE);
    page_owner = (uint32_t *)reserve(REGION / PAGE * sizeof *page_owner, PROT_READ | PROT_WRITE);
    stack_t alternate = {};
    alternate.ss_sp = stack, alternate.ss_size = sizeof stack;
    sigaltstack(&alternate, nullptr);
    struct sigaction act = {};
    act.sa_sigaction = on_signal, act.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (int sig : {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE}) sigaction(sig, &act, nullptr);
}

static void region_protect() {
    if (region_used) mprotect(region, region_used, device_open ? PROT_READ | PROT_WRITE : PROT_NONE);
}
DeviceOpen::DeviceOpen() {
    if (device_open++ == 0) region_protect();
}
DeviceOpen::~DeviceOpen() {
    if (--device_open == 0) region_protect();
}

void *device_take(size_t bytes) {
    region_make();
    const size_t pages = (bytes + PAGE - 1) / PAGE + 1; /* one between neighbours */
    if (bytes > REGION || region_used + pages * PAGE > REGION) return nullptr;
    const size_t at = region_used;
    allocations.push_back({at, bytes, true});
    std::fill_n(page_owner + at / PAGE, pages, (uint32_t)allocations.size() - 1);
    region_used += pages * PAGE;
    if (device_open) region_protect();
    DeviceOpen open;
    memset(region + at, 0xff, std::min(bytes, (size_t)1 << 20)); /* NaN in every type; but pages cost time */
    return region + at;
}

bool device_owns(const void *p) {
    return region && (size_t)((const char *)p - region) < REGION;
}

static Allocation &owner_of(const void *p) {
    const size_t at = (size_t)((const char *)p - region);
    return allocations[at < region_used ? page_owner[at / PAGE] : allocations.size() - 1];
}

bool device_give(void *p) {
    if (!device_owns(p)) return false;
    Allocation &a = owner_of(p);
    if (!a.live || region + a.at != p) return false;
    a.live = false;
    madvise(p, (a.bytes + PAGE - 1) / PAGE * PAGE, MADV_DONTNEED);
    return true;
}

/* "0x7f..., 4 bytes past the end of allocation 12 (1024 bytes)" */
static const char *describe(const void *p, char buf[160]) {
    if (!device_owns(p))
        snprintf(buf, 160, "%p, %s", p, p ? "which is not device memory" : "a null pointer");
    else if (&owner_of(p) == &allocations[0])
        snprintf(buf, 160, "%zu bytes before all allocations", PAGE - (size_t)((const char *)p - region));
    else {
        const Allocation &a = owner_of(p);
        const size_t off = (size_t)((const char *)p - region) - a.at;
        if (off < a.bytes)
            snprintf(buf, 160, "byte %zu of %sallocation %d (%zu bytes)", off, a.live ? "" : "the freed ",
                     (int)(&a - allocations.data()), a.bytes);
        else
            snprintf(buf, 160, "%zu bytes past the end of allocation %d (%zu bytes)", off - a.bytes,
                     (int)(&a - allocations.data()), a.bytes);
    }
    return buf;
}

static bool device_good(const void *p, size_t bytes) {
    if (!device_owns(p) || (size_t)((const char *)p - region) >= region_used) return false;
    const Allocation &a = owner_of(p);
    const size_t off = (size_t)((const char *)p - region) - a.at;
    return a.live && off <= a.bytes && bytes <= a.bytes - off;
}

void device_check(const void *p, size_t bytes, const char *what) {
    char buf[160];
    if (bytes && !device_good(p, bytes)) {
        running = nullptr;
        char text[400];
        snprintf(text, sizeof text, "%s %zu bytes at %s", what, bytes, describe(p, buf));
        fault_at(nullptr, text);
    }
}

static std::map<const char *, size_t> pinned;
void host_pin(void *p, size_t bytes) {
    pinned[(const char *)p] = bytes;
}
bool host_unpin(void *p) {
    return pinned.erase((const char *)p) == 1;
}
bool host_pinned(const void *p, size_t bytes) {
    auto i = pinned.upper_bound((const char *)p);
    if (i == pinned.begin()) return false;
    --i;
    const size_t off = (size_t)((const char *)p - i->first);
    return off <= i->second && bytes <= i->second - off;
}

/* ---- fibers ---------------------------------------------------------------------------------------------- */

/* A stack that runs threads to their ends, one after the other; a thread that waits keeps its worker. */
struct Worker {
    jmp_buf at;
    Thread *thread;
};

struct Thread {
    uint3 idx;
    Worker *worker;       /* NULL: not begun */
    const char *waits_at; /* NULL: it runs or can run */
    const void *pc;       /* where it waits */
    unsigned mask;        /* the lanes it waits for; 0: for the whole block */
    bool ended;
    uint16_t gen; /* its warp's count of meetings that order memory, after the last it was at */
    void *mine;   /* what it brought to a meeting of lanes */
};

static Thread threads[MAX_THREADS];
static int n_threads;
static uint16_t warp_gen[MAX_THREADS / 32];
static char *stacks;
static std::vector<Worker *> idle;
static int n_workers;
static jmp_buf launcher;

static struct {
    int waiting, ended, count, result;
    const char *what;
    bool depth_first; /* do lanes that met run on before the others? */
} block;

static struct { /* threads that can run, in their order */
    uint16_t id[2 * MAX_THREADS];
    unsigned first, n;
} ready;

static void ready_back(int id) {
    ready.id[(ready.first + ready.n++) % (2 * MAX_THREADS)] = (uint16_t)id;
}
static void ready_front(int id) {
    ready.first = (ready.first + 2 * MAX_THREADS - 1) % (2 * MAX_THREADS);
    ready.id[ready.first] = (uint16_t)id, ready.n++;
}

static const char *thread_place(char buf[128]) {
    const Thread *t = current ? current : threads;
    snprintf(buf, 128, "block (%u,%u,%u), thread (%u,%u,%u)", blockIdx.x, blockIdx.y, blockIdx.z, t->idx.x,
             t->idx.y, t->idx.z);
    return buf;
}

/* A random number for each choice of an order (splitmix64). */
static uint64_t chance_state;
static uint64_t chance() {
    if (seed_now() == 0) return 0;
    uint64_t z = chance_state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static __attribute__((noinline)) void switch_from_to(jmp_buf from, jmp_buf to) {
    if (_setjmp(from) == 0) _longjmp(to, 1);
}

static void enter(Thread *t) {
    current = t, threadIdx = t->idx;
}

static Worker *born;
static ucontext_t birth;
static void worker_main();

static Worker *worker_take() {
    if (!idle.empty()) {
        Worker *w = idle.back();
        idle.pop_back();
        return w;
    }
    if (!stacks) stacks = reserve(MAX_THREADS * STACK, PROT_READ | PROT_WRITE);
    char *stack = stacks + (size_t)n_workers++ * STACK;
    mprotect(stack, PAGE, PROT_NONE); /* a thread that grows too far ends there */
    static ucontext_t context;
    born = new Worker();
    getcontext(&context);
    context.uc_stack.ss_sp = stack, context.uc_stack.ss_size = STACK, context.uc_link = nullptr;
    makecontext(&context, worker_main, 0);
    swapcontext(&birth, &context); /* comes back at once: from here on it can be jumped to */
    return born;
}

/* What a waiting thread waits for, in words. */
static std::string waits_for(const Thread &t) {
    char text[160];
    const int id = (int)(&t - threads), first = id / 32 * 32;
    if (!t.mask) return std::string("waits at ") + t.waits_at;
    for (int i = 0; i < 32 && first + i < n_threads; i++) {
        const Thread &other = threads[first + i];
        if (!(t.mask >> i & 1) || (other.waits_at && other.mask == t.mask)) continue;
        snprintf(text, sizeof text, "waits at %s with mask 0x%08x for lane %d, which is at %s", t.waits_at,
                 t.mask, i, other.waits_at ? other.waits_at : "nothing");
        if (other.waits_at && other.mask)
            snprintf(text + strlen(text), sizeof text - strlen(text), " with mask 0x%08x", other.mask);
        return text;
    }
    return t.waits_at;
}

/* Then some lane waits for others: a barrier for all lets everyone go on once nobody else can come. */
[[noreturn]] static void deadlock() {
    for (int i = 0; i < n_threads; i++) {
        if (!threads[i].waits_at || !threads[i].mask) continue;
        enter(&threads[i]);
        fault_at(threads[i].pc, ("deadlock: it " + waits_for(threads[i])).c_str());
    }
    fault_at(nullptr, "deadlock");
}

/* To the next thread that can run; idle: this worker's thread has ended. */
static void go_on(Worker *me, bool me_idle) {
    if (ready.n == 0) {
        if (block.ended < n_threads) deadlock();
        idle.push_back(me);
        switch_from_to(me->at, launcher);
        return;
    }
    Thread *next = &threads[ready.id[ready.first]];
    ready.first = (ready.first + 1) % (2 * MAX_THREADS), ready.n--;
    enter(next);
    if (next->worker == me) return;
    if (!next->worker && me_idle) {
        next->worker = me, me->thread = next;
        return;
    }
    if (!next->worker) {
        next->worker = worker_take();
        next->worker->thread = next;
    }
    if (me_idle) idle.push_back(me);
    switch_from_to(me->at, next->worker->at);
}

/* ---- meetings -------------------------------------------------------------------------------------------- */

static uint64_t segment; /* counts the stretches between barriers, of all blocks and launches */

struct Meeting {
    unsigned mask, here;
    const char *what;
};
static struct {
    Meeting open[32];
    int n;
    unsigned ended;
} warps[MAX_THREADS / 32];

/* All numbers below n in an order of this moment: forward, backward, by warps, or any. */
static void shuffled(int n, void (*give)(int)) {
    static int order[MAX_THREADS];
    const uint64_t how = chance() % 4;
    const int group = how == 2 ? 32 : 1;
    for (int i = 0; i < n; i++) order[i] = how == 1 ? n - 1 - i : i;
    for (int i = n / group; how >= 2 && i > 1; i--) {
        const int j = (int)(chance() % (uint64_t)i);
        std::swap_ranges(order + (i - 1) * group, order + i * group, order + j * group);
    }
    for (int i = 0; i < n; i++) give(order[i]);
}

static void release_block() {
    block.result = block.count, block.count = block.waiting = 0;
    segment++;
    shuffled(n_threads, [](int i) {
        if (!threads[i].ended) threads[i].waits_at = nullptr, ready_back(i);
    });
}

static void thread_end(Thread *t) {
    const int id = (int)(t - threads), warp = id / 32;
    t->ended = true, block.ended++;
    warps[warp].ended |= 1u << id % 32;
    for (int i = 0; i < warps[warp].n; i++)
        if (warps[warp].open[i].mask >> id % 32 & 1)
            cuda_fault("lane %d has ended, while others wait for it at %s with mask 0x%08x", id % 32,
                       warps[warp].open[i].what, warps[warp].open[i].mask);
    if (block.waiting && block.waiting + block.ended == n_threads) release_block();
}

static void worker_main() {
    Worker *me = born;
    if (_setjmp(me->at) == 0) setcontext(&birth);
    for (;;) {
        running->thread((void *)running->call);
        thread_end(me->thread);
        go_on(me, true);
    }
}

static void wait_at(const char *what, unsigned mask, const void *pc) {
    if (!in_kernel) cuda_fault("%s outside of a kernel", what);
    current->waits_at = what, current->mask = mask, current->pc = pc;
}

static inline bool same(const char *a, const char *b) {
    return a == b || !strcmp(a, b);
}

int cuda_block_meet(const char *what, int value) {
    wait_at(what, 0, __builtin_return_address(0));
    if (block.waiting && !same(block.what, what))
        fault_at(current->pc, (std::string(what) + " while other threads are at " + block.what).c_str());
    block.what = what, block.count += value, block.waiting++;
    if (block.waiting + block.ended == n_threads) release_block();
    go_on(current->worker, false);
    return block.result;
}

static Meeting &meeting_of(int warp, unsigned mask, const char *what) {
    auto &w = warps[warp];
    for (int i = 0; i < w.n; i++)
        if (w.open[i].mask == mask) return w.open[i];
    w.open[w.n] = {mask, 0, what};
    return w.open[w.n++];
}

/* The last lane has come: do what they came for, and let the others run again. */
static void meet(Meeting &m, int first, bool orders, void (*all)(void **, unsigned)) {
    void *lanes[32] = {};
    const Meeting done = m;
    auto &w = warps[first / 32];
    m = w.open[--w.n];
    for (int i = 0; i < 32; i++)
        if (done.mask >> i & 1) lanes[i] = threads[first + i].mine, threads[first + i].waits_at = nullptr;
    if (all) all(lanes, done.mask);
    if (orders) warp_gen[first / 32]++;
    const bool backward = block.depth_first == (chance() % 2 == 0);
    for (int k = 0; k < 32; k++) {
        const int i = backward ? 31 - k : k;
        if (!(done.mask >> i & 1)) continue;
        if (orders) threads[first + i].gen = warp_gen[first / 32];
        if (!block.depth_first)
            ready_back(first + i);
        else if (&threads[first + i] != current)
            ready_front(first + i);
    }
}

void cuda_warp_meet(const char *what, unsigned mask, bool orders, void *mine,
                    void (*all)(void **, unsigned)) {
    const int id = (int)(current - threads), lane = id % 32, first = id - lane;
    const void *pc = __builtin_return_address(0);
    char text[256];
    wait_at(what, mask, pc);
    current->mine = mine;
    if (!(mask >> lane & 1)) {
        snprintf(text, sizeof text, "%s with mask 0x%08x, which does not name the calling lane %d", what,
                 mask, lane);
        fault_at(pc, text);
    }
    const unsigned here = n_threads - first >= 32 ? ~0u : (1u << (n_threads - first)) - 1;
    const unsigned gone = mask & (warps[first / 32].ended | ~here);
    if (gone) {
        snprintf(text, sizeof text, "%s with mask 0x%08x names lane %d, which %s", what, mask,
                 __builtin_ctz(gone), gone & ~here ? "the block does not have" : "has ended");
        fault_at(pc, text);
    }
    Meeting &m = meeting_of(first / 32, mask, what);
    if (!same(m.what, what)) {
        snprintf(text, sizeof text, "%s with mask 0x%08x while other lanes of it are at %s", what, mask,
                 m.what);
        fault_at(pc, text);
    }
    m.here |= 1u << lane;
    if (m.here == mask) {
        meet(m, first, orders, all);
        if (block.depth_first) return;
    }
    go_on(current->worker, false);
}

/* ---- checks of accesses ---------------------------------------------------------------------------------- */

/* Two records for each two bytes: who wrote and who read last. A record holds the segment, how often the thread's warp
 * had met by __syncwarp, the thread, and for reads whether others read too. */
enum : uint64_t { LANES = 1, WARPS = 2, BLOCKS = 4, SEGMENT = (uint64_t)1 << 28 };
static uint64_t launch_first, block_first; /* the first record of this launch, of this block */
static bool block_met;                     /* by an atomic: it may be the last block, who sums up */

alignas(1024) static unsigned char dynamic[MAX_SHARED];
static uint64_t dynamic_shadow[MAX_SHARED];
extern char __executable_start[], _end[];
/* Where the linker put __shared__ variables: the program's thread-local memory. */
static char *named;
static size_t named_bytes;
static std::vector<uint64_t> named_shadow;

static void find_named() {
    dl_iterate_phdr(
        [](dl_phdr_info *i, size_t, void *) {
            named = (char *)i->dlpi_tls_data;
            for (int k = 0; k < i->dlpi_phnum; k++)
                if (i->dlpi_phdr[k].p_type == PT_TLS) named_bytes = i->dlpi_phdr[k].p_memsz;
            return 1; /* the first one is the program */
        },
        nullptr);
    named_shadow.resize(named_bytes + 2);
}

uint64_t cuda_block_number() {
    return block_first;
}

unsigned char *cuda_dynamic_shared() {
    return dynamic;
}

static uint64_t stamp() {
    return segment * SEGMENT | (uint64_t)(current->gen & 0x7fff) << 13 | (uint64_t)(current - threads) << 3;
}
static int thread_in(uint64_t record) {
    return (int)(record >> 3 & 0x3ff);
}
static bool together(uint64_t record) { /* of this block, with no barrier since */
    return record / SEGMENT == segment;
}
/* Is what another thread did ordered before this one's next step by a __syncwarp? */
static bool ordered(uint64_t record, uint64_t me) {
    return thread_in(record) / 32 == thread_in(me) / 32 && (record >> 13 & 0x7fff) != (me >> 13 & 0x7fff);
}

[[noreturn]] static void race(const void *pc, const char *what, const void *p, const char *was, uint64_t by) {
    char text[400], buf[160], who[80];
    if (by < block_first)
        snprintf(who, sizeof who, "another block of the same launch");
    else {
        const uint3 t = threads[thread_in(by)].idx;
        snprintf(who, sizeof who, "thread (%u,%u,%u) without a barrier between", t.x, t.y, t.z);
    }
    snprintf(text, sizeof text, "race: %s %s, which was %s by %s", what,
             device_owns(p) ? describe(p, buf) : "shared memory", was, who);
    fault_at(pc, text);
}

static inline void check_read(uint64_t *cell, uint64_t me, const void *p, const void *pc, bool shared) {
    const uint64_t w = cell[0], r = cell[1];
    if (shared && w < block_first) fault_at(pc, "reads shared memory that nothing was written to");
    if (w >= launch_first && w < block_first && !block_met) race(pc, "reads", p, "written", w);
    if (together(w) && thread_in(w) != thread_in(me) && !ordered(w, me)) race(pc, "reads", p, "written", w);
    uint64_t also = r >= block_first ? r & BLOCKS : r >= launch_first && !shared ? (uint64_t)BLOCKS : 0;
    if (together(r)) {
        also |= r & WARPS;
        if (thread_in(r) / 32 != thread_in(me) / 32)
            also |= WARPS;
        else if (!ordered(r, me))
            also |= thread_in(r) == thread_in(me) ? r & LANES : LANES;
    }
    cell[1] = me | also;
}

static inline void check_write(uint64_t *cell, uint64_t me, const void *p, const void *pc, bool shared) {
    const uint64_t w = cell[0], r = cell[1];
    if (!shared && !block_met) {
        if (w >= launch_first && w < block_first) race(pc, "overwrites", p, "written", w);
        if (r >= launch_first && (r < block_first || r & BLOCKS)) race(pc, "overwrites", p, "read", 0);
    }
    if (together(w) && thread_in(w) != thread_in(me) && !ordered(w, me))
        race(pc, "overwrites", p, "written", w);
    if (together(r)) {
        const bool other = thread_in(r) != thread_in(me);
        if (r & WARPS || (r & LANES && !ordered(r, me)) || (other && !ordered(r, me)))
            race(pc, "overwrites", p, "read", r);
    }
    cell[0] = me;
}

static void check_cells(uint64_t *cells, size_t at, size_t n, bool write, const void *p, const void *pc,
                        bool shared) {
    const uint64_t me = stamp();
    uint64_t *cell = cells + at / 2 * 2, *end = cells + (at + n + 1) / 2 * 2;
    if (n == 1) { /* its neighbour may be another thread's: only ask whether it was written */
        if (shared && !write && cell[0] < block_first) check_read(cell, me, p, pc, shared);
        if (write && cell[0] < block_first) cell[0] = me;
        return;
    }
    for (; cell < end; cell += 2)
        if (write)
            check_write(cell, me, p, pc, shared);
        else
            check_read(cell, me, p, pc, shared);
}

[[noreturn]] static void bad_access(const void *p, size_t n, bool write, const void *pc) {
    char text[400], buf[160];
    const size_t off = (size_t)((const unsigned char *)p - dynamic);
    snprintf(text, sizeof text, "%s %zu bytes at ", write ? "writes" : "reads", n);
    if (off < sizeof dynamic)
        snprintf(text + strlen(text), 200, "byte %zu of the %zu bytes of dynamic shared memory", off,
                 running->shared);
    else
        snprintf(text + strlen(text), 200, "%s", describe(p, buf));
    fault_at(pc, text);
}

static inline bool within(const void *p, const void *lo, size_t n) {
    return (size_t)((const char *)p - (const char *)lo) < n;
}

/* Is this address one that a thread may use, and is nobody else at it? */
static void check_access(const void *p, size_t n, bool write, bool aligned, const void *pc) {
    if (!in_kernel || within(p, &cuda_place, sizeof cuda_place) || within(p, stacks, MAX_THREADS * STACK))
        return;
    if (aligned && ((uintptr_t)p & (n - 1))) {
        char text[80];
        snprintf(text, sizeof text, "misaligned: %s %zu bytes at %p", write ? "writes" : "reads", n, p);
        fault_at(pc, text);
    }
    if (device_owns(p)) {
        if (!device_good(p, n)) bad_access(p, n, write, pc);
        check_cells(region_shadow, (size_t)((const char *)p - region), n, write, p, pc, false);
    } else if (within(p, dynamic, sizeof dynamic)) {
        const size_t off = (size_t)((const unsigned char *)p - dynamic);
        if (off + n > running->shared) bad_access(p, n, write, pc);
        check_cells(dynamic_shadow, off, n, write, p, pc, true);
    } else if (within(p, named, named_bytes)) {
        check_cells(named_shadow.data(), (size_t)((const char *)p - named), n, write, p, pc, true);
    } else if (!within(p, __executable_start, (size_t)(_end - __executable_start)) &&
               !within(p, running->call, running->call_bytes) && !host_pinned(p, n)) {
        bad_access(p, n, write, pc);
    }
}

void cuda_atomic(const void *p, size_t n) {
    const void *pc = __builtin_return_address(0);
    if (!in_kernel) fault_at(pc, "an atomic outside of a kernel");
    if (device_owns(p)) {
        if (!device_good(p, n)) bad_access(p, n, true, pc);
        block_met = true;
    }
}

#define ACCESS(name, n, write, aligned)                                  \
    extern "C" void __tsan_##name(void *p) {                             \
        check_access(p, n, write, aligned, __builtin_return_address(0)); \
    }
ACCESS(read1, 1, false, false)
ACCESS(read2, 2, false, true)
ACCESS(read4, 4, false, true)
ACCESS(read8, 8, false, true)
ACCESS(read16, 16, false, true)
ACCESS(write1, 1, true, false)
ACCESS(write2, 2, true, true)
ACCESS(write4, 4, true, true)
ACCESS(write8, 8, true, true)
ACCESS(write16, 16, true, true)
ACCESS(unaligned_read2, 2, false, false)
ACCESS(unaligned_read4, 4, false, false)
ACCESS(unaligned_read8, 8, false, false)
ACCESS(unaligned_read16, 16, false, false)
ACCESS(unaligned_write2, 2, true, false)
ACCESS(unaligned_write4, 4, true, false)
ACCESS(unaligned_write8, 8, true, false)
ACCESS(unaligned_write16, 16, true, false)
extern "C" void __tsan_read_range(void *p, size_t n) {
    check_access(p, n, false, false, __builtin_return_address(0));
}
extern "C" void __tsan_write_range(void *p, size_t n) {
    check_access(p, n, true, false, __builtin_return_address(0));
}
extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(void *) {}
extern "C" void __tsan_func_exit() {}
extern "C" void __tsan_vptr_update(void *, void *) {}

/* ---- a launch -------------------------------------------------------------------------------------------- */

static void on_signal(int sig, siginfo_t *info, void *context) {
    const ucontext_t *u = (const ucontext_t *)context;
#if defined __x86_64__
    const void *pc = (const void *)(u->uc_mcontext.gregs[REG_RIP] + 1);
#else
    const void *pc = (const void *)(u->uc_mcontext.pc + 1);
#endif
    char text[400], buf[160];
    const bool address = sig == SIGSEGV || sig == SIGBUS;
    if (in_kernel) {
        if (address && within(info->si_addr, stacks, MAX_THREADS * STACK))
            snprintf(text, sizeof text, "more than %zu bytes of local variables", (size_t)STACK);
        else if (address)
            snprintf(text, sizeof text, "accesses %s", describe(info->si_addr, buf));
        else
            snprintf(text, sizeof text, "undefined: misaligned, out of an array's bounds, or overflown");
        fault_at(pc, text);
    }
    if (address && device_owns(info->si_addr)) {
        snprintf(text, sizeof text, "the host accesses device memory, %s", describe(info->si_addr, buf));
        fault_at(pc, text);
    }
    signal(sig, SIG_DFL); /* not ours: it happens again, and ends the program */
}

static void block_run(const Launch &l) {
    memset(dynamic, 0xff, l.shared);
    block = {};
    block.depth_first = chance() % 4 != 0;
    block_first = ++segment * SEGMENT, block_met = false;
    ready.first = ready.n = 0;
    memset(warps, 0, sizeof warps), memset(warp_gen, 0, sizeof warp_gen);
    for (int i = 0; i < n_threads; i++) {
        threads[i] = {};
        const unsigned u = (unsigned)i;
        threads[i].idx = {u % l.block.x, u / l.block.x % l.block.y, u / l.block.x / l.block.y};
    }
    shuffled(n_threads, ready_back);
    Worker *w = worker_take();
    Thread *t = &threads[ready.id[ready.first]];
    ready.first = (ready.first + 1) % (2 * MAX_THREADS), ready.n--;
    t->worker = w, w->thread = t;
    enter(t);
    in_kernel = true;
    switch_from_to(launcher, w->at);
    in_kernel = false;
    current = nullptr;
}

void kernel_run(const Launch &l) {
    static uint64_t launches;
    DeviceOpen open;
    const uint64_t blocks = (uint64_t)l.grid.x * l.grid.y * l.grid.z;
    find_named();
    running = &l, gridDim = l.grid, blockDim = l.block;
    n_threads = (int)(l.block.x * l.block.y * l.block.z);
    chance_state = seed_now() * 1000003 + launches++;
    launch_first = ++segment * SEGMENT;
    const uint64_t how = chance() % 3, from = how == 2 ? chance() % blocks : 0;
    for (uint64_t i = 0; i < blocks; i++) {
        const uint64_t b = how == 1 ? blocks - 1 - i : (i + from) % blocks;
        blockIdx = {(unsigned)(b % l.grid.x), (unsigned)(b / l.grid.x % l.grid.y),
                    (unsigned)(b / l.grid.x / l.grid.y)};
        block_run(l);
    }
    running = nullptr;
}
