import type { Labels } from './field.ts';

interface Labelled {
  readonly namespace: string;
  readonly labels: Labels;
}

/**
 * Finds objects by label selector without comparing every selector with every object: only the label pairs
 * that some selector names are indexed, and the rarest pair of a selector is searched.
 */
export class LabelIndex<Item extends Labelled> {
  readonly #namespaces = new Map<string, Map<string, Map<string, Item[]>>>();

  /** Selectors are to be announced before objects are added. */
  announce(namespace: string, selector: Labels): void {
    for (const [key, value] of selector) {
      const keys = obtain(this.#namespaces, namespace, () => new Map<string, Map<string, Item[]>>());
      const values = obtain(keys, key, () => new Map<string, Item[]>());
      obtain(values, value, () => []);
    }
  }

  add(item: Item): void {
    const keys = this.#namespaces.get(item.namespace);
    if (keys === undefined) return;
    for (const [key, value] of item.labels) keys.get(key)?.get(value)?.push(item);
  }

  /** In the order added. An empty selector matches nothing, as for a Service. */
  matching(namespace: string, selector: Labels): Item[] {
    const keys = this.#namespaces.get(namespace);
    let rarest: Item[] | undefined;
    for (const [key, value] of selector) {
      const items = keys?.get(key)?.get(value) ?? [];
      if (rarest === undefined || items.length < rarest.length) rarest = items;
    }
    return (rarest ?? []).filter((item) => {
      for (const [key, value] of selector) if (item.labels.get(key) !== value) return false;
      return true;
    });
  }
}

function obtain<Key, Value>(map: Map<Key, Value>, key: Key, make: () => Value): Value {
  let value = map.get(key);
  if (value === undefined) map.set(key, (value = make()));
  return value;
}
