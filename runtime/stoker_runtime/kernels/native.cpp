// Matrix products for CPUs whose torch has none for these weights, and the threads that run them.
//
// Knows packed weights, rows of float32 and nothing of models. Plain C functions, called by `native.py` through
// ctypes; every one has a torch twin that the tests compare it with. One source for all instruction sets: vectors
// are GCC's, and the library is compiled once per set (`build.py`).
//
// A weight [rows, cols] is cut into panels of 16 rows. A panel stores, for one 32-bit unit of columns after the
// other, that unit of its 16 rows side by side: 1 float32, 2 bfloat16, 4 codes of 8 bits or 8 codes of 4 bits.
// So one vector load brings the same columns of 16 (or 8) outputs, nothing has to be summed across a vector, and
// all kinds are packed by the same transposition. A product unpacks up to 256 columns of a panel to float32 in the
// L1 cache and runs 6 × 16 outputs in registers over them (the blocking of GotoBLAS, Goto and van de Geijn 2008).

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

constexpr int PANEL = 16;
constexpr int DEPTH = 256;  // columns unpacked at a time: 16 KiB
constexpr int HEIGHT = 252;  // rows of x at a time: 16 KiB of sums; a multiple of 6
#ifdef __AVX512F__
constexpr int LANES = 16;
#else
constexpr int LANES = 8;
#endif
constexpr int VECTORS = PANEL / LANES;

typedef float Floats __attribute__((vector_size(LANES * 4)));
typedef int32_t Ints __attribute__((vector_size(LANES * 4)));
typedef float LooseFloats __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef int32_t LooseInts __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

inline Floats load(const float* at) { return *reinterpret_cast<const LooseFloats*>(at); }
inline void store(float* at, Floats value) { *reinterpret_cast<LooseFloats*>(at) = value; }
inline Ints load(const int32_t* at) { return *reinterpret_cast<const LooseInts*>(at); }

// ---- Threads. Work is cut into items that whoever is free claims, so that a thread which the kernel has taken off
// its processor delays one item and not all. Idle threads look for work for some microseconds, then sleep.

typedef void (*Job)(void* data, int item);

// epoch (24 bits) | number of items (20) | next item (20): a claim is one compare-and-swap and can't be of an old job.
std::atomic<uint64_t> state{0};
std::atomic<int> finished{0}, sleepers{0};
std::atomic<uint32_t> bell{0};
pthread_mutex_t busy = PTHREAD_MUTEX_INITIALIZER;
Job current_job;
void* current_data;
int num_workers = 0;
constexpr int SPINS = 4000;  // about 50 µs

inline void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  sched_yield();
#endif
}

bool run_one() {
  uint64_t seen = state.load(std::memory_order_acquire);
  for (;;) {
    const int next = seen & 0xfffff, total = (seen >> 20) & 0xfffff;
    if (next >= total) return false;
    if (state.compare_exchange_weak(seen, seen + 1, std::memory_order_acq_rel)) {
      current_job(current_data, next);
      finished.fetch_add(1, std::memory_order_release);
      return true;
    }
  }
}

void* work(void*) {
  for (int idle = 0;;) {
    const uint32_t heard = bell.load(std::memory_order_acquire);
    if (run_one()) {
      idle = 0;
    } else if (++idle < SPINS) {
      pause_briefly();
    } else {
      sleepers.fetch_add(1);
      const uint64_t seen = state.load();
      if ((seen & 0xfffff) >= ((seen >> 20) & 0xfffff))
        syscall(SYS_futex, &bell, FUTEX_WAIT_PRIVATE, heard, nullptr, nullptr, 0);
      sleepers.fetch_sub(1);
      idle = 0;
    }
  }
  return nullptr;
}

// A second caller at the same time does its work alone.
void run_parallel(Job job, void* data, int items) {
  if (num_workers == 0 || items == 1 || pthread_mutex_trylock(&busy) != 0) {
    for (int item = 0; item < items; ++item) job(data, item);
    return;
  }
  current_job = job;
  current_data = data;
  finished.store(0, std::memory_order_relaxed);
  const uint64_t epoch = (state.load(std::memory_order_relaxed) >> 40) + 1;
  bell.fetch_add(1);
  state.store(epoch << 40 | static_cast<uint64_t>(items) << 20);
  if (sleepers.load() > 0)
    syscall(SYS_futex, &bell, FUTEX_WAKE_PRIVATE, num_workers, nullptr, nullptr, 0);
  while (run_one()) {
  }
  for (int waited = 0; finished.load(std::memory_order_acquire) < items; ++waited)
    waited < SPINS ? pause_briefly() : static_cast<void>(sched_yield());
  pthread_mutex_unlock(&busy);
}

// ---- Products.

enum Kind : int32_t { FLOAT32, BFLOAT16, INT8, INT4 };

struct Weight {
  int32_t kind, rows, cols, group;
  const int32_t* units;  // [panels, units of columns, 16]
  const float* scales;   // [panels, groups, 16]; INT8 and INT4
  const float* shifts;   // the same: - zero · scale; may be null
  const float* bias;     // [rows]; may be null
};

inline int columns_per_unit(int kind) { return 1 << kind; }
inline int count_units(const Weight& w) {
  const int per_unit = columns_per_unit(w.kind);
  return (w.cols + per_unit - 1) / per_unit;
}

alignas(64) thread_local float unpacked[DEPTH * PANEL];
alignas(64) thread_local float sums[HEIGHT * PANEL];

void unpack_bfloat16(const int32_t* units, int num_units, float* out) {
  for (int unit = 0; unit < num_units; ++unit, units += PANEL, out += 2 * PANEL)
    for (int at = 0; at < PANEL; at += LANES) {
      const Ints pair = load(units + at);
      store(out + at, reinterpret_cast<Floats>(pair << 16));
      store(out + PANEL + at, reinterpret_cast<Floats>(pair & static_cast<int32_t>(0xffff0000)));
    }
}

// Codes of BITS bits, the first in the lowest: code · scale + shift.
template <int BITS>
void unpack_codes(const Weight& w, int panel, int first, int num_units, const int32_t* units, float* out) {
  constexpr int PER_UNIT = 32 / BITS;
  const int groups = (w.cols + w.group - 1) / w.group;
  for (int unit = 0; unit < num_units; ++unit) {
    const long at = (static_cast<long>(panel) * groups + (first + unit * PER_UNIT) / w.group) * PANEL;
    for (int v = 0; v < VECTORS; ++v) {
      const Ints codes = load(units + unit * PANEL + v * LANES);
      const Floats scale = load(w.scales + at + v * LANES);
      const Floats shift = w.shifts ? load(w.shifts + at + v * LANES) : Floats{};
      float* to = out + unit * PER_UNIT * PANEL + v * LANES;
#pragma GCC unroll 8
      for (int i = 0; i < PER_UNIT; ++i) {
        const Ints code = BITS == 8 ? (codes << (24 - 8 * i)) >> 24 : (codes >> (4 * i)) & 15;
        store(to + i * PANEL, __builtin_convertvector(code, Floats) * scale + shift);
      }
    }
  }
}

// Columns first … first + count of a panel as [count, 16]; `first` is a multiple of DEPTH.
const float* unpack(const Weight& w, int panel, int first, int count) {
  const int per_unit = columns_per_unit(w.kind);
  const int32_t* units = w.units + (static_cast<long>(panel) * count_units(w) + first / per_unit) * PANEL;
  const int num_units = (count + per_unit - 1) / per_unit;
  switch (w.kind) {
    case FLOAT32: return reinterpret_cast<const float*>(units);
    case BFLOAT16: unpack_bfloat16(units, num_units, unpacked); break;
    case INT8: unpack_codes<8>(w, panel, first, num_units, units, unpacked); break;
    case INT4: unpack_codes<4>(w, panel, first, num_units, units, unpacked); break;
  }
  return unpacked;
}

// out[r, :] += Σ_k x[r, k] · w[k, :] for ROWS rows of 16; CHAINS independent sums hide the latency of few rows.
struct Strides {
  long x, w, out;
};

template <int ROWS, int CHAINS>
inline void multiply_rows(const float* x, const float* w, int count, float* out, Strides stride) {
  Floats sum[CHAINS][ROWS][VECTORS] = {};
  int k = 0;
  for (; k + CHAINS <= count; k += CHAINS)
    for (int c = 0; c < CHAINS; ++c) {
      Floats column[VECTORS];
      for (int v = 0; v < VECTORS; ++v) column[v] = load(w + (k + c) * stride.w + v * LANES);
      for (int r = 0; r < ROWS; ++r)
        for (int v = 0; v < VECTORS; ++v) sum[c][r][v] += x[r * stride.x + k + c] * column[v];
    }
  for (; k < count; ++k)
    for (int v = 0; v < VECTORS; ++v)
      for (int r = 0; r < ROWS; ++r) sum[0][r][v] += x[r * stride.x + k] * load(w + k * stride.w + v * LANES);
  for (int r = 0; r < ROWS; ++r)
    for (int v = 0; v < VECTORS; ++v) {
      for (int c = 1; c < CHAINS; ++c) sum[0][r][v] += sum[c][r][v];
      float* at = out + r * stride.out + v * LANES;
      store(at, load(at) + sum[0][r][v]);
    }
}

void multiply(const float* x, long x_stride, int rows, const float* w, int count, float* out, long w_stride,
              long out_stride) {
  const Strides stride{x_stride, w_stride, out_stride};
  for (; rows >= 6; rows -= 6, x += 6 * x_stride, out += 6 * out_stride)
    multiply_rows<6, 1>(x, w, count, out, stride);
  switch (rows) {
    case 1: return multiply_rows<1, 4>(x, w, count, out, stride);
    case 2: return multiply_rows<2, 2>(x, w, count, out, stride);
    case 3: return multiply_rows<3, 2>(x, w, count, out, stride);
    case 4: return multiply_rows<4, 1>(x, w, count, out, stride);
    case 5: return multiply_rows<5, 1>(x, w, count, out, stride);
  }
}

struct Product {
  const Weight* weight;
  const float* x;
  float* y;
  int num_rows, panels_per_item;
};

void finish_panel(const Weight& w, int panel, int rows, float* y) {
  const int width = std::min(PANEL, w.rows - panel * PANEL);
  for (int r = 0; r < rows; ++r)
    for (int o = 0; o < width; ++o)
      y[static_cast<long>(r) * w.rows + panel * PANEL + o] =
          sums[r * PANEL + o] + (w.bias ? w.bias[panel * PANEL + o] : 0.0f);
}

void multiply_panels(void* data, int item) {
  const Product& product = *static_cast<Product*>(data);
  const Weight& w = *product.weight;
  const int panels = (w.rows + PANEL - 1) / PANEL;
  const int end = std::min(panels, (item + 1) * product.panels_per_item);
  for (int panel = item * product.panels_per_item; panel < end; ++panel)
    for (int top = 0; top < product.num_rows; top += HEIGHT) {
      const int rows = std::min(HEIGHT, product.num_rows - top);
      const float* x = product.x + static_cast<long>(top) * w.cols;
      memset(sums, 0, sizeof(float) * rows * PANEL);
      for (int first = 0; first < w.cols; first += DEPTH) {
        const int count = std::min(DEPTH, w.cols - first);
        multiply(x + first, w.cols, rows, unpack(w, panel, first, count), count, sums, PANEL, PANEL);
      }
      finish_panel(w, panel, rows, product.y + static_cast<long>(top) * w.rows);
    }
}

struct Packing {
  const char* from;
  int32_t* to;
  int rows, units;
};

// Written in order, read from 16 rows at once: the other way round it takes twice as long.
void pack_panel(void* data, int panel) {
  const Packing& p = *static_cast<Packing*>(data);
  int32_t* to = p.to + static_cast<long>(panel) * p.units * PANEL;
  const int height = std::min(PANEL, p.rows - panel * PANEL);
  const char* from = p.from + static_cast<long>(panel) * PANEL * p.units * 4;
  for (int unit = 0; unit < p.units; ++unit, to += PANEL)
    for (int o = 0; o < PANEL; ++o)
      if (o < height)
        memcpy(to + o, from + (static_cast<long>(o) * p.units + unit) * 4, 4);
      else
        to[o] = 0;
}

// The same where the rows lie, or back: a panel is copied and written again with its two dimensions turned.
void turn_panel(int32_t* panel, int32_t* scratch, int rows, int columns) {
  memcpy(scratch, panel, sizeof(int32_t) * rows * columns);
  for (int column = 0; column < columns; ++column)
    for (int row = 0; row < rows; ++row) *panel++ = scratch[static_cast<long>(row) * columns + column];
}

}  // namespace

extern "C" {

// Start the threads, once; the caller is one of them.
void stoker_start_threads(int num_threads) {
  for (; num_workers < num_threads - 1; ++num_workers) {
    pthread_t thread;
    if (pthread_create(&thread, nullptr, work, nullptr) != 0) return;
    pthread_detach(thread);
  }
}

// from: [rows, units] of 32 bits each, row by row; to: [panels, units, 16].
void stoker_pack(const void* from, int rows, int units, void* to) {
  Packing packing{static_cast<const char*>(from), static_cast<int32_t*>(to), rows, units};
  run_parallel(pack_panel, &packing, (rows + PANEL - 1) / PANEL);
}

// Whole panels [panels, 16, units] become [panels, units, 16] in place, or with `back` the other way; in the caller's
// thread alone. Says whether there was memory for a panel.
int stoker_turn(void* data, int panels, int units, int back) {
  const long size = static_cast<long>(PANEL) * units;
  int32_t* scratch = static_cast<int32_t*>(malloc(sizeof(int32_t) * size));
  if (scratch == nullptr) return 0;
  for (int panel = 0; panel < panels; ++panel)
    turn_panel(static_cast<int32_t*>(data) + panel * size, scratch, back ? units : PANEL, back ? PANEL : units);
  explicit_bzero(scratch, sizeof(int32_t) * size);  // nothing of a model is left lying about
  free(scratch);
  return 1;
}

// y [num_rows, weight.rows] = x [num_rows, weight.cols] · Wᵀ + b, row by row.
void stoker_multiply(const Weight* weight, const float* x, float* y, int num_rows) {
  const int panels = (weight->rows + PANEL - 1) / PANEL;
  const int items = std::min(panels, 8 * (num_workers + 1));
  const int per_item = (panels + items - 1) / items;
  Product product{weight, x, y, num_rows, per_item};
  run_parallel(multiply_panels, &product, (panels + per_item - 1) / per_item);
}
}

#include "attention.hpp"
