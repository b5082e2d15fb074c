import type { Mode, NodeContext, OptionSpecs, OptionsOf } from '../proxier.ts';
import { IPVS_OPERATIONS } from './operations.ts';
import { IpvsProxier } from './proxier.ts';
import { SCHEDULER_NAMES } from './schedulers/create.ts';

/** kube-proxy's ipvs section and its sysctls; defaults are kube-proxy's and the kernel's. */
export const ipvsOptions = {
  scheduler: {
    kind: 'choice',
    default: 'rr',
    choices: SCHEDULER_NAMES,
    about: 'how a virtual server chooses its real server (--ipvs-scheduler)',
  },
  minSyncPeriod: {
    kind: 'duration',
    default: 0,
    about: 'shortest time from the end of one sync pass to the next (--ipvs-min-sync-period)',
  },
  syncPeriod: {
    kind: 'duration',
    default: 30_000_000_000,
    about: 'a pass runs at least this often, changes or not (--ipvs-sync-period)',
  },
  connTabBits: {
    kind: 'integer',
    default: 12,
    min: 8,
    max: 27,
    about: 'the connection table has 2^n chains (module parameter conn_tab_bits)',
  },
} as const satisfies OptionSpecs;

export const ipvs: Mode<typeof ipvsOptions> = {
  name: 'ipvs',
  title: 'IPVS',
  options: ipvsOptions,
  operations: IPVS_OPERATIONS,
  formats: ['ipvsadm-save', 'ipvsadm', 'iptables-restore'],
  create(node: NodeContext, options: OptionsOf<typeof ipvsOptions>): IpvsProxier {
    return new IpvsProxier(node, options);
  },
};
