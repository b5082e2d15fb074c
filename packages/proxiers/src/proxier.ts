import type { ConntrackOptions, Packet, Streams } from '@vipsim/sim-core';
import type { Counts } from './cost/operations.ts';
import type { Cluster } from './kubernetes/cluster.ts';
import type { EndpointsMap } from './kubernetes/endpoints-map.ts';
import type { Reachability } from './reachability.ts';

/**
 * The one contract between the engine and a mode. A *proxier* is the control half (what kube-proxy or an agent
 * does), a *dataplane* the kernel half (what a packet meets); both live in one folder. A mode is added by adding
 * a folder that exports a `Mode`, and its line in modes.ts.
 */
export interface Mode<Specs extends OptionSpecs = OptionSpecs> {
  /** The word of `--modes`, and of the scenario's section that holds the options. */
  readonly name: string;
  readonly title: string;
  readonly options: Specs;
  /** Names of all operations that either half counts. */
  readonly operations: readonly string[];
  /** Native formats of `Proxier.dump`, the default first. */
  readonly formats: readonly string[];
  /** It programs the IPv6 half of a cluster, too; packets of runs are IPv4 in every mode. */
  readonly ipv6?: boolean;
  create(node: NodeContext, options: OptionsOf<Specs>): Proxier;
}

/** The node on which a proxier runs, and what it can see from there. */
export interface NodeContext {
  readonly cluster: Cluster;
  readonly endpoints: EndpointsMap;
  /** Index of this node in `cluster.nodes`. */
  readonly node: number;
  readonly cores: number;
  readonly conntrack: ConntrackOptions;
  readonly streams: Streams;
  /** What endpoints would answer; only a proxy that dials them itself may ask. */
  readonly reachability?: Reachability;
}

export interface Proxier {
  readonly dataplane: Dataplane;
  /** When it syncs. */
  readonly trigger: SyncTrigger;
  /**
   * What to program now that `changed` service ports differ from what was last programmed; `full` at the start
   * and after a failure, when everything is to be written. Reads the endpoints map; changes nothing in the
   * dataplane until the stages commit.
   */
  sync(changed: readonly number[], full: boolean): SyncPlan;
  /** The virtual time; told before each `sync`, `wait` and `commit` of a run. */
  tell?(nowNs: number): void;
  /** Work beside the syncs, once each period (if it is above 0): it takes processor time and delays nothing. */
  readonly watch?: { readonly periodNs: number; readonly counts: Counts };
  /** Native text, line by line without line ends, of what is programmed. */
  dump(format: string): Iterable<string>;
  /** Sync partially, put it in force, and give the text that was handed to the kernel's tool, line by line. */
  partialDump?(changed: readonly number[]): Iterable<string>;
  /** What a reader of results must know: limits near or passed, sizes chosen. One sentence each. */
  remarks?(): readonly string[];
}

export type SyncTrigger =
  /** kube-proxy's BoundedFrequencyRunner: at once after idle, then `minIntervalNs` after the last completion. */
  | {
      readonly kind: 'bounded';
      readonly minIntervalNs: number;
      readonly retryNs: number;
      /** A sync runs at least this often, changes or not: one hour, in IPVS mode syncPeriod. */
      readonly maxIntervalNs: number;
    }
  /** A free-running ticker that flushes what has gathered, sooner when that is `eventsMax` requests. */
  | {
      readonly kind: 'ticker';
      readonly periodNs: number;
      /** Asked after each sync that failed. */
      readonly retryNs: number;
      readonly eventsMax: number;
    }
  /** The same, `delayNs` after the first request that it gathers. */
  | {
      readonly kind: 'timer';
      readonly delayNs: number;
      readonly retryNs: number;
      readonly eventsMax: number;
    };

export interface SyncPlan {
  /** `full`: everything is written; `partial`: changed parts; `entries`: single entries, one by one. */
  readonly scope: 'full' | 'partial' | 'entries';
  /** In order. Each takes the time of its counts, then becomes visible by its commit. */
  readonly stages: readonly SyncStage[];
  /** Set when the sync will fail after its stages have run: what was asked is not in force. */
  readonly failure?: SyncFailure;
  /** Work of another thread that falls due with this sync: it takes processor time and holds nothing up. */
  readonly aside?: Counts;
}

export interface SyncStage {
  readonly counts: Counts;
  /** Asked once, when the stage's turn has come in a run; a first sync before the run is not asked. */
  wait?(): Wait;
  commit(): void;
}

/** How long a stage waits before its work begins; with a failure, the sync ends instead. */
export interface Wait {
  readonly ns: number;
  readonly failure?: SyncFailure;
}

export interface SyncFailure {
  /** As the kernel names it: ENOMEM, E2BIG, ENOSPC. */
  readonly error: string;
  /** A sentence with the sizes, and the way out. */
  readonly message: string;
}

export interface Dataplane {
  /**
   * Let a packet through: look the connection up or open it, translate, advance its state. Fills `verdict`;
   * counts are added to `verdict.counts`, which the caller clears. Allocates nothing.
   */
  classify(packet: Packet, nowNs: number, verdict: Verdict): void;
  /** Let timers run out: conntrack and connection entries that expired by now. Called every virtual second. */
  expire(nowNs: number): void;
  /** Bytes of the structure behind each operation, by operation: the working sets that prices depend on. */
  workingSets(out: Float64Array): void;
  /** Tables as the kernel holds them. */
  tables(): readonly TableSize[];
  /** Connections tracked, and what tracking them lost. */
  connections(): ConnectionStats;
  /** Set to follow a walk step by step; the walk itself is the same. */
  recorder: Recorder | undefined;
}

export interface TableSize {
  readonly name: string;
  readonly entries: number;
  readonly bytes: number;
}

export interface ConnectionStats {
  readonly entries: number;
  readonly peak: number;
  readonly inserts: number;
  readonly drops: number;
  readonly earlyDrops: number;
  readonly portExhaustions: number;
}

export interface Recorder {
  /** `where`: a chain, map or table. `what`: what was evaluated there, and what came of it. */
  step(where: string, what: string): void;
}

/** The packet leaves, translated or not. */
export const FORWARD = 0;
/** The sender is told at once: ICMP port unreachable, a reset, or an error from connect(). */
export const REJECT = 1;
/** The packet is gone without a word. */
export const DROP = 2;

/** What became of a packet. One record is reused for all packets of a run. */
export class Verdict {
  fate: typeof FORWARD | typeof REJECT | typeof DROP = FORWARD;
  /** The packet opened a flow: it met the service tables. Others only met connection state. */
  first = false;
  /** The endpoint row that a service chose for this packet; -1 if it chose none now. */
  endpoint = -1;
  // The five-tuple as the packet leaves (the protocol never changes).
  source = 0;
  sourcePort = 0;
  destination = 0;
  destinationPort = 0;
  /** The client's socket is now connected to the address above: its later packets carry that destination. */
  connected = false;
  /** What the packet waits at the node besides the work that is counted, in ns. */
  delayNs = 0;
  /** The node's network stack never saw the packet: it was dealt with below it, or did not come to this node. */
  pastStack = false;
  readonly counts: Counts;

  constructor(operations: number) {
    this.counts = new Float64Array(operations);
  }

  /** Start a packet: it will leave as it came unless something changes it. */
  begin(packet: Packet): void {
    this.fate = FORWARD;
    this.first = false;
    this.endpoint = -1;
    this.source = packet.source;
    this.sourcePort = packet.sourcePort;
    this.destination = packet.destination;
    this.destinationPort = packet.destinationPort;
    this.connected = false;
    this.delayNs = 0;
    this.pastStack = false;
    this.counts.fill(0);
  }
}

/** Options describe themselves: the scenario schema, the help text and the defaults all come from here. */
export type OptionSpec =
  | {
      readonly kind: 'choice';
      readonly default: string;
      readonly choices: readonly string[];
      readonly about: string;
    }
  | { readonly kind: 'boolean'; readonly default: boolean; readonly about: string }
  | {
      readonly kind: 'integer';
      readonly default: number;
      readonly min: number;
      readonly max: number;
      readonly about: string;
    }
  /** Written `500ms`, `1s`, `30s`; held in nanoseconds. */
  | { readonly kind: 'duration'; readonly default: number; readonly about: string }
  | {
      readonly kind: 'text';
      readonly default: string;
      /** What was wanted instead of this text; empty if it will do. */
      wanted(text: string): string;
      readonly about: string;
    };

export type OptionSpecs = Readonly<Record<string, OptionSpec>>;

export type OptionsOf<Specs extends OptionSpecs> = {
  readonly [Name in keyof Specs]: Specs[Name] extends { kind: 'choice'; choices: readonly (infer Choice)[] }
    ? Choice
    : Specs[Name] extends { kind: 'boolean' }
      ? boolean
      : Specs[Name] extends { kind: 'text' }
        ? string
        : number;
};

/** The options of a mode as they are when nobody sets any. */
export function defaultsOf<Specs extends OptionSpecs>(specs: Specs): OptionsOf<Specs> {
  return Object.fromEntries(
    Object.entries(specs).map(([name, spec]) => [name, spec.default]),
  ) as OptionsOf<Specs>;
}
