// Vectors of 32-bit lanes, as wide as the instruction set has them, and the arithmetic that all others share.
//
// Knows GCC's vector types and, for the one operation that they lack, Intel's name of it; nothing of tensors.

#pragma once

#include <cstdint>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512BW__) || defined(STOKER_WIDE)  // the latter to try wide code on any machine
constexpr int LANES = 16;
#else
constexpr int LANES = 8;
#endif

typedef float Floats __attribute__((vector_size(LANES * 4)));
typedef int32_t Ints __attribute__((vector_size(LANES * 4)));
typedef int16_t Shorts __attribute__((vector_size(LANES * 4)));
typedef float LooseFloats __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef int32_t LooseInts __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef float LooseFloat __attribute__((may_alias));

inline Floats load(const float* at) { return *reinterpret_cast<const LooseFloats*>(at); }
inline void store(float* at, Floats value) { *reinterpret_cast<LooseFloats*>(at) = value; }
inline Ints load(const int32_t* at) { return *reinterpret_cast<const LooseInts*>(at); }
inline void store(int32_t* at, Ints value) { *reinterpret_cast<LooseInts*>(at) = value; }

// sum + a · b of floats; a is one number for all lanes, given as its bits.
inline Floats multiply_add(Floats sum, const int32_t* a, Ints b) {
  return sum + *reinterpret_cast<const LooseFloat*>(a) * reinterpret_cast<Floats>(b);
}

// The same of pairs of 16 bits, whose two products are added up.
inline Ints multiply_add(Ints sum, const int32_t* a, Ints b) {
  const Ints x = Ints{} + *a;
#if defined(__AVX512BW__)
  return sum + reinterpret_cast<Ints>(_mm512_madd_epi16(reinterpret_cast<__m512i>(x), reinterpret_cast<__m512i>(b)));
#elif defined(__AVX2__) && !defined(STOKER_WIDE)
  return sum + reinterpret_cast<Ints>(_mm256_madd_epi16(reinterpret_cast<__m256i>(x), reinterpret_cast<__m256i>(b)));
#else
  return sum + (x << 16 >> 16) * (b << 16 >> 16) + (x >> 16) * (b >> 16);
#endif
}

// Each lane's lower or upper 16 bits, a float16, as the bits of float32.
inline Ints widen_half(Ints pairs, int upper) {
#if defined(__AVX512BW__)
  const __m256i halves = _mm512_cvtepi32_epi16(reinterpret_cast<__m512i>(upper ? pairs >> 16 : pairs));
  return reinterpret_cast<Ints>(_mm512_cvtph_ps(halves));
#elif defined(__AVX2__) && !defined(STOKER_WIDE)
  const __m128i apart = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
  const __m256i sorted = _mm256_permute4x64_epi64(
      _mm256_shuffle_epi8(reinterpret_cast<__m256i>(pairs), _mm256_broadcastsi128_si256(apart)), 0xd8);
  const __m128i halves = upper ? _mm256_extracti128_si256(sorted, 1) : _mm256_castsi256_si128(sorted);
  return reinterpret_cast<Ints>(_mm256_cvtph_ps(halves));
#else
  // Exponents differ by 112 of their offsets; a product puts that right for numbers without a leading 1, too.
  const Ints x = upper ? pairs : pairs << 16;
  const Floats small = reinterpret_cast<Floats>((x >> 3) & static_cast<int32_t>(0x8fffe000));
  const Ints endless = (x & 0x7c000000) == 0x7c000000;
  return reinterpret_cast<Ints>(small * 5.192296858534828e33f) | (endless & 0x7f800000);
#endif
}

// To the nearest whole number, ties to the even one, for |x| < 2²²: 1.5 · 2²³ leaves no bits for a fraction.
inline Ints round_to_int(Floats x) {
  const Floats shifter = Floats{} + 12582912.0f;
  return reinterpret_cast<Ints>(x + shifter) - reinterpret_cast<Ints>(shifter);
}

inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }
inline Floats magnitude(Floats x) { return reinterpret_cast<Floats>(reinterpret_cast<Ints>(x) & 0x7fffffff); }

// By halves, so that compilers make it of a few additions.
inline float sum_lanes(Floats x) {
  float parts[LANES];
  store(parts, x);
  for (int half = LANES / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) parts[i] += parts[i + half];
  return parts[0];
}

inline float dot(const float* a, const float* b, int count) {
  Floats sums = {};
  float rest = 0.0f;
  int i = 0;
  for (; i + LANES <= count; i += LANES) sums += load(a + i) * load(b + i);
  for (; i < count; ++i) rest += a[i] * b[i];
  return rest + sum_lanes(sums);
}

// e^x as 2^n · e^r with |r| ≤ ln 2 / 2 and e^r by a polynomial (Cephes' expf, S. Moshier).
inline Floats exponential(Floats x) {
  const Floats least = Floats{} - 87.0f, most = Floats{} + 88.0f;
  x = x > least ? x : least;
  x = x < most ? x : most;
  const Ints n = __builtin_convertvector(x * 1.44269504f + (x < 0.0f ? Floats{} - 0.5f : Floats{} + 0.5f), Ints);
  const Floats whole = __builtin_convertvector(n, Floats);
  const Floats r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
  Floats p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  return p * reinterpret_cast<Floats>((n + 127) << 23);
}

}  // namespace
