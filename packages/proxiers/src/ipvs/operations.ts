import { operationIndex } from '../cost/operations.ts';
import { CONNECTION_OPERATIONS } from '../netfilter/connection-path.ts';

/** What the kernel half and kube-proxy count in IPVS mode. */
export const IPVS_OPERATIONS = [
  ...CONNECTION_OPERATIONS,
  // A packet at kube-proxy's fixed iptables rules.
  'ipvs.rule',
  'ipvs.match',
  'ipvs.addrtype',
  'ipset.lookup',
  'ipset.compare',
  // A packet at IPVS itself.
  'ipvs.lookup',
  'ipvs.probe',
  'ipvs.service.lookup',
  'ipvs.service.probe',
  'ipvs.schedule',
  'ipvs.schedule.step',
  'ipvs.create',
  'ipvs.transmit',
  // A sync pass of kube-proxy.
  'process.launch',
  'ipvs.netlink',
  'ipvs.netlink.record',
  'ipvs.list.step',
  'ipvs.sync.endpoint',
  'ipvs.set.entry',
  // What runs beside packets and passes: timers and the worker that follows a removed server.
  'ipvs.expire',
  'ipvs.flush.step',
] as const;

const INDEX = operationIndex(IPVS_OPERATIONS);

export const CONNTRACK_LOOKUP = INDEX['conntrack.lookup'];
export const CONNTRACK_STEP = INDEX['conntrack.step'];
export const CONNTRACK_CREATE = INDEX['conntrack.create'];
export const NAT_REWRITE = INDEX['nat.rewrite'];
export const RULE = INDEX['ipvs.rule'];
export const MATCH = INDEX['ipvs.match'];
export const ADDRTYPE = INDEX['ipvs.addrtype'];
export const SET_LOOKUP = INDEX['ipset.lookup'];
export const SET_COMPARE = INDEX['ipset.compare'];
export const LOOKUP = INDEX['ipvs.lookup'];
export const PROBE = INDEX['ipvs.probe'];
export const SERVICE_LOOKUP = INDEX['ipvs.service.lookup'];
export const SERVICE_PROBE = INDEX['ipvs.service.probe'];
export const SCHEDULE = INDEX['ipvs.schedule'];
export const SCHEDULE_STEP = INDEX['ipvs.schedule.step'];
export const CREATE = INDEX['ipvs.create'];
export const TRANSMIT = INDEX['ipvs.transmit'];
export const EXEC = INDEX['process.launch'];
export const NETLINK = INDEX['ipvs.netlink'];
export const NETLINK_RECORD = INDEX['ipvs.netlink.record'];
export const LIST_STEP = INDEX['ipvs.list.step'];
export const SYNC_ENDPOINT = INDEX['ipvs.sync.endpoint'];
export const SET_ENTRY = INDEX['ipvs.set.entry'];
export const EXPIRE = INDEX['ipvs.expire'];
export const FLUSH_STEP = INDEX['ipvs.flush.step'];
