import { TCP } from '@vipsim/sim-core';
import { RealServers } from '../../packages/proxiers/src/ipvs/real-servers.ts';
import { createScheduler, type SchedulerName } from '../../packages/proxiers/src/ipvs/schedulers/create.ts';
import { VirtualServers } from '../../packages/proxiers/src/ipvs/virtual-servers.ts';
import type { TurnResult } from './turn.ts';

/** One scheduler by itself, choosing among the real servers of one virtual server, in a process of its own. */
export interface IpvsRequest {
  readonly bench: 'ipvs-picks';
  readonly scheduler: SchedulerName;
  readonly servers: number;
  readonly picks: number;
}

/** 131,071 slots: mh takes no more servers than it has slots. */
const LARGE_TABLE = 17;
const USUAL_TABLE = 12;
const USUAL_TABLE_SERVERS = 4093;
/** Destinations that dh, lblc and lblcr see. */
const DESTINATIONS = 255;

/** ns per pick; the result is the steps that all picks took. */
export function takeIpvsTurn({ scheduler: name, servers: count, picks }: IpvsRequest): TurnResult {
  const services = new VirtualServers();
  const servers = new RealServers(services);
  let drawn = 1;
  const draws = {
    below: (bound: number): number => (drawn = (Math.imul(drawn, 747_796_405) + 1) >>> 0) % bound,
  };
  const options = { draws, mhTableIndex: count > USUAL_TABLE_SERVERS ? LARGE_TABLE : USUAL_TABLE };
  const scheduler = createScheduler(name, { services, servers }, 257, options);
  services.add(TCP, 0x0a60000a, 80, 0);
  for (let i = 0; i < count; i++) {
    const row = servers.create(0, 0x0af40000 + i, 8080);
    servers.weight[row] = 1 + (i % 4);
    servers.link(row);
    scheduler.added(0, row);
    // Nobody idle, loads scattered.
    servers.active[row] = 1 + (Math.imul(i, 0x9e3779b1) >>> 25);
    servers.inactive[row] = Math.imul(i, 0x85ebca6b) >>> 24;
  }
  if (name === 'ovf') servers.active.fill(0);
  const run = (times: number): void => {
    for (let i = 0; i < times; i++) {
      const client = (0x0a000000 + (Math.imul(i, 0x9e3779b1) >>> 10)) >>> 0;
      const destination = 0x0a600000 + (i & DESTINATIONS);
      if (scheduler.pick(0, client, 40_000, destination, 0) < 0) throw new Error(`${name} chose nobody`);
    }
  };
  run(Math.max(1000, picks >> 2));
  scheduler.steps = 0;
  const start = process.hrtime.bigint();
  run(picks);
  return { ns: Number(process.hrtime.bigint() - start) / picks, result: scheduler.steps };
}
