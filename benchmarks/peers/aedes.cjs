// aedes with its defaults on one loopback port: node aedes.cjs PORT
const { Aedes } = require("aedes");
const net = require("net");

Aedes.createBroker().then((broker) => net.createServer({ noDelay: true }, broker.handle).listen(Number(process.argv[2]), "127.0.0.1"));
