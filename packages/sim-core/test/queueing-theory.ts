/**
 * Steady-state values of queues, as in Kleinrock, Queueing Systems I (1975), and Erlang 1917. Loads are in erlangs:
 * arrival rate × mean service; waits come in units of the mean service.
 */

/** Erlang B: the share of arrivals lost by M/G/c/c, by its recursion in c. */
export function erlangB(servers: number, load: number): number {
  let loss = 1;
  for (let c = 1; c <= servers; c++) loss = (load * loss) / (c + load * loss);
  return loss;
}

/** Erlang C: the probability that an arrival at M/M/c has to wait. */
export function erlangC(servers: number, load: number): number {
  const loss = erlangB(servers, load);
  return (servers * loss) / (servers - load * (1 - loss));
}

/** Mean wait in the queue of M/M/c, in mean services. */
export function waitMMc(servers: number, load: number): number {
  return erlangC(servers, load) / (servers - load);
}

/** Pollaczek and Khinchine: mean wait in the queue of M/G/1; `scv` is variance over squared mean of the service. */
export function waitMG1(load: number, scv: number): number {
  return (load * (1 + scv)) / (2 * (1 - load));
}
