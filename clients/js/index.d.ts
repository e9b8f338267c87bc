/** Subscribe to a Rowcast over WebSocket and miss nothing over a reconnect. */

export interface Message<T = any> {
  topic: string;
  /** What JSON made of it, text, or bytes. */
  data: T;
  /** Its position; none if it was retained. */
  at?: string;
  retained: boolean;
}

export interface Gap {
  reason: string;
}

export type Event<T = any> =
  | ({ type: "message" } & Message<T>)
  | { type: "state"; messages: Message<T>[] }
  | ({ type: "gap" } & Gap);

export interface SubscribeOptions<T = any> {
  /** A position from before, `"start"` of the history, or `"now"`. Without it the retained values come first. */
  since?: string;
  /** Begin with the retained values, and again whenever something may have been missed. Implied by `onState`. */
  state?: boolean;
  /** For slow readers: the newest of each topic instead of all. */
  conflate?: boolean;
  onMessage?: (message: Message<T>, subscription: Subscription<T>) => void;
  /** All retained values: replace what you have by them. Without it each comes to `onMessage`. */
  onState?: (messages: Message<T>[], subscription: Subscription<T>) => void;
  /** Messages may have been missed. With `state`, the values follow anew. */
  onGap?: (gap: Gap, subscription: Subscription<T>) => void;
  onSkipped?: (skipped: { topic: string; skipped: number }, subscription: Subscription<T>) => void;
  /** Everything that was missed has come. */
  onLive?: (how: { recovered?: boolean }, subscription: Subscription<T>) => void;
  /** The server refuses this subscription. */
  onError?: (error: RowcastError, subscription: Subscription<T>) => void;
}

export interface Subscription<T = any> extends AsyncIterable<Event<T>> {
  readonly topic: string;
  /** Keep it, and give it as `since` to go on from here. */
  readonly at: string | null;
  readonly live: boolean;
  unsubscribe(): void;
}

export interface Options {
  /** A token, or a function that fetches one; it is asked again when the old one expires. */
  token?: string | ((why: { expired: boolean }) => string | Promise<string>);
  /** Whole numbers that a double can't hold become BigInt. */
  exactIntegers?: boolean;
  /**
   * All tabs of this origin that say so have one connection: one tab holds it, and the next when that is closed. Tabs that should not
   * share, because their tokens differ, give different texts. Where a browser can't (no Web Locks: plain http), each tab has its own.
   */
  shared?: boolean | string;
  /** For Node below 22: the class of the package `ws`. */
  WebSocket?: any;
  /** How often a dead connection is looked for; default 5000. */
  watchdogMs?: number;
  onStateChange?: (state: "connecting" | "open" | "waiting" | "closed", detail?: unknown) => void;
  /** The server refused this client for good. */
  onError?: (error: RowcastError) => void;
}

export class RowcastError extends Error {
  code: string | number;
}

export class Rowcast {
  constructor(url: string, options?: Options);
  readonly state: "connecting" | "open" | "waiting" | "closed";
  subscribe<T = any>(topic: string, options?: SubscribeOptions<T> | ((message: Message<T>) => void)): Subscription<T>;
  publish(topic: string, data: unknown, options?: { qos?: 0 | 1 | 2; retain?: boolean; encoding?: "text" }): Promise<void>;
  close(): void;
}

export function matches(filter: string, topic: string): boolean;
