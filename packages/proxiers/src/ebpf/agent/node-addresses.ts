import { parseIpv4 } from '@vipsim/sim-core';

/** IPv4 addresses with commas between, in their order. */
export function addressesIn(text: string): readonly number[] {
  if (text === '') return [];
  return text.split(',').map((one) => parseIpv4(one.trim())!);
}

/** What was wanted of such a list, empty if it is one. */
export function wantedAddresses(text: string): string {
  const good = text === '' || text.split(',').every((one) => parseIpv4(one.trim()) !== undefined);
  return good ? '' : 'wanted IPv4 addresses with commas between, such as 192.168.1.2,192.168.2.2';
}
