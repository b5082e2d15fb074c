import { jhash2, type Packet } from '@vipsim/sim-core';
import type { Counts } from '../../cost/operations.ts';
import type { Recorder } from '../../proxier.ts';
import type { HashMap } from '../maps/hash-map.ts';
import type { LpmTrie } from '../maps/lpm-trie.ts';
import type { LruHashMap } from '../maps/lru-hash-map.ts';
import { MAP_STEP, TRIE_STEP } from '../operations.ts';

/** One packet's way through Calico's maps: accesses are counted here, and told to the recorder if there is one. */
export class CalicoWalk {
  recorder: Recorder | undefined;
  counts: Counts = new Float64Array(0);
  nowNs = 0;
  /** Whose LRU lists the program uses: the flow's CPU, the same for both directions. */
  cpu = 0;
  readonly #cpus: number;

  constructor(cpus: number) {
    this.#cpus = cpus;
  }

  begin(packet: Packet, nowNs: number, counts: Counts): void {
    this.counts = counts;
    this.nowNs = nowNs;
    const { source, destination, sourcePort, destinationPort } = packet;
    this.cpu =
      this.#cpus === 1 ? 0 : jhash2(source ^ destination, sourcePort ^ destinationPort, 0) % this.#cpus;
  }

  /** Look the trie's key up, counted as `operation`. Element, or -1. */
  prefix(trie: LpmTrie, operation: number, key: string): number {
    const element = trie.lookup();
    this.counts[operation]! += 1;
    this.counts[TRIE_STEP]! += trie.steps;
    this.recorder?.step(trie.spec.name, `${key}: ${element < 0 ? 'miss' : 'hit'}; ${trie.steps} nodes`);
    return element;
  }

  /** Look the map's key up, counted as `operation`. Element, or -1. */
  hash(map: HashMap, operation: number, key: string): number {
    const element = map.find();
    this.counts[operation]! += 1;
    this.counts[MAP_STEP]! += map.steps;
    this.#tell(map.spec.name, key, element < 0 ? 'miss' : 'hit', map.steps);
    return element;
  }

  /** Look the LRU map's key up, counted as `operation`. Element, or -1. */
  lru(map: LruHashMap, operation: number, key: string): number {
    const element = map.lookup();
    this.counts[operation]! += 1;
    this.counts[MAP_STEP]! += map.steps;
    this.#tell(map.spec.name, key, element < 0 ? 'miss' : 'hit', map.steps);
    return element;
  }

  /** Put the LRU map's key, counted as `operation`. Element, or a negative number. */
  put(map: LruHashMap, operation: number, key: string, mustBeNew = false): number {
    const element = map.update(this.cpu, mustBeNew);
    this.counts[operation]! += 1;
    this.recorder?.step(map.spec.name, `${key}: ${element < 0 ? 'not written' : 'written'}`);
    return element;
  }

  #tell(map: string, key: string, outcome: string, steps: number): void {
    this.recorder?.step(map, `${key}: ${outcome}; ${steps} chain ${steps === 1 ? 'step' : 'steps'}`);
  }
}
