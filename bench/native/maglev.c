// Maglev tables in plain C, two ways: with every backend's permutation written down first, as Cilium's agent does it
// on one core, and with only the place and step of each.
// Arguments: matrix or cursors, slots, backends, milliseconds to measure at least.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NAME_MAX 64
#define MURMUR_SEED 0x24b7ef82u

struct backend {
  char name[NAME_MAX];
  uint32_t id;
};

struct place {
  uint64_t offset, skip;
};

struct work {
  uint64_t slots, count;
  struct backend *backends;
  struct place *places;
  uint64_t *matrix;
  uint64_t *next;
  uint32_t *table;
};

static uint64_t rotate(uint64_t x, int by) { return x << by | x >> (64 - by); }

static uint64_t mix(uint64_t x) {
  x = (x ^ x >> 33) * 0xff51afd7ed558ccdull;
  x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53ull;
  return x ^ x >> 33;
}

/** MurmurHash3 x64, 128 bits; a tail is filled up with zeros. */
static void murmur3(const char *text, size_t length, uint64_t *h1, uint64_t *h2) {
  const uint64_t c1 = 0x87c37b91114253d5ull, c2 = 0x4cf5ad432745937full;
  uint64_t a = MURMUR_SEED, b = MURMUR_SEED, k[2];
  for (size_t at = 0; at < length; at += 16) {
    const int whole = at + 16 <= length;
    k[0] = k[1] = 0;
    memcpy(k, text + at, whole ? 16 : length - at);
    a ^= rotate(k[0] * c1, 31) * c2;
    if (whole) a = (rotate(a, 27) + b) * 5 + 0x52dce729;
    b ^= rotate(k[1] * c2, 33) * c1;
    if (whole) b = (rotate(b, 31) + a) * 5 + 0x38495ab5;
  }
  a ^= length;
  b ^= length;
  a += b;
  b += a;
  a = mix(a);
  b = mix(b);
  *h1 = a + b;
  *h2 = b + *h1;
}

static int byName(const void *x, const void *y) {
  return strcmp(((const struct backend *)x)->name, ((const struct backend *)y)->name);
}

/** Names, their order, and what they are hashed to. */
static void prepare(struct work *work) {
  for (uint64_t k = 0; k < work->count; k++) {
    struct backend *backend = &work->backends[k];
    snprintf(backend->name, NAME_MAX, "[10.%u.%u.%u:8080/TCP,State:active]", (unsigned)(k >> 16 & 255),
             (unsigned)(k >> 8 & 255), (unsigned)(k & 255));
    backend->id = (uint32_t)k + 1;
  }
  qsort(work->backends, work->count, sizeof *work->backends, byName);
  for (uint64_t i = 0; i < work->count; i++) {
    uint64_t h1, h2;
    murmur3(work->backends[i].name, strlen(work->backends[i].name), &h1, &h2);
    work->places[i] = (struct place){h1 % work->slots, h2 % (work->slots - 1) + 1};
  }
  memset(work->table, 0, work->slots * sizeof *work->table);
}

static void buildByMatrix(struct work *work) {
  prepare(work);
  const uint64_t slots = work->slots;
  for (uint64_t i = 0; i < work->count; i++) {
    uint64_t *row = work->matrix + i * slots;
    row[0] = work->places[i].offset;
    for (uint64_t j = 1; j < slots; j++) row[j] = (row[j - 1] + work->places[i].skip) % slots;
    work->next[i] = 0;
  }
  for (uint64_t n = 0; n < slots; n++) {
    const uint64_t i = n % work->count;
    const uint64_t *row = work->matrix + i * slots;
    uint64_t slot = row[work->next[i]++];
    while (work->table[slot]) slot = row[work->next[i]++];
    work->table[slot] = work->backends[i].id;
  }
}

static void buildByCursors(struct work *work) {
  prepare(work);
  const uint64_t slots = work->slots;
  for (uint64_t n = 0, i = 0; n < slots; n++) {
    struct place *place = &work->places[i];
    uint64_t slot = place->offset;
    while (work->table[slot]) {
      slot += place->skip;
      if (slot >= slots) slot -= slots;
    }
    work->table[slot] = work->backends[i].id;
    slot += place->skip;
    place->offset = slot >= slots ? slot - slots : slot;
    if (++i == work->count) i = 0;
  }
}

static double nowNs(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1e9 + now.tv_nsec;
}

int main(int argc, char **argv) {
  if (argc != 5) return 2;
  const int byMatrix = strcmp(argv[1], "matrix") == 0;
  struct work work = {.slots = strtoull(argv[2], 0, 10), .count = strtoull(argv[3], 0, 10)};
  const double nsMin = atof(argv[4]) * 1e6;
  work.backends = malloc(work.count * sizeof *work.backends);
  work.places = malloc(work.count * sizeof *work.places);
  work.next = malloc(work.count * sizeof *work.next);
  work.table = malloc(work.slots * sizeof *work.table);
  work.matrix = byMatrix ? malloc(work.count * work.slots * sizeof *work.matrix) : 0;
  if (!work.backends || !work.places || !work.next || !work.table || (byMatrix && !work.matrix)) return 1;
  // Once before: the agent keeps its array, whose pages are there after the first table.
  void (*build)(struct work *) = byMatrix ? buildByMatrix : buildByCursors;
  build(&work);
  long builds = 0;
  const double start = nowNs();
  do {
    build(&work);
    builds++;
  } while (nowNs() - start < nsMin);
  const double ns = (nowNs() - start) / builds;
  uint32_t checksum = 0;
  for (uint64_t slot = 0; slot < work.slots; slot++) checksum = checksum * 31 + work.table[slot];
  printf("{\"ns\":%.1f,\"result\":%d}\n", ns, (int)checksum);
}
