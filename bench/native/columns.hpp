// Reads the columns that bench/src/columns.ts writes: for each column its length, then its values, all doubles.
#pragma once
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <malloc.h>
#include <vector>

inline std::vector<std::vector<double>> readColumns(const char *path) {
  std::FILE *file = std::fopen(path, "rb");
  if (!file) {
    std::fprintf(stderr, "cannot read %s\n", path);
    std::exit(2);
  }
  std::vector<std::vector<double>> columns;
  double length;
  while (std::fread(&length, sizeof length, 1, file) == 1) {
    std::vector<double> column(static_cast<size_t>(length));
    if (std::fread(column.data(), sizeof(double), column.size(), file) != column.size()) {
      std::fprintf(stderr, "%s ends early\n", path);
      std::exit(2);
    }
    columns.push_back(std::move(column));
  }
  std::fclose(file);
  return columns;
}

/** Bytes that the program holds from malloc, mapped blocks included. */
inline double bytesHeld() {
  const struct mallinfo2 info = mallinfo2();
  return static_cast<double>(info.uordblks + info.hblkhd);
}

inline double nowNs() {
  using namespace std::chrono;
  return static_cast<double>(duration_cast<nanoseconds>(steady_clock::now().time_since_epoch()).count());
}

/**
 * The turn of one structure: warm up for a fixed number of holds, whose order is printed for comparison, then
 * hold in chunks until `steps` are done or `msMax` is over. `hold(n)` returns the running checksum of the order.
 */
template <typename Hold> void printTurn(Hold hold, double bytesPerEvent, long warmup, long steps, double msMax) {
  const int order = hold(warmup);
  long done = 0;
  const double start = nowNs();
  double elapsed = 0;
  while (done < steps && elapsed < msMax * 1e6) {
    const long chunk = steps - done < 65536 ? steps - done : 65536;
    hold(chunk);
    done += chunk;
    elapsed = nowNs() - start;
  }
  std::printf("{\"ns\":%.3f,\"bytes\":%.2f,\"order\":%d}\n", elapsed / done, bytesPerEvent, order);
}
