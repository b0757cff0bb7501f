// Weights as they lie in memory, and rows of numbers as each of them wants to be multiplied.
//
// Knows ways of storing and rounding; nothing of blocking or registers (`products.hpp`).
//
// A 32-bit unit of a panel becomes one or more steps: lanes that one number of x is multiplied with. A step of
// floating-point weights is one column. A step of codes is two columns in 16 bits, and x is rounded to 16 bits as
// well, by the largest value of each row and block: integers are multiplied twice as fast as floats, 256 products of
// 8 and 16 bits fit in 32, and the error is 2⁻¹⁶ of that value.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "lanes.hpp"
#include "pool.hpp"

namespace {

constexpr int PANEL = 16;
constexpr int DEPTH = 256;  // columns that are summed at a time: of a panel 16 KiB once they are unpacked

enum Kind : int32_t { FLOAT32, BFLOAT16, FLOAT16, INT8, INT4, PAIRS };  // pairs: unpacked codes

struct Weight {
  int32_t kind, rows, cols, group;
  const int32_t* units;  // [panels, units of columns, 16]
  const float* scales;   // [panels, groups, 16]; INT8 and INT4
  const float* shifts;   // the same: - zero · scale; may be null
  const float* bias;     // [rows]; may be null
  const int32_t* order;  // [cols]: where in x a column of codes is; null: in its place
  int32_t rounds;        // x is rounded to 8 bits by the largest value of the whole row (W8A8)
};

// Some rows of x, and the weight that they meet. Weights that are multiplied together are alike in kind and shape.
struct Segment {
  const Weight* weight;
  int first, end;
};

// Memory that a thread keeps from one use to the next.
template <typename T>
struct Scratch {
  T* data = nullptr;
  long size = 0;
  T* hold(long wanted) {
    if (wanted > size) {
      free(data);
      data = static_cast<T*>(malloc(sizeof(T) * wanted));
      size = wanted;
    }
    return data;
  }
};

constexpr bool is_code(int kind) { return kind >= INT8; }
inline int columns_per_unit(const Weight& w) {
  return w.kind == INT4 ? 8 : w.kind == INT8 ? 4 : w.kind == FLOAT32 ? 1 : 2;
}
inline int count_units(const Weight& w) { return w.cols / columns_per_unit(w); }
inline int count_panels(const Weight& w) { return (w.rows + PANEL - 1) / PANEL; }

// Columns are summed block by block: up to 256 of one group.
inline int next_block(const Weight& w, int first) {
  return std::min({first + DEPTH, first / w.group * w.group + w.group, w.cols});
}
inline int count_blocks(const Weight& w) {
  int blocks = 0;
  for (int first = 0; first < w.cols; first = next_block(w, first)) ++blocks;
  return blocks;
}

// ---- Rows, as a weight wants them.

struct Rows {
  const int32_t* lanes;  // [rows, stride]: bits of float32, or two columns of 16 bits
  long stride;
  const float* scales;  // [rows, blocks] of rounded rows; null: they are not rounded
  const float* totals;  // [rows, blocks]: sums of the rounded values
  int blocks;
};

struct Rounding {
  const float* x;
  int32_t* lanes;
  float *scales, *totals;
  int blocks, rows_per_item;
  Segment segment;
};

// The largest magnitude; NaN if a value is not finite, so that it is seen in what comes of it.
float find_largest(const float* x, int count) {
  Floats most = {}, spoilt = {};
  float largest = 0.0f, spoils = 0.0f;
  int i = 0;
  for (; i + LANES <= count; i += LANES) {
    most = larger(most, magnitude(load(x + i)));
    spoilt += load(x + i) - load(x + i);
  }
  for (int lane = 0; lane < LANES; ++lane) largest = std::max(largest, most[lane]);
  for (; i < count; ++i) {
    largest = std::max(largest, fabsf(x[i]));
    spoils += x[i] - x[i];
  }
  return largest + spoils + sum_lanes(spoilt);
}

// The columns of a unit become pairs as `step` finds them: 0 and 2, 1 and 3 of four; 0 and 4, 1 and 5 … of eight.
// Returns the sum of the rounded values.
int round_block(const float* x, int count, float scale, int half, int32_t* lanes) {
  alignas(64) int32_t codes[DEPTH];
  const float inverse_of = scale > 0.0f ? scale : 1.0f;
  int i = 0, total = 0;
  for (; i + LANES <= count; i += LANES) store(codes + i, round_to_int(load(x + i) / inverse_of));
  for (; i < count; ++i) codes[i] = static_cast<int32_t>(lrintf(x[i] / inverse_of));
  for (i = 0; i < count; ++i) total += codes[i];
  for (i = 0; i < count; i += 2 * half)
    for (int k = 0; k < half; ++k) *lanes++ = (codes[i + k] & 0xffff) | (codes[i + k + half] << 16);
  return total;
}

thread_local Scratch<float> ordered_scratch;

// A row of x with its columns as the weight has them.
const float* order_row(const Weight& w, const float* x) {
  if (w.order == nullptr) return x;
  float* ordered = ordered_scratch.hold(w.cols);
  for (int i = 0; i < w.cols; ++i) ordered[i] = x[w.order[i]];
  return ordered;
}

void round_row(const Rounding& r, int row) {
  const Weight& w = *r.segment.weight;
  const float* x = order_row(w, r.x + static_cast<long>(row) * w.cols);
  int32_t* lanes = r.lanes + static_cast<long>(row) * (w.cols / 2);
  const float step = w.rounds ? std::max(find_largest(x, w.cols), 1e-12f) / 127.0f : 0.0f;
  for (int first = 0, block = 0; first < w.cols; ++block) {
    const int count = next_block(w, first) - first;
    const float scale = w.rounds ? step : find_largest(x + first, count) / 32767.0f;
    const int total = round_block(x + first, count, scale, columns_per_unit(w) / 2, lanes + first / 2);
    const long at = static_cast<long>(row) * r.blocks + block;
    r.scales[at] = scale;
    r.totals[at] = scale * static_cast<float>(total);
    first += count;
  }
}

void round_rows(void* data, int item) {
  const Rounding& r = *static_cast<Rounding*>(data);
  const int first = r.segment.first + item * r.rows_per_item;
  for (int row = first; row < std::min(r.segment.end, first + r.rows_per_item); ++row) round_row(r, row);
}

thread_local Scratch<float> rounded_scratch;

// x [rows of all segments, cols]; what is returned is valid until the caller's next product.
Rows prepare_rows(const Segment* segments, int num_segments, const float* x) {
  const Weight& w = *segments[0].weight;
  if (!is_code(w.kind)) return {reinterpret_cast<const int32_t*>(x), w.cols, nullptr, nullptr, 0};
  const int blocks = count_blocks(w), width = w.cols / 2;
  const long num_rows = segments[num_segments - 1].end;
  float* held = rounded_scratch.hold(num_rows * (width + 2 * blocks));
  float *scales = held + num_rows * width, *totals = scales + num_rows * blocks;
  const int per_item = std::max(1, (1 << 14) / w.cols);
  Rounding rounding{x, reinterpret_cast<int32_t*>(held), scales, totals, blocks, per_item, {}};
  for (int i = 0; i < num_segments; ++i) {
    rounding.segment = segments[i];
    run_parallel(round_rows, &rounding, (segments[i].end - segments[i].first + per_item - 1) / per_item);
  }
  return {rounding.lanes, width, scales, totals, blocks};
}

}  // namespace
