import { operationIndex } from '../cost/operations.ts';
import { CONNECTION_OPERATIONS } from '../netfilter/connection-path.ts';

/** What the rules, the proxy process and its iptables commands are seen to do. */
export const USERSPACE_OPERATIONS = [
  ...CONNECTION_OPERATIONS,
  // The second way through the stack: what the proxy received goes out again on its other socket.
  'stack.packet',
  // The portal rules, in x_tables.
  'iptables.hook',
  'iptables.legacy.skipped',
  'iptables.legacy.selected',
  'iptables.legacy.matched',
  'iptables.match.comment',
  'iptables.match.transport',
  'iptables.match.physdev',
  'iptables.match.addrtype',
  'iptables.match.conntrack',
  'iptables.target',
  'iptables.jump',
  // The process: sockets accepted, connected and closed, the balancer's mutex taken, goroutines started.
  'userspace.accept',
  'userspace.dial',
  'userspace.close',
  'userspace.lock',
  'userspace.goroutine',
  // A sleeping goroutine made to run; a read or write without its bytes; a byte over the kernel's border, one way.
  'userspace.wake',
  'userspace.syscall',
  'userspace.byte',
  // What changes cost: sockets opened, endpoints compared and shuffled, iptables commands.
  'userspace.listen',
  'userspace.shuffle',
  'process.launch',
  'iptables.kernel.read',
  'iptables.kernel.replaced',
] as const;

export const OPERATION = operationIndex(USERSPACE_OPERATIONS);
