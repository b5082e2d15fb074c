import type { AddressHashes } from './address-hashes.ts';
import type { DirectorOptions, ServiceSettings } from './director-options.ts';
import { createScheduler, type SchedulerName } from './schedulers/create.ts';
import type { Lists, Scheduler } from './schedulers/scheduler.ts';

/** The scheduler of each virtual server: one object for all that have the same scheduler with the same flags. */
export class ServiceSchedulers {
  readonly standard: Scheduler;
  readonly #lists: Lists;
  readonly #options: DirectorOptions;
  readonly #hashes: AddressHashes;
  readonly #names: string[] = [];
  readonly #all: Scheduler[] = [];

  constructor(lists: Lists, options: DirectorOptions, hashes: AddressHashes) {
    this.#lists = lists;
    this.#options = options;
    this.#hashes = hashes;
    this.standard = this.#all[this.#index(options.scheduler, false, false)]!;
  }

  of(service: number): Scheduler {
    return this.#all[this.#lists.services.scheduler[service]!]!;
  }

  /** Flags of a virtual server's scheduler that were set: of sh and mh. */
  flags(service: number): { readonly port: boolean; readonly fallback: boolean } {
    const [, port, fallback] = this.#names[this.#lists.services.scheduler[service]!]!.split(' ');
    return { port: port === 'true', fallback: fallback === 'true' };
  }

  /** Give a virtual server its scheduler. One that it has already goes on; another begins. */
  set(service: number, { scheduler, port = false, fallback = false }: ServiceSettings, nowNs: number): void {
    const { services } = this.#lists;
    const old = services.scheduler[service]!;
    const chosen = this.#index(scheduler ?? this.#options.scheduler, port, fallback);
    if (chosen === old) return;
    this.#all[old]!.stopped(service);
    services.scheduler[service] = chosen;
    this.#all[chosen]!.started(service, nowNs);
  }

  #index(scheduler: SchedulerName, port: boolean, fallback: boolean): number {
    const name = `${scheduler} ${port} ${fallback}`;
    const known = this.#names.indexOf(name);
    if (known >= 0) return known;
    const { loadFormula, mhTableIndex, draws } = this.#options;
    this.#names.push(name);
    this.#all.push(
      createScheduler(scheduler, this.#lists, loadFormula, {
        ...(mhTableIndex === undefined ? {} : { mhTableIndex }),
        ...(draws === undefined ? {} : { draws }),
        ...(this.#hashes.isPlain ? {} : { fold: (address: number) => this.#hashes.fold(address) }),
        port,
        fallback,
      }),
    );
    return this.#all.length - 1;
  }
}
