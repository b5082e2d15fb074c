// Where processes live.
export * from './environment.ts';
// What they wait for.
export { Event, type EventCallback, type EventState } from './event.ts';
export { Timeout } from './timeout.ts';
export * from './condition.ts';
export { Process, type ProcessSteps } from './process.ts';
// What goes wrong.
export { Failure } from './failure.ts';
export * from './interrupt.ts';
// What they share.
export * from './resource.ts';
export * from './request.ts';
export * from './container.ts';
export * from './store.ts';
