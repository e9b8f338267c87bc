// usage: node with_mqttjs.js NODE_MODULES URL [5]
const [, , modules, url, version] = process.argv;
const mqtt = require(`${modules}/mqtt`);
const exercise = require("./exercise.js");

setTimeout(() => { console.error("too long"); process.exit(1); }, 30000).unref();
exercise(mqtt, url, url.split(":")[0], Number(version ?? 4)).then((seen) => {
  console.log(JSON.stringify(seen));
  process.exit(0);
}, (error) => {
  console.error(error);
  process.exit(1);
});
