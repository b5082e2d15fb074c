export * from './fixed-point.ts';
export * from './event-log.ts';
export * from './perfetto.ts';
export * from './pcapng.ts';
export * from './wire-headers.ts';
export * from './conversations.ts';
export * from './banner.ts';
