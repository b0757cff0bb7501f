// Matrix products of rows with packed weights: the blocking, and one kernel for all ways of storing them.
//
// Knows weights, rows and the pool of threads; nothing of layers. The blocking is that of GotoBLAS (Goto and van de
// Geijn 2008): 120 rows of x meet, panel by panel, up to 256 columns of 16 outputs in the L1 cache, of which 6 × 16
// outputs are summed in registers. Few rows read a weight as it is stored instead. Measured on a Zen 3 with AVX2, of
// whose 98 GFLOP/s a thread: float32 80 to 85 %, bfloat16 80 to 85 % (70 to 80 where 24 to 56 rows met a block). Rows of
// x copied into tiles of 6, as GotoBLAS does, gained nothing.

#pragma once

#include <type_traits>

#include "rows.hpp"

namespace {

constexpr int HEIGHT = 120;  // rows of x that a block of a panel is unpacked for
constexpr int AHEAD = 24;    // units: what is fetched early of a weight that is read as it is stored
constexpr int VECTORS = PANEL / LANES;
constexpr int TALL = 12 / VECTORS;  // rows whose sums fit in registers
constexpr int LOW = 8 / VECTORS;    // rows whose sums do so beside the unpacking

constexpr int steps_per_unit(int kind) { return kind == INT4 ? 4 : kind == FLOAT32 || kind == PAIRS ? 1 : 2; }
// Up to so many rows, unpacking for each few of them is quicker than once through the cache (measured: 8 rows of
// bfloat16 1.5 times; codes of 4 bits take more to unpack).
constexpr int few(int kind) { return kind == INT4 ? 4 : 16; }
// Independent sums of a row that hide the latency of the 8 multiplications that are under way at a time.
constexpr int chains(int rows) { return rows * VECTORS >= 8 ? 1 : rows * VECTORS >= 4 ? 2 : 4; }

// ---- Kernels.

template <int KIND>
inline Ints step(Ints unit, int i) {
  switch (KIND) {
    case BFLOAT16: return i == 0 ? unit << 16 : unit & static_cast<int32_t>(0xffff0000);
    case FLOAT16: return widen_half(unit, i);
    case INT8: {
      const Shorts pairs = reinterpret_cast<Shorts>(unit);
      return reinterpret_cast<Ints>((i == 0 ? pairs << 8 : pairs) >> 8);
    }
    case INT4: return (unit >> (4 * i)) & 0x000f000f;
  }
  return unit;
}

template <int KIND>
void unpack_units(const int32_t* units, int num_units, int32_t* out) {
  for (int unit = 0; unit < num_units; ++unit, units += PANEL) {
    __builtin_prefetch(units + num_units * PANEL);  // the block after this one, while this one is multiplied
    for (int i = 0; i < steps_per_unit(KIND); ++i, out += PANEL)
      for (int at = 0; at < PANEL; at += LANES) store(out + at, step<KIND>(load(units + at), i));
  }
}

// Sums of one block of columns of a panel, and what they are multiplied with.
struct Block {
  const int32_t* units;
  int num_units;
  const float *scales, *shifts;  // 16 of the group
  int index;
  long unit_stride;
};

template <bool CODES>
using Sum = std::conditional_t<CODES, Ints, Floats>;

inline void finish(const Floats& sum, const Rows&, const Block&, int, int, float* out) { store(out, load(out) + sum); }

inline void finish(const Ints& sum, const Rows& x, const Block& block, int row, int at, float* out) {
  const long of_row = static_cast<long>(row) * x.blocks + block.index;
  Floats scaled = __builtin_convertvector(sum, Floats) * (load(block.scales + at) * x.scales[of_row]);
  if (block.shifts) scaled += load(block.shifts + at) * x.totals[of_row];
  store(out, load(out) + scaled);
}

// out[r, :] += Σ over the block of ROWS rows.
template <int KIND, int ROWS>
inline void multiply_rows(const Rows& x, int row, long column, const Block& block, float* out, long out_stride) {
  constexpr int STEPS = steps_per_unit(KIND), CHAINS = chains(ROWS), UNITS = CHAINS > STEPS ? CHAINS / STEPS : 1;
  Sum<is_code(KIND)> sum[CHAINS][ROWS][VECTORS] = {};
  const int32_t* lanes = x.lanes + row * x.stride + column;
  const int32_t* units = block.units;
  const auto add_unit = [&](int chain) __attribute__((always_inline)) {
    Ints stored[VECTORS];
    for (int v = 0; v < VECTORS; ++v) stored[v] = load(units + v * LANES);
#pragma GCC unroll 4
    for (int i = 0; i < STEPS; ++i)
      for (int r = 0; r < ROWS; ++r)
        for (int v = 0; v < VECTORS; ++v) {
          auto& at = sum[(chain + i) % CHAINS][r][v];
          at = multiply_add(at, lanes + r * x.stride + i, step<KIND>(stored[v], i));
        }
    if (STEPS > 1) __builtin_prefetch(units + AHEAD * PANEL);
    units += block.unit_stride;
    lanes += STEPS;
  };
  int unit = 0;
  for (; unit + UNITS <= block.num_units; unit += UNITS)
#pragma GCC unroll 4
    for (int u = 0; u < UNITS; ++u) add_unit(u * STEPS);
  for (; unit < block.num_units; ++unit) add_unit(0);
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < VECTORS; ++v) {
      for (int c = 1; c < CHAINS; ++c) sum[0][r][v] += sum[c][r][v];
      finish(sum[0][r][v], x, block, row + r, v * LANES, out + r * out_stride + v * LANES);
    }
}

// The same of so many rows, at most MOST.
template <int KIND, int MOST>
inline void multiply_part(int rows, const Rows& x, int row, long column, const Block& block, float* out, long stride) {
  if constexpr (MOST > 1)
    if (rows < MOST) return multiply_part<KIND, MOST - 1>(rows, x, row, column, block, out, stride);
  multiply_rows<KIND, MOST>(x, row, column, block, out, stride);
}

// Rows go in as few parts as fit in registers, all of about the same height: 8 rows as 4 and 4.
template <int KIND>
void multiply_block(const Rows& x, int first, int end, long column, const Block& block, float* out, long stride) {
  constexpr int MOST = steps_per_unit(KIND) > 1 ? LOW : TALL;
  for (int parts = (end - first + MOST - 1) / MOST; parts > 0; --parts) {
    const int height = (end - first + parts - 1) / parts;
    multiply_part<KIND, MOST>(height, x, first, column, block, out, stride);
    first += height;
    out += height * stride;
  }
}

// out[rows, 16] += x[rows, count] · w[count, 16] of plain float32; rows of w and out lie as far apart as it is said.
inline void multiply(const float* x, long x_stride, int rows, const float* w, int count, float* out, long w_stride,
                     long out_stride) {
  const Rows these{reinterpret_cast<const int32_t*>(x), x_stride, nullptr, nullptr, 0};
  const Block block{reinterpret_cast<const int32_t*>(w), count, nullptr, nullptr, 0, w_stride};
  multiply_block<FLOAT32>(these, 0, rows, 0, block, out, out_stride);
}

// ---- Panels.

alignas(64) thread_local int32_t unpacked[DEPTH * PANEL];

template <int KIND>
void multiply_kind(const Rows& x, int first, int end, long column, Block block, float* out) {
  if (KIND == FLOAT32 || end - first <= few(KIND))
    return multiply_block<KIND>(x, first, end, column, block, out, PANEL);
  unpack_units<KIND>(block.units, block.num_units, unpacked);
  block.units = unpacked;
  block.num_units *= steps_per_unit(KIND);
  multiply_block<is_code(KIND) ? PAIRS : FLOAT32>(x, first, end, column, block, out, PANEL);
}

// sums [rows, 16] = x's rows first … end times one panel.
void multiply_panel(const Weight& w, const Rows& x, int first, int end, int panel, float* sums) {
  memset(sums, 0, sizeof(float) * (end - first) * PANEL);
  const long groups = (w.cols + w.group - 1) / w.group;
  const int32_t* units = w.units + static_cast<long>(panel) * count_units(w) * PANEL;
  for (int column = 0, index = 0, after; column < w.cols; column = after, ++index) {
    after = next_block(w, column);
    const int per_unit = columns_per_unit(w);
    const long group = (panel * groups + column / w.group) * PANEL;
    const Block block{units + static_cast<long>(column / per_unit) * PANEL, (after - column) / per_unit,
                      w.scales + group, w.shifts ? w.shifts + group : nullptr, index, PANEL};
    switch (w.kind) {
      case FLOAT32: multiply_kind<FLOAT32>(x, first, end, column, block, sums); break;
      case BFLOAT16: multiply_kind<BFLOAT16>(x, first, end, column, block, sums); break;
      case FLOAT16: multiply_kind<FLOAT16>(x, first, end, column, block, sums); break;
      case INT8: multiply_kind<INT8>(x, first, end, column / 2, block, sums); break;
      case INT4: multiply_kind<INT4>(x, first, end, column / 2, block, sums); break;
    }
  }
  if (w.bias)
    for (int r = 0; r < end - first; ++r)
      for (int o = 0; o < std::min(PANEL, w.rows - panel * PANEL); ++o)
        sums[r * PANEL + o] += w.bias[panel * PANEL + o];
}

alignas(64) thread_local float sums[2][HEIGHT * PANEL];

enum Finish { STORE, ADD, SILU, GELU };

struct Product {
  const Segment* segments;
  Rows x;
  float* y;
  long y_stride;
  int panels, panels_per_item, items_per_segment;
  Finish finish;
};

// gelu by tanh: tanh(z) = 1 - 2 / (e^2z + 1), so x/2 · (1 + tanh(z)) = x · (1 - 1 / (e^2z + 1)).
inline Floats gate(Finish finish, Floats x) {
  if (finish == SILU) return x / (exponential(-x) + 1.0f);
  const Floats twice = (x + x * x * x * 0.044715f) * 1.5957691216f;
  return x - x / (exponential(twice) + 1.0f);
}

void put_panel(const Product& p, int panel, int first, int rows) {
  const int width = std::min(PANEL, static_cast<int>(p.y_stride) - panel * PANEL);
  for (int r = 0; r < rows; ++r) {
    float* to = p.y + (first + r) * p.y_stride + panel * PANEL;
    const float* from = sums[0] + r * PANEL;
    if (p.finish >= SILU)
      for (int at = 0; at < PANEL; at += LANES)
        store(to + at, gate(p.finish, load(from + at)) * load(sums[1] + r * PANEL + at));
    else if (p.finish == ADD)
      for (int o = 0; o < width; ++o) to[o] += from[o];
    else
      for (int o = 0; o < width; ++o) to[o] = from[o];
  }
}

void multiply_panels(void* data, int item) {
  const Product& p = *static_cast<Product*>(data);
  const Segment& rows = p.segments[item / p.items_per_segment];
  const int first_panel = item % p.items_per_segment * p.panels_per_item;
  const int end_panel = std::min(p.panels, first_panel + p.panels_per_item);
  for (int top = rows.first; top < rows.end; top += HEIGHT) {
    const int bottom = std::min(rows.end, top + HEIGHT);
    for (int panel = first_panel; panel < end_panel; ++panel) {
      multiply_panel(*rows.weight, p.x, top, bottom, panel, sums[0]);
      if (p.finish >= SILU) multiply_panel(*rows.weight, p.x, top, bottom, panel + p.panels, sums[1]);
      put_panel(p, panel, top, bottom - top);
    }
  }
}

// y = x · Wᵀ + b of each segment's rows, or y += that, or the first half of it through a gate times the second half
// (whole panels each). The segments follow one another.
void run_products(const Segment* segments, int num_segments, const float* x, float* y, Finish finish) {
  const Weight& w = *segments[0].weight;
  const int halves = finish >= SILU ? 2 : 1, panels = count_panels(w) / halves;
  const int per_item = std::clamp(panels * num_segments / (8 * (num_workers + 1)), 1, panels);
  const int items = (panels + per_item - 1) / per_item;
  const Rows rows = prepare_rows(segments, num_segments, x);
  Product product{segments, rows, y, w.rows / halves, panels, per_item, items, finish};
  run_parallel(multiply_panels, &product, items * num_segments);
}

void run_product(const Weight& w, const float* x, float* y, int num_rows, Finish finish) {
  const Segment all{&w, 0, num_rows};
  run_products(&all, 1, x, y, finish);
}

}  // namespace
