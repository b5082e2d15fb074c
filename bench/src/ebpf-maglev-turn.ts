import { IPV4 } from '@vipsim/sim-core';
import { MaglevBackends } from '../../packages/proxiers/src/ebpf/maglev/backends.ts';
import { DEFAULT_MAGLEV_SEED, readMaglevSeed } from '../../packages/proxiers/src/ebpf/maglev/seed.ts';
import { buildMaglev } from '../../packages/proxiers/src/ebpf/maglev/table.ts';
import type { TurnResult } from './turn.ts';

/** One Maglev table, built over and over from addresses, in a process of its own. */
export interface MaglevRequest {
  readonly bench: 'ebpf-maglev';
  readonly slots: number;
  readonly backends: number;
  /** Measured at least that long. */
  readonly msMin: number;
}

/** As long as V8 needs to compile what it will. */
const WARMUP_MS = 400;

/** ns per table; the result is a checksum of it. */
export function takeMaglevTurn({ slots, backends: count, msMin }: MaglevRequest): TurnResult {
  const seed = readMaglevSeed(DEFAULT_MAGLEV_SEED);
  const backends = new MaglevBackends(IPV4);
  const table = new Uint32Array(slots);
  const build = (): void => {
    backends.clear();
    for (let k = 0; k < count; k++) backends.add(0x0a000000 + k, 8080, 'TCP', k + 1);
    buildMaglev(backends, slots, seed, table);
  };
  repeat(build, WARMUP_MS);
  const ns = repeat(build, msMin);
  let checksum = 0;
  for (const id of table) checksum = (Math.imul(checksum, 31) + id) | 0;
  return { ns, result: checksum };
}

/** ns per call, over that many milliseconds at least. */
function repeat(call: () => void, msMin: number): number {
  const start = process.hrtime.bigint();
  let calls = 0;
  let ns: number;
  do {
    call();
    calls++;
    ns = Number(process.hrtime.bigint() - start);
  } while (ns < msMin * 1e6);
  return ns / calls;
}
