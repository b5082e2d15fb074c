// IPVS as a kernel has it: tables that a replay or a listing fills and asks.
export { DROPPED, Director, FOUND, OPENED, PASS, REFUSED, type Outcome } from './director.ts';
export * from './director-options.ts';
export { ASSURED, TEMPLATE } from './connections.ts';
export { CONNECTION_STATES, IN, OUT } from './connection-states.ts';
export { IPVS_OPERATIONS } from './operations.ts';
export { SCHEDULER_NAMES, type SchedulerName } from './schedulers/create.ts';
// What `ipvsadm` prints of it.
export * from './listing.ts';
export { listedConnections, listedServices } from './director-listing.ts';
export { connectionList, persistentList, savedLines, serviceList, thresholdList } from './ipvsadm.ts';
export { selectorText } from './ipvsadm.ts';
// What `ipvsadm -Sn` has saved, read back and filled with packets.
export { readIpvsadmSave } from './ipvsadm-reader.ts';
export { RestoredTable, type Scheduled } from './restored-table.ts';
