// The exercise with MQTT.js, in Node and in a browser; see test_clients.py.

function listening(mqtt, url, options) {
  const client = mqtt.connect(url, { reconnectPeriod: 0, ...options });
  const inbox = [];
  const waiting = [];
  client.on("message", (topic, payload, packet) => {
    const line = [topic, payload.toString(), packet.qos, packet.retain];
    client.properties = packet.properties;
    const next = waiting.shift();
    if (next) next(line);
    else inbox.push(line);
  });
  client.on("error", () => {});
  client.hear = async (count) => {
    const lines = [];
    while (lines.length < count) {
      lines.push(inbox.length ? inbox.shift() : await new Promise((done) => waiting.push(done)));
    }
    return lines;
  };
  return new Promise((done, fail) => {
    client.once("connect", (connack) => {
      client.sessionPresent = connack.sessionPresent;
      done(client);
    });
    client.once("error", fail);
  });
}

async function exercise(mqtt, url, name, protocolVersion = 4) {
  const seen = {};
  const listen = (options) => listening(mqtt, url, { protocolVersion, ...options });
  const watcher = await listen({ clientId: `watcher-${name}` });
  await watcher.subscribeAsync(`${name}/echo/#`, { qos: 2 });
  for (const qos of [0, 1, 2]) {
    await watcher.publishAsync(`${name}/echo/${qos}`, "hello", { qos });
  }
  seen.echo = await watcher.hear(3);

  await watcher.publishAsync(`${name}/kept`, "value", { qos: 1, retain: true });
  await watcher.subscribeAsync(`${name}/kept`, { qos: 1 });
  seen.kept = await watcher.hear(1);
  await watcher.publishAsync(`${name}/kept`, "", { qos: 1, retain: true });
  await watcher.hear(1);

  await watcher.subscribeAsync(`${name}/will`, { qos: 1 });
  const will = { topic: `${name}/will`, payload: "gone", qos: 1, retain: false };
  const mortal = await listen({ clientId: `mortal-${name}`, will });
  mortal.stream.destroy();
  seen.will = await watcher.hear(1);

  const stay = { clientId: `lasting-${name}`, clean: false };
  if (protocolVersion === 5) stay.properties = { sessionExpiryInterval: 600 };
  const first = await listen(stay);
  await first.subscribeAsync(`${name}/session`, { qos: 2 });
  await first.endAsync();
  await watcher.publishAsync(`${name}/session`, "one", { qos: 1 });
  await watcher.publishAsync(`${name}/session`, "two", { qos: 2 });
  const second = await listen(stay);
  seen.session = await second.hear(2);
  seen.present = second.sessionPresent;
  await second.endAsync();
  if (protocolVersion === 5) {
    await watcher.subscribeAsync(`${name}/properties`, { qos: 1, properties: { subscriptionIdentifier: 7 } });
    const correlationData = Buffer.from("00ff", "hex");
    const userProperties = { a: ["1", "2"] };
    const properties = { contentType: "text/plain", responseTopic: "answers", correlationData, messageExpiryInterval: 60, userProperties };
    await watcher.publishAsync(`${name}/properties`, "hello", { qos: 1, properties });
    await watcher.hear(1);
    const got = watcher.properties;
    seen.properties = [
      got.contentType, got.responseTopic, got.correlationData.toString("hex"), got.messageExpiryInterval,
      got.userProperties.a.map((value) => ["a", value]), got.subscriptionIdentifier,
    ];
  }
  await watcher.endAsync();
  for (const lines of [seen.echo, seen.kept, seen.will, seen.session]) {
    for (const line of lines) line[0] = line[0].slice(name.length + 1);
  }
  return seen;
}

if (typeof module !== "undefined") module.exports = exercise;
