// M/M/1 (source, wire, queue, server, sink) as events of std::priority_queue, dispatched by a switch or std::function.
// Arguments: columns file (gaps between arrivals, service times), packets, "switch" or "function", ns on the wire.
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
  int64_t now = 0, sojourn = 0, wire;
  long packets, sent = 0, arrived = 0, delivered = 0;

  Line(const std::vector<std::vector<double>> &columns, long packets, int64_t wire)
      : gaps(columns[0].begin(), columns[0].end()), services(columns[1].begin(), columns[1].end()),
        mask(gaps.size() - 1), wire(wire), packets(packets) {}

  void at(int64_t atNs, Action action) { events.push({atNs, sequence++, std::move(action)}); }

  void send(const Action &sendAgain, const Action &arrive) {
    at(now + wire, arrive);
    if (++sent < packets) at(now + gaps[sent & mask], sendAgain);
  }

  void arrive(const Action &arriveAgain, const Action &depart) {
    waiting.push_back(now);
    arrived++;
    if (waiting.size() == 1) at(now + services[delivered & mask], depart);
    if (wire == 0 && arrived < packets) at(now + gaps[arrived & mask], arriveAgain);
  }

  void leave(const Action &departAgain) {
    sojourn += now - waiting.front();
    waiting.pop_front();
    delivered++;
    if (!waiting.empty()) at(now + services[delivered & mask], departAgain);
  }
};

static double bySwitch(const std::vector<std::vector<double>> &columns, long packets, int64_t wire,
                       int64_t &sojourn) {
  enum Kind { SEND, ARRIVE, DEPART };
  Line<Kind> line(columns, packets, wire);
  const double start = nowNs();
  line.at(line.gaps[0], wire == 0 ? ARRIVE : SEND);
  while (!line.events.empty()) {
    const auto event = line.events.top();
    line.events.pop();
    line.now = event.atNs;
    switch (event.action) {
    case SEND:
      line.send(SEND, ARRIVE);
      break;
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

static double byFunction(const std::vector<std::vector<double>> &columns, long packets, int64_t wire,
                         int64_t &sojourn) {
  using Action = std::function<void()>;
  Line<Action> line(columns, packets, wire);
  Action send, arrive, depart;
  send = [&] { line.send([&] { send(); }, [&] { arrive(); }); };
  arrive = [&] { line.arrive([&] { arrive(); }, [&] { depart(); }); };
  depart = [&] { line.leave([&] { depart(); }); };
  const double start = nowNs();
  line.at(line.gaps[0], wire == 0 ? Action([&] { arrive(); }) : Action([&] { send(); }));
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
  if (argc != 5) return 2;
  const auto columns = readColumns(argv[1]);
  const long packets = std::atol(argv[2]);
  const int64_t wire = std::atoll(argv[4]);
  int64_t sojourn = 0;
  const bool functions = std::strcmp(argv[3], "function") == 0;
  const double elapsed =
      functions ? byFunction(columns, packets, wire, sojourn) : bySwitch(columns, packets, wire, sojourn);
  std::printf("{\"ns\":%.3f,\"result\":%lld}\n", elapsed / packets, static_cast<long long>(sojourn));
}
