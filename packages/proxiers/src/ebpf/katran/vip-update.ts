import type { Counts } from '../../cost/operations.ts';
import type { SyncStage } from '../../proxier.ts';
import { katranRing } from '../maglev/katran-ring.ts';
import { SYSCALL_INSERT, SYSCALL_UPDATE } from '../operations.ts';
import { HASH_NO_SOURCE_PORT, RING_SIZE, type KatranMaps } from './maps.ts';
import { BATCH_ENTRY, RING_SLOT, VARIANT_OPERATIONS } from './operations.ts';
import { realHash } from './real-hash.ts';
import type { Reals } from './reals.ts';
import type { Vip } from './vips.ts';

/** What an update works with. */
export interface VipUpdateParts {
  readonly maps: KatranMaps;
  readonly reals: Reals;
  /** Endpoint rows by real, of each VIP. */
  readonly rows: Map<number, number>[];
  readonly knownReals: Set<number>;
}

/** Endpoint rows by address, as a VIP should have them. */
export type WantedReals = ReadonlyMap<number, number>;

/**
 * The stages that bring a VIP to its reals: the VIP itself, then what is new, then what is gone; the ring is generated
 * after each of the two and what differs of it is written by one batched system call. Without any real the ring stays as
 * it is: packets go on to reals that are gone.
 * Source: modifyRealsForVip and programHashRing, katran/lib/KatranLb.cpp; calculateHashRing, katran/lib/Vip.cpp.
 * @returns the number of reals for which there was no number.
 */
export function updateVip(vip: Vip, wanted: WantedReals, parts: VipUpdateParts, stages: SyncStage[]): number {
  const stage = new Stage(stages);
  if (!vip.programmed) {
    stage.count(SYSCALL_INSERT, 1);
    stage.enact(() => program(vip, parts.maps));
    vip.programmed = true;
  }
  const before = vip.reals;
  const gone = before.filter((address) => !wanted.has(address));
  const old = new Set(before);
  const kept: number[] = [...before];
  let refused = 0;
  for (const [address, row] of wanted) {
    const { number, isNew } = old.has(address)
      ? { number: parts.reals.numberOf(address), isNew: false }
      : parts.reals.take(address);
    if (number === 0) {
      refused++;
      continue;
    }
    if (!old.has(address)) kept.push(address);
    if (isNew) stage.count(SYSCALL_UPDATE, 1);
    if (!isNew && parts.rows[vip.number]?.get(number) === row) continue;
    stage.enact(() => {
      parts.maps.reals[number] = address;
      parts.knownReals.add(address);
      (parts.rows[vip.number] ??= new Map()).set(number, row);
    });
  }
  let ring: Uint16Array | undefined;
  if (kept.length > before.length) ring = writeRing(vip, kept, undefined, parts, stage);
  if (gone.length > 0) {
    const left = kept.filter((address) => wanted.has(address));
    if (left.length > 0) writeRing(vip, left, ring, parts, stage);
    for (const address of gone) parts.reals.give(address);
    vip.reals = left;
  } else {
    vip.reals = kept;
  }
  stage.close();
  return refused;
}

function program(vip: Vip, maps: KatranMaps): void {
  const map = maps.vip(vip.address, vip.port, vip.protocol);
  const element = map.update();
  map.setValue(element, 0, vip.sticks ? HASH_NO_SOURCE_PORT : 0);
  map.setValue(element, 1, vip.number);
}

/** @param before the ring as it will be by then, if this plan has already changed it. */
function writeRing(
  vip: Vip,
  addresses: readonly number[],
  before: Uint16Array | undefined,
  { maps, reals }: VipUpdateParts,
  stage: Stage,
): Uint16Array {
  const ring = Uint16Array.from(
    katranRing(
      addresses.map((address) => ({ number: reals.numberOf(address), weight: 1, ...realHash(address) })),
      RING_SIZE,
    ),
  );
  stage.count(RING_SLOT, RING_SIZE);
  let positions = 0;
  for (let position = 0; position < RING_SIZE; position++) {
    const old = before === undefined ? maps.ringAt(vip.number, position) : before[position]!;
    if (old !== ring[position]) positions++;
  }
  if (positions > 0) {
    stage.count(SYSCALL_UPDATE, 1);
    stage.count(BATCH_ENTRY, positions);
    stage.enact(() => maps.ring(vip.number).set(ring));
  }
  stage.close();
  return ring;
}

/** Stages in the making: closed where what was done becomes visible. */
class Stage {
  readonly #stages: SyncStage[];
  #counts: Counts = new Float64Array(VARIANT_OPERATIONS.length);
  #actions: (() => void)[] = [];
  #counted = false;

  constructor(stages: SyncStage[]) {
    this.#stages = stages;
  }

  count(operation: number, times: number): void {
    this.#counts[operation]! += times;
    this.#counted = true;
  }

  enact(action: () => void): void {
    this.#actions.push(action);
  }

  close(): void {
    if (!this.#counted && this.#actions.length === 0) return;
    const actions = this.#actions;
    this.#stages.push({
      counts: this.#counts,
      commit: () => {
        for (const action of actions) action();
      },
    });
    this.#counts = new Float64Array(VARIANT_OPERATIONS.length);
    this.#actions = [];
    this.#counted = false;
  }
}
