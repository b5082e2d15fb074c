// ns-3: its schedulers alone (Insert, RemoveNext), its whole event loop, and the pipeline and timers on that loop.
// Arguments: "hold" SCHEDULER columns warm-up holds ms | "loop" SCHEDULER columns warm-up holds ms
//          | "pipeline" SCHEDULER columns packets wireNs | "timers" SCHEDULER columns packets timeoutNs
#include "columns.hpp"
#include <cstdint>
#include <cstring>
#include <deque>
#include <ns3/core-module.h>
#include <string>

using namespace ns3;

static ObjectFactory factoryOf(const char *scheduler) {
  ObjectFactory factory;
  factory.SetTypeId(std::string("ns3::") + scheduler);
  return factory;
}

struct Nothing : EventImpl {
  void Notify() override {}
};

static int hold(char **argv) {
  const auto columns = readColumns(argv[3]);
  const auto &times = columns[0];
  const std::vector<uint64_t> increments(columns[1].begin(), columns[1].end());
  const size_t mask = increments.size() - 1;
  Ptr<Scheduler> scheduler = factoryOf(argv[2]).Create<Scheduler>();
  Nothing nothing;
  const double before = bytesHeld();
  uint32_t uid = 0;
  for (size_t id = 0; id < times.size(); id++) {
    scheduler->Insert({&nothing, {static_cast<uint64_t>(times[id]), uid++, static_cast<uint32_t>(id)}});
  }
  const double bytesPerEvent = (bytesHeld() - before) / times.size();
  uint32_t order = 0;
  size_t at = 0;
  const auto run = [&](long steps) {
    for (long step = 0; step < steps; step++) {
      Scheduler::Event event = scheduler->RemoveNext();
      order = order * 31 + event.key.m_context;
      event.key.m_ts += increments[at];
      event.key.m_uid = uid++;
      scheduler->Insert(event);
      at = (at + 1) & mask;
    }
    return static_cast<int>(order);
  };
  printTurn(run, bytesPerEvent, std::atol(argv[4]), std::atol(argv[5]), std::atof(argv[6]));
  return 0;
}

static std::vector<int64_t> firstColumn, secondColumn;
static size_t columnMask;
static size_t stepAt = 0;
static long stepsLeft = 0;
static uint32_t firedOrder = 0;

static void fire(uint32_t id) {
  firedOrder = firedOrder * 31 + id;
  Simulator::Schedule(NanoSeconds(secondColumn[stepAt]), &fire, id);
  stepAt = (stepAt + 1) & columnMask;
  if (--stepsLeft == 0) Simulator::Stop();
}

static void readInto(const char *path) {
  const auto columns = readColumns(path);
  firstColumn.assign(columns[0].begin(), columns[0].end());
  secondColumn.assign(columns[1].begin(), columns[1].end());
  columnMask = secondColumn.size() - 1;
}

static int loop(char **argv) {
  readInto(argv[3]);
  Simulator::SetScheduler(factoryOf(argv[2]));
  const double before = bytesHeld();
  for (size_t id = 0; id < firstColumn.size(); id++) {
    Simulator::Schedule(NanoSeconds(firstColumn[id]), &fire, static_cast<uint32_t>(id));
  }
  const double bytesPerEvent = (bytesHeld() - before) / firstColumn.size();
  const auto run = [&](long steps) {
    stepsLeft = steps;
    Simulator::Run();
    return static_cast<int>(firedOrder);
  };
  printTurn(run, bytesPerEvent, std::atol(argv[4]), std::atol(argv[5]), std::atof(argv[6]));
  return 0;
}

static std::deque<int64_t> waiting;
static long packets = 0, sent = 0, arrived = 0, delivered = 0;
static int64_t sojourn = 0, wireNs = 0;

static void depart() {
  sojourn += Simulator::Now().GetNanoSeconds() - waiting.front();
  waiting.pop_front();
  delivered++;
  if (!waiting.empty()) Simulator::Schedule(NanoSeconds(secondColumn[delivered & columnMask]), &depart);
}

static void arrive() {
  waiting.push_back(Simulator::Now().GetNanoSeconds());
  if (waiting.size() == 1) Simulator::Schedule(NanoSeconds(secondColumn[delivered & columnMask]), &depart);
  arrived++;
  if (wireNs == 0 && arrived < packets) {
    Simulator::Schedule(NanoSeconds(firstColumn[arrived & columnMask]), &arrive);
  }
}

static void sendOne() {
  Simulator::Schedule(NanoSeconds(wireNs), &arrive);
  if (++sent < packets) Simulator::Schedule(NanoSeconds(firstColumn[sent & columnMask]), &sendOne);
}

static int pipeline(char **argv) {
  readInto(argv[3]);
  packets = std::atol(argv[4]);
  wireNs = std::atoll(argv[5]);
  Simulator::SetScheduler(factoryOf(argv[2]));
  const double start = nowNs();
  Simulator::Schedule(NanoSeconds(firstColumn[0]), wireNs == 0 ? &arrive : &sendOne);
  Simulator::Run();
  std::printf("{\"ns\":%.3f,\"result\":%lld}\n", (nowNs() - start) / packets, static_cast<long long>(sojourn));
  return 0;
}

static std::vector<EventId> timers;
static int64_t timeoutNs = 0;
static long expired = 0;

static void expire() { expired++; }

static void packet(uint32_t flow) {
  timers[flow].Cancel();
  timers[flow] = Simulator::Schedule(NanoSeconds(timeoutNs), &expire);
  Simulator::Schedule(NanoSeconds(secondColumn[sent & columnMask]), &packet, flow);
  if (++sent == packets) Simulator::Stop();
}

static int retransmission(char **argv) {
  readInto(argv[3]);
  packets = std::atol(argv[4]);
  timers.resize(firstColumn.size());
  timeoutNs = std::atoll(argv[5]);
  Simulator::SetScheduler(factoryOf(argv[2]));
  for (uint32_t flow = 0; flow < timers.size(); flow++) {
    Simulator::Schedule(NanoSeconds(firstColumn[flow]), &packet, flow);
  }
  const double start = nowNs();
  Simulator::Run();
  std::printf("{\"ns\":%.3f,\"result\":%ld}\n", (nowNs() - start) / packets, expired);
  return 0;
}

int main(int argc, char **argv) {
  if (argc == 7 && std::strcmp(argv[1], "hold") == 0) return hold(argv);
  if (argc == 7 && std::strcmp(argv[1], "loop") == 0) return loop(argv);
  if (argc == 6 && std::strcmp(argv[1], "pipeline") == 0) return pipeline(argv);
  if (argc == 6 && std::strcmp(argv[1], "timers") == 0) return retransmission(argv);
  return 2;
}
