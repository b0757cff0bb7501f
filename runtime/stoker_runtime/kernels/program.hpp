// All layers of a decoder in one call: products, attention and what lies between them.
//
// Knows a decoder's layers as a list of pointers, which `program.py` makes once per model, and the tokens of one step;
// nothing of checkpoints or sequences. What `reference.py` does one operation after the other is done here without
// going back to Python in between, so that threads find the next part of a step before they fall asleep. A sum is
// added where a product ends, a gate is applied where its two halves are made.

#pragma once

#include "attention.hpp"
#include "experts.hpp"

namespace {

struct Layer {
  const Weight *qkv, *out;
  Mlp mlp;                 // of all tokens; what it lacks is null
  const Mixture* mixture;  // beside it or in its place; null: none
  const float* head_norm;  // [num_heads + num_kv_heads, head_dim]; null: none
  const float *attn_out_norm, *mlp_norm, *mlp_out_norm, *next_norm;  // [hidden]; those of outputs may be null
  void *keys, *values;  // the layer's cache: [num_blocks, block_size, num_kv_heads, head_dim], see `AttentionJob`
  float *key_scales, *value_scales;
  int32_t rope, window;  // rope: which of the step's angles; -1: none
};

struct Program {
  const Layer* layers;
  const float* first_norm;
  int32_t num_layers, hidden, num_heads, num_kv_heads, head_dim, block_size, is_gelu;
  float eps, scale, softcap;
};

struct Step {
  float* x;       // [num_tokens, hidden]: embeddings in, sums of all layers out
  float* normed;  // [num_tokens, hidden]: out
  const float* const* angles;  // cosines [num_tokens, half] and sines of each rope, in turns
  const int32_t* halves;       // of each rope
  const int64_t* slots;        // [num_tokens]
  const Tile* tiles;
  const int32_t* tables;
  int32_t num_tokens, num_tiles;
};

// What is between the products, of some rows.
struct Between {
  const Program& program;
  const Step& step;
  const Layer* layer;
  float *heads, *attended, *added;
  const float *added_norm, *norm;  // of `add_and_normalise`
  int rows_per_item;
};

// to = x / √(mean(x²) + eps) · weight, or to += that.
void normalise_row(const float* x, const float* weight, int width, float eps, float* to, bool adds) {
  const float factor = 1.0f / sqrtf(dot(x, x, width) / width + eps);
  int i = 0;
  for (; i + LANES <= width; i += LANES) {
    const Floats made = load(x + i) * factor * load(weight + i);
    store(to + i, adds ? load(to + i) + made : made);
  }
  for (; i < width; ++i) to[i] = (adds ? to[i] : 0.0f) + x[i] * factor * weight[i];
}

void normalise_rows(void* data, int item) {
  const Between& b = *static_cast<Between*>(data);
  const int width = b.program.hidden, end = std::min(b.step.num_tokens, (item + 1) * b.rows_per_item);
  for (long row = item * b.rows_per_item; row < end; ++row) {
    float* x = b.step.x + row * width;
    if (b.added_norm) normalise_row(b.added + row * width, b.added_norm, width, b.program.eps, x, true);
    normalise_row(x, b.norm, width, b.program.eps, b.step.normed + row * width, false);
  }
}

// Turn each pair (x[i], x[i + half]) by its angle.
void turn_head(float* x, const float* cos, const float* sin, int half) {
  for (int i = 0; i < half; ++i) {
    const float first = x[i], second = x[i + half];
    x[i] = first * cos[i] - second * sin[i];
    x[i + half] = second * cos[i] + first * sin[i];
  }
}

// A head in 8 bits: its codes, and their scale, which is NaN if anything in it is not finite.
float round_head(const float* x, int dim, int8_t* codes) {
  float most = 0.0f, nothing = 0.0f;
  for (int d = 0; d < dim; ++d) {
    most = std::max(most, fabsf(x[d]));
    nothing += x[d] * 0.0f;
  }
  const float scale = most / 127 + nothing, divisor = std::max(scale, 1e-30f);
  for (int d = 0; d < dim; ++d) codes[d] = scale == scale ? static_cast<int8_t>(lrintf(x[d] / divisor)) : 0;
  return scale;
}

// Keys or values of one token, as they are or in codes.
void store_heads(const float* heads, const Program& p, long slot, void* cache, float* scales) {
  const long width = static_cast<long>(p.num_kv_heads) * p.head_dim;
  if (scales == nullptr) {
    memcpy(static_cast<float*>(cache) + slot * width, heads, sizeof(float) * width);
    return;
  }
  int8_t* codes = static_cast<int8_t*>(cache) + slot * width;
  for (int head = 0; head < p.num_kv_heads; ++head, heads += p.head_dim, codes += p.head_dim)
    scales[slot * p.num_kv_heads + head] = round_head(heads, p.head_dim, codes);
}

void turn_row(const Between& b, long row) {
  const Program& p = b.program;
  const Layer& layer = *b.layer;
  const int dim = p.head_dim, turned = p.num_heads + p.num_kv_heads;
  float* heads = b.heads + row * (turned + p.num_kv_heads) * dim;
  for (int head = 0; head < turned; ++head) {
    float* x = heads + head * dim;
    if (layer.head_norm) normalise_row(x, layer.head_norm + head * dim, dim, p.eps, x, false);
    if (layer.rope >= 0) {
      const int half = b.step.halves[layer.rope];
      const float* const* angles = b.step.angles + 2 * layer.rope;
      turn_head(x, angles[0] + row * half, angles[1] + row * half, half);
    }
  }
  const long slot = b.step.slots[row];
  store_heads(heads + p.num_heads * dim, p, slot, layer.keys, layer.key_scales);
  store_heads(heads + turned * dim, p, slot, layer.values, layer.value_scales);
}

void turn_rows(void* data, int item) {
  const Between& b = *static_cast<Between*>(data);
  const int end = std::min(b.step.num_tokens, (item + 1) * b.rows_per_item);
  for (int row = item * b.rows_per_item; row < end; ++row) turn_row(b, row);
}

void run_rows(Job job, Between& between) {
  run_parallel(job, &between, (between.step.num_tokens + between.rows_per_item - 1) / between.rows_per_item);
}

// Where what a part of the layer makes of its input goes: into x at once, or before that through a norm.
struct Landing {
  float* to;
  bool adds;
  Landing(const float* added_norm, const Between& b) : to(added_norm ? b.added : b.step.x), adds(!added_norm) {}
  Finish finish() const { return adds ? ADD : STORE; }
};

void normalise(const float* added_norm, const float* norm, Between& b) {
  b.added_norm = added_norm;
  b.norm = norm;
  run_rows(normalise_rows, b);
}

void run_layer(const Layer& layer, Between& b) {
  const Program& p = b.program;
  const Step& s = b.step;
  b.layer = &layer;
  run_product(*layer.qkv, s.normed, b.heads, s.num_tokens, STORE);
  run_rows(turn_rows, b);
  AttentionJob job{b.heads, layer.keys, layer.values, b.attended, s.tiles, s.tables,
                   static_cast<int64_t>(p.num_heads + 2 * p.num_kv_heads) * p.head_dim, s.num_tiles, p.block_size,
                   p.num_heads, p.num_kv_heads, p.head_dim, layer.window, p.scale, p.softcap,
                   layer.key_scales, layer.value_scales};
  run_parallel(attend_piece, &job, s.num_tiles * p.num_kv_heads);
  const Landing attention(layer.attn_out_norm, b), mlp(layer.mlp_out_norm, b);
  run_product(*layer.out, b.attended, attention.to, s.num_tokens, attention.finish());
  normalise(layer.attn_out_norm, layer.mlp_norm, b);
  const Finish gate = p.is_gelu ? GELU : SILU;
  if (layer.mixture)
    run_mixture(*layer.mixture, layer.mlp, s.normed, mlp.to, s.num_tokens, p.hidden, gate, mlp.adds);
  else
    run_mlp(layer.mlp, s.normed, mlp.to, s.num_tokens, gate, mlp.finish());
  normalise(layer.mlp_out_norm, layer.next_norm, b);
}

thread_local Scratch<float> between_scratch;

}  // namespace

extern "C" {

// Run all layers over the tokens of a step.
void stoker_run(const Program* program, const Step* step) {
  const Program& p = *program;
  const long tokens = step->num_tokens, q = tokens * p.num_heads * p.head_dim;
  const long all = q + 2 * tokens * p.num_kv_heads * p.head_dim;
  float* heads = between_scratch.hold(all + q + tokens * p.hidden);
  float *attended = heads + all, *added = attended + q;
  const int per_item = std::max(1, (1 << 14) / p.hidden);
  Between between{p, *step, nullptr, heads, attended, added, nullptr, p.first_norm, per_item};
  run_rows(normalise_rows, between);
  for (int i = 0; i < p.num_layers; ++i) run_layer(p.layers[i], between);
}
}
