// One connection for all tabs: one of them has it, and is to the others what the server would be.

// So many messages wait for a tab that joins; then the others come back, each from where it is.
const HELD_MAX = 10_000;
const later = (act) => setTimeout(act, 0);
const locks = () => globalThis.navigator?.locks;

/** Whether tabs can share here. */
export const canShare = () => !!(globalThis.BroadcastChannel && locks());

/** A tab's end: what the client takes for a WebSocket. */
export class TabSocket {
  constructor(url, name, pack) {
    this.readyState = 0;
    this._id = crypto.randomUUID();
    this._hub = null;
    const channel = (this._channel = new BroadcastChannel(name));
    channel.onmessage = ({ data }) => this._hear(data);
    // Who gets this lock later knows that the tab is gone; so it is held before anybody hears of the tab.
    locks().request(name + this._id, () => new Promise((gone) => {
      if (this.readyState === 3) return gone();
      this._gone = gone;
      this._say("hello");
    }));
    lead(url, name, pack);
    // Who leads and does not answer is asleep.
    this._timer = setTimeout(() => { if (!this._hub) lead(url, name, pack, true); }, 5000);
  }

  _say(kind, value) {
    this._channel.postMessage({ from: this._id, kind, value });
  }

  _hear({ to, hub, kind, value }) {
    if (kind === "lead") {
      if (this._hub && this._hub !== hub) this._end(1006);
      else if (!this._hub && this._gone) this._say("hello");
    } else if (to?.includes(this._id)) {
      this._hub = hub;
      if (kind === "open") {
        if (this.readyState) return;
        this.readyState = 1;
        this.onopen();
      } else if (kind === "text") this.onmessage({ data: value });
      else if (kind === "close") this._end(value.code, value.reason);
    }
  }

  send(text) {
    this._say("text", text);
  }

  close() {
    if (this.readyState < 3) this._say("bye");
    this._end(1000);
  }

  _end(code, reason = "") {
    if (this.readyState === 3) return;
    this.readyState = 3;
    clearTimeout(this._timer);
    this._channel.close();
    this._gone?.();
    later(() => this.onclose?.({ code, reason }));
  }
}

const waiting = new Set();

// Stand in line to lead; `steal` from one who is asleep.
function lead(url, name, pack, steal = false) {
  if (waiting.has(name) && !steal) return;
  waiting.add(name);
  locks().request(name, { steal }, () => new Promise((resolve) => new Hub(url, name, pack, resolve)))
    .catch(() => {}).finally(() => waiting.delete(name));
}

class Hub {
  constructor(url, name, { parse, text, matches }, end) {
    Object.assign(this, { url, name, parse, text, matches, end });
    this.id = crypto.randomUUID();
    this.tabs = new Set();
    this.filters = new Map(); // filter: { tabs, queue, join }
    this.asked = new Map(); // our id: [tab, its id]
    this.next = 0;
    this.token = undefined;
    this.channel = new BroadcastChannel(name);
    this.channel.onmessage = ({ data }) => this.hear(data);
    this.say(null, "lead");
  }

  say(to, kind, value) {
    if (!to || to.length) this.channel.postMessage({ to, hub: this.id, kind, value });
  }

  hear({ from, kind, value, hub }) {
    if (hub && kind === "lead") this.stop(); // somebody took us for asleep
    else if (kind === "hello") this.welcome(from);
    else if (kind === "bye") this.leave(from);
    else if (kind === "text" && this.tabs.has(from)) this.request(from, value);
  }

  stop() {
    this.socket?.close();
    this.channel.close();
    this.end();
  }

  welcome(tab) {
    if (!this.tabs.has(tab)) {
      this.tabs.add(tab);
      locks().request(this.name + tab, () => this.leave(tab)); // granted when it is closed, or has crashed
    }
    this.say([tab], "here");
    if (this.socket?.readyState === 1) this.say([tab], "open");
    else if (!this.socket) this.connect();
  }

  connect() {
    const socket = (this.socket = new WebSocket(this.url));
    socket.onopen = () => this.say([...this.tabs], "open");
    socket.onmessage = ({ data }) => this.received(data);
    socket.onclose = ({ code, reason }) => {
      this.socket = null;
      this.filters.clear();
      this.asked.clear();
      this.token = undefined;
      const all = [...this.tabs];
      this.tabs.clear();
      this.say(all, "close", { code, reason });
    };
  }

  send(request, tab, id) {
    request.id = ++this.next;
    if (tab) this.asked.set(request.id, [tab, id]);
    if (this.socket?.readyState === 1) this.socket.send(this.text(request));
    return request.id;
  }

  answer(tab, id, members) {
    this.say([tab], "text", this.text({ id, ...members }));
  }

  request(tab, text) {
    const said = this.parse(text), { id } = said;
    if (said.connect) {
      const { token } = said.connect;
      if (this.connected && token === this.token) this.answer(tab, id, { connected: this.connected });
      else this.send(said, tab, id);
      this.token = token;
    } else if (said.subscribe) for (const one of said.subscribe) this.subscribe(tab, id, one);
    else if (said.unsubscribe) this.unsubscribe(tab, said.unsubscribe);
    else if (said.publish) this.send(said, tab, id);
    else if (said.ping) this.answer(tab, id, { pong: 1 });
  }

  subscribe(tab, id, wanted) {
    const { topic } = wanted;
    if (!this.filters.has(topic)) this.filters.set(topic, { tabs: new Set(), queue: [], join: null });
    const filter = this.filters.get(topic);
    this.forget(filter, tab);
    filter.queue.push({ tab, id, wanted, held: null, fresh: [], begun: false, behind: false });
    this.join(filter);
  }

  // What is asked for it goes on, but for nobody.
  forget(filter, tab) {
    filter.tabs.delete(tab);
    filter.queue = filter.queue.filter((one) => one.tab !== tab);
    if (filter.join?.tab === tab) filter.join.tab = null;
  }

  // The filter is subscribed anew, from where the next tab wants it: one after the other.
  join(filter) {
    if (filter.join || !filter.queue.length) return;
    const join = (filter.join = filter.queue.shift());
    join.ours = this.send({ subscribe: [join.wanted] }, join.tab, join.id);
  }

  unsubscribe(tab, topic) {
    const filter = this.filters.get(topic);
    if (!filter) return;
    this.forget(filter, tab);
    if (filter.tabs.size || filter.queue.length || filter.join?.tab) return;
    this.filters.delete(topic);
    this.send({ unsubscribe: topic });
  }

  leave(tab) {
    this.tabs.delete(tab);
    for (const topic of [...this.filters.keys()]) this.unsubscribe(tab, topic);
    if (!this.tabs.size) this.socket?.close(1000);
  }

  received(text) {
    const said = this.parse(text);
    const all = [...this.tabs];
    if (said.subscribed !== undefined) return this.subscribed(said, text);
    if (said.topic !== undefined && said.at) {
      for (const [topic, filter] of this.filters) {
        const { join } = filter;
        if (join && !join.begun && this.matches(topic, said.topic)) this.keep(join, this.hold(topic, filter), [said]);
      }
    }
    if (said.ping) this.send({ pong: 1 });
    if (said.connected) this.connected = said.connected;
    const asked = this.asked.get(said.id);
    if (asked) {
      this.asked.delete(said.id);
      this.answer(asked[0], asked[1], { ...said, id: asked[1] });
      const filter = said.error && this.filters.get(said.subscribe);
      if (filter?.join?.ours === said.id) {
        this.release(said.subscribe, filter);
        this.joined(said.subscribe, filter);
      }
    } else if (said.id === undefined) {
      if (said.unsubscribed !== undefined) this.filters.delete(said.unsubscribed);
      this.say(all, "text", text);
    }
  }

  // While a filter is subscribed anew, another may bring a message before those that it alone brings: those who are
  // here get neither until it is known which come first.
  hold(topic, { tabs, join }) {
    if (!join.held) {
      join.held = [];
      this.say([...tabs], "text", this.text({ subscribed: topic, missed: [], more: true }));
    }
    return join.held;
  }

  keep(join, list, messages) {
    if (list.length + messages.length > HELD_MAX) join.behind = true;
    if (!join.behind) list.push(...messages);
  }

  release(topic, { tabs, join }, at) {
    const group = [...tabs];
    if (join.behind) {
      for (const tab of group) this.leave(tab);
      this.say(group, "close", { code: 1006, reason: "behind" }); // they come back, each from where it is
    } else if (join.held) {
      const fresh = new Set(join.fresh.map((one) => one.at));
      const missed = [...join.held.filter((one) => !fresh.has(one.at)), ...join.fresh];
      this.say(group, "text", this.text({ subscribed: topic, missed, at: at ?? missed.at(-1)?.at }));
    }
  }

  subscribed(said, text) {
    const topic = said.subscribed, filter = this.filters.get(topic);
    if (!filter) return;
    const { join } = filter;
    const answers = join && join.ours === said.id;
    if (!join || (!join.begun && !answers)) {
      // We were too slow for the server: so is everybody here.
      if (join) join.behind = true;
      else this.say([...filter.tabs], "text", text);
      return;
    }
    if (answers) {
      this.asked.delete(said.id);
      join.begun = true;
    }
    if (join.tab) this.say([join.tab], "text", answers ? text.replace(/^\{"id":\d+/, `{"id":${join.id}`) : text);
    // Without more to come, and nothing fresh in it, those who are here have all of it.
    if (said.more || said.fresh) this.hold(topic, filter);
    if (said.fresh) this.keep(join, join.fresh, said.missed);
    if (said.more) return;
    this.release(topic, filter, said.at);
    if (join.tab) filter.tabs.add(join.tab);
    this.joined(topic, filter);
  }

  joined(topic, filter) {
    filter.join = null;
    if (filter.tabs.size || filter.queue.length) return this.join(filter);
    this.filters.delete(topic);
    this.send({ unsubscribe: topic });
  }
}
