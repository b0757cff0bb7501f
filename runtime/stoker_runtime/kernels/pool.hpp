// Threads that share the work of one call.
//
// Knows items of work; nothing of what they are. Work is cut into items that whoever is free claims, so that a thread
// which the kernel has taken off its processor delays one item and not all. Idle threads look for work for some
// microseconds, then sleep.

#pragma once

#include <atomic>
#include <cstdint>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

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

}  // namespace
