// Every fill of one trader, or of everybody: MQTT.js in Node.
//
//     npm install mqtt
//     node mqttjs_fills.mjs [URL] [ADDRESS]
//
// Without arguments: mqtt://127.0.0.1:21883 and + for every address.  ws://127.0.0.1:21884 is MQTT inside
// WebSocket, which is what MQTT.js needs in a browser.

import mqtt from "mqtt";
import { parseExactly } from "./exact_json.mjs";

const [url = "mqtt://127.0.0.1:21883", address = "+"] = process.argv.slice(2);
const topic = `fill/+/${address}/+`;

const client = mqtt.connect(url);
client.on("connect", async () => {
  await client.subscribeAsync(topic, { qos: 1 });
  console.log(`subscribed to ${topic}`);
});
client.on("message", (from, payload) => {
  const fill = parseExactly(payload.toString());
  console.log(from, "price", fill.price, "size", fill.size, "maker order", String(fill.maker_order_id));
});
client.on("error", (error) => console.error(error.message));
