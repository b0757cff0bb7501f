// Mixtures of experts: who gets which token, and the products of all experts at once.
//
// Knows routers and weights; nothing of layers. Each token goes to the few experts that its router scores highest
// (Shazeer et al. 2017). Tokens are sorted by expert, so that the rows of one expert are a segment of one product.

#pragma once

#include "products.hpp"

namespace {

struct Mlp {
  const Weight *gate_up, *down;  // null: there is none
};

struct Mixture {
  const Mlp* experts;
  const Weight* router;      // [num_experts, hidden]
  const float* shared_gate;  // [hidden]: how much of the MLP that all tokens go through; null if there is none
  int32_t num_experts, num_chosen, normalizes;
};

// down(gate(x) · up(x)) of some rows, each of its own expert.
void run_mlps(const Segment* gate_ups, const Segment* downs, int count, const float* x, float* y, Finish gate,
              Finish finish) {
  static thread_local Scratch<float> scratch;
  float* gated = scratch.hold(static_cast<long>(downs[count - 1].end) * downs[0].weight->cols);
  run_products(gate_ups, count, x, gated, gate);
  run_products(downs, count, gated, y, finish);
}

void run_mlp(const Mlp& mlp, const float* x, float* y, int num_rows, Finish gate, Finish finish) {
  const Segment gate_up{mlp.gate_up, 0, num_rows}, down{mlp.down, 0, num_rows};
  run_mlps(&gate_up, &down, 1, x, y, gate, finish);
}

struct Routing {
  const Mixture& mixture;
  const float* x;  // [num_tokens, hidden]
  float* y;        // [num_tokens, hidden]
  bool adds;       // y += what comes out
  int num_tokens, hidden, rows_per_item;
  float *scores;   // [num_tokens, num_experts]
  float *weights;  // [num_tokens, num_chosen]
  float *rows;     // [num_tokens · num_chosen, hidden]: tokens sorted by expert, then what became of them
  float *shared;   // [num_tokens, hidden]
  int32_t *chosen, *places;  // [num_tokens, num_chosen]: experts, and rows of the sorted ones
};

// The experts of one token and their weights: softmax over all, then the largest. If one score is not a number, none of
// its token's weights is, so that it is seen.
void choose_experts(const Routing& r, long token) {
  const Mixture& m = r.mixture;
  float* scores = r.scores + token * m.num_experts;
  const float most = *std::max_element(scores, scores + m.num_experts);
  float total = 0.0f, part = 0.0f;
  for (int i = 0; i < m.num_experts; ++i) total += scores[i] = expf(scores[i] - most);
  for (int i = 0; i < m.num_chosen; ++i) {
    float* best = std::max_element(scores, scores + m.num_experts);
    const long at = token * m.num_chosen + i;
    part += r.weights[at] = *best / total;
    r.chosen[at] = static_cast<int32_t>(best - scores);
    *best = -1.0f;
  }
  for (int i = 0; m.normalizes && i < m.num_chosen; ++i) r.weights[token * m.num_chosen + i] /= part;
}

void gather_token(const Routing& r, long token) {
  for (int i = 0; i < r.mixture.num_chosen; ++i)
    memcpy(r.rows + static_cast<long>(r.places[token * r.mixture.num_chosen + i]) * r.hidden, r.x + token * r.hidden,
           sizeof(float) * r.hidden);
}

// What a token's experts made of it, by their weights.
void combine_token(const Routing& r, long token) {
  const int chosen = r.mixture.num_chosen;
  float* y = r.y + token * r.hidden;
  if (!r.adds) memset(y, 0, sizeof(float) * r.hidden);
  if (r.mixture.shared_gate) {
    const float share = 1.0f / (1.0f + expf(-dot(r.x + token * r.hidden, r.mixture.shared_gate, r.hidden)));
    for (int d = 0; d < r.hidden; ++d) y[d] += share * r.shared[token * r.hidden + d];
  }
  for (long at = token * chosen; at < (token + 1) * chosen; ++at)
    for (int d = 0; d < r.hidden; ++d) y[d] += r.weights[at] * r.rows[static_cast<long>(r.places[at]) * r.hidden + d];
}

template <void DO(const Routing&, long)>
void do_tokens(void* data, int item) {
  const Routing& r = *static_cast<Routing*>(data);
  const int end = std::min(r.num_tokens, (item + 1) * r.rows_per_item);
  for (int token = item * r.rows_per_item; token < end; ++token) DO(r, token);
}

// Gives every choice a row, those of one expert next to each other: a segment of `gate_ups` and `downs`.
// Returns how many experts have tokens.
int sort_tokens(const Routing& r, Segment* gate_ups, Segment* downs) {
  const int choices = r.num_tokens * r.mixture.num_chosen;
  static thread_local Scratch<int32_t> scratch;
  int32_t* next = scratch.hold(r.mixture.num_experts);
  memset(next, 0, sizeof(int32_t) * r.mixture.num_experts);
  for (int i = 0; i < choices; ++i) ++next[r.chosen[i]];
  int count = 0, first = 0;
  for (int expert = 0; expert < r.mixture.num_experts; ++expert) {
    const int end = first + next[expert];
    next[expert] = first;
    if (end == first) continue;
    gate_ups[count] = {r.mixture.experts[expert].gate_up, first, end};
    downs[count++] = {r.mixture.experts[expert].down, first, end};
    first = end;
  }
  for (int i = 0; i < choices; ++i) r.places[i] = next[r.chosen[i]]++;
  return count;
}

// y = Σ weight · expert(x) of each token's experts, or y += that; `shared` is what all tokens go through.
void run_mixture(const Mixture& m, const Mlp& shared, const float* x, float* y, int num_tokens, int hidden, Finish gate,
                 bool adds) {
  static thread_local Scratch<float> floats;
  static thread_local Scratch<int32_t> numbers;
  static thread_local Scratch<Segment> segments;
  const long tokens = num_tokens, choices = tokens * m.num_chosen, width = shared.gate_up ? tokens * hidden : 0;
  float* scores = floats.hold(tokens * m.num_experts + choices * (hidden + 1) + width);
  float *weights = scores + tokens * m.num_experts, *rows = weights + choices;
  int32_t* chosen = numbers.hold(2 * choices);
  Segment* gate_ups = segments.hold(2 * m.num_experts);
  Segment* downs = gate_ups + m.num_experts;
  const int per_item = std::max(1, (1 << 12) / hidden), items = (num_tokens + per_item - 1) / per_item;
  Routing routing{m, x, y, adds, num_tokens, hidden, per_item, scores, weights, rows, rows + choices * hidden,
                  chosen, chosen + choices};
  run_product(*m.router, x, scores, num_tokens, STORE);
  run_parallel(do_tokens<choose_experts>, &routing, items);
  const int count = sort_tokens(routing, gate_ups, downs);
  run_parallel(do_tokens<gather_token>, &routing, items);
  run_mlps(gate_ups, downs, count, rows, rows, gate, STORE);
  if (shared.gate_up) run_mlp(shared, x, routing.shared, num_tokens, gate, STORE);
  run_parallel(do_tokens<combine_token>, &routing, items);
}

}  // namespace
