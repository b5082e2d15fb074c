import { allocatedPerEvent } from './steady.ts';

// The whole of a child process. The line begins a line of its own among V8's.
const bytesPerEvent = allocatedPerEvent(process.argv[2]!, Number(process.argv[3]));
process.stdout.write(`\n${JSON.stringify({ bytesPerEvent })}\n`);
