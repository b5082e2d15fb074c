// The hold model on std::priority_queue, events by value.
// Arguments: columns file (times at the start, increments), warm-up holds, holds, milliseconds at most.
#include "columns.hpp"
#include <cstdint>
#include <queue>

struct Event {
  int64_t atNs;
  uint64_t sequence;
  int32_t kind, a, b;
};
static_assert(sizeof(Event) == 32);

struct Later {
  bool operator()(const Event &x, const Event &y) const {
    // Two branches, which processors guess: as a conditional expression g++ 12 makes it wait for memory, 2.5 times
    // as slow at a million events.
    if (x.atNs > y.atNs) return true;
    return x.atNs == y.atNs && x.sequence > y.sequence;
  }
};

int main(int argc, char **argv) {
  if (argc != 5) return 2;
  const auto columns = readColumns(argv[1]);
  const auto &times = columns[0];
  const std::vector<int64_t> increments(columns[1].begin(), columns[1].end());
  const size_t mask = increments.size() - 1;
  const double before = bytesHeld();
  std::priority_queue<Event, std::vector<Event>, Later> queue;
  uint64_t sequence = 0;
  for (size_t id = 0; id < times.size(); id++) {
    queue.push({static_cast<int64_t>(times[id]), sequence++, 1, static_cast<int32_t>(id), 0});
  }
  const double bytesPerEvent = (bytesHeld() - before) / times.size();
  uint32_t order = 0;
  size_t at = 0;
  const auto hold = [&](long steps) {
    for (long step = 0; step < steps; step++) {
      const Event event = queue.top();
      queue.pop();
      order = order * 31 + static_cast<uint32_t>(event.a);
      queue.push({event.atNs + increments[at], sequence++, event.kind, event.a, event.b});
      at = (at + 1) & mask;
    }
    return static_cast<int>(order);
  };
  printTurn(hold, bytesPerEvent, std::atol(argv[2]), std::atol(argv[3]), std::atof(argv[4]));
}
