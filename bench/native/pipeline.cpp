// M/M/1 (source, queue, server, sink) as events of std::priority_queue, dispatched by a switch or by std::function.
// Arguments: columns file (gaps between arrivals, service times), packets, "switch" or "function".
#include "columns.hpp"
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <queue>

template <typename Action> struct Event {
  int64_t atNs;
  uint64_t sequence;
  Action action;
};

template <typename Action> struct Later {
  bool operator()(const Event<Action> &x, const Event<Action> &y) const {
    if (x.atNs > y.atNs) return true;
    return x.atNs == y.atNs && x.sequence > y.sequence;
  }
};

template <typename Action> struct Line {
  std::priority_queue<Event<Action>, std::vector<Event<Action>>, Later<Action>> events;
  std::vector<int64_t> gaps, services;
  std::deque<int64_t> waiting;
  size_t mask;
  uint64_t sequence = 0;
  int64_t now = 0, sojourn = 0;
  long packets, sent = 0, delivered = 0;

  Line(const std::vector<std::vector<double>> &columns, long packets)
      : gaps(columns[0].begin(), columns[0].end()), services(columns[1].begin(), columns[1].end()),
        mask(gaps.size() - 1), packets(packets) {}

  void at(int64_t atNs, Action action) { events.push({atNs, sequence++, std::move(action)}); }

  void arrive(const Action &arriveAgain, const Action &depart) {
    waiting.push_back(now);
    if (waiting.size() == 1) at(now + services[delivered & mask], depart);
    if (++sent < packets) at(now + gaps[sent & mask], arriveAgain);
  }

  void leave(const Action &departAgain) {
    sojourn += now - waiting.front();
    waiting.pop_front();
    delivered++;
    if (!waiting.empty()) at(now + services[delivered & mask], departAgain);
  }
};

static double bySwitch(const std::vector<std::vector<double>> &columns, long packets, int64_t &sojourn) {
  enum Kind { ARRIVE, DEPART };
  Line<Kind> line(columns, packets);
  const double start = nowNs();
  line.at(line.gaps[0], ARRIVE);
  while (!line.events.empty()) {
    const auto event = line.events.top();
    line.events.pop();
    line.now = event.atNs;
    switch (event.action) {
    case ARRIVE:
      line.arrive(ARRIVE, DEPART);
      break;
    case DEPART:
      line.leave(DEPART);
      break;
    }
  }
  sojourn = line.sojourn;
  return nowNs() - start;
}

static double byFunction(const std::vector<std::vector<double>> &columns, long packets, int64_t &sojourn) {
  using Action = std::function<void()>;
  Line<Action> line(columns, packets);
  Action arrive, depart;
  arrive = [&] { line.arrive([&] { arrive(); }, [&] { depart(); }); };
  depart = [&] { line.leave([&] { depart(); }); };
  const double start = nowNs();
  line.at(line.gaps[0], [&] { arrive(); });
  while (!line.events.empty()) {
    const auto event = line.events.top();
    line.events.pop();
    line.now = event.atNs;
    event.action();
  }
  sojourn = line.sojourn;
  return nowNs() - start;
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  const auto columns = readColumns(argv[1]);
  const long packets = std::atol(argv[2]);
  int64_t sojourn = 0;
  const bool functions = std::strcmp(argv[3], "function") == 0;
  const double elapsed =
      functions ? byFunction(columns, packets, sojourn) : bySwitch(columns, packets, sojourn);
  std::printf("{\"ns\":%.3f,\"result\":%lld}\n", elapsed / packets, static_cast<long long>(sojourn));
}
