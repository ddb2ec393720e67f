"use strict";
// A wallet on @node-lightning/noise and @node-lightning/wire.

const { randomBytes } = require("node:crypto");
const { NoiseState } = require("@node-lightning/noise");
const { InitMessage, MessageType } = require("@node-lightning/wire");
const { run } = require("./rest.js");

function initiate(remotePublicKey) {
  const noise = new NoiseState({ ls: randomBytes(32), es: randomBytes(32) });
  const actOne = noise.initiatorAct1(remotePublicKey);
  const finish = (actTwo) => {
    noise.initiatorAct2(actTwo);
    const actThree = noise.initiatorAct3();
    return { actThree, keys: { sending: noise.sk, receiving: noise.rk, chaining: noise.ck } };
  };
  return { actOne, finish };
}

function decode(message) {
  if (message.readUInt16BE(0) !== MessageType.Init) {
    throw new Error("the peer's first message is no init");
  }
  const init = InitMessage.deserialize(message);
  return {
    features: init.features.toBuffer().toString("hex"),
    networks: init.chainHashes.map((hash) => hash.toString("hex")),
  };
}

run(initiate, decode);
