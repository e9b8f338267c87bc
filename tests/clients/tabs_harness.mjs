// Drives some tabs that share a connection, each with the client's modules to itself, as harness.mjs drives one client.
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { tmpdir } from "node:os";
import { join } from "node:path";

const CLIENT = new URL("../../clients/js/", import.meta.url).pathname;
const COUNT = Number(process.argv[2]);
Math.random = () => 0;

let pending = 0; // what has yet to run
const soon = (act) => { pending++; setImmediate(() => { pending--; act(); }); };
const realTimeout = globalThis.setTimeout;
globalThis.setTimeout = (act, ms = 0) => {
  if (ms > 50) return realTimeout(act, ms);
  const timer = { over: false };
  soon(() => timer.over || act());
  return timer;
};
const realClear = globalThis.clearTimeout;
globalThis.clearTimeout = (timer) => { if (timer && "over" in timer) timer.over = true; else realClear(timer); };
async function settled() {
  for (let quiet = 0; quiet < 4; quiet++) {
    await new Promise((resolve) => setImmediate(resolve));
    if (pending) quiet = 0;
  }
}

let upstream = null, sent = [], events = [], lost = false;
const channels = new Set(), lines = new Map(), holders = new Map();

function grant(name) {
  const line = lines.get(name) ?? [];
  if (holders.has(name) || !line.length) return;
  const { world, callback, resolve, reject } = line.shift();
  const hold = { world, reject };
  holders.set(name, hold);
  Promise.resolve(callback()).then((value) => {
    if (holders.get(name) === hold) { holders.delete(name); soon(() => grant(name)); }
    resolve(value);
  });
}

class World {
  constructor() {
    this.alive = true;
    const world = this;
    this.BroadcastChannel = class {
      constructor(name) { this.name = name; this.world = world; channels.add(this); }
      postMessage(value) {
        const data = structuredClone(value);
        if (!world.alive) return;
        for (const one of channels) {
          if (one !== this && one.name === this.name) soon(() => channels.has(one) && one.world.alive && one.onmessage?.({ data }));
        }
      }
      close() { channels.delete(this); }
    };
    this.navigator = { locks: { request(name, options, callback = options) {
      return new Promise((resolve, reject) => {
        if (options.steal) {
          holders.get(name)?.reject(new Error("AbortError"));
          holders.delete(name);
          lines.set(name, [{ world, callback, resolve, reject }, ...(lines.get(name) ?? [])]);
        } else lines.set(name, [...(lines.get(name) ?? []), { world, callback, resolve, reject }]);
        soon(() => grant(name));
      });
    } } };
    this.WebSocket = class {
      constructor() { this.readyState = 0; this.world = world; upstream = this; }
      send(text) { if (world.alive && this.readyState === 1) sent.push(text); }
      close() {
        if (this.readyState === 3) return;
        this.readyState = 3;
        if (upstream === this) { upstream = null; lost = true; }
        soon(() => world.alive && this.onclose?.({ code: 1000, reason: "" }));
      }
    };
  }

  kill() {
    this.alive = false;
    for (const one of [...channels]) if (one.world === this) channels.delete(one);
    for (const [name, line] of lines) lines.set(name, line.filter(({ world }) => world !== this));
    for (const [name, { world }] of [...holders]) if (world === this) { holders.delete(name); soon(() => grant(name)); }
    if (upstream?.world === this) { upstream = null; lost = true; }
  }
}

process.worlds = [];
const tabs = [], subscriptions = new Map();
async function start(number) {
  const world = (process.worlds[process.worlds.length] = new World());
  const folder = mkdtempSync(join(tmpdir(), "tab-"));
  const head = `const globalThis = process.worlds[${process.worlds.length - 1}], { BroadcastChannel, WebSocket } = globalThis;\n`;
  for (const name of ["index.js", "shared.js"]) writeFileSync(join(folder, name), head + readFileSync(CLIENT + name));
  writeFileSync(join(folder, "package.json"), '{"type":"module"}');
  await import(join(folder, "shared.js"));
  const { Rowcast } = await import(join(folder, "index.js"));
  tabs[number] = { world, rowcast: new Rowcast("ws://x", { shared: true, exactIntegers: true }) };
}

const act = {
  async subscribe({ topic: key, since }) {
    const [number, topic] = key.split("|");
    const { rowcast, world } = tabs[number];
    const told = (kind) => (value) => world.alive && events.push([key, kind, value]);
    subscriptions.set(key, rowcast.subscribe(topic, {
      since: since ?? undefined, onMessage: told("message"), onState: told("state"), onGap: told("gap"),
    }));
  },
  async open() {
    for (let i = 0; i < 1000 && !upstream; i++) await settled();
    upstream.readyState = 1;
    upstream.onopen();
  },
  async text({ text }) { upstream?.onmessage({ data: text }); },
  async close({ code }) {
    const old = upstream;
    if (!old) return;
    upstream = null;
    old.readyState = 3;
    old.onclose({ code, reason: "" });
  },
  async kill({ tab }) {
    tabs[tab].world.kill();
    await start(tab);
  },
  async wait() {},
};
for (let number = 0; number < COUNT; number++) await start(number);
for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  await act[command.act](command);
  await settled();
  const state = [...subscriptions].map(([key, one]) => [key, one.at, one.live]);
  process.stdout.write(JSON.stringify({ sent, events, state, lost }) + "\n");
  sent = [];
  events = [];
  lost = false;
}
process.exit(0);
