// Matrix products and attention for CPUs whose torch has none for these weights: what `native.py` calls.
//
// Plain C functions, called through ctypes; every one has a torch twin that the tests compare it with. One source for
// all instruction sets: vectors are GCC's (`lanes.hpp`), and the library is compiled once per set (`build.py`).
//
// A weight [rows, cols] is cut into panels of 16 rows. A panel stores, for one 32-bit unit of columns after the
// other, that unit of its 16 rows side by side: 1 float32, 2 bfloat16, 4 codes of 8 bits or 8 codes of 4 bits.
// So one vector load brings the same columns of 16 (or 8) outputs, nothing has to be summed across a vector, and
// all kinds are packed by the same transposition.

#include "attention.hpp"
#include "pool.hpp"
#include "products.hpp"
#include "program.hpp"

namespace {

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
  run_product(*weight, x, y, num_rows, STORE);
}
}
