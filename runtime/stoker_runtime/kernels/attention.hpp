// Attention over a paged cache, on threads and row products.
//
// Knows block tables and tiles; nothing of sequences. A tile is some consecutive tokens of one sequence. For each
// tile and each key head: 16 keys at a time are gathered from their blocks, transposed, and multiplied with the
// queries of all heads that share the key head; then softmax; then the values are multiplied where they lie. A few
// queries meet the keys where they lie as well: turning 16 keys takes longer than multiplying them a few times.

#pragma once

#include "pool.hpp"
#include "products.hpp"

namespace {

constexpr int MAX_HEAD_DIM = 256;
constexpr int FEW_QUERIES = 8;

struct Tile {
  int32_t row;       // of its first token in the step
  int32_t num_rows;
  int32_t position;  // of its first token in the sequence
  int32_t table;     // where the sequence's block table starts in `tables`
};

struct AttentionJob {
  const float* q;       // [num_tokens, num_heads, head_dim], rows q_stride apart
  const void* keys;     // [num_blocks, block_size, num_kv_heads, head_dim] float, or int8_t with scales
  const void* values;   // the same
  float* out;           // [num_tokens, num_heads, head_dim]
  const Tile* tiles;
  const int32_t* tables;
  int64_t q_stride;
  int32_t num_tiles, block_size, num_heads, num_kv_heads, head_dim, window;
  float scale, softcap;  // no soft cap: 0
  const float* key_scales;    // [num_blocks, block_size, num_kv_heads], or null
  const float* value_scales;  // the same
};

alignas(64) thread_local float gathered[PANEL * MAX_HEAD_DIM], one_head[MAX_HEAD_DIM];
thread_local Scratch<float> score_scratch, query_scratch;

// Makes scores[0 … count), which lie in whole vectors, e^(score - the largest), and the rest of the last vector 0.
// Returns their sum.
float exponentiate(float* scores, int count) {
  Floats highest = Floats{} + scores[0], sums = {};
  int i = 0;
  for (; i + LANES <= count; i += LANES) highest = larger(load(scores + i), highest);
  float most = highest[0];
  for (int lane = 1; lane < LANES; ++lane) most = std::max(most, highest[lane]);
  for (; i < count; ++i) most = std::max(most, scores[i]);
  for (i = 0; i < count; i += LANES) {
    store(scores + i, exponential(load(scores + i) - most));
    for (int k = count - i; k < LANES; ++k) scores[i + k] = 0.0f;
    sums += load(scores + i);
  }
  return sum_lanes(sums);
}

// Where token `position` of key head `head` lies in the keys or values, counted in heads.
inline long place(const AttentionJob& job, const int32_t* table, int position, int head) {
  const long slot = static_cast<long>(table[position / job.block_size]) * job.block_size + position % job.block_size;
  return slot * job.num_kv_heads + head;
}

// A head of the keys or values: where it lies, or in `room` if it had to be made of codes and their scale.
inline const float* read(const AttentionJob& job, const void* cache, const float* scales, long at, float* room) {
  if (scales == nullptr) return static_cast<const float*>(cache) + at * job.head_dim;
  const int8_t* codes = static_cast<const int8_t*>(cache) + at * job.head_dim;
  for (int d = 0; d < job.head_dim; ++d) room[d] = scales[at] * codes[d];
  return room;
}
inline const float* read_key(const AttentionJob& job, const int32_t* table, int position, int head, float* room) {
  return read(job, job.keys, job.key_scales, place(job, table, position, head), room);
}
inline const float* read_value(const AttentionJob& job, const int32_t* table, int position, int head, float* room) {
  return read(job, job.values, job.value_scales, place(job, table, position, head), room);
}

// One tile's queries of the heads that share one key head.
struct Piece {
  const AttentionJob& job;
  const Tile& tile;
  const int32_t* table;
  int head, group, num_queries, first, count, width;  // keys first … first + count; scores are `width` apart
  float* queries;
  float* scores;
  float* shares;  // of each query: 1 / the sum of its exponentials

  Piece(const AttentionJob& job, int item)
      : job(job), tile(job.tiles[item / job.num_kv_heads]), table(job.tables + tile.table),
        head(item % job.num_kv_heads), group(job.num_heads / job.num_kv_heads), num_queries(tile.num_rows * group),
        first(job.window ? std::max(0, tile.position - job.window + 1) : 0),
        count(tile.position + tile.num_rows - first), width((count + PANEL - 1) / PANEL * PANEL),
        queries(query_scratch.hold(static_cast<long>(num_queries) * job.head_dim)),
        scores(score_scratch.hold(static_cast<long>(num_queries) * (width + 1))),
        shares(scores + static_cast<long>(num_queries) * width) {}

  void gather_queries() const {
    for (int i = 0; i < num_queries; ++i) {
      const float* from = job.q + (tile.row + i / group) * job.q_stride + (head * group + i % group) * job.head_dim;
      for (int d = 0; d < job.head_dim; ++d) queries[i * job.head_dim + d] = from[d] * job.scale;
    }
  }

  // Of ROWS queries, key by key.
  template <int ROWS>
  void score_few(int top) const {
    const int dim = job.head_dim;
    for (int k = 0; k < count; ++k) {
      const float* key = read_key(job, table, first + k, head, one_head);
      Floats sums[ROWS] = {};
      for (int d = 0; d < dim; d += LANES)
        for (int r = 0; r < ROWS; ++r) sums[r] += load(queries + (top + r) * dim + d) * load(key + d);
      for (int r = 0; r < ROWS; ++r) scores[static_cast<long>(top + r) * width + k] = sum_lanes(sums[r]);
    }
  }

  void score() const {
    if (num_queries > FEW_QUERIES) return score_many();
    int top = 0;
    for (; top + 3 <= num_queries; top += 3) score_few<3>(top);
    for (; top < num_queries; ++top) score_few<1>(top);
  }

  void score_many() const {
    for (int at = 0; at < count; at += PANEL) {
      for (int k = 0; k < PANEL; ++k) {
        const float* key = read_key(job, table, first + std::min(at + k, count - 1), head, one_head);
        for (int d = 0; d < job.head_dim; ++d) gathered[d * PANEL + k] = key[d];
      }
      for (int i = 0; i < num_queries; ++i) memset(scores + static_cast<long>(i) * width + at, 0, sizeof(float) * PANEL);
      multiply(queries, job.head_dim, num_queries, gathered, job.head_dim, scores + at, PANEL, width);
    }
  }

  // Query i sees the keys up to its own token, and with a window only so many.
  void weigh_keys() const {
    for (int i = 0; i < num_queries; ++i) {
      float* row = scores + static_cast<long>(i) * width;
      const int position = tile.position + i / group, end = position + 1 - first;
      const int begin = job.window ? std::max(0, position - job.window + 1 - first) : 0;
      if (job.softcap > 0.0f)
        for (int k = begin; k < end; ++k) row[k] = job.softcap * tanhf(row[k] / job.softcap);
      for (int k = 0; k < begin; ++k) row[k] = -INFINITY;
      shares[i] = 1.0f / exponentiate(row, end);
      for (int k = end; k < width; ++k) row[k] = 0.0f;
    }
  }

  // Where they lie: a block of the cache at a time, of codes 16 tokens.
  void sum_few() const {
    const int dim = job.head_dim;
    const bool are_codes = job.value_scales != nullptr;
    const long token = are_codes ? dim : static_cast<long>(job.num_kv_heads) * dim;
    const int most = are_codes ? PANEL : job.block_size;
    for (int at = 0, num; at < count; at += num) {
      num = std::min({job.block_size - (first + at) % job.block_size, count - at, most});
      const float* values = read_value(job, table, first + at, head, gathered);
      for (int k = 1; are_codes && k < num; ++k) read_value(job, table, first + at + k, head, gathered + k * dim);
      for (int d = 0; d < dim; d += PANEL)
        multiply(scores + at, width, num_queries, values + d, num, queries + d, token, dim);
    }
  }

  // Copied together, 16 entries of 256 tokens at a time, so that sums stay in registers as long: half as quick again
  // as a block of 16 tokens at a time where it lies.
  void sum_many() const {
    for (int at = 0; at < count; at += MAX_HEAD_DIM) {
      const int num = std::min(MAX_HEAD_DIM, count - at);
      for (int d = 0; d < job.head_dim; d += PANEL) {
        for (int k = 0; k < num; ++k)
          memcpy(gathered + k * PANEL, read_value(job, table, first + at + k, head, one_head) + d, 4 * PANEL);
        multiply(scores + at, width, num_queries, gathered, num, queries + d, PANEL, job.head_dim);
      }
    }
  }

  void sum_values() const {
    const int dim = job.head_dim;
    memset(queries, 0, sizeof(float) * num_queries * dim);  // the sums take their place
    num_queries > FEW_QUERIES ? sum_many() : sum_few();
    for (int i = 0; i < num_queries; ++i) {
      const long to = (static_cast<long>(tile.row + i / group) * job.num_heads + head * group + i % group) * dim;
      for (int d = 0; d < dim; ++d) job.out[to + d] = queries[i * dim + d] * shares[i];
    }
  }
};

void attend_piece(void* data, int item) {
  const Piece piece(*static_cast<AttentionJob*>(data), item);
  piece.gather_queries();
  piece.score();
  piece.weigh_keys();
  piece.sum_values();
}

}  // namespace

extern "C" {

// softmax(scale · q·kᵀ)·v for every token of every tile over the keys up to itself; see `AttentionJob`.
void stoker_attend(AttentionJob* job) { run_parallel(attend_piece, job, job->num_tiles * job->num_kv_heads); }
}
