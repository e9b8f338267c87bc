// A client of the `rowcast` protocol: messages in order, each once, without a hole; or a gap, and the state anew.

const NO_MORE = new Set([1003, 1008, 1009]);
const TOKEN_EXPIRED = 3001;

export class RowcastError extends Error {
  constructor(code, message) {
    super(message);
    this.name = "RowcastError";
    this.code = code;
  }
}

/** Whether a topic filter of MQTT matches a topic. */
export function matches(filter, topic) {
  const wanted = filter.split("/"), levels = topic.split("/");
  if (levels[0][0] === "$" && wanted[0][0] !== "$") return false;
  for (let i = 0; i < wanted.length; i++) {
    if (wanted[i] === "#") return true;
    if (i >= levels.length || (wanted[i] !== "+" && wanted[i] !== levels[i])) return false;
  }
  return wanted.length === levels.length;
}

// A whole number that a double can't hold becomes a BigInt, and goes out as it came.
const LONG = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
const MARK = "\u0001n:";
function exact(text) {
  if (!/\d{16}/.test(text)) return JSON.parse(text);
  const marked = text.replace(LONG, (found) => {
    if (!/^-?\d{16,}$/.test(found) || Number.isSafeInteger(Number(found))) return found;
    return JSON.stringify(MARK + found);
  });
  return JSON.parse(marked, (_, value) =>
    typeof value === "string" && value.startsWith(MARK) ? BigInt(value.slice(MARK.length)) : value);
}

// The other way round.
function text(request) {
  const marked = JSON.stringify(request, (_, value) => (typeof value === "bigint" ? MARK + value : value));
  return marked.replace(/"\\u0001n:(-?\d+)"/g, "$1");
}

function unpacked(said) {
  const { topic, at, retained, data, encoding } = said;
  const value = encoding === "base64" ? Uint8Array.from(atob(data), (c) => c.charCodeAt(0)) : data;
  return { topic, data: value, at, retained: !!retained };
}

class Subscription {
  constructor(client, topic, options) {
    this.topic = topic;
    this.at = options.since ?? null;
    this.live = false;
    this._client = client;
    this._options = options;
    this._phase = 0; // 0 offline, 1 joining, 2 catching up, 3 live
    this._state = null;
    this._asked = 0;
    this._queue = null;
    this._wake = null;
    this._over = false;
  }

  unsubscribe() {
    this._client._leave(this);
    this._end();
  }

  _request() {
    const asked = { topic: this.topic };
    if (this.at !== null) asked.since = this.at;
    if (this._options.state || this._options.onState) asked.state = true;
    if (this._options.conflate) asked.conflate = true;
    return asked;
  }

  _tell(name, value) {
    const callback = this._options[name];
    if (callback) callback(value, this);
    if (this._queue && (name === "onMessage" || name === "onState" || name === "onGap")) {
      this._queue.push(name === "onMessage" ? { type: "message", ...value }
        : name === "onState" ? { type: "state", messages: value } : { type: "gap", ...value });
      this._wake?.();
    }
  }

  _message(message) {
    if (message.at) this.at = message.at;
    this._tell("onMessage", message);
  }

  _end() {
    this._over = true;
    this._wake?.();
  }

  // `for await (const event of subscription)`: messages, states and gaps; iterate from the start, or miss what came.
  async *[Symbol.asyncIterator]() {
    this._queue ??= [];
    try {
      for (;;) {
        while (this._queue.length) yield this._queue.shift();
        if (this._over) return;
        await new Promise((resolve) => { this._wake = resolve; });
      }
    } finally {
      this._queue = null;
    }
  }
}

export class Rowcast {
  /** @param {string} url @param {object} options see index.d.ts */
  constructor(url, options = {}) {
    this.url = url;
    this.state = "connecting";
    this._options = options;
    this._parse = options.exactIntegers ? exact : JSON.parse;
    this._subscriptions = new Map();
    this._waiting = new Map();
    this._id = 0;
    this._failures = 0;
    this._retry = null;
    this._ping = 25;
    this._heard = 0;
    this._error = "";
    this._timer = null;
    this._onWake = () => this._wakeUp();
    const g = globalThis;
    g.addEventListener?.("online", this._onWake);
    g.document?.addEventListener?.("visibilitychange", this._onWake);
    this._watch = setInterval(() => this._look(), options.watchdogMs ?? 5000);
    this._watch.unref?.();
    this._connect();
  }

  subscribe(topic, options = {}) {
    if (typeof options === "function") options = { onMessage: options };
    this._subscriptions.get(topic)?._end();
    const one = new Subscription(this, topic, options);
    if (!options.onMessage) one._queue = [];
    this._subscriptions.set(topic, one);
    if (this._isOpen()) this._join([one]);
    return one;
  }

  /** Publish; rejects if the server refuses, or the connection ends before it has answered. */
  publish(topic, data, options = {}) {
    if (data instanceof Uint8Array) {
      data = btoa(Array.from(data, (byte) => String.fromCharCode(byte)).join(""));
      options = { ...options, encoding: "base64" };
    }
    return new Promise((resolve, reject) => {
      if (!this._isOpen()) return reject(new RowcastError("disconnected", "there is no connection"));
      this._waiting.set(this._send({ publish: topic, data, ...options }), [resolve, reject]);
    });
  }

  close() {
    this._stop("closed");
    this._socket?.close(1000);
  }

  _isOpen() {
    return this._socket?.readyState === 1 && this.state === "open";
  }

  _set(state, detail) {
    if (this.state === state) return;
    this.state = state;
    this._options.onStateChange?.(state, detail);
  }

  async _connect() {
    clearTimeout(this._timer);
    this._timer = null;
    this._set("connecting");
    const turn = (this._turn = {});
    let token;
    try {
      const given = this._options.token;
      token = typeof given === "function" ? await given({ expired: this._expired ?? false }) : given;
    } catch (error) {
      if (turn === this._turn && this.state !== "closed") this._again(1006, String(error));
      return;
    }
    let { WebSocket: Socket = globalThis.WebSocket, shared } = this._options;
    let name, pack;
    if (shared) {
      const tabs = await import("./shared.js");
      if (tabs.canShare()) {
        Socket = tabs.TabSocket;
        name = `rowcast ${this.url} ${shared}`;
        pack = { parse: exact, text, matches };
      }
    }
    if (turn !== this._turn || this.state === "closed") return;
    if (!Socket) throw new Error("this Node has no WebSocket: give one, `{ WebSocket }` from the package ws");
    const socket = (this._socket = name ? new Socket(this.url, name, pack) : new Socket(this.url));
    this._heard = Date.now();
    socket.onopen = () => {
      if (socket !== this._socket) return;
      this._expired = false;
      this._retry = null;
      this._error = "";
      this._heard = Date.now();
      this._set("open");
      this._send({ connect: token ? { token } : {} });
      this._join([...this._subscriptions.values()]);
    };
    socket.onmessage = (event) => {
      if (socket === this._socket) this._received(event.data);
    };
    socket.onclose = (event) => this._lost(socket, event.code, event.reason);
    socket.onerror = () => {};
  }

  _lost(socket, code, reason) {
    if (socket !== this._socket) return;
    this._socket = null;
    for (const one of this._subscriptions.values()) {
      one._phase = 0;
      one.live = false;
      one._state = null;
    }
    for (const [, reject] of this._waiting.values()) reject(new RowcastError("disconnected", "the connection ended"));
    this._waiting.clear();
    if (this.state === "closed") return;
    if (NO_MORE.has(code)) {
      this._stop("closed", new RowcastError(code, reason || this._error));
      this._options.onError?.(new RowcastError(code, reason || this._error));
    } else {
      this._again(code, reason);
    }
  }

  _again(code, reason) {
    this._expired = code === TOKEN_EXPIRED;
    this._failures++;
    const most = this._failures <= 1 ? this._retry ?? 1000 : Math.min(30000, 500 * 2 ** Math.min(this._failures, 20));
    this._set("waiting", { code, reason });
    this._timer = setTimeout(() => this._connect(), Math.random() * most);
  }

  _stop(state, detail) {
    clearTimeout(this._timer);
    clearInterval(this._watch);
    globalThis.removeEventListener?.("online", this._onWake);
    globalThis.document?.removeEventListener?.("visibilitychange", this._onWake);
    this._set(state, detail);
    for (const one of this._subscriptions.values()) one._end();
  }

  // Back online, or the tab is looked at again: try at once, or find out whether the connection is still alive.
  _wakeUp() {
    if (globalThis.document?.visibilityState === "hidden") return;
    if (this.state === "waiting") {
      this._failures = 0;
      this._connect();
    } else if (this._isOpen()) {
      this._send({ ping: 1 });
      const heard = this._heard;
      setTimeout(() => {
        if (this._heard === heard && this._isOpen()) this._drop();
      }, 5000);
    }
  }

  _look() {
    if (this._socket && this.state !== "waiting" && Date.now() - this._heard > this._ping * 2000) this._drop();
  }

  _drop() {
    const socket = this._socket;
    this._lost(socket, 1006, "nothing was heard");
    socket.close();
  }

  _send(request) {
    request.id = ++this._id;
    this._socket.send(text(request));
    return request.id;
  }

  _join(wanted) {
    if (!wanted.length) return;
    for (const one of wanted) {
      one._phase = 1;
      one.live = false;
      one._state = null;
    }
    const id = this._send({ subscribe: wanted.map((one) => one._request()) });
    for (const one of wanted) one._asked = id;
  }

  _leave(one) {
    if (this._subscriptions.get(one.topic) !== one) return;
    this._subscriptions.delete(one.topic);
    if (this._isOpen()) this._send({ unsubscribe: one.topic });
  }

  _received(data) {
    this._heard = Date.now();
    const said = this._parse(data);
    if (said.skipped) this._each(said.topic, (one) => one._tell("onSkipped", said));
    else if (said.topic !== undefined) {
      const message = unpacked(said);
      this._each(said.topic, (one) => one._message(message));
    } else if (said.subscribed !== undefined) this._subscribed(said);
    else if (said.ping) this._send({ pong: 1 });
    else if (said.gap !== undefined) {
      const one = this._subscriptions.get(said.gap);
      if (!one) return;
      one._tell("onGap", { reason: said.reason });
      if (one._request().state) {
        one.at = null;
        this._join([one]);
      }
    } else if (said.closing) this._retry = said.retry_ms ?? null;
    else this._answered(said);
  }

  _each(topic, act) {
    for (const one of [...this._subscriptions.values()]) if (one._phase === 3 && matches(one.topic, topic)) act(one);
  }

  _subscribed(said) {
    const one = this._subscriptions.get(said.subscribed);
    if (!one || !one._phase || (one._phase === 1 && said.id !== one._asked)) return;
    if (said.recovered === false) {
      one.at = null;
      one._tell("onGap", { reason: said.reason });
    }
    one._phase = 2;
    one.live = false;
    if (said.state) (one._state ??= []).push(...said.state.map(unpacked));
    if (one._state && (!said.state || !said.more)) {
      const state = one._state;
      one._state = null;
      if (one._options.onState || one._queue) one._tell("onState", state);
      else for (const message of state) one._tell("onMessage", message);
    }
    for (const each of said.missed ?? []) one._message(unpacked(each));
    if (said.more) return;
    one.at = said.at;
    one._phase = 3;
    one.live = true;
    this._failures = 0;
    one._tell("onLive", { recovered: said.recovered });
  }

  _answered(said) {
    const { error } = said;
    if (said.connected) {
      this._ping = Number(said.connected.ping);
      if (!this._subscriptions.size) this._failures = 0;
      this._renewBefore(said.connected.expires);
    }
    const refused = error && new RowcastError(error.code, error.message);
    if (refused) {
      this._error = error.message;
      const one = this._subscriptions.get(said.subscribe ?? said.unsubscribed);
      if (one) {
        this._subscriptions.delete(one.topic);
        one._tell("onError", refused);
        one._end();
      }
    }
    const waiting = this._waiting.get(said.id);
    if (!waiting) return;
    this._waiting.delete(said.id);
    if (refused) waiting[1](refused);
    else waiting[0]();
  }

  // A token from a function is renewed on the open connection, before the old one expires.
  _renewBefore(expires) {
    clearTimeout(this._renewal);
    if (!expires || typeof this._options.token !== "function") return;
    const left = Number(expires) * 1000 - Date.now();
    if (left > 2 ** 31 - 1) return;
    const socket = this._socket;
    this._renewal = setTimeout(async () => {
      const token = await Promise.resolve(this._options.token({ expired: false })).catch(() => null);
      if (token && socket === this._socket && this._isOpen()) this._send({ connect: { token } });
    }, Math.max(0, left * 0.8));
    this._renewal.unref?.();
  }
}
